// Package control brings intent to the nodes: it compiles what a store has
// whenever it changes, hands every agent what that means for its node, and
// knows which version each of them has in force.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// Source is what a Server follows: a store.Store.
type Source interface {
	Read(fn func(t *intent.Tree, v store.Version))
	Watch(ctx context.Context, after store.Version) iter.Seq[store.Event]
}

// Times of a Server.
const (
	joinFor      = 3 * time.Millisecond   // commits that come within this are compiled together
	restAtMost   = 250 * time.Millisecond // between two compilations, see following.rest
	stalledAfter = time.Minute            // an agent must have taken an update, and then answered it
	retryAfter   = 30 * time.Second       // what an agent refused is offered again
	forgetAfter  = 10 * time.Minute       // a node without an agent for this long is not waited for
)

// maxWholes is how many agents get all their tables at a time.
const maxWholes = 4

// Server compiles what its Source has and serves agents. It is safe for
// concurrent use.
type Server struct {
	wire.UnimplementedControlServer

	log     *slog.Logger
	source  Source
	stalled time.Duration
	retry   time.Duration
	forget  time.Duration
	wholes  chan struct{} // holds one for each agent that gets all its tables

	mu       sync.Mutex // guards what follows
	compiled bool
	version  store.Version // that was compiled last
	sets     map[string]*table.Set
	problems []intent.Problem
	nodes    map[string]*node // whose agents were heard of
	fresh    chan struct{}    // closed and made anew when version grows
	changed  chan struct{}    // closed and made anew when State may answer otherwise
}

// New returns a Server that follows source from Run on. A nil log is silent.
func New(log *slog.Logger, source Source) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		log: log, source: source, stalled: stalledAfter, retry: retryAfter, forget: forgetAfter,
		wholes: make(chan struct{}, maxWholes), nodes: map[string]*node{}, fresh: make(chan struct{}), changed: make(chan struct{}),
	}
}

// maxSaid bounds what an agent says at once, in bytes; a reason is far shorter.
const maxSaid = 64 << 10

// Serve serves agents that connect to l until ctx ends. Every agent needs a
// certificate that c.ClientCAs vouches for, whose common name is that of
// AgentName; c must have a certificate for ServerName.
func (s *Server) Serve(ctx context.Context, l net.Listener, c *tls.Config) error {
	c = c.Clone()
	c.ClientAuth, c.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS13
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(c)),
		grpc.MaxRecvMsgSize(maxSaid),
		grpc.MaxConcurrentStreams(4),
		grpc.ConnectionTimeout(helloWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: wire.KeepaliveTime, Timeout: wire.KeepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: wire.KeepaliveTime / 2, PermitWithoutStream: true}),
	)
	wire.RegisterControlServer(g, s)
	defer context.AfterFunc(ctx, g.Stop)()
	if err := g.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) && ctx.Err() == nil {
		return err
	}
	return nil
}

// Run compiles what the Source has, again and again, until ctx ends.
// Errors: the Source ended before.
func (s *Server) Run(ctx context.Context) error {
	f := newFollowing(s.source)
	sets, problems := f.all()
	s.publish(f.version, sets, problems)
	events := make(chan store.Event)
	go func() {
		defer close(events)
		for e := range s.source.Watch(ctx, f.version) {
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	look := time.NewTicker(s.forget / 10)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-look.C:
			s.forgetGone(now)
		case e, ok := <-events:
			start := time.Now()
			var sets map[string]*table.Set
			var problems []intent.Problem
			if ok {
				sets, problems, ok = f.next(e, events)
			}
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return errors.New("control: the store ended")
			}
			s.publish(f.version, sets, problems)
			s.log.Debug("compiled", "version", f.version, "took", time.Since(start))
		}
	}
}

// publish makes sets what nodes shall do from version v on.
func (s *Server) publish(v store.Version, sets map[string]*table.Set, problems []intent.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compiled, s.version, s.sets, s.problems = true, v, sets, problems
	for name, n := range s.nodes {
		n.carry(v, sets[name])
	}
	close(s.fresh)
	s.fresh = make(chan struct{})
	s.tell()
}

// tell says that State may answer otherwise. It needs mu.
func (s *Server) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}
