// Package oracle judges the first packet of a connection by linear scans over
// intent, as an independent opinion for tests of the forwarders.
//
// It shares no code with the compiler and none with the forwarders: it answers
// from NSX's words and docs/pipeline.md what they answer from tables. It is
// meant to be obviously right, not fast.
package oracle

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
)

// Transit returns the two addresses of the link between the Tier-1 at a policy
// path and its Tier-0. The /31 links are spread over the Tier-0's transit
// subnets by the compiler, so its caller has to tell.
type Transit func(tier1 string) (tier0End, tier1End netip.Addr)

// Oracle judges packets in one Tree, which must not change meanwhile. It
// remembers what it read of the Tree, and nothing of packets; it is not safe
// for concurrent use.
type Oracle struct {
	tree    *intent.Tree
	transit Transit
	ports   []member                           // all bindings of all ports that work
	ways    map[string][]route                 // by router
	nats    map[string][]*intent.PolicyNatRule // by router
	owned   map[string][]netip.Prefix          // by owner
}

// New returns an Oracle for a valid tree. transit is asked for every Tier-1
// that has a Tier-0.
func New(tree *intent.Tree, transit Transit) *Oracle {
	return &Oracle{tree: tree, transit: transit, ways: map[string][]route{}, nats: map[string][]*intent.PolicyNatRule{}}
}

// IP protocol numbers. Source: IANA, Assigned Internet Protocol Numbers.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// Packet is the first packet of a connection, for TCP a SYN.
type Packet struct {
	Port     string     // policy path of the segment port, or Tier-0 interface, that it comes in by
	Src, Dst netip.Addr // IPv4
	Proto    uint8
	// SrcPort and DstPort are valid iff Proto is TCP, UDP or SCTP; for ICMP
	// SrcPort is the identifier.
	SrcPort, DstPort   uint16
	ICMPType, ICMPCode uint8 // valid iff Proto is ICMP
	TTL                int
	// ToGateway says that the frame goes to the router's MAC. Else it goes
	// to the MAC of the port that owns Dst on the sender's segment, or to an
	// unknown one. Not used for packets from an interface.
	ToGateway bool
}

// Disposition is how a packet ends.
type Disposition string

// The dispositions.
const (
	Delivered Disposition = "delivered"
	Dropped   Disposition = "dropped"
	Answered  Disposition = "answered" // by a router, echo only
)

// Verdict is what becomes of a packet.
type Verdict struct {
	Disposition Disposition
	Reason      string   // of docs/pipeline.md, "Reasons"; empty unless Dropped
	RulePath    string   // the firewall rule that dropped it; empty: none did
	RuleID      int64    // its rule_id in intent; 0: it has none there
	Allowed     []string // paths of the firewall rules that let it pass, in the order asked
	To          string   // policy path of the port or interface; empty unless Delivered

	// The header at the end of the way, also of a drop.
	SrcSeen, DstSeen netip.Addr
	DstPortSeen      uint16
	// SrcSeenPool and DstSeenPool are the translated networks of more than
	// one address that the address was picked from; invalid: there is one
	// possible address only.
	SrcSeenPool, DstSeenPool netip.Prefix

	// Hops is the address by which each router that took one off the TTL
	// tells that it ran out; the last may be the one where it did.
	Hops       []netip.Addr
	Answer     string     // echo, rst, or icmp type/code; empty: silence
	AnswerFrom netip.Addr // valid iff Answer is not empty
}

// Judge returns what becomes of p.
func (o *Oracle) Judge(p Packet) Verdict {
	w := &walk{o: o, sent: p, now: p}
	w.begin()
	w.v.SrcSeen, w.v.DstSeen, w.v.DstPortSeen = w.now.Src, w.now.Dst, w.now.DstPort
	return w.v
}

// walk is one packet on its way.
type walk struct {
	o         *Oracle
	sent, now Packet
	v         Verdict
	routers   int
	srcTimes  int // translations of the source so far
	dstTimes  int
}

// drop ends the walk in silence.
func (w *walk) drop(reason string) { w.v.Disposition, w.v.Reason = Dropped, reason }

// refuse ends the walk with an answer to the sender.
func (w *walk) refuse(reason, answer string, from netip.Addr) {
	w.drop(reason)
	w.v.Answer, w.v.AnswerFrom = answer, from
}

// begin takes the packet in.
func (w *walk) begin() {
	port, isPort := intent.Find[*intent.SegmentPort](w.o.tree, w.now.Port)
	uplink, isUplink := intent.Find[*intent.Tier0Interface](w.o.tree, w.now.Port)
	if !isUplink && (!isPort || !w.o.works(port)) {
		w.drop("no_port")
		return
	}
	if reason := unsound(w.now); reason != "" {
		w.drop(reason)
		return
	}
	if isPort && !w.o.owns(port, w.now.Src) {
		w.drop("spoofguard")
		return
	}
	if reason := unrelated(w.now); reason != "" {
		w.drop(reason)
		return
	}
	if isPort {
		w.segment(port, w.now.ToGateway)
		return
	}
	w.router(visit{path: uplink.RouterPath(), in: uplink.Addresses()[0].Addr(), above: true, from: uplink.Path})
}

// unsound returns why a header cannot be on the wire. Source: RFC 1122
// §3.2.1.3; docs/pipeline.md, "Parse".
func unsound(p Packet) string {
	s, d := p.Src.As4(), p.Dst.As4()
	switch {
	case s[0] == 0, s[0] == 127, s[0] >= 224, d[0] == 0, d[0] == 127, s == d:
		return "martian"
	case d[0] >= 224:
		return "multicast"
	case p.Proto != protoICMP:
		return ""
	}
	switch p.ICMPType {
	case 0, 8:
		if p.ICMPCode == 0 {
			return ""
		}
	case 3, 11, 12:
		return ""
	}
	return "icmp_type"
}

// unrelated returns why an ICMP message begins no connection.
func unrelated(p Packet) string {
	switch {
	case p.Proto != protoICMP || p.ICMPType == 8:
		return ""
	case p.ICMPType == 0:
		return "no_connection"
	}
	return "icmp_unrelated"
}

// segment takes the packet from a port: distributed firewall, then the
// neighbour on the segment or the segment's router.
func (w *walk) segment(port *intent.SegmentPort, routed bool) {
	s := w.o.segmentOf(port)
	own, ok := w.o.endpoint(s.Path, w.now.Src)
	if !ok || own.port != port {
		w.drop("spoofguard")
		return
	}
	if !w.filter(own, w.now.Dst, true) {
		return
	}
	if !routed {
		d, ok := w.o.endpoint(s.Path, w.now.Dst)
		if !ok {
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
	w.router(visit{path: s.RouterPath(), in: gatewayFor(s, w.now.Src)})
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

// deliver hands the packet to a port, behind which may be a Node's router.
func (w *walk) deliver(d member) {
	if !w.filter(d, w.now.Src, false) {
		return
	}
	for _, n := range every[*intent.Node](w.o.tree, "Node") {
		if n.PortPath == d.port.Path {
			w.router(visit{path: n.Path, in: d.addr, above: true})
			return
		}
	}
	w.v.Disposition, w.v.To = Delivered, d.port.Path
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
	if w.routers++; w.routers > maxRouters {
		w.drop("router_loop")
		return
	}
	if w.o.misplaced(v, w.now.Src) {
		w.drop("urpf")
		return
	}
	if v.above && !w.translateDestination(v) {
		return
	}
	r := w.o.lookup(v.path, w.now.Dst)
	switch r.kind {
	case local:
		w.local()
		return
	case natted:
		w.drop("no_listener")
		return
	}
	w.v.Hops = append(w.v.Hops, v.in)
	if w.now.TTL <= 1 {
		w.refuse("ttl_exceeded", "icmp 11/0", v.in)
		return
	}
	w.now.TTL--
	w.forward(v, r)
}

// local is a packet to an address of the router itself.
func (w *walk) local() {
	switch w.now.Proto {
	case protoICMP:
		w.v.Disposition, w.v.Answer, w.v.AnswerFrom = Answered, "echo", w.sent.Dst
	case protoUDP:
		w.refuse("no_listener", "icmp 3/3", w.now.Dst)
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
		w.neighbour(v, r.segment, w.now.Dst)
	case r.kind == static:
		w.neighbour(v, r.segment, r.hops[0].addr)
	case r.kind == down:
		_, end := w.o.transit(r.to)
		w.router(visit{path: r.to, in: end, above: true})
	case r.kind == up:
		if w.translateSource(v.path, "") {
			end, _ := w.o.transit(v.path)
			w.router(visit{path: r.to, in: end, from: v.path})
		}
	case r.kind == uplink:
		h := r.hops[int(flowHash(w.sent)%uint32(len(r.hops)))]
		if w.translateSource(v.path, h.iface) {
			w.v.Disposition, w.v.To = Delivered, h.iface
		}
	case r.kind == node:
		if w.translateSource(v.path, "") {
			n, _ := intent.Find[*intent.Node](w.o.tree, v.path)
			port, _ := intent.Find[*intent.SegmentPort](w.o.tree, n.PortPath)
			w.segment(port, len(r.hops) > 0)
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

// every returns all objects of a type in the order of their paths.
func every[T intent.Object](t *intent.Tree, resourceType string) []T {
	var out []T
	for _, o := range t.OfType(resourceType) {
		out = append(out, o.(T))
	}
	return out
}

// works reports whether a port and its segment are not switched off.
func (o *Oracle) works(p *intent.SegmentPort) bool { return p.IsUp() && o.segmentOf(p).IsUp() }

func (o *Oracle) segmentOf(p *intent.SegmentPort) *intent.Segment {
	s, _ := intent.Find[*intent.Segment](o.tree, p.SegmentPath())
	return s
}

// owns reports whether an address is a binding of the port (SpoofGuard).
func (o *Oracle) owns(p *intent.SegmentPort, a netip.Addr) bool {
	return slices.ContainsFunc(p.Bindings(), func(b intent.Binding) bool { return b.Addr == a })
}

// endpoint returns the port that owns an address on a segment.
func (o *Oracle) endpoint(segment string, a netip.Addr) (member, bool) {
	for _, m := range o.endpoints() {
		if m.port.SegmentPath() == segment && m.addr == a {
			return m, true
		}
	}
	return member{}, false
}

// endpoints returns all bindings of all ports that work.
func (o *Oracle) endpoints() []member {
	if o.ports != nil {
		return o.ports
	}
	for _, p := range every[*intent.SegmentPort](o.tree, "SegmentPort") {
		if !o.works(p) {
			continue
		}
		for _, b := range p.Bindings() {
			o.ports = append(o.ports, member{port: p, addr: b.Addr})
		}
	}
	return o.ports
}
