package ebpf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/table"
)

// randomSets returns a function that compiles one random intent after another,
// each a few changes from the one before; far changes nearly all.
func randomSets(t *testing.T, r *rand.Rand) (next func(far bool) *table.Set) {
	t.Helper()
	tree, c := oracle.RandomTree(r, oracle.Small()), compile.New()
	return func(far bool) *table.Set {
		changes := 1 + r.IntN(4)
		other := oracle.RandomTree(r, oracle.Small()).All()
		if far {
			changes = len(other)
		}
		changed := []string{}
		for range changes {
			o := other[r.IntN(len(other))]
			ch := intent.Put(o.Meta().Path, o)
			if r.IntN(3) == 0 {
				ch = intent.Delete(ch.Path)
			}
			if paths, problems := tree.Apply([]intent.Change{ch}); !intent.HasErrors(problems) {
				changed = append(changed, paths...)
			}
		}
		sets, _ := c.Update(tree, changed)
		return sets["host1"]
	}
}

// found returns what a look-up of a key finds in the rows of one map.
func found(m *ebpf.Map, entries bpf.Entries, key []byte) []byte {
	if m.Type() != ebpf.LPMTrie {
		return entries[string(key)]
	}
	k := bytes.Clone(key)
	for n := prefixLen(k); ; n-- {
		if v, ok := entries[string(k)]; ok || n == 0 {
			return v
		}
		shorten(k, n-1)
	}
}

// shows fails the test if some key of two tables finds in a slot of the kernel
// anything but what it finds in tables.
func shows(t *testing.T, d *Driver, slot uint32, tables bpf.Tables, keys ...bpf.Tables) (covered int) {
	t.Helper()
	for name, m := range d.maps() {
		value := make([]byte, m.ValueSize())
		for _, k := range keys {
			for key := range k[name] {
				clear(value)
				if err := m.Lookup([]byte(key), value); err != nil {
					clear(value)
				}
				got := value[int(slot)*len(value)/2:][:len(value)/2]
				want := found(m, tables[name], []byte(key))
				if want == nil {
					want = make([]byte, len(got))
				}
				if binary.NativeEndian.Uint32(got) == cover {
					binary.NativeEndian.PutUint32(got, present)
					covered++
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: %x shows %x, want %x", name, key, got, want)
				}
			}
		}
	}
	return covered
}

// At every moment before the switch the active slots show the old Set, and at
// its end the others show the new one.
func TestWrittenRowsShowBothSets(t *testing.T) {
	b := newHost(t)
	d := b.open()
	next := randomSets(t, rand.New(rand.NewPCG(1, 1)))
	old := bpf.Tables{}
	covered := 0
	for i := range 24 {
		set := next(i%3 == 0)
		want := encode(t, set, nil)
		b.do(b.host, func() error {
			return d.locked(func() error {
				changes, _, err := d.difference(set, nil)
				if err != nil {
					return err
				}
				active := d.config.Generation & 1
				for _, c := range changes {
					if err := d.write(c); err != nil {
						return err
					}
					covered += shows(t, d, active, old, old, want)
				}
				covered += shows(t, d, 1-active, want, old, want)
				d.keep()
				return d.settle(changes, before)
			})
		})
		settled(t, d, old)
		if i%2 == 0 {
			continue // another Set is tried from the same one
		}
		b.binding = nil
		b.apply(d, set)
		settled(t, d, want)
		old = want
		if i%8 == 1 {
			d.Close()
			d = b.open() // knows nothing of what it applied
		}
	}
	if covered == 0 {
		t.Error("no row stood for a shorter one")
	}
	t.Logf("%d look-ups met a copy", covered)
}
