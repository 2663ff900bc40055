package compile

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// buildStaticRoute offers the route by the next hops of the smallest admin
// distance, which Tree.Apply has found to be on connected subnets.
func (x *run) buildStaticRoute(path string) any {
	s, ok := object[*intent.StaticRoutes](x, path)
	if !ok {
		return nil
	}
	router := s.RouterPath()
	hops := s.Hops()
	best := slices.MinFunc(hops, func(a, b intent.NextHop) int { return int(a.Distance) - int(b.Distance) }).Distance
	c := candidate{prefix: s.Prefix(), distance: best, source: path, origin: "TIER0_STATIC"}
	usable := false
	var via []candidate
	for i, h := range hops {
		if h.Distance != best {
			continue
		}
		found := x.neighbours(router, c, h.Addr, s.NextHops[i].Scope)
		for _, f := range found {
			usable = true
			if f.kind == table.RouteVia {
				via = append(via, f)
				continue
			}
			x.want(router, f)
		}
		if len(found) == 0 {
			x.warn(path, "next_hops", intent.OutsideSubnet, h.Addr.String()+": is not a neighbour of "+router+" (want an address on a segment or uplink subnet that is on and in its scope)")
		}
	}
	x.wantVia(router, via)
	if usable {
		x.advertise(router, "TIER1_STATIC_ROUTES", "TIER1_STATIC", s.Prefix(), path)
	}
	return nil
}

// wantVia offers the next hop on a segment that is first by address: a route
// has one of them.
func (x *run) wantVia(router string, via []candidate) {
	if len(via) == 0 {
		return
	}
	slices.SortFunc(via, func(a, b candidate) int { return a.via.Compare(b.via) })
	x.want(router, via[0])
	if len(via) > 1 {
		x.warn(via[0].source, "next_hops", intent.Unsupported, via[0].prefix.String()+": has several next hops on segments ("+via[0].via.String()+" is used)")
	}
}

// neighbours returns the route c by one next hop, once per uplink that leads
// to it; an invalid hop discards.
func (x *run) neighbours(router string, c candidate, hop netip.Addr, scope []string) []candidate {
	if !hop.IsValid() {
		c.kind = table.RouteDiscard
		return []candidate{c}
	}
	in := func(path string) bool { return len(scope) == 0 || slices.Contains(scope, path) }
	var out []candidate
	for _, path := range members(x, ref{relUplink, router, ""}, strings.Compare) {
		i, ok := object[*intent.Tier0Interface](x, path)
		if ok && in(path) && holds(i.Addresses(), hop) {
			c.kind, c.uplink, c.hop = table.RouteUplink, path, hop
			out = append(out, c)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, path := range members(x, ref{relSegment, router, ""}, strings.Compare) {
		s, ok := object[*intent.Segment](x, path)
		if ok && in(path) && holds(s.Gateways(), hop) {
			c.kind, c.segment, c.via = table.RouteVia, path, hop
			return []candidate{c}
		}
	}
	return nil
}

// holds reports whether one of the subnets has the address.
func holds(subnets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
