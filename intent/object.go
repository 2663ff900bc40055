package intent

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// DecodeObject returns the object that EncodeObject wrote, whole: decoding
// what was encoded gives an equal object, unknown fields included.
//
// path is where the object is; a text that is of another place is a problem,
// as is everything that Parse would report of the object's form. The object is
// nil iff one of the problems is an Error.
func DecodeObject(path string, data []byte) (Object, []Problem) {
	var problems []Problem
	report := func(field string, kind Kind, severity Severity, msg string) {
		problems = append(problems, Problem{Path: path, Field: field, Kind: kind, Severity: severity, Msg: msg})
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		report("", BadSyntax, Error, "is not JSON: "+err.Error())
		return nil, problems
	}
	var o Object = new(Opaque)
	if k, here := kindOf(text(body["resource_type"])), kindAt(path); k != nil && here != nil && k.childName() == here.childName() {
		o = k.make()
	}
	c := newCodec()
	c.report = report
	c.decode(reflect.ValueOf(o).Elem(), body, "")
	if at := o.Meta().Path; at != path {
		report("path", BadID, Error, shown(at)+": is not where the object is (want "+path+")")
	}
	if HasErrors(problems) {
		return nil, problems
	}
	share(o.Meta(), path)
	return o, problems
}

// share lets an object's texts share memory with its path: there are many objects,
// and they live long.
func share(m *Resource, path string) {
	m.Path = path
	if strings.HasPrefix(path, m.ParentPath) {
		m.ParentPath = path[:len(m.ParentPath)]
	}
	for _, tail := range []*string{&m.ID, &m.RelativePath} {
		if strings.HasSuffix(path, *tail) {
			*tail = path[len(path)-len(*tail):]
		}
	}
}

// ParseObject reads the body of one object at path, as Parse reads it within a
// hierarchical body: with inline rules or entries and with children. The body
// may leave out id and, unless the path allows several, resource_type. The
// path must be one that a known type has.
func ParseObject(name, path string, data []byte) ([]Change, []Problem) {
	p := &parser{file: name, codec: newCodec()}
	p.codec.report = func(field string, kind Kind, severity Severity, msg string) {
		p.problem(p.path, field, kind, severity, msg)
	}
	k := kindAt(path)
	if k == nil || badPath(path) {
		p.problem(path, "path", BadID, Error, "is no place for a known type (such as /infra/tier-1s/red)")
		return nil, p.problems
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil || body == nil {
		msg := "is null (want an object)"
		if err != nil {
			msg = "is not JSON: " + err.Error()
		}
		p.problem(path, "", BadSyntax, Error, msg)
		return nil, p.problems
	}
	if id := text(body["id"]); body["id"] != nil && id != IDOf(path) {
		p.problem(path, "id", BadID, Error, shown(id)+": does not fit the path (want "+IDOf(path)+")")
		return nil, p.problems
	}
	body["id"] = IDOf(path)
	in := place{path: ParentOf(path), name: root}
	if in.path != "" {
		in.name = kindAt(in.path).childName()
	}
	p.object(body, k.childName(), in, "", false)
	for i := range p.problems {
		// What a hierarchical body says of the place says the object here.
		if field, ok := strings.CutPrefix(p.problems[i].Field, "."); ok {
			p.problems[i].Path, p.problems[i].Field = path, field
		}
	}
	return p.changes, p.problems
}

// Implied returns a new object of the kind that is made at path together with
// its first child, such as a NAT section; nil if objects at path are made by
// themselves.
func Implied(path string) Object {
	if k := kindAt(path); k != nil && k.implicit {
		return Put(path, k.make()).Object
	}
	return nil
}

// Clone returns a copy of o whose Resource may be set; what its fields refer
// to is shared and must not be changed.
func Clone(o Object) Object {
	v := reflect.New(reflect.TypeOf(o).Elem())
	v.Elem().Set(reflect.ValueOf(o).Elem())
	return v.Interface().(Object)
}

// Check returns what Apply would make of the changes: one change for each
// object that would be different, ordered by path, those that follow from
// others included, and the problems. On problems of severity Error there are
// no changes. Afterwards the Tree is as before, but it may not be read
// meanwhile. Cost as Apply.
func (t *Tree) Check(changes []Change) ([]Change, []Problem) {
	b := t.run(changes)
	var out []Change
	if !HasErrors(b.problems) {
		for _, path := range slices.Sorted(maps.Keys(b.old)) {
			out = append(out, Change{Path: path, Object: t.objects[path]})
		}
	}
	b.undo()
	return out, b.problems
}

// IsCollection reports whether objects of a known type are directly below
// path, such as /infra/tier-1s.
func IsCollection(path string) bool { return path != "" && kindAt(path+"/x") != nil }

// ResourceTypes returns the names of all known resource types, sorted.
func ResourceTypes() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.resource
	}
	slices.Sort(out)
	return out
}
