package intent

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Apply makes all changes, or none if they lead to a problem of severity
// Error. The order of the changes does not matter; deleting what does not
// exist is no problem.
//
// changed is the paths of the objects that are now different, ordered; nil if
// the Tree is unchanged. problems is ordered by path. The objects of the
// changes belong to the Tree from then on.
// Cost O(changes and what they touch), not O(Tree).
func (t *Tree) Apply(changes []Change) (changed []string, problems []Problem) {
	b := t.run(changes)
	if HasErrors(b.problems) {
		b.undo()
		return nil, b.problems
	}
	return slices.Sorted(maps.Keys(b.old)), b.problems
}

// run puts changes into the tree and returns what they led to.
func (t *Tree) run(changes []Change) *batch {
	b := &batch{t: t, puts: map[string]Object{}, dels: map[string]bool{}, old: map[string]Object{}, seen: map[string]bool{}}
	b.stage(changes)
	b.install()
	b.validate()
	slices.SortStableFunc(b.problems, func(x, y Problem) int { return strings.Compare(x.Path, y.Path) })
	return b
}

// undo takes the batch out of the tree again.
func (b *batch) undo() {
	for path, old := range b.old {
		b.t.set(path, old)
	}
}

// batch is one Apply.
type batch struct {
	t        *Tree
	puts     map[string]Object
	dels     map[string]bool
	old      map[string]Object // what each changed path was before; nil: nothing
	seen     map[string]bool   // services whose users are dirty already
	problems []Problem
}

func (b *batch) problem(path, field string, kind Kind, msg string) {
	b.problems = append(b.problems, Problem{Path: path, Field: field, Kind: kind, Msg: msg})
}

// stage collects puts and deletes.
func (b *batch) stage(changes []Change) {
	for _, c := range changes {
		switch {
		case c.Object == nil:
			b.delete(c.Path)
		case c.Path == "" || c.Object.Meta().Path != c.Path:
			b.problem(c.Path, "path", BadID, shown(c.Object.Meta().Path)+": is not the path of the change")
		case b.puts[c.Path] != nil && !reflect.DeepEqual(b.puts[c.Path], c.Object):
			b.problem(c.Path, "", Duplicate, "is given twice with different content")
		default:
			b.puts[c.Path] = c.Object
		}
	}
	for _, c := range changes {
		if c.Replaces != "" {
			b.replace(c)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(b.puts)) {
		b.parents(path)
	}
}

// delete stages the object at path and all below it.
func (b *batch) delete(path string) {
	if b.dels[path] {
		return
	}
	b.dels[path] = true
	if defaultAt(path) != nil {
		b.problem(path, "", Protected, "is a default object and cannot be deleted")
	}
	for child := range b.t.children[path] {
		if path != "" {
			b.delete(child)
		}
	}
}

// replace deletes the children that a change with Replaces does not list.
func (b *batch) replace(c Change) {
	for child := range b.t.children[c.Path] {
		k := kindOf(b.t.objects[child].Meta().ResourceType)
		if k != nil && k.childName() == c.Replaces && b.puts[child] == nil {
			b.delete(child)
		}
	}
}

// parents makes missing implicit parents and finds what is below a deleted
// object.
func (b *batch) parents(path string) {
	for p := path; p != "" && b.puts[p] != nil; {
		if b.dels[p] {
			b.problem(path, "", Duplicate, "is given and deleted in one change")
			return
		}
		parent := b.puts[p].Meta().ParentPath
		if len(parent) >= len(p) {
			return
		}
		k := kindAt(parent)
		if b.puts[parent] == nil && b.t.objects[parent] == nil && k != nil && k.implicit {
			b.puts[parent] = Put(parent, k.make()).Object
		}
		p = parent
		if b.dels[p] && b.puts[p] == nil {
			b.problem(path, "", Duplicate, "is given below an object that is deleted in one change")
			return
		}
	}
}

// install puts the batch into the tree and keeps what was there.
func (b *batch) install() {
	for path := range b.dels {
		if b.puts[path] == nil && b.t.objects[path] != nil {
			b.old[path] = b.t.set(path, nil)
		}
	}
	for path, o := range b.puts {
		if old := b.t.objects[path]; old == nil || !reflect.DeepEqual(old, o) {
			b.old[path] = b.t.set(path, o)
		}
	}
}

// validate checks what changed, what depends on it, and what named what is
// gone.
func (b *batch) validate() {
	dirty := map[string]bool{}
	for path, old := range b.old {
		if b.t.objects[path] == nil {
			b.referenced(path)
		} else {
			dirty[path] = true
		}
		for _, o := range []Object{old, b.t.objects[path]} {
			if o != nil {
				b.dependents(o, old, dirty)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(dirty)) {
		if o := b.t.objects[path]; o != nil {
			c := &checker{t: b.t, o: o, path: path, changed: b.old}
			c.check()
			b.problems = append(b.problems, c.problems...)
		}
	}
}

// referenced reports the objects that still name a deleted one.
func (b *batch) referenced(path string) {
	by := b.t.Referrers(path)
	by = slices.DeleteFunc(by, func(p string) bool {
		_, changed := b.old[p]
		return changed // reported there, as dangling
	})
	if len(by) == 0 {
		return
	}
	msg := "is still referenced by " + by[0]
	if len(by) > 1 {
		msg += " and " + strconv.Itoa(len(by)-1) + " more"
	}
	b.problem(path, "", Referenced, msg+" (delete or change those first)")
}

// dependents adds the objects whose validity depends on the content of o, the
// old or the new object of a change, to dirty.
func (b *batch) dependents(o, old Object, dirty map[string]bool) {
	t := b.t
	add := func(paths map[string]struct{}) {
		for p := range paths {
			dirty[p] = true
		}
	}
	switch v := o.(type) {
	case *Segment:
		add(t.children[v.Path])
		b.routes(v.RouterPath(), dirty)
	case *Tier0Interface:
		b.routes(v.RouterPath(), dirty)
	case *LocaleServices:
		b.needEdge(v.GatewayPath(), dirty)
	case *SecurityPolicy:
		if before, ok := old.(*SecurityPolicy); !ok || before.Category != policyAt(t, v.Path).Category {
			add(t.children[v.Path])
		}
	case *GatewayPolicy:
		add(t.children[v.Path])
	case *LBPool, *LBFastTcpProfile, *LBFastUdpProfile, *LBHttpProfile, *LBSourceIpPersistenceProfile, *LBCookiePersistenceProfile,
		*LBTcpMonitorProfile, *LBUdpMonitorProfile, *LBIcmpMonitorProfile, *LBHttpMonitorProfile, *LBHttpsMonitorProfile, *LBPassiveMonitorProfile:
		if t.objects[v.Meta().Path] != nil { // else referenced says it
			add(t.referrers[v.Meta().Path])
		}
	case ServiceEntry:
		b.users(v.Meta().ParentPath, dirty)
	}
}

// needEdge adds what must have an edge cluster on its gateway.
func (b *batch) needEdge(gateway string, dirty map[string]bool) {
	for section := range b.t.children[gateway] {
		if _, ok := b.t.objects[section].(*PolicyNat); ok {
			for p := range b.t.children[section] {
				dirty[p] = true
			}
		}
	}
	for p := range b.t.referrers[gateway] {
		switch b.t.objects[p].(type) {
		case *LBService, *GatewayPolicy, *Rule:
			dirty[p] = true
		}
	}
}

// policyAt returns the policy at path; if it is gone, an empty one.
func policyAt(t *Tree, path string) *SecurityPolicy {
	p, _ := Find[*SecurityPolicy](t, path)
	return cmp.Or(p, &SecurityPolicy{})
}

// routes adds the static routes of a router.
func (b *batch) routes(router string, dirty map[string]bool) {
	for p := range b.t.children[router] {
		if _, ok := b.t.objects[p].(*StaticRoutes); ok {
			dirty[p] = true
		}
	}
}

// users adds the rules and services that use a service.
func (b *batch) users(service string, dirty map[string]bool) {
	if b.seen[service] {
		return
	}
	b.seen[service] = true
	for p := range b.t.referrers[service] {
		dirty[p] = true
		if e, ok := b.t.objects[p].(*NestedServiceServiceEntry); ok {
			b.users(e.ParentPath, dirty)
		}
	}
}
