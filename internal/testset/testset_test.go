package testset

import (
	"testing"

	"github.com/weft-net/weft/table"
)

// Every id that an object of the Set names is there.
func TestReferencesResolve(t *testing.T) {
	for _, s := range []*table.Set{New(), WithLB()} {
		testReferences(t, s)
	}
}

func testReferences(t *testing.T, s *table.Set) {
	for k, e := range s.Endpoints.All() {
		p := s.Ports.Get(e.Port)
		if p == nil || p.Segment != k.Segment || p.MAC != e.MAC || e.Segment != k.Segment || e.Addr != k.Addr {
			t.Errorf("endpoint %v: %+v", k, e)
		}
		for _, id := range append(append([]table.RulesetID{}, e.Out...), e.In...) {
			if s.Rulesets.Get(id) == nil {
				t.Errorf("endpoint %v: no ruleset %d", k, id)
			}
		}
	}
	for id, p := range s.Ports.All() {
		if s.Segments.Get(p.Segment) == nil || p.ID != id || p.Node != 0 && s.VRFs.Get(p.Node).NodePort != id {
			t.Errorf("port %d: %+v", id, p)
		}
	}
	for id, g := range s.Segments.All() {
		if g.ID != id || g.VRF != 0 && s.VRFs.Get(g.VRF) == nil || g.Realm != 0 && s.Realms.Get(g.Realm) == nil {
			t.Errorf("segment %d: %+v", id, g)
		}
	}
	for k, r := range s.Routes.All() {
		if r.VRF != k.VRF || r.Prefix != k.Prefix || k.Prefix != k.Prefix.Masked() || s.VRFs.Get(k.VRF) == nil {
			t.Errorf("route %v: %+v", k, r)
		}
		switch r.Kind {
		case table.RouteConnected, table.RouteVia:
			if s.Segments.Get(r.Segment) == nil {
				t.Errorf("route %v: no segment %d", k, r.Segment)
			}
		case table.RouteUp, table.RouteDown:
			if s.VRFs.Get(r.To) == nil || !r.Via.IsValid() {
				t.Errorf("route %v: to %d via %s", k, r.To, r.Via)
			}
		case table.RouteUplink:
			for _, id := range r.NextHops {
				if n := s.NextHops.Get(id); n == nil || s.Uplinks.Get(n.Uplink) == nil || s.Uplinks.Get(n.Uplink).VRF != k.VRF {
					t.Errorf("route %v: next hop %d", k, id)
				}
			}
		}
	}
	for id, rs := range s.Rulesets.All() {
		for _, r := range rs.Rules {
			for _, a := range r.Remote {
				if s.AddrSets.Get(a) == nil {
					t.Errorf("ruleset %d rule %d: no set %d", id, r.ID, a)
				}
			}
		}
	}
	for k, v := range s.VIPs.All() {
		if v.Key != k || (k.VRF == 0) == (k.DLB == 0) || k.DLB != 0 && s.Services.Get(k.DLB) == nil {
			t.Errorf("VIP %v: %+v", k, v.Key)
		}
		for _, srv := range v.Servers {
			if s.Pools.Get(srv.Pool) == nil || s.Services.Get(srv.Service) == nil || s.Services.Get(srv.Service).VRF != k.VRF {
				t.Errorf("VIP %v: virtual server %+v", k, srv)
			}
		}
	}
	for k, l := range s.NAT.All() {
		if l.Key != k || s.VRFs.Get(k.VRF) == nil {
			t.Errorf("NAT %v: %+v", k, l.Key)
		}
	}
}

func TestNewReturnsASetOfItsOwn(t *testing.T) {
	a, b := New(), New()
	a.Rulesets.Get(RulesAny).Rules[0].Action = table.Drop
	a.NAT.Get(table.NATKey{VRF: Red, Dir: table.NATOut}).Rules[0].Action = table.NATTranslate
	if b.Rulesets.Get(RulesAny).Rules[0].Action != table.Allow || b.NAT.Get(table.NATKey{VRF: Red, Dir: table.NATOut}).Rules[0].Action != table.NATExempt {
		t.Error("two sets share objects")
	}
}
