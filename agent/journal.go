package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/table"
)

// journal is how a store keeps tables that change often: the tables file, and
// numbered files of patches to it. A patch is written when it is in force, in
// far less time than all tables take, so that the next agent goes on from
// there.
//
// The tables file says with which number to begin. When there are many patches
// a new one is written beside the agent's work: patches go to the next number
// from then on, and the earlier ones are removed once the file is in its place.
type journal struct {
	number  int      // of the file that is written
	file    *os.File // nil: not opened yet
	good    int64    // bytes of it that were read
	entries int      // since the tables file
	size    int64    // of these, in bytes
	base    int64    // bytes of the tables file
	version int64    // of the tables that were recorded last
	broken  bool     // the files do not lead to the tables in force
	folding chan folded
}

// folded is how writing the tables file went.
type folded struct {
	size int64
	err  error
}

// When a new tables file is written: it takes a quarter of a second of a
// processor and 150 MB of garbage with 20 000 ports, so it has to be worth as
// many bytes of patches. To read these takes about as long as to read the file,
// unless they are to rows of long lists: with each the whole list is made anew,
// which takes half a millisecond with 20 000 rows. What a restart pays for such
// ones is some seconds at most.
const (
	maxEntries = 10_000
	minJournal = 1 << 20 // bytes; and as many as the tables file has
)

// foldNice is how much nicer than the agent the thread is that writes the tables
// file. More does harm where processors are scarce: a garbage collection waits
// until the thread, which others keep from running, has come to a stop, and the
// agent waits for that. On two busy ones this took up to 15 ms with 5, and more
// than a second with 19.
const foldNice = 5

// keptDocument is the tables file. Tables is its last field: see writeTables.
type keptDocument struct {
	Version int64             `json:"version,omitempty"` // see Agent.version
	Journal int               `json:"journal,omitempty"` // number of the first file of patches
	Devices map[string]string `json:"devices"`
	Tables  json.RawMessage   `json:"tables"` // see table.Encode
}

// entry is a line of a file of patches.
type entry struct {
	Base    int64           `json:"base"` // version that the patch is of
	Version int64           `json:"version"`
	Patch   json.RawMessage `json:"patch"` // see table.EncodePatch
}

const journalPrefix = "journal."

func (s *store) journalPath(number int) string {
	return filepath.Join(s.dir, journalPrefix+strconv.Itoa(number))
}

// tables returns what was accepted last and its version; nil if nothing was.
func (s *store) tables() (t *Tables, version int64, err error) {
	j := &s.journal
	j.broken = true // until all is read
	var d keptDocument
	found, err := s.read(tablesFile, &d)
	if err != nil {
		return nil, 0, err
	}
	t = &Tables{Devices: d.Devices}
	if found {
		if t.Set, err = table.Decode(d.Tables); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", tablesFile, err)
		}
	}
	j.number, j.base, version = d.Journal, int64(len(d.Tables)), d.Version
	for {
		whole, err := s.replay(t, &version)
		if err != nil {
			return nil, 0, fmt.Errorf("%s%d: %w", journalPrefix, j.number, err)
		}
		if _, err := os.Stat(s.journalPath(j.number + 1)); err != nil || !whole {
			break
		}
		j.number++
	}
	j.broken, j.version = false, version
	if t.Set == nil {
		t = nil
	}
	return t, version, s.removeJournals(func(n int) bool { return n < d.Journal || n > j.number })
}

// replay applies the patches in the current file. whole is false if it ends
// within one, as when its writer was killed.
func (s *store) replay(t *Tables, version *int64) (whole bool, err error) {
	j := &s.journal
	j.good = 0
	f, err := os.Open(s.journalPath(j.number))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	d := json.NewDecoder(bufio.NewReader(f))
	for {
		var e entry
		if err := d.Decode(&e); err != nil {
			return errors.Is(err, io.EOF), nil
		}
		if e.Base != *version { // what lies between is lost
			return false, nil
		}
		p, err := table.DecodePatch(e.Patch)
		if err != nil {
			return false, err
		}
		if t.Set, err = p.Apply(t.Set); err != nil {
			return false, err
		}
		*version = e.Version
		j.entries++
		j.size += d.InputOffset() - j.good
		j.good = d.InputOffset()
	}
}

// prepare writes t, which nobody gave a version, beside the tables that were
// accepted last.
func (s *store) prepare(t *Tables) (*file, error) {
	next, err := s.unused()
	if err != nil {
		return nil, err
	}
	s.journal.broken = true // it is not about t
	f, _, err := s.writeTables(t, 0, next)
	return f, err
}

// record keeps t, which patch made of the tables that were recorded before. It
// waits for no disk.
func (s *store) record(t *Tables, version int64, patch []byte) error {
	j := &s.journal
	var failed error
	select {
	case done := <-j.folding:
		j.folding = nil
		if failed = done.err; failed == nil {
			j.base = done.size
		}
	default:
	}
	if j.broken {
		return s.recover(t, version)
	}
	if err := s.append(version, patch); err != nil {
		j.broken = true
		return err
	}
	if j.folding != nil || j.entries < maxEntries && j.size < max(minJournal, j.base) {
		return failed
	}
	if err := s.rotate(); err != nil {
		return err
	}
	done := make(chan folded, 1)
	j.folding = done
	go func(number int) {
		makeWay()
		size, err := s.fold(t, version, number)
		done <- folded{size, err}
	}(j.number)
	return failed
}

// makeWay lets others run before the calling goroutine, which has a thread of
// its own from then on; it ends with the goroutine.
func makeWay() {
	runtime.LockOSThread()
	const self = 0 // in Linux the thread alone
	if p, err := unix.Getpriority(unix.PRIO_PROCESS, self); err == nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, self, 20-p+foldNice) // the kernel counts down from 20
	}
}

// append writes an entry to the current file.
func (s *store) append(version int64, patch []byte) error {
	j := &s.journal
	if j.file == nil {
		f, err := os.OpenFile(s.journalPath(j.number), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Seek(j.good, io.SeekStart)
		if err = errors.Join(err, f.Truncate(j.good)); err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
	}
	line, err := json.Marshal(entry{j.version, version, patch})
	if err != nil {
		return err
	}
	n, err := j.file.Write(append(line, '\n'))
	j.version = version
	j.entries++
	j.size += int64(n)
	return err
}

// rotate goes on with a new file.
func (s *store) rotate() (err error) {
	j := &s.journal
	next, err := s.unused()
	if err != nil {
		return err
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.number, j.file, j.good, j.entries, j.size = max(next, j.number+1), nil, 0, 0, 0
	return err
}

// recover writes the tables file at once: the journal does not lead to t.
func (s *store) recover(t *Tables, version int64) error {
	j := &s.journal
	if j.folding != nil {
		<-j.folding
		j.folding = nil
	}
	if err := s.rotate(); err != nil {
		return err
	}
	size, err := s.fold(t, version, j.number)
	if err == nil {
		j.base, j.broken, j.version = size, false, version
	}
	return err
}

// fold makes t the tables file and removes the patches that are in it.
func (s *store) fold(t *Tables, version int64, number int) (size int64, err error) {
	f, size, err := s.writeTables(t, version, number)
	if err != nil {
		return 0, err
	}
	defer f.drop()
	if err := f.commit(); err != nil {
		return 0, err
	}
	return size, s.removeJournals(func(n int) bool { return n < number })
}

// writeTables writes a tables file beside the one that is there; patches to it
// are in the files from number on.
func (s *store) writeTables(t *Tables, version int64, number int) (*file, int64, error) {
	set, err := table.Encode(t.Set)
	if err != nil {
		return nil, 0, err
	}
	// Without the set, which json.Marshal would read and copy once more.
	document, err := json.Marshal(keptDocument{version, number, t.Devices, nil})
	if err != nil {
		return nil, 0, err
	}
	head, end := bytes.TrimSuffix(document, []byte("null}")), []byte("}")
	f, err := s.write(tablesFile, head, set, end)
	return f, int64(len(set)), err
}

// journals returns the numbers of the files of patches that are there.
func (s *store) journals() (numbers []int, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), journalPrefix); ok {
			if n, err := strconv.Atoi(text); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	return numbers, nil
}

// unused returns a number that no file has, nor one after it.
func (s *store) unused() (next int, err error) {
	numbers, err := s.journals()
	for _, n := range numbers {
		next = max(next, n+1)
	}
	return next, err
}

func (s *store) removeJournals(which func(number int) bool) error {
	numbers, err := s.journals()
	for _, n := range numbers {
		if which(n) {
			err = errors.Join(err, os.Remove(s.journalPath(n)))
		}
	}
	return err
}

// closeJournal waits until the tables file is written.
func (s *store) closeJournal() error {
	if s.journal.folding != nil {
		<-s.journal.folding
	}
	if s.journal.file != nil {
		return s.journal.file.Close()
	}
	return nil
}
