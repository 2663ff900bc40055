package compile

import "slices"

// A watch is a reading of a relation that most likely has no members, one of
// very many: a port asks for each of its tags whether a group looks for it, and
// few are. A note would make a fact for each and two edges, a watch is two
// numbers without a pointer: of who watches, and of the relation's topic.
//
// Relations with the same topic are told apart by those alone who must: who
// watches one is built again for changes of the others too, and finds the same.

// topic is a hash of the kind and name of a relation.
type topic uint32

// topicOf returns the topic of a relation without arg. It is the same for a
// text in either form. Cost O(length), no allocation.
func topicOf[T string | []byte](k kind, name T) topic {
	const odd = 0x9e3779b97f4a7c15
	h := (uint64(k)<<32 ^ uint64(len(name))) * odd
	for ; len(name) >= 8; name = name[8:] {
		h ^= uint64(name[0]) | uint64(name[1])<<8 | uint64(name[2])<<16 | uint64(name[3])<<24 |
			uint64(name[4])<<32 | uint64(name[5])<<40 | uint64(name[6])<<48 | uint64(name[7])<<56
		h *= odd
		h ^= h >> 32
	}
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * odd
	}
	return topic(h >> 32)
}

// watches is who watches what.
type watches struct {
	watchers []watcher         // by number; 0 is nobody
	free     []int32           // numbers that nobody has
	single   map[topic]int32   // the watcher of a topic that has one
	several  map[topic][]int32 // those of a topic that has more, sorted
	present  map[kindTopic][]*fact
}

// kindTopic is where the relations of a watched kind stand that have members.
type kindTopic struct {
	kind  kind
	topic topic
}

// watcher is a built fact and what it watches, in the order in which it asked;
// a topic may stand there twice.
type watcher struct {
	fact   *fact
	topics []topic
}

// isWatched reports whether relations of the kind can be watched. They have no
// arg.
func (k kind) isWatched() bool { return k == relTerm || k == relUsed || k == relNodePort }

// of returns the numbers of those who watch a topic, sorted.
func (w *watches) of(t topic) []int32 {
	if n := w.single[t]; n != 0 {
		return []int32{n}
	}
	return w.several[t]
}

// count returns how many watch a topic.
func (w *watches) count(t topic) int {
	if w.single[t] != 0 {
		return 1
	}
	return len(w.several[t])
}

// add makes n one of those who watch a topic, if it is not yet.
func (w *watches) add(t topic, n int32) {
	list := w.of(t)
	at, found := slices.BinarySearch(list, n)
	switch {
	case found:
	case len(list) == 0:
		if w.single == nil {
			w.single = map[topic]int32{}
		}
		w.single[t] = n
	default:
		if w.several == nil {
			w.several = map[topic][]int32{}
		}
		w.several[t] = slices.Insert(list, at, n)
		delete(w.single, t)
	}
}

// remove makes n one of them no longer, if it is.
func (w *watches) remove(t topic, n int32) {
	list := w.several[t]
	at, found := slices.BinarySearch(list, n)
	switch {
	case w.single[t] == n:
		delete(w.single, t)
	case !found:
	case len(list) == 2:
		w.single[t] = list[1-at]
		delete(w.several, t)
	default:
		w.several[t] = slices.Delete(list, at, at+1)
	}
}

// number returns the number of a fact, and gives it one if it has none.
func (w *watches) number(f *fact) int32 {
	if f.watcher != 0 {
		return f.watcher
	}
	if w.watchers == nil {
		w.watchers = make([]watcher, 1)
	}
	if last := len(w.free) - 1; last >= 0 {
		f.watcher, w.free = w.free[last], w.free[:last]
		w.watchers[f.watcher] = watcher{fact: f}
	} else {
		f.watcher = int32(len(w.watchers))
		w.watchers = append(w.watchers, watcher{fact: f})
	}
	return f.watcher
}

// topics returns what a fact watches.
func (w *watches) topics(f *fact) []topic {
	if f.watcher == 0 {
		return nil
	}
	return w.watchers[f.watcher].topics
}

// watch notes that the fact depends on the relations of a watched kind that have
// a topic and returns those that have members. Some may be others than the one
// that the caller means.
func (x *run) watch(k kind, t topic) []*fact {
	w := &x.g.watches
	n := w.number(x.f)
	own := &w.watchers[n]
	if x.watched < x.hadWatched && own.topics[x.watched] == t {
		x.watched++
	} else {
		own.topics = append(own.topics, t)
		w.add(t, n)
	}
	return w.present[kindTopic{k, t}]
}

// rel watches a relation by its name and returns it, nil if it has no members.
func (x *run) rel(k kind, name string) *fact {
	for _, f := range x.watch(k, topicOf(k, name)) {
		if f.name == name {
			return f
		}
	}
	return nil
}

// unwatch takes out what the time before watched and this one did not.
func (x *run) unwatch() {
	w, n := &x.g.watches, x.f.watcher
	if n == 0 {
		return
	}
	own := &w.watchers[n]
	if x.watched < x.hadWatched {
		stale := slices.Clone(own.topics[x.watched:x.hadWatched])
		own.topics = slices.Delete(own.topics, x.watched, x.hadWatched)
		kept := slices.Sorted(slices.Values(own.topics))
		for _, t := range stale {
			if _, found := slices.BinarySearch(kept, t); !found {
				w.remove(t, n)
			}
		}
	}
	switch room := cap(own.topics) - len(own.topics); {
	case len(own.topics) == 0:
		*own, x.f.watcher = watcher{}, 0
		w.free = append(w.free, n)
	case room > len(own.topics)/4:
		own.topics = append(make([]topic, 0, len(own.topics)), own.topics...)
	}
}

// appear notes that a relation of a watched kind has its first member, vanish
// that it lost the last one.
func (w *watches) appear(rel *fact) {
	if w.present == nil {
		w.present = map[kindTopic][]*fact{}
	}
	at := kindTopic{rel.kind, topicOf(rel.kind, rel.name)}
	w.present[at] = append(w.present[at], rel)
}

func (w *watches) vanish(rel *fact) {
	at := kindTopic{rel.kind, topicOf(rel.kind, rel.name)}
	var left []*fact // another list: a run may be on its way along this one
	for _, f := range w.present[at] {
		if f != rel {
			left = append(left, f)
		}
	}
	if w.present[at] = left; left == nil {
		delete(w.present, at)
	}
}

// announce says to all who watch a relation that its members changed.
func (g *graph) announce(rel *fact) {
	for _, n := range g.watches.of(topicOf(rel.kind, rel.name)) {
		f := g.watches.watchers[n].fact
		f.dirty = true
		g.enqueue(f)
	}
}
