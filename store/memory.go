package store

import (
	"context"
	"iter"
	"slices"
	"sort"
	"sync"
)

// Memory is a KV that is gone with its process.
type Memory struct {
	mu        sync.Mutex
	entries   map[string]Entry
	history   []Batch // those that are told one by one; the last is the newest
	head      Version
	compacted Version       // the newest commit that is not in history
	grown     chan struct{} // closed and made anew with every commit
}

// NewMemory returns an empty KV in memory.
func NewMemory() *Memory {
	return &Memory{entries: map[string]Entry{}, grown: make(chan struct{})}
}

// memoryHistory is how many commits a watch may be behind.
const memoryHistory = 4096

// Load implements KV.
func (m *Memory) Load(context.Context) (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Snapshot{Version: m.head}
	for _, e := range m.entries {
		s.Entries = append(s.Entries, e)
	}
	return s, nil
}

// Head implements KV.
func (m *Memory) Head(context.Context) (Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head, nil
}

// Commit implements KV.
func (m *Memory) Commit(ctx context.Context, head Version, writes []Write) (Version, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if head != m.head {
		return 0, ErrStale
	}
	m.head++
	for _, w := range writes {
		if w.Value == nil {
			delete(m.entries, w.Path)
			continue
		}
		m.entries[w.Path] = Entry{Path: w.Path, Value: w.Value, Version: m.head}
	}
	m.history = append(m.history, Batch{Version: m.head, Writes: slices.Clone(writes)})
	if len(m.history) > 2*memoryHistory {
		m.compact(m.head - memoryHistory)
	}
	close(m.grown)
	m.grown = make(chan struct{})
	return m.head, nil
}

// Compact forgets the order of the commits up to v, as a KV on disk does to
// save space.
func (m *Memory) Compact(v Version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compact(min(v, m.head))
}

func (m *Memory) compact(v Version) {
	m.history = slices.Clone(m.history[m.behind(v):])
	m.compacted = max(m.compacted, v)
}

// behind returns the place in history of the first commit behind v.
func (m *Memory) behind(v Version) int {
	return sort.Search(len(m.history), func(i int) bool { return m.history[i].Version > v })
}

// Watch implements KV.
func (m *Memory) Watch(ctx context.Context, after Version) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		for {
			batches, grown, err := m.since(after)
			if err != nil {
				yield(Batch{}, err)
				return
			}
			for _, b := range batches {
				if ctx.Err() != nil || !yield(b, nil) {
					return
				}
				after = b.Version
			}
			select {
			case <-grown:
			case <-ctx.Done():
				return
			}
		}
	}
}

// since returns the commits behind after, and what closes when there are more.
func (m *Memory) since(after Version) ([]Batch, chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if after < m.compacted {
		return nil, nil, ErrCompacted
	}
	return slices.Clone(m.history[m.behind(after):]), m.grown, nil
}
