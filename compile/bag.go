package compile

import "slices"

// bag is the members of a relation and how often each is in it.
type bag struct {
	list   []entry
	at     map[any]int32 // places in list; nil as long as they were few
	sorted *sorted       // nil while they are few, or not wanted yet
}

type entry struct {
	member  any
	count   int32
	ordered bool // is in sorted.list
}

// sorted is the members in the order that readers want. It is kept so that a
// small change of a large relation does not sort it again.
type sorted struct {
	list any   // []T
	gone []any // members of list that were taken out since
	came []any // members that were put in since; some may have left again
}

const (
	few         = 8  // members that are found and sorted by looking at all
	differences = 16 // how many are mended in a sorted list
)

func (b *bag) size() int { return len(b.list) }

// find returns the place of a member, -1 if it is not there.
func (b *bag) find(member any) int {
	if b.at != nil {
		if i, ok := b.at[member]; ok {
			return int(i)
		}
		return -1
	}
	return slices.IndexFunc(b.list, func(e entry) bool { return e.member == member })
}

// add reports whether the member was not there before.
func (b *bag) add(member any) bool {
	if i := b.find(member); i >= 0 {
		b.list[i].count++
		return false
	}
	b.list = append(b.list, entry{member: member, count: 1})
	switch {
	case b.at != nil:
		b.at[member] = int32(len(b.list) - 1)
	case len(b.list) > few:
		b.at = make(map[any]int32, 2*few)
		for i, e := range b.list {
			b.at[e.member] = int32(i)
		}
	}
	if s := b.sorted; s != nil {
		s.came = append(s.came, member)
		b.limit()
	}
	return true
}

// remove takes a member out once and reports whether it is no longer there. It
// must have been there.
func (b *bag) remove(member any) bool {
	i := b.find(member)
	if b.list[i].count--; b.list[i].count > 0 {
		return false
	}
	if s := b.sorted; s != nil && b.list[i].ordered {
		s.gone = append(s.gone, member)
		b.limit()
	}
	last := len(b.list) - 1
	b.list[i] = b.list[last]
	b.list[last] = entry{}
	b.list = b.list[:last]
	if b.at != nil {
		delete(b.at, member)
		if i < last {
			b.at[b.list[i].member] = int32(i)
		}
	}
	return true
}

// limit gives up a sorted list that differs too much.
func (b *bag) limit() {
	if len(b.sorted.gone)+len(b.sorted.came) > differences {
		b.sorted = nil
	}
}

// inOrder returns the members in the order of cmp, which is a total one and
// always the same for a bag. Nobody may change the result.
func inOrder[T comparable](b *bag, cmp func(a, b T) int) []T {
	var out []T
	switch {
	case b.sorted == nil:
		out = make([]T, len(b.list))
		for i := range b.list {
			out[i] = b.list[i].member.(T)
			b.list[i].ordered = true
		}
		slices.SortFunc(out, cmp)
	case len(b.sorted.gone)+len(b.sorted.came) == 0:
		return b.sorted.list.([]T)
	default:
		out = mended(b, cmp)
	}
	out = slices.Clip(out)
	b.sorted = nil
	if len(out) > few {
		b.sorted = &sorted{list: out}
	}
	return out
}

// mended returns a copy of the sorted list as it has to be now.
func mended[T comparable](b *bag, cmp func(a, b T) int) []T {
	old := b.sorted.list.([]T)
	out := append(make([]T, 0, len(old)+len(b.sorted.came)), old...)
	for _, m := range b.sorted.gone {
		at, _ := slices.BinarySearchFunc(out, m.(T), cmp)
		at += slices.Index(out[at:], m.(T)) // past what cmp cannot tell from it
		out = slices.Delete(out, at, at+1)
	}
	for _, m := range b.sorted.came {
		if i := b.find(m); i >= 0 && !b.list[i].ordered {
			b.list[i].ordered = true
			at, _ := slices.BinarySearchFunc(out, m.(T), cmp)
			out = slices.Insert(out, at, m.(T))
		}
	}
	return out
}
