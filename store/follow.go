package store

import (
	"context"
	"fmt"
	"time"

	"github.com/weft-net/weft/intent"
)

// invalid is that the KV has what no Store of this kind would have committed.
type invalid struct{ problems []intent.Problem }

// Error returns the first problem that matters.
func (e *invalid) Error() string {
	for _, p := range e.problems {
		if p.Severity == intent.Error {
			return "what is stored is not valid: " + p.String()
		}
	}
	return "what is stored is not valid"
}

// follow applies the commits of others until ctx ends. What cannot be followed
// is loaded again.
func (s *Store) follow(ctx context.Context) {
	defer close(s.ended)
	for ctx.Err() == nil {
		err := s.tail(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("store: loads everything again", "reason", err)
		s.recover(ctx)
	}
}

// tail applies commits as they come; it returns why it ends.
func (s *Store) tail(ctx context.Context) error {
	for b, err := range s.kv.Watch(ctx, s.at()) {
		if err != nil {
			return err
		}
		if err := s.apply(ctx, b); err != nil {
			return err
		}
	}
	return fmt.Errorf("the watch ended")
}

// at returns the version of the tree.
func (s *Store) at() Version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.version
}

// apply takes over one commit, which may be an own one that is there already.
func (s *Store) apply(ctx context.Context, b Batch) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	if b.Version <= s.version {
		return nil
	}
	changes := make([]intent.Change, 0, len(b.Writes))
	for _, w := range b.Writes {
		c := intent.Change{Path: w.Path}
		if w.Value != nil {
			o, err := decode(w.Path, w.Value, b.Version)
			if err != nil {
				return err
			}
			c.Object = o
		}
		changes = append(changes, c)
	}
	return s.land(b.Version, changes)
}

// land makes changes that the KV has, one for each object that differs, the
// tree's next version. It needs the turn.
func (s *Store) land(v Version, changes []intent.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[string]intent.Object, len(changes))
	for _, c := range changes {
		before[c.Path] = s.tree.Get(c.Path)
	}
	changed, problems := s.tree.Apply(changes)
	if intent.HasErrors(problems) {
		return &invalid{problems}
	}
	for _, path := range changed {
		s.index(path, before[path], s.tree.Get(path), v)
	}
	if s.version == 0 && len(s.journal.byPath) == 0 {
		s.journal.forgotten = v // a reader at 0 is told everything that is there
	} else {
		s.journal.add(v, changed, max(minJournal, 2*s.tree.Len()))
	}
	s.version, s.broken = v, nil
	s.tell()
	return nil
}

// tell wakes all who wait for another version. It needs mu.
func (s *Store) tell() {
	close(s.advanced)
	s.advanced = make(chan struct{})
}

// The pauses between attempts to load what the KV does not give.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// recover loads everything until it succeeds or ctx ends. Meanwhile reads go
// on and commits are refused.
func (s *Store) recover(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := s.reload(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Error("store: cannot be loaded; commits are refused", "err", err)
		s.mu.Lock()
		s.broken = fmt.Errorf("store: cannot be loaded: %w", err)
		s.tell()
		s.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// reload makes the tree what the KV has, by one commit of what differs.
func (s *Store) reload(ctx context.Context) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	snap, err := s.kv.Load(ctx)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if snap.Version < s.version {
		return fmt.Errorf("version %d: is older than %d, which was seen (if a backup was restored, restart every weftd)", snap.Version, s.version)
	}
	changes, err := s.difference(snap)
	if err != nil {
		return err
	}
	if len(changes) == 0 && snap.Version == s.version {
		s.mu.Lock()
		s.broken = nil
		s.mu.Unlock()
		return nil
	}
	return s.land(snap.Version, changes)
}

// difference returns what makes the tree a snapshot. An object with the same
// `_revision` is the same.
func (s *Store) difference(snap Snapshot) ([]intent.Change, error) {
	var changes []intent.Change
	there := make(map[string]bool, len(snap.Entries))
	for _, e := range snap.Entries {
		there[e.Path] = true
		if o := s.tree.Get(e.Path); o != nil && revision(o.Meta().Revision) == int64(e.Version) {
			continue
		}
		o, err := decode(e.Path, e.Value, e.Version)
		if err != nil {
			return nil, err
		}
		changes = append(changes, intent.Change{Path: e.Path, Object: o})
	}
	for _, paths := range s.owned {
		for path := range paths {
			if !there[path] {
				changes = append(changes, intent.Delete(path))
			}
		}
	}
	return changes, nil
}
