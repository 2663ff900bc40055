package table

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMap holds a Map, its copies and their differences against plain maps.
func TestMap(t *testing.T) {
	const keys, steps = 3000, 400
	r := rand.New(rand.NewPCG(1, 2))
	type version struct {
		m     Map[RouteKey, Route]
		plain map[RouteKey]*Route
	}
	key := func() RouteKey { return RouteKey{VRF: VRFID(r.IntN(keys))} }
	now := version{plain: map[RouteKey]*Route{}}
	versions := []version{now}
	for range steps {
		plain, e := maps.Clone(now.plain), now.m.Edit()
		for range r.IntN(40) {
			if k := key(); r.IntN(3) == 0 {
				delete(plain, k)
				e.Delete(k)
			} else {
				plain[k] = &Route{VRF: k.VRF}
				e.Put(k, plain[k])
			}
		}
		now = version{e.Map(), plain}
		if k := key(); e.Map().Same(now.m) {
			e.Put(k, &Route{}) // is not seen
			e.Delete(k)
		}
		versions = append(versions, now)
	}
	for i, v := range versions {
		if got := maps.Collect(v.m.All()); !maps.Equal(got, v.plain) || v.m.Len() != len(v.plain) {
			t.Fatalf("version %d: %d rows, says %d, want %d", i, len(got), v.m.Len(), len(v.plain))
		}
	}
	for range 200 {
		a, b := versions[r.IntN(len(versions))], versions[r.IntN(len(versions))]
		want := map[RouteKey]bool{}
		for k := range maps.All(a.plain) {
			want[k] = a.plain[k] != b.plain[k]
		}
		for k := range maps.All(b.plain) {
			want[k] = a.plain[k] != b.plain[k]
		}
		maps.DeleteFunc(want, func(_ RouteKey, differs bool) bool { return !differs })
		got := slices.Collect(a.m.Differing(b.m))
		if len(got) != len(want) {
			t.Fatalf("%d keys differ, want %d", len(got), len(want))
		}
		for _, k := range got {
			if !want[k] {
				t.Fatalf("%v does not differ", k)
			}
		}
	}
}

func TestMapEqual(t *testing.T) {
	a := MapOf(map[VRFID]*VRF{1: {ID: 1}, 2: {ID: 2}})
	b := MapOf(map[VRFID]*VRF{1: {ID: 1}, 2: {ID: 2}})
	if !a.Equal(b) || a.Same(b) {
		t.Error("equal objects make other Maps")
	}
	b.Put(2, &VRF{ID: 2, Name: "other"})
	if a.Equal(b) || a.Get(2).Name != "" {
		t.Error("a changed object makes no other Map, or changes the copy")
	}
	b.Delete(2)
	if a.Equal(b) || a.Len() != 2 || b.Has(2) {
		t.Error("a Map without an object is as before")
	}
	var none Map[VRFID, VRF]
	b.Delete(1)
	if !none.Equal(b) || none.Get(1) != nil || none.Len() != 0 {
		t.Error("an emptied Map is not the empty one")
	}
	for range none.All() {
		t.Error("the empty Map has rows")
	}
}
