package bpftest_test

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Whoever shuts a port keeps everybody out but the port itself: by a cluster
// address and by a router's VIP, for connections of before and of after.
func TestOwnTraffic(t *testing.T) {
	shut := func(s *table.Set) {
		s.Rulesets.Put(691, &table.Ruleset{ID: 691, Rules: []*table.Rule{{ID: 1691, Action: table.Drop, AnyRemote: true}}})
		s.Endpoints.Get(table.EndpointKey{Segment: testset.Srv, Addr: netip.MustParseAddr("10.1.3.11")}).In = []table.RulesetID{691}
	}
	set := func(more ...func(*table.Set)) *table.Set {
		return besieged(append(more, first(testset.PoolSrv), first(testset.PoolCluster))...)
	}
	dumb := func(s *table.Set) {
		shut(s)
		s.Endpoints.Get(table.EndpointKey{Segment: testset.Srv, Addr: netip.MustParseAddr("10.1.3.11")}).Out = []table.RulesetID{691}
	}
	for name, record := range modes {
		t.Run(name, func(t *testing.T) {
			s := siege{t, bpftest.New(t, set(), record)}
			own := func(sport uint16, vip string, flags packet.Flags) packet.Spec {
				return segment(testset.Srv1, "10.1.3.11", sport, vip, 80, flags)
			}
			other := func(sport uint16, flags packet.Flags) packet.Spec {
				return segment(testset.Srv2, "10.1.3.12", sport, "10.96.0.10", 80, flags)
			}
			var answers []packet.Spec
			open := func(sport uint16, vips ...string) {
				for _, vip := range vips {
					res := s.passes(testset.Srv1, own(sport, vip, packet.SYN), testset.Srv1)
					back := answer(res, packet.SYN|packet.ACK)
					s.passes(testset.Srv1, back, testset.Srv1)
					back.Flags = packet.ACK
					answers = append(answers, back)
				}
			}
			goOn := func(sport uint16, vips ...string) {
				for _, vip := range vips {
					s.passes(testset.Srv1, own(sport, vip, packet.ACK), testset.Srv1)
				}
				for _, back := range answers {
					s.passes(testset.Srv1, back, testset.Srv1)
				}
			}
			open(5000, "10.96.0.10", "203.0.113.24")
			s.passes(testset.Srv1, own(5000, "10.96.0.10", packet.ACK), testset.Srv1)
			s.passes(testset.Srv2, other(5001, packet.SYN), testset.Srv1)

			s.Apply(set(shut))
			goOn(5000, "10.96.0.10", "203.0.113.24")
			s.stops(testset.Srv2, other(5001, packet.ACK), pipeline.ReasonDFWRule)
			s.stops(testset.Srv2, other(5002, packet.SYN), pipeline.ReasonDFWRule)
			open(6000, "10.96.0.10", "203.0.113.24")
			s.Compare()

			s.Apply(set(dumb))
			answers = answers[:1]
			goOn(5000, "10.96.0.10")
			s.stops(testset.Srv1, own(5000, "203.0.113.24", packet.ACK), pipeline.ReasonDFWRule)
			open(7000, "10.96.0.10")
			s.Sweep()
			s.Compare()
		})
	}
}

// first leaves a pool its first member only.
func first(id table.PoolID) func(*table.Set) {
	return func(s *table.Set) { s.Pools.Get(id).Members = s.Pools.Get(id).Members[:1] }
}
