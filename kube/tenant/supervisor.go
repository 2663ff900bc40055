package tenant

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// Supervisor is what all of a cluster share depends on besides the tree.
type Supervisor struct {
	ClusterUID   string // of the cluster, see ClusterUID; empty: not kept
	Network      v1alpha1.Network
	ControlPlane *v1alpha1.ControlPlane // nil: no port
	// Translated is the networks whose sources are translated, by the path of
	// the Tier-0 that they are behind: the Supervisor's and those of
	// NamespaceNetworks.
	Translated map[string][]netip.Prefix
}

// Objects returns all that the Supervisor owns. held reports addresses that were
// released just now. The error is a *writer.Fault.
func (s Supervisor) Objects(t *intent.Tree, held func(netip.Addr) bool) ([]intent.Object, error) {
	cluster := s.Network.Cluster
	g := &gateway{
		tree: t, net: s.Network, held: held, tier1: ncp.SystemTier1Path(cluster), lb: ncp.SystemLBServicePath(cluster),
		name: cluster + "-system", tags: s.tags(),
	}
	if fault := g.needs(); fault != nil {
		return nil, fault
	}
	subnet, fault := s.subnet(t)
	if fault != nil {
		return nil, fault
	}
	for _, segment := range t.SegmentsOf(g.tier1) {
		g.busy = g.busy || len(portsOf(t, segment.Path)) > 0
	}
	egress, _, fault := g.egress()
	if fault != nil {
		return nil, fault
	}
	out := append(s.shared(), g.objects(egress, []netip.Prefix{subnet})...)
	out = append(out, s.segment(g, subnet))
	if s.ControlPlane != nil {
		out = append(out, s.port(subnet))
	}
	return append(out, s.guard(t)...), nil
}

func (s Supervisor) tags() []intent.Tag {
	return []intent.Tag{{Scope: ncp.TagCluster, Tag: s.Network.Cluster}}
}

func (s Supervisor) named(name string) intent.Resource {
	return intent.Resource{DisplayName: name, Tags: s.tags()}
}

// Times of the profiles in seconds: those of NSX. What bounds a connection is
// the session timer profile.
const (
	tcpIdle  = 1800
	tcpClose = 8
	udpIdle  = 300
)

// shared returns what no namespace has for itself: the domain, profiles, and the
// distributed load balancer with the group of where it works.
func (s Supervisor) shared() []intent.Object {
	cluster := s.Network.Cluster
	tcp, udp, monitor := ncp.TCPProfilePath(cluster), ncp.UDPProfilePath(cluster), ncp.TCPMonitorPath(cluster)
	domain := s.named(cluster)
	domain.Tags = append(domain.Tags, intent.Tag{Scope: ncp.TagClusterDomain, Tag: "true"})
	if s.ClusterUID != "" {
		domain.Tags = append(domain.Tags, intent.Tag{Scope: ncp.TagKubernetes, Tag: s.ClusterUID})
	}
	all := &intent.Condition{MemberType: "Segment", Key: "Tag", Operator: "EQUALS", Value: ncp.TagCluster + "|" + cluster}
	return []intent.Object{
		put(ncp.DomainPath(cluster), &intent.Domain{Resource: domain}),
		put(tcp, &intent.LBFastTcpProfile{Resource: s.named(intent.IDOf(tcp)), IdleTimeout: tcpIdle, CloseTimeout: tcpClose}),
		put(udp, &intent.LBFastUdpProfile{Resource: s.named(intent.IDOf(udp)), IdleTimeout: udpIdle}),
		put(monitor, &intent.LBTcpMonitorProfile{Resource: s.named(intent.IDOf(monitor))}),
		put(ncp.AllSegmentsPath(cluster), &intent.Group{Resource: s.named(ncp.AllSegmentsName(cluster)), Expression: []intent.Expression{all}}),
		put(ncp.DLBPath(cluster), &intent.LBService{Resource: s.named(ncp.DLBName(cluster)), ConnectivityPath: ncp.AllSegmentsPath(cluster), Size: "DLB"}),
	}
}

// subnet returns that of the system segment: the one that it has if it is in the
// networks or something is on it, else the lowest free one.
func (s Supervisor) subnet(t *intent.Tree) (netip.Prefix, *writer.Fault) {
	path := ncp.SystemSegmentPath(s.Network.Cluster)
	if there, ok := intent.Find[*intent.Segment](t, path); ok {
		if p := subnetOf(there); within(s.Network.Namespaces, p) || len(portsOf(t, path)) > 0 {
			return p, nil
		}
	}
	return newCarver(t, s.Network, map[string]bool{path: true}).next()
}

func (s Supervisor) segment(g *gateway, subnet netip.Prefix) intent.Object {
	return put(ncp.SystemSegmentPath(s.Network.Cluster), &intent.Segment{
		Resource: s.named(g.name + "-0"), ConnectivityPath: g.tier1,
		Subnets: []intent.SegmentSubnet{{GatewayAddress: gatewayOf(subnet), Network: subnet.String()}},
	})
}

// controlPlanePort is the id of the control plane machine's port.
const controlPlanePort = "control-plane"

// ControlPlaneAddress returns the address of the control plane machine on a
// system segment: the first behind the gateway.
func ControlPlaneAddress(subnet netip.Prefix) netip.Addr {
	first, _ := writer.Hosts(subnet)
	return first.Next()
}

func (s Supervisor) port(subnet netip.Prefix) intent.Object {
	segment := ncp.SystemSegmentPath(s.Network.Cluster)
	return put(ncp.PortPath(segment, controlPlanePort), &intent.SegmentPort{
		Resource:        s.named(controlPlanePort),
		AddressBindings: []intent.AddressBinding{{IPAddress: ControlPlaneAddress(subnet).String(), MACAddress: s.ControlPlane.MACAddress}},
		Attachment:      &intent.PortAttachment{ID: s.ControlPlane.Attachment, Type: "INDEPENDENT"},
	})
}

// guard returns the gateway policy that keeps inside addresses inside: what has
// such a source at an uplink was not translated, and nobody outside could
// answer it. Towards exempt networks it may. A Tier-0 without uplinks needs no
// rule. The category is before the ones that people write in daily; Emergency is
// before it.
func (s Supervisor) guard(t *intent.Tree) []intent.Object {
	path := ncp.UplinkGuardPath(s.Network.Cluster)
	var rules []*intent.Rule
	for _, tier0 := range sortedKeys(s.Translated) {
		var uplinks []string
		for _, i := range t.InterfacesOf(tier0) {
			uplinks = append(uplinks, i.Path)
		}
		if len(uplinks) == 0 || len(s.Translated[tier0]) == 0 {
			continue
		}
		r := &intent.Rule{
			Resource: s.named("drop-untranslated"), Action: "DROP", Direction: "OUT", Scope: uplinks,
			SequenceNumber: 10 * (len(rules) + 1), SourceGroups: texts(s.Translated[tier0]), Logged: s.Network.LogDropped,
		}
		if len(s.Network.Exempt) > 0 {
			r.DestinationGroups, r.DestinationsExcluded = texts(s.Network.Exempt), true
		}
		put(ncp.RulePath(path, "drop-untranslated-"+intent.IDOf(tier0)), r)
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil
	}
	writer.AssignRuleIDs(t, rules...)
	out := []intent.Object{put(path, &intent.GatewayPolicy{
		Resource: s.named(intent.IDOf(path)), Category: "SharedPreRules", SequenceNumber: 1,
	})}
	for _, r := range rules {
		out = append(out, r)
	}
	return out
}

// Translated returns what a Supervisor's field of that name has: the networks of
// sup and of all NamespaceNetworks that translate sources. Those with problems
// are left out, also those that an older one contests: what it has may be the
// source of what that sends.
func Translated(sup *v1alpha1.Supervisor, nns []v1alpha1.NamespaceNetwork) map[string][]netip.Prefix {
	out := map[string][]netip.Prefix{}
	add := func(n v1alpha1.Network, problems []intent.Problem) {
		if n.Routed || intent.HasErrors(problems) {
			return
		}
		for _, p := range n.Namespaces {
			if !slices.Contains(out[n.Tier0Path], p) {
				out[n.Tier0Path] = append(out[n.Tier0Path], p)
			}
		}
	}
	add(v1alpha1.Effective(sup, nil))
	all := v1alpha1.NewContest(sup, nns)
	for i := range nns {
		n, problems := v1alpha1.Effective(sup, &nns[i])
		add(n, append(problems, all.Problems(&nns[i])...))
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
	}
	return out
}
