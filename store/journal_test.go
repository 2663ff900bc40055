package store

import (
	"container/list"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A journal has every path once, and says so if it forgot one.
func TestJournal(t *testing.T) {
	j := journal{byPath: map[string]*list.Element{}}
	const limit = 3
	j.add(1, []string{"/a", "/b"}, limit)
	j.add(2, []string{"/a"}, limit)
	for v, want := range map[Version][]string{0: {"/a", "/b"}, 1: {"/a"}, 2: {}} {
		if d := cmp.Diff(want, j.since(v)); d != "" {
			t.Errorf("since %d: %s", v, d)
		}
	}
	j.add(3, []string{"/c", "/d"}, limit) // forgets /b, which changed at 1
	j.add(4, []string{"/e"}, limit)       // forgets /a, which changed at 2
	for v, want := range map[Version][]string{1: nil, 2: {"/c", "/d", "/e"}, 3: {"/e"}, 4: {}} {
		if d := cmp.Diff(want, j.since(v)); d != "" {
			t.Errorf("since %d: %s", v, d)
		}
	}
	if j.changes.Len() != limit || len(j.byPath) != limit {
		t.Errorf("keeps %d and %d, want %d", j.changes.Len(), len(j.byPath), limit)
	}
}
