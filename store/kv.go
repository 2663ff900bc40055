package store

import (
	"context"
	"errors"
	"iter"
)

// KV keeps values by path and the order in which they were committed. It knows
// nothing of what they mean. Commits are serial, whoever makes them; each has a
// Version greater than the one before, which need not be the next number.
//
// It is safe for concurrent use. Nothing but a Store may commit to it.
type KV interface {
	// Load returns all there is at the newest version. The values belong to
	// the KV and must not be changed.
	Load(ctx context.Context) (Snapshot, error)
	// Head returns the newest version.
	Head(ctx context.Context) (Version, error)
	// Commit makes all writes, at most one a path, if head is still the
	// newest version, and returns the new one; the values belong to the KV
	// from then on. ErrStale: it is not, and nothing was written. After any
	// other error nobody knows; the next commit with the same head will not
	// do it again if it was done.
	Commit(ctx context.Context, head Version, writes []Write) (Version, error)
	// Watch yields every commit behind after, in order, and waits for more
	// until ctx ends. It outlives what it can outlive, such as a server that
	// restarts, and yields the error that it can not, as the last:
	// ErrCompacted if commits behind after are no more told one by one.
	Watch(ctx context.Context, after Version) iter.Seq2[Batch, error]
}

// Errors of KV.
var (
	ErrStale     = errors.New("store: another commit came first")
	ErrCompacted = errors.New("store: the commits asked for are compacted")
)

// Write is what a commit makes of one path.
type Write struct {
	Path  string
	Value []byte // nil: delete
}

// Batch is one commit.
type Batch struct {
	Version Version
	Writes  []Write
}

// Entry is a value and the commit that wrote it.
type Entry struct {
	Path    string
	Value   []byte
	Version Version
}

// Snapshot is everything at one version.
type Snapshot struct {
	Version Version // 0: nothing was committed yet
	Entries []Entry // in no order
}
