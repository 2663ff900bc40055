package scenario_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/table"
)

// TestCompile proves that the tables are a function of the intent alone.
func TestCompile(t *testing.T) {
	play(t, false, func(t testing.TB, _ string) scenario.Proof { return &ordered{scenario.NewPredicted()} })
}

type ordered struct{ *scenario.Predicted }

// Changed makes the intent again in other ways and compares the tables.
func (o *ordered) Changed(w *scenario.World, files []scenario.File) error {
	want, err := table.Encode(w.Set)
	if err != nil {
		return err
	}
	var changes []intent.Change
	for _, object := range w.Tree.All() {
		changes = append(changes, intent.Change{Path: object.Meta().Path, Object: object})
	}
	for _, way := range ways(changes) {
		got, err := replay(way.batches)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s: the tables differ:\n%s\nwant\n%s", way.name, got, want)
		}
	}
	return o.Predicted.Changed(w, files)
}

// way is an order of changes, in batches.
type way struct {
	name    string
	batches [][]intent.Change
}

func ways(changes []intent.Change) []way {
	reversed := slices.Clone(changes)
	slices.Reverse(reversed)
	shuffled := slices.Clone(changes)
	r := rand.New(rand.NewPCG(1, uint64(len(changes))))
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	var deletions []intent.Change
	first := intent.NewTree()
	for _, c := range changes {
		if o := first.Get(c.Path); o != nil {
			deletions = append(deletions, intent.Change{Path: c.Path, Object: o})
		} else {
			deletions = append(deletions, intent.Delete(c.Path))
		}
	}
	return []way{
		{"in order", [][]intent.Change{changes}},
		{"reversed", [][]intent.Change{reversed}},
		{"shuffled", [][]intent.Change{shuffled}},
		{"doubled", [][]intent.Change{shuffled, reversed}},
		{"doubled in one", [][]intent.Change{slices.Concat(reversed, changes)}},
		{"with an empty state between", [][]intent.Change{changes, deletions, shuffled}},
	}
}

// replay makes batches on a new Tree, compiles after each and returns the last
// tables.
func replay(batches [][]intent.Change) ([]byte, error) {
	tree, compiler := intent.NewTree(), compile.New()
	sets, _ := compiler.Update(tree, nil)
	for _, batch := range batches {
		changed, problems := tree.Apply(batch)
		if intent.HasErrors(problems) {
			return nil, fmt.Errorf("%s", problems[0])
		}
		if len(changed) > 0 {
			sets, _ = compiler.Update(tree, changed)
		}
	}
	for _, set := range sets { // there is one node
		return table.Encode(set)
	}
	return nil, fmt.Errorf("no node")
}
