package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/process"
)

// Process names one process of this machine for ever: its number alone comes
// back for another one.
type Process struct {
	Name  string   `json:"name"` // of the part that it is
	PID   int      `json:"pid"`
	Start uint64   `json:"start"` // clock ticks since boot; proc(5), /proc/pid/stat field 22
	Args  []string `json:"args"`
}

// alive says whether p still runs.
func (p Process) alive() bool { return process.Alive(p.PID, p.Start) }

// launch starts a program that outlives this process, with its output at the
// end of a log. ended is closed when it ended before this process did.
func launch(program string, args []string, logPath string) (p Process, ended <-chan struct{}, err error) {
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return Process{}, nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Process{}, nil, err
	}
	done := make(chan struct{})
	start, err := process.StartOf(cmd.Process.Pid)
	go func() { // reaps it
		cmd.Wait()
		close(done)
	}()
	if err != nil {
		return Process{}, nil, fmt.Errorf("%w%s", errEnded, lastLine(logPath))
	}
	return Process{PID: cmd.Process.Pid, Start: start, Args: args}, done, nil
}

// end asks p to end, kills it after stopTime, and returns when it is gone.
func (p Process) end(ctx context.Context) error {
	return process.End(ctx, p.PID, p.alive, stopTime, unix.SIGTERM, unix.SIGKILL)
}

// lastLine returns the end of a log for an error text, or nothing.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	data = bytes.TrimSpace(data)
	if err != nil || len(data) == 0 {
		return ""
	}
	line := data[bytes.LastIndexByte(data, '\n')+1:]
	return fmt.Sprintf(" (%s; see %s)", line[:min(len(line), 500)], path)
}
