package writer

import (
	"github.com/weft-net/weft/intent"
)

// firstRuleID is the lowest rule_id given out; those below are of defaults and
// of people.
const firstRuleID = 1001

// AssignRuleIDs gives each rule, with its path, a rule_id: the one that the rule
// at the path has, else the lowest that no rule of the tree and none of rules
// has. It is called within a commit, so that an id is one rule's and stays with
// it, whatever becomes of others. A rule that has an id keeps it.
func AssignRuleIDs(t *intent.Tree, rules ...*intent.Rule) {
	taken := map[int64]bool{}
	var unnumbered []*intent.Rule
	for _, r := range rules {
		if there, ok := intent.Find[*intent.Rule](t, r.Path); ok && r.RuleID == 0 {
			r.RuleID = there.RuleID
		}
		if r.RuleID == 0 {
			unnumbered = append(unnumbered, r)
			continue
		}
		taken[r.RuleID] = true
	}
	next := int64(firstRuleID)
	for _, r := range unnumbered {
		for next = t.FreeRuleID(next); taken[next]; next = t.FreeRuleID(next + 1) {
		}
		r.RuleID = next
		next++
	}
}
