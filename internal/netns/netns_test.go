package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/need"
)

// prefix keeps the names of one test process apart from any other's.
var prefix = fmt.Sprintf("wefttest%d-", os.Getpid())

func newNamespace(t *testing.T, name string) *Namespace {
	t.Helper()
	need.Root(t)
	n, err := New(prefix + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		if err := Delete(n.Name()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// ownID is the namespace of the calling thread.
func ownID(t *testing.T) ID {
	t.Helper()
	f, err := os.Open(threadNet)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := (&Namespace{name: "own", file: f}).ID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	n := newNamespace(t, "do")
	want, err := n.ID()
	if err != nil {
		t.Fatal(err)
	}
	before := ownID(t)
	var inside ID
	var links []net.Interface
	err = n.Do(func() error {
		inside = ownID(t)
		var err error
		links, err = net.Interfaces()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if inside != want || inside == before {
		t.Errorf("Do ran in %v, want %v and not %v", inside, want, before)
	}
	if len(links) != 1 || links[0].Name != "lo" {
		t.Errorf("links of a new namespace = %v, want lo only", links)
	}
	if after := ownID(t); after != before {
		t.Errorf("after Do the thread is in %v, want %v", after, before)
	}
}

func TestDoReturnsTheFunctionsError(t *testing.T) {
	n := newNamespace(t, "err")
	want := errors.New("refused")
	if err := n.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestConcurrentDoStaysApart(t *testing.T) {
	a, b := newNamespace(t, "a"), newNamespace(t, "b")
	home := ownID(t)
	var wg sync.WaitGroup
	for i := range 40 {
		n := []*Namespace{a, b}[i%2]
		wg.Go(func() {
			want, _ := n.ID()
			n.Do(func() error {
				if got := ownID(t); got != want {
					t.Errorf("%s: ran in %v, want %v", n.Name(), got, want)
				}
				return nil
			})
		})
	}
	wg.Wait()
	for range 40 {
		wg.Go(func() {
			if got := ownID(t); got != home {
				t.Errorf("a thread stayed in %v", got)
			}
		})
	}
	wg.Wait()
}

func TestNewRefusesATakenName(t *testing.T) {
	n := newNamespace(t, "taken")
	if _, err := New(n.Name()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	if again, err := Open(n.Name()); err != nil {
		t.Errorf("the first one is gone: %v", err)
	} else {
		again.Close()
	}
}

func TestNamesThatAreNoFileNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b"} {
		if _, err := New(name); err == nil {
			t.Errorf("New(%q) succeeded", name)
		}
		if err := Delete(name); err == nil {
			t.Errorf("Delete(%q) succeeded", name)
		}
	}
}

func TestListAndDelete(t *testing.T) {
	newNamespace(t, "list2")
	newNamespace(t, "list1")
	got, err := List(prefix + "list")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{prefix + "list1", prefix + "list2"}, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	for range 2 { // the second time there is nothing to delete
		if err := Delete(prefix + "list1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(prefix + "list1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Delete: %v, want %v", err, fs.ErrNotExist)
	}
}

func TestDeleteRemovesWhatAnInterruptedNewLeft(t *testing.T) {
	need.Root(t)
	if err := shareDir(); err != nil {
		t.Fatal(err)
	}
	name := prefix + "half"
	if err := os.WriteFile(Path(name), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := Delete(name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Path(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name is still there: %v", err)
	}
}

func TestPidsFindsProcessesInside(t *testing.T) {
	need.Tool(t, "sleep")
	n := newNamespace(t, "pids")
	cmd := exec.Command("sleep", "60")
	if err := n.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	id, err := n.ID()
	if err != nil {
		t.Fatal(err)
	}
	pids, err := Pids(id)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("Pids = %v, want %d only", pids, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if pids, err := Pids(id); err != nil || len(pids) != 0 {
		t.Errorf("after the process ended: %v, %v", pids, err)
	}
}

func TestOpenPath(t *testing.T) {
	own, err := OpenPath("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	got, err := own.ID()
	if want, ok := OfProcess(os.Getpid()); err != nil || !ok || got != want {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := OpenPath("/proc/self/ns/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, path := range []string{"/proc/self/ns/mnt", "/proc/self/status", t.TempDir()} {
		if _, err := OpenPath(path); !errors.Is(err, ErrNoNamespace) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
