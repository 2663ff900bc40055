package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/store/etcd"
)

// directory returns one whose name is short, for the socket in it.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func embedded(t *testing.T, dir string, opts ...etcd.Option) *etcd.KV {
	t.Helper()
	kv, err := etcd.Embed(dir, nil, append(opts, etcd.Unsynced())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

func dialed(t *testing.T, endpoint string, opts ...etcd.Option) *etcd.KV {
	t.Helper()
	kv, err := etcd.Dial([]string{endpoint}, nil, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

// within ends a test that hangs.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// writes returns n writes of a value each.
func writes(n int, value string) (out []store.Write) {
	for i := range n {
		out = append(out, store.Write{Path: fmt.Sprintf("/infra/tier-1s/t%d", i), Value: []byte(value)})
	}
	return out
}

// A server in this process takes commits larger than etcd's defaults.
func TestLargeCommit(t *testing.T) {
	kv := embedded(t, directory(t))
	ctx := within(t)
	v, err := kv.Commit(ctx, 0, writes(6000, strings.Repeat("x", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := kv.Load(ctx) // more than a page
	if err != nil || len(s.Entries) != 6000 || s.Version != v || s.Entries[0].Version != v {
		t.Errorf("%d entries at %d, want 6000 at %d: %v", len(s.Entries), s.Version, v, err)
	}
}

func TestLimitsSayWhatToSet(t *testing.T) {
	server := embedded(t, directory(t), etcd.Limits(10, 4096))
	remote := dialed(t, server.Endpoint())
	ctx := within(t)
	for _, kv := range []*etcd.KV{server, remote} {
		for _, row := range []struct {
			writes []store.Write
			want   string
		}{
			{writes(10, "x"), "11 writes: are more than the server takes at once (set --max-txn-ops to at least 11, or commit less at once)"},
			{writes(1, strings.Repeat("x", 5000)), "5017 bytes: are more than the server takes at once (set --max-request-bytes to at least 10034, or commit less at once)"},
			// Refused by gRPC before etcd sees it.
			{writes(1, strings.Repeat("x", 2<<20)), "2097169 bytes: are more than the server takes at once (set --max-request-bytes to at least 4194338, or commit less at once)"},
		} {
			if _, err := kv.Commit(ctx, 0, row.writes); err == nil || !strings.HasSuffix(err.Error(), ": "+row.want) {
				t.Errorf("got  %v\nwant …: %s", err, row.want)
			}
		}
	}
	if v, err := remote.Head(ctx); v != 0 || err != nil {
		t.Errorf("something was committed: %d, %v", v, err)
	}
}

func TestOneProcessADirectory(t *testing.T) {
	dir := directory(t)
	kv := embedded(t, dir)
	if _, err := etcd.Embed(dir, nil); err == nil || err.Error() != "etcd: "+dir+": is in use by another process" {
		t.Errorf("the second: %v", err)
	}
	if err := kv.Close(); err != nil {
		t.Error(err)
	}
	embedded(t, dir)
}

func TestEndpoints(t *testing.T) {
	const allowed = ": is not an endpoint (https://HOST:PORT, http://HOST:PORT, unix:///PATH)"
	for endpoint, want := range map[string]string{
		"":               `etcd: endpoints: ""` + allowed,
		"10.0.0.5:2379":  `etcd: endpoints: "10.0.0.5:2379"` + allowed,
		"ftp://10.0.0.5": `etcd: endpoints: "ftp://10.0.0.5"` + allowed,
	} {
		if _, err := etcd.Dial([]string{endpoint}, nil); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", endpoint, err, want)
		}
	}
	if _, err := etcd.Dial(nil, nil); err == nil || err.Error() != "etcd: endpoints: are missing (such as https://10.0.0.5:2379)" {
		t.Errorf("none: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	const nobody = "unix:///nobody.sock"
	if _, err := dialed(t, nobody).Load(ctx); err == nil || err.Error() != "etcd "+nobody+": context deadline exceeded" {
		t.Errorf("nobody listens: %v", err)
	}
}

// collect watches in the background.
func collect(ctx context.Context, kv store.KV, after store.Version) <-chan any {
	out := make(chan any)
	go func() {
		for b, err := range kv.Watch(ctx, after) {
			var got any = b
			if err != nil {
				got = err
			}
			select {
			case out <- got:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// A watch and a commit outlive the server's restart.
func TestReconnect(t *testing.T) {
	dir := directory(t)
	server := embedded(t, dir)
	kv := dialed(t, server.Endpoint())
	ctx := within(t)
	v1, err := kv.Commit(ctx, 0, writes(1, "one"))
	if err != nil {
		t.Fatal(err)
	}
	got := collect(ctx, kv, 0)
	if d := cmp.Diff(any(store.Batch{Version: v1, Writes: writes(1, "one")}), <-got); d != "" {
		t.Fatal(d)
	}
	server.Close()
	type result struct {
		v   store.Version
		err error
	}
	done := make(chan result)
	go func() {
		v, err := kv.Commit(ctx, v1, writes(1, "two"))
		done <- result{v, err}
	}()
	embedded(t, dir)
	r := <-done
	if r.err != nil || r.v <= v1 {
		t.Fatal(r)
	}
	if d := cmp.Diff(any(store.Batch{Version: r.v, Writes: writes(1, "two")}), <-got); d != "" {
		t.Error(d)
	}
}

// Others may write to the same etcd, and it may compact what they wrote.
func TestSharedServer(t *testing.T) {
	server := embedded(t, directory(t))
	kv, other := dialed(t, server.Endpoint()), dialed(t, server.Endpoint(), etcd.Prefix("/other"))
	ctx := within(t)
	v1, err := kv.Commit(ctx, 0, writes(2, "one"))
	if err != nil {
		t.Fatal(err)
	}
	var head store.Version
	for range 5 {
		if head, err = other.Commit(ctx, head, writes(3, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Compact(ctx, head); err != nil {
		t.Fatal(err)
	}
	got := collect(ctx, kv, v1)
	if err := <-collect(ctx, kv, 0); !errors.Is(err.(error), store.ErrCompacted) {
		t.Errorf("from the beginning: %v", err)
	}
	if _, err := other.Commit(ctx, head, writes(3, "y")); err != nil {
		t.Fatal(err)
	}
	v2, err := kv.Commit(ctx, v1, []store.Write{{Path: "/infra/tier-1s/t1"}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(any(store.Batch{Version: v2, Writes: []store.Write{{Path: "/infra/tier-1s/t1"}}}), <-got); d != "" {
		t.Error(d)
	}
	s, err := kv.Load(ctx)
	if d := cmp.Diff(store.Snapshot{Version: v2, Entries: []store.Entry{{Path: "/infra/tier-1s/t0", Value: []byte("one"), Version: v1}}}, s); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := kv.Commit(ctx, v1, writes(1, "late")); !errors.Is(err, store.ErrStale) {
		t.Errorf("an old head: %v", err)
	}
}

// What waits ends with its KV.
func TestClose(t *testing.T) {
	server := embedded(t, directory(t))
	kv := dialed(t, server.Endpoint())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range kv.Watch(context.Background(), 0) {
		}
	}()
	kv.Close()
	<-ended
	if _, err := kv.Commit(within(t), 0, writes(1, "x")); err == nil || !strings.HasSuffix(err.Error(), "etcd: is closed") {
		t.Errorf("a commit: %v", err)
	}
	server.Close()
	if _, err := server.Head(within(t)); err == nil {
		t.Error("a closed server answers")
	}
}

const killedDir = "WEFT_TEST_ETCD_DIR"

// TestKilled kills a process between and within commits, again and again.
// Every commit of which it told is there, and no part of another.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedDir); dir != "" {
		commitForever(t, dir)
		return
	}
	dir := directory(t)
	var told store.Version
	for round := range 3 {
		told = max(told, killAfter(t, dir, 5+7*round))
		kv := embedded(t, dir)
		s, err := store.New(within(t), kv, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Read(func(tree *intent.Tree, v store.Version) {
			if v < told {
				t.Errorf("round %d: version %d, but %d was told", round, v, told)
			}
			a, b := tree.Get("/infra/tier-1s/a"), tree.Get("/infra/tier-1s/b")
			if a == nil || b == nil || a.Meta().Description != b.Meta().Description || *a.Meta().Revision != *b.Meta().Revision || *a.Meta().Revision != int64(v) {
				t.Errorf("round %d: half a commit: %v %v", round, a, b)
			}
		})
		s.Close()
		if err := kv.Close(); err != nil {
			t.Error(err)
		}
	}
}

// killAfter lets another process commit to dir, kills it after n commits that
// it told of, and returns the last of them.
func killAfter(t *testing.T, dir string, n int) store.Version {
	t.Helper()
	cmd := exec.CommandContext(within(t), os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killedDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last store.Version
	for lines := bufio.NewScanner(out); n > 0 && lines.Scan(); n-- {
		v, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Errorf("the process says %q", lines.Text())
		}
		last = store.Version(v)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if n > 0 {
		t.Fatalf("the process ended %d commits too early", n)
	}
	return last
}

// commitForever writes the same number to two objects, and the version to
// stdout.
func commitForever(t *testing.T, dir string) {
	kv, err := etcd.Embed(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(t.Context(), kv, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		v, problems, err := s.Update(t.Context(), func(tree *intent.Tree) ([]intent.Change, error) {
			text := fmt.Sprint(os.Getpid(), n)
			make := func(id string) intent.Change {
				return intent.Put("/infra/tier-1s/"+id, &intent.Tier1{Resource: intent.Resource{Description: text}})
			}
			return []intent.Change{make("a"), make("b")}, nil
		})
		if err != nil || problems != nil {
			t.Fatal(problems, err)
		}
		fmt.Println(int64(v))
	}
}
