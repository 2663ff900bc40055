package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// testDir is the environment variable that makes the test binary weft itself,
// with its state in that directory and without a data plane.
const testDir = "WEFT_TEST_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(testDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	env := &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	system := func() (*lab.System, error) {
		self, err := os.Executable()
		return &lab.System{
			StateDir: filepath.Join(dir, "run"), PinDir: filepath.Join(dir, "pins"),
			Server: []string{self, "lab", "serve-http"}, Agent: []string{self, "lab", "agent"}, Compile: portsOnly,
			Open: func(string) (dataplane.Driver, error) { return noDriver{}, nil },
		}, err
	}
	os.Exit(execute(context.Background(), env, newRootCommand(env, system, func(string) (agent.Driver, error) { return noDriver{}, nil }), os.Args[1:]))
}

// noDriver is a data plane that forwards nothing.
type noDriver struct{}

func (noDriver) Apply(context.Context, *table.Set, dataplane.Binding) error { return nil }
func (noDriver) Check(*table.Set, dataplane.Binding) error                  { return nil }
func (noDriver) Record(dataplane.Link, packet.Tuple) (dataplane.Recorder, error) {
	return nil, errors.New("records nothing")
}
func (noDriver) Status(context.Context) (dataplane.Status, error) {
	return dataplane.Status{Counters: map[string]uint64{"packets": 7}}, nil
}
func (noDriver) Sweep(context.Context) error                              { return nil }
func (noDriver) Fails(context.Context) (map[table.MemberID]uint32, error) { return nil, nil }
func (noDriver) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return nil, nil
}
func (noDriver) Loads(context.Context) (dataplane.Loads, error)                      { return dataplane.Loads{}, nil }
func (noDriver) PortDrops(context.Context) ([]dataplane.PortDrop, error)             { return nil, nil }
func (noDriver) Connections(context.Context, func(*dataplane.Connection) bool) error { return nil }
func (noDriver) Close() error                                                        { return nil }

// portsOnly compiles segments and their ports.
func portsOnly(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
	set := table.NewSet("host1")
	for i, s := range intent.List[*intent.Segment](tree, "") {
		segment := table.SegmentID(i + 1)
		set.Segments.Put(segment, &table.Segment{ID: segment, Path: s.Path, Gateways: s.Gateways()})
		for j, p := range intent.List[*intent.SegmentPort](tree, s.Path) {
			port := table.PortID(100*(i+1) + j)
			set.Ports.Put(port, &table.Port{ID: port, Path: p.Path, Name: p.Name(), Segment: segment})
			for _, b := range p.Bindings() {
				set.Endpoints.Put(table.EndpointKey{Segment: segment, Addr: b.Addr}, &table.Endpoint{
					Segment: segment, Addr: b.Addr, Port: port, MAC: table.MAC(b.MAC),
				})
			}
		}
	}
	return map[string]*table.Set{"host1": set}, nil
}

// weft runs the test binary as weft and returns what it printed and its exit
// code.
func weft(t *testing.T, dir, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), testDir+"="+dir)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), code
}

const labFile = `
resource_type: Infra
children:
- resource_type: ChildSegment
  Segment:
    id: red
    resource_type: Segment
    subnets: [{gateway_address: 10.244.0.17/28}]
    children:
    - resource_type: ChildSegmentPort
      SegmentPort:
        id: web
        display_name: red/web
        resource_type: SegmentPort
        address_bindings: [{ip_address: 10.244.0.18, mac_address: "04:50:56:00:00:12"}]
---
resource_type: Lab
name: LABNAME
workloads:
- {name: red/web, port: /infra/segments/red/ports/web, http: [80]}
`

func TestLabFromUpToDown(t *testing.T) {
	need.Root(t)
	dir, name := t.TempDir(), fmt.Sprintf("t%dcli", os.Getpid())
	t.Cleanup(func() {
		weft(t, dir, "", "lab", "down", "--lab", name)
		if left, err := netns.List("weft-" + name + "-"); err != nil || len(left) > 0 {
			t.Errorf("namespaces left: %v, %v", left, err)
		}
	})
	file := strings.ReplaceAll(labFile, "LABNAME", name)
	for range 2 { // the second time it is up already
		stdout, stderr, code := weft(t, dir, file, "lab", "up", "-")
		if code != 0 {
			t.Fatalf("up: exit %d: %s", code, stderr)
		}
		for _, want := range []string{"lab " + name + ": up\n", "red/web", "10.244.0.18/28"} {
			if !strings.Contains(stdout, want) {
				t.Errorf("up printed no %q:\n%s", want, stdout)
			}
		}
		if strings.Contains(stdout, "\x1b") {
			t.Errorf("colours without a terminal: %q", stdout)
		}
	}

	t.Run("up with other files", func(t *testing.T) {
		_, stderr, code := weft(t, dir, strings.ReplaceAll(file, "10.244.0.18", "10.244.0.19"), "lab", "up", "-")
		want := "lab " + name + " is up with other files; use 'weft lab apply' or 'weft lab down'\n"
		if code != 1 || stderr != want {
			t.Errorf("exit %d: %q, want 1: %q", code, stderr, want)
		}
	})
	t.Run("exec", func(t *testing.T) { checkExec(t, dir, name) })
	t.Run("status", func(t *testing.T) {
		stdout, stderr, code := weft(t, dir, "", "lab", "status", "-o", "json")
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		var got lab.Status
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatal(err)
		}
		if got.Agent == nil || got.Agent.Node != "host1" || got.Agent.PID == 0 {
			t.Errorf("agent: %+v", got.Agent)
		}
		got.Agent = nil
		want := lab.Status{Lab: name, Phase: lab.Running, DataPlane: &dataplane.Status{Counters: map[string]uint64{"packets": 7}}, Machines: []lab.MachineStatus{
			{Name: "host1", Kind: lab.Host, Namespace: "weft-" + name + "-host1", Addresses: []string{}, State: "up"},
			{
				Name: "red/web", Kind: lab.Workload, Namespace: "weft-" + name + "-red.web", MAC: "04:50:56:00:00:12",
				Addresses: []string{"10.244.0.18/28"}, Port: "/infra/segments/red/ports/web", HTTP: []uint16{80}, State: "up",
			},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	})
	t.Run("status for people", func(t *testing.T) {
		stdout, stderr, code := weft(t, dir, "", "lab", "status")
		want := "\ndata plane: generation 0\n\nCOUNTER  COUNT\npackets  7\n"
		if code != 0 || !strings.HasSuffix(stdout, want) || !strings.Contains(stdout, "red/web") {
			t.Errorf("exit %d: %s%s, want it to end with %s", code, stdout, stderr, want)
		}
	})
	t.Run("apply", func(t *testing.T) {
		_, stderr, code := weft(t, dir, strings.ReplaceAll(file, "10.244.0.18", "10.244.0.20"), "lab", "apply", "-")
		if code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		stdout, _, _ := weft(t, dir, "", "lab", "exec", "red/web", "--", "ip", "-4", "-br", "addr", "show", "eth0")
		if !strings.Contains(stdout, "10.244.0.20/28") {
			t.Errorf("the workload has %q", stdout)
		}
	})
	t.Run("down", func(t *testing.T) {
		stdout, stderr, code := weft(t, dir, "", "lab", "down")
		if want := "lab " + name + " is down: 2 namespaces and 2 processes removed\n"; code != 0 || stdout != want {
			t.Errorf("exit %d: %q %s, want %q", code, stdout, stderr, want)
		}
		if stdout, _, code := weft(t, dir, "", "lab", "down"); code != 0 || stdout != "no lab is up\n" {
			t.Errorf("second down: exit %d: %q", code, stdout)
		}
	})
}

func checkExec(t *testing.T, dir, name string) {
	need.Tool(t, "sh", "cat", "readlink")
	for _, tc := range []struct {
		name           string
		stdin          string
		args           []string
		stdout, stderr string
		code           int
	}{
		{"stdio", "hello", []string{"red/web", "--", "cat"}, "hello", "", 0},
		{"exit code", "", []string{"red/web", "--", "sh", "-c", "echo oops >&2; exit 42"}, "", "oops\n", 42},
		{"flags without --", "", []string{"red/web", "sh", "-c", "echo $0 -l", "-l"}, "-l -l\n", "", 0},
		{"unknown machine", "", []string{"blue", "--", "true"}, "", "lab " + name + ": blue: is no machine of it (host1, red/web)\n", 1},
		{"unknown program", "", []string{"red/web", "--", "no-such-program"}, "", "no-such-program: exec: \"no-such-program\": executable file not found in $PATH\n", 127},
		{"no command", "", []string{"red/web"}, "", "weft lab exec: CMD: is missing\nsee 'weft lab exec --help'\n", 2},
	} {
		stdout, stderr, code := weft(t, dir, tc.stdin, append([]string{"lab", "exec"}, tc.args...)...)
		if stdout != tc.stdout || stderr != tc.stderr || code != tc.code {
			t.Errorf("%s: exit %d: %q, %q; want %d: %q, %q", tc.name, code, stdout, stderr, tc.code, tc.stdout, tc.stderr)
		}
	}
	n, err := netns.Open("weft-" + name + "-red.web")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	want, err := n.ID()
	if err != nil {
		t.Fatal(err)
	}
	got, _, _ := weft(t, dir, "", "lab", "exec", "red/web", "--", "readlink", "/proc/self/ns/net")
	if got != fmt.Sprintf("net:[%d]\n", want.Ino) {
		t.Errorf("exec ran in %q, want inode %d", got, want.Ino)
	}
}

// TestDownAfterKill kills up at some moments while it works.
func TestDownAfterKill(t *testing.T) {
	need.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, name := t.TempDir(), fmt.Sprintf("t%dkill", os.Getpid())
	for _, delay := range []time.Duration{10, 25, 40, 60, 80} {
		cmd := exec.Command(self, "lab", "up", "-")
		cmd.Env = append(os.Environ(), testDir+"="+dir)
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(labFile, "LABNAME", name))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay * time.Millisecond) // the moment of the kill is what varies, nothing waits for it
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		cmd.Wait()
		if _, stderr, code := weft(t, dir, "", "lab", "down", "--lab", name); code != 0 {
			t.Errorf("down after %d ms: exit %d: %s", delay, code, stderr)
		}
		if left, err := netns.List("weft-" + name + "-"); err != nil || len(left) > 0 {
			t.Errorf("after %d ms: namespaces left: %v, %v", delay, left, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "run")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %d ms: state left: %v", delay, err)
		}
	}
}
