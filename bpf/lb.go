package bpf

import (
	"slices"

	"github.com/weft-net/weft/table"
)

// slotsARow is how many slots of a pool one row holds.
const slotsARow = int(WeftBoundSLOTS_A_ROW)

// vipConcerned says whether an access list of a VIP has other flags now.
func (u *update) vipConcerned(_ table.VIPKey, v *table.VIP) bool {
	return slices.ContainsFunc(v.Servers, func(s *table.VirtualServer) bool { return u.flagsDiffer(s.Access) })
}

// poolConcerned says whether other members of a pool are up now.
func (u *update) poolConcerned() func(table.PoolID, *table.Pool) bool {
	moved := map[table.MemberID]bool{}
	for id := range differing(u.old.set.Health, u.new.set.Health) {
		if u.old.set.Up(id) != u.new.set.Up(id) {
			moved[id] = true
		}
	}
	return concerned(moved, func(_ table.PoolID, p *table.Pool) bool {
		return slices.ContainsFunc(p.Members, func(m table.Member) bool { return moved[m.ID] })
	})
}

func (v *view) vip(k table.VIPKey, vip *table.VIP) {
	key := WeftVipKey{Plen: 64 + 128, Kind: uint32(WeftVipScopeVIP_VRF), Scope: uint32(k.VRF), Addr: MapAddr(k.Addr)}
	if k.DLB != 0 {
		key.Kind, key.Scope = uint32(WeftVipScopeVIP_DLB), uint32(k.DLB)
	}
	put(v, WeftMapWeftVips, key, WeftVip{Present: present})
	painted := map[uint8]*spans{}
	for _, s := range vip.Servers {
		row := WeftVip{
			Present: present, Server: uint32(s.ID), Pool: uint32(s.Pool), Max: s.MaxConns, Persist: s.Persist,
			PersistTicks: ticks(s.PersistFor), Access: v.ref(s.Access), MemberPort: s.MemberPort,
		}
		for _, m := range s.Services {
			if painted[m.Proto] == nil {
				painted[m.Proto] = &spans{}
			}
			key.Proto = m.Proto
			for _, free := range painted[m.Proto].paint(span{uint32(m.First), uint32(m.Last)}) {
				for at, bits := range free.prefixes() {
					key.Plen, key.Port = 64+128+8+bits, [2]uint8{uint8(at >> 8), uint8(at)}
					put(v, WeftMapWeftVips, key, row)
				}
			}
		}
	}
}

func (v *view) pool(id table.PoolID, p *table.Pool) {
	slots := p.Slots(v.set.Health)
	row := WeftPool{
		Present: present, Slots: uint32(len(slots)), Algorithm: uint8(p.Algorithm), Snat: uint8(p.SNAT), SnatAddrs: uint8(len(p.SNATAddrs)),
	}
	if v.limit(len(p.SNATAddrs), len(row.SnatAddr), "SNAT addresses", func() string { return p.Path }) {
		return
	}
	for i, a := range p.SNATAddrs {
		row.SnatAddr[i] = MapAddr(a)
	}
	put(v, WeftMapWeftPools, uint32(id), row)
	for i := range p.Members {
		m := &p.Members[i]
		w := WeftMember{
			Present: present, Max: m.MaxConns, Addr: MapAddr(m.Addr), Port: m.Port, Weight: max(m.Weight, 1), Admin: uint8(m.Admin),
		}
		if v.set.Up(m.ID) {
			w.Up = 1
		}
		put(v, WeftMapWeftMembers, WeftMemberKey{Pool: uint32(id), Member: uint32(m.ID)}, w)
	}
	for n := 0; n*slotsARow < len(slots); n++ {
		w := WeftSlots{Present: present}
		for i, m := range slots[n*slotsARow : min((n+1)*slotsARow, len(slots))] {
			w.Member[i] = uint32(m)
		}
		put(v, WeftMapWeftSlots, WeftSlotsKey{Pool: uint32(id), Row: uint32(n)}, w)
	}
}
