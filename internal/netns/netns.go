// Package netns creates, enters and removes named Linux network namespaces.
//
// A name is a bind mount in /run/netns, exactly as iproute2 keeps them, so
// that `ip netns` and this package see the same namespaces.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is where the names live. Source: ip-netns(8).
const Dir = "/run/netns"

// threadNet is the network namespace of the calling thread; /proc/self/ns
// would be that of the process's first thread.
const threadNet = "/proc/thread-self/ns/net"

// Namespace is an open network namespace. It stays alive while it is open,
// even when its name is deleted. Do and the accessors are safe for concurrent
// use; Close is not.
type Namespace struct {
	name string
	file *os.File
}

// New creates the namespace name and opens it.
//
// name is a file name: not empty, no slash. The caller must be root.
// Errors: fs.ErrExist if the name is taken. After any error nothing is left.
func New(name string) (*Namespace, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := shareDir(); err != nil {
		return nil, fmt.Errorf("netns %s: %w", name, err)
	}
	f, err := os.OpenFile(Path(name), os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("netns %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("netns %s: %w", name, err)
	}
	if err := onThread(func() error { return mountNew(name) }); err != nil {
		return nil, errors.Join(fmt.Errorf("netns %s: %w", name, err), Delete(name))
	}
	n, err := Open(name)
	if err != nil {
		return nil, errors.Join(err, Delete(name))
	}
	return n, nil
}

// Open opens the existing namespace name.
//
// Errors: fs.ErrNotExist if there is none.
func Open(name string) (*Namespace, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f, err := os.Open(Path(name))
	if err != nil {
		return nil, fmt.Errorf("netns %s: %w", name, err)
	}
	return &Namespace{name: name, file: f}, nil
}

// OpenPath opens the namespace that the file path stands for, such as one in Dir
// or /proc/<pid>/ns/net.
//
// Errors: fs.ErrNotExist if there is no such file, ErrNoNamespace if it is of
// another kind.
func OpenPath(path string) (*Namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("netns %s: %w", path, ErrNoNamespace)
	}
	return &Namespace{name: path, file: f}, nil
}

// ErrNoNamespace says that a file stands for no network namespace.
var ErrNoNamespace = errors.New("is no network namespace")

// Path returns the file that stands for the namespace name.
func Path(name string) string { return filepath.Join(Dir, name) }

// Name returns the name by which n was opened.
func (n *Namespace) Name() string { return n.name }

// Fd returns the descriptor that setns(2) and netlink take for n. It is valid
// until Close.
func (n *Namespace) Fd() int { return int(n.file.Fd()) }

// Close releases the descriptor; the name stays.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs fn on a thread inside n and returns fn's error.
//
// Sockets that fn opens and processes that it starts belong to n. Goroutines
// that fn starts do not. When the thread cannot return to the namespace that
// it came from, it is given up.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// Enter moves the calling goroutine's thread into n for good and keeps the
// goroutine on it. It serves a caller that replaces the process next.
func (n *Namespace) Enter() error {
	runtime.LockOSThread()
	return n.enter()
}

func (n *Namespace) enter() error {
	if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("netns %s: setns: %w", n.name, err)
	}
	return nil
}

// Delete removes the namespace name. The kernel frees the namespace when the
// last process in it and the last descriptor of it are gone.
//
// A name that does not exist is no error; a name that an interrupted New left
// without its mount is removed too.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := unix.Unmount(Path(name), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("netns %s: unmount: %w", name, err)
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("netns %s: %w", name, err)
	}
	return nil
}

// List returns the names that begin with prefix, sorted.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') || len(name) > unix.NAME_MAX {
		return fmt.Errorf("netns %q: is not a file name", name)
	}
	return nil
}

// onThread runs fn on a thread of its own and brings that thread back to its
// network namespace afterwards. A thread that cannot be brought back ends
// with its goroutine, because that stays locked.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(threadNet)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		finished := false
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			if !finished { // fn called runtime.Goexit, as testing.T.FailNow does
				done <- errors.New("netns: function did not return")
			}
		}()
		err = fn()
		finished = true
		done <- err
	}()
	return <-done
}

// mountNew gives the calling thread a new network namespace and mounts it on
// name's file.
func mountNew(name string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount(threadNet, Path(name), "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// shareDir makes Dir a shared mount point, so that names appear in, and
// vanish from, every mount namespace of the machine. Source: iproute2,
// ip/ipnetns.c, netns_add.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("share %s: %w", Dir, err)
	}
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", Dir, err)
	}
	if err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share %s: %w", Dir, err)
	}
	return nil
}
