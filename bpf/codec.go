package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/table"
)

// Device is a network device that a port or uplink of a Set is bound to.
type Device struct {
	IfIndex uint32
	MAC     table.MAC // of the device; an uplink sends with it
}

// Timeouts returns t in ticks, in the order of enum timeout_class.
func Timeouts(t table.Timeouts) [WeftTimeoutClassTIMEOUTS]uint32 {
	return [WeftTimeoutClassTIMEOUTS]uint32{
		WeftTimeoutClassTIMEOUT_TCP_OPENING:     ticks(t.TCPOpening),
		WeftTimeoutClassTIMEOUT_TCP_ESTABLISHED: ticks(t.TCPEstablished),
		WeftTimeoutClassTIMEOUT_TCP_CLOSING:     ticks(t.TCPClosing),
		WeftTimeoutClassTIMEOUT_UDP_SINGLE:      ticks(t.UDPSingle),
		WeftTimeoutClassTIMEOUT_UDP_MULTIPLE:    ticks(t.UDPMultiple),
		WeftTimeoutClassTIMEOUT_ICMP:            ticks(t.ICMP),
		WeftTimeoutClassTIMEOUT_OTHER:           ticks(t.Other),
	}
}

// ticks returns seconds in the programs' unit, rounded up.
func ticks(s uint32) uint32 { return uint32((uint64(s)*1e9 + (1 << 30) - 1) >> 30) }

// MapAddr returns a as the programs hold it: 128 bit, IPv4 mapped.
func MapAddr(a netip.Addr) WeftAddr {
	var w WeftAddr
	if !a.IsValid() {
		return w
	}
	b := a.As16()
	for i := range w.W {
		w.W[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// Addr is the inverse of MapAddr; the zero value gives the invalid Addr.
func (a WeftAddr) Addr() netip.Addr {
	if a.W == [4]uint32{} {
		return netip.Addr{}
	}
	var b [16]byte
	for i, w := range a.W {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	return netip.AddrFrom16(b).Unmap()
}

// mapPrefix returns a prefix as an address and a length of 128 bit; the
// invalid Prefix is any address.
func mapPrefix(p netip.Prefix) (WeftAddr, uint32) {
	if !p.IsValid() {
		return WeftAddr{}, 0
	}
	bits := uint32(p.Bits())
	if p.Addr().Is4() {
		bits += 96
	}
	return MapAddr(p.Masked().Addr()), bits
}

// canonical returns the one form of a prefix that has its map key; the invalid
// Prefix has none.
func canonical(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return netip.Prefix{}
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// ref is how rows refer to a ruleset; 0: none.
func (v *view) ref(id table.RulesetID) WeftRulesetRef {
	if id == 0 {
		return WeftRulesetRef{}
	}
	return WeftRulesetRef{Id: uint32(id), Flags: v.flagsOf(id)}
}

func (v *view) port(id table.PortID, p *table.Port) {
	d, ok := v.devices[id]
	if !ok || p.Node != 0 {
		return
	}
	put(v, WeftMapWeftDevices, d.IfIndex, WeftDevice{
		Present: present, Kind: uint32(WeftDeviceKindDEVICE_PORT), Id: uint32(id), Segment: uint32(p.Segment), Mac: p.MAC,
	})
}

func (v *view) uplink(id table.PortID, u *table.Uplink) {
	d, ok := v.devices[id]
	if !ok {
		return
	}
	_, bits := mapPrefix(u.Address)
	put(v, WeftMapWeftDevices, d.IfIndex, WeftDevice{
		Present: present, Kind: uint32(WeftDeviceKindDEVICE_UPLINK), Id: uint32(id), Vrf: uint32(u.VRF),
		Address: MapAddr(u.Address.Addr()), Plen: bits, Mac: d.MAC, In: v.ref(u.In),
	})
}

func (v *view) segment(id table.SegmentID, s *table.Segment) {
	w := WeftSegment{Present: present, Vrf: uint32(s.VRF), Realm: uint32(s.Realm), Monitor: uint32(s.Monitor), Gateways: uint32(len(s.Gateways))}
	if v.limit(len(s.Gateways), len(w.Gateway), "gateways", func() string { return s.Path }) {
		return
	}
	for i, g := range s.Gateways {
		_, bits := mapPrefix(g)
		w.Gateway[i] = WeftGateway{Addr: MapAddr(g.Addr()), Plen: bits}
	}
	put(v, WeftMapWeftSegments, uint32(id), w)
}

func (v *view) vrf(id table.VRFID, r *table.VRF) {
	w := WeftVrf{
		Present: present, Kind: uint32(r.Kind), NodePort: uint32(r.NodePort), Realm: uint32(r.Realm),
		In: v.ref(r.In), Out: v.ref(r.Out),
	}
	if p := v.set.Ports.Get(r.NodePort); p != nil {
		w.NodeSegment = uint32(p.Segment)
	}
	if v.set.NAT.Get(table.NATKey{VRF: id, Dir: table.NATOut}) != nil {
		w.Flags |= vrfNATOut
	}
	if v.set.NAT.Get(table.NATKey{VRF: id, Dir: table.NATIn}) != nil {
		w.Flags |= vrfNATIn
	}
	put(v, WeftMapWeftVrfs, uint32(id), w)
}

func (v *view) route(k table.RouteKey, r *table.Route) {
	addr, bits := mapPrefix(k.Prefix)
	w := WeftRoute{
		Present: present, Kind: uint32(r.Kind), Segment: uint32(r.Segment), To: uint32(r.To),
		Via: MapAddr(r.Via), Nexthops: uint32(len(r.NextHops)),
	}
	if v.limit(len(r.NextHops), len(w.Nexthop), "next hops", func() string { return fmt.Sprintf("route %v", k.Prefix) }) {
		return
	}
	for i, id := range r.NextHops {
		w.Nexthop[i] = uint32(id)
	}
	put(v, WeftMapWeftRoutes, WeftRouteKey{Plen: 32 + bits, Vrf: uint32(k.VRF), Addr: addr}, w)
}

func (v *view) nextHop(id table.NextHopID, n *table.NextHop) {
	w := WeftNexthop{
		Present: present, Ifindex: v.devices[n.Uplink].IfIndex, Uplink: uint32(n.Uplink), Addr: MapAddr(n.Addr),
	}
	if u := v.set.Uplinks.Get(n.Uplink); u != nil {
		w.Mtu, w.Out = uint32(u.MTU), v.ref(u.Out)
	}
	put(v, WeftMapWeftNexthops, uint32(id), w)
}

func (v *view) endpoint(k table.EndpointKey, ep *table.Endpoint) {
	p := v.set.Ports.Get(ep.Port)
	if p == nil {
		return
	}
	w := WeftEndpoint{Present: present, Port: uint32(ep.Port), Node: uint32(p.Node), Mac: ep.MAC, Dlb: uint32(ep.DLB)}
	if p.Node == 0 {
		w.Ifindex = v.devices[ep.Port].IfIndex
	}
	if ep.Unfiltered {
		w.Unfiltered = 1
	}
	if v.limit(max(len(ep.Out), len(ep.In)), len(w.Out), "rulesets", func() string { return p.Path }) {
		return
	}
	for i, id := range ep.Out {
		w.Out[i] = v.ref(id)
	}
	for i, id := range ep.In {
		w.In[i] = v.ref(id)
	}
	put(v, WeftMapWeftEndpoints, WeftEndpointKey{Segment: uint32(k.Segment), Addr: MapAddr(k.Addr)}, w)
}
