package bpf

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// naive encodes a whole Set at once: what the Encoder is judged by. The
// distributed firewall and NAT are made in the plainest way, the other rows by
// an Encoder that holds nothing else.
func naive(set *table.Set, devices map[table.PortID]Device, hash func(string) uint32) (Tables, map[table.RulesetID]uint32, error) {
	tables, err := encode(newEncoder(hash), set, devices)
	if err != nil {
		return nil, nil, err
	}
	e := plain{set: set, hash: hash, tables: tables}
	for _, name := range []string{WeftMapWeftNatIndex, WeftMapWeftNat, WeftMapWeftIdentities} {
		tables[name] = Entries{}
	}
	maps.DeleteFunc(tables[WeftMapWeftRules], func(key string, _ []byte) bool {
		rs := set.Rulesets.Get(table.RulesetID(binary.NativeEndian.Uint32([]byte(key[4:]))))
		return rs == nil || !rs.Gateway
	})
	e.nat()
	return tables, e.firewall(), nil
}

// choose numbers keys in order: each takes its hash, or the next free number.
func choose(hash func(string) uint32, keys []string, never ...uint32) map[string]uint32 {
	taken := map[uint32]bool{}
	for _, id := range never {
		taken[id] = true
	}
	out := map[string]uint32{}
	slices.Sort(keys)
	for _, k := range keys {
		id := hash(k)
		for taken[id] {
			id++
		}
		taken[id], out[k] = true, id
	}
	return out
}

// copied returns the bytes of a map key or value.
func copied[T any](v *T) []byte {
	return slices.Clone(memory(v))
}

// plain makes the rows that naive does not take from an Encoder.
type plain struct {
	set    *table.Set
	hash   func(string) uint32
	tables Tables
}

// putPlain enters a row.
func putPlain[K, V any](e *plain, name string, k K, v V) {
	e.tables[name][string(copied(&k))] = copied(&v)
}

// nat enters every rule list under each prefix that it distinguishes.
func (e *plain) nat() {
	var keys []string
	for key, list := range e.set.NAT.All() {
		for _, p := range natPrefixes(list) {
			keys = append(keys, natIndexKey(key, p))
		}
	}
	numbers := choose(e.hash, keys, 0)
	for key, list := range e.set.NAT.All() {
		for _, p := range natPrefixes(list) {
			e.natList(key, list, p, numbers[natIndexKey(key, p)])
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

func (e *plain) natList(key table.NATKey, list *table.NATList, p netip.Prefix, id uint32) {
	addr, bits := mapPrefix(p)
	ik := WeftNatIndexKey{Plen: 64 + bits, Vrf: uint32(key.VRF), Dir: uint32(key.Dir), Addr: addr}
	n := 0
	for i := range list.Rules {
		r := &list.Rules[i]
		if !covers(natMain(key.Dir, r), p) {
			continue
		}
		putPlain(e, WeftMapWeftNat, WeftNatKey{List: id, Index: uint32(n)}, natRow(r))
		n++
	}
	putPlain(e, WeftMapWeftNatIndex, ik, WeftNatIndex{Present: present, List: id, Count: uint32(n)})
}

// identities partitions the addresses of all realms by the used sets, enters
// the partition, and returns the identities that each set is part of.
func (e *plain) identities(used map[table.AddrSetID]bool) map[table.AddrSetID][]*naiveIdentity {
	p := naivePartition{e: e, byMembers: map[string]*naiveIdentity{}, bySet: map[table.AddrSetID][]*naiveIdentity{}}
	rows := map[table.RealmID][]setPrefix{}
	for id := range used {
		s := e.set.AddrSets.Get(id)
		if s == nil {
			continue
		}
		for _, a := range s.Addrs {
			rows[a.Realm] = append(rows[a.Realm], setPrefix{a.Prefix, id})
		}
	}
	p.realm(0, nil, append(rows[0], rows[table.AnyRealm]...))
	for _, id := range slices.Sorted(e.set.Realms.Keys()) { // in order: numbers must not depend on the map's
		r := e.set.Realms.Get(id)
		p.realm(id, r.Prefixes, append(slices.Clone(rows[id]), rows[table.AnyRealm]...))
	}
	p.number()
	return p.bySet
}

// setPrefix says that a set holds a prefix; set 0 marks a prefix of a realm.
type setPrefix struct {
	prefix netip.Prefix
	set    table.AddrSetID
}

type naivePartition struct {
	e         *plain
	byMembers map[string]*naiveIdentity
	bySet     map[table.AddrSetID][]*naiveIdentity
	rows      []naiveRow
}

// realm enters one realm. An address belongs to the sets of every prefix that
// covers it, so walking the prefixes in order with a stack of the covering
// ones gives each prefix its memberships. within limits what is entered to the
// realm's own prefixes; nil: everything.
func (p *naivePartition) realm(id table.RealmID, within []netip.Prefix, rows []setPrefix) {
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

func (p *naivePartition) enter(realm table.RealmID, at netip.Prefix, members []table.AddrSetID) {
	addr, bits := mapPrefix(at)
	p.rows = append(p.rows, naiveRow{WeftIdentityKey{Plen: 32 + bits, Realm: uint32(realm), Addr: addr}, p.of(members)})
}

// of returns the identity of a membership; nil: of none.
func (p *naivePartition) of(members []table.AddrSetID) *naiveIdentity {
	if len(members) == 0 {
		return nil
	}
	b := make([]byte, 0, 4*len(members))
	for _, m := range members {
		b = binary.BigEndian.AppendUint32(b, uint32(m))
	}
	if i, ok := p.byMembers[string(b)]; ok {
		return i
	}
	i := &naiveIdentity{}
	p.byMembers[string(b)] = i
	for _, m := range members {
		p.bySet[m] = append(p.bySet[m], i)
	}
	return i
}

// naiveIdentity is known by its number alone.
type naiveIdentity struct{ id uint32 }

type naiveRow struct {
	key WeftIdentityKey
	id  *naiveIdentity
}

// number enters the rows when all identities are known.
func (p *naivePartition) number() {
	for key, id := range choose(p.e.hash, slices.Collect(maps.Keys(p.byMembers)), 0, anyIdentity) {
		p.byMembers[key].id = id
	}
	for _, r := range p.rows {
		v := WeftIdentity{Present: present}
		if r.id != nil {
			v.Id = r.id.id
		}
		putPlain(p.e, WeftMapWeftIdentities, r.key, v)
	}
}

// ranked is a rule with its place in its ruleset, from 1.
type ranked struct {
	order int
	rule  *table.Rule
}

// firewall enters identities and rules, and returns for each ruleset which
// kinds of rows it has.
func (e *plain) firewall() map[table.RulesetID]uint32 {
	used := map[table.AddrSetID]bool{}
	for _, rs := range e.set.Rulesets.All() {
		for _, r := range rs.Rules {
			for _, s := range slices.Concat(r.Remote, r.Dst) {
				used[s] = true
			}
		}
	}
	bySet := e.identities(used)
	flags := make(map[table.RulesetID]uint32, e.set.Rulesets.Len())
	for id, rs := range e.set.Rulesets.All() {
		if !rs.Gateway {
			flags[id] = e.ruleset(rs, bySet)
		}
	}
	return flags
}

// ruleset splits the rules into those for any remote and those that ask for
// one, and enters for each identity that they tell apart the first rule for
// every service. The kernel takes the smaller order of the two parts.
func (e *plain) ruleset(rs *table.Ruleset, bySet map[table.AddrSetID][]*naiveIdentity) (flags uint32) {
	var anyRules, viaRules, negated []ranked
	byIdentity := map[*naiveIdentity][]ranked{}
	for i, r := range rs.Rules {
		k := ranked{i + 1, r}
		switch {
		case r.ViaVIP:
			viaRules = append(viaRules, k)
		case r.AnyRemote:
			anyRules = append(anyRules, k)
		case r.NotRemote:
			negated = append(negated, k)
			fallthrough
		default:
			for _, s := range r.Remote {
				for _, id := range bySet[s] {
					if l := byIdentity[id]; len(l) == 0 || l[len(l)-1].order != k.order {
						byIdentity[id] = append(l, k)
					}
				}
			}
		}
	}
	if len(anyRules) > 0 {
		flags |= hasAny
		e.cells(rs.ID, anyIdentity, anyRules)
	}
	if len(viaRules) > 0 {
		flags |= hasVIP
		e.cells(rs.ID, vipIdentity, viaRules)
	}
	if len(negated) > 0 {
		flags |= hasNone
		e.cells(rs.ID, noIdentity, negated)
	}
	for id, touching := range byIdentity {
		flags |= hasID
		if !e.cells(rs.ID, id.id, matching(id, touching, negated)) && len(negated) > 0 {
			e.known(rs.ID, id.id)
		}
	}
	return flags
}

// matching merges the rules that name one of id's sets with the negated ones
// that name none.
func matching(id *naiveIdentity, touching, negated []ranked) []ranked {
	out := make([]ranked, 0, len(touching))
	named := map[int]bool{}
	for _, k := range touching {
		named[k.order] = true
		if !k.rule.NotRemote {
			out = append(out, k)
		}
	}
	for _, k := range negated {
		if !named[k.order] {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b ranked) int { return cmp.Compare(a.order, b.order) })
	return out
}

// cells enters the first match for every service; true if some rule is for any
// service, so that every look-up ends in a row.
func (e *plain) cells(rs table.RulesetID, id uint32, rules []ranked) bool {
	painted := map[uint8]*spans{}
	for _, k := range rules {
		if len(k.rule.Services) == 0 || slices.ContainsFunc(k.rule.Services, func(s table.Service) bool { return s.Proto == 0 }) {
			e.cell(WeftRuleKey{Plen: 64, Ruleset: uint32(rs), Identity: id}, k)
			return true
		}
		for _, s := range k.rule.Services {
			if painted[s.Proto] == nil {
				painted[s.Proto] = &spans{}
			}
			for _, free := range painted[s.Proto].paint(span{uint32(s.First), uint32(s.Last)}) {
				e.prefixes(rs, id, s.Proto, free, k)
			}
		}
	}
	return false
}

// known says that the identity is one that the ruleset tells apart, though no
// rule matches: the rows for addresses without identity are not for it.
func (e *plain) known(rs table.RulesetID, id uint32) {
	putPlain(e, WeftMapWeftRules, WeftRuleKey{Plen: 64, Ruleset: uint32(rs), Identity: id}, WeftRule{Present: present})
}

func (e *plain) cell(k WeftRuleKey, r ranked) {
	v := WeftRule{Present: present, Order: uint32(r.order), Id: r.rule.ID, Action: uint8(r.rule.Action)}
	if r.rule.Strict {
		v.Strict = 1
	}
	putPlain(e, WeftMapWeftRules, k, v)
}

// prefixes enters a span of service numbers as the prefixes that make it up.
func (e *plain) prefixes(rs table.RulesetID, id uint32, proto uint8, s span, r ranked) {
	for at := s.first; at <= s.last; {
		host := uint32(16)
		if at != 0 {
			host = min(host, uint32(bits.TrailingZeros32(at)))
		}
		for at+(1<<host)-1 > s.last {
			host--
		}
		e.cell(WeftRuleKey{
			Plen: 64 + 8 + 16 - host, Ruleset: uint32(rs), Identity: id, Proto: proto,
			Svc: [2]uint8{uint8(at >> 8), uint8(at)},
		}, r)
		at += 1 << host
	}
}
