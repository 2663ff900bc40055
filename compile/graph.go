package compile

import (
	"reflect"

	"github.com/weft-net/weft/intent"
)

// ref names a fact. arg is what some kinds need besides a policy path: a
// prefix, an address, a direction.
type ref struct {
	kind kind
	name string
	arg  string
}

// fact is a node of the graph. There are three sorts, told apart by kind:
//
//   - sources (an object of the Tree, the children of a path, an id, whether a
//     domain shares addresses): no value here; they are marked when they change
//   - relations: members, each put there by some built facts
//   - built facts: value, made by the builder of the kind
type fact struct {
	ref
	readers map[*fact]struct{}

	members map[any]int // relations: member → how many facts put it there

	value    any
	reads    map[*fact]struct{}
	emits    map[emission]struct{}
	problems []intent.Problem
	pinned   bool // is wanted though nobody reads it
	dirty    bool
	queued   bool
	running  bool
	gone     bool
}

// emission is one member that a built fact puts into a relation.
type emission struct {
	rel    ref
	member any
}

// graph holds all facts and what is to be done.
type graph struct {
	facts   map[ref]*fact
	queue   [kinds][]*fact
	build   func(*run) any                          // builder of all kinds
	joined  func(rel *fact, member any, added bool) // a relation got or lost a member
	changed func(f *fact, before any)               // a built fact has another value
	wrong   map[*fact]struct{}                      // facts with problems
	stats   [kinds]int                              // how often each kind was built, for tests
}

// fact returns the fact of a name; a built one that is new is to be built.
func (g *graph) fact(r ref) *fact {
	f := g.facts[r]
	if f == nil {
		f = &fact{ref: r, readers: map[*fact]struct{}{}, dirty: r.kind.isBuilt()}
		g.facts[r] = f
	}
	return f
}

// pin wants a built fact until unpin.
func (g *graph) pin(r ref) {
	f := g.fact(r)
	f.pinned = true
	g.enqueue(f)
}

func (g *graph) unpin(r ref) {
	if f := g.facts[r]; f != nil {
		f.pinned = false
		g.enqueue(f)
	}
}

// mark says that a source or relation changed: its readers are to be built
// again.
func (g *graph) mark(f *fact) {
	for r := range f.readers {
		r.dirty = true
		g.enqueue(r)
	}
}

func (g *graph) markRef(r ref) {
	if f := g.facts[r]; f != nil {
		g.mark(f)
	}
}

func (g *graph) enqueue(f *fact) {
	if !f.queued && !f.running {
		f.queued = true
		g.queue[f.kind] = append(g.queue[f.kind], f)
	}
}

// settle builds what is to be built, smaller kinds first, so that most facts
// are built once.
func (g *graph) settle() {
	for k := 0; k < int(kinds); k++ {
		for len(g.queue[k]) > 0 {
			last := len(g.queue[k]) - 1
			f := g.queue[k][last]
			g.queue[k] = g.queue[k][:last]
			f.queued = false
			switch {
			case f.gone:
			case !f.pinned && len(f.readers) == 0:
				g.drop(f)
			case f.dirty:
				g.make(f)
			}
			k = min(k, g.lowest())
		}
	}
}

// lowest returns the smallest kind that has something to do.
func (g *graph) lowest() int {
	for k := range g.queue {
		if len(g.queue[k]) > 0 {
			return k
		}
	}
	return int(kinds)
}

// make builds a fact and records what it read, put and complains about.
func (g *graph) make(f *fact) {
	if f.running {
		panic("compile: fact " + f.name + " " + f.arg + " depends on itself")
	}
	f.dirty, f.running = false, true
	g.stats[f.kind]++
	x := &run{g: g, f: f, reads: make(map[*fact]struct{}, len(f.reads)), emits: make(map[emission]struct{}, len(f.emits))}
	v := g.build(x)
	f.running = false
	g.replace(f, x)
	if before := f.value; !equal(before, v) {
		f.value = v
		g.changed(f, before)
		g.mark(f)
	}
	if f.dirty {
		g.enqueue(f)
	}
}

// replace takes over the outcome of a run and gives up what the one before had
// more.
func (g *graph) replace(f *fact, x *run) {
	reads, emits := f.reads, f.emits
	f.reads, f.emits, f.problems = x.reads, x.emits, x.problems
	for r := range reads {
		if _, still := x.reads[r]; !still {
			g.unread(f, r)
		}
	}
	for e := range emits {
		if _, still := x.emits[e]; !still {
			g.withdraw(e)
		}
	}
	if len(f.problems) > 0 {
		g.wrong[f] = struct{}{}
	} else {
		delete(g.wrong, f)
	}
}

// drop removes a built fact that nobody wants.
func (g *graph) drop(f *fact) {
	before := f.value
	f.gone, f.value = true, nil
	delete(g.facts, f.ref)
	g.replace(f, &run{})
	if before != nil {
		g.changed(f, before)
	}
}

func (g *graph) unread(f, r *fact) {
	delete(r.readers, f)
	switch {
	case len(r.readers) > 0:
	case r.kind.isBuilt():
		g.enqueue(r)
	case len(r.members) == 0:
		delete(g.facts, r.ref)
	}
}

// offer puts a member into a relation, withdraw takes it out.
func (g *graph) offer(e emission) {
	rel := g.fact(e.rel)
	if rel.members == nil {
		rel.members = map[any]int{}
	}
	rel.members[e.member]++
	if rel.members[e.member] == 1 {
		g.mark(rel)
		g.joined(rel, e.member, true)
	}
}

func (g *graph) withdraw(e emission) {
	rel := g.facts[e.rel]
	rel.members[e.member]--
	if rel.members[e.member] > 0 {
		return
	}
	delete(rel.members, e.member)
	g.mark(rel)
	g.joined(rel, e.member, false)
	if len(rel.members) == 0 && len(rel.readers) == 0 {
		delete(g.facts, e.rel)
	}
}

// equal compares values of facts.
func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// run is one building of one fact. A builder must read through it only.
type run struct {
	g        *graph
	f        *fact
	c        *Compiler
	reads    map[*fact]struct{}
	emits    map[emission]struct{}
	problems []intent.Problem
}

// note records that the fact depends on r and returns it.
func (x *run) note(r ref) *fact {
	f := x.g.fact(r)
	x.reads[f] = struct{}{}
	f.readers[x.f] = struct{}{}
	return f
}

// value returns the value of a built fact, nil if there is none, and builds it
// first if it has to be.
func (x *run) value(r ref) any {
	f := x.note(r)
	if f.dirty {
		x.g.make(f)
	}
	return f.value
}

// emit puts a member into a relation for as long as the fact stands.
func (x *run) emit(rel ref, member any) {
	e := emission{rel, member}
	if _, twice := x.emits[e]; twice {
		return
	}
	x.emits[e] = struct{}{}
	if _, before := x.f.emits[e]; !before {
		x.g.offer(e)
	}
}

// warn adds a problem that does not stop the change.
func (x *run) warn(path, field string, k intent.Kind, msg string) {
	x.problems = append(x.problems, intent.Problem{Path: path, Field: field, Kind: k, Severity: intent.Warning, Msg: msg})
}

// built returns the value of a built fact as T; the zero T if it has none.
func built[T any](x *run, r ref) T {
	v, _ := x.value(r).(T)
	return v
}

// members returns the members of a relation; cmp is their order.
func members[T comparable](x *run, rel ref, cmp func(a, b T) int) []T {
	return sorted[T](x.note(rel), cmp)
}
