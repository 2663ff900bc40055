package store_test

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/weft-net/weft/store"
)

// gated is a KV whose watch tells of commits only when the test lets it.
type gated struct {
	store.KV
	mu   sync.Mutex
	upTo store.Version
	open chan struct{} // closed and made anew by pass
}

// pass lets commits up to v through.
func (g *gated) pass(v store.Version) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.upTo = v
	close(g.open)
	g.open = make(chan struct{})
}

// Watch implements store.KV: it watches anew for each time the gate opens, as
// after a lost connection.
func (g *gated) Watch(ctx context.Context, after store.Version) iter.Seq2[store.Batch, error] {
	return func(yield func(store.Batch, error) bool) {
		for ctx.Err() == nil {
			g.mu.Lock()
			upTo, open := g.upTo, g.open
			g.mu.Unlock()
			if after >= upTo {
				select {
				case <-open:
				case <-ctx.Done():
				}
				continue
			}
			for b, err := range g.KV.Watch(ctx, after) {
				if !yield(b, err) || err != nil {
					return
				}
				if after = b.Version; after >= upTo {
					break
				}
			}
		}
	}
}

// errLost is a connection that is gone.
var errLost = errors.New("connection lost")

// unsure is a KV that does not say what became of some commits.
type unsure struct {
	store.KV
	mu   sync.Mutex
	lose func(n int) (before, after bool) // of the n-th commit
	n    int
}

// Commit implements store.KV.
func (u *unsure) Commit(ctx context.Context, head store.Version, writes []store.Write) (store.Version, error) {
	u.mu.Lock()
	before, after := u.lose(u.n)
	u.n++
	u.mu.Unlock()
	if before {
		return 0, errLost
	}
	v, err := u.KV.Commit(ctx, head, writes)
	if after {
		return 0, errLost
	}
	return v, err
}
