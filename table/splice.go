package table

import (
	"fmt"
)

// splice is a change of a list: in place of the Gone rows from At on, Add. At
// counts the rows of the list before any change.
type splice[T any] struct {
	At   int `json:",omitempty"`
	Gone int `json:",omitempty"`
	Add  []T `json:",omitempty"`
}

// respliced is an object of whose list of T some rows changed.
type respliced[V, T any] struct {
	To   *V          // the object after it, without the list
	Rows []splice[T] // in order, disjoint
}

// edit is what changes in one map of a Set: objects that are new or other than
// before, and keys of those that go. Both are in the order of keys.
type edit[K comparable, V any] struct {
	Put  []*V `json:",omitempty"`
	Gone []K  `json:",omitempty"`
}

func (e edit[K, V]) len() int { return len(e.Put) + len(e.Gone) }

// IsZero says that nothing changes; package json asks for it.
func (e edit[K, V]) IsZero() bool { return e.len() == 0 }

// splices returns what changes from before to after, and whether it is much
// less than after itself. Rows that change places are taken out and put in.
func splices[T comparable](before, after []T) (out []splice[T], small bool) {
	if len(after) == 0 {
		return nil, false // how it is empty matters to the encoding
	}
	head := 0
	for head < min(len(before), len(after)) && before[head] == after[head] {
		head++
	}
	b, a := len(before), len(after)
	for b > head && a > head && before[b-1] == after[a-1] {
		b, a = b-1, a-1
	}
	where := make(map[T]int, a-head)
	for i := head; i < a; i++ {
		where[after[i]] = i
	}
	cost := 0
	put := func(at, gone int, add []T) {
		if gone+len(add) > 0 {
			out = append(out, splice[T]{at, gone, add})
			cost += 1 + len(add)
		}
	}
	kept, next := head, head // what is before them in before and after is told
	for i := head; i < b; i++ {
		if at, stays := where[before[i]]; stays && at >= next {
			put(kept, i-kept, after[next:at])
			kept, next = i+1, at+1
		}
	}
	put(kept, b-kept, after[next:a])
	return out, cost <= len(after)/2
}

// spliced returns what list makes of before.
func spliced[T any](before []T, list []splice[T]) ([]T, error) {
	var out []T
	told := 0
	for i, s := range list {
		if s.At < told || s.Gone < 0 || s.At > len(before) || s.Gone > len(before)-s.At {
			return nil, fmt.Errorf("change %d: rows %d to %d: are not there (%d to %d)", i, s.At, s.At+s.Gone, told, len(before))
		}
		out = append(append(out, before[told:s.At]...), s.Add...)
		told = s.At + s.Gone
	}
	return append(out, before[told:]...), nil
}

// with returns e and the objects that some, which was made from objects of
// before, stands for.
func with[K comparable, V, T any](e edit[K, V], before Map[K, V], some []respliced[V, T], key func(*V) K, rows func(*V) *[]T) (edit[K, V], error) {
	if len(some) == 0 {
		return e, nil
	}
	put := append(make([]*V, 0, len(e.Put)+len(some)), e.Put...)
	for _, r := range some {
		k := key(r.To)
		old := before.Get(k)
		if old == nil {
			return e, fmt.Errorf("%v: changes, but is not there", k)
		}
		list, err := spliced(*rows(old), r.Rows)
		if err != nil {
			return e, fmt.Errorf("%v: %w", k, err)
		}
		v := *r.To
		*rows(&v) = list
		put = append(put, &v)
	}
	return edit[K, V]{put, e.Gone}, nil
}

// change changes m as e says.
func change[K comparable, V any](m *Map[K, V], name string, e edit[K, V], key func(*V) K) error {
	if e.IsZero() {
		return nil
	}
	out := m.Edit()
	for _, k := range e.Gone {
		if out.Get(k) == nil {
			return fmt.Errorf("patch: %s: %v: goes, but is not there", name, k)
		}
		out.Delete(k)
	}
	for _, v := range e.Put {
		out.Put(key(v), v)
	}
	*m = out.Map()
	return nil
}
