package compile

import (
	"math/rand/v2"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// A node that gets patches has what one has that gets whole Sets, whether it
// gets each or several at once.
func TestPatchesFollow(t *testing.T) {
	for seed := range uint64(10) {
		w := world{rand.New(rand.NewPCG(seed, 3))}
		tree := intent.NewTree()
		apply(t, tree, ground())
		c := New()
		var sent, has *table.Set // what the sender took the last patch from, and what the node made of it
		for step := range 100 {
			changed, refused := tree.Apply([]intent.Change{w.change(), w.change()})
			if intent.HasErrors(refused) || step == 0 {
				changed = nil
			}
			sets, _ := c.Update(tree, changed)
			if w.IntN(3) == 0 {
				continue
			}
			set := sets["host1"]
			data, err := table.EncodePatch(table.MakePatch(sent, set))
			if err != nil {
				t.Fatal(err)
			}
			p, err := table.DecodePatch(data)
			if err != nil {
				t.Fatal(err)
			}
			if has, err = p.Apply(has); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			want, _ := table.Digest(set)
			if got, _ := table.Digest(has); got != want {
				t.Fatalf("seed %d step %d: the patched Set is another: %+v", seed, step, table.Diff(set, has))
			}
			sent = set
		}
	}
}
