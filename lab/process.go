package lab

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/process"
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
	start, err := process.StartOf(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: start}, nil
}

// alive says whether p still runs.
func (p Process) alive() bool { return process.Alive(p.PID, p.Start) }

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
			if err := process.Kill(ctx, pid, inside); err != nil {
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
