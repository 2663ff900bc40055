package bpftest_test

import (
	"math/rand/v2"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/frames"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/table"
)

// TestKernelIsPipelineOnCompiledTrees compares random traffic over what the
// compiler makes of random intent. Each tree follows another while the
// connections of the former live on, so that every kind of change meets every
// kind of flow entry and every two-slot row.
func TestKernelIsPipelineOnCompiledTrees(t *testing.T) {
	seed := number(t, "TEST_SEED", 1)
	t.Logf("TEST_SEED=%d", seed)
	for name, record := range modes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			sets := []*table.Set{table.NewSet("host1")}
			for range number(t, "WEFT_TREES", 12) {
				compiled, _ := compile.New().Update(oracle.RandomTree(r, oracle.Small()), nil)
				sets = append(sets, compiled["host1"])
			}
			changing(t, r, sets, bpftest.New(t, sets[0], record))
		})
	}
}

// changing gives j one Set after another, and traffic over each.
func changing(t *testing.T, r *rand.Rand, sets []*table.Set, j *bpftest.Judge) {
	var src *frames.Source
	each := number(t, "WEFT_PACKETS", 30000) / 20
	for range 2 * len(sets) {
		set := sets[r.IntN(len(sets))]
		j.Apply(set)
		if set.Endpoints.Len() == 0 {
			continue
		}
		if src == nil {
			src = frames.New(r, set)
		}
		src.Reset(set)
		traffic(r, j, src, each)
	}
}
