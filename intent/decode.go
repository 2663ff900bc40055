package intent

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// fields is the JSON fields of one struct type.
type fields struct {
	index map[string][]int
	names []string // sorted
}

// structs is the fields of all struct types that objects are made of.
var structs = structsOf()

func structsOf() map[reflect.Type]*fields {
	all := map[reflect.Type]*fields{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(t.Elem())
		case reflect.Struct:
			if all[t] != nil {
				return
			}
			all[t] = fieldsOf(t)
			for _, index := range all[t].index {
				walk(t.FieldByIndex(index).Type)
			}
		}
	}
	walk(reflect.TypeFor[Opaque]())
	for _, k := range kinds {
		walk(reflect.TypeOf(k.make()))
	}
	walk(reflect.TypeFor[OpaqueExpression]())
	for _, mk := range expressions {
		walk(reflect.TypeOf(mk()))
	}
	return all
}

// fieldsOf returns the JSON fields of a struct type, embedded ones included.
func fieldsOf(t reflect.Type) *fields {
	f := &fields{index: map[string][]int{}}
	for _, sf := range reflect.VisibleFields(t) {
		if name := sf.Tag.Get("json"); name != "" && name != "-" {
			f.index[name] = sf.Index
			f.names = append(f.names, name)
		}
	}
	slices.Sort(f.names)
	return f
}

// codec turns decoded JSON into the package's structs and back. It keeps what
// it does not know in Extra and reports what has the wrong type.
type codec struct {
	report   func(field string, kind Kind, severity Severity, msg string)
	maxTypos int // unknown fields looked at per struct, so that cost stays linear
}

func newCodec() *codec { return &codec{maxTypos: 32} }

// decode sets v, which is addressable, from in. A value of the wrong type is
// reported and left out.
func (c *codec) decode(v reflect.Value, in any, field string) {
	if in == nil {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		c.decodeStruct(v, in, field)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		c.decode(p.Elem(), in, field)
		v.Set(p)
	case reflect.Slice:
		c.decodeSlice(v, in, field)
	case reflect.Interface:
		c.decodeVariant(v, in, field)
	case reflect.String:
		c.decodeString(v, in, field)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			c.wrong(field, in, "true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := integer(in)
		if !ok {
			c.wrong(field, in, "a whole number")
			return
		}
		v.SetInt(n)
	}
}

func (c *codec) decodeStruct(v reflect.Value, in any, field string) {
	m, ok := in.(map[string]any)
	if !ok {
		c.wrong(field, in, "an object")
		return
	}
	known := structs[v.Type()]
	extra := Extra{}
	typos := 0
	for _, name := range sortedKeys(m) {
		if index, ok := known.index[name]; ok {
			c.decode(v.FieldByIndex(index), m[name], join(field, name))
			continue
		}
		if name == "resource_type" && v.Addr().Type().Implements(expressionType) {
			continue
		}
		extra[name] = m[name]
		if typos++; typos > c.maxTypos {
			continue
		}
		if near := nearest(name, known.names); near != "" {
			c.report(join(field, name), UnknownField, Warning, "is not a known field (did you mean "+near+")")
		}
	}
	if len(extra) > 0 {
		v.FieldByName("Extra").Set(reflect.ValueOf(extra))
	}
}

func (c *codec) decodeSlice(v reflect.Value, in any, field string) {
	list, ok := in.([]any)
	if !ok {
		c.wrong(field, in, "a list")
		return
	}
	v.SetZero() // a list replaces the default object's list
	if len(list) > 0 {
		v.Grow(len(list))
	}
	for i, e := range list {
		at := field + "[" + strconv.Itoa(i) + "]"
		if e == nil {
			c.wrong(at, e, "a value")
			continue
		}
		item := reflect.New(v.Type().Elem()).Elem()
		c.decode(item, e, at)
		if item.Kind() != reflect.Interface || !item.IsNil() {
			v.Set(reflect.Append(v, item))
		}
	}
}

func (c *codec) decodeString(v reflect.Value, in any, field string) {
	switch s := in.(type) {
	case string:
		v.SetString(s)
	case json.Number: // an unquoted port or id in YAML
		v.SetString(s.String())
	default:
		c.wrong(field, in, wantString(in))
	}
}

// wantString helps with YAML's bare on, off, yes, no, y and n.
func wantString(in any) string {
	if _, ok := in.(bool); ok {
		return "a string: put it in quotes"
	}
	return "a string"
}

var (
	expressionType = reflect.TypeFor[Expression]()
	entryType      = reflect.TypeFor[ServiceEntry]()
)

// expressions makes each known kind of expression.
var expressions = map[string]func() Expression{
	"Condition":            func() Expression { return new(Condition) },
	"ConjunctionOperator":  func() Expression { return new(ConjunctionOperator) },
	"NestedExpression":     func() Expression { return new(NestedExpression) },
	"IPAddressExpression":  func() Expression { return new(IPAddressExpression) },
	"MACAddressExpression": func() Expression { return new(MACAddressExpression) },
	"PathExpression":       func() Expression { return new(PathExpression) },
}

// decodeVariant decodes an Expression or a ServiceEntry by its resource_type.
func (c *codec) decodeVariant(v reflect.Value, in any, field string) {
	m, ok := in.(map[string]any)
	if !ok {
		c.wrong(field, in, "an object")
		return
	}
	name, _ := m["resource_type"].(string)
	var made any
	if v.Type() == expressionType {
		made = &OpaqueExpression{}
		if mk, ok := expressions[name]; ok {
			made = mk()
		}
	} else if k := kindOf(name); k != nil && k.wrapper == "ServiceEntry" {
		made = k.make()
	}
	if made == nil || name == "" {
		c.report(join(field, "resource_type"), BadValue, Error, shown(name)+": is not a known type here (such as "+exampleType(v.Type())+")")
		return
	}
	p := reflect.ValueOf(made)
	c.decode(p.Elem(), in, field)
	v.Set(p)
}

func exampleType(t reflect.Type) string {
	if t == entryType {
		return "L4PortSetServiceEntry"
	}
	return "Condition"
}

// wrong reports a value of the wrong JSON type.
func (c *codec) wrong(field string, in any, want string) {
	c.report(field, BadType, Error, "is "+jsonType(in)+" (want "+want+")")
}

func jsonType(in any) string {
	switch in.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

// integer accepts 5, 5.0 and 5e0, as JSON does not tell them apart.
func integer(in any) (int64, bool) {
	n, ok := in.(json.Number)
	if !ok {
		return 0, false
	}
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	f, err := n.Float64()
	return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
}

// encode returns the JSON value of v; ok is false if it is empty and can be
// left out.
func (c *codec) encode(v reflect.Value) (out any, ok bool) {
	switch v.Kind() {
	case reflect.Struct:
		return c.encodeStruct(v), true
	case reflect.Pointer:
		if v.IsNil() {
			return nil, false
		}
		out, _ = c.encode(v.Elem())
		return out, true
	case reflect.Interface:
		if v.IsNil() {
			return nil, false
		}
		m := c.encodeStruct(v.Elem().Elem())
		if name := v.Elem().Elem().Type().Name(); expressions[name] != nil {
			m["resource_type"] = name
		}
		return m, true
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i], _ = c.encode(v.Index(i))
		}
		return list, len(list) > 0
	}
	return v.Interface(), !v.IsZero()
}

func (c *codec) encodeStruct(v reflect.Value) map[string]any {
	m := map[string]any{}
	if x, ok := v.FieldByName("Extra").Interface().(Extra); ok {
		for name, value := range x {
			m[name] = value
		}
	}
	for name, index := range structs[v.Type()].index {
		if out, ok := c.encode(v.FieldByIndex(index)); ok {
			m[name] = out
		}
	}
	return m
}

// join appends a name to a field path.
func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// nearest returns the known name that an unknown one is probably a typo of, or
// nothing: the first at the least edit distance, at most 2 and less than half
// of the name.
func nearest(name string, known []string) string {
	if strings.HasPrefix(name, "_") || len(name) > 64 {
		return ""
	}
	best, found := min(2, (len(name)-1)/2)+1, ""
	for _, k := range known {
		if d := len(k) - len(name); d >= best || -d >= best {
			continue
		}
		if d := distance(name, k); d < best {
			best, found = d, k
		}
	}
	return found
}

// distance is the Levenshtein distance of two texts in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
