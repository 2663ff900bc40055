package ebpf

import (
	"context"
	"testing"
)

func TestApplyForwardsAndAgentMayGo(t *testing.T) {
	set := testSet(true)
	b := newBed(t, set)
	b.serve(bluePort, 80)
	d := b.open()
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("packets pass before anything was applied")
	}
	b.apply(d, set)
	if seen, err := b.ask(redPort, blueWeb); err != nil || seen != "10.244.0.18" {
		t.Errorf("seen %q, %v", seen, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if seen, err := b.ask(redPort, blueWeb); err != nil || seen != "10.244.0.18" {
		t.Errorf("without a process: seen %q, %v", seen, err)
	}
}

func TestApplyChangesRules(t *testing.T) {
	b := newBed(t, testSet(true))
	b.serve(bluePort, 80)
	d := b.open()
	defer d.Close()
	for i, allow := range []bool{true, false, true} {
		b.apply(d, testSet(allow))
		if _, err := b.ask(redPort, blueWeb); (err == nil) != allow {
			t.Errorf("step %d: allow %v, got %v", i, allow, err)
		}
	}
	s, err := d.Status(context.Background())
	if err != nil || s.Drops["dfw_rule"] == 0 {
		t.Errorf("drops %v, %v", s.Drops, err)
	}
}
