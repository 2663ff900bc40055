package lab

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
)

// wantUp fails unless the lab has exactly the machines names, all up.
func wantUp(t *testing.T, s *System, lab string, names ...string) {
	t.Helper()
	want := map[string]string{}
	for _, name := range names {
		want[name] = "up"
	}
	if diff := cmp.Diff(want, states(t, s, lab)); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	var wantNames []string
	for name := range maps.Keys(want) {
		wantNames = append(wantNames, prefixOf(lab)+strings.ReplaceAll(name, "/", "."))
	}
	slices.Sort(wantNames)
	if got, err := netns.List(prefixOf(lab)); err != nil || !slices.Equal(got, wantNames) {
		t.Errorf("namespaces = %v, %v, want %v", got, err, wantNames)
	}
}

// crashing makes s act as if it were killed after its nth step. The function
// that it returns lets it live again and says whether it was killed.
func crashing(t *testing.T, s *System, n int) (context.Context, func() bool) {
	ctx, kill := context.WithCancel(t.Context())
	steps, was := 0, s.Progress
	s.Progress = func(string) {
		if steps++; steps == n {
			kill() // this step is still done, the next is not
		}
	}
	return ctx, func() bool {
		s.Progress = was
		killed := ctx.Err() != nil
		kill()
		return killed
	}
}

// abandon builds as Up does and stops after n steps without cleaning up. It
// returns false if Up has no more than n steps.
func abandon(t *testing.T, s *System, lab string, files []File, n int) bool {
	t.Helper()
	in := read(files)
	g, err := s.goal(intent.NewTree(), in, in.spec)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.acquire(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close() // as the kernel does for a killed process; the file stays
	ctx, live := crashing(t, s, n)
	defer live()
	err = s.build(ctx, g)
	if err != nil && (!live() || !errors.Is(err, context.Canceled)) {
		t.Fatalf("after %d steps: %v", n, err)
	}
	return err != nil
}

func TestDownAfterACrashAtAnyStep(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "crash")
	files := labFiles(t, "seeds.yaml", lab)
	n := 1
	for ; abandon(t, s, lab, files, n); n++ {
		if _, err := s.Down(t.Context(), lab); err != nil {
			t.Fatalf("down after step %d: %v", n, err)
		}
		wantNothing(t, s, lab)
	}
	if n < 15 {
		t.Errorf("up has %d steps only", n)
	}
}

func TestUpAfterACrash(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "again")
	files := labFiles(t, "seeds.yaml", lab)
	for _, n := range []int{1, 5, 14} {
		if !abandon(t, s, lab, files, n) {
			t.Fatalf("up has less than %d steps", n)
		}
		up(t, s, files)
		wantUp(t, s, lab, "host1", "physical", "web", "client", "red-db", "red/web")
		if _, err := s.Down(t.Context(), lab); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDownWithoutTheState(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"lost":  os.RemoveAll,
		"empty": func(dir string) error { return os.WriteFile(filepath.Join(dir, stateFile), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newSystem(t)
			lab := testLab(t, s, name)
			up(t, s, labFiles(t, "seeds.yaml", lab))
			if err := spoil(s.dir(lab)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Down(t.Context(), lab); err != nil {
				t.Fatal(err)
			}
			wantNothing(t, s, lab)
		})
	}
}

func TestDownEndsProcessesInside(t *testing.T) {
	need.Tool(t, "sleep")
	s, _ := newSystem(t)
	lab := testLab(t, s, "procs")
	up(t, s, labFiles(t, "seeds.yaml", lab))
	cmd := exec.Command("sleep", "60")
	if err := namespace(t, lab, "red.web").Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if removed, err := s.Down(t.Context(), lab); err != nil || removed.Processes != 3 {
		t.Errorf("Down = %+v, %v, want the agent, the server and the process ended", removed, err)
	}
	if err := <-ended; err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v", err)
	}
}

// deleteDB removes a workload and adds another one.
const deleteDB = `
resource_type: Infra
children:
- resource_type: ChildResourceReference
  id: red
  target_type: Segment
  children:
  - resource_type: ChildSegmentPort
    marked_for_delete: true
    SegmentPort: {id: db, resource_type: SegmentPort}
  - resource_type: ChildSegmentPort
    SegmentPort:
      id: new
      resource_type: SegmentPort
      address_bindings:
      - {ip_address: 10.244.0.20, mac_address: "04:50:56:00:00:14"}
`

func TestApplyChangesOnlyWhatItMust(t *testing.T) {
	s, driver := newSystem(t)
	lab := testLab(t, s, "apply")
	up(t, s, labFiles(t, "seeds.yaml", lab))
	id := func(name string) netns.ID {
		id, err := namespace(t, lab, name).ID()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := map[string]netns.ID{"host1": id("host1"), "red.web": id("red.web"), "web": id("web")}
	if err := s.Apply(t.Context(), lab, []File{{Name: "change", Data: []byte(deleteDB)}}); err != nil {
		t.Fatal(err)
	}
	wantUp(t, s, lab, "host1", "physical", "web", "client", "red/web", "new")
	for name, was := range before {
		if id(name) != was {
			t.Errorf("%s was built anew", name)
		}
	}
	told := driver.told(t)
	if last := told[len(told)-1]; last.Set.Ports.Len() != 2 || len(last.Binding) != 3 {
		t.Errorf("the data plane has %d ports and %d devices", last.Set.Ports.Len(), len(last.Binding))
	}
	if _, err := s.Up(t.Context(), labFiles(t, "seeds.yaml", lab)); err == nil {
		t.Error("up takes the changed lab for the one of its files")
	}
	t.Run("lab document", func(t *testing.T) {
		files := labFiles(t, "seeds.yaml", lab, "name: client", "name: laptop", "display_name: red db", "display_name: base")
		if err := s.Apply(t.Context(), lab, files); err != nil {
			t.Fatal(err)
		}
		wantUp(t, s, lab, "host1", "physical", "web", "laptop", "red/web", "new", "base")
		if body, err := get(t, namespace(t, lab, "laptop"), "192.168.178.222:88"); err != nil || body != "Requester IP: 192.168.178.100\n" {
			t.Errorf("from the renamed machine: %q, %v", body, err)
		}
	})
	t.Run("problems change nothing", func(t *testing.T) {
		bad := strings.Replace(deleteDB, "10.244.0.20", "10.245.0.20", 1)
		err := s.Apply(t.Context(), lab, []File{{Name: "change", Data: []byte(bad)}})
		if _, ok := errors.AsType[Problems](err); !ok {
			t.Errorf("Apply: %v, want problems", err)
		}
		wantUp(t, s, lab, "host1", "physical", "web", "laptop", "red/web", "new", "base")
	})
	t.Run("another host", func(t *testing.T) {
		err := s.Apply(t.Context(), lab, labFiles(t, "seeds.yaml", lab, "outside:\n", "hosts: [{name: other}]\noutside:\n"))
		if err == nil || !strings.Contains(err.Error(), "cannot change while it is up") {
			t.Errorf("Apply: %v", err)
		}
	})
}

func TestApplyAfterACrashAtAnyStep(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "half")
	files := labFiles(t, "seeds.yaml", lab)
	changed := labFiles(t, "seeds.yaml", lab, "to: 10.15.0.0/16", "to: 10.16.0.0/16", "name: client", "name: laptop", "http: [80, 88]", "http: [90]")
	up(t, s, files)
	n := 1
	for unfinished := true; unfinished; n++ {
		ctx, live := crashing(t, s, n)
		err := s.Apply(ctx, lab, changed)
		unfinished = err != nil
		if killed := live(); unfinished && (!killed || !errors.Is(err, context.Canceled)) {
			t.Fatalf("after %d steps: %v", n, err)
		}
		if _, err := s.Up(t.Context(), files); err == nil {
			t.Errorf("after %d steps: up takes a changed lab for its own", n)
		}
		if n%2 == 0 { // on even turns go on, on odd ones go back
			if err := s.Apply(t.Context(), lab, changed); err != nil {
				t.Fatalf("again after %d steps: %v", n, err)
			}
			wantUp(t, s, lab, "host1", "physical", "web", "laptop", "red-db", "red/web")
		}
		if err := s.Apply(t.Context(), lab, files); err != nil {
			t.Fatalf("back after %d steps: %v", n, err)
		}
		wantUp(t, s, lab, "host1", "physical", "web", "client", "red-db", "red/web")
	}
	if n < 8 {
		t.Errorf("apply has %d steps only", n)
	}
}

func TestCommandsOnALabThatIsNotUp(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "none")
	want := "lab " + lab + ": is not up (use 'weft lab up FILE')"
	_, status := s.Status(t.Context(), lab)
	_, set := s.Set(t.Context(), lab)
	for name, err := range map[string]error{
		"status": status,
		"set":    set,
		"apply":  s.Apply(t.Context(), lab, nil),
		"exec":   s.Exec(lab, "host1", []string{"true"}),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	wantNothing(t, s, lab)
}

func TestExecNamesWhatExists(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "exec")
	up(t, s, labFiles(t, "seeds.yaml", lab))
	err := s.Exec(lab, "red", []string{"true"})
	want := "lab " + lab + ": red: is no machine of it (host1, physical, web, client, red-db, red/web)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = s.Exec(lab, "web", []string{"no-such-program"})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want %v", err, exec.ErrNotFound)
	}
}
