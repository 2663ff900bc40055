package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/weft-net/weft/table"
)

// Device is a network device that a port or uplink of a Set is bound to.
type Device struct {
	IfIndex uint32
	MAC     table.MAC // of the device; an uplink sends with it
}

// Entries are the rows of one map: key bytes to the bytes of one slot.
type Entries map[string][]byte

// Tables are the entries of every map that a Set fills, by map name.
type Tables map[string]Entries

// Encode turns a Set into map entries. A port without a device gets its
// endpoints, so that it is answered for, but receives nothing.
//
// Errors name the object and the limit of the data plane that it exceeds
// (docs/pipeline.md section 9).
func Encode(set *table.Set, devices map[table.PortID]Device) (Tables, error) {
	e := encoder{set: set, devices: devices, tables: Tables{}}
	for _, name := range TableMaps {
		e.tables[name] = Entries{}
	}
	e.ports()
	e.segments()
	e.vrfs()
	e.routes()
	e.nextHops()
	e.nat()
	flags := e.firewall()
	e.endpoints(flags)
	if e.err != nil {
		return nil, e.err
	}
	return e.tables, nil
}

// TableMaps names the maps that Encode fills.
var TableMaps = []string{
	WeftMapWeftDevices, WeftMapWeftEndpoints, WeftMapWeftSegments, WeftMapWeftVrfs, WeftMapWeftRoutes,
	WeftMapWeftNexthops, WeftMapWeftNatIndex, WeftMapWeftNat, WeftMapWeftIdentities, WeftMapWeftRules,
}

// Timeouts returns t in ticks, in the order of enum timeout_class.
func Timeouts(t table.Timeouts) [WeftTimeoutClassTIMEOUTS]uint32 {
	ticks := func(s uint32) uint32 { return uint32((uint64(s)*1e9 + (1 << 30) - 1) >> 30) }
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

// raw returns the bytes of a map key or value.
func raw[T any](v *T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))...)
}

type encoder struct {
	set     *table.Set
	devices map[table.PortID]Device
	tables  Tables
	err     error
}

// put enters a row; the caller has set the value's Present.
func put[K, V any](e *encoder, name string, k K, v V) {
	e.tables[name][string(raw(&k))] = raw(&v)
}

// limit notes the first object that the data plane can not hold.
func (e *encoder) limit(object, what string, got, most int) bool {
	if got > most && e.err == nil {
		e.err = fmt.Errorf("%s: %s: %d (at most %d)", object, what, got, most)
	}
	return got > most
}

func (e *encoder) ports() {
	for id, p := range e.set.Ports {
		d, ok := e.devices[id]
		if !ok || p.Node != 0 {
			continue
		}
		put(e, WeftMapWeftDevices, d.IfIndex, WeftDevice{
			Present: present, Kind: uint32(WeftDeviceKindDEVICE_PORT), Id: uint32(id), Segment: uint32(p.Segment), Mac: p.MAC,
		})
	}
	for id, u := range e.set.Uplinks {
		d, ok := e.devices[id]
		if !ok {
			continue
		}
		_, bits := mapPrefix(u.Address)
		put(e, WeftMapWeftDevices, d.IfIndex, WeftDevice{
			Present: present, Kind: uint32(WeftDeviceKindDEVICE_UPLINK), Id: uint32(id), Vrf: uint32(u.VRF),
			Address: MapAddr(u.Address.Addr()), Plen: bits, Mac: d.MAC,
		})
	}
}

func (e *encoder) segments() {
	for id, s := range e.set.Segments {
		v := WeftSegment{Present: present, Vrf: uint32(s.VRF), Realm: uint32(s.Realm), Gateways: uint32(len(s.Gateways))}
		if e.limit(s.Path, "gateways", len(s.Gateways), len(v.Gateway)) {
			return
		}
		for i, g := range s.Gateways {
			_, bits := mapPrefix(g)
			v.Gateway[i] = WeftGateway{Addr: MapAddr(g.Addr()), Plen: bits}
		}
		put(e, WeftMapWeftSegments, uint32(id), v)
	}
}

func (e *encoder) vrfs() {
	for id, r := range e.set.VRFs {
		v := WeftVrf{Present: present, Kind: uint32(r.Kind), NodePort: uint32(r.NodePort)}
		if p := e.set.Ports[r.NodePort]; p != nil {
			v.NodeSegment = uint32(p.Segment)
		}
		if l := e.set.NAT[table.NATKey{VRF: id, Dir: table.NATOut}]; l != nil {
			v.Flags |= vrfNATOut
		}
		if l := e.set.NAT[table.NATKey{VRF: id, Dir: table.NATIn}]; l != nil {
			v.Flags |= vrfNATIn
		}
		put(e, WeftMapWeftVrfs, uint32(id), v)
	}
}

func (e *encoder) routes() {
	for k, r := range e.set.Routes {
		addr, bits := mapPrefix(k.Prefix)
		v := WeftRoute{
			Present: present, Kind: uint32(r.Kind), Segment: uint32(r.Segment), To: uint32(r.To),
			Via: MapAddr(r.Via), Nexthops: uint32(len(r.NextHops)),
		}
		if e.limit(fmt.Sprintf("route %v", k.Prefix), "next hops", len(r.NextHops), len(v.Nexthop)) {
			return
		}
		for i, id := range r.NextHops {
			v.Nexthop[i] = uint32(id)
		}
		put(e, WeftMapWeftRoutes, WeftRouteKey{Plen: 32 + bits, Vrf: uint32(k.VRF), Addr: addr}, v)
	}
}

func (e *encoder) nextHops() {
	for id, n := range e.set.NextHops {
		put(e, WeftMapWeftNexthops, uint32(id), WeftNexthop{
			Present: present, Ifindex: e.devices[n.Uplink].IfIndex, Uplink: uint32(n.Uplink), Addr: MapAddr(n.Addr),
		})
	}
}

// endpoints needs the flags of every ruleset, which say what to look up.
func (e *encoder) endpoints(flags map[table.RulesetID]uint32) {
	refs := func(path string, ids []table.RulesetID) (r [3]WeftRulesetRef) {
		if e.limit(path, "rulesets", len(ids), len(r)) {
			return r
		}
		for i, id := range ids {
			r[i] = WeftRulesetRef{Id: uint32(id), Flags: flags[id]}
		}
		return r
	}
	for k, ep := range e.set.Endpoints {
		p := e.set.Ports[ep.Port]
		if p == nil {
			continue
		}
		v := WeftEndpoint{Present: present, Port: uint32(ep.Port), Node: uint32(p.Node), Mac: ep.MAC}
		if p.Node == 0 {
			v.Ifindex = e.devices[ep.Port].IfIndex
		}
		if ep.Unfiltered {
			v.Unfiltered = 1
		}
		v.Out, v.In = refs(p.Path, ep.Out), refs(p.Path, ep.In)
		put(e, WeftMapWeftEndpoints, WeftEndpointKey{Segment: uint32(k.Segment), Addr: MapAddr(k.Addr)}, v)
	}
}
