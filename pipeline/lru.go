package pipeline

// lru is a map of fixed size that replaces what was least recently used.
//
// Nodes stay where they are while they are in the map, so that a look-up
// allocates nothing and its result may be changed in place.
type lru[K comparable, V any] struct {
	max      int
	nodes    map[K]*node[K, V]
	root     node[K, V] // ring: root.next is the latest, root.prev the oldest
	replaced uint64
}

type node[K comparable, V any] struct {
	key        K
	val        V
	prev, next *node[K, V]
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	l := &lru[K, V]{max: limit, nodes: map[K]*node[K, V]{}}
	l.root.prev, l.root.next = &l.root, &l.root
	return l
}

// get returns k's node, nil if there is none, and marks it as used.
func (l *lru[K, V]) get(k K) *node[K, V] {
	n := l.nodes[k]
	if n != nil && l.root.next != n {
		l.unlink(n)
		l.link(n)
	}
	return n
}

// peek returns k's node, nil if there is none, and leaves no mark.
func (l *lru[K, V]) peek(k K) *node[K, V] { return l.nodes[k] }

// put enters or overwrites k; it replaces the oldest if there is no room.
func (l *lru[K, V]) put(k K, v V) {
	if n := l.get(k); n != nil {
		n.val = v
		return
	}
	if len(l.nodes) >= l.max {
		l.remove(l.root.prev)
		l.replaced++
	}
	n := &node[K, V]{key: k, val: v}
	l.nodes[k] = n
	l.link(n)
}

// remove takes n out, if it is still in.
func (l *lru[K, V]) remove(n *node[K, V]) {
	if l.nodes[n.key] == n {
		delete(l.nodes, n.key)
		l.unlink(n)
	}
}

// clone copies the map with its order.
func (l *lru[K, V]) clone() *lru[K, V] {
	c := newLRU[K, V](l.max)
	for n := l.root.prev; n != &l.root; n = n.prev {
		c.put(n.key, n.val)
	}
	c.replaced = l.replaced
	return c
}

func (l *lru[K, V]) unlink(n *node[K, V]) { n.prev.next, n.next.prev = n.next, n.prev }

func (l *lru[K, V]) link(n *node[K, V]) {
	n.prev, n.next = &l.root, l.root.next
	n.prev.next, n.next.prev = n, n
}
