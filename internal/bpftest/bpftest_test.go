package bpftest_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/frames"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/pipeline"
)

// number reads an environment variable, for longer runs and other seeds.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %q: is not a number", name, v)
	}
	return n
}

// TestKernelIsPipeline compares random traffic over the hand-made Set: every
// verdict, reason, rule, byte and step.
func TestKernelIsPipeline(t *testing.T) {
	for _, record := range []bool{true, false} {
		t.Run(map[bool]string{true: "slow", false: "fast"}[record], func(t *testing.T) {
			seed := number(t, "TEST_SEED", 1)
			t.Logf("TEST_SEED=%d", seed)
			r := rand.New(rand.NewPCG(seed, 7))
			set := testset.New()
			j := bpftest.New(t, set, record)
			src := frames.New(r, set)
			seen := map[pipeline.Reason]int{}
			for range number(t, "WEFT_PACKETS", 30000) {
				in, frame := src.Next()
				res := j.Run(in, frame)
				seen[res.Reason]++
				if res.Verdict == pipeline.Forward {
					src.Forwarded(frame, res.Out, res.Frame)
				}
				if r.IntN(50) == 0 {
					j.Clock(uint32(r.IntN(40)))
				}
			}
			t.Log(seen, j.Flows())
		})
	}
}
