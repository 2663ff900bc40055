package compile

import (
	"slices"

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
//   - sources (an object of the Tree, the children of a path, whether a domain
//     shares addresses): no value here; they are marked when they change
//   - relations: members, each put there by some built facts
//   - built facts: value, made by the builder of the kind
//
// There are very many, so a fact has no more than its sort needs.
type fact struct {
	name, arg string // see ref
	kind      kind
	stamp     uint32  // the last run that read it: most facts are recorded once
	readers   readers // built facts that read this one

	members   *bag // relations only
	*building      // built facts only
}

// building is what only built facts have.
type building struct {
	value   any
	reads   []edge
	emits   []emission
	watcher int32 // its number among the watches; 0: it watches nothing
	pinned  bool  // is wanted though nobody reads it
	dirty   bool
	queued  bool
	gone    bool
	told    bool // is in Compiler.changes

	running bool
}

func (f *fact) ref() ref { return ref{f.kind, f.name, f.arg} }

// is reports whether r names the fact.
func (f *fact) is(r ref) bool { return f.kind == r.kind && f.name == r.name && f.arg == r.arg }

// edge is one end of a reading: the fact at the other end, and where in that
// one's list this end is. A fact may stand twice in the list of another.
type edge struct {
	*fact
	at int32
}

// readers is a list of edges. Most have one, for which nothing is allocated.
type readers struct {
	first edge
	rest  *[]edge // nil: never had more
}

func (l *readers) size() int {
	switch {
	case l.first.fact == nil:
		return 0
	case l.rest == nil:
		return 1
	}
	return 1 + len(*l.rest)
}

func (l *readers) at(i int) *edge {
	if i == 0 {
		return &l.first
	}
	return &(*l.rest)[i-1]
}

func (l *readers) append(e edge) {
	switch {
	case l.first.fact == nil:
		l.first = e
	case l.rest == nil:
		l.rest = &[]edge{e}
	default:
		*l.rest = append(*l.rest, e)
	}
}

// pop removes the last one.
func (l *readers) pop() {
	last := l.size() - 1
	*l.at(last) = edge{}
	if last > 0 {
		*l.rest = (*l.rest)[:last-1]
	}
}

// emission is one member that a built fact puts into a relation.
type emission struct {
	rel    *fact
	member any
}

// graph holds all facts and what is to be done.
type graph struct {
	facts   shelves
	watches watches
	queue   [kinds][]*fact
	lowest  kind                                    // no smaller kind has something to do
	runs    uint32                                  // how many there were
	build   func(*run) any                          // builder of all kinds
	joined  func(rel *fact, member any, added bool) // a relation got or lost a member
	changed func(f *fact, before any)               // a built fact has another value
	wrong   map[*fact][]intent.Problem              // facts with problems
	stats   [kinds]int                              // how often each kind was built, for tests
	usual   [kinds]struct{ reads, emits int }       // how many the last fact of a kind had
}

// fact returns the fact of a name; a built one that is new is to be built.
func (g *graph) fact(r ref) *fact {
	f := g.facts.get(r)
	if f == nil {
		f = newFact(r)
		g.facts.put(f)
	}
	return f
}

// newFact returns a fact in one piece with what its sort needs.
func newFact(r ref) (f *fact) {
	switch {
	case r.kind.isRelation():
		both := &struct {
			fact
			bag
		}{}
		f = &both.fact
		f.members = &both.bag
	case r.kind.isBuilt():
		both := &struct {
			fact
			building
		}{}
		f = &both.fact
		f.building = &both.building
		f.dirty = true
	default:
		f = &fact{}
	}
	f.kind, f.name, f.arg = r.kind, r.name, r.arg
	return f
}

// pin wants a built fact until unpin.
func (g *graph) pin(r ref) {
	f := g.fact(r)
	f.pinned = true
	g.enqueue(f)
}

func (g *graph) unpin(r ref) {
	if f := g.facts.get(r); f != nil {
		f.pinned = false
		g.enqueue(f)
	}
}

// mark says that a source or relation changed: its readers are to be built
// again.
func (g *graph) mark(f *fact) {
	for i := range f.readers.size() {
		r := f.readers.at(i).fact
		r.dirty = true
		g.enqueue(r)
	}
}

func (g *graph) markRef(r ref) {
	if f := g.facts.get(r); f != nil {
		g.mark(f)
	}
}

func (g *graph) enqueue(f *fact) {
	if !f.queued && !f.running {
		f.queued = true
		g.queue[f.kind] = append(g.queue[f.kind], f)
		g.lowest = min(g.lowest, f.kind)
	}
}

// settle builds what is to be built, smaller kinds first, so that most facts
// are built once.
func (g *graph) settle() {
	for g.lowest = 0; g.lowest < kinds; {
		k := g.lowest
		last := len(g.queue[k]) - 1
		if last < 0 {
			g.lowest++
			continue
		}
		f := g.queue[k][last]
		g.queue[k] = g.queue[k][:last]
		f.queued = false
		switch {
		case f.gone:
		case !f.pinned && f.readers.size() == 0:
			g.drop(f)
		case f.dirty:
			g.make(f)
		}
	}
}

// mostUsual limits the room that a new fact is given for what it may read.
const mostUsual = 64

// make builds a fact and records what it read, put and complains about.
func (g *graph) make(f *fact) {
	if f.running {
		panic("compile: fact " + f.name + " " + f.arg + " depends on itself")
	}
	f.dirty, f.running = false, true
	g.stats[f.kind]++
	x := g.run(f)
	usual := &g.usual[f.kind]
	if cap(f.reads) == 0 {
		f.reads = make([]edge, 0, usual.reads)
	}
	if cap(f.emits) == 0 {
		f.emits = make([]emission, 0, usual.emits)
	}
	v := g.build(x)
	f.running = false
	x.finish()
	usual.reads, usual.emits = min(len(f.reads), mostUsual), min(len(f.emits), mostUsual)
	if before := f.value; !equal(before, v) {
		f.value = v
		g.changed(f, before)
		g.mark(f)
	}
	if f.dirty {
		g.enqueue(f)
	}
}

// drop removes a built fact that nobody wants.
func (g *graph) drop(f *fact) {
	before := f.value
	f.gone, f.value = true, nil
	g.facts.remove(f)
	g.run(f).finish()
	if before != nil {
		g.changed(f, before)
	}
}

// unread takes one reader from a fact.
func (g *graph) unread(e edge) {
	r, last := e.fact, e.readers.size()-1
	if moved := *r.readers.at(last); int(e.at) != last {
		*r.readers.at(int(e.at)) = moved
		moved.reads[moved.at].at = e.at
	}
	r.readers.pop()
	switch {
	case last > 0:
	case r.kind.isBuilt():
		g.enqueue(r)
	case r.members == nil || r.members.size() == 0:
		g.facts.remove(r)
	}
}

// offer puts a member into a relation, withdraw takes it out.
func (g *graph) offer(e emission) {
	if !e.rel.members.add(e.member) {
		return
	}
	if e.rel.kind.isWatched() {
		if e.rel.members.size() == 1 {
			g.watches.appear(e.rel)
		}
		g.announce(e.rel)
	}
	g.mark(e.rel)
	g.joined(e.rel, e.member, true)
}

func (g *graph) withdraw(e emission) {
	if !e.rel.members.remove(e.member) {
		return
	}
	if e.rel.kind.isWatched() {
		if e.rel.members.size() == 0 {
			g.watches.vanish(e.rel)
		}
		g.announce(e.rel)
	}
	g.mark(e.rel)
	g.joined(e.rel, e.member, false)
	if e.rel.members.size() == 0 && e.rel.readers.size() == 0 {
		g.facts.remove(e.rel)
	}
}

// run is one building of one fact. A builder must read through it only.
//
// Most builders read and put the same again as the time before, in the same
// order. So a run goes along the lists of that time and appends from where it
// differs; finish takes out what is left over of them.
type run struct {
	g                              *graph
	f                              *fact
	c                              *Compiler
	number                         uint32
	hadReads, hadEmits, hadWatched int // lengths of the lists of the time before
	reads, emits, watched          int // how much of them is as before
	problems                       []intent.Problem
}

// run returns the next run of a fact.
func (g *graph) run(f *fact) *run {
	if g.runs++; g.runs == 0 { // all numbers were used: begin again
		for f := range g.facts.all() {
			f.stamp = 0
		}
		g.runs = 1
	}
	return &run{g: g, f: f, number: g.runs, hadReads: len(f.reads), hadEmits: len(f.emits), hadWatched: len(g.watches.topics(f))}
}

// note records that the fact depends on r and returns it.
func (x *run) note(r ref) *fact {
	to := x.peek(r)
	x.record(to)
	return to
}

// peek returns a fact, without a look at the map if it is the one that the
// time before read now.
func (x *run) peek(r ref) *fact {
	if x.reads < x.hadReads && x.f.reads[x.reads].is(r) {
		return x.f.reads[x.reads].fact
	}
	return x.g.fact(r)
}

// record is note of a fact that is at hand.
func (x *run) record(to *fact) {
	f := x.f
	switch {
	case x.reads < x.hadReads && f.reads[x.reads].fact == to:
		x.reads++
	case to.stamp != x.number:
		f.reads = append(f.reads, edge{to, int32(to.readers.size())})
		to.readers.append(edge{f, int32(len(f.reads) - 1)})
	}
	to.stamp = x.number
}

// finish takes out what the time before read and put and this one did not.
func (x *run) finish() {
	f := x.f
	stale := f.reads[x.reads:x.hadReads]
	for _, e := range stale {
		x.g.unread(e)
	}
	if len(stale) > 0 {
		f.reads = slices.Delete(f.reads, x.reads, x.hadReads)
		for i, e := range f.reads[x.reads:] {
			e.readers.at(int(e.at)).at = int32(x.reads + i)
		}
	}
	for _, e := range f.emits[x.emits:x.hadEmits] {
		x.g.withdraw(e)
	}
	f.emits = slices.Delete(f.emits, x.emits, x.hadEmits)
	x.unwatch()
	if len(x.problems) > 0 {
		x.g.wrong[f] = x.problems
	} else {
		delete(x.g.wrong, f)
	}
}

// value returns the value of a built fact, nil if there is none, and builds it
// first if it has to be; that is no change for the one who reads it.
func (x *run) value(r ref) any {
	f := x.peek(r)
	if f.dirty {
		x.g.make(f)
	}
	x.record(f)
	return f.value
}

// emit puts a member into a relation for as long as the fact stands, and
// returns the relation.
func (x *run) emit(rel ref, member any) *fact {
	f := x.f
	if x.emits < x.hadEmits {
		if e := f.emits[x.emits]; e.rel.is(rel) && e.member == member {
			x.emits++
			return e.rel
		}
	}
	e := emission{x.g.fact(rel), member}
	f.emits = append(f.emits, e)
	x.g.offer(e)
	return e.rel
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

// members returns the members of a relation; cmp is their order, which is the
// same for all readers of a relation. The result is not the caller's to change.
func members[T comparable](x *run, rel ref, cmp func(a, b T) int) []T {
	return inOrder(x.note(rel).members, cmp)
}
