package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wish is one name of a pool and the slot that it asks for.
type wish struct {
	name     string
	explicit int64
}

// dictate is the definition of a pool's result: one after the other takes the
// first free slot of its list.
func dictate(base, size uint64, wishes []wish) map[string]uint64 {
	p := newPool(base, size, nil)
	var all []*claimant
	for _, w := range wishes {
		q := newPool(base, size, nil)
		q.put(w.name, w.explicit)
		all = append(all, q.names[w.name])
	}
	slices.SortFunc(all, func(a, b *claimant) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	taken, out := map[uint64]bool{}, map[string]uint64{}
	for _, c := range all {
		for c.at = 0; c.at <= size; c.at++ {
			if s, wanted := p.slot(c); wanted && !taken[s] {
				taken[s], out[c.name] = true, s
				break
			}
		}
	}
	return out
}

func result(p *pool) map[string]uint64 {
	out := map[string]uint64{}
	for n := range p.names {
		if s, ok := p.get(n); ok {
			out[n] = s
		}
	}
	return out
}

// A pool's result is that of its definition after every step of a random
// sequence of puts and removes, also when it is full.
func TestPoolIsOrderIndependent(t *testing.T) {
	const base = 3
	for _, size := range []uint64{1, 2, 7, 16, 40} {
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, size))
			p, in := newPool(base, size, nil), map[string]wish{}
			for step := range 120 {
				w := wish{fmt.Sprintf("/infra/segments/%d", r.IntN(24)), -1}
				if r.IntN(4) == 0 {
					w.explicit = r.Int64N(int64(size) + base + 2)
				}
				if _, ok := in[w.name]; ok && r.IntN(2) == 0 {
					p.remove(w.name)
					delete(in, w.name)
				} else {
					p.put(w.name, w.explicit)
					in[w.name] = w
				}
				var wishes []wish
				for _, w := range in {
					wishes = append(wishes, w)
				}
				if diff := cmp.Diff(dictate(base, size, wishes), result(p)); diff != "" {
					t.Fatalf("size %d seed %d step %d: slots differ from the definition (-want +got):\n%s", size, seed, step, diff)
				}
			}
		}
	}
}

// Every change of a name's slot is told, and nothing else is kept of a name
// that went.
func TestPoolTellsMovesAndForgets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	told := map[string]bool{}
	p := newPool(0, 9, func(name string) { told[name] = true })
	for range 500 {
		was := result(p)
		clear(told)
		name := fmt.Sprint(r.IntN(14))
		if p.names[name] != nil {
			p.remove(name)
		} else {
			p.put(name, int64(r.IntN(12)-3)%9)
		}
		for n, s := range result(p) {
			if old, ok := was[n]; (!ok || old != s) && !told[n] {
				t.Fatalf("name %s moved from %d to %d untold", n, old, s)
			}
		}
	}
	for n := range result(p) {
		p.remove(n)
	}
	for n := range p.names {
		p.remove(n)
	}
	if len(p.holders)+len(p.waiters)+len(p.names) != 0 {
		t.Errorf("empty pool keeps holders %v, waiters %v, names %v", p.holders, p.waiters, p.names)
	}
}
