package store

import (
	"container/list"
	"context"
	"iter"
	"slices"
)

// Event tells that the tree is another than at the version before.
type Event struct {
	Version Version
	// Changed is the paths that were written or deleted since, ordered. Nil:
	// more than the store remembers; everything may be another.
	Changed []string
}

// Watch tells of every commit behind after, in order, until ctx ends or the
// Store is closed; commits that wait are joined into one Event. After is a
// version that Read gave; with 0 the first Event tells all that is there.
//
// A commit never waits for a reader. One that stays behind by more changes
// than are kept (twice the objects, at least 131072) gets an Event with nil.
func (s *Store) Watch(ctx context.Context, after Version) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for {
			e, advanced := s.since(after)
			if e.Version > after {
				if ctx.Err() != nil || !yield(e) {
					return
				}
				after = e.Version
				continue
			}
			select {
			case <-advanced:
			case <-ctx.Done():
				return
			case <-s.closed.Done():
				return
			}
		}
	}
}

// since returns what happened behind after, and what closes when more does.
func (s *Store) since(after Version) (Event, <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := Event{Version: s.version}
	switch {
	case s.version <= after:
	case after == 0:
		e.Changed = []string{}
		for _, paths := range s.owned {
			for path := range paths {
				e.Changed = append(e.Changed, path)
			}
		}
		slices.Sort(e.Changed)
	default:
		e.Changed = s.journal.since(after)
	}
	return e, s.advanced
}

// journal is the paths that changed, each once, the latest last.
type journal struct {
	changes   list.List // of change
	byPath    map[string]*list.Element
	forgotten Version // the newest change that is not in it any more
}

type change struct {
	path    string
	version Version
}

// minJournal is how many paths a journal keeps at least.
const minJournal = 1 << 17

// add notes that paths changed with version v; limit is how many paths to keep.
func (j *journal) add(v Version, paths []string, limit int) {
	for _, path := range paths {
		if e, ok := j.byPath[path]; ok {
			e.Value = change{path, v}
			j.changes.MoveToBack(e)
			continue
		}
		j.byPath[path] = j.changes.PushBack(change{path, v})
	}
	for j.changes.Len() > limit {
		c := j.changes.Remove(j.changes.Front()).(change)
		delete(j.byPath, c.path)
		j.forgotten = c.version
	}
}

// since returns the paths that changed behind v, ordered; nil: it forgot some.
func (j *journal) since(v Version) []string {
	if v < j.forgotten {
		return nil
	}
	paths := []string{}
	for e := j.changes.Back(); e != nil && e.Value.(change).version > v; e = e.Prev() {
		paths = append(paths, e.Value.(change).path)
	}
	slices.Sort(paths)
	return paths
}
