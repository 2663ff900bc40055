package table

import (
	"hash/maphash"
	"iter"
	"reflect"
)

// Map holds the objects of one kind by key. It is a value: a copy costs nothing,
// and is not changed by what is done to the original. Two Maps that were one
// share what did not change since, and tell what did without a look at the rest.
//
// The zero value is empty. Reading is safe for concurrent use.
type Map[K comparable, V any] struct{ rows *rows[K, V] }

// rows are the objects of a Map, in parts by the hash of their key: a change
// copies the part that it is in. They are immutable once a Map has them.
type rows[K comparable, V any] struct {
	len   int
	parts [parts]map[K]*V // nil: empty
}

// parts is how many parts rows have. With 100 000 objects one has about 400.
const parts = 256

// seed is that of the hashes of this process; nothing that is kept depends on it.
var seed = maphash.MakeSeed()

func part[K comparable](k K) int { return int(maphash.Comparable(seed, k) % parts) }

// MapOf returns a Map of the objects in m.
func MapOf[K comparable, V any](m map[K]*V) Map[K, V] {
	var e MapEdit[K, V]
	for k, v := range m {
		e.Put(k, v)
	}
	return e.Map()
}

// Len returns the number of objects.
func (m Map[K, V]) Len() int {
	if m.rows == nil {
		return 0
	}
	return m.rows.len
}

// Get returns the object of a key; nil if there is none.
func (m Map[K, V]) Get(k K) *V {
	if m.rows == nil {
		return nil
	}
	return m.rows.parts[part(k)][k]
}

// Has says whether there is an object of a key.
func (m Map[K, V]) Has(k K) bool { return m.Get(k) != nil }

// All yields keys and objects in no order. What is done to m meanwhile does not
// matter to it.
func (m Map[K, V]) All() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		if m.rows == nil {
			return
		}
		for _, p := range m.rows.parts {
			for k, v := range p {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}

// Keys yields the keys in no order.
func (m Map[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k := range m.All() {
			if !yield(k) {
				return
			}
		}
	}
}

// Values yields the objects in no order.
func (m Map[K, V]) Values() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, v := range m.All() {
			if !yield(v) {
				return
			}
		}
	}
}

// Same says whether o shares everything with m, at no cost. False does not mean
// that they differ.
func (m Map[K, V]) Same(o Map[K, V]) bool { return m.rows == o.rows }

// Differing yields the keys under which m and o do not have the same object, in
// no order. Cost O(what they do not share).
func (m Map[K, V]) Differing(o Map[K, V]) iter.Seq[K] {
	return func(yield func(K) bool) {
		if m.Same(o) {
			return
		}
		a, b := m.all(), o.all()
		for i := range parts {
			if !differing(a.parts[i], b.parts[i], yield) {
				return
			}
		}
	}
}

// all returns the rows of m, which are nobody's to change.
func (m Map[K, V]) all() *rows[K, V] {
	if m.rows == nil {
		return &rows[K, V]{}
	}
	return m.rows
}

// differing yields the keys under which a and b do not have the same object;
// false: no more are wanted.
func differing[K comparable, V any](a, b map[K]*V, yield func(K) bool) bool {
	if reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() {
		return true
	}
	for k, v := range a {
		if b[k] != v && !yield(k) {
			return false
		}
	}
	for k := range b {
		if a[k] == nil && !yield(k) {
			return false
		}
	}
	return true
}

// Equal says whether m and o have equal objects.
func (m Map[K, V]) Equal(o Map[K, V]) bool {
	if m.Len() != o.Len() {
		return false
	}
	for k := range m.Differing(o) {
		if !reflect.DeepEqual(m.Get(k), o.Get(k)) {
			return false
		}
	}
	return true
}

// Put has m hold v, which is not nil. See Edit for many changes.
func (m *Map[K, V]) Put(k K, v *V) {
	e := m.Edit()
	e.Put(k, v)
	*m = e.Map()
}

// Delete removes the object of a key, if there is one.
func (m *Map[K, V]) Delete(k K) {
	e := m.Edit()
	e.Delete(k)
	*m = e.Map()
}

// Clear removes all objects.
func (m *Map[K, V]) Clear() { *m = Map[K, V]{} }

// Edit begins changes of m, which stays as it is.
func (m Map[K, V]) Edit() *MapEdit[K, V] { return &MapEdit[K, V]{from: m.rows} }

// MapEdit makes another Map of one, of nothing if it is the zero value. A change
// costs a copy of the part that it is in, once.
type MapEdit[K comparable, V any] struct {
	from *rows[K, V] // nil: empty
	to   *rows[K, V] // nil: nothing changed yet
	own  [parts]bool // that to does not share with from
}

// Put enters v, which is not nil.
func (e *MapEdit[K, V]) Put(k K, v *V) {
	i := part(k)
	p := e.part(i)
	was := len(p)
	p[k] = v
	e.to.len += len(p) - was
}

// Delete removes the object of a key, if there is one.
func (e *MapEdit[K, V]) Delete(k K) {
	if i := part(k); e.Get(k) != nil {
		delete(e.part(i), k)
		e.to.len--
	}
}

// Get returns the object of a key as it is now; nil if there is none.
func (e *MapEdit[K, V]) Get(k K) *V { return e.now().Get(k) }

func (e *MapEdit[K, V]) now() Map[K, V] {
	if e.to == nil {
		return Map[K, V]{e.from}
	}
	return Map[K, V]{e.to}
}

// part returns part i for a change.
func (e *MapEdit[K, V]) part(i int) map[K]*V {
	if e.to == nil {
		e.to = &rows[K, V]{}
		if e.from != nil {
			*e.to = *e.from
		}
	}
	if !e.own[i] {
		e.own[i] = true
		p := make(map[K]*V, len(e.to.parts[i])+1)
		for k, v := range e.to.parts[i] {
			p[k] = v
		}
		e.to.parts[i] = p
	}
	return e.to.parts[i]
}

// Map returns what the changes made. Changes after it begin anew.
func (e *MapEdit[K, V]) Map() Map[K, V] {
	m := e.now()
	e.from, e.to = m.rows, nil
	clear(e.own[:])
	return m
}
