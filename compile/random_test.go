package compile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// world makes random changes of one small intent, all of whose objects can
// refer to each other.
type world struct {
	*rand.Rand
}

func (w world) pick(list ...string) string { return list[w.IntN(len(list))] }

// some returns some of the texts.
func (w world) some(n int, format string) []string {
	var out []string
	for i := range n {
		if w.IntN(3) == 0 {
			out = append(out, fmt.Sprintf(format, i))
		}
	}
	return out
}

const (
	edgeCluster = "/infra/sites/default/enforcement-points/default/edge-clusters/ec1"
	groupPath   = "/infra/domains/default/groups/g%d"
	policyPath  = "/infra/domains/default/security-policies/p%d"
)

// ground is what random changes build on.
func ground() []intent.Change {
	out := []intent.Change{
		intent.Put("/infra/tier-0s/t0", &intent.Tier0{TransitSubnets: []string{"100.64.0.0/29"}}),
		intent.Put("/infra/tier-0s/t0/locale-services/d", &intent.LocaleServices{EdgeClusterPath: edgeCluster}),
		intent.Put("/infra/tier-0s/t0/locale-services/d/interfaces/u", &intent.Tier0Interface{
			Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.100.2"}, PrefixLen: 24}},
		}),
		intent.Put("/infra/lb-app-profiles/a", &intent.LBFastTcpProfile{}),
		intent.Put("/infra/lb-monitor-profiles/m", &intent.LBTcpMonitorProfile{}),
		intent.Put("/infra/lb-pools/p0", &intent.LBPool{ActiveMonitorPaths: []string{"/infra/lb-monitor-profiles/m"}}),
		intent.Put("/infra/lb-services/l0", &intent.LBService{ConnectivityPath: "/infra/tier-1s/t0"}),
		intent.Put("/infra/lb-services/l1", &intent.LBService{ConnectivityPath: "/infra/tier-1s/t1"}),
	}
	for i := range 3 {
		path := fmt.Sprintf("/infra/tier-1s/t%d", i)
		out = append(out,
			intent.Put(path, &intent.Tier1{}),
			intent.Put(path+"/locale-services/d", &intent.LocaleServices{EdgeClusterPath: edgeCluster}))
	}
	return out
}

// change returns one random change: an object put or deleted.
func (w world) change() intent.Change {
	c := w.put()
	if w.IntN(4) == 0 && c.Object.Meta().ResourceType != "Tier0" {
		return intent.Delete(c.Path)
	}
	return c
}

func (w world) put() intent.Change {
	switch w.IntN(20) {
	case 0:
		return w.tier1()
	case 1, 2:
		return w.segment()
	case 3, 4, 11, 12:
		return w.port()
	case 5, 6:
		return w.group()
	case 7:
		return intent.Put(fmt.Sprintf(policyPath, w.IntN(4)), &intent.SecurityPolicy{
			Category: w.pick("", "Ethernet", "Emergency", "Environment", "Application"), SequenceNumber: w.IntN(3), Scope: w.scope(),
		})
	case 8:
		return w.rule()
	case 9:
		return w.nat()
	case 13, 14, 15, 18, 19:
		return w.balancer()
	case 16, 17:
		return w.gateway()
	}
	return w.other()
}

func (w world) tier1() intent.Change {
	t := &intent.Tier1{DisableFirewall: w.IntN(6) == 0, RouteAdvertisementTypes: w.some(3, "TIER1_%d")}
	for i := range t.RouteAdvertisementTypes {
		t.RouteAdvertisementTypes[i] = w.pick("TIER1_CONNECTED", "TIER1_NAT", "TIER1_STATIC_ROUTES", "TIER1_LB_VIP", "TIER1_LB_SNAT")
	}
	if w.IntN(4) > 0 {
		t.Tier0Path = "/infra/tier-0s/t0"
	}
	return intent.Put(fmt.Sprintf("/infra/tier-1s/t%d", w.IntN(6)), t)
}

func (w world) segment() intent.Change {
	s := &intent.Segment{OverlayID: int64(w.IntN(2) * (5000 + w.IntN(3)))}
	s.ConnectivityPath = w.pick("", "/infra/tier-1s/t0", "/infra/tier-1s/t1", "/infra/tier-1s/t2", "/infra/tier-0s/t0", "/infra/nodes/n0", "/infra/nodes/n1")
	i := w.IntN(len(nets))
	if w.IntN(8) > 0 {
		s.Subnets = []intent.SegmentSubnet{{GatewayAddress: nets[i] + ".1" + w.pick("/24", "/24", "/16", "/28")}}
	}
	s.Tags = w.tags()
	return intent.Put(fmt.Sprintf("/infra/segments/s%d", i), s)
}

// nets is the subnets of the segments; some are the same.
var nets = []string{"10.1.0", "10.2.0", "10.1.0", "10.1.1", "10.2.0"}

func (w world) tags() []intent.Tag {
	var out []intent.Tag
	for range w.IntN(3) {
		out = append(out, intent.Tag{Scope: w.pick("", "a", "b"), Tag: w.pick("x", "y", "z")})
	}
	return out
}

func (w world) port() intent.Change {
	p := &intent.SegmentPort{AdminState: w.pick("", "UP", "UP", "DOWN")}
	p.Tags = w.tags()
	segment, i := w.IntN(len(nets)), w.IntN(6)
	for n := range w.IntN(3) {
		last := 2 + 2*i + n
		p.AddressBindings = append(p.AddressBindings, intent.AddressBinding{
			IPAddress: fmt.Sprintf("%s.%d", nets[segment], last), MACAddress: fmt.Sprintf("02:00:00:00:00:%02x", last),
		})
	}
	return intent.Put(fmt.Sprintf("/infra/segments/s%d/ports/p%d", segment, i), p)
}

func (w world) expression() intent.Expression {
	switch w.IntN(6) {
	case 0:
		return &intent.IPAddressExpression{IPAddresses: []string{w.pick("10.1.0.0/25", "10.2.0.3", "10.1.1.3-10.1.1.6", "0.0.0.0/0")}}
	case 1:
		return &intent.PathExpression{Paths: []string{w.pick("/infra/segments/s0", "/infra/segments/s1/ports/p1", fmt.Sprintf(groupPath, w.IntN(6)))}}
	case 2:
		return &intent.NestedExpression{Expressions: []intent.Expression{w.condition(), &intent.ConjunctionOperator{ConjunctionOperator: "AND"}, w.condition()}}
	case 3:
		return &intent.MACAddressExpression{MACAddresses: []string{fmt.Sprintf("02:00:00:00:00:%02x", 2+w.IntN(12))}}
	}
	return w.condition()
}

func (w world) condition() *intent.Condition {
	return &intent.Condition{
		MemberType:    w.pick("Segment", "SegmentPort"),
		Key:           w.pick("Tag", "Tag", "Tag", "Name"),
		Operator:      w.pick("EQUALS", "EQUALS", "EQUALS", "NOTEQUALS", "CONTAINS", "IN", "NOTIN", "STARTSWITH"),
		Value:         w.pick("a|x", "a|y", "b|x", "a|", "|x", "x", "p1"),
		ScopeOperator: w.pick("", "", "EQUALS", "NOTEQUALS"),
	}
}

func (w world) group() intent.Change {
	g := &intent.Group{Expression: []intent.Expression{w.expression()}}
	for range w.IntN(3) {
		g.Expression = append(g.Expression, &intent.ConjunctionOperator{ConjunctionOperator: w.pick("AND", "OR")}, w.expression())
	}
	return intent.Put(fmt.Sprintf(groupPath, w.IntN(6)), g)
}

func (w world) scope() []string {
	switch w.IntN(4) {
	case 0:
		return w.some(6, groupPath)
	case 1:
		return w.some(3, "/infra/segments/s%d")
	}
	return nil
}

func (w world) peers() []string {
	out := w.some(6, groupPath)
	if w.IntN(3) == 0 {
		out = append(out, w.pick("10.1.0.0/24", "10.1.0.3", "10.1.1.2-10.1.1.5", "0.0.0.0/0"))
	}
	return out
}

func (w world) rule() intent.Change {
	r := &intent.Rule{
		Action: w.pick("ALLOW", "ALLOW", "DROP", "REJECT", "JUMP_TO_APPLICATION"), Direction: w.pick("", "IN", "OUT"),
		SequenceNumber: w.IntN(3), SourceGroups: w.peers(), DestinationGroups: w.peers(), Scope: w.scope(),
		Disabled: w.IntN(6) == 0, RuleID: int64(w.IntN(3) * w.IntN(3) * 1000),
	}
	r.SourcesExcluded = len(r.SourceGroups) > 0 && w.IntN(3) == 0
	r.DestinationsExcluded = len(r.DestinationGroups) > 0 && w.IntN(3) == 0
	if w.IntN(3) == 0 {
		r.Services = []string{"/infra/services/http"}
	}
	return intent.Put(fmt.Sprintf(policyPath+"/rules/r%d", w.IntN(4), w.IntN(4)), r)
}

func (w world) nat() intent.Change {
	router := w.pick("/infra/tier-1s/t0", "/infra/tier-1s/t1", "/infra/tier-0s/t0", "/infra/nodes/n0")
	r := &intent.PolicyNatRule{Action: w.pick("SNAT", "DNAT", "REFLEXIVE", "NO_SNAT", "NO_DNAT"), SequenceNumber: w.IntN(3)}
	switch r.Action {
	case "SNAT":
		r.TranslatedNetwork = w.pick("172.16.0.1", "172.16.0.0/28", "172.16.1.1", "10.1.0.4")
	case "REFLEXIVE":
		r.SourceNetwork, r.TranslatedNetwork = "10.1.0.16/28", w.pick("172.16.2.0/28", "172.16.0.0/28")
	case "DNAT":
		r.DestinationNetwork, r.TranslatedNetwork = w.pick("172.16.3.3", "172.16.0.1"), "10.1.0.3"
	case "NO_DNAT", "NO_SNAT":
		r.DestinationNetwork = "10.1.0.0/16,10.2.0.0/16"
	}
	if w.IntN(4) == 0 {
		r.Service = "/infra/services/http"
	}
	return intent.Put(fmt.Sprintf("%s/nat/%s/nat-rules/n%d", router, w.pick("USER", "INTERNAL"), w.IntN(3)), r)
}

func (w world) other() intent.Change {
	switch w.IntN(6) {
	case 0:
		return intent.Put(fmt.Sprintf("/infra/nodes/n%d", w.IntN(2)), &intent.Node{PortPath: fmt.Sprintf("/infra/segments/s%d/ports/p%d", w.IntN(2), w.IntN(2))})
	case 1:
		return intent.Put(intent.ExcludeListPath, &intent.PolicyExcludeList{Members: w.some(3, groupPath)})
	case 2:
		return intent.Put("/infra/services/http", &intent.Service{})
	case 3:
		return intent.Put(fmt.Sprintf("/infra/services/http/service-entries/e%d", w.IntN(2)), &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{w.pick("80", "443", "8000-8080")}})
	case 4:
		router := w.pick("/infra/tier-1s/t0", "/infra/tier-0s/t0")
		return intent.Put(fmt.Sprintf("%s/static-routes/r%d", router, w.IntN(2)), &intent.StaticRoutes{
			Network: w.pick("0.0.0.0/0", "10.9.0.0/16"), NextHops: []intent.RouterNexthop{{IPAddress: w.pick("192.168.100.1", "10.1.0.3", "")}},
		})
	}
	return intent.Put("/infra/tier-0s/t0", &intent.Tier0{TransitSubnets: []string{w.pick("100.64.0.0/29", "100.64.0.0/30", "100.65.0.0/16")}})
}

// outcome is what two ways to one tree are compared by.
func outcome(t *testing.T, sets map[string]*table.Set, problems []intent.Problem) string {
	t.Helper()
	b, err := table.Encode(only(t, sets))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s\n%v", b, problems)
}

// After every step of a random sequence of changes the incremental result is
// that of compiling the tree from nothing, and the Sets of before are as they
// were.
func TestIncrementalIsFromScratch(t *testing.T) {
	accepted, sizes, seen := 0, 0, map[string]int{}
	for seed := range uint64(30) {
		w := world{rand.New(rand.NewPCG(seed, 1))}
		tree := intent.NewTree()
		apply(t, tree, ground())
		c := New()
		sets, problems := c.Update(tree, nil)
		for step := range 150 {
			var batch []intent.Change
			for range 1 + w.IntN(3) {
				batch = append(batch, w.change())
			}
			changed, refused := tree.Apply(batch)
			if intent.HasErrors(refused) || len(changed) == 0 {
				continue
			}
			accepted++
			before, frozen := sets, outcome(t, sets, problems)
			was := problems
			sets, problems = c.Update(tree, changed)
			if outcome(t, before, was) != frozen {
				t.Fatalf("seed %d step %d: an update changed the Set of before", seed, step)
			}
			want, wantProblems := New().Update(tree, nil)
			if got, want := outcome(t, sets, problems), outcome(t, want, wantProblems); got != want {
				t.Fatalf("seed %d step %d: after %v the result differs from compiling anew (-want +got):\n%s\n%s", seed, step, changed,
					cmp.Diff(text(t, only(t, mustSets(New().Update(tree, nil)))), text(t, only(t, sets))), cmp.Diff(wantProblems, problems))
			}
			sizes += sets["host1"].Rulesets.Len()
			sights(seen, sets["host1"])
			naive{tree}.check(t, sets["host1"])
		}
		empty(t, c, tree)
	}
	t.Logf("%d changes taken, %d rulesets seen, of the rest %v", accepted, sizes, seen)
	for what, n := range seen {
		if n < 20 {
			t.Errorf("%s: seen %d times: the changes are too few to prove anything", what, n)
		}
	}
	if accepted < 500 || sizes < 2000 {
		t.Errorf("%d changes taken, %d rulesets seen: the changes are too few to prove anything", accepted, sizes)
	}
}

func mustSets(sets map[string]*table.Set, _ []intent.Problem) map[string]*table.Set { return sets }

// empty deletes everything and checks that the compiler keeps nothing of it.
func empty(t *testing.T, c *Compiler, tree *intent.Tree) {
	t.Helper()
	fresh := New()
	fresh.Update(intent.NewTree(), nil)
	want := fresh.g.facts.size
	sets, problems := c.Update(intent.NewTree(), pathsOf(tree))
	if len(problems) > 0 {
		t.Errorf("problems of nothing: %v", problems)
	}
	bare, _ := New().Update(intent.NewTree(), nil)
	if diff := table.Diff(only(t, bare), only(t, sets)); diff.Len() != 0 {
		t.Errorf("tables of nothing: %+v", diff)
	}
	if got := c.g.facts.size; got != want {
		t.Errorf("facts after everything was deleted: got %d, want %d", got, want)
	}
}

// The same tree gives the same bytes however its objects came: at once, one by
// one, in reverse, shuffled, twice, and with everything deleted between.
func TestOrderDoesNotMatter(t *testing.T) {
	for _, file := range []string{"tenants.yaml", "balancers.yaml", "balancer-problems.yaml"} {
		t.Run(file, func(t *testing.T) { orderDoesNotMatter(t, file) })
	}
}

func orderDoesNotMatter(t *testing.T, file string) {
	changes := parseFile(t, file)
	tree := intent.NewTree()
	apply(t, tree, changes)
	want := outcomeOf(t, New(), tree, nil)

	orders := map[string]func([]intent.Change){
		"as written": func([]intent.Change) {},
		"reversed":   slices.Reverse[[]intent.Change],
	}
	for seed := range uint64(8) {
		orders[fmt.Sprintf("shuffled %d", seed)] = func(list []intent.Change) {
			r := rand.New(rand.NewPCG(seed, 2))
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			list := parseFile(t, file)
			order(list)
			c, tree := New(), intent.NewTree()
			if got := trickle(t, c, tree, list); got != want {
				t.Errorf("one by one: the result differs from that of all at once")
			}
			if got := outcomeOf(t, c, tree, pathsOf(tree)); got != want {
				t.Errorf("all once more: the result differs")
			}
			second := intent.NewTree()
			outcomeOf(t, c, second, nil)
			if got := trickle(t, c, second, list); got != want {
				t.Errorf("after an empty state: the result differs")
			}
		})
	}
}

func pathsOf(tree *intent.Tree) []string {
	var out []string
	for _, o := range tree.All() {
		out = append(out, o.Meta().Path)
	}
	return out
}

func outcomeOf(t *testing.T, c *Compiler, tree *intent.Tree, changed []string) string {
	t.Helper()
	sets, problems := c.Update(tree, changed)
	return outcome(t, sets, problems)
}

// trickle applies the changes one by one as far as the tree takes them, each
// followed by an Update, until all are in.
func trickle(t *testing.T, c *Compiler, tree *intent.Tree, list []intent.Change) string {
	t.Helper()
	got := outcomeOf(t, c, tree, nil)
	for left := list; len(left) > 0; {
		var refused []intent.Change
		for _, one := range left {
			one.Replaces = ""
			changed, problems := tree.Apply([]intent.Change{one})
			if intent.HasErrors(problems) {
				refused = append(refused, one)
				continue
			}
			if len(changed) > 0 {
				got = outcomeOf(t, c, tree, changed)
				if again := outcomeOf(t, c, tree, changed); again != got {
					t.Fatalf("%s: said twice gives another outcome", one.Path)
				}
			}
		}
		if len(refused) == len(left) {
			t.Fatalf("%d changes are refused for ever, the first is %s", len(refused), refused[0].Path)
		}
		left = refused
	}
	return got
}
