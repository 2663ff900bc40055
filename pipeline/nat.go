package pipeline

import (
	"encoding/binary"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// maxTranslations bounds the translations of one address on one path (§10).
const maxTranslations = 2

// dnat translates the destination by the first matching row of router id, and
// asks the gateway firewall. It reports whether the walk goes on.
func (w *walk) dnat(id table.VRFID) bool {
	row, before := w.row(id, table.NATIn, w.uplink), w.t
	if row != nil {
		if row.Action == table.NATTranslate {
			if w.dnats == maxTranslations {
				return w.tooDeep(StageDNAT, id, row)
			}
			w.dnats++
			w.t.Dst = translated(row, row.Dst, w.t.Dst)
			if row.ToPort != 0 && (w.t.Proto == packet.TCP || w.t.Proto == packet.UDP) {
				w.t.DstPort = row.ToPort
			}
		}
		w.met(StageDNAT, id, row)
	}
	return w.gatewayIn(id, row, before)
}

// outwards is what a packet meets that leaves router id by uplink, or upwards
// if that is 0: the gateway firewall, and the first matching row for its
// source. It reports whether the walk goes on. In mode reply, and for what a
// virtual server of this router sends, there is nothing to do.
func (w *walk) outwards(id table.VRFID, uplink table.PortID) bool {
	if w.mode == modeReply || w.took.vrf == id {
		return true
	}
	row := w.row(id, table.NATOut, uplink)
	if !w.gatewayOut(id, uplink, row) {
		return false
	}
	if row == nil {
		return true
	}
	if row.Action == table.NATTranslate {
		if w.snats == maxTranslations {
			return w.tooDeep(StageSNAT, id, row)
		}
		w.snat(translated(row, row.Src, w.t.Src), sourcePorts{row: row, first: row.PortFirst, last: row.PortLast})
	}
	w.met(StageSNAT, id, row)
	return true
}

// sourcePorts is who translated a source last, and where new source ports come
// from.
type sourcePorts struct {
	row         *table.NATRule // nil: nobody, or a virtual server
	first, last uint16         // last is 0: there is no block
}

// snat makes src the source. The caller has seen that it is not the third.
func (w *walk) snat(src netip.Addr, ports sourcePorts) {
	w.t.Src, w.ports = src, ports
	w.snats++
	w.sources[w.snats] = src
}

// met records row.
func (w *walk) met(stage Stage, id table.VRFID, row *table.NATRule) {
	note(w.nats[:], row.ID)
	s := w.step(stage, uint32(id))
	s.Rule, s.NAT = row.ID, row
}

func (w *walk) tooDeep(stage Stage, id table.VRFID, row *table.NATRule) bool {
	w.rule = row.ID
	s := w.drop(stage, uint32(id), ReasonNATDepth)
	s.Rule, s.NAT = row.ID, row
	return false
}

// row returns the first row that matches the current tuple, nil if none does.
func (w *walk) row(id table.VRFID, dir table.NATDir, uplink table.PortID) *table.NATRule {
	list := w.ix.Set.NAT.Get(table.NATKey{VRF: id, Dir: dir})
	if list == nil {
		return nil
	}
	for i := range list.Rules {
		r := &list.Rules[i]
		if (!r.Src.IsValid() || r.Src.Contains(w.t.Src)) && (!r.Dst.IsValid() || r.Dst.Contains(w.t.Dst)) &&
			serves(r.Service, w.t) && (r.Iface == 0 || r.Iface == uplink) {
			return r
		}
	}
	return nil
}

// translated returns the address that row's pool has for old, which matched
// the row's prefix matched.
func translated(row *table.NATRule, matched netip.Prefix, old netip.Addr) netip.Addr {
	base := row.To.Masked().Addr()
	if row.To.IsSingleIP() {
		return base
	}
	if row.OneToOne {
		if !matched.IsValid() {
			return base
		}
		return plus(base, number(old)-number(matched.Masked().Addr()))
	}
	size := uint64(1) << (32 - row.To.Bits())
	return plus(base, uint32(uint64(HashAddr(old))%size))
}

// number returns an IPv4 address as the number that its bytes are.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func plus(a netip.Addr, n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number(a)+n)
	return netip.AddrFrom4(b)
}
