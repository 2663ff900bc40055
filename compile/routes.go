package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// candidate is a route that something wants; buildRoute chooses among those
// with the same prefix.
type candidate struct {
	kind     table.RouteKind
	prefix   netip.Prefix
	distance uint8      // administrative, of static routes
	segment  string     // path; Connected, Via
	to       string     // router; Up, Down
	via      netip.Addr // Up, Down, Node, Via
	uplink   string     // path; Uplink
	hop      netip.Addr // Uplink; invalid: the destination itself
	source   string     // path of the object that caused it
	origin   string     // redistribution type; empty: never told to neighbours
}

// rank orders kinds of routes to one prefix: lower wins. A router's own
// address stands above all; what is connected above what was written, and both
// above what another router tells.
var rank = map[table.RouteKind]int{
	table.RouteLocal:     0,
	table.RouteVIP:       0,
	table.RouteConnected: 1,
	table.RouteUplink:    2,
	table.RouteVia:       2,
	table.RouteDiscard:   2,
	table.RouteNAT:       3,
	table.RouteDown:      4,
	table.RouteNode:      5,
	table.RouteUp:        5,
}

// compareCandidates orders the better first; it is a total order.
func compareCandidates(a, b candidate) int {
	return cmp.Or(
		compareWorth(a, b),
		strings.Compare(a.to, b.to), strings.Compare(a.source, b.source), a.hop.Compare(b.hop), strings.Compare(a.uplink, b.uplink),
		a.via.Compare(b.via), cmp.Compare(a.kind, b.kind), strings.Compare(a.segment, b.segment), strings.Compare(a.origin, b.origin),
	)
}

// compareWorth orders by what decides between routes, without the ties.
func compareWorth(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.distance, b.distance))
}

// rank returns the place of a route among others to its prefix. The subnet of
// a Node's own port is as near as that of an uplink.
func (c candidate) rank() int {
	if c.kind == table.RouteNode && !c.via.IsValid() {
		return rank[table.RouteUplink]
	}
	return rank[c.kind]
}

// want offers a route to a router.
func (x *run) want(router string, c candidate) {
	x.emit(ref{relRoute, router, c.prefix.String()}, c)
	x.emit(ref{relLengths, router, ""}, c.prefix.Bits())
}

// routeTo returns the route of a router to an address, nil if there is none.
func (x *run) routeTo(router string, a netip.Addr) *table.Route {
	longest := func(a, b int) int { return cmp.Compare(b, a) }
	for _, bits := range members(x, ref{relLengths, router, ""}, longest) {
		p, err := a.Prefix(bits)
		if err != nil {
			continue // of the other family
		}
		if r := built[*table.Route](x, ref{factRoute, router, p.String()}); r != nil {
			return r
		}
	}
	return nil
}

// maxHops is how many next hops a route has at most; see table.Route.
const maxHops = 8

func (x *run) buildRoute(router, prefix string) any {
	all := members(x, ref{relRoute, router, prefix}, compareCandidates)
	if len(all) == 0 {
		return nil
	}
	best := all[0]
	out := &table.Route{
		VRF:    x.vrfID(router),
		Prefix: best.prefix,
		Kind:   best.kind,
		To:     x.vrfID(best.to),
		Via:    best.via,
		Source: best.source,
	}
	if best.segment != "" {
		out.Segment = x.segmentID(best.segment)
	}
	if best.kind == table.RouteUplink {
		out.NextHops = x.hops(router, all)
	}
	for _, c := range all[1:] {
		x.rival(best, c)
	}
	if strings.HasPrefix(router, "/infra/tier-0s/") && best.origin != "" {
		x.emit(ref{relTold, router, ""}, told{best.prefix, best.origin})
	}
	return out
}

// hops returns the next hops of all candidates that are as good as the first,
// sorted by address.
func (x *run) hops(router string, all []candidate) []table.NextHopID {
	equal := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool {
		return c.kind != table.RouteUplink || compareWorth(c, all[0]) != 0 || c.hop.IsValid() != all[0].hop.IsValid()
	})
	slices.SortStableFunc(equal, func(a, b candidate) int {
		return cmp.Or(a.hop.Compare(b.hop), strings.Compare(a.uplink, b.uplink))
	})
	var out []table.NextHopID
	for _, c := range equal {
		if len(out) == maxHops {
			x.warn(c.source, "next_hops", intent.TooLong, c.prefix.String()+": has more than "+strconv.Itoa(maxHops)+" next hops on "+router+" (the first by address are used)")
			break
		}
		addr := ""
		if c.hop.IsValid() {
			addr = c.hop.String()
		}
		x.emit(ref{relHop, c.uplink, addr}, router)
		id := table.NextHopID(x.id(poolHop, c.uplink+" "+addr))
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// rival warns of a route that lost against another object's of the same kind.
func (x *run) rival(best, c candidate) {
	switch {
	case best.kind == table.RouteVIP && c.kind == table.RouteDown:
		x.warn(c.to, "route_advertisement_types", intent.Overlap,
			c.prefix.String()+": is a virtual server's address here, by "+best.source+", which is used (advertise a prefix from one router)")
	case best.kind == table.RouteDown && c.kind == table.RouteDown && best.to != c.to:
		x.warn(c.to, "route_advertisement_types", intent.Overlap,
			c.prefix.String()+": is advertised by "+best.to+" too, which is used (advertise a prefix from one Tier-1)")
	case best.rank() == rank[table.RouteUplink] && compareWorth(best, c) == 0 && best.source != c.source &&
		!(best.kind == table.RouteUplink && c.kind == table.RouteUplink):
		x.warn(c.source, "network", intent.Overlap,
			c.prefix.String()+": is routed by "+best.source+" too, which is used (give them different admin_distance)")
	}
}

func (x *run) buildHop(uplink, addr string) any {
	out := &table.NextHop{
		ID:     table.NextHopID(x.id(poolHop, uplink+" "+addr)),
		Uplink: x.portID(uplink),
	}
	if addr != "" {
		out.Addr = netip.MustParseAddr(addr)
	}
	return out
}

func (x *run) buildSegmentRoutes(path string) any {
	s, ok := object[*intent.Segment](x, path)
	router := ""
	if ok {
		router = s.RouterPath()
	}
	if router == "" {
		return nil
	}
	for _, gw := range s.Gateways() {
		x.want(router, candidate{kind: table.RouteConnected, prefix: gw.Masked(), segment: path, source: path, origin: "TIER0_SEGMENT"})
		x.want(router, candidate{kind: table.RouteLocal, prefix: host(gw.Addr()), source: path})
		x.advertise(router, "TIER1_CONNECTED", "TIER1_SEGMENT", gw.Masked(), path)
	}
	return nil
}

// advertise offers the Tier-0 above a Tier-1 a route down to it, if the Tier-1
// advertises the prefix as one of the given type. Other routers advertise
// nothing.
func (x *run) advertise(router, kind, origin string, p netip.Prefix, source string) {
	t1, ok := object[*intent.Tier1](x, router)
	if !ok || !t1.Advertises(kind, p) {
		return
	}
	if l := built[*link](x, ref{factLink, router, ""}); l != nil {
		x.want(l.tier0, candidate{kind: table.RouteDown, prefix: p, to: router, via: l.down, source: source, origin: origin})
	}
}

func (x *run) buildUplinkRoutes(path string) any {
	i, ok := object[*intent.Tier0Interface](x, path)
	if !ok || !isExternal(i) {
		return nil
	}
	for _, a := range i.Addresses() {
		x.want(i.RouterPath(), candidate{kind: table.RouteLocal, prefix: host(a.Addr()), source: path})
		x.want(i.RouterPath(), candidate{kind: table.RouteUplink, prefix: a.Masked(), uplink: path, source: path, origin: "TIER0_EXTERNAL_INTERFACE"})
	}
	return nil
}

func (x *run) buildRouterRoutes(path string) any {
	if n, ok := object[*intent.Node](x, path); ok {
		x.nodeRoutes(n)
		return nil
	}
	l := built[*link](x, ref{factLink, path, ""})
	if l == nil {
		return nil
	}
	x.want(path, candidate{kind: table.RouteLocal, prefix: host(l.down), source: path})
	x.want(path, candidate{kind: table.RouteUp, prefix: everywhere(l.up), to: l.tier0, via: l.up, source: path})
	x.want(l.tier0, candidate{kind: table.RouteLocal, prefix: host(l.up), source: path, origin: "TIER0_ROUTER_LINK"})
	x.want(l.tier0, candidate{kind: table.RouteDown, prefix: host(l.down), to: path, via: l.down, source: path, origin: "TIER0_ROUTER_LINK"})
	return nil
}

// everywhere returns the default route's prefix in the family of a.
func everywhere(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(0) // cannot fail: 0 bits fit every address
	return p
}

// nodeRoutes gives a Node its addresses, the link that its port is on and the
// default to that segment's gateway: the one in whose subnet the port's first
// address is, else the first.
func (x *run) nodeRoutes(n *intent.Node) {
	p := built[*port](x, ref{factPort, n.PortPath, ""})
	if p == nil {
		x.warn(n.Path, "port_path", intent.Conflict, n.PortPath+": is no port of the tables (want admin_state UP and address_bindings)")
		return
	}
	segment, _ := object[*intent.Segment](x, intent.ParentOf(n.PortPath))
	var gateways []netip.Prefix
	if segment.RouterPath() != "" {
		gateways = segment.Gateways()
	}
	for _, b := range p.Bindings {
		x.want(n.Path, candidate{kind: table.RouteLocal, prefix: host(b.Addr), source: n.PortPath})
	}
	for _, gw := range gateways {
		x.want(n.Path, candidate{kind: table.RouteNode, prefix: gw.Masked(), source: n.PortPath})
	}
	if len(gateways) == 0 {
		return
	}
	own, _ := object[*intent.SegmentPort](x, n.PortPath)
	at := slices.IndexFunc(gateways, func(gw netip.Prefix) bool { return gw.Contains(own.Bindings()[0].Addr) })
	via := gateways[max(at, 0)].Addr()
	x.want(n.Path, candidate{kind: table.RouteNode, prefix: everywhere(via), via: via, source: n.PortPath})
}
