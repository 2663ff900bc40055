package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/process"
)

func TestStateSurvivesTheFile(t *testing.T) {
	dir := t.TempDir()
	plan, problems := planOf(t, labFiles(t, "seeds.yaml", "s"))
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	want := &State{
		Phase: Changing, Spec: &Spec{Name: "s"}, Plan: plan, Next: []*Plan{plan},
		Servers: []Process{{PID: 7, Start: 1 << 60, Machine: "web"}},
		Agents:  []Process{{PID: 8, Start: 1 << 61, Machine: "host1"}},
	}
	if err := want.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if c := diff(got.Plan, plan); len(c.machines)+len(c.links)+len(c.remove) > 0 {
		t.Errorf("the plan that was read differs from the one that was written: %+v", c)
	}
}

func TestBrokenStateIsAnError(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "cut off": `{"Phase":`, "without a plan": `{"Phase":"up"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadState(dir); err == nil {
			t.Errorf("%s: is accepted", name)
		}
	}
}

func TestLockIsExclusiveAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "weft", "s")
	first, err := acquire(t.Context(), dir, func() { t.Error("a free lock is busy") })
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	second := make(chan *lock)
	go func() {
		l, err := acquire(t.Context(), dir, func() { close(waited) })
		if err != nil {
			t.Error(err)
		}
		second <- l
	}()
	<-waited
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := acquire(ctx, dir, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a lock that is held: %v", err)
	}
	if err := first.release(); err != nil { // removes the directory under the waiting one
		t.Fatal(err)
	}
	l := <-second
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
		t.Errorf("the second holder's lock is not in the directory: %v", err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestReleaseKeepsALabThatExists(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	l, err := acquire(t.Context(), dir, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, stateFile), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if names, err := labsIn(filepath.Dir(dir)); err != nil || !cmp.Equal(names, []string{"s"}) {
		t.Errorf("labs = %v, %v", names, err)
	}
}

func TestKillSparesAnotherProcessOfTheSameNumber(t *testing.T) {
	need.Tool(t, "sleep")
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	earlier := Process{PID: p.PID, Start: p.Start - 1}
	if earlier.alive() || !p.alive() {
		t.Errorf("alive: %v for another process, %v for this one", earlier.alive(), p.alive())
	}
	if err := process.Kill(t.Context(), earlier.PID, earlier.alive); err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Fatal("another process was killed")
	}
	if err := process.Kill(t.Context(), p.PID, p.alive); err != nil {
		t.Fatal(err)
	}
	<-ended
	if p.alive() {
		t.Error("the process lives on")
	}
	if err := process.Kill(t.Context(), p.PID, p.alive); err != nil {
		t.Errorf("killing a process that is gone: %v", err)
	}
}
