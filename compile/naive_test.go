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

// naive answers questions about the firewall by looking at everything, without
// indexes: what a Set says must be the same.
type naive struct{ *intent.Tree }

// holds reports whether a group holds a port.
func (n naive) holds(group string, p *intent.SegmentPort) bool {
	g, _ := intent.Find[*intent.Group](n.Tree, group)
	return g != nil && n.any(g.Terms(), p)
}

func (n naive) any(terms [][]intent.Expression, p *intent.SegmentPort) bool {
	for _, term := range terms {
		if _, ip := term[0].(*intent.IPAddressExpression); ip && len(term) == 1 {
			continue
		}
		all := true
		for _, e := range term {
			all = all && n.meets(e, p)
		}
		if all {
			return true
		}
	}
	return false
}

func (n naive) meets(e intent.Expression, p *intent.SegmentPort) bool {
	switch e := e.(type) {
	case *intent.Condition:
		o := n.Get(p.Path)
		if e.MemberType == "Segment" {
			o = n.Get(p.SegmentPath())
		}
		return e.Matches(o)
	case *intent.NestedExpression:
		return n.any(e.Terms(), p)
	case *intent.PathExpression:
		for _, path := range e.Paths {
			if path == p.Path || path == p.SegmentPath() || n.holds(path, p) {
				return true
			}
		}
	}
	for _, b := range p.Bindings() {
		switch e := e.(type) {
		case *intent.IPAddressExpression:
			for _, prefix := range e.Prefixes() {
				if prefix.Contains(b.Addr) {
					return true
				}
			}
		case *intent.MACAddressExpression:
			if slices.Contains(e.MACs(), b.MAC) {
				return true
			}
		}
	}
	return false
}

// lists reports whether a group lists an address, in itself or in a group that
// it contains.
func (n naive) lists(group string, a netip.Addr) bool {
	g, _ := intent.Find[*intent.Group](n.Tree, group)
	if g == nil {
		return false
	}
	for _, term := range g.Terms() {
		if len(term) > 1 {
			continue
		}
		switch e := term[0].(type) {
		case *intent.IPAddressExpression:
			for _, p := range e.Prefixes() {
				if p.Contains(a) {
					return true
				}
			}
		case *intent.PathExpression:
			for _, path := range e.Paths {
				if n.lists(path, a) {
					return true
				}
			}
		}
	}
	return false
}

func (n naive) member(path string, p *intent.SegmentPort) bool {
	return path == p.Path || path == p.SegmentPath() || n.holds(path, p)
}

// works reports whether a rule works on an address of a port in a direction.
func (n naive) works(r *intent.Rule, in bool, p *intent.SegmentPort, a netip.Addr) bool {
	policy, _ := intent.Find[*intent.SecurityPolicy](n.Tree, r.PolicyPath())
	if r.Disabled || in && !r.In() || !in && !r.Out() {
		return false
	}
	if scope := intent.AppliedTo(policy, r); scope != nil && !slices.ContainsFunc(scope, func(s string) bool { return n.member(s, p) }) {
		return false
	}
	own, not := r.Sources(), r.SourcesExcluded
	if in {
		own, not = r.Destinations(), r.DestinationsExcluded
	}
	hit := own.Any
	for _, g := range own.Groups {
		hit = hit || n.holds(g, p) || n.lists(g, a)
	}
	for _, prefix := range own.Prefixes {
		hit = hit || prefix.Contains(a)
	}
	return hit != not
}

// rules returns the paths of all rules in the order in which they are
// evaluated, without an order within what NSX leaves open but by path.
func (n naive) rules() []*intent.Rule {
	var out []*intent.Rule
	for _, o := range n.OfType("Rule") {
		if r := o.(*intent.Rule); !r.IsGatewayRule() {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *intent.Rule) int {
		p, _ := intent.Find[*intent.SecurityPolicy](n.Tree, a.PolicyPath())
		q, _ := intent.Find[*intent.SecurityPolicy](n.Tree, b.PolicyPath())
		last := func(p *intent.SecurityPolicy) int {
			if p.IsDefault {
				return 99
			}
			return p.CategoryRank()
		}
		return cmp.Or(cmp.Compare(last(p), last(q)), cmp.Compare(p.SequenceNumber, q.SequenceNumber), strings.Compare(p.Path, q.Path),
			cmp.Compare(a.SequenceNumber, b.SequenceNumber), strings.Compare(a.Path, b.Path))
	})
	return out
}

// check compares the rules of all endpoints and the addresses of all sets.
func (n naive) check(t *testing.T, s *table.Set) {
	t.Helper()
	excluded, _ := intent.Find[*intent.PolicyExcludeList](n.Tree, intent.ExcludeListPath)
	rules := n.rules()
	for key, e := range s.Endpoints.All() {
		if s.Segments.Get(e.Segment).Monitor != 0 {
			continue
		}
		p, _ := intent.Find[*intent.SegmentPort](n.Tree, s.Ports.Get(e.Port).Path)
		if slices.ContainsFunc(excluded.Members, func(m string) bool { return n.member(m, p) }) {
			if !e.Unfiltered || len(e.Out)+len(e.In) > 0 {
				t.Fatalf("endpoint %v of %s: is filtered though it is on the exclude list", key, p.Path)
			}
			continue
		}
		for in, chain := range map[bool][]table.RulesetID{false: e.Out, true: e.In} {
			var want, got []string
			for _, r := range rules {
				if n.works(r, in, p, e.Addr) {
					want = append(want, r.Path)
				}
			}
			for _, id := range chain {
				for _, r := range s.Rulesets.Get(id).Rules {
					got = append(got, r.Path)
				}
			}
			if d := diff.Diff(want, got); d != "" {
				t.Fatalf("endpoint %v of %s, in %v: rules differ from a look at all of them (-want +got):\n%s", key, p.Path, in, d)
			}
			if len(chain) > 3 || e.Unfiltered {
				t.Fatalf("endpoint %v of %s: chain %v, unfiltered %v", key, p.Path, chain, e.Unfiltered)
			}
		}
	}
	n.checkRealms(t, s)
	n.checkSets(t, s)
	n.checkBalancers(t, s)
	n.checkGates(t, s)
}

// domains returns what each domain has: the subnets, the ports' addresses, and
// the NAT addresses of gateways.
func (n naive) domains() map[string][]netip.Prefix {
	out := map[string][]netip.Prefix{}
	for _, o := range n.OfType("SegmentPort") {
		p := o.(*intent.SegmentPort)
		s, _ := intent.Find[*intent.Segment](n.Tree, p.SegmentPath())
		for _, b := range p.Bindings() {
			if p.IsUp() && s.IsUp() {
				out[domainOf(s)] = append(out[domainOf(s)], netip.PrefixFrom(b.Addr, 32))
			}
		}
	}
	for _, o := range n.OfType("Segment") {
		s := o.(*intent.Segment)
		for _, gw := range s.Gateways() {
			out[domainOf(s)] = append(out[domainOf(s)], gw.Masked())
		}
	}
	for _, o := range n.OfType("PolicyNatRule") {
		r := o.(*intent.PolicyNatRule)
		if !r.IsEnabled() || strings.HasPrefix(r.RouterPath(), "/infra/nodes/") || r.Service != "" && len(n.ServiceMatches(r.Service)) == 0 {
			continue
		}
		switch r.Action {
		case "SNAT", "REFLEXIVE":
			out[r.RouterPath()] = append(out[r.RouterPath()], r.Translated())
		case "DNAT":
			out[r.RouterPath()] = append(out[r.RouterPath()], r.Destinations()...)
		}
	}
	for _, v := range intent.List[*intent.LBVirtualServer](n.Tree, "") {
		s, _ := intent.Find[*intent.LBService](n.Tree, v.LBServicePath)
		if s == nil || s.IsDistributed() || !s.IsEnabled() || !v.IsEnabled() || s.ConnectivityPath == "" {
			continue
		}
		addrs := []netip.Addr{v.Address()}
		if p, _ := intent.Find[*intent.LBPool](n.Tree, v.PoolPath); p != nil {
			addrs = append(addrs, p.SNATAddresses()...)
		}
		for _, a := range addrs {
			out[s.ConnectivityPath] = append(out[s.ConnectivityPath], netip.PrefixFrom(a, 32))
		}
	}
	return out
}

// shared reports whether the domain and another one have the address.
func (n naive) shared(domain string, a netip.Addr) bool {
	has := map[string]bool{}
	for d, subnets := range n.domains() {
		has[d] = slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	own := has[domain]
	delete(has, domain)
	for _, other := range has {
		if own && other {
			return true
		}
	}
	return false
}

// foreign is shared for an address of a port.
func (n naive) foreign(p *intent.SegmentPort, a netip.Addr) bool {
	s, _ := intent.Find[*intent.Segment](n.Tree, p.SegmentPath())
	return n.shared(domainOf(s), a)
}

// checkRealms compares the realm of each segment and router with what others have of its
// domain, at the ends of all subnets.
func (n naive) checkRealms(t *testing.T, s *table.Set) {
	t.Helper()
	var edges []netip.Addr
	for _, subnets := range n.domains() {
		for _, p := range subnets {
			last := p.Addr()
			for p.Contains(last.Next()) && p.Bits() > 23 {
				last = last.Next()
			}
			edges = append(edges, p.Addr().Prev(), p.Addr(), last, last.Next())
		}
	}
	for _, segment := range s.Segments.All() {
		if segment.Monitor != 0 {
			continue
		}
		o, _ := intent.Find[*intent.Segment](n.Tree, segment.Path)
		realm := s.Realms.Get(segment.Realm)
		for _, a := range edges {
			got := realm != nil && slices.ContainsFunc(realm.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
			if want := n.shared(domainOf(o), a); got != want {
				t.Fatalf("segment %s: its realm has %s: %v, want %v", segment.Path, a, got, want)
			}
		}
	}
	for _, v := range s.VRFs.All() {
		realm := s.Realms.Get(v.Realm)
		for _, a := range edges {
			got := realm != nil && slices.ContainsFunc(realm.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
			if want := n.shared(v.Path, a); got != want {
				t.Fatalf("router %s: its realm has %s: %v, want %v", v.Path, a, got, want)
			}
		}
	}
}

// fromTier0 reports whether some Tier-0's routes lead to the endpoint.
func fromTier0(s *table.Set, e *table.Endpoint) bool {
	for id, v := range s.VRFs.All() {
		for at := id; v.Kind == table.Tier0 && at != 0; {
			var best *table.Route
			for key, r := range s.Routes.All() {
				if key.VRF == at && key.Prefix.Contains(e.Addr) && (best == nil || best.Prefix.Bits() < key.Prefix.Bits()) {
					best = r
				}
			}
			at = 0
			switch {
			case best == nil:
			case best.Kind == table.RouteDown:
				at = best.To
			case best.Kind == table.RouteConnected && best.Segment == e.Segment:
				return true
			case best.Kind == table.RouteVia:
				if via := s.Endpoints.Get(table.EndpointKey{Segment: best.Segment, Addr: best.Via}); via != nil {
					at = s.Ports.Get(via.Port).Node
				}
			}
		}
	}
	return false
}

// checkSets compares each group's rows with a look at all endpoints.
func (n naive) checkSets(t *testing.T, s *table.Set) {
	t.Helper()
	for _, set := range s.AddrSets.All() {
		if !strings.HasPrefix(set.Path, "/") {
			continue
		}
		want := map[table.RealmPrefix]bool{}
		for _, e := range s.Endpoints.All() {
			if s.Segments.Get(e.Segment).Monitor != 0 {
				continue
			}
			p, _ := intent.Find[*intent.SegmentPort](n.Tree, s.Ports.Get(e.Port).Path)
			if !n.holds(set.Path, p) {
				continue
			}
			realm, host := s.Segments.Get(e.Segment).Realm, netip.PrefixFrom(e.Addr, 32)
			if !n.foreign(p, e.Addr) {
				want[table.RealmPrefix{Prefix: host}] = true
				continue
			}
			want[table.RealmPrefix{Realm: realm, Prefix: host}] = true
			if fromTier0(s, e) {
				want[table.RealmPrefix{Prefix: host}] = true
			}
		}
		got := map[table.RealmPrefix]bool{}
		for _, row := range set.Addrs {
			if row.Realm != table.AnyRealm {
				got[row] = true
			} else if !n.lists(set.Path, row.Prefix.Addr()) {
				t.Fatalf("set %s: has %s, which the group does not list", set.Path, row.Prefix)
			}
		}
		if len(want) != len(got) {
			t.Fatalf("set %s: got %v, want %v", set.Path, got, want)
		}
		for row := range want {
			if !got[row] {
				t.Fatalf("set %s: %v is missing", set.Path, row)
			}
		}
	}
}
