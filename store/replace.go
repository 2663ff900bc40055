package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// Replace makes objects, each with the path that intent.Put gives, all that
// owner has, all or nothing: missing ones are created, different ones changed,
// others of the owner deleted. Their `_revision` and owner are set here.
//
// The version is that of the newest commit that concerned the owner; that of
// the whole store if the owner has nothing. Doing it twice changes nothing.
//
// Problems beside those of intent: Duplicate, a path that another owner has;
// Referenced, a path to delete below which another owner has objects, as
// deleting takes all below along.
//
// What is implied by an object, such as the NAT section of a NAT rule, belongs
// to the owner too. Cost O(the owner's objects).
func (s *Store) Replace(ctx context.Context, owner Owner, objects ...intent.Object) (Version, []intent.Problem, error) {
	return s.ReplaceWith(ctx, owner, func(*intent.Tree) ([]intent.Object, error) { return objects, nil })
}

// ReplaceWith is Replace with objects that depend on the tree, as Update: fn
// is called again if another commit came between.
func (s *Store) ReplaceWith(ctx context.Context, owner Owner, fn func(t *intent.Tree) ([]intent.Object, error)) (Version, []intent.Problem, error) {
	if owner == "" {
		return 0, nil, errors.New("store: owner: is empty (whose objects are replaced)")
	}
	c, problems, err := s.commit(ctx, owner, nil, func(t *intent.Tree) ([]intent.Change, []intent.Problem, error) {
		objects, err := fn(t)
		if err != nil {
			return nil, nil, err
		}
		r := replacement{s: s, owner: owner, wanted: map[string]bool{}}
		for _, o := range objects {
			r.want(o)
		}
		r.imply()
		r.rest()
		return r.changes, r.problems, nil
	})
	return c.Version, problems, err
}

// replacement is what one Replace changes.
type replacement struct {
	s        *Store
	owner    Owner
	wanted   map[string]bool
	changes  []intent.Change
	problems []intent.Problem
}

func (r *replacement) problem(path string, kind intent.Kind, msg string) {
	r.problems = append(r.problems, intent.Problem{Path: path, Kind: kind, Msg: msg})
}

// want puts one object.
func (r *replacement) want(o intent.Object) {
	path := o.Meta().Path
	if there := r.s.tree.Get(path); there != nil && OwnerOf(there) != r.owner {
		r.problem(path, intent.Duplicate, "belongs to "+OwnerOf(there).String()+" (only "+string(r.owner)+" could be here)")
	}
	o = intent.Clone(o)
	o.Meta().Revision = nil
	SetOwner(o, r.owner)
	r.wanted[path] = true
	r.changes = append(r.changes, intent.Change{Path: path, Object: o})
}

// imply wants the objects that are made together with the wanted ones, unless
// somebody else has them already.
func (r *replacement) imply() {
	for _, c := range slices.Clone(r.changes) {
		parent := intent.ParentOf(c.Path)
		there := r.s.tree.Get(parent)
		if r.wanted[parent] || there != nil && OwnerOf(there) != r.owner {
			continue
		}
		if o := intent.Implied(parent); o != nil {
			r.want(o)
		}
	}
}

// rest deletes what the owner has and is not wanted.
func (r *replacement) rest() {
	for path := range r.s.owned[r.owner] {
		if r.wanted[path] {
			continue
		}
		if other := r.foreign(path); other != nil {
			r.problem(path, intent.Referenced, "has "+other.Meta().Path+" of "+OwnerOf(other).String()+" below it (delete that first)")
			continue
		}
		r.changes = append(r.changes, intent.Delete(path))
	}
	slices.SortStableFunc(r.problems, func(a, b intent.Problem) int { return strings.Compare(a.Path, b.Path) })
}

// foreign returns an object of another owner below path, or nil.
func (r *replacement) foreign(path string) intent.Object {
	for _, o := range r.s.tree.Children(path, "") {
		if OwnerOf(o) != r.owner && intent.Implied(o.Meta().Path) == nil {
			return o
		}
		if other := r.foreign(o.Meta().Path); other != nil {
			return other
		}
	}
	return nil
}
