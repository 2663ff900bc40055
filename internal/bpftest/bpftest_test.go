package bpftest_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/frames"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
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

// modes are the two ways that packets take through the programs: recorded ones
// take the slow way with all its steps, the others what is fast in production.
var modes = map[string]bool{"slow": true, "fast": false}

// traffic runs n random frames through both judges, with steps of the clock,
// and compares their states now and then, before and after a sweep.
func traffic(r *rand.Rand, j *bpftest.Judge, src *frames.Source, n uint64) {
	for range n {
		in, frame := src.Next()
		res := j.Run(in, frame)
		if res.Verdict == pipeline.Forward {
			src.Forwarded(frame, res.Out, res.Frame)
		}
		if r.IntN(50) == 0 {
			j.Clock(uint32(r.IntN(40)))
		}
		switch r.IntN(2000) {
		case 0:
			j.Compare()
		case 1:
			j.Compare()
			j.Sweep()
			j.Compare()
		}
	}
	j.Compare()
	j.Sweep()
	j.Compare()
}

// TestKernelIsPipeline compares random traffic over the hand-made Set: every
// verdict, reason, rule, byte and step.
func TestKernelIsPipeline(t *testing.T) {
	seed := number(t, "TEST_SEED", 1)
	t.Logf("TEST_SEED=%d", seed)
	for name, record := range modes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			set := testset.New()
			traffic(r, bpftest.New(t, set, record), frames.New(r, set), number(t, "WEFT_PACKETS", 30000))
		})
	}
}

// TestKernelIsPipelineOnLoadBalancers compares random traffic over Sets with
// random load balancers and gateway firewalls, one after another.
func TestKernelIsPipelineOnLoadBalancers(t *testing.T) {
	seed := number(t, "TEST_SEED", 1)
	t.Logf("TEST_SEED=%d", seed)
	for name, record := range modes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			sets := []*table.Set{testset.WithLB()}
			for range number(t, "WEFT_TREES", 12) {
				sets = append(sets, testset.RandomLB(r))
			}
			changing(t, r, sets, bpftest.New(t, sets[0], record))
		})
	}
}

// TestOtherProtocolBehindSNAT is a difference that random trees once found: a
// protocol without ports whose tuple is taken has no other source port to try.
func TestOtherProtocolBehindSNAT(t *testing.T) {
	j := bpftest.New(t, testset.New(), true)
	seen := map[pipeline.Reason]int{}
	for proto := packet.Proto(50); proto < 70; proto++ { // some pairs leave by the same uplink
		for from, src := range map[table.PortID]string{testset.Web1: "10.1.1.10", testset.Web2: "10.1.1.11"} {
			s := testset.Spec(from, src, "198.18.0.9")
			s.Proto = proto
			seen[j.Run(from, packet.Build(s)).Reason]++
		}
	}
	if seen[pipeline.ReasonNone] == 0 || seen[pipeline.ReasonTupleInUse] == 0 {
		t.Errorf("%v, want %v among them", seen, pipeline.ReasonTupleInUse)
	}
}
