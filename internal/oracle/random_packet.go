package oracle

import (
	"math/rand/v2"
	"net/netip"

	"github.com/weft-net/weft/intent"
)

// Edges are the places in a tree where a small mistake shows: the first and
// last address of each prefix and their neighbours, the first and last port of
// each service and theirs.
type Edges struct {
	tree      *intent.Tree
	all       []*intent.SegmentPort
	workloads []*intent.SegmentPort // that are no Node's
	uplinks   []*intent.Tier0Interface
	addresses []netip.Addr
	nat       []netip.Addr // that routers have for NAT and virtual servers
	ports     []uint16
}

// EdgesOf returns the edges of a tree, which must not change meanwhile. It must
// have a port that is no Node's, as those of RandomTree do.
func EdgesOf(t *intent.Tree) *Edges {
	e := &Edges{
		tree: t, all: every[*intent.SegmentPort](t, "SegmentPort"), uplinks: every[*intent.Tier0Interface](t, "Tier0Interface"),
		addresses: edgeAddresses(t), nat: natAddresses(t), ports: edgePorts(t),
	}
	for _, port := range e.all {
		if !isNode(t, port.Path) {
			e.workloads = append(e.workloads, port)
		}
	}
	return e
}

// RandomPacket returns a packet aimed at edges, some with a small TTL. Most
// come from a port with an address of that port, so that they get past
// spoofguard.
func RandomPacket(r *rand.Rand, e *Edges) Packet {
	p := Packet{Dst: one(r, e.addresses...), TTL: one(r, 1, 2, 3, 4, 64, 64, 64, 64, 64, 64), ToGateway: true}
	if len(e.uplinks) > 0 && r.IntN(5) == 0 {
		p.Port = one(r, e.uplinks...).Path
		p.Src = one(r, netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("198.51.100.255"), one(r, e.addresses...))
	} else {
		e.fromPort(r, &p)
	}
	if len(e.nat) > 0 && p.ToGateway && r.IntN(3) == 0 {
		p.Dst = one(r, e.nat...)
	}
	for p.Src == p.Dst && r.IntN(8) > 0 {
		p.Dst = one(r, e.addresses...)
	}
	e.transport(r, &p)
	return p
}

// fromPort fills in a segment port and its address, and how the frame is
// addressed: neighbours mostly directly, all else mostly to the gateway.
func (e *Edges) fromPort(r *rand.Rand, p *Packet) {
	port := one(r, e.workloads...)
	p.Port, p.Src = port.Path, one(r, port.Bindings()...).Addr
	if r.IntN(20) == 0 {
		p.Src = one(r, e.addresses...)
	}
	bindings := one(r, e.all...).Bindings()
	if r.IntN(2) == 0 {
		p.Dst = one(r, bindings...).Addr
	}
	s, _ := intent.Find[*intent.Segment](e.tree, port.SegmentPath())
	for _, g := range s.Gateways() {
		if g.Contains(p.Dst) && g.Addr() != p.Dst {
			p.ToGateway = false
		}
	}
	if r.IntN(10) == 0 {
		p.ToGateway = !p.ToGateway
	}
}

// isNode reports whether a port is a Node's own.
func isNode(t *intent.Tree, port string) bool {
	for _, n := range every[*intent.Node](t, "Node") {
		if n.PortPath == port {
			return true
		}
	}
	return false
}

// transport fills in the protocol and what its header has.
func (e *Edges) transport(r *rand.Rand, p *Packet) {
	p.Proto = one[uint8](r, protoTCP, protoTCP, protoTCP, protoTCP, protoUDP, protoUDP, protoUDP, protoICMP, protoICMP, protoICMP, protoSCTP, 47)
	switch p.Proto {
	case protoTCP, protoUDP, protoSCTP:
		p.SrcPort, p.DstPort = uint16(1024+r.IntN(64512)), one(r, e.ports...)
	case protoICMP:
		p.SrcPort, p.ICMPType = uint16(r.IntN(65536)), 8
		if r.IntN(10) == 0 {
			p.ICMPType, p.ICMPCode = one[uint8](r, 0, 8, 13), uint8(r.IntN(2))
		}
	}
}

// edgesOf returns the first and last address of each prefix, their neighbours,
// and the address that the prefix was written with.
func edgesOf(prefixes ...netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		first, last := p.Masked().Addr(), plus(p.Masked().Addr(), 1<<(32-p.Bits())-1)
		for _, a := range []netip.Addr{first.Prev(), first, p.Addr(), last, last.Next()} {
			if a.IsValid() {
				out = append(out, a)
			}
		}
	}
	return out
}

// edgeAddresses returns the interesting addresses of a tree.
func edgeAddresses(t *intent.Tree) []netip.Addr {
	out := []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("8.8.8.8")}
	add := func(prefixes ...netip.Prefix) { out = append(out, edgesOf(prefixes...)...) }
	for _, o := range t.All() {
		switch v := o.(type) {
		case *intent.Tier0:
			for _, p := range v.Transit() {
				add(p)
				for a := p.Addr(); p.Contains(a) && len(out) < 100; a = a.Next() {
					out = append(out, a)
				}
			}
		case *intent.Tier0Interface:
			add(v.Addresses()...)
		case *intent.Segment:
			add(v.Gateways()...)
		case *intent.SegmentPort:
			for _, b := range v.Bindings() {
				add(host(b.Addr))
			}
		case *intent.StaticRoutes:
			add(v.Prefix())
		case *intent.PolicyNatRule:
			add(v.Sources()...)
			add(v.Destinations()...)
			if p := v.Translated(); p.IsValid() {
				add(p)
			}
		case *intent.LBService:
			add(host(netip.MustParseAddr(monitorAddress)))
		case *intent.LBVirtualServer:
			add(host(v.Address()))
		case *intent.LBPool:
			for _, a := range v.SNATAddresses() {
				add(host(a))
			}
		case *intent.Group:
			add(v.Addresses()...)
		case *intent.Rule:
			add(v.Sources().Prefixes...)
			add(v.Destinations().Prefixes...)
		}
	}
	return out
}

// natAddresses returns the edges of the addresses that routers have for NAT,
// and VIPs.
func natAddresses(t *intent.Tree) []netip.Addr {
	var out []netip.Addr
	for _, r := range every[*intent.PolicyNatRule](t, "PolicyNatRule") {
		switch r.Action {
		case "DNAT":
			out = append(out, edgesOf(r.Destinations()...)...)
		case "REFLEXIVE":
			out = append(out, edgesOf(r.Translated())...)
			out = append(out, r.Translated().Addr().Next().Next()) // of the first workload
		}
	}
	for _, v := range every[*intent.LBVirtualServer](t, "LBVirtualServer") {
		out = append(out, v.Address())
	}
	return out
}

// edgePorts returns First−1, First, Last and Last+1 of all services and
// translated ports.
func edgePorts(t *intent.Tree) []uint16 {
	out := []uint16{0, 65535}
	add := func(matches ...intent.ServiceMatch) {
		for _, m := range matches {
			if m.Proto == protoTCP || m.Proto == protoUDP {
				out = append(out, m.First-1, m.First, m.Last, m.Last+1)
			}
		}
	}
	for _, o := range t.All() {
		switch v := o.(type) {
		case *intent.Service:
			add(t.ServiceMatches(v.Path)...)
		case *intent.Rule:
			add(t.RuleServices(v)...)
		case *intent.PolicyNatRule:
			if p := v.TranslatedPort(); p != 0 {
				add(intent.ServiceMatch{Proto: protoTCP, First: p, Last: p})
			}
		case *intent.LBVirtualServer:
			add(t.LBMatches(v)...)
		}
	}
	return out
}
