package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Phase says how complete a lab is.
type Phase string

const (
	Building Phase = "building" // an up is at work, or was interrupted
	Running  Phase = "up"
	Changing Phase = "changing" // an apply is at work, or was interrupted
)

// State is what lab.json holds. It is written before anything that it names
// is created, so that whatever exists can be found from it.
type State struct {
	Phase   Phase
	Spec    *Spec
	Plan    *Plan     // of the last complete build; while Building, of the first
	Next    []*Plan   `json:",omitempty"` // of each attempt to change since; empty unless Changing
	Servers []Process `json:",omitempty"`
	Agents  []Process `json:",omitempty"` // one a host
	Control []Process `json:",omitempty"` // of a lab with a Kubernetes: weftd and others, in the order of their start
}

// Files in a lab's state directory, beside logs and agents' directories.
const (
	stateFile  = "lab.json"
	intentFile = "intent.json"
	lockFile   = "lock"
)

func loadState(dir string) (*State, error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if s.Plan == nil || s.Spec == nil || s.Plan.host() == nil {
		return nil, fmt.Errorf("%s: is incomplete", path)
	}
	return s, nil
}

func (s *State) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	return writeFile(filepath.Join(dir, stateFile), append(data, '\n'))
}

// writeFile replaces the file path by data, all or nothing. It is not synced:
// the directory lives in memory and ends with the machine, as labs do.
func writeFile(path string, data []byte) error {
	temp := path + ".new" // one writer at a time: the lock's holder
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// lock is the exclusive right to change one lab.
type lock struct {
	dir  string
	file *os.File
}

// acquire makes dir and takes its lock, waiting until ctx ends. busy is
// called once if it has to wait.
func acquire(ctx context.Context, dir string, busy func()) (*lock, error) {
	told := false
	for {
		l, err := tryLock(dir)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
		if !told {
			told = true
			busy()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: another command is at work: %w", dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock returns EWOULDBLOCK if another process holds the lock and
// ErrNotExist if one has just removed the directory.
func tryLock(dir string) (*lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	mine, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	// The previous holder may have removed the file that was just locked.
	if there, err := os.Stat(path); err != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, fs.ErrNotExist
	}
	return &lock{dir: dir, file: f}, nil
}

// release gives the lock back. A directory without a lab is removed with it.
func (l *lock) release() error {
	var err error
	if _, statErr := os.Stat(filepath.Join(l.dir, stateFile)); errors.Is(statErr, fs.ErrNotExist) {
		err = os.RemoveAll(l.dir)
		os.Remove(filepath.Dir(l.dir)) // it stays if another lab is in it
	}
	return errors.Join(err, l.file.Close())
}

// labsIn returns the names of the labs that have a directory in stateDir,
// sorted.
func labsIn(stateDir string) ([]string, error) {
	entries, err := os.ReadDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
