package agent

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/monitor"
	"github.com/weft-net/weft/table"
)

func TestShare(t *testing.T) {
	old, set := pooled(2), pooled(2)
	set.Pools.Put(2, &table.Pool{ID: 2, Path: "/infra/lb-pools/new"})
	set.Ports.Get(1).Name = "renamed"
	set.Ports.Delete(2)
	want := pooled(2)
	want.Pools.Put(2, set.Pools.Get(2))
	want.Ports = table.MapOf(map[table.PortID]*table.Port{1: {ID: 1, Path: "/infra/segments/web/ports/a", Name: "renamed"}})
	share(old, set)
	if diff := cmp.Diff(want, set, compareAddrs); diff != "" {
		t.Errorf("sharing changes the Set (-want +got):\n%s", diff)
	}
	if set.Pools.Get(1) != old.Pools.Get(1) {
		t.Error("a pool that stays is not shared")
	}
	if set.Ports.Get(1) == old.Ports.Get(1) || old.Ports.Len() != 2 || old.Pools.Len() != 1 {
		t.Error("the old Set has changed, or lent what is another object now")
	}
	if !set.VIPs.Same(old.VIPs) {
		t.Error("a map that stays is not shared")
	}
}

// TestShareHasEveryMap fails if the Set has a map of objects that share does
// not know.
func TestShareHasEveryMap(t *testing.T) {
	old, set := fullSet(), fullSet()
	share(old, set)
	a, b := reflect.ValueOf(*old), reflect.ValueOf(*set)
	maps := 0
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !strings.HasPrefix(f.Type.String(), "table.Map[") {
			continue
		}
		maps++
		if a.Field(i).Interface() != b.Field(i).Interface() {
			t.Errorf("%s: is not shared", f.Name)
		}
	}
	if maps < 14 {
		t.Errorf("%d maps were looked at", maps)
	}
}

// fullSet returns a Set with an object in each map.
func fullSet() *table.Set {
	s := table.NewSet("host1")
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		put := v.Field(i).Addr().MethodByName("Put")
		if !put.IsValid() {
			continue
		}
		put.Call([]reflect.Value{reflect.Zero(put.Type().In(0)), reflect.New(put.Type().In(1).Elem())})
	}
	return s
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
		unhealthyOf(got.Set, nil)
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
