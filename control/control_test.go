package control

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/pki"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

func TestAgentFollows(t *testing.T) {
	b := newBed(t)
	v := b.put(segment(1))
	b.compiled(v)
	if why := b.await(v, Pending); why != "no agent is connected" {
		t.Errorf("without an agent: %s", why)
	}
	a := b.agent(state{})
	b.reaches(a, v)
	b.await(v, Realized)
	for i := range 5 {
		v = b.put(segment(2+i), intent.Put("/infra/tier-1s/t", &intent.Tier1{}))
		b.reaches(a, v)
	}
	v = b.put(intent.Delete("/infra/segments/s3"))
	b.reaches(a, v)
	b.await(v, Realized)
	if a.wholes != 1 || a.patches == 0 {
		t.Errorf("%d whole Sets and %d patches", a.wholes, a.patches)
	}
	if set, at := b.Set("host1"); at != v || set == nil {
		t.Errorf("Set: version %d, want %d", at, v)
	}
	if set, _ := b.Set("host9"); set != nil {
		t.Error("a node that nobody knows has a Set")
	}
	if state, why := b.State(v + 1); state != Pending || why != "it is not compiled yet" {
		t.Errorf("a version to come: %v: %s", state, why)
	}
}

func TestAgentResumes(t *testing.T) {
	b := newBed(t)
	v := b.put(segment(1))
	a := b.agent(state{})
	b.reaches(a, v)
	b.await(v, Realized)
	had := a.kill()
	v = b.put(segment(2))
	b.compiled(v)
	if why := b.await(v, Pending); !strings.Contains(why, "node host1: ") {
		t.Errorf("while it is away: %s", why)
	}
	v = b.put(segment(3))
	a = b.agent(had)
	b.reaches(a, v)
	if a.wholes != 1 {
		t.Errorf("%d whole Sets and %d patches, want 1 and some", a.wholes, a.patches)
	}
	had = a.kill()

	b.restart(nil)
	a = b.agent(had)
	b.await(v, Realized)
	v = b.put(segment(4))
	b.reaches(a, v)
	if a.wholes != 1 {
		t.Errorf("after a restart of the server: %d whole Sets and %d patches, want 1 and some", a.wholes, a.patches)
	}
	had = a.kill()

	b.stop()
	v = b.put(segment(5))
	b.start(nil)
	a = b.agent(had)
	b.reaches(a, v)
	if a.wholes != 2 {
		t.Error("the server does not know what the agent has, but sent no whole Set")
	}
}

// A version says nothing about another store's: the tables are compared.
func TestAnotherStore(t *testing.T) {
	b := newBed(t)
	b.put(segment(1))
	b.put(segment(2))
	v := b.put(segment(3))
	a := b.agent(state{})
	b.reaches(a, v)
	had := a.kill()
	b.stop()

	b.kv = store.NewMemory()
	b.open()
	v = b.put(segment(7))
	if int64(v) >= had.version {
		t.Fatalf("the new store is at version %d, the agent at %d", v, had.version)
	}
	b.start(nil)
	a = b.agent(had)
	version, set, err := a.update()
	if err != nil || version != int64(v) || a.wholes != 2 {
		t.Fatalf("version %d, error %v, %d whole Sets", version, err, a.wholes)
	}
	b.same(set)
	a.ack(version, set)
	b.await(v, Realized)

	// The same tables under another number: only that is told.
	had = a.kill()
	had.version += 100
	a = b.agent(had)
	if version, set, err = a.update(); err != nil || version != int64(v) || a.wholes != 2 {
		t.Fatalf("version %d, error %v, %d whole Sets", version, err, a.wholes)
	}
	b.same(set)
	a.ack(version, set)
}

func TestRefusal(t *testing.T) {
	b := newBed(t)
	v1 := b.put(segment(1))
	a := b.agent(state{})
	b.reaches(a, v1)
	v2 := b.put(segment(2))
	version, _, err := a.update()
	if err != nil {
		t.Fatal(err)
	}
	a.nack(version, "map segments: is full")
	if why := b.await(v2, Refused); why != "node host1: map segments: is full" {
		t.Errorf("why: %s", why)
	}
	if state, why := b.State(v1); state != Realized {
		t.Errorf("the version before: %v: %s", state, why)
	}
	nodes := b.Nodes()
	if len(nodes) != 1 || nodes[0].Version != v1 || nodes[0].Refused != v2 || nodes[0].Error != "map segments: is full" || !nodes[0].Connected {
		t.Errorf("nodes: %+v", nodes)
	}
	v3 := b.put(segment(3))
	b.reaches(a, v3) // a patch to what it has
	b.await(v2, Realized)
	if nodes = b.Nodes(); nodes[0].Error != "" || nodes[0].Refused != 0 {
		t.Errorf("nodes: %+v", nodes)
	}
	if a.wholes != 1 {
		t.Errorf("%d whole Sets", a.wholes)
	}
}

func TestRefusedIsOfferedAgain(t *testing.T) {
	b := newBed(t)
	b.restart(func(s *Server) { s.retry = time.Millisecond })
	v := b.put(segment(1))
	b.compiled(v)
	a := b.agent(state{})
	for range 3 {
		version, _, err := a.update()
		if err != nil {
			t.Fatal(err)
		}
		a.nack(version, "not now")
		b.await(v, Refused)
	}
	b.reaches(a, v)
	b.await(v, Realized)
}

// An agent that is slow gets in one update what happened meanwhile.
func TestSlowAgent(t *testing.T) {
	b := newBed(t)
	v := b.put(segment(1))
	b.compiled(v)
	a := b.agent(state{})
	version, set, err := a.update()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		v = b.put(segment(2 + i))
	}
	b.compiled(v)
	a.ack(version, set)
	b.reaches(a, v)
	if a.patches != 1 {
		t.Errorf("%d patches for what came meanwhile", a.patches)
	}
}

func TestStalledAgentIsDropped(t *testing.T) {
	b := newBed(t)
	b.restart(func(s *Server) { s.stalled = 50 * time.Millisecond })
	v := b.put(segment(1))
	a := b.agent(state{})
	if _, _, err := a.update(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.update(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("an agent that does not answer: %v", err)
	}
	b.compiled(v)
	if why := b.await(v, Pending); !strings.Contains(why, "its agent is not connected since") {
		t.Errorf("why: %s", why)
	}
	b.reaches(b.agent(state{}), v)
	b.await(v, Realized)
}

func TestAnotherAgentTakesThePlace(t *testing.T) {
	b := newBed(t)
	v := b.put(segment(1))
	first := b.agent(state{})
	b.reaches(first, v)
	second := b.agent(first.state)
	if _, _, err := first.update(); status.Code(err) != codes.Aborted {
		t.Errorf("the first: %v", err)
	}
	v = b.put(segment(2))
	b.reaches(second, v)
	b.await(v, Realized)
}

func TestGoneNodeIsForgotten(t *testing.T) {
	b := newBed(t)
	b.restart(func(s *Server) { s.forget = 100 * time.Millisecond })
	a := b.agent(state{})
	v := b.put(segment(1))
	b.reaches(a, v)
	b.await(v, Realized)
	a.kill()
	v = b.put(segment(2))
	late := time.After(patience)
	for {
		changed := b.Changed()
		if _, why := b.State(v); why == "no agent is connected" {
			break
		}
		select {
		case <-changed:
		case <-late:
			t.Fatal("still waits for a node that is gone")
		}
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	b := newBed(t)
	other, err := pki.Ensure(t.TempDir(), "weft")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, cert string
		issuer     *pki.CA
		say        func(*fakeAgent)
		want       codes.Code
		text       string
	}{
		{"another node", "agent:host2", b.ca, func(a *fakeAgent) { a.hello("host1") }, codes.PermissionDenied, `node host1: the certificate is for "agent:host2" (want "agent:host1")`},
		{"no agent", "client:somebody", b.ca, func(a *fakeAgent) { a.hello("host1") }, codes.PermissionDenied, `node host1: the certificate is for "client:somebody"`},
		{"another CA", "agent:host1", other, func(a *fakeAgent) { a.hello("host1") }, codes.Unavailable, ""},
		{"no node", "agent:", b.ca, func(a *fakeAgent) { a.hello("") }, codes.InvalidArgument, "want a Hello with a node first"},
		{"no hello", "agent:host1", b.ca, func(a *fakeAgent) { a.ack(1, nil) }, codes.InvalidArgument, "want a Hello"},
		{"what nobody asked", "agent:host1", b.ca, func(a *fakeAgent) { a.hello("host1"); a.ack(7, nil) }, codes.InvalidArgument, "agent: said "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := b.dial(tt.cert, tt.issuer)
			if a == nil {
				return // not even a connection
			}
			tt.say(a)
			var err error
			for err == nil {
				_, _, err = a.update()
			}
			if status.Code(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want %v: %s", err, tt.want, tt.text)
			}
		})
	}
}

// A node that there are no tables for is told of, and nothing waits for it.
func TestUnknownNode(t *testing.T) {
	b := newBed(t)
	v := b.put(segment(1))
	b.reaches(b.agent(state{}), v)
	a := b.dial("agent:host2", b.ca)
	a.hello("host2")
	if md, err := a.stream.Header(); err != nil || md == nil {
		t.Fatal("no welcome:", err)
	}
	nodes := b.Nodes()
	if len(nodes) != 2 || nodes[1].Name != "host2" || nodes[1].Error != "there are no tables for this node (host1)" {
		t.Errorf("nodes: %+v", nodes)
	}
	b.await(v, Realized)
}

// All nodes count, and a Set that stays is not sent again.
func TestManyNodes(t *testing.T) {
	b := newBed(t)
	b.stop()
	s := New(nil, b.store)
	one, two := table.NewSet("a"), table.NewSet("b")
	s.publish(5, map[string]*table.Set{"a": one, "b": two}, nil)
	s.nodes["a"], s.nodes["b"] = &node{name: "a", session: &session{}}, &node{name: "b", session: &session{}}
	check := func(v store.Version, want State, text string) {
		t.Helper()
		if got, why := s.State(v); got != want || why != text {
			t.Errorf("version %d: %v: %s (want %v: %s)", v, got, why, want, text)
		}
	}
	check(5, Pending, "node a: has not answered yet")
	s.nodes["a"].ack(version{5, one})
	check(5, Pending, "node b: has not answered yet")
	s.nodes["b"].ack(version{5, two})
	check(5, Realized, "")
	other := table.NewSet("b")
	s.publish(6, map[string]*table.Set{"a": one, "b": other}, nil)
	check(5, Realized, "")
	check(6, Pending, "node b: has not answered yet")
	s.nodes["b"].refused, s.nodes["b"].reason = version{6, other}, "no room"
	check(6, Refused, "node b: no room")
	s.publish(7, map[string]*table.Set{"a": table.NewSet("a"), "b": other}, nil)
	check(7, Refused, "node b: no room")
	s.nodes["b"].ack(version{7, other})
	check(7, Pending, "node a: has not answered yet")
	check(6, Realized, "")
}
