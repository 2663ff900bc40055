package tenant

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

func TestSupervisorShares(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.ControlPlane = &v1alpha1.ControlPlane{MACAddress: "04:50:56:00:00:01", Attachment: "control-plane"}
	if out := w.supervisor(); !out.OK() {
		t.Fatal(out)
	}
	same(t, []string{
		"/infra/domains/domain-c8",
		"/infra/domains/domain-c8/gateway-policies/uplink_guard_domain-c8",
		"/infra/domains/domain-c8/gateway-policies/uplink_guard_domain-c8/rules/drop-untranslated-provider",
		"/infra/domains/domain-c8/groups/clusterip_domain-c8_all_segments",
		"/infra/lb-app-profiles/ncp_domain-c8_LBFastTcpProfile",
		"/infra/lb-app-profiles/ncp_domain-c8_LBFastUdpProfile",
		"/infra/lb-monitor-profiles/ncp_domain-c8_LBTcpMonitorProfile",
		"/infra/lb-services/clusterip_domain-c8_dlb",
		"/infra/lb-services/lbs_domain-c8_system",
		"/infra/segments/seg_domain-c8_system_0",
		"/infra/segments/seg_domain-c8_system_0/ports/control-plane",
		"/infra/tier-1s/t1_domain-c8_system_rtr",
		"/infra/tier-1s/t1_domain-c8_system_rtr/locale-services/default",
		"/infra/tier-1s/t1_domain-c8_system_rtr/nat/USER",
		"/infra/tier-1s/t1_domain-c8_system_rtr/nat/USER/nat-rules/egress",
		"/infra/tier-1s/t1_domain-c8_system_rtr/nat/USER/nat-rules/ingress-0",
		"/infra/tier-1s/t1_domain-c8_system_rtr/nat/USER/nat-rules/inside-0",
	}, w.paths("Supervisor/"))
	same(t, "10.244.0.1/28", get[*intent.Segment](w, "/infra/segments/seg_domain-c8_system_0").Subnets[0].GatewayAddress)
	same(t, "10.244.0.2", get[*intent.SegmentPort](w, "/infra/segments/seg_domain-c8_system_0/ports/control-plane").AddressBindings[0].IPAddress)

	guard := get[*intent.Rule](w, "/infra/domains/domain-c8/gateway-policies/uplink_guard_domain-c8/rules/drop-untranslated-provider")
	same(t, "DROP OUT [10.244.0.0/20] [/infra/tier-0s/provider/locale-services/default/interfaces/uplink]", fmt.Sprint(guard.Action, " ", guard.Direction, " ", guard.SourceGroups, " ", guard.Scope))
	if guard.RuleID < 1001 {
		t.Errorf("rule id %d", guard.RuleID)
	}

	// Twice changes nothing.
	_, before := version(w)
	w.supervisor()
	if _, after := version(w); after != before {
		t.Errorf("version %d after %d", after, before)
	}
}

func version(w *world) (n int, v store.Version) {
	w.store.Read(func(t *intent.Tree, now store.Version) { n, v = t.Len(), now })
	return n, v
}

func TestSupervisorWithoutTier0(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.Tier0Path = "/infra/tier-0s/other"
	out := w.supervisor()
	same(t, "NotFound tier0Path: /infra/tier-0s/other: does not exist (weft apply makes a Tier-0)", out.Reason+" "+out.Message)
}

// A namespace's NAT rules are those of the post on default NAT rules.
func TestNamespaceNAT(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.SupervisorSpec)
		want   string
	}{
		{"default", func(*v1alpha1.SupervisorSpec) {}, `
1 ingress-0 NO_SNAT 10.244.0.0/20 > 172.16.1.0/24
2 inside-0 NO_SNAT 10.244.0.0/20 > 10.244.0.0/20
200000 egress SNAT any > any: 172.16.2.2`},
		{"translated towards ingress", func(s *v1alpha1.SupervisorSpec) { s.SNATToIngress = true }, `
1 inside-0 NO_SNAT 10.244.0.0/20 > 10.244.0.0/20
200000 egress SNAT any > any: 172.16.2.2`},
		{"several, exempt", func(s *v1alpha1.SupervisorSpec) {
			s.NamespaceNetworkCIDRs = append(s.NamespaceNetworkCIDRs, "10.245.0.0/23")
			s.SNATExemptCIDRs = []v1alpha1.CIDR{"192.168.7.7/24"}
		}, `
1 ingress-0 NO_SNAT 10.244.0.0/20,10.245.0.0/23 > 172.16.1.0/24
2 inside-0 NO_SNAT 10.244.0.0/20,10.245.0.0/23 > 10.244.0.0/20
3 inside-1 NO_SNAT 10.244.0.0/20,10.245.0.0/23 > 10.245.0.0/23
4 exempt-0 NO_SNAT 10.244.0.0/20,10.245.0.0/23 > 192.168.7.0/24
200000 egress SNAT any > any: 172.16.2.2`},
		{"routed", func(s *v1alpha1.SupervisorSpec) { s.RoutedMode, s.EgressCIDRs = true, nil }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			tc.change(&w.sup.Spec)
			w.supervisor()
			w.ready(w.named("red"))
			var got strings.Builder
			w.store.Read(func(t *intent.Tree, _ store.Version) {
				for _, r := range t.NATRulesOf("/infra/tier-1s/t1_u-red_rtr") {
					from, to := r.SourceNetwork, r.DestinationNetwork
					if from+to == "" {
						from, to = "any", "any: "+r.TranslatedNetwork
					}
					fmt.Fprintf(&got, "\n%d %s %s %s > %s", r.SequenceNumber, r.ID, r.Action, from, to)
				}
			})
			same(t, tc.want, got.String())
			tier1 := get[*intent.Tier1](w, "/infra/tier-1s/t1_u-red_rtr")
			same(t, routeTypes(), tier1.RouteAdvertisementTypes)
		})
	}
}

func TestNamespaceObjects(t *testing.T) {
	w := newWorld(t)
	w.supervisor()
	n := w.named("red")
	n.Guests = []string{"tkc-2", "tkc-1"}
	w.ready(n)
	same(t, []string{
		"/infra/domains/domain-c8/groups/ns_u-red",
		"/infra/domains/domain-c8/groups/ns_u-red_cluster_tkc-1",
		"/infra/domains/domain-c8/groups/ns_u-red_cluster_tkc-2",
		"/infra/domains/domain-c8/security-policies/is_u-red",
		"/infra/domains/domain-c8/security-policies/is_u-red/rules/allow-same-namespace",
		"/infra/domains/domain-c8/security-policies/is_u-red/rules/allow-virtual-servers",
		"/infra/domains/domain-c8/security-policies/is_u-red/rules/deny-all-ingress",
		"/infra/lb-services/lbs_u-red",
		"/infra/segments/seg_u-red_0",
		"/infra/tier-1s/t1_u-red_rtr",
		"/infra/tier-1s/t1_u-red_rtr/locale-services/default",
		"/infra/tier-1s/t1_u-red_rtr/nat/USER",
		"/infra/tier-1s/t1_u-red_rtr/nat/USER/nat-rules/egress",
		"/infra/tier-1s/t1_u-red_rtr/nat/USER/nat-rules/ingress-0",
		"/infra/tier-1s/t1_u-red_rtr/nat/USER/nat-rules/inside-0",
	}, w.paths("Namespace/red/"))
	same(t, "red-0 10.244.0.17/28", w.subnets("red"))
	segment := get[*intent.Segment](w, "/infra/segments/seg_u-red_0")
	same(t, []intent.Tag{
		{Scope: "ncp/cluster", Tag: "domain-c8"}, {Scope: "ncp/project", Tag: "red"}, {Scope: "ncp/project_uid", Tag: "u-red"},
		{Scope: "kubernetes.io/metadata.name", Tag: "red"}, {Scope: "weft/owner", Tag: "Namespace/red/u-red"},
	}, segment.Tags)

	var rules []string
	for _, id := range []string{"allow-same-namespace", "allow-virtual-servers", "deny-all-ingress"} {
		r := get[*intent.Rule](w, "/infra/domains/domain-c8/security-policies/is_u-red/rules/"+id)
		rules = append(rules, fmt.Sprintf("%d %s %s %s %v via=%v", r.SequenceNumber, r.DisplayName, r.Action, r.Direction, r.SourceGroups, r.ViaVirtualServer))
	}
	same(t, []string{
		"10 allow-same-namespace ALLOW IN [/infra/domains/domain-c8/groups/ns_u-red] via=false",
		"20 allow-virtual-servers ALLOW IN [] via=true",
		"30 deny-all-ingress DROP IN [] via=false",
	}, rules)
}

// A rule keeps its number whatever becomes of other namespaces.
func TestRuleIDsStay(t *testing.T) {
	w := newWorld(t)
	w.supervisor()
	id := func(name string) int64 {
		return get[*intent.Rule](w, "/infra/domains/domain-c8/security-policies/is_u-"+name+"/rules/deny-all-ingress").RuleID
	}
	w.ready(w.named("red"))
	w.ready(w.named("blue"))
	same(t, []int64{1004, 1007}, []int64{id("red"), id("blue")})
	w.remove("red")
	w.ready(w.named("blue"))
	w.ready(w.named("green"))
	w.ready(w.named("red"))
	same(t, []int64{1010, 1007, 1004}, []int64{id("red"), id("blue"), id("green")})
}

// Namespaces that come in another order have other addresses, but never those
// of another, and the order of labels, guests and NamespaceNetworks says
// nothing.
func TestOrderSaysNothing(t *testing.T) {
	build := func(guests []string, nns ...v1alpha1.NamespaceNetwork) []string {
		w := newWorld(t)
		w.nns = nns
		w.supervisor()
		n := w.named("red")
		n.Guests = guests
		n.Labels = map[string]string{"a": "1", "b": "", "c": "3", "ncp/project": "blue"}
		w.ready(n)
		var out []string
		for _, prefix := range []string{"Supervisor/", "Namespace/"} {
			for _, owner := range w.store.Owners(prefix) {
				for _, o := range w.store.Owned(owner) {
					m := *o.Meta()
					out = append(out, fmt.Sprint(m.Path, m.Tags))
					if r, ok := o.(*intent.Rule); ok {
						out = append(out, fmt.Sprint(r.RuleID, r.SourceGroups))
					}
				}
			}
		}
		return out
	}
	own := func(name string, cidr v1alpha1.CIDR) v1alpha1.NamespaceNetwork {
		return v1alpha1.NamespaceNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NamespaceNetworkSpec{NamespaceNetworkCIDRs: []v1alpha1.CIDR{cidr}}}
	}
	x, y := own("x", "10.200.0.0/22"), own("y", "10.201.0.0/22")
	same(t, build([]string{"a", "b"}, x, y), build([]string{"b", "a"}, y, x))
}

// More pods than a segment has addresses for make another segment; empty ones
// go when they are not needed.
func TestMoreSegments(t *testing.T) {
	w := newWorld(t)
	w.supervisor()
	n := w.named("red")
	w.ready(w.named("blue"))
	for _, step := range []struct {
		pods int
		want string
	}{
		{0, "red-0 10.244.0.33/28"},
		{13, "red-0 10.244.0.33/28"},
		{14, "red-0 10.244.0.33/28, red-1 10.244.0.49/28"},
		{27, "red-0 10.244.0.33/28, red-1 10.244.0.49/28, red-2 10.244.0.65/28"},
		{13, "red-0 10.244.0.33/28"},
	} {
		n.Pods = step.pods
		w.ready(n)
		same(t, step.want, w.subnets("red"))
	}
	// What is in use stays, and is counted.
	n.Pods = 14
	w.ready(n)
	w.port("Pod/red/p/1", "/infra/segments/seg_u-red_1/ports/p", "10.244.0.50")
	n.Pods = 1
	w.ready(n)
	same(t, "red-1 10.244.0.49/28", w.subnets("red"))
	n.Pods = 14
	w.ready(n)
	same(t, "red-0 10.244.0.33/28, red-1 10.244.0.49/28", w.subnets("red"))
	// A machine that people put there needs an address too.
	n.Pods = 13
	w.port("Machine/x/1", "/infra/segments/seg_u-red_0/ports/vm", "10.244.0.40", intent.Tag{Scope: "capw.vmware.com/cluster.name", Tag: "tkc"})
	w.ready(n)
	same(t, "red-0 10.244.0.33/28, red-1 10.244.0.49/28", w.subnets("red"))
	get[*intent.Group](w, "/infra/domains/domain-c8/groups/ns_u-red_cluster_tkc")

	// It cannot go while there are ports.
	if out := w.remove("red"); out.Written() || out.Reason != writer.ReasonInUse {
		t.Errorf("removed: %+v", out)
	}
	w.port("Pod/red/p/1", "", "")
	w.port("Machine/x/1", "", "")
	if out := w.remove("red"); !out.OK() {
		t.Errorf("not removed: %+v", out)
	}
	same(t, nil, w.paths("Namespace/red/"))
}

func TestExhausted(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.244.0.0/23"}
	w.sup.Spec.NamespaceSubnetPrefix = 24
	w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.16.2.0/30"}
	w.supervisor()
	w.ready(w.named("red"))
	out, _ := w.write(w.named("blue"))
	same(t, "SubnetsExhausted namespaceNetworkCIDRs: 10.244.0.0/23: has no free /24 (extend it, or delete namespaces)", out.Reason+" "+out.Message)
	same(t, nil, w.paths("Namespace/blue/"))

	// The one that has a segment works on, and says that it lacks another.
	n := w.named("red")
	n.Pods = 300
	out, report := w.write(n)
	same(t, "SubnetsExhausted true true", fmt.Sprint(out.Reason, " ", out.Written(), " ", report.Lacks != nil))
	same(t, "red-0 10.244.1.1/24", w.subnets("red"))

	// Extended: mended. Then egress addresses are next.
	w.sup.Spec.NamespaceNetworkCIDRs = append(w.sup.Spec.NamespaceNetworkCIDRs, "10.250.0.0/23")
	w.supervisor()
	out, report = w.write(w.named("blue"))
	same(t, "EgressExhausted egressCIDRs: 172.16.2.0/30: has no free address (2 are taken or were released just now)", out.Reason+" "+out.Message)
	same(t, "IP_POOL_EXHAUSTED", report.SNATStatus)
	w.sup.Spec.EgressCIDRs = append(w.sup.Spec.EgressCIDRs, "172.16.3.0/30")
	w.ready(w.named("blue"))
	same(t, "172.16.3.1", w.egress("blue"))
	same(t, "blue-0 10.250.0.1/24", w.subnets("blue"))
}

func TestEgressAddress(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.16.2.0/29"}
	w.supervisor()
	w.ready(w.named("red"))
	same(t, "172.16.2.2", w.egress("red"))

	asks := func(name, address string) Namespace {
		n := w.named(name)
		n.StaticSNAT = address
		return n
	}
	for _, tc := range []struct {
		n            Namespace
		want, status string
	}{
		{asks("blue", "172.16.2.4"), "Realized", "IP_ALLOCATED_SUCCESSFULLY"},
		{asks("blue", "172.16.2.4"), "Realized", "IP_ALLOCATED_SUCCESSFULLY"}, // stays
		{asks("green", "172.16.2.2"), "Conflict metadata.annotations[ncp/static_snat_ip]: 172.16.2.2: belongs to Namespace/red/u-red", "IP_ALREADY_ALLOCATED"},
		{asks("green", "172.16.2.1"), "Conflict metadata.annotations[ncp/static_snat_ip]: 172.16.2.1: belongs to Supervisor/default", "IP_ALREADY_ALLOCATED"},
		{asks("green", "172.16.9.1"), "Invalid metadata.annotations[ncp/static_snat_ip]: 172.16.9.1: is no address for a host of the egress CIDRs (172.16.2.0/29)", "IP_NOT_IN_POOL"},
		{asks("green", "172.16.2.7"), "Invalid metadata.annotations[ncp/static_snat_ip]: 172.16.2.7: is no address for a host of the egress CIDRs (172.16.2.0/29)", "IP_NOT_IN_POOL"},
		{asks("green", "any"), "Invalid metadata.annotations[ncp/static_snat_ip]: any: is not an address", "SNAT_PROCESS_FAILED"},
	} {
		out, report := w.write(tc.n)
		same(t, tc.want+", "+tc.status, strings.TrimSpace(out.Reason+" "+out.Message)+", "+report.SNATStatus)
	}
	same(t, nil, w.paths("Namespace/green/"))

	// One that has an address keeps it, and its network is kept up to date.
	red := asks("red", "172.16.2.4")
	red.Pods = 20
	out, _ := w.write(red)
	same(t, "Conflict true 172.16.2.2", fmt.Sprint(out.Reason, " ", out.Written(), " ", w.egress("red")))
	same(t, "red-0 10.244.0.17/28, red-1 10.244.0.49/28", w.subnets("red"))

	// Released addresses wait.
	w.remove("blue")
	w.held[netip.MustParseAddr("172.16.2.3")] = true
	w.held[netip.MustParseAddr("172.16.2.4")] = true
	w.ready(w.named("green"))
	same(t, "172.16.2.5", w.egress("green"))
	out, report := w.write(asks("white", "172.16.2.4"))
	same(t, "Conflict IP_ALREADY_ALLOCATED", out.Reason+" "+report.SNATStatus)
	clear(w.held)
	w.ready(asks("white", "172.16.2.4"))
	same(t, "172.16.2.4", w.egress("white"))
}

// System namespaces share the gateway, have segments only when pods are in
// them, and are not isolated.
func TestSystemNamespace(t *testing.T) {
	w := newWorld(t)
	out, _ := w.write(w.named("kube-system"))
	same(t, "Pending the network of the Supervisor is not there yet", out.Reason+" "+out.Message)
	w.supervisor()
	n := w.named("kube-system")
	w.ready(n)
	same(t, []string{"/infra/domains/domain-c8/groups/ns_u-kube-system"}, w.paths("Namespace/"))
	n.Pods = 2
	w.ready(n)
	same(t, "kube-system-0 10.244.0.17/28", w.subnets("kube-system"))
	n.StaticSNAT = "172.16.2.9"
	out, report := w.write(n)
	same(t, "Invalid metadata.annotations[ncp/static_snat_ip]: 172.16.2.9: is given for a system namespace, which shares the egress address of the Supervisor, SNAT_PROCESS_FAILED",
		out.Reason+" "+out.Message+", "+report.SNATStatus)
	same(t, "/infra/tier-1s/t1_domain-c8_system_rtr", get[*intent.Segment](w, "/infra/segments/seg_u-kube-system_0").ConnectivityPath)
}

// Ranges can be extended, and shrink while what is in use stays.
func TestRangesShrink(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.244.0.0/23", "10.250.0.0/23"}
	w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.16.2.0/24", "172.16.3.0/24"}
	w.supervisor()
	w.ready(w.named("red"))
	w.ready(w.named("blue"))
	w.port("Pod/red/p/1", "/infra/segments/seg_u-red_0/ports/p", "10.244.0.18")

	w.sup.Spec.NamespaceNetworkCIDRs, w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"10.250.0.0/23"}, []v1alpha1.CIDR{"172.16.3.0/24"}
	w.supervisor()
	n := w.named("red")
	n.Pods = 1
	w.ready(n)
	w.ready(w.named("blue"))
	same(t, "red-0 10.244.0.17/28 172.16.2.2", w.subnets("red")+" "+w.egress("red"))
	same(t, "blue-0 10.250.0.17/28 172.16.3.2", w.subnets("blue")+" "+w.egress("blue"))
	same(t, "10.250.0.0/23,10.244.0.16/28", get[*intent.PolicyNatRule](w, "/infra/tier-1s/t1_u-red_rtr/nat/USER/nat-rules/inside-0").SourceNetwork)
	same(t, "InUse namespaceNetworkCIDRs: does not contain 10.244.0.16/28 of red-0 (still in use)", w.outside())

	w.port("Pod/red/p/1", "", "")
	w.ready(w.named("red"))
	same(t, "red-0 10.250.0.33/28 172.16.3.3", w.subnets("red")+" "+w.egress("red"))
	same(t, "", w.outside())
}

func (w *world) outside() string {
	var out string
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		if f := Outside(t, w.sup, w.nns); f != nil {
			out = f.Reason + " " + f.Error()
		}
	})
	return out
}

func TestOwnNetwork(t *testing.T) {
	w := newWorld(t)
	routed := true
	w.nns = []v1alpha1.NamespaceNetwork{{
		ObjectMeta: metav1.ObjectMeta{Name: "red"},
		Spec:       v1alpha1.NamespaceNetworkSpec{NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.77.0.0/22"}, SubnetPrefix: 27, RoutedMode: &routed, LoadBalancerSize: "LARGE"},
	}, {
		ObjectMeta: metav1.ObjectMeta{Name: "blue"},
		Spec:       v1alpha1.NamespaceNetworkSpec{NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.78.0.0/22"}, EgressCIDRs: []v1alpha1.CIDR{"172.16.9.9/32"}},
	}}
	w.supervisor()
	w.ready(w.named("red"))
	w.ready(w.named("blue"))
	same(t, "red-0 10.77.0.1/27", w.subnets("red"))
	same(t, "LARGE", get[*intent.LBService](w, "/infra/lb-services/lbs_u-red").Size)
	same(t, "blue-0 10.78.0.1/28 172.16.9.9", w.subnets("blue")+" "+w.egress("blue"))
	guard := get[*intent.Rule](w, "/infra/domains/domain-c8/gateway-policies/uplink_guard_domain-c8/rules/drop-untranslated-provider")
	same(t, []string{"10.78.0.0/22", "10.244.0.0/20"}, guard.SourceGroups)

	var usage v1alpha1.Usage
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		net, _ := v1alpha1.Effective(w.sup, nil)
		usage = Usage(t, net)
	})
	same(t, v1alpha1.Usage{
		Subnets: v1alpha1.Share{Used: 1, Total: 256, Text: "1/256"}, Egress: v1alpha1.Share{Used: 1, Total: 254, Text: "1/254"},
		Ingress: v1alpha1.Share{Total: 254, Text: "0/254"},
	}, usage)
}
