package oracle

import (
	"net/netip"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
)

// mode says what a walk is for. Source: docs/pipeline.md, "Walk".
type mode int

const (
	fresh mode = iota // the first packet of a connection
	again             // the original direction of a known one: does it still hold
	back              // its reply direction
)

// walk is one packet on its way. It changes nothing but itself.
type walk struct {
	o        *Oracle
	past     *Past
	now      Tick
	mode     mode
	conn     *conn        // whose packet it is; nil in mode fresh
	original packet.Tuple // of the connection's first packet
	sent, at Packet       // as it came, as it is by now
	entrance string       // the port or interface that it came in by
	limited  bool         // its TTL runs out
	v        Verdict

	routers int
	hops    int
	in      netip.Addr   // address of the last router on the side that it came in by
	sources []netip.Addr // the source before each translation
	dsts    int          // translations of the destination
	block   bool         // the last that translated the source has a port block
	exact   bool         // it was one-to-one
	strict  bool         // a rule that let it pass wants connections to begin with SYN

	choice  *choice // of a virtual server
	atVIP   string  // the router whose virtual server that is; empty: none, or a distributed one
	checked bool    // it came to a Tier-0, which checked the source
	vouched bool    // and then by a virtual server of a router, which left the source as it was
	viaVIP  bool    // came by a virtual server of a router, or from a monitor

	gone bool // in mode again: a virtual server has another member for the connection, or none
	way  way  // where it went; valid iff delivered
}

// drop ends the walk in silence.
func (w *walk) drop(reason string) { w.v.Disposition, w.v.Reason = Dropped, reason }

// refuse ends the walk with an answer to the sender.
func (w *walk) refuse(reason, answer string, from netip.Addr) {
	w.drop(reason)
	w.v.Answer, w.v.AnswerFrom = answer, from
}

// reject ends the walk as the action REJECT does. The answer is from the
// destination that the sender wrote.
func (w *walk) reject(reason string) {
	if w.at.Proto == protoTCP {
		w.refuse(reason, "rst", w.sent.Dst)
		return
	}
	w.refuse(reason, "icmp 3/13", w.sent.Dst)
}

// run takes the packet in by a port or an interface. mac is the destination of
// its frame; nil: of whoever owns the destination address.
func (w *walk) run(entrance string, mac *intent.MAC) {
	w.entrance = entrance
	port, isPort := w.o.portAt(entrance)
	uplink, isUplink := intent.Find[*intent.Tier0Interface](w.o.tree, entrance)
	switch {
	case !w.o.hasDevice(entrance):
		w.drop("no_port")
	case isPort:
		w.segment(port, w.sent.ToGateway, mac)
	case isUplink:
		w.router(visit{path: uplink.RouterPath(), in: uplink.Addresses()[0].Addr(), above: true, from: uplink.Path})
	}
	w.v.SrcSeen, w.v.DstSeen, w.v.DstPortSeen = w.at.Src, w.at.Dst, w.at.DstPort
}

// segment takes the packet from a port: distributed load balancers and
// firewall, then the neighbour on the segment or the segment's router.
func (w *walk) segment(port *intent.SegmentPort, routed bool, mac *intent.MAC) {
	s, source := w.o.segmentOf(port), w.at.Src
	w.viaVIP = w.viaVIP || w.o.isMonitor(port)
	if w.mode != back {
		own, ok := w.o.endpoint(s.Path, w.at.Src)
		if !ok || own.port != port {
			w.drop("spoofguard")
			return
		}
		if routed && !w.distributed(own) {
			return
		}
		// Nobody is kept from itself; deliver says so too.
		if w.at.Dst != own.addr && !w.filter(own, w.at.Dst, true) {
			return
		}
	} else if own, ok := w.o.endpoint(s.Path, w.at.Src); ok && routed && w.conn.choice != nil {
		w.restoreClient(own)
	}
	if !routed {
		d, ok := w.o.endpoint(s.Path, w.at.Dst)
		if !ok || mac != nil && d.mac() != *mac {
			w.drop("mac_unknown")
			return
		}
		w.deliver(d)
		return
	}
	if s.RouterPath() == "" || len(s.Subnets) == 0 {
		w.drop("no_gateway")
		return
	}
	w.router(visit{path: s.RouterPath(), in: gatewayFor(s, source)})
}

// gatewayFor returns the segment's gateway in the subnet of a, else its first.
func gatewayFor(s *intent.Segment, a netip.Addr) netip.Addr {
	var first netip.Addr
	for _, g := range s.Gateways() {
		if g.Contains(a) {
			return g.Addr()
		}
		if !first.IsValid() {
			first = g.Addr()
		}
	}
	return first
}

// deliver hands the packet to a port, behind which may be a Node's router. A
// monitor takes answers only, and tells nobody.
func (w *walk) deliver(d member) {
	if w.mode != back && w.o.isMonitor(d.port) {
		w.drop("no_endpoint")
		return
	}
	if w.mode != back && d.port.Path != w.entrance && !w.filter(d, w.at.Src, false) {
		return
	}
	if n := w.o.nodeAt(d.port.Path); n != nil {
		w.router(visit{path: n.Path, in: d.addr, above: true})
		return
	}
	w.out(way{to: d.port.Path, zone: d.port.Path, mac: d.mac()})
}

// out ends the walk at a port or an interface.
func (w *walk) out(way way) {
	way.hops = w.hops
	w.way, w.v.Disposition, w.v.To = way, Delivered, way.to
}

// visit is one router on the way.
type visit struct {
	path  string     // policy path of the router
	in    netip.Addr // its address on the side that the packet came in by
	above bool       // it came from the upper router, an uplink, or a Node's own port
	from  string     // path of that uplink, or of the Tier-1 below; empty: neither
}

// maxRouters bounds a packet's way. Source: docs/pipeline.md, "Bounds".
const maxRouters = 8

// router passes the packet through one router. Distributed and service part
// are one hop (NSX shows one address for both in a traceroute).
func (w *walk) router(v visit) {
	w.in = v.in
	if w.routers++; w.routers > maxRouters {
		w.drop("router_loop")
		return
	}
	if w.mode == back {
		if w.restoreDestination(v.path) && w.conn.choice != nil {
			v.above = false // a client that came from above is answered there
		}
	} else if !w.admit(v) {
		return
	}
	r := w.o.lookup(v.path, w.at.Dst)
	if r.kind == vip && w.mode != back {
		if s := w.o.serverOf(v.path, w.at); s != nil {
			source := w.at.Src
			if !w.balance(s, v.path, false) {
				return
			}
			w.atVIP, w.viaVIP, w.vouched = v.path, true, w.checked && w.at.Src == source
			v.in, v.above = w.choice.vip, false
			w.in = v.in
			if r = w.o.lookup(v.path, w.at.Dst); r.kind == local || r.kind == vip {
				w.drop("no_listener")
				return
			}
		}
	}
	switch r.kind {
	case local, vip:
		w.local()
		return
	case natted:
		w.drop("no_listener")
		return
	}
	w.v.Hops = append(w.v.Hops, v.in)
	if w.limited && w.at.TTL <= 1 {
		w.refuse("ttl_exceeded", "icmp 11/0", v.in)
		return
	}
	w.at.TTL--
	w.hops++
	w.forward(v, r)
}

// admit is what a packet meets at a router before its route; false: it was
// dropped.
func (w *walk) admit(v visit) bool {
	if !w.vouched && w.o.misplaced(v, w.at.Src) {
		w.drop("urpf")
		return false
	}
	if _, ok := intent.Find[*intent.Tier0](w.o.tree, v.path); ok {
		w.checked = true
	}
	return !v.above || w.inwards(v)
}

// restoreDestination undoes, for a reply, the translation of the original's
// source that this router knows of, and reports whether it has.
func (w *walk) restoreDestination(router string) bool {
	sources := append(append([]netip.Addr{}, w.conn.sources...), w.conn.tuples[1].Dst)
	for i := len(sources) - 1; i > 0; i-- {
		if sources[i] != w.at.Dst {
			continue
		}
		k := w.o.lookup(router, w.at.Dst).kind
		if k != natted && k != local && k != vip {
			return false
		}
		w.at.Dst = sources[i-1]
		return true
	}
	return false
}

// local is a packet to an address of a router, or of a segment, itself.
func (w *walk) local() {
	switch {
	case w.at.Proto == protoICMP && w.mode == fresh:
		w.v.Disposition, w.v.Answer, w.v.AnswerFrom = Answered, "echo", w.sent.Dst
	case w.at.Proto == protoUDP:
		w.refuse("no_listener", "icmp 3/3", w.at.Dst)
	default:
		w.drop("no_listener")
	}
}

// forward does what the route says.
func (w *walk) forward(v visit, r route) {
	upwards := r.kind == up || r.kind == uplink || r.kind == node
	switch {
	case r.kind == none, r.kind == discard, upwards && v.above:
		w.refuse("no_route", "icmp 3/0", v.in)
	case r.kind == connected:
		w.neighbour(v, r.segment, w.at.Dst)
	case r.kind == static:
		w.neighbour(v, r.segment, r.hops[0].addr)
	case r.kind == down:
		_, end := w.o.facts.Transit(r.to)
		w.router(visit{path: r.to, in: end, above: true})
	case r.kind == up:
		if w.outwards(v.path, "") {
			end, _ := w.o.facts.Transit(v.path)
			w.router(visit{path: r.to, in: end, from: v.path})
		}
	case r.kind == uplink:
		h := r.hops[int(hashTuple(w.original)%uint32(len(r.hops)))]
		if w.outwards(v.path, h.iface) {
			w.out(way{to: h.iface, zone: v.path, next: h.addr})
		}
	case r.kind == node:
		if w.outwards(v.path, "") {
			n, _ := intent.Find[*intent.Node](w.o.tree, v.path)
			port, _ := intent.Find[*intent.SegmentPort](w.o.tree, n.PortPath)
			w.segment(port, len(r.hops) > 0, nil)
		}
	}
}

// neighbour delivers to the port that owns a on a segment of the router.
func (w *walk) neighbour(v visit, segment string, a netip.Addr) {
	d, ok := w.o.endpoint(segment, a)
	if !ok {
		w.refuse("no_endpoint", "icmp 3/1", v.in)
		return
	}
	w.deliver(d)
}
