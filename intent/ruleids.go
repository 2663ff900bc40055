package intent

import (
	"math/bits"
	"slices"
)

// idSet is the rule_ids that rules have, as far as they are below mostID.
type idSet []uint64

const (
	wordBits = 64
	mostID   = 1 << 24
)

// put notes whether an id is in the set.
func (s *idSet) put(id int64, in bool) {
	if id < 0 || id >= mostID {
		return
	}
	word, bit := int(id/wordBits), uint64(1)<<(id%wordBits)
	switch {
	case !in && word < len(*s):
		(*s)[word] &^= bit
	case in && word >= len(*s):
		*s = append(*s, slices.Repeat([]uint64{0}, word+1-len(*s))...)
		fallthrough
	case in:
		(*s)[word] |= bit
	}
}

// free returns the lowest number from one on, which is not negative, that is not
// in the set.
func (s idSet) free(from int64) int64 {
	below := uint64(1)<<(from%wordBits) - 1
	for word := int(from / wordBits); word < len(s); word++ {
		if holes := ^(s[word] | below); holes != 0 {
			return int64(word)*wordBits + int64(bits.TrailingZeros64(holes))
		}
		below = 0
	}
	return max(from, int64(len(s))*wordBits)
}

// FreeRuleID returns the lowest rule_id from a number on, which is not negative,
// that no rule has. Cost O(rules / 64).
func (t *Tree) FreeRuleID(from int64) int64 {
	id := t.ruleIDs.free(from)
	for t.RuleWithID(id) != "" { // beyond the set
		id++
	}
	return id
}
