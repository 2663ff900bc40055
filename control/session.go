package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/table"
)

// helloWithin is how long an agent may take to say who it is.
const helloWithin = 10 * time.Second

type stream = grpc.BidiStreamingServer[wire.Said, wire.Update]

// session is one agent that is connected.
type session struct {
	server *Server
	node   *node
	stream stream
	said   chan *wire.Said // what it says; closed: it is gone
	ended  error           // valid once said is closed
	leave  chan struct{}   // closed: another one took its place
	has    int64           // the version that it has, as it calls it
	base   *table.Set      // what it has; nil: nothing, or it is not known
	stale  bool            // it has the tables of another version and must be told the number
}

// Follow implements wire.ControlServer.
func (s *Server) Follow(st stream) error {
	c := &session{server: s, stream: st, said: make(chan *wire.Said), leave: make(chan struct{})}
	go c.listen()
	hello, err := c.greet()
	if err != nil {
		s.log.Warn("agent is turned away", "error", err)
		return err
	}
	if err := s.ready(st.Context()); err != nil {
		return err
	}
	s.join(c, hello)
	if err := st.SendHeader(metadata.MD{}); err != nil { // which welcomes it
		s.part(c, err)
		return err
	}
	s.log.Info("agent is connected", "node", hello.Node, "has", hello.Version, "known", c.base != nil)
	err = c.serve()
	s.part(c, err)
	s.log.Info("agent is gone", "node", hello.Node, "reason", err)
	return err
}

// listen hands on what the agent says. It ends with the stream.
func (c *session) listen() {
	defer close(c.said)
	for {
		said, err := c.stream.Recv()
		if err != nil {
			c.ended = err
			return
		}
		select {
		case c.said <- said:
		case <-c.stream.Context().Done():
			c.ended = c.stream.Context().Err()
			return
		}
	}
}

// greet returns the agent's Hello, which its certificate must allow.
func (c *session) greet() (*wire.Hello, error) {
	said, err := c.await(c.stream.Context(), helloWithin)
	if err != nil {
		return nil, err
	}
	hello := said.GetHello()
	if hello == nil || hello.Node == "" {
		return nil, status.Error(codes.InvalidArgument, "want a Hello with a node first")
	}
	p, _ := peer.FromContext(c.stream.Context())
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, status.Error(codes.Unauthenticated, "agent: has no certificate")
	}
	if name := info.State.PeerCertificates[0].Subject.CommonName; name != wire.AgentName(hello.Node) {
		return nil, status.Errorf(codes.PermissionDenied, "node %s: the certificate is for %q (want %q)", hello.Node, name, wire.AgentName(hello.Node))
	}
	return hello, nil
}

// await returns what the agent says next.
func (c *session) await(ctx context.Context, within time.Duration) (*wire.Said, error) {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case said, ok := <-c.said:
		if !ok {
			return nil, c.ended
		}
		return said, nil
	case <-c.leave:
		return nil, errReplaced
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "agent: said nothing for %s", within)
	}
}

var errReplaced = status.Error(codes.Aborted, "agent: another one of its node connected")

// ready waits until something is compiled: before, nobody can say what an agent
// has.
func (s *Server) ready(ctx context.Context) error {
	s.mu.Lock()
	compiled, fresh := s.compiled, s.fresh
	s.mu.Unlock()
	if compiled {
		return nil
	}
	select {
	case <-fresh:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join makes c its node's session, in place of one that there is, and finds out
// what the agent has.
func (s *Server) join(c *session, hello *wire.Hello) {
	s.mu.Lock()
	n := s.nodes[hello.Node]
	if n == nil {
		n = &node{name: hello.Node}
		s.nodes[hello.Node] = n
	}
	if n.session != nil {
		close(n.session.leave)
	}
	n.session, n.trouble = c, ""
	c.node, c.has = n, hello.Version
	acked, offered, current := n.acked, n.offered, version{s.version, s.sets[hello.Node]}
	s.mu.Unlock()

	// This may take long, and while it lasts the Sets may be replaced.
	switch {
	case digestIs(current.set, hello.Digest):
		acked = current
	case digestIs(acked.set, hello.Digest):
	case digestIs(offered.set, hello.Digest):
		acked = offered
	default:
		acked = version{}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if n.session == c {
		n.since, n.offered = time.Now(), version{}
		n.acked, c.base = acked, acked.set
		n.refused, n.reason = version{}, "" // it may take now what it refused
		n.carry(s.version, s.sets[n.name])
		c.stale = int64(n.acked.number) != c.has
	}
	s.tell()
}

// digestIs says whether set is what an agent gave the digest of.
func digestIs(set *table.Set, digest []byte) bool {
	if set == nil || len(digest) == 0 {
		return false
	}
	d, err := table.Digest(set)
	return err == nil && bytes.Equal(d[:], digest)
}

// part ends c, unless another one took its place.
func (s *Server) part(c *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := c.node; n.session == c {
		n.session, n.since, n.trouble = nil, time.Now(), status.Convert(err).Message()
		if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
			n.trouble = "the agent closed the connection, or was killed"
		}
		s.tell()
	}
}

// serve hands the agent what is new until it is gone.
func (c *session) serve() error {
	ctx := c.stream.Context()
	for {
		v, err := c.next(ctx)
		if err != nil {
			return err
		}
		if err := c.send(ctx, v); err != nil {
			return err
		}
		said, err := c.await(ctx, c.server.stalled)
		if err != nil {
			return err
		}
		if err := c.answered(v, said); err != nil {
			return err
		}
	}
}

// next waits for a version that the agent does not have. One that it refused is
// offered again after some time.
func (c *session) next(ctx context.Context) (version, error) {
	s := c.server
	var again <-chan time.Time
	for {
		s.mu.Lock()
		v := version{s.version, s.sets[c.node.name]}
		refused, fresh := c.node.reason != "" && c.node.refused.set == v.set, s.fresh
		s.mu.Unlock()
		switch {
		case v.set == nil || v.set == c.base && !c.stale:
		case !refused:
			return v, nil
		case again == nil:
			t := time.NewTimer(s.retry)
			defer t.Stop()
			again = t.C
		}
		select {
		case <-fresh:
		case <-again:
			return v, nil
		case said, ok := <-c.said:
			if !ok {
				return version{}, c.ended
			}
			return version{}, status.Errorf(codes.InvalidArgument, "agent: said %T, which nobody asked", said.What)
		case <-c.leave:
			return version{}, errReplaced
		case <-ctx.Done():
			return version{}, ctx.Err()
		}
	}
}

// send sends v, as a patch if it is known what the agent has.
func (c *session) send(ctx context.Context, v version) error {
	if c.base == nil { // many at once would take much memory
		select {
		case c.server.wholes <- struct{}{}:
			defer func() { <-c.server.wholes }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.server.mu.Lock()
	if c.node.session == c {
		c.node.offered = v
	}
	c.server.mu.Unlock()
	data, err := c.encode(v)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	sent := make(chan error, 1)
	go func() { // it ends at the latest with the stream
		for rest := data; ; {
			part := &wire.Update{Version: int64(v.number), Base: c.has, Whole: c.base == nil, Data: rest[:min(len(rest), wire.MaxPart)]}
			rest = rest[len(part.Data):]
			part.More = len(rest) > 0
			if err := c.stream.Send(part); err != nil || !part.More {
				sent <- err
				return
			}
		}
	}()
	t := time.NewTimer(c.server.stalled)
	defer t.Stop()
	select {
	case err := <-sent:
		return err
	case <-c.leave:
		return errReplaced
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return status.Errorf(codes.DeadlineExceeded, "agent: did not take version %d within %s", v.number, c.server.stalled)
	}
}

func (c *session) encode(v version) ([]byte, error) {
	if c.base == nil {
		return table.Encode(v.set)
	}
	return table.EncodePatch(table.MakePatch(c.base, v.set))
}

// answered takes the agent's answer to v.
func (c *session) answered(v version, said *wire.Said) error {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.node.session != c {
		return errReplaced
	}
	switch ack, nack := said.GetAck(), said.GetNack(); {
	case ack != nil && ack.Version == int64(v.number):
		c.base, c.has, c.stale = v.set, ack.Version, false
		c.node.ack(v)
	case nack != nil && nack.Version == int64(v.number):
		c.node.refused, c.node.reason = v, nack.Reason
		if nack.Reason == "" {
			c.node.reason = "it gave no reason"
		}
		s.log.Warn("agent refuses tables", "node", c.node.name, "version", v.number, "reason", nack.Reason)
	default:
		return status.Errorf(codes.InvalidArgument, "agent: said %v (want an Ack or a Nack of version %d)", said, v.number)
	}
	c.node.carry(s.version, s.sets[c.node.name])
	s.tell()
	return nil
}
