package compile

import (
	"iter"
	"slices"
)

// bag is the members of a relation and how often each is in it. Most have one,
// for which nothing is allocated.
type bag struct {
	only  entry // the member if there is one, else the zero entry
	*many       // the members if there are or were more; nil before
}

// many is the members of a bag that has or had several.
type many struct {
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
	few         = 8  // members that are sorted anew each time
	searched    = 24 // members that are found by looking at all
	differences = 16 // how many are mended in a sorted list
)

func (b *bag) size() int {
	switch {
	case b.many != nil:
		return len(b.list)
	case b.only.count > 0:
		return 1
	}
	return 0
}

// all yields the members in no order.
func (b *bag) all() iter.Seq[any] {
	return func(yield func(any) bool) {
		if b.many == nil {
			if b.only.count > 0 {
				yield(b.only.member)
			}
			return
		}
		for _, e := range b.list {
			if !yield(e.member) {
				return
			}
		}
	}
}

// first returns a member, nil if there is none.
func (b *bag) first() any {
	for m := range b.all() {
		return m
	}
	return nil
}

// find returns a member's entry, nil if it is not there.
func (b *bag) find(member any) *entry {
	if b.many == nil {
		if b.only.count > 0 && b.only.member == member {
			return &b.only
		}
		return nil
	}
	if i := b.place(member); i >= 0 {
		return &b.list[i]
	}
	return nil
}

// add reports whether the member was not there before.
func (b *bag) add(member any) bool {
	if e := b.find(member); e != nil {
		e.count++
		return false
	}
	one := entry{member: member, count: 1}
	switch {
	case b.many != nil:
		b.append(one)
	case b.only.count == 0:
		b.only = one
	default:
		b.many = &many{list: []entry{b.only, one}}
		b.only = entry{}
	}
	return true
}

// remove takes a member out once and reports whether it is no longer there. It
// must have been there.
func (b *bag) remove(member any) bool {
	e := b.find(member)
	if e.count--; e.count > 0 {
		return false
	}
	if b.many == nil {
		b.only = entry{}
	} else {
		b.delete(member)
	}
	return true
}

// place returns where in the list a member is, -1 if it is not there.
func (c *many) place(member any) int {
	if c.at != nil {
		if i, ok := c.at[member]; ok {
			return int(i)
		}
		return -1
	}
	return slices.IndexFunc(c.list, func(e entry) bool { return e.member == member })
}

func (c *many) append(one entry) {
	c.list = append(c.list, one)
	switch {
	case c.at != nil:
		c.at[one.member] = int32(len(c.list) - 1)
	case len(c.list) > searched:
		c.at = make(map[any]int32, 2*searched)
		for i, e := range c.list {
			c.at[e.member] = int32(i)
		}
	}
	if s := c.sorted; s != nil {
		s.came = append(s.came, one.member)
		c.limit()
	}
}

func (c *many) delete(member any) {
	i := c.place(member)
	if s := c.sorted; s != nil && c.list[i].ordered {
		s.gone = append(s.gone, member)
		c.limit()
	}
	last := len(c.list) - 1
	c.list[i] = c.list[last]
	c.list[last] = entry{}
	c.list = c.list[:last]
	if c.at != nil {
		delete(c.at, member)
		if i < last {
			c.at[c.list[i].member] = int32(i)
		}
	}
}

// limit gives up a sorted list that differs too much.
func (c *many) limit() {
	if len(c.sorted.gone)+len(c.sorted.came) > differences {
		c.sorted = nil
	}
}

// inOrder returns the members in the order of cmp, which is a total one and
// always the same for a bag. Nobody may change the result.
func inOrder[T comparable](b *bag, cmp func(a, b T) int) []T {
	switch {
	case b.many != nil:
		return manyInOrder(b.many, cmp)
	case b.only.count > 0:
		return []T{b.only.member.(T)}
	}
	return []T{}
}

func manyInOrder[T comparable](c *many, cmp func(a, b T) int) []T {
	var out []T
	switch {
	case c.sorted == nil:
		out = make([]T, len(c.list))
		for i := range c.list {
			out[i] = c.list[i].member.(T)
			c.list[i].ordered = true
		}
		slices.SortFunc(out, cmp)
	case len(c.sorted.gone)+len(c.sorted.came) == 0:
		return c.sorted.list.([]T)
	default:
		out = mended(c, cmp)
	}
	out = slices.Clip(out)
	c.sorted = nil
	if len(out) > few {
		c.sorted = &sorted{list: out}
	}
	return out
}

// mended returns a copy of the sorted list as it has to be now.
func mended[T comparable](c *many, cmp func(a, b T) int) []T {
	old := c.sorted.list.([]T)
	out := append(make([]T, 0, len(old)+len(c.sorted.came)), old...)
	for _, m := range c.sorted.gone {
		at, _ := slices.BinarySearchFunc(out, m.(T), cmp)
		at += slices.Index(out[at:], m.(T)) // past what cmp cannot tell from it
		out = slices.Delete(out, at, at+1)
	}
	for _, m := range c.sorted.came {
		if i := c.place(m); i >= 0 && !c.list[i].ordered {
			c.list[i].ordered = true
			at, _ := slices.BinarySearchFunc(out, m.(T), cmp)
			out = slices.Insert(out, at, m.(T))
		}
	}
	return out
}
