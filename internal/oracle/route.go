package oracle

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
)

// kind is what a route does. Of routes to one prefix the smaller kind wins:
// own addresses, connected, static, NAT, then what other routers told.
type kind int

const (
	none kind = iota // no route
	vip              // of virtual servers
	local
	connected
	onLink // the subnet of an uplink, or of a Node's own port
	static
	discard
	natted
	down
	up
	uplink
	node
)

// route is one way of one router. A chosen route of kind onLink becomes
// uplink or node.
type route struct {
	prefix   netip.Prefix
	kind     kind
	segment  string // connected, static
	to       string // up, down: the other router
	hops     []hop  // static: one; uplink: at least one; node: the gateway, or none on the link
	distance uint8
	cause    string // path of the object that gives the route
}

// hop is a next hop.
type hop struct {
	addr  netip.Addr // invalid: the destination itself
	iface string     // the Tier-0 interface; empty: a segment
}

// lookup returns the route of the longest prefix, at equal lengths of the
// smallest kind, then distance, then path.
func (o *Oracle) lookup(router string, a netip.Addr) route {
	var best route
	for _, r := range o.routes(router) {
		if !r.prefix.Contains(a) {
			continue
		}
		if best.kind == none || cmp.Or(
			cmp.Compare(best.prefix.Bits(), r.prefix.Bits()),
			cmp.Compare(r.rank(), best.rank()),
			cmp.Compare(r.distance, best.distance),
			strings.Compare(r.cause, best.cause),
		) < 0 {
			best = r
		}
	}
	switch {
	case best.kind == onLink && best.hops == nil:
		best.kind = node
	case best.kind == onLink || best.kind == uplink:
		best.hops, best.kind = o.equals(router, best), uplink
	}
	return best
}

// equals returns the next hops on uplinks of all routes that are as good as
// the best one, by address and interface.
func (o *Oracle) equals(router string, best route) []hop {
	var out []hop
	for _, r := range o.routes(router) {
		if r.prefix == best.prefix && r.kind == best.kind && r.distance == best.distance {
			out = append(out, r.hops...)
		}
	}
	slices.SortFunc(out, func(a, b hop) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(a.iface, b.iface))
	})
	return slices.Compact(out)
}

// rank is the kind as lookup prefers it: all static routes are alike.
func (r route) rank() kind {
	if r.kind == discard || r.kind == uplink {
		return static
	}
	return r.kind
}

// misplaced reports whether a packet with this source cannot have come this
// way (unicast reverse path forwarding): strict for what comes up to a Tier-0,
// so that nobody has the address of another there. Source: RFC 3704 §2.2, in
// the form of docs/pipeline.md, "Walk".
func (o *Oracle) misplaced(v visit, src netip.Addr) bool {
	r := o.lookup(v.path, src)
	_, tier0 := intent.Find[*intent.Tier0](o.tree, v.path)
	switch {
	case v.above:
		inside := r.kind == connected || r.kind == vip || r.kind == local || r.kind == natted || r.kind == static
		return inside || tier0 && r.kind == down
	case tier0 && v.from != "":
		return r.kind != down || r.to != v.from
	}
	return false
}

// host returns the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// anywhere is the default route's prefix.
var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// routes returns all routes of a router.
func (o *Oracle) routes(router string) []route {
	out, known := o.ways[router]
	if known {
		return out
	}
	defer func() { o.ways[router] = out }()
	add := func(r route) { out = append(out, r) }
	for _, s := range o.segmentsOf(router) {
		for _, g := range s.Gateways() {
			add(route{prefix: g.Masked(), kind: connected, segment: s.Path, cause: s.Path})
			add(route{prefix: host(g.Addr()), kind: local, cause: s.Path})
		}
	}
	for _, i := range o.interfacesOf(router) {
		for _, a := range i.Addresses() {
			add(route{prefix: a.Masked(), kind: onLink, hops: []hop{{iface: i.Path}}, cause: i.Path})
			add(route{prefix: host(a.Addr()), kind: local, cause: i.Path})
		}
	}
	for _, p := range o.natPrefixes(router) {
		add(route{prefix: p, kind: natted})
	}
	for _, a := range o.vips(router) {
		add(route{prefix: host(a), kind: vip})
	}
	for _, a := range o.snatAddresses(router) {
		add(route{prefix: host(a), kind: natted})
	}
	for _, s := range o.staticsOf(router) {
		if r := o.staticRoute(s); r.kind != none {
			add(r)
		}
	}
	switch v := o.tree.Get(router).(type) {
	case *intent.Tier0:
		out = append(out, o.downwards(router)...)
	case *intent.Tier1:
		// NSX gives each connected Tier-1 a default route to its Tier-0.
		if v.Tier0Path != "" {
			_, end := o.facts.Transit(router)
			add(route{prefix: host(end), kind: local})
			add(route{prefix: anywhere, kind: up, to: v.Tier0Path})
		}
	case *intent.Node:
		out = append(out, o.nodeRoutes(v)...)
	}
	return out
}

// downwards returns a Tier-0's routes to its Tier-1s: the links, and what they
// advertise.
func (o *Oracle) downwards(tier0 string) []route {
	var out []route
	for _, t := range every[*intent.Tier1](o.tree, "Tier1") {
		if t.Tier0Path != tier0 {
			continue
		}
		own, end := o.facts.Transit(t.Path)
		out = append(out, route{prefix: host(own), kind: local}, route{prefix: host(end), kind: down, to: t.Path, cause: t.Path})
		for _, p := range o.advertised(t) {
			out = append(out, route{prefix: p, kind: down, to: t.Path, cause: t.Path})
		}
	}
	return out
}

// nodeRoutes returns the routes of a Node by its port: its own addresses, the
// neighbours on that segment, and the gateway there for all else.
func (o *Oracle) nodeRoutes(n *intent.Node) []route {
	var out []route
	port, ok := intent.Find[*intent.SegmentPort](o.tree, n.PortPath)
	if !ok || !o.works(port) {
		return nil
	}
	var own netip.Addr
	for _, b := range port.Bindings() {
		out = append(out, route{prefix: host(b.Addr), kind: local})
		if !own.IsValid() {
			own = b.Addr
		}
	}
	s := o.segmentOf(port)
	for _, g := range s.Gateways() {
		out = append(out, route{prefix: g.Masked(), kind: onLink, cause: s.Path})
	}
	if g := gatewayFor(s, own); g.IsValid() {
		out = append(out, route{prefix: anywhere, kind: node, hops: []hop{{addr: g}}})
	}
	return out
}

// staticRoute uses the next hops of the smallest admin_distance: the first by
// address that is on a segment, else all on uplinks.
func (o *Oracle) staticRoute(s *intent.StaticRoutes) route {
	near := slices.MinFunc(s.Hops(), func(a, b intent.NextHop) int { return cmp.Compare(a.Distance, b.Distance) }).Distance
	r := route{prefix: s.Prefix(), kind: discard, distance: near, cause: s.Path}
	for i, n := range s.Hops() {
		if n.Distance != near || !n.Addr.IsValid() {
			continue
		}
		in := func(path string) bool {
			return len(s.NextHops[i].Scope) == 0 || slices.Contains(s.NextHops[i].Scope, path)
		}
		r = o.throughSegment(r, n.Addr, in)
		r = o.throughUplinks(r, n.Addr, in)
	}
	if r.kind == discard && s.Hops()[0].Addr.IsValid() {
		r.kind = none // no next hop is in its scope
	}
	return r
}

// throughSegment adds a next hop that is on a segment.
func (o *Oracle) throughSegment(r route, a netip.Addr, in func(string) bool) route {
	for _, s := range o.segmentsOf(intent.RouterOf(r.cause)) {
		for _, g := range s.Gateways() {
			if g.Contains(a) && in(s.Path) && (r.kind != static || a.Less(r.hops[0].addr)) {
				r.kind, r.segment, r.hops = static, s.Path, []hop{{addr: a}}
			}
		}
	}
	return r
}

// throughUplinks adds a next hop that is on uplinks.
func (o *Oracle) throughUplinks(r route, a netip.Addr, in func(string) bool) route {
	for _, i := range o.interfacesOf(intent.RouterOf(r.cause)) {
		for _, own := range i.Addresses() {
			if own.Masked().Contains(a) && in(i.Path) && r.kind != static {
				r.kind, r.hops = uplink, append(r.hops, hop{a, i.Path})
			}
		}
	}
	return r
}

// advertised returns the prefixes that a Tier-1 tells its Tier-0.
func (o *Oracle) advertised(t *intent.Tier1) []netip.Prefix {
	var out []netip.Prefix
	tell := func(kind string, p netip.Prefix) {
		if advertises(t, kind, p) {
			out = append(out, p)
		}
	}
	for _, s := range o.segmentsOf(t.Path) {
		if o.isMonitors(s) {
			continue
		}
		for _, g := range s.Gateways() {
			tell("TIER1_CONNECTED", g.Masked())
		}
	}
	for _, p := range o.natPrefixes(t.Path) {
		tell("TIER1_NAT", p)
	}
	for _, a := range o.vips(t.Path) {
		tell("TIER1_LB_VIP", host(a))
	}
	for _, a := range o.snatAddresses(t.Path) {
		tell("TIER1_LB_SNAT", host(a))
	}
	for _, s := range o.staticsOf(t.Path) {
		if o.staticRoute(s).kind != none {
			tell("TIER1_STATIC_ROUTES", s.Prefix())
		}
	}
	return out
}

// advertises: the type must be on; of route_advertisement_rules the first for
// the type whose subnets hold the prefix decides, GE as a part, EQ exactly.
// Source: NSX Policy API, schemas Tier1 and RouteAdvertisementRule.
func advertises(t *intent.Tier1, kind string, p netip.Prefix) bool {
	if !slices.Contains(t.RouteAdvertisementTypes, kind) {
		return false
	}
	for _, r := range t.RouteAdvertisementRules {
		if len(r.RouteAdvertisementTypes) > 0 && !slices.Contains(r.RouteAdvertisementTypes, kind) {
			continue
		}
		for _, text := range r.Subnets {
			if !strings.Contains(text, "/") {
				text += "/32"
			}
			s := netip.MustParsePrefix(text).Masked()
			if s == p || r.PrefixOperator != "EQ" && s.Overlaps(p) && s.Bits() <= p.Bits() {
				return r.Action != "DENY"
			}
		}
	}
	return true
}

func (o *Oracle) segmentsOf(router string) []*intent.Segment {
	list := every[*intent.Segment](o.tree, "Segment")
	for _, m := range o.monitors() {
		list = append(list, m.segment)
	}
	return slices.DeleteFunc(list, func(s *intent.Segment) bool { return s.RouterPath() != router })
}

func (o *Oracle) interfacesOf(router string) []*intent.Tier0Interface {
	return slices.DeleteFunc(every[*intent.Tier0Interface](o.tree, "Tier0Interface"), func(i *intent.Tier0Interface) bool { return i.RouterPath() != router })
}

func (o *Oracle) staticsOf(router string) []*intent.StaticRoutes {
	return slices.DeleteFunc(every[*intent.StaticRoutes](o.tree, "StaticRoutes"), func(s *intent.StaticRoutes) bool { return s.RouterPath() != router })
}

// hashTuple is hash(tuple) of docs/pipeline.md, "Flow".
func hashTuple(t packet.Tuple) uint32 {
	w := append(words(t.Src), words(t.Dst)...)
	return hash(append(w, uint32(t.SrcPort)<<16|uint32(t.DstPort), uint32(t.Proto))...)
}

func hash(words ...uint32) uint32 {
	h := uint32(0x9e3779b9)
	for _, w := range words {
		h ^= w
		h *= 0x85ebca6b
		h ^= h >> 13
	}
	return h ^ h>>16
}

// words returns an address as four 32-bit numbers, IPv4 mapped.
func words(a netip.Addr) []uint32 {
	b := a.As16()
	var out []uint32
	for i := 0; i < len(b); i += 4 {
		out = append(out, binary.BigEndian.Uint32(b[i:]))
	}
	return out
}
