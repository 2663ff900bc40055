package control

import (
	"time"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// following compiles a Source step by step.
type following struct {
	source   Source
	compiler *compile.Compiler
	version  store.Version       // that was compiled last
	told     store.Version       // whose changes are known
	changed  map[string]struct{} // between these two
	lost     bool                // not all of them are known
	ended    time.Time           // the latest compilation
	took     time.Duration       // that one
}

func newFollowing(source Source) *following {
	return &following{source: source, compiler: compile.New(), changed: map[string]struct{}{}}
}

// all compiles everything.
func (f *following) all() (sets map[string]*table.Set, problems []intent.Problem) {
	f.source.Read(func(t *intent.Tree, v store.Version) {
		sets, problems = f.compiler.Update(t, nil)
		f.version, f.told = v, v
	})
	return sets, problems
}

func (f *following) add(e store.Event) {
	f.told = max(f.told, e.Version)
	f.lost = f.lost || e.Changed == nil
	for _, path := range e.Changed {
		f.changed[path] = struct{}{}
	}
}

// next compiles the Source as it is after e and what comes soon after it, and
// while it rests. False: events ended.
func (f *following) next(e store.Event, events <-chan store.Event) (sets map[string]*table.Set, problems []intent.Problem, ok bool) {
	f.add(e)
	soon := time.NewTimer(max(joinFor, f.rest()))
	defer soon.Stop()
	for waits := true; waits; {
		select {
		case e, ok := <-events:
			if !ok {
				return nil, nil, false
			}
			f.add(e)
		case <-soon.C:
			waits = false
		}
	}
	for {
		if sets, problems, ok = f.update(); ok {
			return sets, problems, true
		}
		e, ok := <-events
		if !ok {
			return nil, nil, false
		}
		f.add(e)
	}
}

// rest returns how long not to compile, so that it is done about half of the time
// while many commits come, or more if it takes longer than restAtMost: they wait for a compilation, which costs hardly more
// for many of them than for one.
func (f *following) rest() time.Duration {
	return min(f.took, restAtMost) - time.Since(f.ended)
}

// update compiles what changed. False: the Source has changes that are not told
// yet, and the compiler must not see a change that it is not told of.
func (f *following) update() (sets map[string]*table.Set, problems []intent.Problem, ok bool) {
	f.source.Read(func(t *intent.Tree, v store.Version) {
		if v > f.told && !f.lost {
			return
		}
		changed := make([]string, 0, len(f.changed))
		for path := range f.changed {
			changed = append(changed, path)
		}
		if f.lost {
			changed = nil
		}
		start := time.Now()
		sets, problems = f.compiler.Update(t, changed)
		f.version, f.told, f.lost, ok = v, max(f.told, v), false, true
		f.ended = time.Now()
		f.took = f.ended.Sub(start)
		clear(f.changed)
	})
	return sets, problems, ok
}
