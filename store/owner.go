package store

import (
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// Owner names who an object belongs to: "Pod/<ns>/<name>/<uid>",
// "Namespace/<name>/<uid>", "Supervisor/<name>", and so on; empty: people.
type Owner string

// OwnerScope is the scope of the tag that names an object's Owner.
const OwnerScope = "weft/owner"

// OwnerOf returns who o belongs to.
func OwnerOf(o intent.Object) Owner {
	for _, t := range o.Meta().Tags {
		if t.Scope == OwnerScope {
			return Owner(t.Tag)
		}
	}
	return ""
}

// SetOwner makes o, which must not be shared yet, an object of owner.
func SetOwner(o intent.Object, owner Owner) {
	m := o.Meta()
	m.Tags = slices.DeleteFunc(slices.Clone(m.Tags), func(t intent.Tag) bool { return t.Scope == OwnerScope })
	if owner != "" {
		m.Tags = append(m.Tags, intent.Tag{Scope: OwnerScope, Tag: string(owner)})
	}
}

// String returns the owner as messages name it: people, if it is empty.
func (o Owner) String() string {
	if o == "" {
		return "people"
	}
	return string(o)
}

// Owners returns the owners whose name begins with prefix and that have
// objects, sorted; people are not among them. Cost O(these).
func (s *Store) Owners(prefix string) []Owner {
	s.mu.RLock()
	defer s.mu.RUnlock()
	first, _ := slices.BinarySearch(s.owners, Owner(prefix))
	last := first
	for last < len(s.owners) && strings.HasPrefix(string(s.owners[last]), prefix) {
		last++
	}
	return append([]Owner(nil), s.owners[first:last]...)
}

// Owned returns the objects of an owner by path. Those of people are all that
// were ever committed without owner: default objects only if somebody changed
// them.
func (s *Store) Owned(o Owner) []intent.Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []intent.Object
	for path := range s.owned[o] {
		out = append(out, s.tree.Get(path))
	}
	slices.SortFunc(out, func(a, b intent.Object) int { return strings.Compare(a.Meta().Path, b.Meta().Path) })
	return out
}

// index notes that path had before and since v has after, nil for nothing.
func (s *Store) index(path string, before, after intent.Object, v Version) {
	if before != nil && before.Meta().Revision != nil {
		o := OwnerOf(before)
		delete(s.owned[o], path)
		s.touched[o] = v
		if len(s.owned[o]) == 0 {
			delete(s.owned, o)
			delete(s.touched, o)
			if at, ok := slices.BinarySearch(s.owners, o); ok {
				s.owners = slices.Delete(s.owners, at, at+1)
			}
		}
	}
	if after != nil {
		o := OwnerOf(after)
		if s.owned[o] == nil {
			s.owned[o] = map[string]struct{}{}
			if at, _ := slices.BinarySearch(s.owners, o); o != "" {
				s.owners = slices.Insert(s.owners, at, o)
			}
		}
		s.owned[o][path] = struct{}{}
		s.touched[o] = max(s.touched[o], Version(*after.Meta().Revision))
	}
}
