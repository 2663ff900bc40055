package pipeline

import (
	"encoding/binary"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// maxTranslations bounds the translations of one address on one path (§9).
const maxTranslations = 2

// dnat translates the destination by the first matching row of router id. It
// reports whether the walk goes on.
func (w *walk) dnat(id table.VRFID) bool {
	row := w.row(id, table.NATIn, w.uplink)
	if row == nil {
		return true
	}
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
	s := w.step(StageDNAT, uint32(id))
	s.Rule, s.NAT = row.ID, row
	return true
}

// snat translates the source by the first matching row of router id, for what
// leaves by uplink, or upwards if that is 0. It reports whether the walk goes
// on. In mode reply there is nothing to do.
func (w *walk) snat(id table.VRFID, uplink table.PortID) bool {
	if w.mode == modeReply {
		return true
	}
	row := w.row(id, table.NATOut, uplink)
	if row == nil {
		return true
	}
	if row.Action == table.NATTranslate {
		if w.snats == maxTranslations {
			return w.tooDeep(StageSNAT, id, row)
		}
		w.t.Src = translated(row, row.Src, w.t.Src)
		w.snats++
		w.sources[w.snats] = w.t.Src
		w.lastSNAT = row
	}
	s := w.step(StageSNAT, uint32(id))
	s.Rule, s.NAT = row.ID, row
	return true
}

func (w *walk) tooDeep(stage Stage, id table.VRFID, row *table.NATRule) bool {
	w.rule = row.ID
	s := w.drop(stage, uint32(id), ReasonNATDepth)
	s.Rule, s.NAT = row.ID, row
	return false
}

// row returns the first row that matches the current tuple, nil if none does.
func (w *walk) row(id table.VRFID, dir table.NATDir, uplink table.PortID) *table.NATRule {
	list := w.ix.Set.NAT[table.NATKey{VRF: id, Dir: dir}]
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
