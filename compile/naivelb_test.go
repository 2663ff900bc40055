package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// checkBalancers compares load balancers with a look at everything.
func (n naive) checkBalancers(t *testing.T, s *table.Set) {
	t.Helper()
	for _, p := range s.Pools.All() {
		o, _ := intent.Find[*intent.LBPool](n.Tree, p.Path)
		if o.MemberGroup != nil {
			n.checkMembers(t, s, p, o.MemberGroup)
		}
	}
	for _, e := range s.Endpoints.All() {
		want := ""
		for _, l := range intent.List[*intent.LBService](n.Tree, "") {
			p, ok := intent.Find[*intent.SegmentPort](n.Tree, s.Ports.Get(e.Port).Path)
			if ok && want == "" && l.IsEnabled() && l.IsDistributed() && n.holds(l.ConnectivityPath, p) {
				want = l.Path
			}
		}
		got := ""
		if l := s.Services.Get(e.DLB); l != nil {
			got = l.Path
		}
		if got != want {
			t.Fatalf("endpoint %s: distributed load balancer %q, want %q", e.Addr, got, want)
		}
	}
	for _, v := range s.VIPs.All() {
		n.checkVIP(t, s, v)
	}
}

// checkMembers compares a pool's members with the group's addresses.
func (n naive) checkMembers(t *testing.T, s *table.Set, p *table.Pool, g *intent.LBPoolMemberGroup) {
	t.Helper()
	limit := 2048
	if g.MaxIPListSize > 0 {
		limit = int(g.MaxIPListSize)
	}
	held := map[netip.Addr]bool{}
	for _, e := range s.Endpoints.All() {
		port, ok := intent.Find[*intent.SegmentPort](n.Tree, s.Ports.Get(e.Port).Path)
		if ok && n.holds(g.GroupPath, port) {
			held[e.Addr] = true
		}
	}
	for i, m := range p.Members {
		if !held[m.Addr] && !n.lists(g.GroupPath, m.Addr) {
			t.Fatalf("pool %s: member %s is not of the group", p.Path, m.Addr)
		}
		if i > 0 && !p.Members[i-1].Addr.Less(m.Addr) {
			t.Fatalf("pool %s: members are not in order", p.Path)
		}
	}
	for a := range held {
		if p.Members == nil || len(p.Members) < limit && !slices.ContainsFunc(p.Members, func(m table.Member) bool { return m.Addr == a }) {
			t.Fatalf("pool %s: %s of the group is no member", p.Path, a)
		}
	}
	if len(p.Members) > limit {
		t.Fatalf("pool %s: %d members, want at most %d", p.Path, len(p.Members), limit)
	}
}

// checkVIP asks for ports one by one: the first virtual server by path takes
// each.
func (n naive) checkVIP(t *testing.T, s *table.Set, v *table.VIP) {
	t.Helper()
	for port := uint16(78); port < 103; port++ {
		for _, proto := range []uint8{6, 17} {
			want, got := "", ""
			for _, o := range intent.List[*intent.LBVirtualServer](n.Tree, "") {
				l, _ := intent.Find[*intent.LBService](n.Tree, o.LBServicePath)
				if l == nil || !o.IsEnabled() || !l.IsEnabled() || o.Address() != v.Key.Addr || n.placeOf(s, l) != [2]uint32{uint32(v.Key.VRF), uint32(v.Key.DLB)} {
					continue
				}
				for _, m := range n.LBMatches(o) {
					if want == "" && m.Proto == proto && m.First <= port && port <= m.Last {
						want = o.Path
					}
				}
			}
			for _, server := range v.Servers {
				for _, m := range server.Services {
					if m.Proto != proto || port < m.First || m.Last < port {
						continue
					}
					if got != "" {
						t.Fatalf("VIP %v, protocol %d port %d: %s and %s take it", v.Key, proto, port, got, server.Path)
					}
					got = server.Path
				}
			}
			if got != want {
				t.Fatalf("VIP %v, protocol %d port %d: virtual server %q, want %q", v.Key, proto, port, got, want)
			}
		}
	}
}

// placeOf returns the router and the load balancer of a VIPKey.
func (n naive) placeOf(s *table.Set, l *intent.LBService) [2]uint32 {
	for _, v := range s.VRFs.All() {
		if v.Path == l.ConnectivityPath {
			return [2]uint32{uint32(v.ID), 0}
		}
	}
	for _, v := range s.Services.All() {
		if v.Path == l.Path {
			return [2]uint32{0, uint32(v.ID)}
		}
	}
	return [2]uint32{}
}

// checkGates compares the firewall of each Tier-1 and uplink with a look at all
// gateway rules.
func (n naive) checkGates(t *testing.T, s *table.Set) {
	t.Helper()
	for _, v := range s.VRFs.All() {
		if v.Kind == table.Tier1 {
			o, _ := intent.Find[*intent.Tier1](n.Tree, v.Path)
			n.checkGate(t, s, v.Path, o.DisableFirewall, v.In, v.Out)
		}
	}
	for _, u := range s.Uplinks.All() {
		o, _ := intent.Find[*intent.Tier0](n.Tree, intent.RouterOf(u.Path))
		n.checkGate(t, s, u.Path, o.DisableFirewall, u.In, u.Out)
	}
}

func (n naive) checkGate(t *testing.T, s *table.Set, place string, off bool, in, out table.RulesetID) {
	t.Helper()
	var in1, out1 []string
	gateway, any, defaultIn, defaultOut := intent.RouterOf(place), false, false, false
	for _, r := range n.gatewayRules() {
		p, _ := intent.Find[*intent.GatewayPolicy](n.Tree, r.PolicyPath())
		scope := intent.GatewayScope(p, r)
		if r.Disabled || off {
			continue
		}
		any = any || slices.ContainsFunc(scope, func(s string) bool { return intent.RouterOf(s) == gateway })
		if !slices.Contains(scope, place) && !slices.Contains(scope, gateway) {
			continue
		}
		if r.In() {
			in1, defaultIn = append(in1, r.Path), p.Category == "Default"
		}
		if r.Out() {
			out1, defaultOut = append(out1, r.Path), p.Category == "Default"
		}
	}
	const implied = "/gateway-firewall/implied-default-rule"
	if any && !defaultIn {
		in1 = append(in1, gateway+implied)
	}
	if any && !defaultOut {
		out1 = append(out1, gateway+implied)
	}
	for id, want := range map[table.RulesetID][]string{in: in1, out: out1} {
		if in == out && !slices.Equal(in1, out1) {
			t.Fatalf("%s: in and out are one ruleset, want %v and %v", place, in1, out1)
		}
		var got []string
		if id != 0 {
			for _, r := range s.Rulesets.Get(id).Rules {
				got = append(got, r.Path)
			}
		}
		if d := diff.Diff(want, got); d != "" {
			t.Fatalf("%s: gateway rules differ (-want +got):\n%s", place, d)
		}
	}
}

// gatewayRules returns all rules of the gateway firewall in order.
func (n naive) gatewayRules() []*intent.Rule {
	var out []*intent.Rule
	for _, p := range intent.List[*intent.GatewayPolicy](n.Tree, "/infra/domains/default") {
		out = append(out, intent.List[*intent.Rule](n.Tree, p.Path)...)
	}
	categories := []string{"Emergency", "SystemRules", "SharedPreRules", "", "AutoServiceRules", "Default"}
	slices.SortStableFunc(out, func(a, b *intent.Rule) int {
		p, _ := intent.Find[*intent.GatewayPolicy](n.Tree, a.PolicyPath())
		q, _ := intent.Find[*intent.GatewayPolicy](n.Tree, b.PolicyPath())
		return cmp.Or(cmp.Compare(slices.Index(categories, p.Category), slices.Index(categories, q.Category)), cmp.Compare(p.SequenceNumber, q.SequenceNumber),
			strings.Compare(p.Path, q.Path), cmp.Compare(a.SequenceNumber, b.SequenceNumber), strings.Compare(a.Path, b.Path))
	})
	return out
}
