package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// TestStore demands the same of every backend.
func TestStore(t *testing.T) {
	rows := map[string]func(*testing.T, backend){
		"revisions": testRevisions, "conflict": testConflict, "all or nothing": testAllOrNothing, "canonical": testCanonical,
		"replace": testReplace, "replace refuses": testReplaceRefuses, "implied": testImplied, "two processes": testTwoProcesses,
		"watch": testWatch, "compaction": testCompaction, "restart": testRestart, "order": testOrder, "closed": testClosed,
	}
	for _, b := range []backend{memory, inEtcd} {
		t.Run(b.name, func(t *testing.T) {
			for name, test := range rows {
				t.Run(name, func(t *testing.T) { test(t, b) })
			}
		})
	}
}

func testRevisions(t *testing.T, b backend) {
	kv, again := b.open(t)
	s, other := start(t, kv), start(t, again())
	if _, v := shot(s); v != 0 {
		t.Errorf("an empty store is at %d, want 0", v)
	}
	red, blue := tier1("red"), tier1("blue")
	first := must(t)(s.Update(t.Context(), put(change(red), change(blue))))
	if again := must(t)(s.Update(t.Context(), put(change(red)))); again != first {
		t.Errorf("no change: version %d, want %d", again, first)
	}
	red.DisplayName = "Red"
	second := must(t)(s.Update(t.Context(), put(change(red), change(blue))))
	if second <= first {
		t.Errorf("versions %d, %d", first, second)
	}
	want := map[string]store.Version{red.Path: second, blue.Path: first, intent.DefaultRulePath: 0}
	follow(t, other, second)
	for _, s := range []*store.Store{s, other} {
		for path, v := range want {
			if got := revisionOf(s, path); got != v {
				t.Errorf("%s: _revision %d, want %d", path, got, v)
			}
		}
	}
	if red.Revision != nil {
		t.Error("the caller's object was changed")
	}
}

func testConflict(t *testing.T, b backend) {
	kv, _ := b.open(t)
	s := start(t, kv)
	v := must(t)(s.Update(t.Context(), put(change(tier1("red")))))
	at := func(n int64, path string) func(*intent.Tree) ([]intent.Change, error) {
		return put(intent.Put(path, &intent.Tier1{Resource: intent.Resource{Revision: &n, DisplayName: "new"}}))
	}
	const red, gone = "/infra/tier-1s/red", "/infra/tier-1s/gone"
	refused(t, "conflict "+red+": _revision: 7777: is not the stored one (")(s.Update(t.Context(), at(7777, red)))
	refused(t, "conflict "+red+": _revision: 0: is not the stored one (")(s.Update(t.Context(), at(0, red)))
	refused(t, "conflict "+gone+": _revision: 7777: the object does not exist (leave it out to create one)")(s.Update(t.Context(), at(7777, gone)))
	w := must(t)(s.Update(t.Context(), at(int64(v), red)))
	refused(t, "conflict "+red)(s.Update(t.Context(), at(int64(v), red)))
	// What was read, changed and given back fits.
	must(t)(s.Update(t.Context(), func(t *intent.Tree) ([]intent.Change, error) {
		o := intent.Clone(t.Get(red))
		o.Meta().Description = "read and written"
		return []intent.Change{change(o)}, nil
	}))
	must(t)(s.Update(t.Context(), at(0, gone)))
	if w <= v {
		t.Errorf("versions %d, %d", v, w)
	}
}

func testAllOrNothing(t *testing.T, b backend) {
	kv, again := b.open(t)
	s := start(t, kv)
	must(t)(s.Update(t.Context(), put(change(tier1("red")))))
	before, v := shot(s)
	bad := tier1("blue")
	bad.Tier0Path = "/infra/tier-0s/no"
	red := tier1("red")
	red.DisplayName = "other"
	refused(t, "dangling /infra/tier-1s/blue: tier0_path")(s.Update(t.Context(), put(change(red), change(bad), change(tier1("green")))))
	wrong := errors.New("fn says no")
	if _, _, err := s.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) { return nil, wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v, want the error of fn", err)
	}
	for _, s := range []*store.Store{s, start(t, again())} {
		if after, w := shot(s); after != before || w != v {
			t.Errorf("something was committed: version %d → %d\n%s", v, w, cmp.Diff(before, after))
		}
	}
}

// An object is the same whether it was just given or read from the KV.
func testCanonical(t *testing.T, b backend) {
	kv, again := b.open(t)
	s := start(t, kv)
	make := func() intent.Object {
		o := tier1("red")
		o.RouteAdvertisementTypes, o.Tags = []string{}, []intent.Tag{}
		o.Extra = intent.Extra{"mine": []any{"a", true}}
		return o
	}
	v := must(t)(s.Replace(t.Context(), "Namespace/a/1", make()))
	for _, s := range []*store.Store{s, start(t, again())} {
		if w := must(t)(s.Replace(t.Context(), "Namespace/a/1", make())); w != v {
			t.Errorf("the same again: version %d, want %d", w, v)
		}
	}
	one, _ := shot(s)
	two, _ := shot(start(t, again()))
	if one != two {
		t.Error(cmp.Diff(one, two))
	}
}

func testReplace(t *testing.T, b backend) {
	kv, again := b.open(t)
	s := start(t, kv)
	const a, c store.Owner = "Namespace/a/1", "Namespace/c/3"
	first := must(t)(s.Replace(t.Context(), a, tier1("red"), tier1("blue")))
	second := must(t)(s.Replace(t.Context(), c, tier1("green")))
	if v := must(t)(s.Replace(t.Context(), a, tier1("blue"), tier1("red"))); v != first {
		t.Errorf("the same: version %d, want %d", v, first)
	}
	third := must(t)(s.Replace(t.Context(), a, tier1("red")))
	if v := must(t)(s.Replace(t.Context(), a, tier1("red"))); v != third || third <= second {
		t.Errorf("after a delete: version %d, want %d", v, third)
	}
	for _, s := range []*store.Store{s, start(t, again())} {
		if d := cmp.Diff([]store.Owner{a, c}, s.Owners("Namespace/")); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"/infra/tier-1s/red"}, paths(s.Owned(a))); d != "" {
			t.Error(d)
		}
		if got := s.Owners("Pod/"); got != nil {
			t.Errorf("owners of pods: %v", got)
		}
	}
	must(t)(s.Replace(t.Context(), a))
	must(t)(s.Replace(t.Context(), c))
	if got := s.Owners(""); got != nil {
		t.Errorf("all is gone, but not of %v", got)
	}
	if text, _ := shot(s); text != text0(t) {
		t.Error("the tree is not empty:", text)
	}
}

// text0 is what an empty store has.
func text0(t *testing.T) string {
	text, _ := shot(start(t, store.NewMemory()))
	return text
}

func paths(objects []intent.Object) (out []string) {
	for _, o := range objects {
		out = append(out, o.Meta().Path)
	}
	return out
}

func testReplaceRefuses(t *testing.T, b backend) {
	kv, _ := b.open(t)
	s := start(t, kv)
	segment := intent.Put("/infra/segments/web", &intent.Segment{}).Object
	port := intent.Put("/infra/segments/web/ports/p", &intent.SegmentPort{}).Object
	must(t)(s.Update(t.Context(), put(change(tier1("people")))))
	must(t)(s.Replace(t.Context(), "Namespace/a/1", segment))
	must(t)(s.Replace(t.Context(), "Pod/a/p/2", port))
	refused(t, "duplicate /infra/tier-1s/people: belongs to people (only Namespace/a/1 could be here)")(s.Replace(t.Context(), "Namespace/a/1", segment, tier1("people")))
	refused(t, "duplicate /infra/segments/web: belongs to Namespace/a/1")(s.Replace(t.Context(), "Namespace/b/2", segment))
	refused(t, "referenced /infra/segments/web: has /infra/segments/web/ports/p of Pod/a/p/2 below it (delete that first)")(s.Replace(t.Context(), "Namespace/a/1"))
	if _, _, err := s.Replace(t.Context(), "", segment); err == nil || err.Error() != "store: owner: is empty (whose objects are replaced)" {
		t.Errorf("no owner: %v", err)
	}
	must(t)(s.Replace(t.Context(), "Pod/a/p/2"))
	must(t)(s.Replace(t.Context(), "Namespace/a/1"))
}

// The NAT section is made and deleted with its rules.
func testImplied(t *testing.T, b backend) {
	kv, _ := b.open(t)
	s := start(t, kv)
	const owner store.Owner = "Namespace/a/1"
	gateway := func() []intent.Object {
		return []intent.Object{tier1("red"), intent.Put("/infra/tier-1s/red/locale-services/default", &intent.LocaleServices{EdgeClusterPath: "/infra/sites/default/enforcement-points/default/edge-clusters/one"}).Object}
	}
	rule := intent.Put("/infra/tier-1s/red/nat/USER/nat-rules/r", &intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "10.1.0.0/24", TranslatedNetwork: "192.0.2.1"}).Object
	v := must(t)(s.Replace(t.Context(), owner, append(gateway(), rule)...))
	if w := must(t)(s.Replace(t.Context(), owner, append(gateway(), rule)...)); w != v {
		t.Errorf("the same: version %d, want %d", w, v)
	}
	must(t)(s.Replace(t.Context(), owner, gateway()...))
	if d := cmp.Diff([]string{"/infra/tier-1s/red", "/infra/tier-1s/red/locale-services/default"}, paths(s.Owned(owner))); d != "" {
		t.Error("without the rule:", d)
	}
	must(t)(s.Replace(t.Context(), owner, append(gateway(), rule)...))
	must(t)(s.Replace(t.Context(), owner))
	if text, _ := shot(s); text != text0(t) {
		t.Error("the tree is not empty:", text)
	}
}

// allocate is an fn that takes the first free address of 10.0.0.0/24.
func allocate(id string) func(t *intent.Tree) ([]intent.Object, error) {
	return func(t *intent.Tree) ([]intent.Object, error) {
		taken := map[string]bool{}
		for _, p := range intent.List[*intent.SegmentPort](t, "/infra/segments/web") {
			if p.ID == id {
				return []intent.Object{p}, nil
			}
			taken[p.AddressBindings[0].IPAddress] = true
		}
		for a := netip.MustParseAddr("10.0.0.2"); ; a = a.Next() {
			if !taken[a.String()] {
				return []intent.Object{intent.Put("/infra/segments/web/ports/"+id, &intent.SegmentPort{
					AddressBindings: []intent.AddressBinding{{IPAddress: a.String(), MACAddress: fmt.Sprintf("04:50:56:00:00:%02x", a.As4()[3])}},
				}).Object}, nil
			}
		}
	}
}

func testTwoProcesses(t *testing.T, b backend) {
	kv, again := b.open(t)
	stores := []*store.Store{start(t, kv), start(t, again())}
	must(t)(stores[0].Update(t.Context(), put(intent.Put("/infra/segments/web", &intent.Segment{Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.0.0.1/24"}}}))))
	const each = 20
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range 2 {
			wg.Go(func() {
				for n := range each {
					id := fmt.Sprintf("%d-%d-%d", i, w, n)
					_, problems, err := s.ReplaceWith(t.Context(), store.Owner("Pod/a/"+id), allocate(id))
					if err != nil || intent.HasErrors(problems) {
						t.Errorf("%s: %v %v", id, problems, err)
					}
				}
			})
		}
	}
	wg.Wait()
	_, v0 := shot(stores[0])
	_, v1 := shot(stores[1])
	follow(t, stores[0], max(v0, v1))
	follow(t, stores[1], max(v0, v1))
	one, _ := shot(stores[0])
	two, _ := shot(stores[1])
	if one != two {
		t.Fatal(cmp.Diff(one, two))
	}
	seen := map[string]string{}
	stores[0].Read(func(tree *intent.Tree, _ store.Version) {
		for _, p := range intent.List[*intent.SegmentPort](tree, "/infra/segments/web") {
			a := p.AddressBindings[0].IPAddress
			if other := seen[a]; other != "" {
				t.Errorf("%s and %s both have %s", other, p.ID, a)
			}
			seen[a] = p.ID
		}
	})
	if len(seen) != 4*each || seen["10.0.0.81"] == "" {
		t.Errorf("%d addresses, want the first %d of the subnet", len(seen), 4*each)
	}
}

// next returns the first Event behind after.
func next(t *testing.T, s *store.Store, after store.Version) store.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for e := range s.Watch(ctx, after) {
		return e
	}
	t.Fatal("no event")
	return store.Event{}
}

func testWatch(t *testing.T, b backend) {
	kv, again := b.open(t)
	s, other := start(t, kv), start(t, again())
	v1 := must(t)(s.Update(t.Context(), put(change(tier1("a")))))
	follow(t, other, v1) // else it may load v3 at once
	v2 := must(t)(s.Update(t.Context(), put(change(tier1("b")), change(tier1("c")))))
	v3 := must(t)(s.Update(t.Context(), put(intent.Delete("/infra/tier-1s/b"))))
	follow(t, other, v3)
	fresh := start(t, again())
	p := func(ids ...string) (out []string) {
		for _, id := range ids {
			out = append(out, "/infra/tier-1s/"+id)
		}
		return out
	}
	for _, row := range []struct {
		s     *store.Store
		after store.Version
		want  store.Event
	}{
		{s, 0, store.Event{Version: v3, Changed: p("a", "c")}}, // all there is
		{s, v1, store.Event{Version: v3, Changed: p("b", "c")}},
		{s, v2, store.Event{Version: v3, Changed: p("b")}},
		{other, v1, store.Event{Version: v3, Changed: p("b", "c")}},
		{fresh, 0, store.Event{Version: v3, Changed: p("a", "c")}},
		{fresh, v1, store.Event{Version: v3}}, // it came later
	} {
		if d := cmp.Diff(row.want, next(t, row.s, row.after)); d != "" {
			t.Errorf("after %d: %s", row.after, d)
		}
	}
	// A reader that is not there costs nothing, and one that waits is woken.
	got := make(chan store.Event)
	go func() { got <- next(t, fresh, v3) }()
	v4 := must(t)(s.Update(t.Context(), put(change(tier1("d")))))
	if d := cmp.Diff(store.Event{Version: v4, Changed: p("d")}, <-got); d != "" {
		t.Error(d)
	}
}

func testCompaction(t *testing.T, b backend) {
	kv, again := b.open(t)
	gate := &gated{KV: kv, open: make(chan struct{})}
	s, behind := start(t, again()), start(t, gate)
	v1 := must(t)(s.Update(t.Context(), put(change(tier1("a")), change(tier1("b")))))
	gate.pass(v1)
	follow(t, behind, v1)
	must(t)(s.Update(t.Context(), put(change(tier1("c")))))
	must(t)(s.Update(t.Context(), put(intent.Delete("/infra/tier-1s/b"))))
	v := must(t)(s.Update(t.Context(), put(intent.Delete("/infra/tier-1s/c"), change(tier1("d")))))
	b.compact(t, kv, v)
	gate.pass(v)
	if d := cmp.Diff(store.Event{Version: v, Changed: []string{"/infra/tier-1s/b", "/infra/tier-1s/d"}}, next(t, behind, v1)); d != "" {
		t.Error(d)
	}
	one, _ := shot(s)
	if two, _ := shot(behind); one != two {
		t.Error(cmp.Diff(one, two))
	}
	// It goes on as before.
	v = must(t)(behind.Update(t.Context(), put(change(tier1("e")))))
	follow(t, s, v)
}

func testRestart(t *testing.T, b backend) {
	kv, again := b.open(t)
	s := start(t, kv)
	must(t)(s.Replace(t.Context(), "Namespace/a/1", tier1("red")))
	must(t)(s.Update(t.Context(), put(change(tier1("blue")), intent.Put(intent.DefaultRulePath, &intent.Rule{RuleID: 2, Action: "DROP", IsDefault: true}))))
	before, v := shot(s)
	s.Close()
	s = start(t, again())
	if after, w := shot(s); after != before || w != v {
		t.Errorf("version %d → %d: %s", v, w, cmp.Diff(before, after))
	}
	if w := must(t)(s.Update(t.Context(), put(change(tier1("green"))))); w <= v {
		t.Errorf("versions %d, %d", v, w)
	}
}

// What is stored depends on what was asked for, not on the order.
func testOrder(t *testing.T, b backend) {
	strip := func(s *store.Store) (out []string) {
		s.Read(func(t *intent.Tree, _ store.Version) {
			for _, o := range t.All() {
				o = intent.Clone(o)
				o.Meta().Revision = nil
				data, _ := intent.EncodeObject(o)
				out = append(out, string(data))
			}
		})
		return out
	}
	var want []string
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		kv, _ := b.open(t)
		s := start(t, kv)
		owners := r.Perm(8)
		if round > 0 { // what is there before, and other objects of the same owners
			for _, n := range r.Perm(8) {
				must(t)(s.Replace(t.Context(), store.Owner(fmt.Sprint("Namespace/", n)), tier1(fmt.Sprint("old", n)), tier1(fmt.Sprint("n", n))))
			}
		}
		for _, n := range owners {
			must(t)(s.Replace(t.Context(), store.Owner(fmt.Sprint("Namespace/", n)), tier1(fmt.Sprint("n", n)), tier1(fmt.Sprint("m", n))))
		}
		got := strip(s)
		if want == nil {
			want = got
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("round %d: %s", round, d)
		}
	}
}

func testClosed(t *testing.T, b backend) {
	kv, _ := b.open(t)
	s := start(t, kv)
	_, v := shot(s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range s.Watch(context.Background(), v) {
		}
	}()
	s.Close()
	<-ended
	if _, _, err := s.Update(t.Context(), put(change(tier1("a")))); err == nil || err.Error() != "store: is closed" {
		t.Errorf("a commit: %v", err)
	}
}
