package bpf

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// natList is the rows of one rule list that can match the addresses of one
// prefix. The kernel knows it by number; its numbered.key is its index key.
type natList struct {
	numbered
	at     table.NATKey
	prefix netip.Prefix
}

// nat enters every rule list under each prefix that it distinguishes: the
// longest prefix that covers an address names the rows that can match it.
func (u *update) nat() {
	e := u.e
	old, new := map[table.NATKey]natRules{}, map[table.NATKey]natRules{} // of keys that differ
	for key := range u.old.set.NAT.Differing(u.new.set.NAT) {
		old[key], new[key] = natRulesOf(u.old.set.NAT.Get(key)), natRulesOf(u.new.set.NAT.Get(key))
	}
	lists := map[*natList]bool{}
	for key, rules := range old {
		for prefix := range rules {
			l := e.lists[natIndexKey(key, prefix)]
			lists[l] = true
			if new[key][prefix] == nil {
				delete(e.lists, l.key)
				e.numbers.remove(&l.numbered)
			}
		}
	}
	for key, rules := range new {
		for prefix := range rules {
			k := natIndexKey(key, prefix)
			if e.lists[k] == nil {
				e.lists[k] = &natList{numbered{key: k}, key, prefix}
				e.numbers.add(&e.lists[k].numbered)
			}
			lists[e.lists[k]] = true
		}
	}
	for x := range e.numbers.was { // lists that made room for others
		if l := e.lists[x.key]; l != nil && !lists[l] {
			lists[l] = true
			if _, ok := old[l.at]; !ok {
				old[l.at] = natRulesOf(u.old.set.NAT.Get(l.at))
				new[l.at] = old[l.at]
			}
		}
	}
	for l := range lists {
		u.old.natList(l, old[l.at], e.numbers.before(&l.numbered))
		u.new.natList(l, new[l.at], l.id)
	}
	e.numbers.settle()
}

// natRules are the rules of a list, in order, by the prefix of the address that
// they rewrite.
type natRules map[netip.Prefix][]natRule

// natRule is a rule with its place in its list.
type natRule struct {
	order int
	rule  *table.NATRule
}

func natRulesOf(list *table.NATList) natRules {
	if list == nil {
		return nil
	}
	out := natRules{}
	for i := range list.Rules {
		r := &list.Rules[i]
		main := r.Dst
		if list.Key.Dir == table.NATOut {
			main = r.Src
		}
		if main = canonical(main); main.Bits() == 0 && main.Addr().Is6() {
			main = netip.Prefix{} // the kernel's any
		}
		out[main] = append(out[main], natRule{i, r})
	}
	return out
}

// covering returns the rules that can match an address of a prefix, in order.
func (n natRules) covering(p netip.Prefix) []natRule {
	out := slices.Clone(n[netip.Prefix{}])
	if p.IsValid() {
		for bits := range p.Bits() + 1 {
			shorter, _ := p.Addr().Prefix(bits)
			out = append(out, n[shorter]...)
		}
	}
	slices.SortFunc(out, func(a, b natRule) int { return a.order - b.order })
	return out
}

func natIndexKey(key table.NATKey, p netip.Prefix) string {
	addr, bits := mapPrefix(p)
	k := WeftNatIndexKey{Plen: 64 + bits, Vrf: uint32(key.VRF), Dir: uint32(key.Dir), Addr: addr}
	return string(memory(&k))
}

// natList enters one list under a number; nothing if rules do not have it.
func (v *view) natList(l *natList, rules natRules, id uint32) {
	if rules[l.prefix] == nil {
		return
	}
	rows := rules.covering(l.prefix)
	object := func() string {
		name := fmt.Sprintf("router %d", l.at.VRF)
		if r := v.set.VRFs.Get(l.at.VRF); r != nil {
			name = r.Path
		}
		return fmt.Sprintf("%s: NAT rows for %v", name, l.prefix)
	}
	if v.limit(len(rows), maxNATRows, "rows", object) {
		return
	}
	for i, r := range rows {
		put(v, WeftMapWeftNat, WeftNatKey{List: id, Index: uint32(i)}, natRow(r.rule))
	}
	addr, bits := mapPrefix(l.prefix)
	put(v, WeftMapWeftNatIndex, WeftNatIndexKey{Plen: 64 + bits, Vrf: uint32(l.at.VRF), Dir: uint32(l.at.Dir), Addr: addr},
		WeftNatIndex{Present: present, List: id, Count: uint32(len(rows))})
}

func natRow(r *table.NATRule) WeftNat {
	v := WeftNat{
		Present: present, Id: r.ID, Action: uint8(r.Action), Match: uint8(r.Match), Proto: r.Service.Proto,
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
