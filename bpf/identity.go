package bpf

import (
	"encoding/binary"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/weft-net/weft/table"
)

// An identity is a set of address sets that some addresses are in, so that the
// kernel finds all memberships of an address with one look-up.
type identity struct {
	numbered                   // key: members; a number iff rows is not 0
	members  []table.AddrSetID // sorted
	rows     int               // rows of the kernel that have it
	places   int               // places that have these sets of their own
}

// partition divides the addresses of each realm by the used sets that they are
// in. It has a place for every prefix of such a set and of a realm; the place
// with the longest prefix that covers an address has the address's identity.
type partition struct {
	realms  map[table.RealmID]*bart.Table[*place] // AnyRealm: prefixes that hold in every realm
	known   map[string]*identity                  // by key
	bySet   map[table.AddrSetID]map[*identity]bool
	numbers numbers

	// What an update has changed so far.
	stale   []at
	changed []row
	touched map[*identity]bool
}

// at is a prefix within a realm.
type at = table.RealmPrefix

// place is one prefix of a realm.
type place struct {
	own      *identity // the sets that hold this very prefix; nil: none
	id       *identity // of its row; nil: none
	isRow    bool      // the kernel has a row for it
	marks    bool      // it is one of the realm's own prefixes
	isStale  bool      // what covers it may have changed
	isListed bool      // partition.changed has it
}

// row is a row of the kernel as it was before the update.
type row struct {
	at
	wasRow bool
	was    *identity
}

func newPartition(hash func(string) uint32) partition {
	return partition{
		realms:  map[table.RealmID]*bart.Table[*place]{0: {}, table.AnyRealm: {}},
		known:   map[string]*identity{},
		bySet:   map[table.AddrSetID]map[*identity]bool{},
		numbers: newNumbers(hash, 0, anyIdentity, vipIdentity),
		touched: map[*identity]bool{},
	}
}

func (p *partition) tree(r table.RealmID) *bart.Table[*place] {
	if p.realms[r] == nil {
		p.realms[r] = &bart.Table[*place]{}
	}
	return p.realms[r]
}

// place returns the place of a prefix, which is made if it is missing.
func (p *partition) place(a at) *place {
	t := p.tree(a.Realm)
	n, ok := t.Get(a.Prefix)
	if !ok {
		n = &place{}
		t.Insert(a.Prefix, n)
	}
	return n
}

// note has everything below a judged again.
func (p *partition) note(a at, n *place) {
	if !n.isStale {
		n.isStale = true
		p.stale = append(p.stale, a)
	}
}

// edit puts a prefix into a set or takes it out.
func (p *partition) edit(a at, set table.AddrSetID, put bool) {
	n := p.place(a)
	var members []table.AddrSetID
	if n.own != nil {
		members = n.own.members
	}
	i, ok := slices.BinarySearch(members, set)
	if ok == put {
		return
	}
	members = slices.Clone(members)
	if put {
		members = slices.Insert(members, i, set)
	} else {
		members = slices.Delete(members, i, i+1)
	}
	own := p.of(members)
	p.count(n.own, 0, -1)
	p.count(own, 0, 1)
	n.own = own
	p.note(a, n)
}

// mark says that a is one of its realm's own prefixes, or no longer.
func (p *partition) mark(a at, is bool) {
	n := p.place(a)
	n.marks = is
	p.note(a, n)
}

// of returns the identity with these members; nil if there are none.
func (p *partition) of(members []table.AddrSetID) *identity {
	if len(members) == 0 {
		return nil
	}
	key := make([]byte, 0, 64)
	for _, m := range members {
		key = binary.BigEndian.AppendUint32(key, uint32(m))
	}
	i := p.known[string(key)]
	if i == nil {
		i = &identity{numbered: numbered{key: string(key)}, members: members}
		p.known[i.key] = i
		p.touched[i] = true
	}
	return i
}

func (p *partition) count(i *identity, rows, places int) {
	if i == nil {
		return
	}
	i.rows += rows
	i.places += places
	p.touched[i] = true
}

// divide judges again what edits and marks concern, and numbers identities.
func (p *partition) divide() {
	stale := p.stale
	for _, a := range stale {
		switch a.Realm {
		case table.AnyRealm:
			for r := range p.realms {
				p.enter(at{Realm: r, Prefix: a.Prefix})
			}
		case 0:
		default: // its own prefixes may differ
			for prefix := range p.realms[table.AnyRealm].Subnets(a.Prefix) {
				p.enter(at{Realm: a.Realm, Prefix: prefix})
			}
		}
	}
	for _, a := range stale {
		if a.Realm != table.AnyRealm {
			p.below(a)
			continue
		}
		for r := range p.realms {
			if r != table.AnyRealm {
				p.below(at{Realm: r, Prefix: a.Prefix})
			}
		}
	}
	p.number()
}

// enter makes the place of a prefix that holds in every realm, in one where it
// may be a row.
func (p *partition) enter(a at) {
	within := a.Realm == 0
	for _, c := range p.realms[a.Realm].Supernets(a.Prefix) {
		within = within || c.marks
	}
	if within {
		p.place(a)
	}
}

// below judges a and all places that it covers.
func (p *partition) below(a at) {
	for prefix, n := range p.realms[a.Realm].Subnets(a.Prefix) {
		p.judge(at{Realm: a.Realm, Prefix: prefix}, n)
	}
}

// judge finds the identity of a place: the sets of every place that covers it,
// in its realm and in all.
func (p *partition) judge(a at, n *place) {
	within, here := a.Realm == 0, n.own != nil || n.marks
	var sum [8]*identity
	owns := sum[:0]
	for _, c := range p.realms[a.Realm].Supernets(a.Prefix) {
		within = within || c.marks
		if c.own != nil {
			owns = append(owns, c.own)
		}
	}
	for prefix, c := range p.realms[table.AnyRealm].Supernets(a.Prefix) {
		if c.own != nil {
			owns = append(owns, c.own)
			here = here || prefix == a.Prefix
		}
	}
	isRow, id := within && here, (*identity)(nil)
	if isRow {
		id = p.union(owns)
	}
	if isRow == n.isRow && id == n.id {
		if !isRow {
			p.list(a, n) // to be removed if nothing needs it
		}
		return
	}
	p.list(a, n)
	p.count(n.id, -1, 0)
	p.count(id, 1, 0)
	n.isRow, n.id = isRow, id
}

// list notes the row as it was before the update.
func (p *partition) list(a at, n *place) {
	if !n.isListed {
		n.isListed = true
		p.changed = append(p.changed, row{a, n.isRow, n.id})
	}
}

// union returns the identity that has the members of all.
func (p *partition) union(all []*identity) *identity {
	if len(all) == 0 {
		return nil
	}
	same := true
	for _, i := range all[1:] {
		same = same && i == all[0]
	}
	if same {
		return all[0]
	}
	var members []table.AddrSetID
	for _, i := range all {
		members = append(members, i.members...)
	}
	slices.Sort(members)
	return p.of(slices.Compact(members))
}

// number gives numbers to identities that came to have rows, takes those of
// others, and lists the rows of those that had to make room.
func (p *partition) number() {
	for i := range p.touched {
		if i.rows == 0 && i.id != 0 {
			p.numbers.remove(&i.numbered)
			p.index(i, false)
		}
	}
	for i := range p.touched {
		if i.rows > 0 && i.id == 0 {
			p.numbers.add(&i.numbered)
			p.index(i, true)
		}
	}
	moved := map[*identity]bool{}
	for x, was := range p.numbers.was {
		if i := p.known[x.key]; was != 0 && x.id != 0 && was != x.id {
			p.touched[i], moved[i] = true, true
		}
	}
	if len(moved) == 0 {
		return
	}
	for r, t := range p.realms { // hashes seldom meet, so rows have no index by identity
		for prefix, n := range t.All() {
			if moved[n.id] {
				p.list(at{Realm: r, Prefix: prefix}, n)
			}
		}
	}
}

// index enters an identity that has rows under each of its members.
func (p *partition) index(i *identity, put bool) {
	for _, m := range i.members {
		switch {
		case !put:
			delete(p.bySet[m], i)
			if len(p.bySet[m]) == 0 {
				delete(p.bySet, m)
			}
		case p.bySet[m] == nil:
			p.bySet[m] = map[*identity]bool{i: true}
		default:
			p.bySet[m][i] = true
		}
	}
}

// number returns the identity's number of one side of an update; 0: it has none.
func (v *view) number(i *identity) uint32 {
	if v.side == before {
		return v.u.e.parts.numbers.before(&i.numbered)
	}
	return i.id
}

// identity enters one row.
func (v *view) identity(a at, i *identity) {
	id := uint32(0)
	if i != nil {
		id = v.number(i)
	}
	addr, bits := mapPrefix(a.Prefix)
	put(v, WeftMapWeftIdentities, WeftIdentityKey{Plen: 32 + bits, Realm: uint32(a.Realm), Addr: addr}, WeftIdentity{Present: present, Id: id})
}

// identities enters the rows that the update changed.
func (u *update) identities() {
	p := &u.e.parts
	for _, r := range p.changed {
		if r.wasRow {
			u.old.identity(r.at, r.was)
		}
		if n, _ := p.realms[r.Realm].Get(r.Prefix); n.isRow {
			u.new.identity(r.at, n.id)
		}
	}
}

// settle forgets what the update changed, and what nothing needs any more.
func (p *partition) settle() {
	for _, a := range p.stale {
		p.prune(a)
	}
	for _, r := range p.changed {
		p.prune(r.at)
	}
	for i := range p.touched {
		if i.rows == 0 && i.places == 0 {
			delete(p.known, i.key)
		}
	}
	p.stale, p.changed = nil, nil
	clear(p.touched)
	p.numbers.settle()
}

// prune removes a place that is neither a row nor says what others are in.
func (p *partition) prune(a at) {
	t := p.realms[a.Realm]
	if t == nil {
		return
	}
	n, ok := t.Get(a.Prefix)
	if !ok {
		return
	}
	n.isStale, n.isListed = false, false
	if n.isRow || n.own != nil || n.marks {
		return
	}
	t.Delete(a.Prefix)
	if a.Realm != 0 && a.Realm != table.AnyRealm && t.Size() == 0 {
		delete(p.realms, a.Realm)
	}
}
