package bpf

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/weft-net/weft/table"
)

// The bounds of one gateway ruleset: pairs of classes, and rules in all their
// lists together, before equal lists are joined.
const (
	maxPairs  = 1 << 16
	maxListed = 1 << 20
)

// gatewayRules is a gateway's ruleset in the kernel's form. Identities fall into
// classes by the rules whose source, or destination, they match; class 0 is
// that of the addresses that no rule names. Each pair of classes has the list
// of the rules that match both.
type gatewayRules struct {
	c     *classified
	sides [2]classes // source, destination
	pairs map[pair]uint32
	lists map[uint32][]uint32 // by number
}

// classes are one side's.
type classes struct {
	of    map[uint32]uint32   // by number of an identity; class 0 is left out
	rules map[uint32][]uint32 // by class: those that match
}

// pair is a class of sources and one of destinations.
type pair struct{ src, dst uint32 }

// flags says which sides have to be looked up.
func (g *gatewayRules) flags() (flags uint32) {
	if g == nil {
		return 0
	}
	if len(g.sides[0].of) > 0 {
		flags |= hasSrc
	}
	if len(g.sides[1].of) > 0 {
		flags |= hasDst
	}
	return flags
}

// gateway brings the rows of a gateway's ruleset up to date, if id is one.
func (u *update) gateway(id table.RulesetID) {
	old := u.e.gateways[id]
	delete(u.e.gateways, id)
	if old != nil {
		u.old.gateway(id, old)
	}
	if c := u.e.rulesets[id]; c != nil && c.rs.Gateway {
		g := u.new.gatewayRules(c)
		if g == nil {
			return // beyond the limits
		}
		u.e.gateways[id] = g
		u.new.gateway(id, g)
	}
}

// gateway enters the rows of a gateway's ruleset.
func (v *view) gateway(id table.RulesetID, g *gatewayRules) {
	for dst, side := range g.sides {
		for identity, class := range side.of {
			put(v, WeftMapWeftClasses, WeftClassKey{Ruleset: uint32(id), Identity: identity, Dst: uint32(dst)}, WeftClass{Present: present, Id: class})
		}
	}
	for p, list := range g.pairs {
		put(v, WeftMapWeftPairs, WeftPairKey{Ruleset: uint32(id), Src: p.src, Dst: p.dst}, WeftPair{Present: present, List: list})
	}
	for list, rules := range g.lists {
		v.paint(g.c, list, rules)
	}
}

// gatewayRules divides the rules of c; nil if there are too many pairs.
func (v *view) gatewayRules(c *classified) *gatewayRules {
	g := &gatewayRules{c: c, pairs: map[pair]uint32{}, lists: map[uint32][]uint32{}}
	g.sides[0] = v.classes(c, func(r *table.Rule) matcher { return matcher{r.AnyRemote, r.NotRemote, r.Remote} })
	g.sides[1] = v.classes(c, func(r *table.Rule) matcher { return matcher{r.Dst == nil, r.NotDst, r.Dst} })
	n := len(g.sides[0].rules) * len(g.sides[1].rules)
	if v.limit(n, maxPairs, "pairs of source and destination groups", func() string { return c.rs.Name }) {
		return nil
	}
	byPair := map[pair][]uint32{}
	var all [][]uint32
	listed := 0
	for src, a := range g.sides[0].rules {
		for dst, b := range g.sides[1].rules {
			if both := common(a, b); len(both) > 0 {
				byPair[pair{src, dst}] = both
				all = append(all, both)
				listed += len(both)
			}
			if v.limit(listed, maxListed, "rules for its pairs of groups", func() string { return c.rs.Name }) {
				return nil
			}
		}
	}
	numbers := numbersOf(all)
	for p, rules := range byPair {
		list := numbers[string(listKey(rules))]
		g.pairs[p], g.lists[list] = list, rules
	}
	return g
}

// matcher is one side of a rule.
type matcher struct {
	any, not bool
	sets     []table.AddrSetID
}

// matches reports whether an address that is in some sets, sorted, matches.
func (m matcher) matches(sets []table.AddrSetID) bool {
	if m.any {
		return true
	}
	return m.not != slices.ContainsFunc(m.sets, func(s table.AddrSetID) bool {
		_, in := slices.BinarySearch(sets, s)
		return in
	})
}

// classes divides the identities of the sets that one side of c's rules names.
func (v *view) classes(c *classified, side func(*table.Rule) matcher) classes {
	none := matchingRules(c, side, nil)
	byIdentity := map[uint32]string{} // list keys
	lists := map[string][]uint32{}    // each once
	for _, set := range c.sets() {
		for i := range v.u.e.parts.bySet[set] {
			id := v.number(i)
			if _, done := byIdentity[id]; done || id == 0 {
				continue
			}
			rules := matchingRules(c, side, i.members)
			if slices.Equal(rules, none) {
				continue
			}
			key := string(listKey(rules))
			if lists[key] == nil {
				lists[key] = rules
				if v.limit(len(lists), maxPairs, "classes of groups", func() string { return c.rs.Name }) {
					return classes{}
				}
			}
			byIdentity[id] = key
		}
	}
	out := classes{of: map[uint32]uint32{}, rules: map[uint32][]uint32{0: none}}
	numbers := numbersOf(slices.Collect(maps.Values(lists)))
	for id, key := range byIdentity {
		n := numbers[key]
		out.of[id], out.rules[n] = n, lists[key]
	}
	return out
}

// matchingRules returns the rules, never nil, whose side matches.
func matchingRules(c *classified, side func(*table.Rule) matcher, sets []table.AddrSetID) []uint32 {
	out := []uint32{}
	for i, r := range c.rs.Rules {
		if side(r).matches(sets) {
			out = append(out, uint32(i))
		}
	}
	return out
}

// common returns what two sorted lists have both.
func common(a, b []uint32) (out []uint32) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return out
}

// numbersOf gives each different list a number, not 0, by its hash: the same
// lists get the same numbers, in whatever order they come.
func numbersOf(lists [][]uint32) map[string]uint32 {
	keys := make([]string, 0, len(lists))
	for _, l := range lists {
		keys = append(keys, string(listKey(l)))
	}
	slices.SortFunc(keys, strings.Compare)
	keys = slices.Compact(keys)
	out, taken := make(map[string]uint32, len(keys)), map[uint32]bool{0: true}
	for _, k := range keys {
		h := fnv.New32a()
		h.Write([]byte(k))
		n := h.Sum32()
		for taken[n] {
			n++
		}
		taken[n], out[k] = true, n
	}
	return out
}

func listKey(rules []uint32) []byte {
	out := make([]byte, 0, 4*len(rules))
	for _, r := range rules {
		out = binary.BigEndian.AppendUint32(out, r)
	}
	return out
}
