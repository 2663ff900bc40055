package compile

import (
	"reflect"
	"slices"

	"github.com/weft-net/weft/table"
)

// equal compares values of facts. It is reflect.DeepEqual, and faster where
// there are many values or long ones.
func equal(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case string, bool:
		return a == b
	case []string:
		b, ok := b.([]string)
		return ok && sameList(a, b)
	case *table.AddrSet:
		if b, ok := b.(*table.AddrSet); ok && a != nil && b != nil {
			return sameList(a.Addrs, b.Addrs) && reflect.DeepEqual(withoutAddrs(*a), withoutAddrs(*b))
		}
	case *table.Ruleset:
		if b, ok := b.(*table.Ruleset); ok && a != nil && b != nil {
			return (a.Rules == nil) == (b.Rules == nil) && slices.EqualFunc(a.Rules, b.Rules, sameRule) &&
				reflect.DeepEqual(withoutRules(*a), withoutRules(*b))
		}
	}
	return reflect.DeepEqual(a, b)
}

func sameList[T comparable](a, b []T) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

func sameRule(a, b *table.Rule) bool { return a == b || reflect.DeepEqual(a, b) }

func withoutAddrs(s table.AddrSet) table.AddrSet {
	s.Addrs = nil
	return s
}

func withoutRules(s table.Ruleset) table.Ruleset {
	s.Rules = nil
	return s
}
