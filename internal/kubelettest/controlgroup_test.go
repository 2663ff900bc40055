package kubelettest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies returns where control groups are mounted.
func hierarchies(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, fields := range mountTable(t) {
		kind := fields[slices.Index(fields, "-")+1]
		if (kind == "cgroup" || kind == "cgroup2") && fields[3] == "/" {
			out = append(out, fields[4])
		}
	}
	if len(out) == 0 {
		t.Fatal("no control groups are mounted")
	}
	return out
}

// controlGroup is that of a node, below the root of each hierarchy.
func (m machine) controlGroup(node string) string { return "/" + m.Name + "-" + node }

// controlGroups returns the directories of all nodes.
func (m machine) controlGroups(t *testing.T) []string {
	var out []string
	for _, root := range hierarchies(t) {
		for _, node := range nodeNames {
			out = append(out, root+m.controlGroup(node))
		}
	}
	return out
}

// makeControlGroup makes one that processes can be in at once. A cpuset of
// version 1 begins with no processors and no memory.
func makeControlGroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || len(bytes.TrimSpace(own)) > 0 {
			continue
		}
		parent, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil || len(bytes.TrimSpace(parent)) == 0 {
			continue // version 2, where nothing means all
		}
		if err := os.WriteFile(filepath.Join(dir, name), parent, 0); err != nil {
			return err
		}
	}
	return nil
}

// removeControlGroup removes one with all below it, in which nothing runs any
// more. The kernel may need a moment to notice that.
func removeControlGroup(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(groups) {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(pollEvery) {
			err := unix.Rmdir(path)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("control group %s: %w", path, err)
			}
		}
	}
	return nil
}
