package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/table"
)

// Control says where an agent gets its tables from. The zero value: from
// whoever has its socket.
type Control struct {
	Address       string            // of weftd: unix:<path>, or host:port
	Node          string            // that the agent is for
	Cert, Key, CA string            // PEM files: the agent's certificate for wire.AgentName(Node), and who vouches for weftd's
	Devices       map[string]string // names of devices by the policy paths of their ports and uplinks
}

// check says what is wrong with c by itself.
func (c *Control) check() error {
	if c.Address == "" {
		switch {
		case len(c.Devices) > 0:
			return errors.New("device: needs --control (without it, tables come with their devices)")
		case c.Node != "" || c.Cert != "" || c.Key != "" || c.CA != "":
			return errors.New("node, cert, key and ca: need --control")
		}
		return nil
	}
	if path, ok := strings.CutPrefix(c.Address, unixPrefix); ok {
		if path == "" {
			return fmt.Errorf("control %q: has no path (unix:/run/weft/agents.sock)", c.Address)
		}
	} else if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
		return fmt.Errorf("control %q: is no address (unix:/run/weft/agents.sock, or host:port)", c.Address)
	}
	for _, f := range []struct{ name, value string }{{"node", c.Node}, {"cert", c.Cert}, {"key", c.Key}, {"ca", c.CA}} {
		if f.value == "" {
			return fmt.Errorf("%s: is missing (--control needs it)", f.name)
		}
	}
	return nil
}

const unixPrefix = "unix:"

// setDevice takes a value of --device.
func (c *Control) setDevice(value string) error {
	path, name, ok := strings.Cut(value, "=")
	if !ok || !strings.HasPrefix(path, "/") || name == "" {
		return fmt.Errorf("%q: is no device (<policy path>=<name>)", value)
	}
	if was := c.Devices[path]; was != "" && was != name {
		return fmt.Errorf("%s: has two devices, %s and %s", path, was, name)
	}
	if c.Devices == nil {
		c.Devices = map[string]string{}
	}
	c.Devices[path] = name
	return nil
}

// follower keeps an agent's tables as weftd says.
type follower struct {
	agent   *Agent
	c       Control
	unknown bool                  // what the agent has can not be patched
	dialed  atomic.Pointer[error] // how the last attempt to connect ended
	// What conditions tell. The agent's mu guards it.
	away    error // why weftd can not be reached; nil: it can, or it is not known yet
	refused error // why the tables that weftd wants are not in force
}

// The pauses between attempts to reach weftd.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
)

// maxReason bounds what weftd is told of a refusal, in bytes.
const maxReason = 4 << 10

// run follows weftd until ctx ends. Packets do not need it.
func (f *follower) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		f.tell(fmt.Errorf("%s: %w", f.c.Address, err))
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		t := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(2*pause, lastPause)
	}
}

// tell notes whether weftd can be reached.
func (f *follower) tell(away error) {
	a := f.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	f.away = away
	a.refresh()
}

// follow takes updates as long as there is a connection; it returns why there
// is none.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := f.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := wire.NewControlClient(conn).Follow(ctx)
	if err != nil {
		return f.plainly(err)
	}
	hello, err := f.hello()
	if err != nil {
		return err
	}
	// What goes wrong with sending, receiving tells.
	stream.Send(&wire.Said{What: &wire.Said_Hello{Hello: hello}})
	if welcome, err := stream.Header(); err == nil && welcome != nil {
		f.agent.log.Info("gets tables from weftd", "address", f.c.Address, "has", hello.Version)
		f.tell(nil)
	}
	for {
		u, data, err := f.receive(stream)
		if err != nil {
			return f.plainly(err)
		}
		answer, err := f.take(ctx, u, data)
		if err != nil {
			return err
		}
		stream.Send(answer)
	}
}

// plainly returns what a gRPC error is about: its message, or why there was no
// connection.
func (f *follower) plainly(err error) error {
	if dialed := f.dialed.Load(); dialed != nil && *dialed != nil && status.Code(err) == codes.Unavailable {
		return *dialed
	}
	return errors.New(status.Convert(err).Message())
}

// dial prepares a connection with the certificates as they are now.
func (f *follower) dial() (*grpc.ClientConn, error) {
	cert, err := tls.LoadX509KeyPair(f.c.Cert, f.c.Key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(f.c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: has no certificate", f.c.CA)
	}
	return grpc.NewClient("passthrough:///"+wire.ServerName,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: wire.ServerName, MinVersion: tls.VersionTLS13,
		})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := f.connect(ctx)
			f.dialed.Store(&err)
			return conn, err
		}),
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: wire.KeepaliveTime, Timeout: wire.KeepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxPart+64<<10)),
	)
}

func (f *follower) connect(ctx context.Context) (net.Conn, error) {
	path, local := strings.CutPrefix(f.c.Address, unixPrefix)
	if !local {
		return new(net.Dialer).DialContext(ctx, "tcp", f.c.Address)
	}
	short, done, err := shortened(path)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", short)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // it names a path that nobody knows
	}
	return conn, err
}

// hello says what the agent has.
func (f *follower) hello() (*wire.Hello, error) {
	a := f.agent
	a.mu.Lock()
	t, v, problem := a.tables, a.version, a.problem
	a.mu.Unlock()
	h := &wire.Hello{Node: f.c.Node}
	if t == nil || problem != nil || t.Set.Node != f.c.Node || f.unknown {
		return h, nil
	}
	digest, err := table.Digest(t.Set)
	if err != nil {
		return nil, err
	}
	h.Version, h.Digest = v, digest[:]
	return h, nil
}

// receive returns an update with the data of all its parts.
func (f *follower) receive(stream grpc.BidiStreamingClient[wire.Said, wire.Update]) (*wire.Update, []byte, error) {
	var data []byte
	for {
		u, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		if len(data)+len(u.Data) > maxBody {
			return nil, nil, fmt.Errorf("version %d: is too long (%d bytes)", u.Version, maxBody)
		}
		if data = append(data, u.Data...); !u.More {
			return u, data, nil
		}
	}
}

// take makes an update the node's tables and returns what to answer.
// Errors: the connection has to begin anew; ctx ended.
func (f *follower) take(ctx context.Context, u *wire.Update, data []byte) (*wire.Said, error) {
	err := f.apply(ctx, u, data)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if misfit, ok := errors.AsType[*misfit](err); ok {
		f.unknown = true
		return nil, misfit
	}
	a := f.agent
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.refused = err; err != nil {
		f.refused = fmt.Errorf("version %d: %w", u.Version, err)
		a.refresh()
		reason := err.Error()
		return &wire.Said{What: &wire.Said_Nack{Nack: &wire.Nack{Version: u.Version, Reason: strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")}}}, nil
	}
	a.refresh()
	return &wire.Said{What: &wire.Said_Ack{Ack: &wire.Ack{Version: u.Version}}}, nil
}

// misfit is the error of a patch to something else than the agent has.
type misfit struct{ err error }

func (m *misfit) Error() string { return m.err.Error() }

// apply makes an update the node's tables.
// Errors: *misfit; those of Agent.Apply.
func (f *follower) apply(ctx context.Context, u *wire.Update, data []byte) error {
	a := f.agent
	a.mu.Lock()
	before := &Tables{}
	if a.tables != nil {
		before = a.tables // nobody else replaces them
	}
	version := a.version
	a.mu.Unlock()

	set, patch, err := read(before.Set, version, u, data)
	if err != nil {
		return err
	}
	if set.Node != f.c.Node {
		return &BadTables{fmt.Errorf("tables: are for node %s (want %s)", set.Node, f.c.Node)}
	}
	if !u.Whole {
		// it is what a journal wants
	} else if data, err = table.EncodePatch(patch); err != nil {
		return err
	}
	t := &Tables{Set: set}
	keep := func() error { return a.store.record(t, u.Version, data) }
	a.mu.Lock()
	defer a.mu.Unlock()
	f.unknown = false
	if before.Set == nil || patch.Len() > 0 || before.Set.Node != set.Node || a.problem != nil {
		return a.accept(ctx, t, u.Version, keep)
	}
	a.version = u.Version // only the number is new
	t.Set, t.Devices = before.Set, before.Devices
	if err := keep(); err != nil {
		a.log.Error("new tables are not kept for a restart", "error", err)
	}
	return nil
}

// read returns the tables of an update, and the patch that makes them of
// before, which is version has.
func read(before *table.Set, has int64, u *wire.Update, data []byte) (set *table.Set, p *table.Patch, err error) {
	if u.Whole {
		if set, err = table.Decode(data); err != nil {
			return nil, nil, &BadTables{err}
		}
		if before != nil {
			share(before, set)
		}
		return set, table.MakePatch(before, set), nil
	}
	if u.Base != has {
		return nil, nil, &misfit{fmt.Errorf("version %d: is a patch to %d (want %d)", u.Version, u.Base, has)}
	}
	if p, err = table.DecodePatch(data); err == nil {
		set, err = p.Apply(before)
	}
	if err != nil {
		return nil, nil, &misfit{fmt.Errorf("version %d: %w", u.Version, err)}
	}
	return set, p, nil
}

// conditions returns what weftd and the agent have trouble with. The caller has
// the agent's mu.
func (f *follower) conditions() (out []Condition) {
	if f == nil {
		return nil
	}
	if f.away != nil {
		out = append(out, Condition{Type: NotConnected, Reason: "NoConnection", Message: "weftd can not be reached: " + f.away.Error()})
	}
	if f.refused != nil {
		out = append(out, Condition{Type: NotRealized, Object: "weftd", Reason: "Refused", Message: f.refused.Error()})
	}
	if t := f.agent.tables; t != nil {
		there := f.agent.index(t.Set).present(f.c.Devices)
		for path, name := range f.c.Devices {
			if there[path] == "" {
				out = append(out, Condition{Type: NoPort, Object: path, Reason: "NoSuchPort", Message: "device " + name + ": the tables have no such port"})
			}
		}
	}
	return out
}
