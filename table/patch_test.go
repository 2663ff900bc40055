package table

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func encoded(t *testing.T, s *Set) string {
	t.Helper()
	data, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// patched sends the way from before to after through the codec and returns what
// it makes of before.
func patched(t *testing.T, before, after *Set) (*Set, []byte) {
	t.Helper()
	data, err := EncodePatch(MakePatch(before, after))
	if err != nil {
		t.Fatal(err)
	}
	p, err := DecodePatch(data)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	return got, data
}

func TestPatch(t *testing.T) {
	other := full()
	other.Node = "host2"
	other.Ports.Delete(8)
	other.Ports.Put(1, &Port{ID: 1, Path: "/infra/segments/web/ports/new"})
	other.Segments.Get(5).VNI++
	other.Endpoints.Delete(EndpointKey{5, netip.MustParseAddr("10.1.0.5")})
	other.AddrSets.Get(3).Addrs = append(other.AddrSets.Get(3).Addrs, RealmPrefix{AnyRealm, netip.MustParsePrefix("10.10.0.0/16")})
	other.Rulesets.Get(22).Rules = slices.Insert(slices.Clone(other.Rulesets.Get(22).Rules), 1, &Rule{ID: 9, Action: Drop})
	other.VIPs.Delete(VIPKey{DLB: 41, Addr: netip.MustParseAddr("10.96.0.1")})
	other.Pools.Get(60).Members[1].Weight = 3
	other.Timeouts.ICMP++
	for _, tt := range []struct {
		name          string
		before, after *Set
	}{
		{"from nothing", nil, full()},
		{"to nothing", full(), NewSet("host1")},
		{"to another", full(), other},
		{"and back", other, full()},
		{"the same", full(), full()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := patched(t, tt.before, tt.after)
			if diff := cmp.Diff(tt.after, got, addresses); diff != "" {
				t.Errorf("patched Set differs (-want +got):\n%s", diff)
			}
			if want := encoded(t, tt.after); encoded(t, got) != want {
				t.Error("the patched Set has another encoding")
			}
			plain, err := MakePatch(tt.before, tt.after).Apply(tt.before)
			if err != nil || encoded(t, plain) != encoded(t, tt.after) {
				t.Errorf("without the codec: differs (error %v)", err)
			}
		})
	}
	if p := MakePatch(full(), full()); p.Len() != 0 {
		t.Errorf("equal Sets: %d objects change", p.Len())
	}
	if p := MakePatch(full(), other); p.Len() != 9 {
		t.Errorf("%d objects change, want 9", p.Len())
	}
}

func TestPatchSharesWhatStays(t *testing.T) {
	before := full()
	after := *before
	after.Ports = MapOf(map[PortID]*Port{7: before.Ports.Get(7)})
	got, data := patched(t, before, &after)
	if string(data) != `{"Node":"host1","Ports":{"Gone":[6,8]}}` {
		t.Errorf("patch: %s", data)
	}
	if got.Ports.Get(7) != before.Ports.Get(7) {
		t.Error("a port that stays was copied")
	}
	if !got.Routes.Same(before.Routes) {
		t.Error("a map that stays was copied")
	}
	if before.Ports.Len() != 3 {
		t.Error("the Set before was changed")
	}
}

// Of a long list, only what changes is sent.
func TestPatchOfLongLists(t *testing.T) {
	before, after := NewSet("host1"), NewSet("host1")
	all, rules := &AddrSet{ID: 1, Name: "all"}, &Ruleset{ID: 2, Name: "in"}
	for i := range 5000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		all.Addrs = append(all.Addrs, RealmPrefix{0, netip.PrefixFrom(addr, 32)})
		rules.Rules = append(rules.Rules, &Rule{ID: uint32(i + 1), Name: fmt.Sprint("r", i), Action: Allow})
	}
	before.AddrSets.Put(1, all)
	before.Rulesets.Put(2, rules)
	fewer, other := *all, *rules
	fewer.Name, fewer.Addrs = "most", slices.Delete(slices.Clone(all.Addrs), 17, 19)
	fewer.Addrs = slices.Insert(fewer.Addrs, 4000, RealmPrefix{3, netip.MustParsePrefix("10.9.0.0/32")})
	other.Rules = slices.Clone(rules.Rules)
	other.Rules[9], other.Rules[4999] = other.Rules[4999], &Rule{ID: 9, Name: "other", Action: Drop}
	after.AddrSets.Put(1, &fewer)
	after.Rulesets.Put(2, &other)
	got, data := patched(t, before, after)
	if diff := cmp.Diff(after, got, addresses); diff != "" {
		t.Errorf("patched Set differs (-want +got):\n%s", diff)
	}
	if len(data) > 1500 {
		t.Errorf("the patch has %d bytes", len(data))
	}
}

func TestSplices(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		before, after := make([]int, r.IntN(12)), make([]int, 1+r.IntN(12))
		for _, list := range [][]int{before, after} {
			for i := range list {
				list[i] = r.IntN(14)
			}
		}
		list, _ := splices(before, after)
		got, err := spliced(before, list)
		if err != nil || !slices.Equal(got, after) {
			t.Fatalf("%v to %v: %+v gives %v (error %v)", before, after, list, got, err)
		}
	}
}

func TestDecodePatchRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no JSON", `[`, "patch: unexpected EOF"},
		{"unknown field", `{"Ports":{"Put":[{"Id2":1}]}}`, "unknown field"},
		{"text after the end", `{} x`, "text after its end"},
		{"null object", `{"VRFs":{"Put":[null]}}`, "patch: vrfs[0]: is null"},
		{"two objects with one key", `{"Pools":{"Put":[{"ID":1},{"ID":1}]}}`, "patch: pools[1]: 1: is given twice"},
		{"null ruleset", `{"Rulesets":{"Put":[null]}}`, "patch: rulesets[0]: is null"},
		{"rule without a number", `{"Rulesets":{"Put":[{"ID":9,"Rules":[0]}]}}`, "patch: ruleset 9: rule 0: does not exist"},
		{"row without a number", `{"RuleRows":[{"To":{"ID":9},"Rows":[{"Add":[-1]}]}]}`, "patch: ruleset 9: rule -1: does not exist"},
		{"rows of no ruleset", `{"RuleRows":[{}]}`, "patch: rows of rulesets[0]: want a ruleset without rules"},
		{"rows of no address set", `{"AddrRows":[{}]}`, "patch: rows of address sets[0]: want an address set without addresses"},
		{"rows of a whole address set", `{"AddrRows":[{"To":{"ID":1,"Addrs":[]}}]}`, "want an address set without addresses"},
		{"whole and rows", `{"AddrSets":{"Put":[{"ID":1}]},"AddrRows":[{"To":{"ID":1}}]}`, "patch: address sets[1]: 1: is given twice"},
		{"null monitor", `{"Pools":{"Put":[{"Monitors":[null]}]}}`, "patch: pools[0]: a monitor is null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodePatch([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestApplyPatchRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"what is not there goes", `{"Ports":{"Gone":[99]}}`, "patch: ports: 99: goes, but is not there"},
		{"twice", `{"Routes":{"Gone":[{"VRF":12,"Prefix":"0.0.0.0/0"},{"VRF":12,"Prefix":"0.0.0.0/0"}]}}`, "patch: routes: {12 0.0.0.0/0}: goes, but is not there"},
		{"rows of what is not there", `{"AddrRows":[{"To":{"ID":99}}]}`, "patch: address sets: 99: changes, but is not there"},
		{"rows that are not there", `{"AddrRows":[{"To":{"ID":3},"Rows":[{"At":1,"Gone":2}]}]}`, "patch: address sets: 3: change 0: rows 1 to 3: are not there (0 to 2)"},
		{"rows back", `{"RuleRows":[{"To":{"ID":22},"Rows":[{"At":1,"Gone":1},{"At":1}]}]}`, "patch: rulesets: 22: change 1: rows 1 to 1: are not there (2 to 2)"},
		{"more than there can be", `{"AddrRows":[{"To":{"ID":3},"Rows":[{"At":1,"Gone":9223372036854775807}]}]}`, "are not there"},
		{"fewer than none", `{"AddrRows":[{"To":{"ID":3},"Rows":[{"At":1,"Gone":-1}]}]}`, "are not there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := DecodePatch([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = p.Apply(full()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// What DecodePatch takes it gives back, and applying it is safe: where it fits,
// what it makes of a Set is a Set.
func FuzzDecodePatch(f *testing.F) {
	for _, p := range []*Patch{MakePatch(nil, full()), MakePatch(full(), NewSet("x")), MakePatch(full(), full())} {
		data, _ := EncodePatch(p)
		f.Add(data)
	}
	f.Add([]byte(`{"AddrRows":[{"To":{"ID":3},"Rows":[{"At":1,"Gone":1}]}],"Rules":[{"ID":1}],"RuleRows":[{"To":{"ID":22},"Rows":[{"Add":[0]}]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := DecodePatch(in)
		if err != nil {
			return
		}
		data, err := EncodePatch(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodePatch(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		got, err := p.Apply(full())
		same, err2 := again.Apply(full())
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%s: %v, and after a round trip %v", data, err, err2)
		}
		if err != nil {
			return
		}
		if encoded(t, got) != encoded(t, same) {
			t.Errorf("%s: makes another Set after a round trip", data)
		}
		if back, _ := patched(t, full(), got); encoded(t, back) != encoded(t, got) {
			t.Errorf("%s: makes a Set that a Patch does not reach", data)
		}
	})
}

// One more port of many: what it costs to tell a node, and the node to take it.
func BenchmarkPatchOnePort(b *testing.B) {
	before := NewSet("host1")
	all := &AddrSet{ID: 1}
	for i := range 20000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		id := PortID(i + 1)
		before.Ports.Put(id, &Port{ID: id, Path: fmt.Sprint("/infra/segments/s/ports/", i)})
		before.Endpoints.Put(EndpointKey{1, addr}, &Endpoint{Segment: 1, Addr: addr, Port: id})
		all.Addrs = append(all.Addrs, RealmPrefix{0, netip.PrefixFrom(addr, 32)})
	}
	before.AddrSets.Put(1, all)
	after := *before
	addr, more := netip.MustParseAddr("10.9.0.0"), *all
	more.Addrs = append(slices.Clone(all.Addrs), RealmPrefix{0, netip.PrefixFrom(addr, 32)})
	after.Ports, after.Endpoints, after.AddrSets = before.Ports, before.Endpoints, MapOf(map[AddrSetID]*AddrSet{1: &more})
	after.Ports.Put(99999, &Port{ID: 99999})
	after.Endpoints.Put(EndpointKey{1, addr}, &Endpoint{Segment: 1, Addr: addr, Port: 99999})
	var data []byte
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			data, _ = EncodePatch(MakePatch(before, &after))
		}
		b.ReportMetric(float64(len(data)), "bytes")
	})
	b.Run("take", func(b *testing.B) {
		for b.Loop() {
			p, err := DecodePatch(data)
			if err == nil {
				_, err = p.Apply(before)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
