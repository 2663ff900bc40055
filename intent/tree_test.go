package intent

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestNewTreeHasTheDefaults(t *testing.T) {
	tr := NewTree()
	if tr.Len() != 4 {
		t.Errorf("has %d objects, want 4", tr.Len())
	}
	p, ok := Find[*SecurityPolicy](tr, DefaultPolicyPath)
	if !ok || p.Category != "Application" || p.SequenceNumber != 2147483647 || p.IsTCPStrict() || !p.IsStateful() {
		t.Errorf("default section is %+v", p)
	}
	r, ok := Find[*Rule](tr, DefaultRulePath)
	if !ok || r.RuleID != 2 || r.Action != "ALLOW" {
		t.Errorf("default rule is %+v", r)
	}
	for _, o := range tr.All() {
		c := &checker{t: tr, o: o, path: o.Meta().Path, changed: map[string]Object{o.Meta().Path: nil}}
		if c.check(); len(c.problems) > 0 {
			t.Error(c.problems)
		}
	}
}

// TestApplyIsAllOrNothing: one bad object among good ones leaves every index
// as it was.
func TestApplyIsAllOrNothing(t *testing.T) {
	tr, want := tree(t, red), tree(t, red)
	changed, problems := tr.Apply([]Change{
		Put("/infra/tier-1s/blue", &Tier1{Tier0Path: "/infra/tier-0s/provider"}),
		Put("/infra/segments/app", &Segment{ConnectivityPath: "/infra/tier-1s/blue", OverlayID: 7000}),
		Put("/infra/segments/bad", &Segment{ConnectivityPath: "/infra/tier-1s/green"}),
		Delete("/infra/domains/default/security-policies/shop"),
	})
	if changed != nil || len(problems) != 1 || problems[0].Kind != Dangling {
		t.Fatalf("changed %v, problems %v", changed, problems)
	}
	if d := cmp.Diff(want, tr, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
		t.Error(d)
	}
}

func TestApplyTellsWhatChanged(t *testing.T) {
	tr := tree(t, red)
	again := parse(t, red)
	changed, problems := tr.Apply(again)
	if len(changed) > 0 || len(problems) > 0 {
		t.Errorf("the same again: changed %v, problems %v", changed, problems)
	}
	slices.Reverse(again)
	fresh := NewTree()
	if _, problems := fresh.Apply(again); len(problems) > 0 {
		t.Errorf("in reverse order: %v", problems)
	}
	if d := cmp.Diff(tr, fresh, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
		t.Error("the order of changes shows:", d)
	}
}

// TestPairsReportOneSide: of two new objects that collide the later path is
// reported, once.
func TestPairsReportOneSide(t *testing.T) {
	tr := tree(t, red)
	_, problems := tr.Apply([]Change{
		Put("/infra/segments/b", &Segment{OverlayID: 9, ConnectivityPath: "/infra/tier-1s/red", Subnets: []SegmentSubnet{{GatewayAddress: "10.5.0.1/24"}}}),
		Put("/infra/segments/a", &Segment{OverlayID: 9, ConnectivityPath: "/infra/tier-1s/red", Subnets: []SegmentSubnet{{GatewayAddress: "10.5.0.1/25"}}}),
	})
	want := []string{
		"/infra/segments/b: overlay_id: 9: is already used by /infra/segments/a",
		"/infra/segments/b: subnets[0].gateway_address: 10.5.0.1/24: overlaps 10.5.0.1/25 of /infra/segments/a on /infra/tier-1s/red",
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestPutChecksForm: what Parse would never make, Go code can.
func TestPutChecksForm(t *testing.T) {
	other := Put("/infra/segments/a", &Segment{})
	other.Path = "/infra/segments/b"
	for _, row := range []struct {
		change Change
		want   string
	}{
		{Put("/infra/segments/a", &Tier1{}), "/infra/segments/a: path: /infra/segments/a: is no place for a Tier1"},
		{Put("/infra/segments/a", &Opaque{Resource{ResourceType: "X"}}), "/infra/segments/a: resource_type: X: does not fit the path (want Segment)"},
		{Put("segments", &Segment{}), "segments: path: segments: is not a policy path (such as /infra/tier-1s/red)"},
		{other, "/infra/segments/b: path: /infra/segments/a: is not the path of the change"},
		{Change{Path: "/infra/segments/a", Object: &Segment{Resource: Resource{ID: "a", Path: "/infra/segments/a"}}}, `/infra/segments/a: resource_type: "": does not fit a Segment`},
	} {
		_, problems := NewTree().Apply([]Change{row.change})
		if len(problems) != 1 || problems[0].String() != row.want {
			t.Errorf("got %v\nwant %s", problems, row.want)
		}
	}
}

func TestImplicitNATSection(t *testing.T) {
	tr := tree(t, red)
	path := "/infra/nodes/node1/nat/USER/nat-rules/masquerade"
	changed, problems := tr.Apply([]Change{Put(path, &PolicyNatRule{Action: "SNAT", TranslatedNetwork: "10.1.0.6"})})
	if d := cmp.Diff([]string{"/infra/nodes/node1/nat/USER", path}, changed); d != "" || len(problems) > 0 {
		t.Error(d, problems)
	}
	if got := tr.NATRulesOf("/infra/nodes/node1"); len(got) != 1 || got[0].Path != path {
		t.Errorf("rules are %v", got)
	}
}

func TestGroupCycleOverTwo(t *testing.T) {
	const dir = "/infra/domains/default/groups/"
	member := func(id string) []Expression { return []Expression{&PathExpression{Paths: []string{dir + id}}} }
	_, problems := NewTree().Apply([]Change{Put(dir+"a", &Group{Expression: member("b")}), Put(dir+"b", &Group{Expression: member("a")})})
	if len(problems) != 2 || problems[0].String() != dir+"a: expression: contains itself: "+dir+"b > "+dir+"a" {
		t.Errorf("problems %v", problems)
	}
}

func TestAccessors(t *testing.T) {
	tr := tree(t, red)
	const user = "/infra/tier-1s/red/nat/USER/nat-rules/"
	egress, _ := Find[*PolicyNatRule](tr, user+"egress")
	inside, _ := Find[*PolicyNatRule](tr, user+"inside")
	vm1, _ := Find[*SegmentPort](tr, "/infra/segments/web/ports/vm1")
	web, _ := Find[*Segment](tr, "/infra/segments/web")
	db, _ := Find[*Segment](tr, "/infra/tier-1s/red/segments/db")
	t0, _ := Find[*Tier0](tr, "/infra/tier-0s/provider")
	t1, _ := Find[*Tier1](tr, "/infra/tier-1s/red")
	group, _ := Find[*Group](tr, "/infra/domains/default/groups/web")
	rule, _ := Find[*Rule](tr, redRule)
	route, _ := Find[*StaticRoutes](tr, "/infra/tier-0s/provider/static-routes/default")
	ls, _ := Find[*LocaleServices](tr, "/infra/tier-0s/provider/locale-services/default")
	for _, row := range []struct {
		name      string
		want, got any
	}{
		{"any source", []netip.Prefix(nil), egress.Sources()},
		{"translated", netip.MustParsePrefix("172.16.1.1/32"), egress.Translated()},
		{"priority", uint32(1044), egress.Priority()},
		{"exempt", netip.Prefix{}, inside.Translated()},
		{"sources", prefixes("10.1.0.0/16"), inside.Sources()},
		{"bindings", []Binding{{netip.MustParseAddr("10.1.0.5"), MAC{2, 0, 0, 0, 0, 5}, 0}}, vm1.Bindings()},
		{"gateways", prefixes("10.1.0.1/24"), web.Gateways()},
		{"router by path", "/infra/tier-1s/red", web.RouterPath()},
		{"router by parent", "/infra/tier-1s/red", db.RouterPath()},
		{"segments", []*Segment{web, db}, tr.SegmentsOf("/infra/tier-1s/red")},
		{"NAT order", []*PolicyNatRule{inside, egress}, tr.NATRulesOf("/infra/tier-1s/red")},
		{"transit", prefixes("100.64.0.0/16"), t0.Transit()},
		{"advertises", true, t1.Advertises("TIER1_NAT", netip.MustParsePrefix("172.16.1.1/32"))},
		{"advertises not", false, t1.Advertises("TIER1_LB_VIP", netip.MustParsePrefix("172.16.1.1/32"))},
		{"redistributes", true, ls.Redistributes("TIER1_NAT")},
		{"uplink", prefixes("192.168.100.2/24"), tr.InterfacesOf("/infra/tier-0s/provider")[0].Addresses()},
		{"group addresses", prefixes("10.9.0.1/32", "10.9.0.2/31", "10.9.0.4/32"), group.Addresses()},
		{"group terms", [][]Expression{{group.Expression[0]}, {group.Expression[2]}}, group.Terms()},
		{"group member", true, group.Expression[0].(*Condition).Matches(vm1)},
		{"rule sources", Peers{Any: true}, rule.Sources()},
		{"rule destinations", Peers{Groups: []string{group.Path}}, rule.Destinations()},
		{"rule services", []ServiceMatch{{6, 80, 80}, {6, 8000, 8080}}, tr.RuleServices(rule)},
		{"route", netip.MustParsePrefix("0.0.0.0/0"), route.Prefix()},
		{"next hops", []NextHop{{netip.MustParseAddr("192.168.100.1"), 1}}, route.Hops()},
		{"edge", true, tr.HasEdge("/infra/tier-1s/red")},
		{"referrers", []string{"/infra/segments/web"}, tr.Referrers("/infra/tier-1s/red")},
	} {
		if !reflect.DeepEqual(row.want, row.got) {
			t.Errorf("%s: want %v, got %v", row.name, row.want, row.got)
		}
	}
}

func TestConditionMatches(t *testing.T) {
	o := &SegmentPort{Resource: Resource{ID: "web-1", Tags: []Tag{{Scope: "app", Tag: "web"}, {Tag: "plain"}}}}
	for _, row := range []struct {
		c    Condition
		want bool
	}{
		{Condition{Key: "ALL"}, true},
		{Condition{Key: "Name", Operator: "STARTSWITH", Value: "web"}, true},
		{Condition{Key: "Name", Operator: "ENDSWITH", Value: "web"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "app|web"}, true},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "app|db"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "app|"}, true},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "tier|"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "|plain"}, true},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "|web"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", Value: "web"}, true},
		{Condition{Key: "Tag", Operator: "IN", Value: "app|db,web"}, true},
		{Condition{Key: "Tag", Operator: "NOTIN", Value: "app|db,web"}, false},
		{Condition{Key: "Tag", Operator: "NOTEQUALS", Value: "app|db"}, true},
		{Condition{Key: "Tag", Operator: "NOTEQUALS", Value: "app|web"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", ScopeOperator: "NOTEQUALS", Value: "app|"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", ScopeOperator: "NOTEQUALS", Value: "tier|"}, true},
		{Condition{Key: "Tag", Operator: "EQUALS", ScopeOperator: "NOTEQUALS", Value: "app|web"}, false},
		{Condition{Key: "Tag", Operator: "EQUALS", ScopeOperator: "NOTEQUALS", Value: "app|db"}, true},
		{Condition{Key: "Tag", Operator: "EQUALS", ScopeOperator: "NOTEQUALS", Value: "web"}, false},
		// Two denials are one: no tag is app|web, no tag is app|db.
		{Condition{Key: "Tag", Operator: "NOTEQUALS", ScopeOperator: "NOTEQUALS", Value: "app|web"}, false},
		{Condition{Key: "Tag", Operator: "NOTEQUALS", ScopeOperator: "NOTEQUALS", Value: "app|db"}, true},
		{Condition{Key: "Tag", Operator: "NOTIN", ScopeOperator: "NOTEQUALS", Value: "app|db,web"}, false},
		{Condition{Key: "Tag", Operator: "NOTIN", ScopeOperator: "NOTEQUALS", Value: "app|db,x"}, true},
		{Condition{Key: "Tag", Operator: "NOTIN", ScopeOperator: "NOTEQUALS", Value: "tier|"}, true},
		{Condition{Key: "Tag", Operator: "CONTAINS", ScopeOperator: "NOTEQUALS", Value: "app|e"}, false},
		{Condition{Key: "Name", Operator: "NOTIN", Value: "x,web"}, true},
	} {
		if got := row.c.Matches(o); got != row.want {
			t.Errorf("%+v: got %v", row.c, got)
		}
	}
}

func TestRangePrefixes(t *testing.T) {
	for _, row := range []struct {
		text string
		want []netip.Prefix
	}{
		{"0.0.0.0-255.255.255.255", prefixes("0.0.0.0/0")},
		{"10.0.0.255-10.0.1.0", prefixes("10.0.0.255/32", "10.0.1.0/32")},
		{"10.0.0.1-10.0.0.1", prefixes("10.0.0.1/32")},
		{"255.255.255.254-255.255.255.255", prefixes("255.255.255.254/31")},
		{"2001:db8::-2001:db8::2", prefixes("2001:db8::/127", "2001:db8::2/128")},
	} {
		got, f := parseAddresses(row.text)
		if d := cmp.Diff(row.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" || f != nil {
			t.Error(row.text, d, f)
		}
	}
}

// rules returns a Tree with n rules in policies of 100, each naming the group
// web.
func rules(tb testing.TB, n int) *Tree {
	tr := tree(tb, red)
	var changes []Change
	for i := range n {
		policy := fmt.Sprintf("/infra/domains/default/security-policies/p%d", i/100)
		if i%100 == 0 {
			changes = append(changes, Put(policy, &SecurityPolicy{Category: "Application"}))
		}
		changes = append(changes, Put(fmt.Sprintf("%s/rules/r%d", policy, i), &Rule{
			Action: "ALLOW", RuleID: int64(1000 + i), SourceGroups: []string{"10.0.0.0/8"},
			DestinationGroups: []string{"/infra/domains/default/groups/web"}, Services: []string{"/infra/services/http"},
		}))
	}
	if _, problems := tr.Apply(changes); len(problems) > 0 {
		tb.Fatal(problems)
	}
	return tr
}

// oneChange puts one rule and the group that all rules name.
func oneChange(tb testing.TB, tr *Tree, i int) {
	changed, problems := tr.Apply([]Change{
		Put("/infra/domains/default/security-policies/p0/rules/r0", &Rule{Action: "DROP", SequenceNumber: i + 1}),
		Put("/infra/domains/default/groups/web", &Group{Expression: []Expression{
			&IPAddressExpression{IPAddresses: []string{fmt.Sprintf("10.%d.0.0/16", i%256)}},
		}}),
	})
	if len(problems) > 0 || len(changed) != 2 {
		tb.Fatalf("changed %v, problems %v", changed, problems)
	}
}

// TestApplyCostIsIncremental compares a small tree with a large one; the factor
// is loose, a scan of the tree would be a hundred times over it.
func TestApplyCostIsIncremental(t *testing.T) {
	const rounds = 50
	cost := func(n int) time.Duration {
		tr := rules(t, n)
		best := time.Hour
		for i := range rounds {
			start := time.Now()
			oneChange(t, tr, i)
			best = min(best, time.Since(start))
		}
		return best
	}
	small, large := cost(100), cost(20000)
	if large > 20*small+time.Millisecond {
		t.Errorf("a change costs %v among 100 rules and %v among 20000", small, large)
	}
}

func BenchmarkApplyOneOf100000(b *testing.B) {
	tr := rules(b, 100000)
	for i := 0; b.Loop(); i++ {
		oneChange(b, tr, i)
	}
}
