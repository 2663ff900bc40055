package compile

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Realms tell apart the addresses that several domains have. Each domain knows
// such an address as its own; all others know it as the Tier-0 does, which is
// realm 0. There it belongs to the port that the Tier-0 routes it to, if any.
// That cannot be forged: what comes up to a Tier-0 has a source that is routed
// back to the Tier-1 that it came from (docs/pipeline.md, section 7, uRPF).

// realmsOf returns the realms in which an address of a segment's port means
// that port.
func (x *run) realmsOf(s *intent.Segment, a netip.Addr) []table.RealmID {
	realm := x.realmOf(s)
	if realm == nil || !holds(realm.Prefixes, a) {
		return []table.RealmID{0}
	}
	out := []table.RealmID{realm.ID}
	router := s.RouterPath()
	if r := x.routeTo(router, a); r != nil && r.Kind == table.RouteConnected && r.Segment == x.segmentID(s.Path) && x.sentTo(router, a) {
		out = append(out, 0)
	}
	return out
}

// sentTo reports whether a Tier-0 is the router, or sends the address down to
// it.
func (x *run) sentTo(router string, a netip.Addr) bool {
	above := x.above(router)
	switch o := x.c.tree.Get(router).(type) { // above has noted it
	case *intent.Tier0:
		return true
	case *intent.Tier1:
		r := x.routeTo(above, a)
		return r != nil && r.Kind == table.RouteDown && r.To == x.vrfID(router)
	case *intent.Node:
		r, p := x.routeTo(above, a), built[*port](x, ref{factPort, o.PortPath, ""})
		return r != nil && p != nil && r.Kind == table.RouteVia && r.Segment == p.Segment &&
			slices.ContainsFunc(p.Bindings, func(b intent.Binding) bool { return b.Addr == r.Via }) && x.sentTo(above, a)
	}
	return false
}
