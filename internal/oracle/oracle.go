// Package oracle judges packets by linear scans over intent and over a list of
// the connections so far, as an independent opinion for tests of the
// forwarders.
//
// It shares no code with the compiler and none with the forwarders: it answers
// from NSX's words and docs/pipeline.md what they answer from tables. It is
// meant to be obviously right, not fast.
//
//	oracle.go    Judge: packets and verdicts
//	walk.go      routers on the way; route.go, nat.go, firewall.go, gateway.go,
//	             lb.go, monitor.go: what a packet meets there; group.go: who an
//	             address is
//	past.go      Past: connections; connect.go new ones; related.go fragments and
//	             ICMP errors
//	random*.go   trees and first packets; story.go sequences of events
package oracle

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Facts is what intent does not say.
type Facts struct {
	// Transit returns the two addresses of the link between the Tier-1 at a
	// policy path and its Tier-0. The /31 links are spread over the Tier-0's
	// transit subnets by the compiler.
	Transit func(tier1 string) (tier0End, tier1End netip.Addr)
	// MemberID returns the number that a member has in its compiled pool; nil
	// if there are no pools. IP_HASH spreads clients by it.
	MemberID func(Member) table.MemberID
	// MonitorMAC returns the Ethernet address of a load balancer's own port
	// at a path; nil if no pool has monitors.
	MonitorMAC func(port string) string
	// Down is the members that monitors found down.
	Down map[Member]bool
}

func (f Facts) down(m Member) bool { return f.Down[m] }

// Oracle judges packets in one Tree, which must not change meanwhile. It
// remembers what it read of the Tree, and nothing of packets; it is not safe
// for concurrent use.
type Oracle struct {
	tree    *intent.Tree
	facts   Facts
	ports   []member                             // all bindings of all ports that work
	ways    map[string][]route                   // by router
	nats    map[string][]*intent.PolicyNatRule   // by router
	owned   map[string][]netip.Prefix            // by owner
	sorted  []policyRule                         // the distributed firewall's
	asking  []monitor                            // of load balancers
	servers map[string][]*intent.LBVirtualServer // by router or distributed load balancer
}

// New returns an Oracle for a valid tree. facts.Transit is asked for every
// Tier-1 that has a Tier-0.
func New(tree *intent.Tree, facts Facts) *Oracle {
	return &Oracle{
		tree: tree, facts: facts, ways: map[string][]route{}, nats: map[string][]*intent.PolicyNatRule{},
		servers: map[string][]*intent.LBVirtualServer{},
	}
}

// IP protocol numbers. Source: IANA, Assigned Internet Protocol Numbers.
const (
	protoICMP = 1
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// Packet is one packet as it comes in. The fields from Flags on are for
// packets of a Past; a packet that Judge judges alone needs none of them.
type Packet struct {
	Port     string     // policy path of the segment port, or Tier-0 interface, that it comes in by
	Src, Dst netip.Addr // IPv4
	Proto    uint8
	// SrcPort and DstPort are valid iff Proto is TCP, UDP or SCTP; for ICMP
	// echo SrcPort is the identifier, also of a reply.
	SrcPort, DstPort   uint16
	ICMPType, ICMPCode uint8 // valid iff Proto is ICMP
	TTL                int
	// ToGateway says that the frame goes to the router's MAC. Else it goes
	// to the MAC of the port that owns Dst on the sender's segment, or to an
	// unknown one. Not used for packets from an interface.
	ToGateway bool

	Flags  packet.Flags // valid iff Proto is TCP
	Astray bool         // the frame goes to a MAC that nobody has; not with ToGateway
	Forged bool         // the frame comes from a MAC that nobody has
	Size   int          // bytes of the IP packet; less than its headers: those alone
	// ID, Offset and More tell the fragments of a datagram: Offset is in units
	// of 8 bytes, and a packet that is whole has neither Offset nor More.
	ID     uint16
	Offset uint16
	More   bool
	// Quote is what an ICMP error tells of, as its sender had got it; Cut says
	// that the quote ends too early.
	Quote packet.Tuple
	Cut   bool
}

// tuple names the packet's direction. Source: docs/pipeline.md, "Words".
func (p Packet) tuple() packet.Tuple {
	t := packet.Tuple{Src: p.Src, Dst: p.Dst, Proto: packet.Proto(p.Proto)}
	switch p.Proto {
	case protoTCP, protoUDP, protoSCTP:
		t.SrcPort, t.DstPort = p.SrcPort, p.DstPort
	case protoICMP:
		switch p.ICMPType {
		case packet.ICMPEchoRequest:
			t.SrcPort = p.SrcPort
		case packet.ICMPEchoReply:
			t.DstPort = p.SrcPort
		}
	}
	return t
}

// of returns the packet with a tuple instead of its own.
func (p Packet) of(t packet.Tuple) Packet {
	p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort = t.Src, t.Dst, uint8(t.Proto), t.SrcPort, t.DstPort
	if t.Proto == packet.ICMP {
		p.ICMPType, p.ICMPCode = packet.ICMPEchoRequest, 0
		if t.DstPort != 0 {
			p.ICMPType, p.SrcPort = packet.ICMPEchoReply, t.DstPort
		}
	}
	return p
}

// later reports whether the packet is a fragment behind the first one.
func (p Packet) later() bool { return p.Offset > 0 }

// tells reports whether the packet is an ICMP error.
func (p Packet) tells() bool {
	return p.Proto == protoICMP && !p.later() && slices.Contains([]uint8{3, 11, 12}, p.ICMPType)
}

// Disposition is how a packet ends.
type Disposition string

// The dispositions.
const (
	Delivered Disposition = "delivered"
	Dropped   Disposition = "dropped"
	Answered  Disposition = "answered" // by a router, echo only
	Held      Disposition = "held"     // a fragment that waits for its first one
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
	// tells that it ran out; the last may be the one where it did. It is
	// empty for packets of known connections.
	Hops       []netip.Addr
	Answer     string     // echo, rst, or icmp type/code; empty: silence
	AnswerFrom netip.Addr // valid iff Answer is not empty

	// What a Past tells besides.

	New bool // the packet made a connection
	// Seen is the tuple that it leaves with, valid iff Delivered; of an ICMP
	// error it has no ports, and Quote is what that quotes now.
	Seen, Quote packet.Tuple
	TTL         int // that it leaves with; valid iff Delivered
	// DstMAC and SrcMAC are the frame's if To is a port; zero otherwise.
	DstMAC, SrcMAC intent.MAC
	NextHop        netip.Addr // of an interface; invalid: the destination itself
	Server         string     // path of the virtual server that took the connection; empty: none
	Member         Member     // valid iff Server is not empty
	// Why is what made that member the chosen one when the connection was
	// made: persistence, round_robin, least_connections or ip_hash.
	Why      string
	Released []Verdict // of fragments that waited for this first one
}

// Judge returns what becomes of the first packet of a connection, for TCP a
// SYN, before which there was none.
func (o *Oracle) Judge(p Packet) Verdict {
	if p.Proto == protoTCP {
		p.Flags = packet.SYN
	}
	return NewPast().Judge(o, p, 1, 0)
}

// hasDevice reports whether packets come from a port or interface: not from
// ports that are switched off, nor from a Node's own.
func (o *Oracle) hasDevice(path string) bool {
	if _, ok := intent.Find[*intent.Tier0Interface](o.tree, path); ok {
		return true
	}
	port, ok := o.portAt(path)
	return ok && o.works(port) && o.nodeAt(path) == nil
}

// nodeAt returns the Node whose own port is at path, or nil.
func (o *Oracle) nodeAt(path string) *intent.Node {
	for _, n := range every[*intent.Node](o.tree, "Node") {
		if n.PortPath == path {
			return n
		}
	}
	return nil
}

// nobody is a MAC address that no port has.
var nobody = intent.MAC{0x02, 0xff, 0, 0, 0, 1}

// routerMAC is that of every router. Source: facts on NSX distributed routers.
var routerMAC = intent.MAC{0x02, 0x50, 0x56, 0x56, 0x44, 0x52}

// MACs returns the Ethernet addresses of p's frame. A packet from an interface
// has none that matter.
func (o *Oracle) MACs(p Packet) (src, dst intent.MAC) {
	src, dst = nobody, nobody
	port, ok := o.portAt(p.Port)
	if !ok {
		return src, dst
	}
	for i, b := range port.Bindings() {
		if (i == 0 || b.Addr == p.Src) && !p.Forged {
			src = b.MAC
		}
	}
	for _, other := range intent.List[*intent.SegmentPort](o.tree, port.SegmentPath()) {
		for _, b := range other.Bindings() {
			if b.Addr == p.Dst && !p.Astray {
				dst = b.MAC
			}
		}
	}
	if p.ToGateway {
		dst = routerMAC
	}
	return src, dst
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
	case p.Proto == protoTCP && p.Offset == 1:
		return "fragment"
	case p.Proto != protoICMP, p.later(), p.tells():
		return ""
	case p.ICMPCode == 0 && (p.ICMPType == packet.ICMPEchoRequest || p.ICMPType == packet.ICMPEchoReply):
		return ""
	}
	return "icmp_type"
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
	for _, m := range o.monitors() {
		if m.port == p {
			return m.segment
		}
	}
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
	for _, m := range o.monitors() {
		if m.segment.Path == segment && a == netip.MustParseAddr(monitorAddress) {
			return member{m.port, a}, true
		}
	}
	return member{}, false
}

// endpoints returns all bindings of all ports that work, without load
// balancers' own.
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

// mac returns the Ethernet address of a binding.
func (m member) mac() intent.MAC {
	for _, b := range m.port.Bindings() {
		if b.Addr == m.addr {
			return b.MAC
		}
	}
	return intent.MAC{}
}

// length returns the bytes of the IP packet: Size, or what its headers need.
func (p Packet) length() int {
	least := 20 + map[uint8]int{protoTCP: 20, protoUDP: 8, protoICMP: 8, protoSCTP: 12}[p.Proto]
	switch {
	case p.later():
		least = 20
	case p.tells() && !p.Cut:
		least = 56
	}
	return max(p.Size, least)
}
