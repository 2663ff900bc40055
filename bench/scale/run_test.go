package scale

import (
	"os"
	"os/exec"
	"testing"

	"github.com/weft-net/weft/internal/need"
)

// TestRun loads and measures a small size, and starts it again: every figure of
// the report is there. How large they are is no matter of a test.
func TestRun(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	c := Config{
		Size: Size{Namespaces: 3, Pods: 30, Services: 6, Policies: 12}, Kubernetes: need.Kube(t), Bin: t.TempDir(), Dir: t.TempDir(), Keep: true,
		Samples: 4, Rate: 10, Parallel: 4, Flips: 2, Date: "today",
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", c.Bin+"/", "./cmd/weftd", "./cmd/weft-agent", "./cmd/weft-cni")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, said)
	}
	for _, loaded := range []bool{false, true} {
		c.Loaded = loaded
		rep, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Tables.Ports < c.Pods || rep.Weftd.MostRSSBytes == 0 || rep.Agent.MostRSSBytes == 0 || rep.HeapBytes == 0 || rep.StoreBytes == 0 {
			t.Errorf("loaded %v: report: %+v", loaded, rep)
		}
		for name, want := range map[string]int{
			policyStored: c.Samples, policyEnforced: c.Samples, packetStopped: c.Flips, packetPasses: c.Flips, podAdd: c.Samples, podCreated: c.Samples,
		} {
			if got := len(rep.samples(name)); got != want {
				t.Errorf("loaded %v: %s: %d samples, want %d", loaded, name, got, want)
			}
		}
	}
}

// samples returns those of one thing.
func (r *Report) samples(name string) []float64 {
	for _, l := range r.Latencies {
		if l.Name == name {
			return l.Samples
		}
	}
	return nil
}
