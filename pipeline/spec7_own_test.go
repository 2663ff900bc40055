package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// rulesNothing lets nobody through.
const rulesNothing table.RulesetID = 660

func nothing(s *table.Set) {
	s.Rulesets.Put(rulesNothing, &table.Ruleset{ID: rulesNothing, Rules: []*table.Rule{{ID: 1660, Action: table.Drop, AnyRemote: true}}})
}

// shutIn and shutOut give an endpoint that ruleset for one direction, and
// nothing else.
func shutIn(segment table.SegmentID, a string) func(*table.Set) {
	return func(s *table.Set) {
		nothing(s)
		s.Endpoints.Get(table.EndpointKey{Segment: segment, Addr: addr(a)}).In = []table.RulesetID{rulesNothing}
	}
}

func shutOut(segment table.SegmentID, a string) func(*table.Set) {
	return func(s *table.Set) {
		nothing(s)
		s.Endpoints.Get(table.EndpointKey{Segment: segment, Addr: addr(a)}).Out = []table.RulesetID{rulesNothing}
	}
}

func srv1To(dst string, flags packet.Flags) packet.Spec {
	return tcp(testset.Srv1, "10.1.3.11", 5000, dst, 80, flags)
}

// What a port sends to itself is not judged, whatever its rules are.
func TestSpec7_OwnTraffic(t *testing.T) {
	in, out := shutIn(testset.Srv, "10.1.3.11"), shutOut(testset.Srv, "10.1.3.11")
	const (
		byCluster = "spoofguard(231) dlb(231 #715 round_robin) route(2) ttl(2) endpoint(111) connect(0) deliver(231)"
		byVIP     = "spoofguard(231) dfw_out(231 #1013) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) connect(0) deliver(231)"
		outwards  = "spoofguard(231) dfw_out(231 #1660 dfw_rule)"
	)
	first, other := "10.96.0.10", "203.0.113.24"
	rows := []struct {
		name   string
		change func(*table.Set)
		from   table.PortID
		in     packet.Spec
		path   string
	}{
		{"by a cluster address", change(in, out), testset.Srv1, srv1To(first, syn), byCluster},
		{"by a router's VIP", in, testset.Srv1, srv1To(other, syn), byVIP},
		{"by a router's VIP, automap", change(in, snat(testset.PoolSrv, table.SNATAutoMap)), testset.Srv1, srv1To(other, syn), byVIP},
		{"out to a router's VIP is judged", out, testset.Srv1, srv1To(other, syn), outwards},
		{"another port by the same cluster address", in, testset.Srv2, tcp(testset.Srv2, "10.1.3.12", 5000, first, 80, syn),
			"spoofguard(232) dlb(232 #715 round_robin) dfw_out(232 #1013) route(2) ttl(2) endpoint(111) dfw_in(231 #1660 dfw_rule)"},
		{"another port by the same VIP", change(in, snat(testset.PoolSrv, table.SNATAutoMap)), testset.Srv2, tcp(testset.Srv2, "10.1.3.12", 5000, other, 80, syn),
			"spoofguard(232) dfw_out(232 #1013) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1660 dfw_rule)"},
		{"another member by the cluster address", change(out, admin0Of(testset.PoolCluster)), testset.Srv1, srv1To(first, syn),
			"spoofguard(231) dlb(231 #715 round_robin) dfw_out(231 #1660 dfw_rule)"},
		{"a Node's port is not that of its pods", change(shutIn(testset.Web, "10.1.1.20"), func(s *table.Set) {
			s.Pools.Get(testset.PoolSrv).Members[0].Addr = addr("10.1.1.20")
		}), testset.Pod1, tcp(testset.Pod1, "10.200.1.10", 40000, other, 80, syn),
			"spoofguard(210) dfw_out(210 #1013) route(4) ttl(4) snat(4 #2013) spoofguard(204) dfw_out(204 #1013) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(101) dfw_in(204 #1660 dfw_rule)"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			f.apply(r.change)
			if d := cmp.Diff(r.path, path(f.send(r.from, r.in))); d != "" {
				t.Error(d)
			}
		})
	}
}

// admin0Of takes the first member of a pool out.
func admin0Of(id table.PoolID) func(*table.Set) {
	return func(s *table.Set) { s.Pools.Get(id).Members[0].Admin = table.MemberDisabled }
}

// Isolation that comes later cuts the connections of others and not its own:
// both directions are walked again, and no rule counts them.
func TestSpec7_OwnTrafficGoesOn(t *testing.T) {
	for _, dst := range []string{"10.96.0.10", "203.0.113.24"} {
		t.Run(dst, func(t *testing.T) {
			f := newLBFabric(t)
			res := f.send(testset.Srv1, srv1To(dst, syn))
			if res.Verdict != Forward || res.Out != testset.Srv1 {
				t.Fatal(path(res))
			}
			back := answerTo(res, synAck)
			f.forward(testset.Srv1, back, testset.Srv1)
			back.Flags = ack
			for range 2 {
				f.apply(shutIn(testset.Srv, "10.1.3.11"))
				f.forward(testset.Srv1, back, testset.Srv1)
				f.apply(shutIn(testset.Srv, "10.1.3.11"))
				f.forward(testset.Srv1, srv1To(dst, ack), testset.Srv1)
			}
			want := [maxFlowRules]uint32{}
			if dst == "203.0.113.24" {
				want[0] = 1013 // out to the VIP
			}
			if fl := f.flow(res.Key); fl.Rules != want || fl.State != ConnEstablished {
				t.Errorf("state %v, rules %v, want %v", fl.State, fl.Rules, want)
			}
		})
	}
	f := newLBFabric(t)
	other := tcp(testset.Srv2, "10.1.3.12", 5000, "10.96.0.10", 80, syn)
	f.forward(testset.Srv2, other, testset.Srv1)
	f.apply(shutIn(testset.Srv, "10.1.3.11"))
	other.Flags = ack
	f.drop(testset.Srv2, other, ReasonDFWRule)
}
