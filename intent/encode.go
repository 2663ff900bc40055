package intent

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Encode writes objects as one hierarchical body in indented JSON, in the
// order of their paths. Parents that are not among the objects become
// ChildResourceReference. It returns an error if an object has no path, or
// lies below an object of an unknown type that is not among them.
func Encode(objects ...Object) ([]byte, error) {
	e := &encoder{codec: newCodec(), nodes: map[string]*node{"": {body: map[string]any{"resource_type": root}}}}
	byPath := map[string]Object{}
	for _, o := range objects {
		byPath[o.Meta().Path] = o
	}
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		if _, err := e.node(path, byPath); err != nil {
			return nil, err
		}
	}
	return json.MarshalIndent(e.nodes[""].body, "", "  ")
}

// EncodeObject returns one object's own JSON as REST shows it: with its path,
// without children.
func EncodeObject(o Object) ([]byte, error) {
	return json.Marshal(newCodec().encodeStruct(reflect.ValueOf(o).Elem()))
}

type encoder struct {
	codec *codec
	nodes map[string]*node // by path
}

// node is the JSON of an object or of a reference to it.
type node struct{ body map[string]any }

// node returns the JSON of the object at path, linked into its parent's.
func (e *encoder) node(path string, objects map[string]Object) (*node, error) {
	if n, ok := e.nodes[path]; ok {
		return n, nil
	}
	o := objects[path]
	if o == nil {
		return e.reference(path, objects)
	}
	m := o.Meta()
	if badPath(path) || m.ID == "" || m.ResourceType == "" {
		return nil, fmt.Errorf("%s: id, resource_type, path: are not all set", shown(path))
	}
	body := e.codec.encodeStruct(reflect.ValueOf(o).Elem())
	delete(body, "parent_path")
	delete(body, "relative_path")
	if pathBelow(m.ParentPath, m.ResourceType, m.ID) == path {
		delete(body, "path")
	}
	name := m.ResourceType
	if k := kindOf(name); k != nil {
		name = k.childName()
	}
	n := &node{body: body}
	return n, e.link(path, m.ParentPath, map[string]any{"resource_type": "Child" + name, name: body}, n, objects)
}

// reference returns the JSON of an object that is only on the way.
func (e *encoder) reference(path string, objects map[string]Object) (*node, error) {
	k := kindAt(path)
	if k == nil {
		return nil, fmt.Errorf("%s: resource_type: is not known (give the object too)", shown(path))
	}
	n := &node{body: map[string]any{"resource_type": "ChildResourceReference", "id": IDOf(path), "target_type": k.childName()}}
	return n, e.link(path, ParentOf(path), n.body, n, objects)
}

// link appends a wrapper to the children of its parent.
func (e *encoder) link(path, parent string, wrapper map[string]any, n *node, objects map[string]Object) error {
	p, err := e.node(parent, objects)
	if err != nil {
		return err
	}
	e.nodes[path] = n
	children, _ := p.body["children"].([]any)
	p.body["children"] = append(children, wrapper)
	return nil
}
