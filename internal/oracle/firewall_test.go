package oracle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/intent"
)

// TestFirewallRules builds each rule list alone between two ports of a segment
// and asks for the first's packet to the second.
func TestFirewallRules(t *testing.T) {
	const a, b = "/infra/segments/web/ports/a", "/infra/segments/web/ports/b"
	type rule struct {
		category string
		rule     intent.Rule
	}
	rows := []struct {
		name  string
		rules []rule
		want  string
	}{
		{"none", nil, "b"},
		{"no category, before the default rule", []rule{{"", intent.Rule{Action: "DROP"}}, {"Application", intent.Rule{Action: "DROP", Disabled: true}}}, "dfw_rule r0"},
		{"no category, after all others", []rule{{"", intent.Rule{Action: "DROP"}}, {"Application", intent.Rule{Action: "ALLOW"}}}, "b"},
		{"drop", []rule{{"Application", intent.Rule{Action: "DROP"}}}, "dfw_rule r0"},
		{"reject", []rule{{"Application", intent.Rule{Action: "REJECT"}}}, "dfw_rule r0, rst 10.1.0.6"},
		{"disabled", []rule{{"Application", intent.Rule{Action: "DROP", Disabled: true}}}, "b"},
		{"ipv6", []rule{{"Application", intent.Rule{Action: "DROP", IPProtocol: "IPV6"}}}, "b"},
		{"categories", []rule{{"Application", intent.Rule{Action: "DROP"}}, {"Emergency", intent.Rule{Action: "ALLOW"}}}, "b"},
		{"ethernet allow goes on", []rule{{"Ethernet", intent.Rule{Action: "ALLOW"}}, {"Infrastructure", intent.Rule{Action: "DROP"}}}, "dfw_rule r1"},
		{"ethernet allow ends ethernet", []rule{{"Ethernet", intent.Rule{Action: "ALLOW"}}, {"Ethernet", intent.Rule{Action: "DROP"}}}, "b"},
		{"ethernet drop", []rule{{"Ethernet", intent.Rule{Action: "DROP"}}}, "dfw_rule r0"},
		{"jump", []rule{{"Environment", intent.Rule{Action: "JUMP_TO_APPLICATION"}}, {"Environment", intent.Rule{Action: "DROP"}}}, "b"},
		{"after jump", []rule{{"Environment", intent.Rule{Action: "JUMP_TO_APPLICATION"}}, {"Application", intent.Rule{Action: "DROP"}}}, "dfw_rule r1"},
		{"in at source", []rule{{"Application", intent.Rule{Action: "DROP", Direction: "IN", Scope: []string{a}}}}, "b"},
		{"out at source", []rule{{"Application", intent.Rule{Action: "DROP", Direction: "OUT", Scope: []string{a}}}}, "dfw_rule r0"},
		{"in at destination", []rule{{"Application", intent.Rule{Action: "DROP", Direction: "IN", Scope: []string{b}}}}, "dfw_rule r0"},
		{"scope of a segment", []rule{{"Application", intent.Rule{Action: "DROP", Scope: []string{"/infra/segments/web"}}}}, "dfw_rule r0"},
		{"scope of another", []rule{{"Application", intent.Rule{Action: "DROP", Scope: []string{"/infra/segments/db"}}}}, "b"},
		{"sources", []rule{{"Application", intent.Rule{Action: "DROP", SourceGroups: []string{"10.1.0.5-10.1.0.5"}}}}, "dfw_rule r0"},
		{"sources excluded", []rule{{"Application", intent.Rule{Action: "DROP", SourceGroups: []string{"10.1.0.4/31"}, SourcesExcluded: true}}}, "b"},
		{"destinations excluded", []rule{{"Application", intent.Rule{Action: "DROP", DestinationGroups: []string{"10.1.0.5"}, DestinationsExcluded: true}}}, "dfw_rule r0"},
		{"port", []rule{{"Application", intent.Rule{Action: "DROP", ServiceEntries: []intent.ServiceEntry{&intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"79-80"}}}}}}, "dfw_rule r0"},
		{"other port", []rule{{"Application", intent.Rule{Action: "DROP", ServiceEntries: []intent.ServiceEntry{&intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"81"}}}}}}, "b"},
		{"protocol", []rule{{"Application", intent.Rule{Action: "DROP", ServiceEntries: []intent.ServiceEntry{&intent.IPProtocolServiceEntry{ProtocolNumber: 6}}}}}, "dfw_rule r0"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			w := newWorld(t)
			w.segment("web", w.tier1("red"), "10.1.0.1/24", "a 10.1.0.5", "b 10.1.0.6")
			w.segment("db", "/infra/tier-1s/red", "10.1.1.1/24")
			for i, x := range r.rules {
				w.put(w.policy(fmt.Sprint("p", i), x.category)+fmt.Sprint("/rules/r", i), &x.rule)
			}
			want := strings.Replace(r.want, "b", "b 10.1.0.5>10.1.0.6:80", 1)
			w.judge(row{"web/a 10.1.0.5 10.1.0.6 tcp/80 l2", want})
		})
	}
}

// TestFirewallLists is the policy's scope, the exclude list and the default
// rule.
func TestFirewallLists(t *testing.T) {
	w := newWorld(t)
	w.segment("web", w.tier1("red"), "10.1.0.1/24", "a 10.1.0.5", "b 10.1.0.6", "c 10.1.0.7")
	const port = "/infra/segments/web/ports/"
	const ab, ac = "web/a 10.1.0.5 10.1.0.6 tcp/80 l2", "web/a 10.1.0.5 10.1.0.7 tcp/80 l2"
	drop := w.policy("drop", "Application", port+"b")
	w.put(drop+"/rules/r", &intent.Rule{Action: "DROP", Scope: []string{port + "c"}})
	w.judge(row{ab, "dfw_rule r"}, row{ac, "c 10.1.0.5>10.1.0.7:80"})
	w.put(drop+"/rules/a", &intent.Rule{Action: "REJECT", SequenceNumber: 1})
	w.judge(row{ab, "dfw_rule r"})
	w.put(intent.DefaultRulePath, &intent.Rule{RuleID: 2, Action: "DROP", IsDefault: true})
	w.judge(row{ab, "dfw_rule default-layer3-rule"}, row{ac, "dfw_rule default-layer3-rule"})
	w.put(intent.ExcludeListPath, &intent.PolicyExcludeList{Members: []string{port + "a", w.tagged("c", "app|c")}})
	w.judge(row{ab, "dfw_rule r"}, row{ac, "c 10.1.0.5>10.1.0.7:80"})
}

// TestGroups is which of the ports a and b, on segment web, and of the address
// 198.51.100.9 a group has.
func TestGroups(t *testing.T) {
	cond := func(member, key, operator, value string) *intent.Condition {
		return &intent.Condition{MemberType: member, Key: key, Operator: operator, Value: value}
	}
	tag := func(operator, value string) *intent.Condition { return cond("SegmentPort", "Tag", operator, value) }
	and := &intent.ConjunctionOperator{ConjunctionOperator: "AND"}
	or := &intent.ConjunctionOperator{ConjunctionOperator: "OR"}
	deny := func(operator, value string) *intent.Condition {
		c := tag(operator, value)
		c.ScopeOperator = "NOTEQUALS"
		return c
	}
	rows := []struct {
		name string
		expr []intent.Expression
		want string
	}{
		{"empty", nil, ""},
		{"all", []intent.Expression{cond("SegmentPort", "ALL", "", "")}, "a b"},
		{"tag", []intent.Expression{tag("EQUALS", "app|a")}, "a"},
		{"tag of any scope", []intent.Expression{tag("EQUALS", "b")}, "b"},
		{"tag of no scope", []intent.Expression{tag("EQUALS", "|a")}, ""},
		{"any tag of a scope", []intent.Expression{tag("EQUALS", "app|")}, "a b"},
		{"tag not equal", []intent.Expression{tag("NOTEQUALS", "app|a")}, "b"},
		{"tag in", []intent.Expression{tag("IN", "app|x,a")}, "a"},
		{"tag not in", []intent.Expression{tag("NOTIN", "app|x,a")}, "b"},
		{"scope not equal", []intent.Expression{deny("EQUALS", "app|a")}, "b"},
		{"scope and tag not equal", []intent.Expression{deny("NOTEQUALS", "app|a")}, "b"},
		{"scope not equal, tag not in", []intent.Expression{deny("NOTIN", "app|x,a")}, "b"},
		{"scope not equal, any tag of it", []intent.Expression{deny("EQUALS", "app|")}, ""},
		{"scope not equal, no scope given", []intent.Expression{deny("EQUALS", "a")}, "b"},
		{"name", []intent.Expression{cond("SegmentPort", "Name", "STARTSWITH", "a")}, "a"},
		{"name not equal", []intent.Expression{cond("SegmentPort", "Name", "NOTEQUALS", "a")}, "b"},
		{"segment", []intent.Expression{cond("Segment", "Name", "ENDSWITH", "eb")}, "a b"},
		{"addresses", []intent.Expression{&intent.IPAddressExpression{IPAddresses: []string{"10.1.0.6", "198.51.100.0/24"}}}, "b out"},
		{"MAC", []intent.Expression{&intent.MACAddressExpression{MACAddresses: []string{"02:00:00:00:00:01"}}}, "a"},
		{"port path", []intent.Expression{&intent.PathExpression{Paths: []string{"/infra/segments/web/ports/b"}}}, "b"},
		{"segment path", []intent.Expression{&intent.PathExpression{Paths: []string{"/infra/segments/web"}}}, "a b"},
		{"group path", []intent.Expression{&intent.PathExpression{Paths: []string{domain + "groups/outside"}}}, "out"},
		{"and", []intent.Expression{tag("EQUALS", "app|a"), and, cond("SegmentPort", "Name", "EQUALS", "b")}, ""},
		{"and before or", []intent.Expression{tag("EQUALS", "app|a"), or, tag("EQUALS", "app|b"), and, tag("EQUALS", "app|a")}, "a"},
		{"nested", []intent.Expression{&intent.NestedExpression{Expressions: []intent.Expression{tag("EQUALS", "ns|web"), and, tag("EQUALS", "app|b")}}}, "b"},
	}
	w := newWorld(t)
	w.segment("web", w.tier1("red"), "10.1.0.1/24", "a 10.1.0.5", "b 10.1.0.6")
	w.group("outside", &intent.IPAddressExpression{IPAddresses: []string{"198.51.100.9"}})
	o := New(w.tree, Facts{Transit: links})
	at, _ := intent.Find[*intent.SegmentPort](w.tree, "/infra/segments/web/ports/a")
	for _, r := range rows {
		peers := intent.Peers{Groups: []string{w.group("g", r.expr...)}}
		var have []string
		for _, a := range []struct{ name, addr string }{{"a", "10.1.0.5"}, {"b", "10.1.0.6"}, {"out", "198.51.100.9"}} {
			if o.side(peers, false, o.whoIs(netip.MustParseAddr(a.addr), owner(o.segmentOf(at)))) {
				have = append(have, a.name)
			}
		}
		if !slices.Equal(have, strings.Fields(r.want)) {
			t.Errorf("%s: members %v, want %s", r.name, have, r.want)
		}
	}
}

// TestOverlappingTenants: 10.1.0.5 is each tenant's own db.
func TestOverlappingTenants(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"red", "blue"} {
		w.segment(name, w.tier1(name), "10.1.0.1/24", "web 10.1.0.4", name+"db 10.1.0.5")
	}
	w.put(w.policy("p", "Application")+"/rules/red-db", &intent.Rule{Action: "DROP", DestinationGroups: []string{w.tagged("g", "app|reddb")}})
	w.judge(
		row{"red/web 10.1.0.4 10.1.0.5 tcp/5432 l2", "dfw_rule red-db"},
		row{"blue/web 10.1.0.4 10.1.0.5 tcp/5432 l2", "bluedb 10.1.0.4>10.1.0.5:5432"},
	)
}
