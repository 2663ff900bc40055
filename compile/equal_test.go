package compile

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/weft-net/weft/table"
)

// equal says what reflect.DeepEqual says, for values of each kind that it
// knows.
func TestEqualIsDeepEqual(t *testing.T) {
	row := table.RealmPrefix{Prefix: netip.MustParsePrefix("10.0.0.1/32")}
	rule := &table.Rule{ID: 7}
	values := []any{
		nil, "", "a", true, false, 7, []string(nil), []string{}, []string{"a"}, []string{"b"}, []string{"a", "b"},
		(*table.AddrSet)(nil), &table.AddrSet{}, &table.AddrSet{ID: 1}, &table.AddrSet{ID: 1, Name: "g"},
		&table.AddrSet{ID: 1, Addrs: []table.RealmPrefix{}}, &table.AddrSet{ID: 1, Addrs: []table.RealmPrefix{row}},
		&table.AddrSet{ID: 1, Addrs: []table.RealmPrefix{row, row}}, &table.AddrSet{Addrs: []table.RealmPrefix{row}},
		(*table.Ruleset)(nil), &table.Ruleset{}, &table.Ruleset{ID: 1}, &table.Ruleset{ID: 1, Rules: []*table.Rule{}},
		&table.Ruleset{ID: 1, Rules: []*table.Rule{rule}}, &table.Ruleset{ID: 1, Name: "n", Rules: []*table.Rule{rule}},
		&table.Ruleset{ID: 1, Rules: []*table.Rule{{ID: 7}}}, &table.Segment{ID: 1}, &table.Segment{ID: 1},
	}
	for i, a := range values {
		for j, b := range values {
			if got, want := equal(a, b), reflect.DeepEqual(a, b); got != want {
				t.Errorf("values %d and %d, %#v and %#v: got %v, want %v", i, j, a, b, got, want)
			}
		}
	}
}
