package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/table"
)

// kept is what a store gives after its agent was killed.
func kept(t *testing.T, dir string) (*store, *Tables, int64) {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	tables, version, err := s.tables()
	if err != nil {
		t.Fatal(err)
	}
	return s, tables, version
}

// record keeps set as a version of s, whose last one was before.
func record(t *testing.T, s *store, before, set *table.Set, version int64) {
	t.Helper()
	patch, err := table.EncodePatch(table.MakePatch(before, set))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.record(&Tables{Set: set}, version, patch); err != nil {
		t.Fatal(err)
	}
}

// members returns a Set whose content depends on n.
func membered(n int) *table.Set {
	s := table.NewSet("host1")
	s.Ports.Put(table.PortID(n%7+1), &table.Port{ID: table.PortID(n%7 + 1), Name: "p"})
	s.Segments.Put(1, &table.Segment{ID: 1, VNI: uint32(n)})
	return s
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	s, tables, version := kept(t, dir)
	if tables != nil || version != 0 {
		t.Fatalf("an empty directory gives %v, version %d", tables, version)
	}
	var before *table.Set
	const steps = 3010
	host := strings.Repeat("h", 3*minJournal/steps) // a patch has it
	for n := range steps {
		set := membered(n)
		set.Node = host
		record(t, s, before, set, int64(n+1))
		before = set
		if n%500 != 7 {
			continue
		}
		// Killed, and begun anew.
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		s, tables, version = kept(t, dir)
		if diff := cmp.Diff(set, tables.Set, compareAddrs); diff != "" || version != int64(n+1) {
			t.Fatalf("step %d: version %d (-recorded +read):\n%s", n, version, diff)
		}
		before = tables.Set
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, journalPrefix+"*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files of patches: %v, %v", files, err)
	}
	s, tables, version = kept(t, dir)
	defer s.close()
	if diff := cmp.Diff(before, tables.Set, compareAddrs); diff != "" || version != steps {
		t.Errorf("version %d (-recorded +read):\n%s", version, diff)
	}
	var d keptDocument
	if _, err := s.read(tablesFile, &d); err != nil || d.Version < steps/2 {
		t.Errorf("the tables file is of version %d, %v", d.Version, err)
	}
}

// TestJournalGrowsAsTheTables: however many patches there are, the tables file
// is written anew only if they have as many bytes.
func TestJournalGrowsAsTheTables(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := kept(t, dir)
	set := pooled(20_000)
	set.Node = strings.Repeat("h", 200) // a patch has it
	record(t, s, nil, set, 1)
	s.close()
	s, tables, version := kept(t, dir)
	j := &s.journal
	if j.base < 2*minJournal || j.entries > 0 {
		t.Fatalf("at first: %d bytes of tables, %d patches", j.base, j.entries)
	}
	set = tables.Set
	var size int64 // of the patches before the last
	for first := j.number; j.number == first; {
		next := *set
		next.Timeouts.ICMP++
		version++
		size = j.size
		record(t, s, set, &next, version)
		set = &next
	}
	if size < j.base-1000 || size >= j.base || version < 5000 {
		t.Errorf("written anew with version %d, after %d bytes of patches (want %d)", version, size, j.base)
	}
	s.close()
	s, tables, got := kept(t, dir)
	defer s.close()
	if diff := cmp.Diff(set, tables.Set, compareAddrs); diff != "" || got != version || s.journal.entries != 0 {
		t.Errorf("version %d of %d, %d patches (-recorded +read):\n%s", got, version, s.journal.entries, diff)
	}
}

// TestMakeWay: it is about one thread, and not about those that it starts.
func TestMakeWay(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nice := func() int {
		p, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			t.Error(err)
		}
		return 20 - p
	}
	before := nice()
	made, child := make(chan int), make(chan int)
	go func() {
		makeWay()
		go func() { child <- nice() }()
		made <- nice()
	}()
	want := min(before+foldNice, 19)
	if c, m, after := <-child, <-made, nice(); c != before || m != want || after != before {
		t.Errorf("a goroutine that it starts: %d, it: %d, another: %d (want %d, %d, %d)", c, m, after, before, want, before)
	}
}

// TestTablesFile: the file is the JSON of keptDocument, byte by byte.
func TestTablesFile(t *testing.T) {
	odd := pooled(1)
	odd.Node = `<host> & "host"`
	for _, tables := range []*Tables{of(pooled(2)), {Set: odd}, {Set: odd, Devices: map[string]string{"null}": "null}"}}} {
		s, _, _ := kept(t, t.TempDir())
		set, err := table.Encode(tables.Set)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(keptDocument{7, 3, tables.Devices, set})
		if err != nil {
			t.Fatal(err)
		}
		if size, err := s.fold(tables, 7, 3); err != nil || size != int64(len(set)) {
			t.Errorf("%d bytes of %d, %v", size, len(set), err)
		}
		got, err := os.ReadFile(filepath.Join(s.dir, tablesFile))
		if diff := cmp.Diff(string(want), string(got)); err != nil || diff != "" {
			t.Errorf("%v (-want +written):\n%s", err, diff)
		}
		s.close()
		s, read, version := kept(t, s.dir)
		if diff := cmp.Diff(tables, read, compareAddrs); diff != "" || version != 7 || s.journal.number != 3 {
			t.Errorf("version %d, file %d (-written +read):\n%s", version, s.journal.number, diff)
		}
		s.close()
	}
}

// TestJournalAfterACrash: whatever of the newest file is there, an accepted
// version is read, and the journal goes on from it.
func TestJournalAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := kept(t, dir)
	var sets []*table.Set
	var before *table.Set
	for n := range 5 {
		sets = append(sets, membered(n))
		record(t, s, before, sets[n], int64(n+1))
		before = sets[n]
	}
	s.close()
	path := s.journalPath(0)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(data); cut >= 0; cut -= 7 {
		if err := os.WriteFile(path, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, tables, version := kept(t, dir)
		var was *table.Set
		if version > 0 {
			was = tables.Set
			if diff := cmp.Diff(sets[version-1], was, compareAddrs); diff != "" {
				t.Fatalf("%d bytes: version %d (-recorded +read):\n%s", cut, version, diff)
			}
		}
		record(t, s, was, membered(50), 50)
		s.close()
		s, tables, version = kept(t, dir)
		if diff := cmp.Diff(membered(50), tables.Set, compareAddrs); diff != "" || version != 50 {
			t.Fatalf("%d bytes, then one more: version %d (-recorded +read):\n%s", cut, version, diff)
		}
		s.close()
	}
}

// A journal that can not be read is left behind as soon as there are new
// tables.
func TestJournalStartsAnew(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := kept(t, dir)
	record(t, s, nil, membered(1), 1)
	s.close()
	line, err := json.Marshal(entry{1, 2, json.RawMessage(`{"Ports":{"Gone":[99]}}`)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.journalPath(0), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(line)
	f.Close()
	if s, err = openStore(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.tables(); err == nil || err.Error() != "journal.0: patch: ports: 99: goes, but is not there" {
		t.Errorf("a patch that does not fit: %v", err)
	}
	record(t, s, nil, membered(5), 5)
	record(t, s, membered(5), membered(6), 6)
	s.close()
	s, tables, version := kept(t, dir)
	defer s.close()
	if diff := cmp.Diff(membered(6), tables.Set, compareAddrs); diff != "" || version != 6 {
		t.Errorf("version %d (-recorded +read):\n%s", version, diff)
	}
}

// Tables that were put have no journal, whatever there was before.
func TestPutAfterJournal(t *testing.T) {
	dir := t.TempDir()
	s, _, _ := kept(t, dir)
	record(t, s, nil, membered(1), 1)
	f, err := s.prepare(of(pooled(1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.commit(); err != nil {
		t.Fatal(err)
	}
	s.close()
	s, tables, version := kept(t, dir)
	defer s.close()
	if diff := cmp.Diff(of(pooled(1)), tables, compareAddrs); diff != "" || version != 0 {
		t.Errorf("version %d (-put +read):\n%s", version, diff)
	}
}
