package scenario_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/need"
)

// Bounds of what a script waits for.
const (
	awaitTime  = 60 * time.Second
	awaitEvery = 100 * time.Millisecond
)

// TestKubernetes replays the stories of scenarios/kubernetes by kubectl, one
// after the other, on one lab with a real API server: the scripts' commands are
// programs, weft and kubectl among them. Each leaves nothing behind.
//
//	await REGEXP PROGRAM ARGS...    run it until its output matches; 60 s at most
//	! await REGEXP PROGRAM ARGS...  until it succeeds and its output does not match
//	outside NAME PROGRAM ARGS...    run it in a machine of the lab
func TestKubernetes(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	kube := need.Kube(t)
	need.Tool(t, "curl", "traceroute", "ping", "ip")
	if err := ebpf.MountFS(); err != nil {
		t.Fatal(err)
	}
	bin := buildPrograms(t)
	name := fmt.Sprintf("k%d", os.Getpid())
	state := t.TempDir()
	env := []string{"PATH=" + bin + ":" + kube + ":" + os.Getenv("PATH"), "WEFT_KUBE=" + kube, "WEFT_STATE=" + state, "WEFT_LAB=" + name}
	weft := func(args ...string) (string, error) {
		return runProgram(t.Context(), env, filepath.Join(bin, "weft"), args...)
	}
	t.Cleanup(func() {
		if said, err := runProgram(context.Background(), env, filepath.Join(bin, "weft"), "lab", "down", "--lab", name); err != nil {
			t.Errorf("lab down: %v: %s", err, said)
		}
	})
	if said, err := weft("lab", "up", renamed(t, name)); err != nil {
		logs(t, filepath.Join(state, name))
		t.Fatalf("lab up: %v: %s", err, said)
	}
	exported, err := weft("lab", "env", "--lab", name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(exported) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "="); ok && name != "PATH" {
			env = append(env, name+"="+value)
		}
	}
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob(filepath.Join(dir, "kubernetes", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, script := range scripts { // one at a time: those of one call run in parallel
		if !t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) { perform(t, script, name, append(env, "EXAMPLES="+examples)) }) {
			logs(t, filepath.Join(state, name))
			return
		}
	}
}

// perform runs one script on the lab called name.
func perform(t *testing.T, script, name string, env []string) {
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, env...)
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await,
			"outside": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec("weft", append([]string{"lab", "exec", "--lab", name, args[0], "--"}, args[1:]...)...)
				if (err != nil) != neg {
					ts.Fatalf("outside: %v", err)
				}
			},
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// await runs a program until its output matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: await REGEXP PROGRAM ARGS...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	last := ""
	for start := time.Now(); time.Since(start) < awaitTime; time.Sleep(awaitEvery) {
		err = ts.Exec(args[1], args[2:]...)
		last = ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if !neg && want.MatchString(last) || neg && err == nil && !want.MatchString(last) {
			return
		}
	}
	ts.Fatalf("await: %s: did not end to say, or not to say, %s in %s; the last time: %s (%v)", strings.Join(args[1:], " "), args[0], awaitTime, last, err)
}

// buildPrograms builds all commands as `make build` does.
func buildPrograms(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "./cmd/...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, said)
	}
	return bin
}

// renamed returns a copy of the example's lab file with a name of its own.
func renamed(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../examples/supervisor/lab.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "lab.yaml")
	if err := os.WriteFile(path, bytes.Replace(data, []byte("name: supervisor\n"), []byte("name: "+name+"\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func runProgram(ctx context.Context, env []string, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// logs shows the ends of a lab's logs.
func logs(t *testing.T, dir string) {
	t.Helper()
	const most = 4000
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range paths {
		data, _ := os.ReadFile(path)
		t.Logf("%s:\n%s", filepath.Base(path), data[max(0, len(data)-most):])
	}
}
