package leaks_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/leaks"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/lab/cluster"
	"github.com/weft-net/weft/table"
)

// settleTime bounds the wait for a state.
const settleTime = 2 * time.Minute

// testLab is examples/supervisor under a name of its own, and the programs that
// it runs.
type testLab struct {
	t      *testing.T
	system *lab.System
	name   string
	file   string
}

// startLab brings a lab up, which goes when the test ends.
func startLab(t *testing.T) *testLab {
	t.Helper()
	need.Root(t)
	need.BPF(t)
	kube := need.Kube(t)
	need.Tool(t, "ping", "ip")
	if err := ebpf.MountFS(); err != nil {
		t.Fatal(err)
	}
	bin, state := t.TempDir(), t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "./cmd/weft", "./cmd/weftd", "./cmd/weft-node", "./cmd/weft-cni")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, said)
	}
	l := &testLab{t: t, name: fmt.Sprintf("l%d", os.Getpid())}
	t.Setenv("PATH", bin+":"+kube+":"+os.Getenv("PATH"))
	t.Setenv("WEFT_KUBE", kube)
	t.Setenv("WEFT_STATE", state)
	l.system = &lab.System{
		StateDir: state, PinDir: lab.DefaultPinDir, Programs: lab.Programs{Kubernetes: kube},
		Compile: func(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
			return compile.New().Update(tree, nil)
		},
		Open: func(dir string) (dataplane.Driver, error) { return ebpf.Open(dir) },
	}
	data, err := os.ReadFile("../../examples/supervisor/lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l.file = filepath.Join(state, "lab.yaml")
	if err := os.WriteFile(l.file, bytes.Replace(data, []byte("name: supervisor\n"), []byte("name: "+l.name+"\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.logs(filepath.Join(state, l.name))
		}
		if _, err := run(context.Background(), "", "weft", "lab", "down", "--lab", l.name); err != nil {
			t.Error(err)
		}
		spaces, err := netns.List("weft-" + l.name + "-")
		if err != nil || len(spaces) > 0 {
			t.Errorf("lab down left network namespaces: %v, %v", spaces, err)
		}
		if left, _ := lab.Logged(filepath.Join(state, l.name)); len(left) > 0 {
			t.Errorf("lab down left processes: %v", left)
		}
	})
	// The first port is for whoever is first: another lab may take it while this
	// one's API server is away.
	if first, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(cluster.APIPort))); err == nil {
		l.up()
		first.Close()
	} else {
		l.up()
	}
	reach, err := l.system.Reach(l.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", reach.Kubeconfig)
	return l
}

// up brings up what is not, and is repeated while something else is at work.
func (l *testLab) up() {
	l.t.Helper()
	if _, err := run(l.t.Context(), "", "weft", "lab", "up", l.file); err != nil {
		l.t.Fatal(err)
	}
}

// run returns what a program prints; the error has what it complains about.
func run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), nil
}

// kubectl must succeed.
func (l *testLab) kubectl(stdin string, args ...string) string {
	l.t.Helper()
	out, err := run(l.t.Context(), stdin, "kubectl", args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// settled looks until all is as it should be.
func (l *testLab) settled() *leaks.Facts {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), settleTime)
	defer cancel()
	f, found, err := leaks.Settle(ctx, l.look)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, finding := range found {
		l.t.Error(finding)
	}
	return f
}

func (l *testLab) look(ctx context.Context) (*leaks.Facts, error) {
	return leaks.Look(ctx, l.system, l.name)
}

// snapshot is that of a settled lab.
func (l *testLab) snapshot() leaks.Snapshot {
	l.t.Helper()
	s, err := l.settled().Snapshot()
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// equals waits until the lab is as it was.
func (l *testLab) equals(fresh leaks.Snapshot) {
	l.t.Helper()
	var diff []string
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(time.Second) {
		if diff = fresh.Diff(l.snapshot()); len(diff) == 0 {
			return
		}
	}
	l.t.Errorf("what is left differs from a fresh start:\n%s", strings.Join(diff, "\n"))
}

// await calls try until it succeeds.
func (l *testLab) await(what string, try func() error) {
	l.t.Helper()
	var err error
	for end := time.Now().Add(settleTime); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
		l.revive()
	}
	l.t.Errorf("%s: %v", what, err)
}

// revive starts parts of Kubernetes that ended by themselves. A scheduler does
// when the API server goes while it binds a pod ("cache is corrupted"), and counts
// on whoever starts it again.
func (l *testLab) revive() {
	l.t.Helper()
	r, err := l.system.Reach(l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range r.Parts {
		switch {
		case p.PID != 0:
		case strings.HasPrefix(p.Name, "kube-"):
			l.t.Logf("%s ended by itself", p.Name)
			l.up()
			return
		default:
			l.t.Fatalf("%s ended by itself", p.Name)
		}
	}
}

// part returns the number of a process of the lab; 0: it does not run.
func (l *testLab) part(name string) int {
	r, err := l.system.Reach(l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range r.Parts {
		if p.Name == name {
			return p.PID
		}
	}
	l.t.Fatalf("%s: is no part of the lab", name)
	return 0
}

// kill ends a part at once.
func (l *testLab) kill(name string) {
	if pid := l.part(name); pid != 0 {
		p, err := os.FindProcess(pid)
		if err == nil {
			err = p.Kill()
		}
		if err != nil {
			l.t.Logf("kill %s: %v", name, err)
		}
	}
}

// logs shows the ends of the lab's logs.
func (l *testLab) logs(dir string) {
	const most = 6000
	for _, pattern := range []string{"*.log", "kubernetes/*.log"} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			l.t.Logf("%s:\n%s", filepath.Base(path), data[max(0, len(data)-most):])
		}
	}
}
