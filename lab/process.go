package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
)

// Process names one process of this machine for ever: its number alone comes
// back for another one.
type Process struct {
	PID     int
	Start   uint64 // clock ticks since boot; proc(5), /proc/pid/stat field 22
	Machine string // whose namespace it serves
}

// identify returns process pid as it runs now.
// Errors: os.ErrProcessDone, also if it ends while it is looked at.
func identify(pid int) (Process, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return Process{}, err
	}
	// The second field is the name in brackets, which may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const state, start = 0, 19 // fields 3 and 22
	if len(fields) <= start {
		return Process{}, fmt.Errorf("process %d: stat: has %d fields", pid, len(fields))
	}
	if s := fields[state][0]; s == 'Z' || s == 'X' {
		return Process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	ticks, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: stat: %w", pid, err)
	}
	return Process{PID: pid, Start: ticks}, nil
}

// alive says whether p still runs.
func (p Process) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now.Start == p.Start
}

// killTime bounds the wait for one killed process.
const killTime = 5 * time.Second

// kill ends process pid if still, once its number is held fast, is true, and
// waits until it is gone. A process that is gone already is no error.
func kill(ctx context.Context, pid int, still func() bool) error {
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
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d: kill: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for ctx.Err() == nil {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 100)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return fmt.Errorf("process %d: is still there after a kill: %w", pid, ctx.Err())
}

// killInside ends every process in the named namespaces except this one, and
// says how many there were. It looks again until none is left, because a
// process may start others.
func killInside(ctx context.Context, namespaces []string) (int, error) {
	ids := make([]netns.ID, 0, len(namespaces))
	for _, name := range namespaces {
		if id, ok := idOf(name); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	killed := 0
	for range 20 {
		pids, err := netns.Pids(ids...)
		if err != nil {
			return killed, err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
		if len(pids) == 0 {
			return killed, nil
		}
		for _, pid := range pids {
			inside := func() bool {
				id, ok := netns.OfProcess(pid)
				return ok && slices.Contains(ids, id)
			}
			if err := kill(ctx, pid, inside); err != nil {
				return killed, err
			}
			killed++
		}
	}
	return killed, errors.New("processes: keep starting new ones in the lab's namespaces")
}

// idOf returns the identity of a named namespace; ok is false if it is not
// there, or is a name that was never mounted.
func idOf(name string) (netns.ID, bool) {
	n, err := netns.Open(name)
	if err != nil {
		return netns.ID{}, false
	}
	defer n.Close()
	id, err := n.ID()
	return id, err == nil
}
