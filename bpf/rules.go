package bpf

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/weft-net/weft/table"
)

// ranked is a rule with its place in its ruleset, from 1.
type ranked struct {
	order int
	rule  *table.Rule
}

// firewall enters identities and rules, and returns for each ruleset which
// kinds of rows it has.
func (e *encoder) firewall() map[table.RulesetID]uint32 {
	used := map[table.AddrSetID]bool{}
	for _, rs := range e.set.Rulesets {
		for _, r := range rs.Rules {
			for _, s := range r.Remote {
				used[s] = true
			}
		}
	}
	bySet := e.identities(used)
	flags := make(map[table.RulesetID]uint32, len(e.set.Rulesets))
	for id, rs := range e.set.Rulesets {
		flags[id] = e.ruleset(rs, bySet)
	}
	return flags
}

// ruleset splits the rules into those for any remote and those that ask for
// one, and enters for each identity that they tell apart the first rule for
// every service. The kernel takes the smaller order of the two parts.
func (e *encoder) ruleset(rs *table.Ruleset, bySet map[table.AddrSetID][]*identity) (flags uint32) {
	var anyRules, negated []ranked
	byIdentity := map[*identity][]ranked{}
	for i, r := range rs.Rules {
		k := ranked{i + 1, r}
		switch {
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
func matching(id *identity, touching, negated []ranked) []ranked {
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
func (e *encoder) cells(rs table.RulesetID, id uint32, rules []ranked) bool {
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
func (e *encoder) known(rs table.RulesetID, id uint32) {
	put(e, WeftMapWeftRules, WeftRuleKey{Plen: 64, Ruleset: uint32(rs), Identity: id}, WeftRule{Present: present})
}

func (e *encoder) cell(k WeftRuleKey, r ranked) {
	v := WeftRule{Present: present, Order: uint32(r.order), Id: r.rule.ID, Action: uint8(r.rule.Action)}
	if r.rule.Strict {
		v.Strict = 1
	}
	put(e, WeftMapWeftRules, k, v)
}

// prefixes enters a span of service numbers as the prefixes that make it up.
func (e *encoder) prefixes(rs table.RulesetID, id uint32, proto uint8, s span, r ranked) {
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

// span is an inclusive range of service numbers.
type span struct{ first, last uint32 }

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
