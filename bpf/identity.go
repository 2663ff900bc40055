package bpf

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// An identity is a set of address sets that some addresses are in, so that the
// kernel finds all memberships of an address with one look-up.
type identity struct {
	id      uint32
	members []table.AddrSetID // sorted
}

// identities partitions the addresses of all realms by the used sets, enters
// the partition, and returns the identities that each set is part of.
func (e *encoder) identities(used map[table.AddrSetID]bool) map[table.AddrSetID][]*identity {
	p := partition{e: e, byMembers: map[string]*identity{}, bySet: map[table.AddrSetID][]*identity{}, taken: map[uint32]bool{0: true, anyIdentity: true}}
	rows := map[table.RealmID][]setPrefix{}
	for id := range used {
		s := e.set.AddrSets[id]
		if s == nil {
			continue
		}
		for _, a := range s.Addrs {
			rows[a.Realm] = append(rows[a.Realm], setPrefix{a.Prefix, id})
		}
	}
	p.realm(0, nil, append(rows[0], rows[table.AnyRealm]...))
	for _, id := range slices.Sorted(maps.Keys(e.set.Realms)) { // in order: numbers must not depend on the map's
		r := e.set.Realms[id]
		p.realm(id, r.Prefixes, append(slices.Clone(rows[id]), rows[table.AnyRealm]...))
	}
	return p.bySet
}

// setPrefix says that a set holds a prefix; set 0 marks a prefix of a realm.
type setPrefix struct {
	prefix netip.Prefix
	set    table.AddrSetID
}

type partition struct {
	e         *encoder
	byMembers map[string]*identity
	bySet     map[table.AddrSetID][]*identity
	taken     map[uint32]bool
}

// realm enters one realm. An address belongs to the sets of every prefix that
// covers it, so walking the prefixes in order with a stack of the covering
// ones gives each prefix its memberships. within limits what is entered to the
// realm's own prefixes; nil: everything.
func (p *partition) realm(id table.RealmID, within []netip.Prefix, rows []setPrefix) {
	for _, w := range within {
		rows = append(rows, setPrefix{prefix: w})
	}
	slices.SortFunc(rows, func(a, b setPrefix) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), cmp.Compare(a.set, b.set))
	})
	type level struct {
		prefix  netip.Prefix
		members []table.AddrSetID
	}
	var stack []level
	for i := 0; i < len(rows); {
		at := rows[i].prefix
		for len(stack) > 0 && !covers(stack[len(stack)-1].prefix, at) {
			stack = stack[:len(stack)-1]
		}
		var members []table.AddrSetID
		if len(stack) > 0 {
			members = slices.Clone(stack[len(stack)-1].members)
		}
		for ; i < len(rows) && rows[i].prefix == at; i++ {
			if rows[i].set != 0 {
				members = append(members, rows[i].set)
			}
		}
		slices.Sort(members)
		members = slices.Compact(members)
		stack = append(stack, level{at, members})
		if within == nil || slices.ContainsFunc(within, func(w netip.Prefix) bool { return covers(w, at) }) {
			p.enter(id, at, members)
		}
	}
}

func (p *partition) enter(realm table.RealmID, at netip.Prefix, members []table.AddrSetID) {
	addr, bits := mapPrefix(at)
	put(p.e, WeftMapWeftIdentities, WeftIdentityKey{Plen: 32 + bits, Realm: uint32(realm), Addr: addr},
		WeftIdentity{Present: present, Id: p.of(members)})
}

// of returns the number of a membership: a hash of it, so that it stays the
// same from Set to Set, or the next free number.
func (p *partition) of(members []table.AddrSetID) uint32 {
	if len(members) == 0 {
		return 0
	}
	b := make([]byte, 0, 4*len(members))
	for _, m := range members {
		b = binary.BigEndian.AppendUint32(b, uint32(m))
	}
	if i, ok := p.byMembers[string(b)]; ok {
		return i.id
	}
	h := fnv.New32a()
	h.Write(b)
	i := &identity{id: h.Sum32(), members: members}
	for p.taken[i.id] {
		i.id++
	}
	p.taken[i.id] = true
	p.byMembers[string(b)] = i
	for _, m := range members {
		p.bySet[m] = append(p.bySet[m], i)
	}
	return i.id
}
