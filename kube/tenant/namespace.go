package tenant

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Namespace is what a namespace's network depends on besides the tree.
type Namespace struct {
	Name, UID  string
	Labels     map[string]string
	Network    v1alpha1.Network
	System     bool     // it shares the gateway of the system
	StaticSNAT string   // egress address that is asked for; empty: any
	Pods       int      // how many want an address
	Guests     []string // guest clusters of its pods
}

// Report is what Objects could not do, and what it did of what was asked for.
type Report struct {
	SNATStatus string        // a value of ncp.AnnotationSNATStatus; empty: there is an address, and none was asked for
	Lacks      *writer.Fault // the network works, but not as it is wanted; nil: it does
}

// Objects returns all that the namespace owns. held reports addresses that were
// released just now.
//
// What the tree has of the namespace stays as far as it is in use: segments with
// ports keep their subnets, and with them the egress address, also outside of
// the network's ranges. So ranges can shrink while workloads move away.
//
// The error is a *writer.Fault.
func (n Namespace) Objects(t *intent.Tree, held func(netip.Addr) bool) ([]intent.Object, Report, error) {
	var report Report
	g := n.gateway(t, held)
	if fault := n.needs(t, g); fault != nil {
		return nil, report, fault
	}
	segments, busy, fault := n.segments(t, g.tier1)
	if fault != nil && len(segments) == 0 {
		return nil, report, fault
	}
	report.Lacks, g.busy = fault, busy
	out := n.groups(t)
	var own []netip.Prefix
	for _, s := range segments {
		own = append(own, subnetOf(s))
		out = append(out, s)
	}
	if n.System {
		if n.StaticSNAT != "" {
			report.SNATStatus = ncp.SNATFailed
			report.Lacks = cmp.Or(report.Lacks, staticFault(writer.ReasonInvalid, n.StaticSNAT, "is given for a system namespace, which shares the egress address of the Supervisor"))
		}
		return out, report, nil
	}
	egress, status, fault := g.egress()
	report.SNATStatus, report.Lacks = status, cmp.Or(report.Lacks, fault)
	if fault != nil && !egress.IsValid() && !n.Network.Routed {
		return nil, report, fault
	}
	out = append(out, g.objects(egress, own)...)
	if n.Network.Isolated {
		out = append(out, n.isolation(t)...)
	}
	return out, report, nil
}

// gateway returns the namespace's own gateway, or that of the system.
func (n Namespace) gateway(t *intent.Tree, held func(netip.Addr) bool) *gateway {
	g := &gateway{
		tree: t, net: n.Network, held: held, name: n.Name, tags: n.tags(), static: n.StaticSNAT,
		tier1: ncp.Tier1Path(n.UID), lb: ncp.LBServicePath(n.UID),
	}
	if n.System {
		g.tier1 = ncp.SystemTier1Path(n.Network.Cluster)
	}
	return g
}

func (n Namespace) tags() []intent.Tag { return ncp.NamespaceTags(n.Network.Cluster, n.Name, n.UID) }

// needs returns what must be in the tree before the namespace's network.
func (n Namespace) needs(t *intent.Tree, g *gateway) *writer.Fault {
	missing := t.Get(ncp.DomainPath(n.Network.Cluster)) == nil
	if n.System {
		missing = missing || t.Get(g.tier1) == nil
	}
	if missing {
		return &writer.Fault{Reason: writer.Pending.String(), Msg: "the network of the Supervisor is not there yet"}
	}
	return g.needs()
}

// place is one segment of a namespace.
type place struct {
	index  int
	subnet netip.Prefix
	ports  int
}

// segments returns the namespace's segments: those in use, and as many more as
// its pods need. busy: one of them has ports. With a fault they are fewer than
// needed.
func (n Namespace) segments(t *intent.Tree, tier1 string) (out []*intent.Segment, busy bool, fault *writer.Fault) {
	have, need := n.places(t)
	var keep []place
	var room int64
	taken, dropped := map[int]bool{}, map[string]bool{}
	take := func(p place) {
		keep, room, taken[p.index] = append(keep, p), room+Capacity(p.subnet), true
	}
	enough := func() bool { return room >= need && (len(keep) > 0 || n.System) }
	for _, p := range have {
		if p.ports > 0 {
			take(p)
			busy = true
		}
	}
	for _, p := range have {
		switch {
		case p.ports > 0:
		case enough() || !within(n.Network.Namespaces, p.subnet):
			dropped[ncp.SegmentPath(n.UID, p.index)] = true
		default:
			take(p)
		}
	}
	for carver := (*carver)(nil); !enough(); {
		if carver == nil {
			carver = newCarver(t, n.Network, dropped)
		}
		var p place
		if p.subnet, fault = carver.next(); fault != nil {
			break
		}
		for taken[p.index] {
			p.index++
		}
		take(p)
	}
	slices.SortFunc(keep, func(a, b place) int { return cmp.Compare(a.index, b.index) })
	for _, p := range keep {
		out = append(out, n.segment(p, tier1))
	}
	return out, busy, fault
}

// places returns the segments that the tree has of the namespace, by index, and
// how many addresses are needed: those of pods, and of ports that are not
// pods'.
func (n Namespace) places(t *intent.Tree) (have []place, need int64) {
	need = int64(n.Pods)
	for _, s := range n.segmentsIn(t) {
		i, _ := ncp.SegmentIndex(n.UID, s.Path)
		p := place{index: i, subnet: subnetOf(s)}
		for _, port := range portsOf(t, s.Path) {
			p.ports++
			if kind, _, _, _ := writer.ParseOwner(store.OwnerOf(port)); kind != writer.Pod {
				need++
			}
		}
		have = append(have, p)
	}
	return have, need
}

// segmentsIn returns the segments that the tree has of the namespace, by index.
func (n Namespace) segmentsIn(t *intent.Tree) []*intent.Segment {
	tier1 := ncp.Tier1Path(n.UID)
	if n.System {
		tier1 = ncp.SystemTier1Path(n.Network.Cluster)
	}
	var out []*intent.Segment
	for _, s := range t.SegmentsOf(tier1) {
		if _, ok := ncp.SegmentIndex(n.UID, s.Path); ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *intent.Segment) int {
		i, _ := ncp.SegmentIndex(n.UID, a.Path)
		j, _ := ncp.SegmentIndex(n.UID, b.Path)
		return cmp.Compare(i, j)
	})
	return out
}

func (n Namespace) segment(p place, tier1 string) *intent.Segment {
	s := &intent.Segment{
		Resource: intent.Resource{
			DisplayName: ncp.SegmentName(n.Name, p.index), Tags: ncp.SegmentTags(n.Network.Cluster, n.Name, n.UID, n.Labels),
		},
		ConnectivityPath: tier1,
		Subnets:          []intent.SegmentSubnet{{GatewayAddress: gatewayOf(p.subnet), Network: p.subnet.String()}},
	}
	put(ncp.SegmentPath(n.UID, p.index), s)
	return s
}

// groups returns the group of all ports of the namespace, and one for each of
// its guest clusters.
func (n Namespace) groups(t *intent.Tree) []intent.Object {
	mine := &intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: ncp.TagProjectUID + "|" + n.UID}
	out := []intent.Object{put(ncp.NamespaceGroupPath(n.Network.Cluster, n.UID), &intent.Group{
		Resource: intent.Resource{DisplayName: n.Name, Tags: n.tags()}, Expression: []intent.Expression{mine},
	})}
	for _, guest := range n.guests(t) {
		var expression []intent.Expression
		for i, key := range ncp.GuestClusterLabels() {
			if i > 0 {
				expression = append(expression, &intent.ConjunctionOperator{ConjunctionOperator: "OR"})
			}
			label := &intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: ncp.LabelCondition(key, guest)}
			and := &intent.ConjunctionOperator{ConjunctionOperator: "AND"}
			expression = append(expression, &intent.NestedExpression{Expressions: []intent.Expression{mine, and, label}})
		}
		out = append(out, put(ncp.ClusterGroupPath(n.Network.Cluster, n.UID, guest), &intent.Group{
			Resource: intent.Resource{DisplayName: n.Name + "/" + guest, Tags: n.tags()}, Expression: expression,
		}))
	}
	return out
}

// guests returns the guest clusters of the namespace's pods and ports, sorted.
func (n Namespace) guests(t *intent.Tree) []string {
	set := map[string]bool{}
	for _, g := range n.Guests {
		set[g] = true
	}
	for _, s := range n.segmentsIn(t) {
		for _, p := range portsOf(t, s.Path) {
			for _, key := range ncp.GuestClusterLabels() {
				if v := ncp.TagValue(p.Tags, key); v != "" && v != ncp.EmptyValue {
					set[v] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// isolationSequence is the place of isolation in category Application: behind
// all that NetworkPolicies say.
const isolationSequence = 99

// isolation returns the policy that drops what comes from outside of the
// namespace, unless it comes by a virtual server.
func (n Namespace) isolation(t *intent.Tree) []intent.Object {
	group := ncp.NamespaceGroupPath(n.Network.Cluster, n.UID)
	policy := ncp.IsolationPath(n.Network.Cluster, n.UID)
	rules := []*intent.Rule{
		{Resource: intent.Resource{DisplayName: ncp.RuleAllowSameNamespace}, Action: "ALLOW", SourceGroups: []string{group}},
		{Resource: intent.Resource{DisplayName: ncp.RuleAllowVirtualServers}, Action: "ALLOW", ViaVirtualServer: true},
		{Resource: intent.Resource{DisplayName: ncp.RuleDenyAllIngress}, Action: "DROP", Logged: n.Network.LogDropped},
	}
	out := []intent.Object{put(policy, &intent.SecurityPolicy{
		Resource: intent.Resource{DisplayName: ncp.IsolationName(n.Name), Tags: n.tags()},
		Category: "Application", SequenceNumber: isolationSequence, Scope: []string{group},
	})}
	for i, r := range rules {
		r.Direction, r.SequenceNumber, r.Tags = "IN", 10*(i+1), n.tags()
		out = append(out, put(ncp.RulePath(policy, r.DisplayName), r))
	}
	writer.AssignRuleIDs(t, rules...)
	return out
}
