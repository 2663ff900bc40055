package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/table"
)

// store is an agent's directory: what it needs to go on after it was killed.
type store struct {
	dir     string
	lock    *os.File // nobody else has it while the agent lives
	journal journal  // one caller at a time
}

const (
	tablesFile = "tables.json"
	healthFile = "health.json"
	lockFile   = "lock"
)

// openStore makes dir if it is missing and takes it.
// Errors: another agent has it.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another agent has it")
		}
		return nil, fmt.Errorf("directory %s: %w", dir, err)
	}
	return &store{dir: dir, lock: lock}, nil
}

func (s *store) close() error { return errors.Join(s.closeJournal(), s.lock.Close()) }

// health returns what was known of members last. Without it all are up, and
// monitors will find out.
func (s *store) health(log *slog.Logger) map[table.MemberID]table.Health {
	h := map[table.MemberID]table.Health{}
	if _, err := s.read(healthFile, &h); err != nil {
		log.Warn("stored findings can not be read; all members begin as up", "error", err)
		return map[table.MemberID]table.Health{}
	}
	return h
}

func (s *store) saveHealth(h map[table.MemberID]table.Health) error {
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("%s: %w", healthFile, err)
	}
	f, err := s.write(healthFile, data)
	if err != nil {
		return err
	}
	defer f.drop()
	return f.commit()
}

func (s *store) read(name string, to any) (found bool, err error) {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	return true, nil
}

// file is a new version of a file, which is not yet in its place.
type file struct{ temp, path string }

// write puts parts, one after the other, on the disk beside the file called
// name.
func (s *store) write(name string, parts ...[]byte) (f *file, err error) {
	f = &file{path: filepath.Join(s.dir, name)}
	f.temp = f.path + ".new" // one writer at a time: the lock's holder
	w, err := os.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	for _, part := range parts {
		if err == nil {
			_, err = w.Write(part)
		}
	}
	if err = errors.Join(err, w.Sync(), w.Close()); err != nil {
		f.drop()
		return nil, err
	}
	return f, nil
}

// commit replaces the file that was there, all or nothing.
func (f *file) commit() error {
	if err := os.Rename(f.temp, f.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// drop removes what was written, unless it was committed.
func (f *file) drop() { os.Remove(f.temp) }
