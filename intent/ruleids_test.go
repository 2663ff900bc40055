package intent

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestFreeRuleID holds the set against a search through the rules, while rules
// come, go and change.
func TestFreeRuleID(t *testing.T) {
	tree := NewTree()
	const policy = "/infra/domains/default/security-policies/p"
	put := func(changes ...Change) {
		t.Helper()
		if _, problems := tree.Apply(changes); HasErrors(problems) {
			t.Log(problems) // two rules with one id: nothing changes
		}
	}
	put(Put(policy, &SecurityPolicy{Category: "Application"}))
	random := rand.New(rand.NewPCG(1, 2))
	ids := []int64{0, 1, 2, 63, 64, 65, 127, 128, 1001, 1002, 1003, mostID - 1, mostID, mostID + 1}
	for range 2000 {
		path := fmt.Sprintf("%s/rules/r%d", policy, random.IntN(20))
		if random.IntN(3) == 0 {
			put(Delete(path))
		} else {
			put(Put(path, &Rule{Action: "ALLOW", RuleID: ids[random.IntN(len(ids))]}))
		}
		for _, from := range []int64{0, 1, 63, 64, 1001, 1002, mostID - 1, mostID} {
			want := from
			for tree.RuleWithID(want) != "" {
				want++
			}
			if got := tree.FreeRuleID(from); got != want {
				t.Fatalf("from %d: %d, want %d", from, got, want)
			}
		}
	}
}
