package intent

import (
	"iter"
	"slices"
	"strings"
)

// walk yields all expressions of a list, those in brackets too.
func walk(list []Expression) iter.Seq[Expression] {
	return func(yield func(Expression) bool) { walkInto(list, yield) }
}

func walkInto(list []Expression, yield func(Expression) bool) bool {
	for _, e := range list {
		if !yield(e) {
			return false
		}
		if n, ok := e.(*NestedExpression); ok && !walkInto(n.Expressions, yield) {
			return false
		}
	}
	return true
}

// Matches reports whether o has the property. The member type is the caller's
// to compare: a condition on Segment selects ports by their segment.
//
// The value of key Tag is scope|tag: `scope|` holds for any tag of the scope,
// `|tag` for a tag without one. A value without a bar is a tag of any scope.
//
// A condition that denies, by its operator (NOTEQUALS, NOTIN), by its
// scope_operator NOTEQUALS or by both, holds if no tag is what it names. Both
// together deny once: scope and tag are one statement about one tag.
// Source: NSX Policy API, schema Condition; the group criteria that NCP makes
// of the selector operators NotIn (NOTIN) and DoesNotExist (scope_operator).
func (c *Condition) Matches(o Object) bool {
	m := o.Meta()
	switch c.Key {
	case "ALL":
		return true
	case "Name":
		return compare(c.Operator, m.Name(), c.Value) != denies(c.Operator)
	case "Tag":
		return c.names(m.Tags) != (denies(c.Operator) || c.ScopeOperator == "NOTEQUALS")
	}
	return false
}

// names reports whether one of the tags is what the value and the operator
// without its NOT say.
func (c *Condition) names(tags []Tag) bool {
	scope, value, barred := strings.Cut(c.Value, "|")
	if !barred {
		scope, value = "", scope
	}
	return slices.ContainsFunc(tags, func(t Tag) bool {
		return (!barred || t.Scope == scope) && (value == "" || compare(c.Operator, t.Tag, value))
	})
}

// denies reports whether an operator holds for what does not match.
func denies(operator string) bool { return operator == "NOTEQUALS" || operator == "NOTIN" }

// compare applies an operator without its NOT to a have and a wanted text. IN
// and NOTIN take a comma separated list.
func compare(operator, have, want string) bool {
	switch operator {
	case "CONTAINS":
		return strings.Contains(have, want)
	case "STARTSWITH":
		return strings.HasPrefix(have, want)
	case "ENDSWITH":
		return strings.HasSuffix(have, want)
	case "IN", "NOTIN":
		return slices.Contains(strings.Split(want, ","), have)
	}
	return have == want
}
