package intent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Parse reads hierarchical Policy API bodies: JSON, or one or more YAML
// documents. name is what problems call the text.
//
// It returns a Change per object in the order of the text, and all problems of
// form; what refers to other objects is judged by Tree.Apply. On problems of
// severity Error the changes are incomplete.
// Source: NSX Policy API, "Hierarchical API".
func Parse(name string, data []byte) ([]Change, []Problem) {
	p := &parser{file: name, codec: newCodec()}
	p.codec.report = func(field string, kind Kind, severity Severity, msg string) {
		p.problem(p.path, field, kind, severity, msg)
	}
	if trimmed := bytes.TrimLeft(data, " \t\r\n\ufeff"); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
		p.json(bytes.TrimPrefix(data, []byte("\ufeff")))
		return p.changes, p.problems
	}
	p.yaml(data)
	return p.changes, p.problems
}

type parser struct {
	file     string
	line     int    // of a problem with the text itself; else 0
	path     string // of the object that the codec is in
	codec    *codec
	changes  []Change
	problems []Problem
}

func (p *parser) problem(path, field string, kind Kind, severity Severity, msg string) {
	p.problems = append(p.problems, Problem{
		Path: path, Field: field, Kind: kind, Severity: severity, Msg: msg, File: p.file, Line: p.line,
	})
}

// json reads a stream of JSON values.
func (p *parser) json(data []byte) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			at := d.InputOffset()
			if s, ok := errors.AsType[*json.SyntaxError](err); ok {
				at = s.Offset
			}
			p.line = 1 + bytes.Count(data[:min(int(at), len(data))], []byte("\n"))
			p.problem("", "", BadSyntax, Error, "is not JSON: "+err.Error())
			return
		}
		p.document(v)
	}
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// yaml reads documents separated by lines that begin with ---.
func (p *parser) yaml(data []byte) {
	first := 1
	for _, doc := range splitYAML(string(data)) {
		p.line = first
		first += strings.Count(doc, "\n")
		text, err := yaml.YAMLToJSONStrict([]byte(doc))
		if err != nil {
			msg := strings.TrimPrefix(err.Error(), "yaml: ")
			if m := yamlLine.FindStringSubmatch(msg); m != nil {
				n, _ := strconv.Atoi(m[1])
				p.line += n - 1
				msg = strings.Replace(msg, m[0], "", 1)
			}
			p.problem("", "", BadSyntax, Error, "is not YAML: "+strings.Join(strings.Fields(msg), " "))
			continue
		}
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			p.problem("", "", BadSyntax, Error, "is not YAML: "+err.Error())
			continue
		}
		p.document(v)
	}
}

// splitYAML cuts before each document marker, which stays with its document.
func splitYAML(text string) []string {
	var docs []string
	start := 0
	for at := 0; at < len(text); {
		next := len(text)
		if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		line := strings.TrimRight(text[at:next], " \t\r\n")
		if (line == "---" || strings.HasPrefix(line, "--- ")) && at > start {
			docs = append(docs, text[start:at])
			start = at
		}
		at = next
	}
	return append(docs, text[start:])
}

func (p *parser) document(v any) {
	if v == nil {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		p.problem("", "", BadSyntax, Error, "is "+jsonType(v)+" (want an object of resource_type Infra)")
		return
	}
	if t := text(m["resource_type"]); t != root {
		p.problem("", "resource_type", BadSyntax, Error, shown(t)+": is not a hierarchical body (want Infra)")
		return
	}
	for _, name := range sortedKeys(m) {
		if near := nearest(name, []string{"children", "resource_type"}); near != "" && near != name {
			p.problem("", name, UnknownField, Warning, "is not a known field (did you mean "+near+")")
		}
	}
	p.line = 0 // what follows names its object instead
	p.list(m["children"], place{name: root}, "children", p.child)
}

// place is where children are put.
type place struct {
	path string // empty: /infra
	name string // wrapper of the parent's kind; of an unknown kind its type
}

// known reports whether children are judged by the table of kinds.
func (pl place) known() bool { return pl.name == root || kindOfChild(pl.name) != nil }

// list calls do for each object of a list.
func (p *parser) list(v any, in place, field string, do func(map[string]any, place, string)) {
	items, ok := v.([]any)
	if v != nil && !ok {
		p.problem(in.path, field, BadType, Error, "is "+jsonType(v)+" (want a list)")
	}
	for i, item := range items {
		at := field + "[" + strconv.Itoa(i) + "]"
		m, ok := item.(map[string]any)
		if !ok {
			p.problem(in.path, at, BadType, Error, "is "+jsonType(item)+" (want an object)")
			continue
		}
		do(m, in, at)
	}
}

// child reads one element of children.
func (p *parser) child(m map[string]any, in place, field string) {
	wrapper := text(m["resource_type"])
	name, ok := strings.CutPrefix(wrapper, "Child")
	if !ok || !isTypeName(name) {
		p.problem(in.path, field+".resource_type", BadValue, Error, shown(wrapper)+": is no child (want Child and a resource type, such as ChildTier1)")
		return
	}
	if name == "ResourceReference" {
		p.reference(m, in, field)
		return
	}
	body, ok := m[name].(map[string]any)
	if !ok {
		p.problem(in.path, field+"."+name, Required, Error, "is missing (want the object that "+wrapper+" carries)")
		return
	}
	deleted, _ := m["marked_for_delete"].(bool)
	p.object(body, name, in, field+"."+name, deleted)
}

// reference reads a ChildResourceReference, which only leads to its children.
func (p *parser) reference(m map[string]any, in place, field string) {
	name := text(m["target_type"])
	if k := kindOf(name); k != nil {
		name = k.childName()
	}
	if !isTypeName(name) {
		p.problem(in.path, field+".target_type", Required, Error, shown(name)+": is not a resource type (such as Tier1)")
		return
	}
	id, ok := p.id(m, name, in, field)
	if !ok {
		return
	}
	if !p.fits(name, in, field) {
		return
	}
	here := place{pathBelow(in.path, name, id), name}
	if k := kindAt(here.path); k != nil && k.childName() != name {
		p.problem(in.path, field+".target_type", BadValue, Error, name+": does not fit the path "+here.path+" (want "+k.childName()+")")
		return
	}
	if !in.known() {
		here.name = ""
	}
	p.list(m["children"], here, "children", p.child)
}

// fits reports whether an object may be a child there, and the problem if not.
func (p *parser) fits(name string, in place, field string) bool {
	k := kindOfChild(name)
	if k == nil || !in.known() || slices.Contains(k.parents, in.name) {
		return true
	}
	p.problem(in.path, field, BadParent, Error, name+": cannot be a child of "+in.name+" (want "+strings.Join(k.parents, " or ")+")")
	return false
}

// object reads the object of a wrapper and all below it.
func (p *parser) object(body map[string]any, name string, in place, field string, deleted bool) {
	resource := name
	if t := text(body["resource_type"]); t != "" {
		resource = t
	}
	k := kindOf(resource)
	if resource != name && (k == nil || k.childName() != name) || k == nil && kindOfChild(name) != nil {
		p.problem(in.path, field+".resource_type", BadValue, Error, shown(resource)+": does not fit Child"+name+example(name))
		return
	}
	if !p.fits(name, in, field) {
		return
	}
	id, ok := p.id(body, name, in, field)
	if !ok {
		return
	}
	if k != nil && !in.known() {
		k = nil // below an object without effect, such as a rule of a gateway policy
	}
	at := pathBelow(in.path, resource, id)
	if given := text(body["path"]); given != "" && given != at {
		below := strings.HasPrefix(given, "/infra"+strings.TrimPrefix(in.path, "/infra")+"/")
		if k != nil || !below || badPath(given) {
			p.problem(at, "path", BadID, Error, shown(given)+": is not where the object is (want "+at+")")
			return
		}
		at = given
	}
	if here := kindAt(at); k == nil && here != nil {
		p.problem(at, "resource_type", BadValue, Error, shown(resource)+": does not fit the path (want "+here.childName()+")")
		return
	}
	deleted = deleted || body["marked_for_delete"] == true
	if deleted {
		p.changes = append(p.changes, Delete(at))
		return
	}
	p.put(body, k, resource, in, at, id)
}

// put decodes one object, appends its change, and reads its children.
func (p *parser) put(body map[string]any, k *kind, resource string, in place, at, id string) {
	var o Object = new(Opaque)
	here := place{at, resource}
	own := maps.Clone(body)
	delete(own, "children")
	c := Change{Path: at}
	var inline any
	if k == nil {
		p.warnUnknown(at, resource)
		if !in.known() || kindOfChild(resource) != nil {
			here.name = "" // whatever is below has no effect either
		}
	} else {
		o, here.name = k.make(), k.childName()
		if v, ok := own[k.inline]; ok && k.inline != "" {
			delete(own, k.inline)
			inline, c.Replaces = v, k.inlineAs
		}
		if d := defaultAt(at); d != nil {
			o = d
		}
	}
	p.path = at
	p.codec.decode(reflect.ValueOf(o).Elem(), own, "")
	m := o.Meta()
	m.ID, m.ResourceType, m.Path, m.RelativePath, m.ParentPath = id, resource, at, IDOf(at), in.path
	c.Object = o
	p.changes = append(p.changes, c)
	if c.Replaces != "" {
		p.list(inline, here, k.inline, func(m map[string]any, in place, field string) {
			p.object(m, k.inlineAs, in, field, false)
		})
	}
	p.list(body["children"], here, "children", p.child)
}

// warnUnknown says that an object is kept without effect.
func (p *parser) warnUnknown(at, resource string) {
	var names []string
	for _, k := range kinds {
		names = append(names, k.resource)
	}
	msg := resource + ": has no effect yet, it is only kept"
	if near := nearest(resource, names); near != "" && near != resource && collections[resource] == "" {
		msg = resource + ": is not a known type (did you mean " + near + ")"
	}
	p.problem(at, "resource_type", UnknownType, Warning, msg)
}

// maxID is the longest id in bytes. Source: NSX Policy API, schema ManagedResource.
const maxID = 255

// badID says what is wrong with an id; empty: nothing.
func badID(id string) string {
	switch {
	case id == "":
		return "is empty (want 1 to 255 characters)"
	case len(id) > maxID:
		return shown(id[:16]+"…") + ": has " + strconv.Itoa(len(id)) + " bytes (at most 255)"
	case strings.ContainsFunc(id, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }):
		return shown(id) + ": contains a slash or a control character"
	}
	return ""
}

// badPath reports whether a path has an empty or unusable segment.
func badPath(path string) bool {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	return path == "" || path[0] != '/' || slices.ContainsFunc(segments, func(s string) bool { return badID(s) != "" })
}

// isTypeName reports whether a text can be a resource type: letters and digits.
func isTypeName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

// example returns a type of a wrapper that stands for several.
func example(name string) string {
	if k := kindOfChild(name); k != nil && k.wrapper != "" {
		return " (such as " + k.resource + ")"
	}
	return ""
}

// id returns the id in m of a child, or reports why it has none.
func (p *parser) id(m map[string]any, name string, in place, field string) (string, bool) {
	if k := kindOfChild(name); k != nil && k.single {
		return IDOf(k.collection), true
	}
	id := text(m["id"])
	msg := badID(id)
	if _, scalar := m["id"].(string); id == "" && m["id"] != nil && !scalar {
		msg = "is " + jsonType(m["id"]) + " (want " + wantString(m["id"]) + ")"
	}
	if msg != "" {
		p.problem(in.path, field+".id", BadID, Error, msg)
	}
	return id, msg == ""
}

// text returns a JSON scalar as text; other values are empty.
func text(v any) string {
	switch s := v.(type) {
	case string:
		return s
	case json.Number:
		return s.String()
	}
	return ""
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
