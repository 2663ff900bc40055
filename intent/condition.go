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
// Source: NSX Policy API, schema Condition.
func (c *Condition) Matches(o Object) bool {
	m := o.Meta()
	switch c.Key {
	case "ALL":
		return true
	case "Name":
		return compare(c.Operator, m.Name(), c.Value)
	case "Tag":
		return c.matchesTags(m.Tags)
	}
	return false
}

// matchesTags treats the operators that deny as "no tag does": NOTEQUALS on
// the scope means that no tag has it.
func (c *Condition) matchesTags(tags []Tag) bool {
	scope, value, barred := strings.Cut(c.Value, "|")
	if !barred {
		scope, value = "", scope
	}
	some := func(scoped bool, value func(string) bool) bool {
		return slices.ContainsFunc(tags, func(t Tag) bool {
			return (!scoped || t.Scope == scope) && value(t.Tag)
		})
	}
	all := func(string) bool { return true }
	if c.ScopeOperator == "NOTEQUALS" {
		return !some(true, func(v string) bool { return value == "" || compare(c.Operator, v, value) })
	}
	if value == "" && scope != "" {
		return some(true, all) != denies(c.Operator)
	}
	if denies(c.Operator) {
		return !some(barred, func(v string) bool { return !compare(c.Operator, v, value) })
	}
	return some(barred, func(v string) bool { return compare(c.Operator, v, value) })
}

// denies reports whether an operator holds for what does not match.
func denies(operator string) bool { return operator == "NOTEQUALS" || operator == "NOTIN" }

// compare applies an operator to a have and a wanted text. IN and NOTIN take a
// comma separated list.
func compare(operator, have, want string) bool {
	switch operator {
	case "CONTAINS":
		return strings.Contains(have, want)
	case "STARTSWITH":
		return strings.HasPrefix(have, want)
	case "ENDSWITH":
		return strings.HasSuffix(have, want)
	case "NOTEQUALS":
		return have != want
	case "IN":
		return slices.Contains(strings.Split(want, ","), have)
	case "NOTIN":
		return !slices.Contains(strings.Split(want, ","), have)
	}
	return have == want
}
