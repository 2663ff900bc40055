package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/pki"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// patience bounds the wait for anything.
const patience = 20 * time.Second

// bed is a store, a Server of it that agents can reach, and certificates.
type bed struct {
	t     *testing.T
	ca    *pki.CA
	kv    store.KV
	store *store.Store
	*Server
	socket string
	stop   func() // ends the Server
}

func newBed(t *testing.T) *bed {
	t.Helper()
	ca, err := pki.Ensure(t.TempDir(), "weft")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, ca: ca, kv: store.NewMemory()}
	b.open()
	b.start(nil)
	return b
}

// open opens the store.
func (b *bed) open() {
	b.t.Helper()
	s, err := store.New(b.t.Context(), b.kv, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.store = s
	b.t.Cleanup(func() { s.Close() })
}

// start begins a Server, after adjust changed it.
func (b *bed) start(adjust func(*Server)) {
	b.t.Helper()
	b.socket = filepath.Join(b.t.TempDir(), "s")
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	config, err := b.ca.Server(filepath.Join(filepath.Dir(b.ca.Cert()), "server"), pki.Request{Name: "weftd", Hosts: []string{wire.ServerName}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Server = New(nil, b.store)
	if adjust != nil {
		adjust(b.Server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func() error{
		func() error { return b.Run(ctx) },
		func() error { return b.Serve(ctx, l, config) },
	} {
		running.Go(func() {
			if err := run(); err != nil {
				b.t.Error(err)
			}
		})
	}
	b.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	b.t.Cleanup(b.stop)
}

// restart begins another Server of the same store.
func (b *bed) restart(adjust func(*Server)) {
	b.t.Helper()
	b.stop()
	b.start(adjust)
}

// put commits objects and returns the version.
func (b *bed) put(changes ...intent.Change) store.Version {
	b.t.Helper()
	v, problems, err := b.store.Update(b.t.Context(), func(*intent.Tree) ([]intent.Change, error) { return changes, nil })
	if err != nil || intent.HasErrors(problems) {
		b.t.Fatal(err, problems)
	}
	return v
}

// compiled waits until version v is compiled.
func (b *bed) compiled(v store.Version) {
	b.t.Helper()
	late := time.After(patience)
	for {
		changed := b.Changed()
		if b.Version() >= v {
			return
		}
		select {
		case <-changed:
		case <-late:
			b.t.Fatalf("version %d: is not compiled", v)
		}
	}
}

// await waits until version v is in a state and returns the message.
func (b *bed) await(v store.Version, want State) string {
	b.t.Helper()
	late := time.After(patience)
	for {
		changed := b.Changed()
		got, why := b.State(v)
		if got == want {
			return why
		}
		select {
		case <-changed:
		case <-late:
			b.t.Fatalf("version %d: is %v: %s (want %v)", v, got, why, want)
		}
	}
}

// want returns what a fresh compiler makes of the store.
func (b *bed) want() (want *table.Set) {
	b.store.Read(func(tree *intent.Tree, _ store.Version) {
		sets, _ := compile.New().Update(tree, nil)
		want = sets["host1"]
	})
	return want
}

// segment is a change that puts segment i.
func segment(i int) intent.Change {
	return intent.Put(fmt.Sprintf("/infra/segments/s%d", i), &intent.Segment{
		Subnets: []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.%d.%d.1/24", i/256, i%256)}},
	})
}

// fakeAgent is an agent without a node.
type fakeAgent struct {
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[wire.Said, wire.Update]
	state
}

// state is what a fakeAgent keeps when it is killed.
type state struct {
	set     *table.Set
	version int64
	wholes  int // updates
	patches int
}

// dial connects without a Hello, with a certificate for name.
func (b *bed) dial(name string, issuer *pki.CA) *fakeAgent {
	b.t.Helper()
	cert, key, err := issuer.Issue(pki.Request{Name: name, Client: true})
	if err != nil {
		b.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		b.t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+b.socket, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: b.ca.Pool(), ServerName: wire.ServerName,
	})))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	stream, err := wire.NewControlClient(conn).Follow(b.t.Context())
	if err != nil {
		conn.Close()
		return nil
	}
	return &fakeAgent{conn: conn, stream: stream}
}

// agent connects an agent of host1 that has s.
func (b *bed) agent(s state) *fakeAgent {
	b.t.Helper()
	a := b.dial("agent:host1", b.ca)
	if a == nil {
		b.t.Fatal("no connection")
	}
	a.state = s
	a.hello("host1")
	return a
}

func (a *fakeAgent) hello(node string) {
	h := &wire.Hello{Node: node, Version: a.version}
	if a.set != nil {
		d, _ := table.Digest(a.set)
		h.Digest = d[:]
	}
	a.stream.Send(&wire.Said{What: &wire.Said_Hello{Hello: h}})
}

// update returns the next update and what it makes of the agent's tables.
func (a *fakeAgent) update() (int64, *table.Set, error) {
	var data []byte
	for {
		u, err := a.stream.Recv()
		if err != nil {
			return 0, nil, err
		}
		if len(u.Data) > wire.MaxPart {
			return 0, nil, fmt.Errorf("a part has %d bytes", len(u.Data))
		}
		if data = append(data, u.Data...); u.More {
			continue
		}
		if u.Whole {
			a.wholes++
			set, err := table.Decode(data)
			return u.Version, set, err
		}
		a.patches++
		if u.Base != a.version {
			return 0, nil, fmt.Errorf("a patch to %d, but the agent has %d", u.Base, a.version)
		}
		p, err := table.DecodePatch(data)
		if err != nil {
			return 0, nil, err
		}
		set, err := p.Apply(a.set)
		return u.Version, set, err
	}
}

func (a *fakeAgent) ack(version int64, set *table.Set) {
	a.version, a.set = version, set
	a.stream.Send(&wire.Said{What: &wire.Said_Ack{Ack: &wire.Ack{Version: version}}})
}

func (a *fakeAgent) nack(version int64, reason string) {
	a.stream.Send(&wire.Said{What: &wire.Said_Nack{Nack: &wire.Nack{Version: version, Reason: reason}}})
}

// follow takes updates until version v or the end.
func (a *fakeAgent) follow(v store.Version) error {
	for a.version < int64(v) {
		version, set, err := a.update()
		if err != nil {
			return err
		}
		a.ack(version, set)
	}
	return nil
}

// kill ends the agent and returns what it leaves.
func (a *fakeAgent) kill() state {
	a.conn.Close()
	return a.state
}

// reaches has a follow up to v, which must be what a fresh compiler makes.
func (b *bed) reaches(a *fakeAgent, v store.Version) {
	b.t.Helper()
	if err := a.follow(v); err != nil {
		b.t.Fatal(err)
	}
	b.same(a.set)
}

func (b *bed) same(set *table.Set) {
	b.t.Helper()
	want := b.want()
	wanted, err := table.Digest(want)
	got, err2 := table.Digest(set)
	if err := errors.Join(err, err2); err != nil {
		b.t.Fatal(err)
	}
	if got != wanted {
		b.t.Errorf("the agent has other tables than a fresh start would give: %+v", table.Diff(want, set))
	}
}
