package intent

import (
	"slices"
	"strconv"
	"strings"
)

// Severity says whether a Problem prevents a change.
type Severity uint8

// Severities.
const (
	Error   Severity = iota // the change is refused
	Warning                 // the change is taken
)

// Kind says what is wrong. The list is closed; each value is spelled the same
// in REST errors, conditions and metric labels.
type Kind string

// Kinds of problems.
const (
	BadSyntax       Kind = "bad_syntax"        // the text is no JSON or YAML, or not a hierarchical body
	BadType         Kind = "bad_type"          // a JSON value has the wrong type
	UnknownField    Kind = "unknown_field"     // a field name that looks like a typo of a known one
	UnknownType     Kind = "unknown_type"      // a resource type that has no effect
	BadID           Kind = "bad_id"            // an id, or a path, that cannot name an object
	BadParent       Kind = "bad_parent"        // the parent is missing or of the wrong type
	Duplicate       Kind = "duplicate"         // an object, address or number is given twice
	BadValue        Kind = "bad_value"         // a word or number that the field does not allow
	Required        Kind = "required"          // a field that must be given is empty
	TooLong         Kind = "too_long"          // a text or list exceeds NSX's limit
	BadAddress      Kind = "bad_address"       // malformed address, CIDR or range
	RangeNotAllowed Kind = "range_not_allowed" // a range where NSX wants addresses or CIDRs
	NotAHost        Kind = "not_a_host"        // a network, broadcast or non-unicast address for an interface
	BadMAC          Kind = "bad_mac"           // malformed MAC address
	BadPort         Kind = "bad_port"          // malformed port or port range
	Dangling        Kind = "dangling"          // a path that names no object
	WrongType       Kind = "wrong_type"        // a path that names an object of another type
	Referenced      Kind = "referenced"        // deleting an object that others name; NSX error 500030
	Protected       Kind = "protected"         // deleting a default object
	Overlap         Kind = "overlap"           // subnets of one router that overlap
	OutsideSubnet   Kind = "outside_subnet"    // an address that is not in the subnet it must be in
	IsGateway       Kind = "is_gateway"        // an address binding that is the segment's gateway
	NoEdge          Kind = "no_edge"           // NAT on a Tier-1 that has no edge cluster
	BadExpression   Kind = "bad_expression"    // a group expression of the wrong shape
	Cycle           Kind = "cycle"             // groups or services that contain themselves
	AnyNotAlone     Kind = "any_not_alone"     // ANY beside other values
	Conflict        Kind = "conflict"          // fields that exclude each other
	Unsupported     Kind = "unsupported"       // valid in NSX, not done here
)

// Problem is one mistake in what people want.
type Problem struct {
	Path     string // policy path of the object; empty if it has none yet
	Field    string // such as subnets[0].gateway_address; empty: the object
	Kind     Kind
	Severity Severity
	Msg      string // value: fact (allowed)
	File     string // the name given to Parse; empty if not from a file
	Line     int    // 1-based; 0 unless the text itself is wrong
}

// String returns `file:line: path: field: value: fact (allowed)` without the
// parts that are empty.
func (p Problem) String() string {
	var parts []string
	if p.File != "" {
		f := p.File
		if p.Line > 0 {
			f += ":" + strconv.Itoa(p.Line)
		}
		parts = append(parts, f)
	}
	for _, s := range []string{p.Path, p.Field, p.Msg} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// HasErrors reports whether problems contain one that prevents a change.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// All returns the problems of files and those that their changes then have on
// t, so that a person sees all of them at once. Where something could not be
// parsed, what refers to it dangles through no fault of its own: that is left
// out. t is changed iff there is no error.
func All(t *Tree, changes []Change, parsed []Problem) []Problem {
	if !HasErrors(parsed) {
		_, more := t.Apply(changes)
		return append(parsed, more...)
	}
	_, more := t.Check(changes)
	for _, p := range more {
		if p.Kind != Dangling {
			parsed = append(parsed, p)
		}
	}
	return parsed
}
