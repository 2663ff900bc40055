// Package store keeps intent in versions: one validated tree that many
// processes change, each seeing the commits of all.
//
// A Store holds the whole tree of its KV in memory and follows the KV's
// commits, so that validation and reads touch memory only. A commit is
// validated against the tree, made iff the tree was the newest one, and only
// then seen by readers. Nothing is published that the KV does not have.
package store

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/intent"
)

// Version numbers the commits of a whole store, in their order, with gaps. 0:
// nothing was committed yet.
type Version int64

// Store is the intent of one KV. It is safe for concurrent use.
type Store struct {
	kv     KV
	log    *slog.Logger
	closed context.Context // done: Close was called
	stop   context.CancelFunc
	ended  chan struct{} // closed: nothing is followed any more

	// turn holds one token: who has it may change what mu guards, others only
	// read. It is kept while the KV commits, which mu is not, so that a slow
	// KV stops no reader.
	turn chan struct{}

	mu       sync.RWMutex
	tree     *intent.Tree
	version  Version
	owned    map[Owner]map[string]struct{} // paths of stored objects; "": of people
	owners   []Owner                       // those of owned but people, sorted
	touched  map[Owner]Version             // the newest commit that concerned an owner with objects
	journal  journal
	advanced chan struct{} // closed and made anew with every commit
	broken   error         // why the KV cannot be followed; nil: it can
}

// New returns the Store of what kv has. ctx bounds the loading alone. The KV
// stays the caller's: who opened it closes it, after the Store. A nil log is
// silent.
func New(ctx context.Context, kv KV, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		kv: kv, log: log, ended: make(chan struct{}), turn: make(chan struct{}, 1), tree: intent.NewTree(), owned: map[Owner]map[string]struct{}{},
		touched: map[Owner]Version{}, journal: journal{byPath: map[string]*list.Element{}}, advanced: make(chan struct{}),
	}
	s.closed, s.stop = context.WithCancel(context.Background())
	if err := s.reload(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("store: %w", err)
	}
	go s.follow(s.closed)
	return s, nil
}

// Close ends the Store: it follows its KV no more, and its watches end.
func (s *Store) Close() error {
	s.stop()
	<-s.ended
	return nil
}

// Read calls fn with the tree as it is and its version. fn must neither keep
// nor change the tree, must not call methods of the Store, and should be
// short: commits wait for it.
func (s *Store) Read(fn func(t *intent.Tree, v Version)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	fn(s.tree, s.version)
}

// Update calls fn with the tree as it is and commits the changes that fn
// returns, all or nothing; if another commit came between it calls fn again.
// What fn allocates within it no other commit, of whatever process, has.
//
// fn must neither keep nor change the tree and its objects, nor call methods
// of the Store that commit; objects that it returns are not to be changed
// afterwards. The version is that of the commit, or of the tree if there was
// nothing to change.
//
// Problems of severity Error: nothing was committed. An object with a
// `_revision` that is not the stored one is a Conflict; 0 fits what was never
// stored. An error of fn is returned as it is. After an error of the KV it is
// not known whether the commit was made: fn should find out from the tree when
// it is asked again.
func (s *Store) Update(ctx context.Context, fn func(t *intent.Tree) ([]intent.Change, error)) (Version, []intent.Problem, error) {
	c, problems, err := s.Change(ctx, nil, fn)
	return c.Version, problems, err
}

// Commit is what a change made.
type Commit struct {
	Version Version // of the commit; without paths that of the tree
	// The paths that it made, changed and deleted, those that follow from
	// others included, each ordered.
	Created, Configured, Deleted []string
}

// Guard judges one object of a commit: nil before, it is made; nil after, it
// is deleted. With a problem of severity Error nothing is committed.
type Guard func(before, after intent.Object) []intent.Problem

// Change is Update that says what it made, and asks guard, unless it is nil,
// about every object that would be different, also those that are deleted with
// another.
func (s *Store) Change(ctx context.Context, guard Guard, fn func(t *intent.Tree) ([]intent.Change, error)) (Commit, []intent.Problem, error) {
	return s.commit(ctx, "", guard, func(t *intent.Tree) ([]intent.Change, []intent.Problem, error) {
		changes, err := fn(t)
		return changes, nil, err
	})
}

// plan returns what to change in a tree and what is wrong with it.
type plan func(t *intent.Tree) ([]intent.Change, []intent.Problem, error)

// commit makes what fn plans. Without changes the version is that of owner,
// if there is one.
func (s *Store) commit(ctx context.Context, owner Owner, guard Guard, fn plan) (Commit, []intent.Problem, error) {
	for {
		c, problems, err := s.try(ctx, owner, guard, fn)
		if !errors.Is(err, ErrStale) {
			return c, problems, err
		}
		if err := s.wait(ctx, c.Version); err != nil {
			return Commit{}, nil, err
		}
	}
}

// commitTime bounds one commit's wait for the KV; what became of it is then
// unknown, and looked up.
const commitTime = 30 * time.Second

// try is one attempt. ErrStale: the tree, whose version it returns, was not
// the newest.
func (s *Store) try(ctx context.Context, owner Owner, guard Guard, fn plan) (Commit, []intent.Problem, error) {
	if err := s.take(ctx); err != nil {
		return Commit{}, nil, err
	}
	defer s.release()
	s.mu.RLock()
	err := s.broken
	s.mu.RUnlock()
	if err != nil {
		return Commit{}, nil, err
	}
	d := draft{tree: s.tree, values: map[string][]byte{}}
	changes, problems, err := s.check(fn, &d)
	c, more := s.sort(changes, guard)
	problems = append(problems, more...)
	switch {
	case err != nil || intent.HasErrors(problems):
		if head, e := s.kv.Head(ctx); e == nil && head > s.version {
			return Commit{Version: s.version}, nil, ErrStale // it may be right with the newest tree
		}
		return Commit{}, problems, err
	case len(changes) == 0:
		return Commit{Version: s.versionOf(owner)}, problems, nil
	}
	writes, err := d.writes(changes)
	if err != nil {
		return Commit{}, nil, fmt.Errorf("store: %w", err)
	}
	// Others wait for this turn: a KV that does not answer must not keep it.
	ctx, cancel := context.WithTimeoutCause(ctx, commitTime, errors.New("it does not answer"))
	defer cancel()
	c.Version, err = s.kv.Commit(ctx, s.version, writes)
	if errors.Is(err, ErrStale) {
		return Commit{Version: s.version}, nil, err
	}
	if err != nil {
		return Commit{}, nil, fmt.Errorf("store: commit: %w", err)
	}
	revision := int64(c.Version)
	for _, change := range changes {
		if change.Object != nil {
			change.Object.Meta().Revision = &revision // nobody has it yet
		}
	}
	return c, problems, s.land(c.Version, changes)
}

// sort returns what changes make of the tree, and what guard says of it.
func (s *Store) sort(changes []intent.Change, guard Guard) (c Commit, problems []intent.Problem) {
	for _, change := range changes {
		before := s.tree.Get(change.Path)
		switch {
		case change.Object == nil:
			c.Deleted = append(c.Deleted, change.Path)
		case before == nil:
			c.Created = append(c.Created, change.Path)
		default:
			c.Configured = append(c.Configured, change.Path)
		}
		if guard != nil {
			problems = append(problems, guard(before, change.Object)...)
		}
	}
	return c, problems
}

// check returns what fn plans, one change for each object that differs.
func (s *Store) check(fn plan, d *draft) ([]intent.Change, []intent.Problem, error) {
	changes, problems, err := fn(s.tree)
	if err != nil {
		return nil, nil, err
	}
	changes = d.prepare(changes)
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, more := s.tree.Check(changes)
	return changes, slices.Concat(problems, d.problems, more), nil
}

// versionOf returns the version of the newest commit that concerned an owner
// that has objects, else that of the tree.
func (s *Store) versionOf(owner Owner) Version {
	if v, ok := s.touched[owner]; ok && owner != "" {
		return v
	}
	return s.version
}

// errClosed is what waits for a Store that was closed.
var errClosed = errors.New("store: is closed")

// take waits for the turn.
func (s *Store) take(ctx context.Context) error {
	if s.closed.Err() != nil {
		return errClosed
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store: waiting for other commits: %w", context.Cause(ctx))
	case <-s.closed.Done():
		return errClosed
	}
}

func (s *Store) release() { <-s.turn }

// wait waits until the tree is newer than v.
func (s *Store) wait(ctx context.Context, v Version) error {
	for {
		s.mu.RLock()
		version, advanced, broken := s.version, s.advanced, s.broken
		s.mu.RUnlock()
		switch {
		case broken != nil:
			return broken
		case version > v:
			return nil
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("store: waiting for the commit that came first: %w", context.Cause(ctx))
		case <-s.closed.Done():
			return errClosed
		}
	}
}
