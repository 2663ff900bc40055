// Package process tells the processes of this machine apart, and ends them.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// StartOf returns when process pid started, in clock ticks since boot. Together
// both name it for ever: the number alone comes back for another process.
// Errors: os.ErrProcessDone, also of a zombie.
// Source: proc_pid_stat(5), field 22.
func StartOf(pid int) (uint64, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets, which may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const state, start = 0, 19 // fields 3 and 22
	if len(fields) <= start {
		return 0, fmt.Errorf("process %d: stat: has %d fields", pid, len(fields))
	}
	if s := fields[state][0]; s == 'Z' || s == 'X' {
		return 0, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	ticks, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("process %d: stat: %w", pid, err)
	}
	return ticks, nil
}

// Alive reports whether the process pid that started at start still runs.
func Alive(pid int, start uint64) bool {
	now, err := StartOf(pid)
	return err == nil && now == start
}

// End sends signals to process pid, one after the other, until it is gone; it
// waits for that up to limit behind each. Nothing is sent unless still, which is
// asked once the number is held fast, is true. A process that is gone already is
// no error.
func End(ctx context.Context, pid int, still func() bool, limit time.Duration, signals ...unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !still() {
		return nil
	}
	for _, signal := range signals {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: %s: %w", pid, unix.SignalName(signal), err)
		}
		if gone, err := await(ctx, fd, limit); gone {
			return nil
		} else if err != nil {
			return fmt.Errorf("process %d: is still there: %w", pid, err)
		}
	}
	return fmt.Errorf("process %d: is still there after %s", pid, unix.SignalName(signals[len(signals)-1]))
}

// Kill is End by SIGKILL.
func Kill(ctx context.Context, pid int, still func() bool) error {
	return End(ctx, pid, still, killTime, unix.SIGKILL)
}

// killTime is enough for the kernel to take a large process down.
const killTime = 10 * time.Second

// await reports whether the process behind a descriptor ends within limit.
func await(ctx context.Context, fd int, limit time.Duration) (bool, error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 {
			return true, nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
	}
	return false, nil
}
