package bpf

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"

	"github.com/weft-net/weft/table"
)

// classified is a ruleset with its rules by what they ask of the remote. Rules
// are named by their index.
type classified struct {
	rs      *table.Ruleset
	any     []uint32 // for any remote
	via     []uint32 // for what came by a virtual server
	negated []uint32 // for all but some sets
	named   []naming // rules that name a set, negated or not, on either side: by set, then rule
}

type naming struct {
	set  table.AddrSetID
	rule uint32
}

func classify(rs *table.Ruleset) *classified {
	c := &classified{rs: rs}
	for i, r := range rs.Rules {
		for _, s := range r.Dst {
			c.named = append(c.named, naming{s, uint32(i)})
		}
		if r.ViaVIP {
			c.via = append(c.via, uint32(i))
			continue
		}
		if r.AnyRemote {
			c.any = append(c.any, uint32(i))
			continue
		}
		if r.NotRemote {
			c.negated = append(c.negated, uint32(i))
		}
		for _, s := range r.Remote {
			c.named = append(c.named, naming{s, uint32(i)})
		}
	}
	slices.SortFunc(c.named, func(a, b naming) int {
		return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.rule, b.rule))
	})
	return c
}

// atPort returns c if its ruleset is of the distributed firewall, else nil.
func (c *classified) atPort() *classified {
	if c == nil || c.rs.Gateway {
		return nil
	}
	return c
}

// sets returns the sets that rules name.
func (c *classified) sets() (out []table.AddrSetID) {
	if c == nil {
		return nil
	}
	for _, n := range c.named {
		if len(out) == 0 || out[len(out)-1] != n.set {
			out = append(out, n.set)
		}
	}
	return out
}

// naming returns the rules that name one of the sets, in order.
func (c *classified) naming(sets []table.AddrSetID) (out []uint32) {
	for _, s := range sets {
		i, _ := slices.BinarySearchFunc(c.named, s, func(n naming, s table.AddrSetID) int { return cmp.Compare(n.set, s) })
		for ; i < len(c.named) && c.named[i].set == s; i++ {
			out = append(out, c.named[i].rule)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// matching returns the rules that match an identity, given those that name one
// of its sets: those, and the negated ones that name none.
func (c *classified) matching(naming []uint32) []uint32 {
	out := make([]uint32, 0, len(naming))
	for _, r := range naming {
		if !c.rs.Rules[r].NotRemote {
			out = append(out, r)
		}
	}
	if len(c.negated) == 0 {
		return out
	}
	for _, r := range c.negated {
		if _, named := slices.BinarySearch(naming, r); !named {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// reclassified is a ruleset before and after; nil: there is none.
type reclassified struct{ old, new *classified }

// firewall brings identities and rules up to date, and u.rulesets.
func (u *update) firewall() {
	e := u.e
	rulesets := map[table.RulesetID]reclassified{} // that differ
	use := map[table.AddrSetID]bool{}              // whether it was used, of sets whose use may differ
	for id := range u.old.set.Rulesets.Differing(u.new.set.Rulesets) {
		c := reclassified{old: e.rulesets[id]}
		delete(e.rulesets, id)
		if rs := u.new.set.Rulesets.Get(id); rs != nil {
			c.new = classify(rs)
			e.rulesets[id] = c.new
		}
		rulesets[id] = c
		e.use(c.old, false, use)
		e.use(c.new, true, use)
	}
	u.members(use)
	u.realms()
	e.parts.divide()
	u.identities()
	affected := u.rules(rulesets)
	for id := range affected {
		u.flag(id)
	}
	e.parts.settle()
}

// use notes or forgets that a ruleset names its sets.
func (e *Encoder) use(c *classified, is bool, was map[table.AddrSetID]bool) {
	for _, s := range c.sets() {
		if _, known := was[s]; !known {
			was[s] = len(e.users[s]) > 0
		}
		switch {
		case !is:
			delete(e.users[s], c.rs.ID)
			if len(e.users[s]) == 0 {
				delete(e.users, s)
			}
		case e.users[s] == nil:
			e.users[s] = map[table.RulesetID]bool{c.rs.ID: true}
		default:
			e.users[s][c.rs.ID] = true
		}
	}
}

// rules makes the rows of rulesets that differ, and of others those for
// identities whose number differs. It returns the rulesets whose rows differ.
func (u *update) rules(differ map[table.RulesetID]reclassified) map[table.RulesetID]bool {
	affected := map[table.RulesetID]bool{}
	var gone []*identity
	for x := range u.e.parts.numbers.was {
		if x.id == 0 {
			gone = append(gone, u.e.parts.known[x.key])
		}
	}
	for id, c := range differ {
		affected[id] = true
		u.ruleset(c, gone)
	}
	for x := range u.e.parts.numbers.was {
		i := u.e.parts.known[x.key]
		if u.old.number(i) == u.new.number(i) {
			continue
		}
		users := map[table.RulesetID]bool{}
		for _, s := range i.members {
			for id := range u.e.users[s] {
				users[id] = true
			}
		}
		for id := range users {
			if _, done := differ[id]; done {
				continue
			}
			affected[id] = true
			if u.e.rulesets[id].rs.Gateway {
				continue // below
			}
			c := u.e.rulesets[id]
			u.cells(reclassified{c, c}, u.old.cellsOf(c, i), u.new.cellsOf(c, i))
		}
	}
	for id := range affected {
		u.gateway(id)
	}
	return affected
}

// ruleset makes all rows of a ruleset that differs; gone are the identities that
// have no row any more.
func (u *update) ruleset(c reclassified, gone []*identity) {
	old, new := c.old.atPort(), c.new.atPort()
	identities := map[*identity]bool{}
	for _, sets := range [][]table.AddrSetID{old.sets(), new.sets()} {
		for _, s := range sets {
			for i := range u.e.parts.bySet[s] {
				identities[i] = true
			}
		}
	}
	for _, i := range gone {
		identities[i] = true
	}
	base := func(id uint32, rules func(*classified) []uint32) {
		of := func(c *classified) cells {
			if c == nil {
				return cells{}
			}
			return cells{c, id, rules(c), false}
		}
		u.cells(c, of(old), of(new))
	}
	base(anyIdentity, func(c *classified) []uint32 { return c.any })
	base(vipIdentity, func(c *classified) []uint32 { return c.via })
	base(noIdentity, func(c *classified) []uint32 { return c.negated })
	for i := range identities {
		u.cells(c, u.old.cellsOf(old, i), u.new.cellsOf(new, i))
	}
}

// cells makes the rows of one ruleset for one identity where they differ.
func (u *update) cells(c reclassified, old, new cells) {
	if old.same(new) {
		return
	}
	wasOld, wasNew := u.old.alone, u.new.alone
	u.old.alone = u.alone(old, c.new, new, after)
	u.new.alone = u.alone(new, c.old, old, before)
	u.old.cells(old)
	u.new.cells(new)
	u.old.alone, u.new.alone = wasOld, wasNew
}

// alone reports whether the other Set, whose side is s, has no rows that share
// ruleset and number with those of c; is and of are what it has instead.
func (u *update) alone(c cells, is *classified, of cells, s side) bool {
	switch {
	case is == nil:
		return true
	case is.rs.Gateway:
		return false // its numbers are of another kind
	}
	return c.c != nil && of.c == nil && !u.e.parts.numbers.used(c.id, s)
}

// flag notes which rows a ruleset has, which tells the programs what to look up.
func (u *update) flag(id table.RulesetID) {
	flags, c := uint32(0), u.e.rulesets[id]
	if c != nil && c.rs.Gateway {
		flags = u.e.gateways[id].flags()
	} else if c != nil {
		if len(c.via) > 0 {
			flags |= hasVIP
		}
		if len(c.any) > 0 {
			flags |= hasAny
		}
		if len(c.negated) > 0 {
			flags |= hasNone
		}
		if slices.ContainsFunc(c.sets(), func(s table.AddrSetID) bool { return len(u.e.parts.bySet[s]) > 0 }) {
			flags |= hasID
		}
	}
	if was := u.e.flags[id]; was != flags {
		u.rulesets[id] = was
	}
	u.e.flags[id] = flags
	if c == nil {
		delete(u.e.flags, id)
	}
}

// cells is what the rows of one ruleset for one identity are made from.
type cells struct {
	c       *classified // nil: there are none
	id      uint32
	rules   []uint32 // that match, in order
	isKnown bool     // the identity is one that rules with others than these tell apart
}

// cellsOf returns the rules of a ruleset that ask for a remote and match an
// identity, if any rule names one of its sets. The kernel takes the smaller
// order of those and of the rules for any.
func (v *view) cellsOf(c *classified, i *identity) cells {
	id := v.number(i)
	if id == 0 || c == nil {
		return cells{}
	}
	naming := c.naming(i.members)
	if len(naming) == 0 {
		return cells{}
	}
	return cells{c, id, c.matching(naming), len(c.negated) > 0}
}

// same reports whether two have the same rows.
func (a cells) same(b cells) bool {
	if (a.c == nil) != (b.c == nil) || a.id != b.id || a.isKnown != b.isKnown || !slices.Equal(a.rules, b.rules) {
		return false
	}
	for _, r := range a.rules {
		if a.c.rs.Rules[r] != b.c.rs.Rules[r] {
			return false
		}
	}
	return true
}

// cells enters rows.
func (v *view) cells(s cells) {
	if s.c == nil {
		return
	}
	if !v.paint(s.c, s.id, s.rules) && s.isKnown {
		// No rule matches for some service: the rows for addresses without
		// identity are not for this one.
		put(v, WeftMapWeftRules, WeftRuleKey{Plen: 64, Ruleset: uint32(s.c.rs.ID), Identity: s.id}, WeftRule{Present: present})
	}
}

// paint enters the first match for every service; true if some rule is for any
// service, so that every look-up ends in a row.
func (v *view) paint(c *classified, id uint32, rules []uint32) bool {
	var painted map[uint8]*spans
	for _, i := range rules {
		r := c.rs.Rules[i]
		row := WeftRule{Present: present, Order: i + 1, Id: r.ID, Action: uint8(r.Action)}
		if r.Strict {
			row.Strict = 1
		}
		if r.Logged {
			row.Logged = 1
		}
		key := WeftRuleKey{Plen: 64, Ruleset: uint32(c.rs.ID), Identity: id}
		if len(r.Services) == 0 || slices.ContainsFunc(r.Services, func(s table.Service) bool { return s.Proto == 0 }) {
			put(v, WeftMapWeftRules, key, row)
			return true
		}
		for _, s := range r.Services {
			if painted == nil {
				painted = map[uint8]*spans{}
			}
			if painted[s.Proto] == nil {
				painted[s.Proto] = &spans{}
			}
			key.Proto = s.Proto
			for _, free := range painted[s.Proto].paint(span{uint32(s.First), uint32(s.Last)}) {
				v.prefixes(key, free, row)
			}
		}
	}
	return false
}

// prefixes enters a span of service numbers as the prefixes that make it up.
func (v *view) prefixes(key WeftRuleKey, s span, row WeftRule) {
	for at, bits := range s.prefixes() {
		key.Plen, key.Svc = 64+8+bits, [2]uint8{uint8(at >> 8), uint8(at)}
		put(v, WeftMapWeftRules, key, row)
	}
}

// span is an inclusive range of service numbers.
type span struct{ first, last uint32 }

// prefixes yields the prefixes of 16 bit that make up s, with their lengths.
func (s span) prefixes() iter.Seq2[uint32, uint32] {
	return func(yield func(at, bits uint32) bool) {
		for at := s.first; at <= s.last; {
			host := uint32(16)
			if at != 0 {
				host = min(host, uint32(bits.TrailingZeros32(at)))
			}
			for at+(1<<host)-1 > s.last {
				host--
			}
			if !yield(at, 16-host) {
				return
			}
			at += 1 << host
		}
	}
}

// spans is a set of disjoint spans in order.
type spans struct{ s []span }

// paint adds p and returns the parts of it that were not in the set.
func (s *spans) paint(p span) []span {
	i, _ := slices.BinarySearchFunc(s.s, p.first, func(x span, first uint32) int {
		if x.last < first {
			return -1
		}
		return 1
	})
	var free []span
	at, j := p.first, i
	merged := p
	for ; j < len(s.s) && s.s[j].first <= p.last; j++ {
		if at < s.s[j].first {
			free = append(free, span{at, s.s[j].first - 1})
		}
		at = s.s[j].last + 1
		merged.first = min(merged.first, s.s[j].first)
		merged.last = max(merged.last, s.s[j].last)
	}
	if at <= p.last {
		free = append(free, span{at, p.last})
	}
	s.s = slices.Replace(s.s, i, j, merged)
	return free
}
