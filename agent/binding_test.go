package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// TestTablesAskForNoPodsDevices has tables that change while pods stay: what
// they cost does not depend on how many pods there are.
func TestTablesAskForNoPodsDevices(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		devices := map[table.PortID]string{}
		apply := func(set *table.Set) []string {
			t.Helper()
			b.pairs.change(func() { b.pairs.asked = nil })
			if err := b.Apply(context.Background(), &Tables{Set: set}); err != nil {
				t.Fatal(err)
			}
			var asked []string
			want := dataplane.Binding{}
			b.pairs.change(func() {
				asked = b.pairs.asked
				for id, device := range devices {
					want[id] = b.pairs.pairs[device].link
				}
			})
			if _, binding := b.driver.applied(); !cmp.Equal(binding, want) {
				t.Error("binding:", cmp.Diff(want, binding))
			}
			return asked
		}
		apply(podded(9))
		for i := range 3 {
			devices[table.PortID(i+1)] = attach(t, b, pod(i+1)).Device
		}
		index := b.Agent.indexed
		more := podded(9)
		more.Rulesets.Put(1, &table.Ruleset{ID: 1, Name: "more"})
		if asked := apply(more); len(asked) != 0 {
			t.Error("asked for", asked)
		}
		if b.Agent.indexed != index {
			t.Error("the ports are looked through again")
		}
		b = again() // knows nothing
		if asked := apply(podded(8)); len(asked) != 0 {
			t.Error("asked for", asked)
		}
		b.pairs.change(func() { b.pairs.pairs[devices[2]].link.IfIndex = 99 }) // it was not the agent
		b.driver.change(func() { b.driver.refuse = errors.New("a device is gone") })
		if err := b.Apply(context.Background(), &Tables{Set: podded(9)}); err == nil {
			t.Error("a refused Set is in force")
		}
		b.driver.change(func() { b.driver.refuse = nil })
		apply(podded(9))
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Fatal(err)
		}
		delete(devices, 1)
		if asked := apply(podded(9)); len(asked) != 0 {
			t.Error("asked for", asked)
		}
	})
}

// BenchmarkRules measures what a change of rules costs an agent besides its data
// plane, with 20 000 ports of which 1 000 are pods here.
func BenchmarkRules(b *testing.B) {
	const ports, here = 20000, 1000
	set := podded(ports)
	for id, p := range set.Ports.All() {
		if id > here {
			p.Node, p.Attachment = 1, ""
		}
	}
	d, n := newFakes()
	p := newFakePairs("/run/netns/pods")
	a := startOver(b, b.TempDir(), d, n, p)
	defer a.stop()
	kept := func() error { return nil }
	accept := func(set *table.Set) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err := a.accept(b.Context(), &Tables{Set: set}, 1, kept); err != nil {
			b.Fatal(err)
		}
	}
	accept(set)
	for i := range here {
		q := pod(i + 1)
		q.NetNS = p.pods[0]
		if _, err := a.Attach(b.Context(), q, time.Minute); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		next := *set
		next.Rulesets = table.MapOf(map[table.RulesetID]*table.Ruleset{1: {ID: 1}})
		accept(&next)
		a.Agent.follow()
	}
}
