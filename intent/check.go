package intent

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checker finds the problems of one object in its tree.
type checker struct {
	t        *Tree
	o        Object
	path     string
	changed  map[string]Object // paths of this batch; see claims
	problems []Problem
}

// add reports a problem of a field.
func (c *checker) add(field string, kind Kind, msg string) {
	c.problems = append(c.problems, Problem{Path: c.path, Field: field, Kind: kind, Msg: msg})
}

// value reports `value: fact`.
func (c *checker) value(field string, kind Kind, value, fact string) {
	c.add(field, kind, shown(value)+": "+fact)
}

// fault reports f unless it is nil, and whether it was nil.
func (c *checker) fault(field string, f *fault) bool {
	if f != nil {
		c.value(field, f.kind, f.value, f.fact)
	}
	return f == nil
}

// word checks that a text is empty or one of the allowed words.
func (c *checker) word(field, value string, allowed ...string) {
	if value != "" && !slices.Contains(allowed, value) {
		c.value(field, BadValue, value, "is not allowed ("+strings.Join(allowed, ", ")+")")
	}
}

// needWord is word for a field that must be given.
func (c *checker) needWord(field, value string, allowed ...string) {
	if value == "" {
		c.add(field, Required, "is missing ("+strings.Join(allowed, ", ")+")")
		return
	}
	c.word(field, value, allowed...)
}

// words checks each element of a list.
func (c *checker) words(field string, values []string, allowed ...string) {
	for i, v := range values {
		c.needWord(indexed(field, i), v, allowed...)
	}
}

// number checks that first ≤ n ≤ last.
func (c *checker) number(field string, n, first, last int64) {
	if n < first || n > last {
		c.value(field, BadValue, strconv.FormatInt(n, 10), "is out of range ("+strconv.FormatInt(first, 10)+" to "+strconv.FormatInt(last, 10)+")")
	}
}

// length checks that a text has at most limit bytes.
func (c *checker) length(field, value string, limit int) {
	if len(value) > limit {
		c.add(field, TooLong, "has "+strconv.Itoa(len(value))+" bytes (at most "+strconv.Itoa(limit)+")")
	}
}

// check finds all problems of the object.
func (c *checker) check() {
	c.form()
	c.resource()
	c.references()
	c.claims()
	switch v := c.o.(type) {
	case *Tier0:
		c.tier0(v)
	case *Tier1:
		c.tier1(v)
	case *LocaleServices:
		c.localeServices(v)
	case *Tier0Interface:
		c.tier0Interface(v)
	case *Segment:
		c.segment(v)
	case *SegmentPort:
		c.port(v)
	case *StaticRoutes:
		c.staticRoute(v)
	case *PolicyNat:
		c.natSection(v)
	case *PolicyNatRule:
		c.natRule(v)
	case *Node:
		c.node(v)
	case *Group:
		c.group(v)
	case *Service:
		c.serviceCycle(v.Path)
	case ServiceEntry:
		c.entry("", v)
	case *SecurityPolicy:
		c.policy(v)
	case *Rule:
		c.rule(v)
	case *PolicyExcludeList:
		c.needPaths("members", v.Members)
	case *GatewayPolicy:
		c.gatewayPolicy(v)
	case *PolicyFirewallSessionTimerProfile:
		c.timers(v)
	default:
		c.loadBalancer(c.o)
	}
}

// form checks that the object is where its type belongs.
func (c *checker) form() {
	m := c.o.Meta()
	if !strings.HasPrefix(c.path, "/infra/") || badPath(c.path) {
		c.value("path", BadID, c.path, "is not a policy path (such as /infra/tier-1s/red)")
		return
	}
	_, opaque := c.o.(*Opaque)
	here, k := kindAt(c.path), kindOf(m.ResourceType)
	switch {
	case opaque && here != nil:
		c.value("resource_type", BadValue, m.ResourceType, "does not fit the path (want "+here.childName()+")")
	case opaque:
	case k == nil || reflect.TypeOf(k.make()) != reflect.TypeOf(c.o):
		c.value("resource_type", BadValue, m.ResourceType, "does not fit a "+reflect.TypeOf(c.o).Elem().Name())
	case here == nil || here.childName() != k.childName():
		c.value("path", BadID, c.path, "is no place for a "+k.resource)
	case m.ID != IDOf(c.path) || m.ParentPath != ParentOf(c.path):
		c.value("id", BadID, m.ID, "does not fit the path")
	}
	if msg := badID(m.ID); msg != "" {
		c.add("id", BadID, msg)
	}
	if m.ParentPath != "" && c.t.objects[m.ParentPath] == nil {
		c.value("parent_path", BadParent, m.ParentPath, "does not exist")
	}
}

// Limits of the common part. Names and descriptions have those of NSX Policy
// API, schema ManagedResource. Tags have wider ones than its schema Tag (30 of
// 128 and 256 bytes), which no Kubernetes object must ever meet: a label's key
// has up to 317 bytes and an object any number of labels, and a port that
// lost some of them would be in other groups than its policies say. A tag also
// names its owner by kind, namespace (63), name (253) and UID.
const (
	maxName        = 255
	maxDescription = 1024
	maxTags        = 1024
	maxScope       = 317
	maxTag         = 512
)

func (c *checker) resource() {
	m := c.o.Meta()
	c.length("display_name", m.DisplayName, maxName)
	c.length("description", m.Description, maxDescription)
	if len(m.Tags) > maxTags {
		c.add("tags", TooLong, "has "+strconv.Itoa(len(m.Tags))+" tags (at most "+strconv.Itoa(maxTags)+")")
	}
	for i, t := range m.Tags {
		c.length(indexed("tags", i)+".scope", t.Scope, maxScope)
		c.length(indexed("tags", i)+".tag", t.Tag, maxTag)
	}
}

// references checks that every path names an object of the right type.
func (c *checker) references() {
	for _, r := range references(c.o) {
		o := c.t.objects[r.path]
		if o == nil {
			c.value(r.field, Dangling, r.path, "does not exist")
			continue
		}
		name := o.Meta().ResourceType
		if k := kindOf(name); k != nil {
			name = k.childName()
		}
		if len(r.want) > 0 && !slices.Contains(r.want, name) {
			c.value(r.field, WrongType, r.path, "is a "+name+" (want "+strings.Join(r.want, " or ")+")")
		}
	}
}

// needPath checks that a text that is not empty is a policy path.
func (c *checker) needPath(field, value string) {
	if value != "" && !isPath(value) {
		c.value(field, BadValue, value, "is not a policy path (such as /infra/tier-1s/red)")
	}
}

// needPaths checks that each element of a list is a policy path.
func (c *checker) needPaths(field string, values []string) {
	for i, v := range values {
		if !isPath(v) {
			c.value(indexed(field, i), BadValue, v, "is not a policy path (such as /infra/tier-1s/red)")
		}
	}
}

// claims reports what another object has already. Of two objects that changed
// together the later path is reported.
func (c *checker) claims() {
	if _, ok := c.changed[c.path]; !ok {
		return
	}
	own := map[claim]bool{}
	for _, w := range claimsOf(c.o) {
		if own[w.claim] {
			if strings.HasPrefix(w.what, "ip ") {
				c.value(w.field, Duplicate, w.text, "is given twice")
			}
			continue
		}
		own[w.claim] = true
		var by string
		for other := range c.t.claims[w.claim] {
			_, changed := c.changed[other]
			if other != c.path && (!changed || other < c.path) && (by == "" || other < by) {
				by = other
			}
		}
		if by != "" {
			c.value(w.field, Duplicate, w.text, "is already used by "+by)
		}
	}
}

// cycle returns the first path from start back to start, or nil. next returns
// where a path leads.
func cycle(start string, next func(string) []string) []string {
	seen := map[string]bool{}
	var walk func(path string) []string
	walk = func(path string) []string {
		for _, p := range next(path) {
			if p == start {
				return []string{p}
			}
			if seen[p] {
				continue
			}
			seen[p] = true
			if rest := walk(p); rest != nil {
				return append([]string{p}, rest...)
			}
		}
		return nil
	}
	return walk(start)
}
