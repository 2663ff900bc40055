package bpf

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// nat enters every rule list under each prefix that it distinguishes: the
// longest prefix that covers an address names the rows that can match it.
func (e *encoder) nat() {
	// in order, so that list numbers do not depend on that of the map
	keys := slices.SortedFunc(maps.Keys(e.set.NAT), table.NATKey.Compare)
	for _, key := range keys {
		list := e.set.NAT[key]
		for _, p := range natPrefixes(list) {
			e.natList(key, list, p)
		}
	}
}

// natMain returns the prefix of the address that a row rewrites.
func natMain(dir table.NATDir, r *table.NATRule) netip.Prefix {
	if dir == table.NATOut {
		return r.Src
	}
	return r.Dst
}

func natPrefixes(list *table.NATList) []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	for i := range list.Rules {
		seen[natMain(list.Key.Dir, &list.Rules[i])] = true
	}
	out := make([]netip.Prefix, 0, len(seen))
	for p := range seen {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

// covers reports whether every address of b is one of a; invalid is any.
func covers(a, b netip.Prefix) bool {
	if !a.IsValid() {
		return true
	}
	return b.IsValid() && a.Bits() <= b.Bits() && a.Contains(b.Addr())
}

func (e *encoder) natList(key table.NATKey, list *table.NATList, p netip.Prefix) {
	addr, bits := mapPrefix(p)
	ik := WeftNatIndexKey{Plen: 64 + bits, Vrf: uint32(key.VRF), Dir: uint32(key.Dir), Addr: addr}
	id := e.freeList(raw(&ik))
	n := 0
	for i := range list.Rules {
		r := &list.Rules[i]
		if !covers(natMain(key.Dir, r), p) {
			continue
		}
		put(e, WeftMapWeftNat, WeftNatKey{List: id, Index: uint32(n)}, natRow(r))
		n++
	}
	object := fmt.Sprintf("%s: NAT rows for %v", e.set.VRFs[key.VRF].Path, p)
	if e.limit(object, "rows", n, maxNATRows) {
		return
	}
	put(e, WeftMapWeftNatIndex, ik, WeftNatIndex{Present: present, List: id, Count: uint32(n)})
}

// freeList picks a list number for an index key: its hash, or the next one
// that no other list of this Set has.
func (e *encoder) freeList(key []byte) uint32 {
	h := fnv.New32a()
	h.Write(key)
	for id := h.Sum32(); ; id++ {
		k := WeftNatKey{List: id}
		if _, taken := e.tables[WeftMapWeftNat][string(raw(&k))]; !taken {
			return id
		}
	}
}

func natRow(r *table.NATRule) WeftNat {
	v := WeftNat{
		Present: present, Id: r.ID, Action: uint8(r.Action), Proto: r.Service.Proto,
		First: r.Service.First, Last: r.Service.Last,
		ToPort: r.ToPort, PortFirst: r.PortFirst, PortLast: r.PortLast, Iface: uint32(r.Iface),
	}
	if r.Service == (table.Service{}) {
		v.Last = 65535
	}
	var bits uint32
	v.Src, bits = mapPrefix(r.Src)
	v.SrcPlen = uint8(bits)
	v.Dst, bits = mapPrefix(r.Dst)
	v.DstPlen = uint8(bits)
	if r.OneToOne {
		v.OneToOne = 1
	}
	if r.To.IsValid() {
		v.To, bits = mapPrefix(r.To)
		v.HostMask = hostMask(bits)
	}
	return v
}

// hostMask is the host bits of a prefix that lie in the address's last word:
// a pool varies at most 2³² addresses.
func hostMask(bits uint32) uint32 {
	if bits <= 96 {
		return ^uint32(0)
	}
	return uint32(uint64(1)<<(128-bits) - 1)
}
