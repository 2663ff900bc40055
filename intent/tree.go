package intent

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Well-known paths.
const (
	ExcludeListPath   = "/infra/settings/firewall/security/exclude-list"
	DefaultPolicyPath = "/infra/domains/default/security-policies/default-layer3-section"
	DefaultRulePath   = DefaultPolicyPath + "/rules/default-layer3-rule"
	defaultDomainPath = "/infra/domains/default"
)

// Change is one step from one Tree to the next.
type Change struct {
	Path   string
	Object Object // as it shall be, whole; nil: delete the object and all below it
	// Replaces is the resource type of the children that the change lists
	// completely: children of that type that the same batch does not put
	// are deleted. Empty: other children stay. Set by inline rules and
	// service_entries.
	Replaces string
}

// Tree is a validated set of objects by policy path. It is not safe for
// concurrent use while Apply runs; reads alone are.
type Tree struct {
	objects   map[string]Object
	children  map[string]map[string]struct{} // parent path → child paths
	types     map[string]map[string]struct{} // resource type → paths
	referrers map[string]map[string]struct{} // path → paths of objects that name it
	claims    map[claim]map[string]struct{}  // what only one object may have → its claimants
	ruleIDs   idSet                          // of claims
}

// NewTree returns a Tree that holds the default objects only: the domain
// default, its default-layer3-section with default-layer3-rule, and an empty
// exclude list.
func NewTree() *Tree {
	t := &Tree{
		objects:   map[string]Object{},
		children:  map[string]map[string]struct{}{},
		types:     map[string]map[string]struct{}{},
		referrers: map[string]map[string]struct{}{},
		claims:    map[claim]map[string]struct{}{},
	}
	for _, path := range []string{defaultDomainPath, DefaultPolicyPath, DefaultRulePath, ExcludeListPath} {
		t.set(path, defaultAt(path))
	}
	return t
}

// defaultAt returns a new copy of the default object at path, or nil.
// Source: NSX admin guide, "Distributed Firewall", default Layer 3 section.
func defaultAt(path string) Object {
	off := false
	var o Object
	switch path {
	case defaultDomainPath:
		o = &Domain{}
	case DefaultPolicyPath:
		o = &SecurityPolicy{
			Resource: Resource{DisplayName: "Default Layer3 Section"}, Category: "Application",
			SequenceNumber: 2147483647, TCPStrict: &off, IsDefault: true,
		}
	case DefaultRulePath:
		o = &Rule{RuleID: 2, Action: "ALLOW", IsDefault: true}
	case ExcludeListPath:
		o = &PolicyExcludeList{}
	default:
		return nil
	}
	return Put(path, o).Object
}

// set makes o the object at path, nil deletes it, and keeps the indexes. It
// returns what was there.
func (t *Tree) set(path string, o Object) Object {
	old := t.objects[path]
	if old != nil {
		t.index(path, old, unlink)
		delete(t.objects, path)
	}
	if o != nil {
		t.objects[path] = o
		t.index(path, o, link)
	}
	return old
}

// index adds or removes all index rows of one object.
func (t *Tree) index(path string, o Object, do func(map[string]struct{}, string) map[string]struct{}) {
	m := o.Meta()
	update(t.children, m.ParentPath, path, do)
	if _, opaque := o.(*Opaque); !opaque || kindOf(m.ResourceType) == nil {
		update(t.types, m.ResourceType, path, do)
	}
	for _, r := range references(o) {
		update(t.referrers, r.path, path, do)
	}
	for _, c := range claimsOf(o) {
		update(t.claims, c.claim, path, do)
	}
	if r, ok := o.(*Rule); ok && r.RuleID != 0 {
		t.ruleIDs.put(r.RuleID, t.RuleWithID(r.RuleID) != "")
	}
}

func update[K comparable](index map[K]map[string]struct{}, key K, path string, do func(map[string]struct{}, string) map[string]struct{}) {
	if set := do(index[key], path); len(set) > 0 {
		index[key] = set
		return
	}
	delete(index, key)
}

func link(set map[string]struct{}, path string) map[string]struct{} {
	if set == nil {
		set = map[string]struct{}{}
	}
	set[path] = struct{}{}
	return set
}

func unlink(set map[string]struct{}, path string) map[string]struct{} {
	delete(set, path)
	return set
}

// Get returns the object at path, or nil.
func (t *Tree) Get(path string) Object { return t.objects[path] }

// Len returns the number of objects, the default ones included.
func (t *Tree) Len() int { return len(t.objects) }

// All returns all objects ordered by path. Cost O(n log n).
func (t *Tree) All() []Object { return t.pick(maps.Keys(t.objects), "") }

// Children returns the objects directly below path that have the resource
// type, or all if it is empty, ordered by path.
func (t *Tree) Children(path, resourceType string) []Object {
	return t.pick(maps.Keys(t.children[path]), resourceType)
}

// OfType returns all objects of a resource type ordered by path.
func (t *Tree) OfType(resourceType string) []Object {
	return t.pick(maps.Keys(t.types[resourceType]), "")
}

// EachOfType yields all objects of a resource type in no order. Cost O(these).
func (t *Tree) EachOfType(resourceType string) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for p := range t.types[resourceType] {
			if !yield(t.objects[p]) {
				return
			}
		}
	}
}

// Referrers returns the paths of the objects that name path, ordered.
func (t *Tree) Referrers(path string) []string {
	return slices.Sorted(maps.Keys(t.referrers[path]))
}

// SegmentsOf returns the segments whose gateways are on the router at path,
// ordered by path. Cost O(objects that name the router).
func (t *Tree) SegmentsOf(router string) []*Segment {
	var paths []string
	for _, near := range []map[string]struct{}{t.children[router], t.referrers[router]} {
		for p := range near {
			if s, ok := t.objects[p].(*Segment); ok && s.RouterPath() == router {
				paths = append(paths, p)
			}
		}
	}
	slices.Sort(paths)
	var out []*Segment
	for _, p := range slices.Compact(paths) {
		out = append(out, t.objects[p].(*Segment))
	}
	return out
}

// LocaleServicesOf returns the locale services of a gateway ordered by path.
func (t *Tree) LocaleServicesOf(gateway string) []*LocaleServices {
	return List[*LocaleServices](t, gateway)
}

// InterfacesOf returns the interfaces of a Tier-0 ordered by path.
func (t *Tree) InterfacesOf(tier0 string) []*Tier0Interface {
	var out []*Tier0Interface
	for _, ls := range t.LocaleServicesOf(tier0) {
		out = append(out, List[*Tier0Interface](t, ls.Path)...)
	}
	return out
}

// NATRulesOf returns the NAT rules of a router, all sections, disabled ones
// too, in the order in which they apply: by Priority, at equal numbers NO_*
// first, then by path.
func (t *Tree) NATRulesOf(router string) []*PolicyNatRule {
	var out []*PolicyNatRule
	for _, section := range List[*PolicyNat](t, router) {
		out = append(out, List[*PolicyNatRule](t, section.Path)...)
	}
	exempt := func(r *PolicyNatRule) int {
		if strings.HasPrefix(r.Action, "NO_") {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b *PolicyNatRule) int {
		return cmp.Or(cmp.Compare(a.Priority(), b.Priority()), cmp.Compare(exempt(a), exempt(b)), strings.Compare(a.Path, b.Path))
	})
	return out
}

// HasEdge reports whether the gateway has an edge cluster.
func (t *Tree) HasEdge(gateway string) bool {
	return slices.ContainsFunc(t.LocaleServicesOf(gateway), func(l *LocaleServices) bool { return l.EdgeClusterPath != "" })
}

// pick returns the objects at paths that have the type, ordered by path.
func (t *Tree) pick(paths func(func(string) bool), resourceType string) []Object {
	var out []Object
	for _, p := range slices.Sorted(paths) {
		if o := t.objects[p]; resourceType == "" || o.Meta().ResourceType == resourceType {
			out = append(out, o)
		}
	}
	return out
}

// Find returns the object at path if it exists and has type T.
func Find[T Object](t *Tree, path string) (T, bool) {
	o, ok := t.objects[path].(T)
	return o, ok
}

// List returns the objects directly below path that have type T, ordered by
// path; with an empty path, all of the Tree.
func List[T Object](t *Tree, path string) []T {
	objects := t.Children(path, "")
	if path == "" {
		objects = t.All()
	}
	var out []T
	for _, o := range objects {
		if v, ok := o.(T); ok {
			out = append(out, v)
		}
	}
	return out
}
