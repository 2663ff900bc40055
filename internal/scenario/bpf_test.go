package scenario_test

import (
	"fmt"
	"testing"

	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/table"
)

// TestBPF proves that the eBPF programs do to the flows of the scripts what the
// pipeline does, with and without records.
func TestBPF(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	for name, record := range map[string]bool{"recorded": true, "fast": false} {
		t.Run(name, func(t *testing.T) {
			play(t, false, func(t testing.TB, _ string) scenario.Proof {
				return &replayed{
					Predicted: scenario.NewPredicted(),
					judge:     bpftest.New(t, table.NewSet("host1"), record), held: map[string]*scenario.Talk{},
				}
			})
		})
	}
}

// replayed gives every packet of the script's flows to the kernel.
type replayed struct {
	*scenario.Predicted
	judge *bpftest.Judge
	talks []*scenario.Talk // in the order of their beginning
	held  map[string]*scenario.Talk
}

// Changed makes the tables current and sends more packets of all connections.
func (r *replayed) Changed(w *scenario.World, files []scenario.File) error {
	r.judge.Apply(w.Set)
	for _, k := range r.talks {
		if w.Set.Ports.Get(k.From) != nil || w.Set.Uplinks.Get(k.From) != nil {
			k.Exchange(w.Set)
		}
	}
	return r.Predicted.Changed(w, files)
}

// Traced sends the packets of a connection and the probes of a traceroute.
func (r *replayed) Traced(w *scenario.World, f *scenario.Flow) error {
	q := f.Question
	q.SrcPort += uint16(64 * len(r.talks)) // so that no two flows of a script share ports
	k := scenario.NewTalk(q, r.judge.Run)
	r.talks = append(r.talks, k)
	k.Exchange(w.Set)
	k.Probe(w.Set, len(f.Hops()))
	k.Exchange(w.Set)
	return nil
}

func (r *replayed) Connect(w *scenario.World, f *scenario.Flow) (string, error) {
	return f.Outcome(), r.Traced(w, f)
}

// Hold holds a connection in the kernel too.
func (r *replayed) Hold(w *scenario.World, name string, f *scenario.Flow) (string, error) {
	k := scenario.NewTalk(r.Own(f), r.judge.Run)
	got, err := r.Predicted.Hold(w, name, f)
	if err != nil {
		return "", err
	}
	if passes := k.Exchange(w.Set) == scenario.Passes; passes != r.Holds(name) {
		return "", fmt.Errorf("hold %s: passes is %t in the kernel, and %t predicted", name, passes, !passes)
	}
	r.held[name] = k
	return got, nil
}

// Held sends data through both.
func (r *replayed) Held(w *scenario.World, name string, bytes int) (string, error) {
	got, err := r.Predicted.Held(w, name, bytes)
	if err == nil {
		got = r.held[name].Exchange(w.Set)
	}
	return got, err
}

// Release closes both.
func (r *replayed) Release(w *scenario.World, name string) error {
	err := r.Predicted.Release(w, name)
	if err == nil {
		r.held[name].Close(w.Set)
	}
	return err
}
