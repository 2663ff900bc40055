package kubelet

import (
	"errors"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// family is the processes of a pod, whose first process we are: it waits for
// those that it started, and for those that lost their parent.
type family struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

// newFamily begins to wait for processes.
func newFamily() *family {
	f := &family{waiting: map[int]chan syscall.WaitStatus{}}
	// The signals of a terminal and SIGTERM are meant for containers.
	signal.Notify(make(chan os.Signal, 1), unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			f.reap()
		}
	}()
	return f
}

// reap takes the status of every process that ended.
func (f *family) reap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done := f.waiting[pid]; done != nil {
			done <- status
			delete(f.waiting, pid)
		}
	}
}

// start starts a process. Its status comes once. The calling goroutine's
// thread is the one that forks.
func (f *family) start(path string, args []string, attr *os.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error) {
	f.mu.Lock() // it may end before it is known
	defer f.mu.Unlock()
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return 0, nil, err
	}
	pid = p.Pid
	if err := p.Release(); err != nil {
		return 0, nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	f.waiting[pid] = ended
	return pid, ended, nil
}

// exitOf returns what a shell would say of a status.
func exitOf(s syscall.WaitStatus) (code, sig int) {
	if s.Signaled() {
		return 128 + int(s.Signal()), int(s.Signal())
	}
	return s.ExitStatus(), 0
}

// killRest kills all processes in a mount namespace, which is one container's,
// until there are none.
func killRest(inode uint64) {
	for range 100 {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		found := false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil || pid == 1 {
				continue
			}
			if ino, err := mountNamespace(pid); err == nil && ino == inode {
				found = true
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
}

// mountNamespace returns the inode of a process's mount namespace. A zombie
// has none.
func mountNamespace(pid int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/mnt", &st)
	return st.Ino, err
}
