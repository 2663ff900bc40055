package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// run starts a shell that says a word when it is ready; the test reaps it.
func run(t *testing.T, script string) (*exec.Cmd, uint64) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	start, err := StartOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, start
}

const (
	willing  = "echo ready; exec sleep 1000"
	stubborn = "trap '' TERM; echo ready; exec sleep 1000" // ignored is ignored behind exec, too
)

func TestEnd(t *testing.T) {
	cmd, start := run(t, willing)
	pid := cmd.Process.Pid
	if !Alive(pid, start) || Alive(pid, start+1) {
		t.Error("another process of that number is alive")
	}
	if err := Kill(t.Context(), pid, func() bool { return false }); err != nil || !Alive(pid, start) {
		t.Errorf("not to be killed: %v, alive %v", err, Alive(pid, start))
	}
	still := func() bool { return Alive(pid, start) }
	if err := End(t.Context(), pid, still, time.Minute, unix.SIGTERM, unix.SIGKILL); err != nil {
		t.Error(err)
	}
	// It is a zombie now.
	if _, err := StartOf(pid); !errors.Is(err, os.ErrProcessDone) || Alive(pid, start) {
		t.Errorf("a zombie is alive: %v", err)
	}
	cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); status != unix.SIGTERM {
		t.Errorf("ended by %s", status)
	}
	if _, err := StartOf(pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("gone: %v", err)
	}
	if err := Kill(t.Context(), pid, still); err != nil {
		t.Errorf("gone: %v", err)
	}
}

func TestEndInsists(t *testing.T) {
	cmd, start := run(t, stubborn)
	pid := cmd.Process.Pid
	still := func() bool { return Alive(pid, start) }
	if err := End(t.Context(), pid, still, time.Millisecond, unix.SIGTERM); err == nil || !Alive(pid, start) {
		t.Errorf("it should be there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := End(ctx, pid, still, time.Minute, unix.SIGTERM); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
	if err := End(t.Context(), pid, still, time.Second, unix.SIGTERM, unix.SIGKILL); err != nil || Alive(pid, start) {
		t.Errorf("killed: %v", err)
	}
}
