package bpf

import (
	"hash/fnv"
	"slices"
	"strings"
)

// numbered is something that the kernel knows by a number.
type numbered struct {
	key string // what it is
	id  uint32 // 0: it has no number
}

// numbers gives out numbers: the hash of a key, or the next number that is
// free when keys are taken in order. So they depend on the keys alone, not on
// the order in which they came and went.
type numbers struct {
	hash  func(key string) uint32
	taken map[uint32]*numbered // nil: never given out
	was   map[*numbered]uint32 // the numbers at the last settle, of those whose number changed since
	left  map[uint32]bool      // these numbers
}

func newNumbers(hash func(string) uint32, never ...uint32) numbers {
	n := numbers{hash: hash, taken: map[uint32]*numbered{}, was: map[*numbered]uint32{}, left: map[uint32]bool{}}
	for _, id := range never {
		n.taken[id] = nil
	}
	return n
}

// fnv32 is the hash that the kernel's numbers are made with.
func fnv32(key string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()
}

// settle forgets the numbers that were.
func (n *numbers) settle() {
	clear(n.was)
	clear(n.left)
}

// before returns the number that x had at the last settle.
func (n *numbers) before(x *numbered) uint32 {
	if id, changed := n.was[x]; changed {
		return id
	}
	return x.id
}

// used reports whether something has a number, or had it at the last settle.
func (n *numbers) used(id uint32, s side) bool {
	x := n.taken[id]
	if s == after {
		return x != nil
	}
	return n.left[id] || x != nil && n.before(x) == id
}

func (n *numbers) add(x *numbered) {
	n.set(x, 0)
	n.place(append(n.run(n.hash(x.key)), x))
}

func (n *numbers) remove(x *numbered) {
	run := slices.DeleteFunc(n.run(x.id), func(o *numbered) bool { return o == x })
	delete(n.taken, x.id)
	n.set(x, 0)
	n.place(run)
}

// run returns what has the numbers from id on without a gap: no others can come
// to have another number when one of them comes or goes.
func (n *numbers) run(id uint32) (out []*numbered) {
	for x, taken := n.taken[id]; taken; x, taken = n.taken[id] {
		if x != nil {
			out = append(out, x)
		}
		id++
	}
	return out
}

// place numbers a run anew, in order.
func (n *numbers) place(run []*numbered) {
	for _, x := range run {
		if n.taken[x.id] == x {
			delete(n.taken, x.id)
		}
	}
	slices.SortFunc(run, func(a, b *numbered) int { return strings.Compare(a.key, b.key) })
	for _, x := range run {
		id := n.hash(x.key)
		for _, taken := n.taken[id]; taken; _, taken = n.taken[id] {
			id++
		}
		n.taken[id] = x
		n.set(x, id)
	}
}

func (n *numbers) set(x *numbered, id uint32) {
	if _, known := n.was[x]; !known && x.id != id {
		n.was[x] = x.id
		n.left[x.id] = true
	}
	x.id = id
}
