package compile

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/intent"
)

// data is a large intent whose objects follow from its sizes alone.
type data struct {
	tier1s   int
	segments int // spread over the Tier-1s
	ports    int // spread over the segments, each with four tags
	apps     int // tags of scope app
	groups   int // of six sorts, see group
	policies int
	rules    int // per policy
}

// large is what the aims are for: 100 000 rules in 10 000 policies over 10 000
// groups and 20 000 ports.
var large = data{tier1s: 100, segments: 1000, ports: 20000, apps: 5000, groups: 10000, policies: 10000, rules: 10}

// mix returns a number below n that looks random but follows from the inputs.
func mix(n int, inputs ...int) int {
	h := uint64(14695981039346656037)
	for _, i := range inputs {
		h = (h ^ uint64(i)) * 1099511628211
		h ^= h >> 29
	}
	return int(h % uint64(n))
}

func dataSegment(i int) string { return fmt.Sprintf("/infra/segments/s%d", i) }
func dataGroup(i int) string   { return fmt.Sprintf("/infra/domains/default/groups/g%d", i) }
func dataPolicy(i int) string {
	return fmt.Sprintf("/infra/domains/default/security-policies/p%d", i)
}

// build returns the Tree of everything.
func (d data) build(t testing.TB) *intent.Tree {
	all := d.network()
	for i := range d.ports {
		all = append(all, d.port(i, i%d.apps))
	}
	for i := range 200 {
		path := fmt.Sprintf("/infra/services/svc%d", i)
		all = append(all, intent.Put(path, &intent.Service{}), intent.Put(path+"/service-entries/e", &intent.L4PortSetServiceEntry{
			L4Protocol: "TCP", DestinationPorts: []string{fmt.Sprint(1000 + i), fmt.Sprint(3000 + i)},
		}))
	}
	for i := range d.groups {
		all = append(all, intent.Put(dataGroup(i), &intent.Group{Expression: d.expression(i)}))
	}
	for p := range d.policies {
		all = append(all, intent.Put(dataPolicy(p), d.policy(p)))
		for r := range d.rules {
			all = append(all, d.rule(p, r, "ALLOW"))
		}
	}
	tree := intent.NewTree()
	apply(t, tree, all)
	return tree
}

// network returns Tier-0, Tier-1s and segments.
func (d data) network() []intent.Change {
	out := []intent.Change{
		intent.Put("/infra/tier-0s/t0", &intent.Tier0{}),
		intent.Put("/infra/tier-0s/t0/locale-services/d", &intent.LocaleServices{EdgeClusterPath: edgeCluster}),
		intent.Put("/infra/tier-0s/t0/locale-services/d/interfaces/u", &intent.Tier0Interface{
			Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.100.2"}, PrefixLen: 24}},
		}),
	}
	for i := range d.tier1s {
		out = append(out, intent.Put(fmt.Sprintf("/infra/tier-1s/t%d", i), &intent.Tier1{
			Tier0Path: "/infra/tier-0s/t0", RouteAdvertisementTypes: []string{"TIER1_CONNECTED"},
		}))
	}
	for i := range d.segments {
		s := &intent.Segment{
			ConnectivityPath: fmt.Sprintf("/infra/tier-1s/t%d", i%d.tier1s),
			Subnets:          []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.%d.%d.1/24", i/250, i%250)}},
		}
		s.Tags = []intent.Tag{{Scope: "zone", Tag: fmt.Sprintf("z%d", i)}}
		out = append(out, intent.Put(dataSegment(i), s))
	}
	return out
}

// port puts a port with a tag of an app.
func (d data) port(i, app int) intent.Change {
	s := i % d.segments
	p := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{
		IPAddress: fmt.Sprintf("10.%d.%d.%d", s/250, s%250, 2+i/d.segments), MACAddress: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255),
	}}}
	p.Tags = []intent.Tag{
		{Scope: "app", Tag: fmt.Sprintf("a%d", app)},
		{Scope: "tier", Tag: []string{"web", "app", "db"}[mix(3, i, 1)]},
		{Scope: "env", Tag: []string{"prod", "test", "dev"}[mix(3, i, 2)]},
		{Scope: "os", Tag: fmt.Sprintf("os%d", mix(20, i, 3))},
	}
	return intent.Put(fmt.Sprintf("%s/ports/p%d", dataSegment(s), i), p)
}

func tagged(member, value string) intent.Expression {
	return &intent.Condition{MemberType: member, Key: "Tag", Operator: "EQUALS", Value: value}
}

func joined(and string, list ...intent.Expression) []intent.Expression {
	var out []intent.Expression
	for i, e := range list {
		if i > 0 {
			out = append(out, &intent.ConjunctionOperator{ConjunctionOperator: and})
		}
		out = append(out, e)
	}
	return out
}

// expression returns what selects group i: half of the groups are one app; the
// others a part of two apps, a part of a segment, written addresses, other
// groups with a segment; 30 are wide: an operating system, or a prefix of names.
func (d data) expression(i int) []intent.Expression {
	app := func(n int) intent.Expression { return tagged("SegmentPort", fmt.Sprintf("app|a%d", n%d.apps)) }
	tier := tagged("SegmentPort", "tier|"+[]string{"web", "app", "db"}[i/10%3])
	switch {
	case i < 20:
		return joined("AND", tagged("SegmentPort", fmt.Sprintf("os|os%d", i)))
	case i < 30:
		return joined("OR", &intent.Condition{MemberType: "SegmentPort", Key: "Name", Operator: "STARTSWITH", Value: fmt.Sprintf("p%d", i)})
	case i%10 < 5:
		return joined("AND", app(i/10*5+i%10))
	case i%10 == 5:
		inner := joined("AND", app(i), tier)
		return joined("OR", &intent.NestedExpression{Expressions: inner}, app(i+1))
	case i%10 == 6:
		zone := tagged("Segment", fmt.Sprintf("zone|z%d", i/10%d.segments))
		return joined("AND", zone, tier)
	case i%10 < 9:
		return joined("OR", &intent.IPAddressExpression{IPAddresses: []string{
			fmt.Sprintf("172.%d.%d.0/26", 16+i%16, i/16%256), fmt.Sprintf("192.%d.%d.1-192.%d.%d.6", i%256, i/256, i%256, i/256),
		}})
	}
	return joined("OR", &intent.PathExpression{Paths: []string{dataGroup(i - 9), dataGroup(i - 1), dataSegment(i % d.segments)}})
}

// policy returns policy p: most work on one group, the rest everywhere.
func (d data) policy(p int) *intent.SecurityPolicy {
	out := &intent.SecurityPolicy{Category: "Application", SequenceNumber: p}
	switch {
	case p < 5:
		out.Category = "Infrastructure"
	case p%5 > 0:
		out.Scope = []string{dataGroup(p / 10 * 10 % d.groups), dataGroup((p/10*10 + p%7) % d.groups)}
	}
	return out
}

// rule puts rule r of policy p: between two groups, of one service; the first
// rules of the first policies are for everyone.
func (d data) rule(p, r int, action string) intent.Change {
	one := func(salt int) []string { return []string{dataGroup(30 + mix(d.groups-30, p, r, salt))} }
	out := &intent.Rule{
		Action: action, SequenceNumber: r, SourceGroups: one(1), DestinationGroups: one(2),
		Services: []string{fmt.Sprintf("/infra/services/svc%d", mix(200, p, r, 3))},
	}
	if p < 5 {
		out.DestinationGroups = nil
	}
	if r%3 == 0 {
		out.Direction = "IN"
	}
	if r == 5 {
		out.DestinationGroups = append(out.DestinationGroups, dataGroup(mix(30, p)))
	}
	return intent.Put(fmt.Sprintf("%s/rules/r%d", dataPolicy(p), r), out)
}

// inUse returns the bytes of the heap that are in use after a collection.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fromNothing measures that and returns the Compiler of it.
func fromNothing(b *testing.B, tree *intent.Tree) *Compiler {
	b.Run("from nothing", func(b *testing.B) {
		b.ReportAllocs()
		before := inUse()
		var c *Compiler
		for b.Loop() {
			c = New() // the one before is no longer in use
			c.Update(tree, nil)
		}
		b.ReportMetric(float64(inUse()-before)/1e6, "MB-kept")
		runtime.KeepAlive(c)
	})
	c := New()
	c.Update(tree, nil)
	return c
}

// follow measures one change after the other, each followed by an Update.
func follow(b *testing.B, name string, tree *intent.Tree, c *Compiler, change func(i int) intent.Change) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		var slowest time.Duration
		for i := 0; b.Loop(); i++ {
			one := []intent.Change{change(i)}
			start := time.Now()
			changed, problems := tree.Apply(one)
			if intent.HasErrors(problems) || len(changed) == 0 {
				b.Fatalf("%s: changes %v: %v", one[0].Path, changed, problems)
			}
			c.Update(tree, changed)
			slowest = max(slowest, time.Since(start))
		}
		b.ReportMetric(float64(slowest.Milliseconds()), "ms-slowest")
	})
}

// What it costs to compile 100 000 rules in 10 000 policies over 10 000 groups
// and 20 000 ports from nothing, and to follow one change among them.
// Aims: 5 s, and 20 ms for one rule or one label.
func BenchmarkLarge(b *testing.B) {
	tree := large.build(b)
	c := fromNothing(b, tree)
	s := c.sets["host1"]
	rows := 0
	for _, r := range s.Rulesets.All() {
		rows += len(r.Rules)
	}
	b.Logf("%d ports, %d endpoints, %d routes, %d address sets, %d rulesets with %d rows; %d facts",
		s.Ports.Len(), s.Endpoints.Len(), s.Routes.Len(), s.AddrSets.Len(), s.Rulesets.Len(), rows, c.g.facts.size)
	follow(b, "one rule", tree, c, func(i int) intent.Change { return large.rule(77, 3, []string{"DROP", "ALLOW"}[i%2]) })
	follow(b, "one rule for everyone", tree, c, func(i int) intent.Change { return large.rule(3, 3, []string{"DROP", "ALLOW"}[i%2]) })
	follow(b, "one label", tree, c, func(i int) intent.Change { return large.port(12345, mix(large.apps, i)) })
	follow(b, "one address", tree, c, func(i int) intent.Change {
		g := &intent.Group{Expression: joined("OR", &intent.IPAddressExpression{IPAddresses: []string{fmt.Sprintf("198.51.100.%d", i%250)}})}
		return intent.Put(dataGroup(58), g)
	})
}

// crowd is a world for shapes that a careless algorithm is slow on: n ports
// with one tag, spread over 200 segments.
func crowd(n int) []intent.Change {
	d := data{tier1s: 20, segments: 200, apps: 1}
	all := d.network()
	for i := range n {
		all = append(all, d.port(i, 0))
	}
	return all
}

func condition(value string) *intent.Group {
	return &intent.Group{Expression: joined("OR", tagged("SegmentPort", value))}
}

// shape measures an intent from nothing and with one port going to and fro.
func shape(b *testing.B, all []intent.Change, rules func(i int) intent.Change) {
	tree := intent.NewTree()
	apply(b, tree, all)
	c := fromNothing(b, tree)
	d := data{segments: 200}
	follow(b, "one label", tree, c, func(i int) intent.Change { return d.port(77, 1-i%2) })
	follow(b, "one rule", tree, c, rules)
}

// Shapes in which one thing has very many of another.
func BenchmarkShapes(b *testing.B) {
	rule := func(i int, action string, r intent.Rule) intent.Change {
		r.Action, r.SequenceNumber = action, i%10
		return intent.Put(fmt.Sprintf("%s/rules/r%d", dataPolicy(i/10), i%10), &r)
	}
	policies := func(n int) []intent.Change {
		var out []intent.Change
		for i := range n {
			out = append(out, intent.Put(dataPolicy(i), &intent.SecurityPolicy{Category: "Application", SequenceNumber: i}))
		}
		return out
	}
	toggle := func(i int) string { return []string{"DROP", "ALLOW"}[i%2] }
	one := []string{dataGroup(0)}
	group := intent.Put(dataGroup(0), condition("app|a0"))

	b.Run("10000 rules from and to one group", func(b *testing.B) {
		all := append(slices.Concat(crowd(100), policies(1000)), group)
		r := intent.Rule{SourceGroups: one, DestinationGroups: one}
		for i := range 10000 {
			all = append(all, rule(i, "ALLOW", r))
		}
		shape(b, all, func(i int) intent.Change { return rule(777, toggle(i), r) })
	})
	b.Run("100000 rules everywhere over one group of 10000", func(b *testing.B) {
		all := append(slices.Concat(crowd(10000), policies(10000)), group)
		at := func(i int, action string) intent.Change {
			if i%2 == 0 {
				return rule(i, action, intent.Rule{SourceGroups: one})
			}
			return rule(i, action, intent.Rule{DestinationGroups: one})
		}
		for i := range 100000 {
			all = append(all, at(i, "ALLOW"))
		}
		shape(b, all, func(i int) intent.Change { return at(777, toggle(i)) })
	})
	b.Run("10000 groups of one tag", func(b *testing.B) {
		all := append(slices.Concat(crowd(100), policies(1000)), group)
		at := func(i int, action string) intent.Change {
			return rule(i, action, intent.Rule{SourceGroups: []string{dataGroup(i)}, DestinationGroups: []string{dataGroup((i + 1) % 10000)}})
		}
		for i := range 10000 {
			all = append(all, intent.Put(dataGroup(i), condition("app|a0")), at(i, "ALLOW"))
		}
		shape(b, all, func(i int) intent.Change { return at(777, toggle(i)) })
	})
}
