package netns

import (
	"fmt"
	"os"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"
)

// ID identifies a network namespace while it exists: the device and inode of
// its file.
type ID struct{ Dev, Ino uint64 }

// ID returns n's identity.
func (n *Namespace) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.Fd(), &st); err != nil {
		return ID{}, fmt.Errorf("netns %s: %w", n.name, err)
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, nil
}

// OfProcess returns the network namespace of process pid. ok is false if the
// process is gone, is a zombie or may not be looked at.
func OfProcess(pid int) (id ID, ok bool) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/net", &st); err != nil {
		return ID{}, false
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, true
}

// Pids returns the processes whose network namespace is one of ids, in
// ascending order. It reads all of /proc: one pass for any number of ids.
func Pids(ids ...ID) ([]int, error) {
	want := make(map[ID]bool, len(ids))
	for _, id := range ids {
		want[id] = true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if id, ok := OfProcess(pid); ok && want[id] {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	return pids, nil
}
