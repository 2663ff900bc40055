package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// pods returns an owner's objects: a group and a service, and what they need.
func pods(n int) []intent.Object {
	base := fmt.Sprintf("/infra/domains/default/groups/g%d-", n)
	var out []intent.Object
	for i := range 6 {
		out = append(out, intent.Put(base+fmt.Sprint(i), &intent.Group{
			Resource:   intent.Resource{DisplayName: "ns/pod", Tags: []intent.Tag{{Scope: "ncp/cluster", Tag: "domain-c8"}, {Scope: "ncp/project", Tag: "red"}}},
			Expression: []intent.Expression{&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: "ncp/project|red"}},
		}).Object)
	}
	return out
}

func owner(n int) store.Owner { return store.Owner(fmt.Sprint("Pod/a/", n)) }

// large returns a store of 60 000 objects of 10 000 owners.
func large(tb testing.TB, kv store.KV) *store.Store {
	s, err := store.New(tb.Context(), kv, nil)
	if err != nil {
		tb.Fatal(err)
	}
	for n := range 10000 {
		if _, problems, err := s.Replace(tb.Context(), owner(n), pods(n)...); err != nil || problems != nil {
			tb.Fatal(problems, err)
		}
	}
	return s
}

// With 60 000 objects a Replace costs what the owner's objects cost.
func BenchmarkReplace(b *testing.B) {
	kv := store.NewMemory()
	began := time.Now()
	s := large(b, kv)
	defer s.Close()
	b.Logf("filled in %v", time.Since(began))
	began = time.Now()
	other, err := store.New(b.Context(), kv, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("loaded in %v", time.Since(began))
	other.Close()
	b.Run("unchanged", func(b *testing.B) {
		b.ReportAllocs()
		for n := range b.N {
			if _, problems, err := s.Replace(b.Context(), owner(n%10000), pods(n%10000)...); err != nil || problems != nil {
				b.Fatal(problems, err)
			}
		}
	})
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		for n := range b.N {
			objects := pods(n % 10000)
			objects[0].Meta().DisplayName = fmt.Sprint(b.N, n)
			if _, problems, err := s.Replace(b.Context(), owner(n%10000), objects...); err != nil || problems != nil {
				b.Fatal(problems, err)
			}
		}
	})
}
