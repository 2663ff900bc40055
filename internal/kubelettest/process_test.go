package kubelettest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pollEvery is how often await looks.
const pollEvery = 50 * time.Millisecond

// await returns when try succeeds.
func await(t *testing.T, what string, limit time.Duration, try func() error) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(pollEvery) {
		err := try()
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not in %s: %v", what, limit, err)
		}
	}
}

// process is a program that the story can kill and start again. It ends with
// the machine.
type process struct {
	name string
	args []string
	log  string // file that its output is appended to
	cmd  *exec.Cmd
}

// start starts p, which does not run.
func (p *process) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = "/", log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// kill kills p, which runs, and returns when it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("%s: kill: %v", p.name, err)
	}
	p.cmd.Wait()
}

// runTime bounds one program that is waited for.
const runTime = stepTime + 10*time.Second

// run runs a program and returns what it prints; the output is in the error
// too.
func run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, said)
	}
	return said, err
}

// must is run for what has to succeed.
func must(t *testing.T, program string, args ...string) string {
	t.Helper()
	said, err := run(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// showLogs logs the ends of all log files in and below dir.
func showLogs(t *testing.T, dir string) {
	t.Helper()
	const most = 6000
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	below, _ := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	for _, path := range append(paths, below...) {
		data, _ := os.ReadFile(path)
		t.Logf("%s:\n%s", path, data[max(0, len(data)-most):])
	}
}
