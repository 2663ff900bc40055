package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/table"
)

// follower holds the rows that an Encoder's changes add up to.
type follower struct {
	t      *testing.T
	e      *Encoder
	hash   func(string) uint32
	tables Tables
	rows   int // that changed in the last step
	lone   int // rows that were said to be alone
}

func newFollower(t *testing.T, hash func(string) uint32) *follower {
	f := &follower{t: t, e: newEncoder(hash), hash: hash, tables: Tables{}}
	for _, name := range TableMaps {
		f.tables[name] = Entries{}
	}
	return f
}

// step follows one Update and judges the rows by naive. It reports whether the
// Set was within the limits.
func (f *follower) step(set *table.Set, devices map[table.PortID]Device) bool {
	f.t.Helper()
	want, flags, wantErr := naive(set, devices, f.hash)
	changes, err := f.e.Update(set, devices)
	if (err == nil) != (wantErr == nil) {
		f.t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err != nil {
		return false
	}
	f.rows = 0
	for i, c := range changes {
		if c.Map != TableMaps[i] {
			f.t.Fatalf("changes of %s in the place of %s", c.Map, TableMaps[i])
		}
		f.rows += c.Len()
		f.follow(c)
	}
	for id, want := range flags {
		if got := f.e.flags[id]; got != want {
			f.t.Fatalf("ruleset %d: flags %d, want %d", id, got, want)
		}
	}
	for _, name := range TableMaps {
		if got := f.tables[name]; !maps.EqualFunc(got, want[name], bytes.Equal) {
			for k, v := range want[name] {
				if !bytes.Equal(got[k], v) {
					f.t.Errorf("%s: %x: %x, want %x", name, k, got[k], v)
				}
			}
			for k := range got {
				if want[name][k] == nil {
					f.t.Errorf("%s: %x: is left", name, k)
				}
			}
			f.t.FailNow()
		}
	}
	return true
}

func (f *follower) follow(c *Changes) {
	f.t.Helper()
	from := maps.Clone(f.tables[c.Map])
	defer func() {
		f.t.Helper()
		f.alone(c, from)
	}()
	for i := range c.Len() {
		key, old, new := c.Row(i)
		if was := f.tables[c.Map][string(key)]; !bytes.Equal(old, was) {
			f.t.Fatalf("%s: %x: changes from %x, is %x", c.Map, key, old, was)
		}
		if bytes.Equal(old, new) {
			f.t.Fatalf("%s: %x: does not change", c.Map, key)
		}
		if new == nil {
			delete(f.tables[c.Map], string(key))
		} else {
			f.tables[c.Map][string(key)] = bytes.Clone(new)
		}
	}
}

// alone checks what changes say of rows that one of the Sets lacks.
func (f *follower) alone(c *Changes, from Entries) {
	f.t.Helper()
	for i := range c.Len() {
		key, old, _ := c.Row(i)
		lacks := f.tables[c.Map]
		if old == nil {
			lacks = from
		}
		if !c.Alone(i) || lacks[string(key)] != nil {
			continue
		}
		for k := range lacks {
			if k != string(key) && covering([]byte(k), key) {
				f.t.Fatalf("%s: %x is not alone: %x", c.Map, key, k)
			}
		}
		f.lone++
	}
}

// covering reports whether one trie key is a prefix of another.
func covering(short, long []byte) bool {
	n := int(binary.NativeEndian.Uint32(short))
	if n > int(binary.NativeEndian.Uint32(long)) {
		return false
	}
	for bit := range n {
		at, mask := 4+bit/8, byte(0x80>>(bit%8))
		if short[at]&mask != long[at]&mask {
			return false
		}
	}
	return true
}

// few is a hash that often meets itself.
func few(key string) uint32 { return fnv32(key) % 32 }

var hashes = map[string]func(string) uint32{"fnv": fnv32, "few": few}

// Random changes of intent, compiled.
func TestUpdateFollowsIntent(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(4) {
				followIntent(t, seed, hash)
			}
		})
	}
}

func followIntent(t *testing.T, seed uint64, hash func(string) uint32) {
	r := rand.New(rand.NewPCG(seed, 0))
	var pool []intent.Change // objects of trees that name theirs alike
	for range 3 {
		for _, o := range oracle.RandomTree(r, oracle.Small()).All() {
			pool = append(pool, intent.Put(o.Meta().Path, o))
		}
	}
	tree, c, f := oracle.RandomTree(r, oracle.Small()), compile.New(), newFollower(t, hash)
	var changed []string
	changes := 0
	for range 60 {
		sets, _ := c.Update(tree, changed)
		changed = []string{}
		set := sets["host1"]
		if f.step(set, randomDevices(r, set)); f.rows > 0 {
			changes++
		}
		for range 1 + r.IntN(3) {
			ch := pool[r.IntN(len(pool))]
			if r.IntN(3) == 0 {
				ch = intent.Delete(ch.Path)
			}
			if paths, problems := tree.Apply([]intent.Change{ch}); !intent.HasErrors(problems) {
				changed = append(changed, paths...)
			}
		}
	}
	if changes < 20 || f.lone == 0 {
		t.Errorf("seed %d: %d of 60 steps changed rows, %d rows were alone", seed, changes, f.lone)
	}
}

// randomDevices binds most ports and uplinks of a Set, most of them always to
// the same device.
func randomDevices(r *rand.Rand, set *table.Set) map[table.PortID]Device {
	out := map[table.PortID]Device{}
	add := func(id table.PortID) {
		d := Device{IfIndex: uint32(id), MAC: table.RouterMAC}
		switch r.IntN(20) {
		case 0:
			return
		case 1:
			d.IfIndex ^= 1 << 31
		case 2:
			d.MAC[5] = 1
		}
		out[id] = d
	}
	for _, id := range slices.Sorted(set.Ports.Keys()) {
		add(id)
	}
	for _, id := range slices.Sorted(set.Uplinks.Keys()) {
		add(id)
	}
	return out
}

// Random changes of Sets, whose prefixes lie within each other in every way.
func TestUpdateFollowsSets(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(8) {
				w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), set: testset.New()}
				for _, ep := range w.set.Endpoints.All() {
					ep.Out, ep.In = []table.RulesetID{1}, []table.RulesetID{2, 3} // that change
				}
				f := newFollower(t, hash)
				for range 250 {
					f.step(w.set, nil)
					w.change()
				}
			}
		})
	}
}

// world makes random Sets, each of which shares objects with the one before.
type world struct {
	*rand.Rand
	set *table.Set
}

// change puts or deletes some objects.
func (w *world) change() {
	s := *w.set
	w.set = &s
	for range 1 + w.IntN(3) {
		switch w.IntN(6) {
		case 0, 1:
			id := table.AddrSetID(1 + w.IntN(6))
			edit(w, &s.AddrSets, id, &table.AddrSet{ID: id, Addrs: w.addresses()})
		case 2, 3:
			id := table.RulesetID(1 + w.IntN(4))
			edit(w, &s.Rulesets, id, &table.Ruleset{ID: id, Rules: w.rules(s.Rulesets.Get(id))})
		case 4:
			id := table.RealmID(1 + w.IntN(3))
			var prefixes []netip.Prefix
			for range w.IntN(3) {
				prefixes = append(prefixes, w.prefix())
			}
			edit(w, &s.Realms, id, &table.Realm{ID: id, Prefixes: append(prefixes, w.prefix())})
		case 5:
			k := table.NATKey{VRF: testset.Red + table.VRFID(w.IntN(2)), Dir: table.NATOut + table.NATDir(w.IntN(2))}
			list := &table.NATList{Key: k}
			for i := range w.IntN(8) {
				list.Rules = append(list.Rules, table.NATRule{ID: uint32(i), Action: table.NATExempt, Src: w.prefix(), Dst: w.prefix()})
			}
			edit(w, &s.NAT, k, list)
		}
	}
}

// edit puts an object into a Map, or takes it out.
func edit[K comparable, V any](w *world, m *table.Map[K, V], k K, v *V) {
	if w.IntN(4) == 0 {
		m.Delete(k)
	} else {
		m.Put(k, v)
	}
}

// prefix returns one of few prefixes, so that they cover each other.
func (w *world) prefix() netip.Prefix {
	a := netip.AddrFrom4([4]byte{10, byte(w.IntN(2)), byte(w.IntN(2)), byte(w.IntN(4))})
	p, _ := a.Prefix([]int{0, 8, 16, 24, 31, 32, 32, 32}[w.IntN(8)])
	return p
}

func (w *world) addresses() (out []table.RealmPrefix) {
	for range w.IntN(12) {
		realm := []table.RealmID{0, 1, 2, 3, table.AnyRealm}[w.IntN(5)]
		out = append(out, table.RealmPrefix{Realm: realm, Prefix: w.prefix()})
	}
	return out
}

// rules returns some of the old rules and some new ones.
func (w *world) rules(old *table.Ruleset) (out []*table.Rule) {
	if old != nil && w.IntN(3) > 0 {
		out = slices.DeleteFunc(slices.Clone(old.Rules), func(*table.Rule) bool { return w.IntN(4) == 0 })
	}
	for range w.IntN(4) {
		r := &table.Rule{ID: w.Uint32N(1000), Action: table.Allow, Strict: w.IntN(2) == 0}
		switch w.IntN(4) {
		case 0:
			r.AnyRemote = true
		case 1:
			r.NotRemote = true
			fallthrough
		default:
			for s := range table.AddrSetID(7) { // 0 and others may not be there
				if w.IntN(3) == 0 {
					r.Remote = append(r.Remote, s+1)
				}
			}
		}
		for range w.IntN(4) {
			first := uint16(w.IntN(6))
			r.Services = append(r.Services, table.Service{Proto: []uint8{6, 6, 6, 17, 0}[w.IntN(5)], First: first, Last: first + uint16(w.IntN(5))})
		}
		out = slices.Insert(out, w.IntN(len(out)+1), r)
	}
	return out
}

// An Update beyond the limits leaves no mark.
func TestUpdateBeyondLimits(t *testing.T) {
	for name, break_ := range map[string]func(*table.Set){
		"gateways": func(s *table.Set) {
			s.Segments.Get(testset.Web).Gateways = slices.Repeat(s.Segments.Get(testset.Web).Gateways, 5)
		},
		"next hops": func(s *table.Set) {
			for _, r := range s.Routes.All() {
				r.NextHops = slices.Repeat([]table.NextHopID{1}, 9)
			}
		},
		"rows": func(s *table.Set) {
			k := table.NATKey{VRF: testset.Red, Dir: table.NATOut}
			s.NAT.Get(k).Rules = slices.Repeat(s.NAT.Get(k).Rules, 300)
		},
		"rulesets": func(s *table.Set) {
			for _, e := range s.Endpoints.All() {
				e.In = []table.RulesetID{1, 2, 3, 4}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFollower(t, few)
			f.step(testset.New(), nil)
			w := &world{Rand: rand.New(rand.NewPCG(1, 2)), set: testset.New()}
			for range 20 {
				w.change()
			}
			bad := testset.New()
			break_(bad)
			bad.AddrSets, bad.Rulesets, bad.Realms = w.set.AddrSets, w.set.Rulesets, w.set.Realms
			if _, err := f.e.Update(bad, nil); err == nil || !strings.Contains(err.Error(), ": "+name+": ") {
				t.Errorf("error %v, want one that names %s", err, name)
			}
			f.step(w.set, nil)
			if f.rows == 0 {
				t.Error("the next Update changes nothing")
			}
			f.step(table.NewSet("none"), nil)
			f.empty()
		})
	}
}

// empty fails the test if an Encoder that holds the empty Set keeps anything.
func (f *follower) empty() {
	f.t.Helper()
	holds := func(e *Encoder) string {
		places := 0
		for _, tree := range e.parts.realms {
			places += tree.Size()
		}
		return fmt.Sprint(places, len(e.parts.realms), len(e.parts.known), len(e.parts.bySet), len(e.parts.numbers.taken),
			len(e.lists), len(e.numbers.taken), len(e.rulesets), len(e.users), len(e.flags))
	}
	if got, want := holds(f.e), holds(newEncoder(f.hash)); got != want {
		f.t.Errorf("the empty Set keeps %s, want %s", got, want)
	}
}

func TestUpdateToTheEmptySetKeepsNothing(t *testing.T) {
	f := newFollower(t, few)
	w := &world{Rand: rand.New(rand.NewPCG(3, 4)), set: testset.New()}
	for range 100 {
		w.change()
		f.step(w.set, nil)
	}
	f.step(table.NewSet("none"), nil)
	f.empty()
}
