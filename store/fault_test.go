package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// A commit of which nobody knows whether it was made is made once at most, and
// the tree is what the KV has.
func TestUnknownOutcome(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	kv := store.NewMemory()
	s := start(t, &unsure{KV: kv, lose: func(int) (before, after bool) { return r.IntN(3) == 0, r.IntN(3) == 0 }})
	must := func(fn func() ([]intent.Problem, error)) {
		for {
			switch problems, err := fn(); {
			case intent.HasErrors(problems):
				t.Fatal(problems)
			case err == nil:
				return
			case !errors.Is(err, errLost):
				t.Fatal(err)
			}
		}
	}
	must(func() ([]intent.Problem, error) {
		_, problems, err := s.Update(t.Context(), put(intent.Put("/infra/segments/web", &intent.Segment{Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.0.0.1/24"}}})))
		return problems, err
	})
	const ports = 40
	for n := range ports {
		id := fmt.Sprint(n)
		must(func() ([]intent.Problem, error) {
			_, problems, err := s.ReplaceWith(t.Context(), store.Owner("Pod/a/"+id), allocate(id))
			return problems, err
		})
	}
	fresh := start(t, kv)
	want, v := shot(fresh)
	follow(t, s, v)
	if got, _ := shot(s); got != want {
		t.Error(cmp.Diff(want, got))
	}
	fresh.Read(func(tree *intent.Tree, _ store.Version) {
		list := intent.List[*intent.SegmentPort](tree, "/infra/segments/web")
		if len(list) != ports {
			t.Errorf("%d ports, want %d", len(list), ports)
		}
	})
}

// What is not valid is not followed: commits are refused with the reason until
// it is mended.
func TestInvalidInKV(t *testing.T) {
	kv := store.NewMemory()
	s := start(t, kv)
	v := must(t)(s.Update(t.Context(), put(change(tier1("red")))))
	const path = "/infra/tier-1s/blue"
	write := func(v store.Version, value string) store.Version {
		t.Helper()
		v, err := kv.Commit(t.Context(), v, []store.Write{{Path: path, Value: []byte(value)}})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, row := range []struct{ value, want string }{
		{`{`, path + ": is not JSON: unexpected EOF"},
		{`{"resource_type":"Tier1","id":"blue","path":"/infra/tier-1s/other"}`, path + ": path: /infra/tier-1s/other: is not where the object is (want " + path + ")"},
		{`{"resource_type":"Tier1","id":"blue","path":"` + path + `","tier0_path":"/infra/tier-0s/no"}`, path + ": tier0_path: /infra/tier-0s/no: does not exist"},
	} {
		v = write(v, row.value)
		_, _, err := s.Update(t.Context(), put(change(tier1("green"))))
		want := "store: cannot be loaded: what is stored is not valid: " + row.want
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if _, err := store.New(t.Context(), kv, nil); err == nil || !strings.HasSuffix(err.Error(), row.want) {
			t.Errorf("a new store: %v", err)
		}
		v = write(v, `{"resource_type":"Tier1","id":"blue","path":"`+path+`"}`)
		follow(t, s, v)
	}
	must(t)(s.Update(t.Context(), put(change(tier1("green")))))
}
