package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	s.Ports[table.PortID(n%7+1)] = &table.Port{ID: table.PortID(n%7 + 1), Name: "p"}
	s.Segments[1] = &table.Segment{ID: 1, VNI: uint32(n)}
	return s
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	s, tables, version := kept(t, dir)
	if tables != nil || version != 0 {
		t.Fatalf("an empty directory gives %v, version %d", tables, version)
	}
	var before *table.Set
	steps := 3*maxEntries + 10
	for n := range steps {
		set := membered(n)
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
	if diff := cmp.Diff(membered(steps-1), tables.Set, compareAddrs); diff != "" || version != int64(steps) {
		t.Errorf("version %d (-recorded +read):\n%s", version, diff)
	}
	var d keptDocument
	if _, err := s.read(tablesFile, &d); err != nil || d.Version < 2*maxEntries {
		t.Errorf("the tables file is of version %d, %v", d.Version, err)
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
