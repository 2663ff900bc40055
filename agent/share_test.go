package agent

import (
	"encoding/json"
	"reflect"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/monitor"
	"github.com/weft-net/weft/table"
)

func TestShare(t *testing.T) {
	old, set := pooled(2), pooled(2)
	set.Pools[2] = &table.Pool{ID: 2, Path: "/infra/lb-pools/new"}
	set.Ports[1].Name = "renamed"
	delete(set.Ports, 2)
	want := pooled(2)
	want.Pools[2] = set.Pools[2]
	want.Ports = map[table.PortID]*table.Port{1: {ID: 1, Path: "/infra/segments/web/ports/a", Name: "renamed"}}
	share(old, set)
	if diff := cmp.Diff(want, set, compareAddrs); diff != "" {
		t.Errorf("sharing changes the Set (-want +got):\n%s", diff)
	}
	if set.Pools[1] != old.Pools[1] {
		t.Error("a pool that stays is not shared")
	}
	if set.Ports[1] == old.Ports[1] || len(old.Ports) != 2 || len(old.Pools) != 1 {
		t.Error("the old Set has changed, or lent what is another object now")
	}
	if reflect.ValueOf(set.VIPs).Pointer() != reflect.ValueOf(old.VIPs).Pointer() {
		t.Error("a map that stays is not shared")
	}
}

// TestShareHasEveryMap fails if the Set has a map of objects that share does
// not know.
func TestShareHasEveryMap(t *testing.T) {
	old, set := table.NewSet("host1"), table.NewSet("host1")
	share(old, set)
	a, b := reflect.ValueOf(*old), reflect.ValueOf(*set)
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Pointer && a.Field(i).Pointer() != b.Field(i).Pointer() {
			t.Errorf("%s: is not shared", f.Name)
		}
	}
}

// FuzzTables holds that what can be read can be worked with, and is written as
// it was read.
func FuzzTables(f *testing.F) {
	whole, err := json.Marshal(of(pooled(2)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(whole))
	// null where the Set has objects in lists of objects
	for _, list := range []string{"Monitors", "Servers"} {
		f.Add(regexp.MustCompile(`"`+list+`":\[.*?\}\]`).ReplaceAllString(string(whole), `"`+list+`":[null]`))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got Tables
		if json.Unmarshal([]byte(text), &got) != nil {
			return
		}
		_ = got.check()
		monitor.Targets(got.Set)
		members(got.Set, nil, nil)
		unhealthy(got.Set, nil)
		first, err := json.Marshal(&got)
		if err != nil {
			t.Fatal(err)
		}
		var again Tables
		if err := json.Unmarshal(first, &again); err != nil {
			t.Fatalf("what was written can not be read: %v", err)
		}
		if second, err := json.Marshal(&again); err != nil || string(second) != string(first) {
			t.Errorf("written again: %s, %v; before: %s", second, err, first)
		}
	})
}
