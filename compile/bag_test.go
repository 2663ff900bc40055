package compile

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weft-net/weft/intent"
)

// A bag has the members that were added more often than removed, in order, and
// a list that it gave out stays as it was.
func TestBagIsItsDefinition(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		b, want := &bag{}, map[int]int{}
		var given, copied []int
		for range 600 {
			m := r.IntN(4 + int(seed)*2)
			if want[m] > 0 && r.IntN(2) == 0 {
				if want[m]--; want[m] == 0 {
					delete(want, m)
				}
				if gone := b.remove(m); gone != (want[m] == 0) {
					t.Fatalf("seed %d: removing %d says gone: %v", seed, m, gone)
				}
			} else {
				want[m]++
				if came := b.add(m); came != (want[m] == 1) {
					t.Fatalf("seed %d: adding %d says new: %v", seed, m, came)
				}
			}
			if r.IntN(5) > 0 {
				continue
			}
			if !slices.Equal(given, copied) {
				t.Fatalf("seed %d: a list was changed: got %v, want %v", seed, given, copied)
			}
			given = inOrder(b, cmp.Compare[int])
			copied = slices.Clone(given)
			if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(given, sorted) {
				t.Fatalf("seed %d: got %v, want %v", seed, given, sorted)
			}
		}
	}
}

// Both ends of every reading know each other, and every relation counts what
// facts put there, and every watch is known.
func TestGraphIsConsistent(t *testing.T) {
	w := world{rand.New(rand.NewPCG(4, 4))}
	tree, c := intent.NewTree(), New()
	apply(t, tree, ground())
	c.Update(tree, nil)
	for step := range 300 {
		changed, problems := tree.Apply([]intent.Change{w.change(), w.change()})
		if intent.HasErrors(problems) || len(changed) == 0 {
			continue
		}
		c.Update(tree, changed)
		counts, watched := map[emission]int32{}, map[topic][]int32{}
		for f := range c.g.facts.all() {
			for i := range f.readers.size() {
				e := *f.readers.at(i)
				if back := e.reads[e.at]; back.fact != f || int(back.at) != i {
					t.Fatalf("step %d: %v is said to read %v, but does not", step, e.ref(), f.ref())
				}
			}
			if !f.kind.isBuilt() {
				continue
			}
			for i, e := range f.reads {
				if back := *e.readers.at(int(e.at)); back.fact != f || int(back.at) != i {
					t.Fatalf("step %d: %v reads %v, which does not know", step, f.ref(), e.ref())
				}
			}
			for _, e := range f.emits {
				counts[e]++
			}
			for _, topic := range slices.Compact(slices.Sorted(slices.Values(c.g.watches.topics(f)))) {
				watched[topic] = append(watched[topic], f.watcher)
			}
		}
		for topic, want := range watched {
			if got := c.g.watches.of(topic); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Fatalf("step %d: a topic is watched by %v, is said to be by %v", step, want, got)
			}
		}
		if got := len(c.g.watches.single) + len(c.g.watches.several); got != len(watched) {
			t.Fatalf("step %d: %d topics are watched, %d are said to be", step, len(watched), got)
		}
		for e, n := range counts {
			if got := e.rel.members.find(e.member); got == nil || got.count != n {
				t.Fatalf("step %d: %v: %v was put there %d times, which it does not know", step, e.rel.ref(), e.member, n)
			}
		}
	}
}

// Groups of a zone and a tier are found by their zone, of which there are many,
// so that a port does not look at all groups of its tier.
func TestGroupsAreFoundByTheRarestAtom(t *testing.T) {
	d := data{tier1s: 1, segments: 200, ports: 200, apps: 1000, groups: 10000}
	tree, c := d.build(t), New()
	c.Update(tree, nil)
	for _, tier := range []string{"web", "app", "db"} {
		f := c.g.facts.get(ref{relTerm, "SegmentPort tag tier|" + tier, ""})
		if f != nil && f.members.size() > 50 {
			t.Errorf("tier %s: %+v (want at most 50 of a thousand groups)", tier, f)
		}
	}
	if c.g.facts.get(ref{relTerm, "Segment tag zone|z7", ""}) == nil {
		t.Errorf("no group is found by its zone")
	}
}
