package compile

import (
	"fmt"
	"testing"

	"github.com/weft-net/weft/intent"
)

// TestNarrowAtom counts the ports that are looked at when a group comes or goes:
// those of the few that have the rarest of its tags, whichever came first and
// however its expression is written.
func TestNarrowAtom(t *testing.T) {
	const ports, zones, tiers = 200, 50, 2
	base := []intent.Change{
		intent.Put("/infra/tier-1s/t", &intent.Tier1{}),
		intent.Put("/infra/segments/s", &intent.Segment{
			Resource:         intent.Resource{Tags: []intent.Tag{{Scope: "cluster", Tag: "c"}}},
			ConnectivityPath: "/infra/tier-1s/t", Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.0.0.1/16"}},
		}),
	}
	for i := range ports {
		p := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{IPAddress: fmt.Sprintf("10.0.1.%d", i), MACAddress: fmt.Sprintf("02:00:00:00:00:%02x", i)}}}
		p.Tags = []intent.Tag{{Scope: "tier", Tag: fmt.Sprint(i % tiers)}, {Scope: "zone", Tag: fmt.Sprint(i % zones)}}
		base = append(base, intent.Put(fmt.Sprintf("/infra/segments/s/ports/p%d", i), p))
	}
	group := func(i int) intent.Change {
		condition := func(member, value string) *intent.Condition {
			return &intent.Condition{MemberType: member, Key: "Tag", Operator: "EQUALS", Value: value}
		}
		and := &intent.ConjunctionOperator{ConjunctionOperator: "AND"}
		return intent.Put(fmt.Sprintf("/infra/domains/default/groups/g%d", i), &intent.Group{Expression: []intent.Expression{
			&intent.NestedExpression{Expressions: []intent.Expression{
				condition("Segment", "cluster|c"), and, condition("SegmentPort", fmt.Sprintf("tier|%d", i%tiers)), and,
				condition("SegmentPort", fmt.Sprintf("zone|%d", i%zones)),
			}},
		}})
	}
	const first = 3 * zones
	for i := range first { // with the ports, in one Update
		base = append(base, group(i))
	}
	tree, c := intent.NewTree(), New()
	update := func(everything bool, changes ...intent.Change) int {
		t.Helper()
		changed, problems := tree.Apply(changes)
		if intent.HasErrors(problems) {
			t.Fatal(problems)
		}
		if everything {
			changed = nil
		}
		clear(c.g.stats[:])
		c.Update(tree, changed)
		return c.g.stats[factGroups]
	}
	update(true, base...)
	for i := range 3 * zones {
		if n := update(false, group(first+i)); n > ports/zones {
			t.Fatalf("group %d comes: %d ports are looked at, want %d", i, n, ports/zones)
		}
	}
	for i := range first + 3*zones {
		if n := update(false, intent.Delete(fmt.Sprintf("/infra/domains/default/groups/g%d", i))); n > ports/zones {
			t.Fatalf("group %d goes: %d ports are looked at, want %d", i, n, ports/zones)
		}
	}
}
