package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// oldRoot is where the machine's files are while a container's root is built.
const oldRoot = "/.machine"

// startContainer is the program container-init: in a mount namespace of its own
// it builds the root of the container and becomes the container's program.
// What goes wrong is told by errorDescriptor.
func startContainer() int {
	unix.CloseOnExec(errorDescriptor)
	unix.CloseOnExec(specDescriptor)
	err := becomeContainer()
	fmt.Fprint(os.NewFile(errorDescriptor, "failure"), err)
	return 1
}

func becomeContainer() error {
	var s spec
	if err := json.NewDecoder(os.NewFile(specDescriptor, "spec")).Decode(&s); err != nil {
		return fmt.Errorf("container: spec: %w", err)
	}
	if len(s.Args) == 0 {
		return errors.New("container: args: are empty (a program)")
	}
	if err := enterRoot(&s); err != nil {
		return fmt.Errorf("container: root: %w", err)
	}
	dir := directory(s.Dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("container: working directory: %w", err)
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("container: working directory: %w", err)
	}
	path, err := lookPath(s.Args[0], s.Env)
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	syscall.Umask(0o022)
	return fmt.Errorf("exec: %s: %w", path, unix.Exec(path, s.Args, s.Env))
}

// enterRoot makes the machine's files, under a layer that takes what the
// container writes, the root of this process, with file systems and mounts of
// its own. It all ends with the mount namespace.
func enterRoot(s *spec) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.Scratch, "tmpfs", unix.MS_NODEV, "mode=0700,size=50%"); err != nil {
		return fmt.Errorf("%s: %w", s.Scratch, err)
	}
	upper, work, root := filepath.Join(s.Scratch, "upper"), filepath.Join(s.Scratch, "work"), filepath.Join(s.Scratch, "root")
	for _, dir := range []string{upper, work, root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// Names with a colon or comma have a meaning in options: work by short ones.
	if err := os.Chdir(s.Scratch); err != nil {
		return err
	}
	if err := unix.Mount("overlay", "root", "overlay", 0, "lowerdir=/,upperdir=upper,workdir=work"); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	if err := mountSystem(root); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(root, oldRoot), 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, filepath.Join(root, oldRoot)); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := fillRoot(s); err != nil {
		return err
	}
	if err := unix.Unmount(oldRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("%s: %w", oldRoot, err)
	}
	return os.Remove(oldRoot)
}

// mountSystem mounts what is no file of the machine, and what the machine has
// as a file system of its own.
func mountSystem(root string) error {
	for _, dir := range []string{"usr", "opt", "nix"} {
		var a, b unix.Stat_t
		if unix.Stat("/", &a) != nil || unix.Stat("/"+dir, &b) != nil || a.Dev == b.Dev {
			continue
		}
		if err := unix.Mount("/"+dir, filepath.Join(root, dir), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("/%s: %w", dir, err)
		}
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		options              string
	}{
		{"proc", "proc", "proc", 0, ""},
		{"sysfs", "sys", "sysfs", unix.MS_RDONLY, ""},
		{"/dev", "dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		target := filepath.Join(root, m.target)
		if m.target != "dev/shm" {
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
		} else if _, err := os.Stat(target); err != nil {
			continue // the machine has none
		}
		if err := unix.Mount(m.source, target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("/%s: %w", m.target, err)
		}
	}
	return nil
}

// fillRoot writes the container's files and mounts its volumes: as the
// container sees paths, links included.
func fillRoot(s *spec) error {
	for _, dir := range s.Hide {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "mode=0700,size=4k"); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	for path, content := range s.Files {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // it may be a link to nowhere
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, m := range s.Mounts {
		if err := m.mount(); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func (m mount) mount() error {
	source := filepath.Join(oldRoot, m.Source)
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(m.Target, 0o755)
	} else if _, missing := os.Stat(m.Target); missing != nil {
		if err = os.MkdirAll(filepath.Dir(m.Target), 0o755); err == nil {
			err = os.WriteFile(m.Target, nil, 0o644)
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, m.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return unix.Mount("", m.Target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	return nil
}

// sortMounts puts mounts below others after these.
func sortMounts(list []mount) {
	slices.SortStableFunc(list, func(a, b mount) int {
		return strings.Count(filepath.Clean(a.Target), "/") - strings.Count(filepath.Clean(b.Target), "/")
	})
}
