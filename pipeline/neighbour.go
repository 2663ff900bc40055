package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// arp answers an ARP request of a port, or passes one of an uplink to the
// node. Source: docs/pipeline.md §3.
func (r *run) arp() {
	if r.port == nil {
		r.res.add(StageNeighbour, uint32(r.in.Port), packet.Tuple{})
		r.res.Verdict = Pass
		return
	}
	a, ok := packet.DecodeARP(r.in.Frame)
	t := packet.Tuple{Src: a.Sender, Dst: a.Target}
	mac, why := table.MAC{}, ReasonMalformed
	if ok {
		mac, why = r.neighbour(a)
	}
	if why != ReasonNone {
		r.drop(StageNeighbour, uint32(r.in.Port), why, t)
		return
	}
	r.res.add(StageNeighbour, uint32(r.in.Port), t)
	r.send(packet.AppendARPReply(r.res.Frame[:0], r.in.Frame, packet.MAC(mac)))
}

// neighbour returns the MAC that answers a, or why there is none.
func (r *run) neighbour(a packet.ARP) (table.MAC, Reason) {
	if a.SenderMAC != r.p.EthSrc {
		return table.MAC{}, ReasonSpoofguard
	}
	if a.Sender.IsUnspecified() {
		if r.port.MAC != table.MAC(a.SenderMAC) {
			return table.MAC{}, ReasonSpoofguard
		}
	} else if !r.bound(a.Sender) {
		return table.MAC{}, ReasonSpoofguard
	}
	if a.Op != packet.ARPRequest {
		return table.MAC{}, ReasonARPUnknown
	}
	if s := r.ix.Set.Segments.Get(r.port.Segment); s != nil {
		for _, g := range s.Gateways {
			if g.Addr() == a.Target {
				return table.RouterMAC, ReasonNone
			}
		}
	}
	if e := r.ix.Endpoint(r.port.Segment, a.Target); e != nil && e.Port != r.port.ID {
		return e.MAC, ReasonNone
	}
	return table.MAC{}, ReasonARPUnknown
}

// bound reports whether addr with the frame's source MAC is a binding of the
// port.
func (r *run) bound(addr netip.Addr) bool {
	e := r.ix.Endpoint(r.port.Segment, addr)
	return e != nil && e.Port == r.port.ID && e.MAC == table.MAC(r.p.EthSrc)
}
