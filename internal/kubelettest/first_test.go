package kubelettest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
)

// first is the first process of a machine: it makes the mounts that keep what
// kubelets do away from the host, runs the story and reaps orphans. It returns
// the exit code.
func first() int {
	if err := isolate(); err != nil {
		fmt.Fprintln(os.Stderr, "mounts:", err)
		return 1
	}
	program, err := os.Executable()
	if err == nil {
		err = os.Setenv(stepVar, stepStory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	story := exec.Command(program, os.Args[1:]...)
	story.Stdout, story.Stderr = os.Stdout, os.Stderr
	if err := story.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "wait:", err)
			return 1
		case pid == story.Process.Pid && status.Exited():
			return status.ExitStatus()
		case pid == story.Process.Pid:
			fmt.Fprintln(os.Stderr, "story:", status.Signal())
			return 1
		}
	}
}

// coverDir is a file system of its own, because a kubelet takes any mount point
// of one for its root.
const coverDir = "/run/sysctls"

// isolate gives this mount namespace a /proc, /run and BPF file system of its
// own, and empty directories where kubelets have fixed paths. Settings of the
// kernel are covered by files that begin with the same values.
func isolate() error {
	// Nothing goes out; what the host unmounts is not held here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	// Covered, names of other network namespaces would be held too.
	if err := unix.Unmount(netns.Dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w", netns.Dir, err)
	}
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run"}, {"tmpfs", "/var/lib"}, {"tmpfs", "/var/log"}, {"tmpfs", coverDir},
	} {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, ""); err != nil {
			return fmt.Errorf("%s on %s: %w", m.kind, m.path, err)
		}
	}
	for i, name := range sysctls {
		value, err := os.ReadFile("/proc/sys/" + name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		cover := filepath.Join(coverDir, strconv.Itoa(i))
		if err := os.WriteFile(cover, value, 0o600); err != nil {
			return err
		}
		if err := unix.Mount(cover, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
