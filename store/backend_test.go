package store_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/store/etcd"
)

// backend is one kind of KV.
type backend struct {
	name string
	// open returns a KV that has nothing yet, and how another process opens it.
	open func(t *testing.T) (kv store.KV, again func() store.KV)
	// compact forgets the order of all commits up to v.
	compact func(t *testing.T, kv store.KV, v store.Version)
}

var memory = backend{
	name: "memory",
	open: func(*testing.T) (store.KV, func() store.KV) {
		kv := store.NewMemory()
		return kv, func() store.KV { return kv }
	},
	compact: func(_ *testing.T, kv store.KV, v store.Version) { kv.(*store.Memory).Compact(v) },
}

// inEtcd has an etcd in this process for each test; the other processes reach
// it by its socket.
var inEtcd = backend{
	name: "etcd",
	open: func(t *testing.T) (store.KV, func() store.KV) {
		dir, err := os.MkdirTemp("", "etcd") // short, for the socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		kv, err := etcd.Embed(dir, nil, etcd.Unsynced())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { kv.Close() })
		return kv, func() store.KV {
			again, err := etcd.Dial([]string{kv.Endpoint()}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { again.Close() })
			return again
		}
	},
	compact: func(t *testing.T, kv store.KV, v store.Version) {
		if err := kv.(*etcd.KV).Compact(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	},
}

// start returns a Store of kv that ends with the test.
func start(t *testing.T, kv store.KV) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), kv, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put is a change that always is the same.
func put(changes ...intent.Change) func(*intent.Tree) ([]intent.Change, error) {
	return func(*intent.Tree) ([]intent.Change, error) {
		out := slices.Clone(changes)
		for i := range out {
			if out[i].Object != nil {
				out[i].Object = intent.Clone(out[i].Object)
			}
		}
		return out, nil
	}
}

// must commits, or ends the test.
func must(t *testing.T) func(store.Version, []intent.Problem, error) store.Version {
	return func(v store.Version, problems []intent.Problem, err error) store.Version {
		t.Helper()
		if err != nil || intent.HasErrors(problems) {
			t.Fatalf("not committed: %v %v", problems, err)
		}
		return v
	}
}

// refused demands one problem that begins so and no commit.
func refused(t *testing.T, want string) func(store.Version, []intent.Problem, error) {
	return func(_ store.Version, problems []intent.Problem, err error) {
		t.Helper()
		var got []string
		for _, p := range problems {
			got = append(got, string(p.Kind)+" "+p.String())
		}
		if err != nil || !intent.HasErrors(problems) || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func tier1(id string) *intent.Tier1 {
	return intent.Put("/infra/tier-1s/"+id, &intent.Tier1{}).Object.(*intent.Tier1)
}

func change(o intent.Object) intent.Change { return intent.Change{Path: o.Meta().Path, Object: o} }

// shot is the text of a tree and its version.
func shot(s *store.Store) (text string, version store.Version) {
	s.Read(func(t *intent.Tree, v store.Version) {
		var b strings.Builder
		for _, o := range t.All() {
			data, err := intent.EncodeObject(o)
			fmt.Fprintf(&b, "%s %v\n", data, err)
		}
		text, version = b.String(), v
	})
	return text, version
}

// follow waits until s is at v.
func follow(t *testing.T, s *store.Store, v store.Version) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, at := shot(s)
	if at >= v {
		return
	}
	for e := range s.Watch(ctx, at) {
		if e.Version >= v {
			return
		}
	}
	t.Fatalf("not at version %d: %v", v, ctx.Err())
}

func revisionOf(s *store.Store, path string) (n store.Version) {
	s.Read(func(t *intent.Tree, _ store.Version) {
		if o := t.Get(path); o != nil && o.Meta().Revision != nil {
			n = store.Version(*o.Meta().Revision)
		}
	})
	return n
}
