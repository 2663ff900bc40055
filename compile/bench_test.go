package compile

import (
	"fmt"
	"testing"

	"github.com/weft-net/weft/intent"
)

// The sizes of the benchmark: policies of ten rules, each applied to one group
// of five ports, on segments of fifty ports.
const (
	benchPolicies = 1000
	benchRules    = 10
	benchPorts    = 5000
	benchSegments = 100
)

func benchPort(i int, tag string) intent.Change {
	s := i % benchSegments
	p := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{
		IPAddress: fmt.Sprintf("10.%d.0.%d", s, 2+i/benchSegments), MACAddress: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255),
	}}}
	p.Tags = []intent.Tag{{Scope: "app", Tag: tag}}
	return intent.Put(fmt.Sprintf("/infra/segments/s%d/ports/p%d", s, i), p)
}

func benchRule(policy, i int, action string) intent.Change {
	group := func(n int) []string {
		return []string{fmt.Sprintf("/infra/domains/default/groups/g%d", n%benchPolicies)}
	}
	return intent.Put(fmt.Sprintf("/infra/domains/default/security-policies/p%d/rules/r%d", policy, i), &intent.Rule{
		Action: action, SequenceNumber: i, Direction: "IN",
		SourceGroups: group(policy + i + 1), DestinationGroups: group(policy),
	})
}

func benchTree(b *testing.B) *intent.Tree {
	var all []intent.Change
	for i := range benchSegments {
		t1 := fmt.Sprintf("/infra/tier-1s/t%d", i)
		all = append(all, intent.Put(t1, &intent.Tier1{}), intent.Put(fmt.Sprintf("/infra/segments/s%d", i), &intent.Segment{
			ConnectivityPath: t1, Subnets: []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.%d.0.1/24", i)}},
		}))
	}
	for i := range benchPorts {
		all = append(all, benchPort(i, fmt.Sprintf("g%d", i%benchPolicies)))
	}
	for p := range benchPolicies {
		group := fmt.Sprintf("/infra/domains/default/groups/g%d", p)
		all = append(all,
			intent.Put(group, &intent.Group{Expression: []intent.Expression{
				&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: fmt.Sprintf("app|g%d", p)},
			}}),
			intent.Put(fmt.Sprintf("/infra/domains/default/security-policies/p%d", p), &intent.SecurityPolicy{
				Category: "Application", SequenceNumber: p, Scope: []string{group},
			}))
		for r := range benchRules {
			all = append(all, benchRule(p, r, "ALLOW"))
		}
	}
	tree := intent.NewTree()
	apply(b, tree, all)
	return tree
}

// What it costs to compile 10 000 rules in 1 000 policies over 1 000 groups and
// 5 000 ports from nothing, and to follow one change among them.
func BenchmarkUpdate(b *testing.B) {
	tree := benchTree(b)
	c := fromNothing(b, tree)
	follow(b, "one rule", tree, c, func(i int) intent.Change { return benchRule(7, 3, []string{"DROP", "ALLOW"}[i%2]) })
	follow(b, "one port tag", tree, c, func(i int) intent.Change { return benchPort(1234, []string{"g1", "g234"}[i%2]) })
}

// A change builds the facts that it touches and no others: an upper bound for
// each kind that would grow with the size of the intent if it did not.
func TestUpdateBuildsWhatTheChangeTouches(t *testing.T) {
	tree := intent.NewTree()
	apply(t, tree, parseFile(t, "tenants.yaml"))
	c := New()
	c.Update(tree, nil)
	step := func(name string, change intent.Change, most map[kind]int) {
		t.Helper()
		clear(c.g.stats[:])
		before, _ := c.Update(tree, []string{"/infra/none"})
		after, _ := c.Update(tree, apply(t, tree, []intent.Change{change}))
		if before["host1"] == after["host1"] {
			t.Errorf("%s: the Set did not change", name)
		}
		for k, n := range c.g.stats {
			if n > most[kind(k)] {
				t.Errorf("%s: kind %d was built %d times (at most %d)", name, k, n, most[kind(k)])
			}
		}
	}
	db, _ := intent.Find[*intent.SegmentPort](tree, "/infra/segments/red-db/ports/db")
	other := *db
	other.Tags = nil
	step("one port tag", intent.Put(db.Path, &other), map[kind]int{
		factPort: 1, factGroups: 1, factRows: 1, factProfileKey: 1, factProfile: 1, factEndpoint: 1,
		factAddrSet: 3, factRuleset: 3,
	})
	rule, _ := intent.Find[*intent.Rule](tree, "/infra/domains/default/security-policies/shop/rules/web-db")
	drop := *rule
	drop.Action = "DROP"
	step("one rule", intent.Put(rule.Path, &drop), map[kind]int{
		factSides: 1, factProfile: 5, factRuleset: 10, factEndpoint: 5,
	})
	nat, _ := intent.Find[*intent.PolicyNatRule](tree, "/infra/nodes/node1/nat/USER/nat-rules/masquerade")
	exempt := *nat
	exempt.Action, exempt.TranslatedNetwork = "NO_SNAT", ""
	step("one NAT rule", intent.Put(nat.Path, &exempt), map[kind]int{factNATRule: 1, factNATList: 1, factNATDepth: 1, factRoute: 1})
}

// What did not change is shared with the Set before, by pointer.
func TestUpdateSharesWhatDidNotChange(t *testing.T) {
	tree := intent.NewTree()
	apply(t, tree, parseFile(t, "tenants.yaml"))
	c := New()
	sets, _ := c.Update(tree, nil)
	before := only(t, sets)
	sets, _ = c.Update(tree, nil)
	if only(t, sets) != before {
		t.Errorf("compiling the same tree again gave another Set")
	}
	apply(t, tree, []intent.Change{intent.Delete("/infra/segments/pods/ports/pod1")})
	sets, _ = c.Update(tree, []string{"/infra/segments/pods/ports/pod1"})
	after := only(t, sets)
	for key, e := range after.Endpoints.All() {
		if before.Endpoints.Get(key) != e {
			t.Errorf("endpoint %v: was copied", key)
		}
	}
	for key, r := range after.Routes.All() {
		if before.Routes.Get(key) != r {
			t.Errorf("route %v: was copied", key)
		}
	}
	if after.Ports.Len() != before.Ports.Len()-1 {
		t.Errorf("ports: got %d, want %d", after.Ports.Len(), before.Ports.Len()-1)
	}
}
