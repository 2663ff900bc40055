package v1alpha1

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func supervisor() *Supervisor {
	return &Supervisor{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec: SupervisorSpec{
			NamespaceNetworkCIDRs: []CIDR{"10.244.0.0/20"}, ServiceCIDR: "10.96.0.0/23",
			IngressCIDRs: []CIDR{"172.16.1.0/24"}, EgressCIDRs: []CIDR{"172.16.2.0/24"},
			Tier0Path: "/infra/tier-0s/provider", EdgeClusterPath: "/infra/sites/default/enforcement-points/default/edge-clusters/ec",
		},
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestEffective(t *testing.T) {
	yes, no := true, false
	base := Network{
		Cluster: "domain-c8", Namespaces: prefixes("10.244.0.0/20"), SubnetPrefix: 28, Service: netip.MustParsePrefix("10.96.0.0/23"),
		Ingress: prefixes("172.16.1.0/24"), Egress: prefixes("172.16.2.0/24"),
		AllNamespaces: prefixes("10.244.0.0/20"), AllIngress: prefixes("172.16.1.0/24"),
		Tier0Path: "/infra/tier-0s/provider", EdgeClusterPath: "/infra/sites/default/enforcement-points/default/edge-clusters/ec",
		Isolated: true, LoadBalancer: "SMALL", HoldTime: time.Minute,
	}
	for _, tc := range []struct {
		name   string
		sup    func(*SupervisorSpec)
		nn     *NamespaceNetworkSpec
		change func(*Network)
	}{
		{"defaults", nil, nil, func(*Network) {}},
		{"nothing overridden", nil, &NamespaceNetworkSpec{}, func(*Network) {}},
		{"host bits", func(s *SupervisorSpec) { s.SNATExemptCIDRs = []CIDR{"10.196.7.7/12"} }, nil, func(n *Network) { n.Exempt = prefixes("10.192.0.0/12") }},
		{"others", func(s *SupervisorSpec) {
			s.Isolation, s.SNATToIngress, s.LogDroppedTraffic, s.LoadBalancerSize = &no, true, true, "LARGE"
			s.AddressHoldTime, s.ClusterID, s.NamespaceSubnetPrefix = &metav1.Duration{Duration: time.Second}, "domain-c9", 26
		}, nil, func(n *Network) {
			n.Isolated, n.SNATToIngress, n.LogDropped, n.LoadBalancer = false, true, true, "LARGE"
			n.HoldTime, n.Cluster, n.SubnetPrefix = time.Second, "domain-c9", 26
		}},
		{"small overrides", nil, &NamespaceNetworkSpec{SubnetPrefix: 27, LoadBalancerSize: "MEDIUM", SNATToIngress: &yes}, func(n *Network) {
			n.SubnetPrefix, n.LoadBalancer, n.SNATToIngress = 27, "MEDIUM", true
		}},
		{"own network", nil, &NamespaceNetworkSpec{
			NamespaceNetworkCIDRs: []CIDR{"10.100.0.0/22"}, IngressCIDRs: []CIDR{"172.16.3.0/24"}, EgressCIDRs: []CIDR{"172.16.4.0/24"}, Tier0Path: "/infra/tier-0s/other",
		}, func(n *Network) {
			n.Namespaces, n.AllNamespaces = prefixes("10.100.0.0/22"), prefixes("10.100.0.0/22", "10.244.0.0/20")
			n.Ingress, n.AllIngress = prefixes("172.16.3.0/24"), prefixes("172.16.3.0/24", "172.16.1.0/24")
			n.Egress, n.Tier0Path = prefixes("172.16.4.0/24"), "/infra/tier-0s/other"
		}},
		{"routed", nil, &NamespaceNetworkSpec{NamespaceNetworkCIDRs: []CIDR{"10.100.0.0/22"}, RoutedMode: &yes}, func(n *Network) {
			n.Namespaces, n.AllNamespaces = prefixes("10.100.0.0/22"), prefixes("10.100.0.0/22", "10.244.0.0/20")
			n.Egress, n.Routed = nil, true
		}},
		{"shares ranges of its kind", nil, &NamespaceNetworkSpec{NamespaceNetworkCIDRs: []CIDR{"10.244.0.0/22"}, EgressCIDRs: []CIDR{"172.16.2.0/28"}}, func(n *Network) {
			n.Namespaces, n.AllNamespaces = prefixes("10.244.0.0/22"), prefixes("10.244.0.0/22", "10.244.0.0/20")
			n.Egress = prefixes("172.16.2.0/28")
		}},
		{"IPv6", func(s *SupervisorSpec) {
			s.NamespaceNetworkCIDRs, s.NamespaceSubnetPrefix = []CIDR{"fd00:244::/100"}, 124
			s.ServiceCIDR, s.IngressCIDRs, s.EgressCIDRs = "fd00:96::/112", []CIDR{"fd00:1::/112"}, []CIDR{"fd00:2::/112"}
		}, nil, func(n *Network) {
			n.Namespaces, n.AllNamespaces, n.SubnetPrefix = prefixes("fd00:244::/100"), prefixes("fd00:244::/100"), 124
			n.Service, n.Egress = netip.MustParsePrefix("fd00:96::/112"), prefixes("fd00:2::/112")
			n.Ingress, n.AllIngress = prefixes("fd00:1::/112"), prefixes("fd00:1::/112")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, problems := effectiveOf(tc.sup, tc.nn)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			want := base
			tc.change(&want)
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func effectiveOf(change func(*SupervisorSpec), spec *NamespaceNetworkSpec) (Network, []string) {
	sup := supervisor()
	if change != nil {
		change(&sup.Spec)
	}
	var nn *NamespaceNetwork
	if spec != nil {
		nn = &NamespaceNetwork{ObjectMeta: metav1.ObjectMeta{Name: "red"}, Spec: *spec}
	}
	n, problems := Effective(sup, nn)
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	return n, out
}

func TestEffectiveProblems(t *testing.T) {
	yes := true
	const s, r = "Supervisor/default: ", "NamespaceNetwork/red: "
	for _, tc := range []struct {
		name string
		sup  func(*SupervisorSpec)
		nn   *NamespaceNetworkSpec
		want []string
	}{
		{"no CIDR", func(s *SupervisorSpec) { s.IngressCIDRs = []CIDR{"172.16.1.0"} }, nil, []string{s + "ingressCIDRs[0]: 172.16.1.0: is not a CIDR (such as 10.244.0.0/20)"}},
		{"multicast", func(s *SupervisorSpec) { s.IngressCIDRs = []CIDR{"224.0.0.0/24"} }, nil, []string{s + "ingressCIDRs[0]: 224.0.0.0/24: has no unicast addresses of a network (such as 10.244.0.0/20)"}},
		{"everything missing", func(s *SupervisorSpec) { *s = SupervisorSpec{} }, nil, []string{
			s + "serviceCIDR: is missing", s + "tier0Path: is missing", s + "edgeClusterPath: is missing", s + "namespaceNetworkCIDRs: is missing (want a CIDR)",
			s + "ingressCIDRs: is missing (want a CIDR)", s + "egressCIDRs: is missing (want a CIDR)",
		}},
		{"too small", func(s *SupervisorSpec) { s.NamespaceNetworkCIDRs = []CIDR{"10.244.0.0/24"} }, nil, []string{s + "namespaceNetworkCIDRs[0]: 10.244.0.0/24: is too small (at most /23)"}},
		{"subnets too small", func(s *SupervisorSpec) { s.NamespaceSubnetPrefix = 31 }, nil, []string{s + "namespaceSubnetPrefix: 31: does not fit the namespace networks (20 to 30)"}},
		{"subnets too large", func(s *SupervisorSpec) { s.NamespaceSubnetPrefix = 19 }, nil, []string{s + "namespaceSubnetPrefix: 19: does not fit the namespace networks (20 to 30)"}},
		{"families", func(s *SupervisorSpec) { s.NamespaceNetworkCIDRs = []CIDR{"10.244.0.0/20", "fd00::/20"} }, nil, []string{
			s + "namespaceNetworkCIDRs[1]: fd00::/20: is not of the family of 10.244.0.0/20",
		}},
		{"routed with egress", func(s *SupervisorSpec) { s.RoutedMode = true }, nil, []string{s + "egressCIDRs: is given in routed mode (want it empty)"}},
		{"overlap", func(s *SupervisorSpec) { s.ServiceCIDR = "10.244.1.0/24" }, nil, []string{
			s + "serviceCIDR: 10.244.1.0/24: overlaps 10.244.0.0/20 of Supervisor/default, namespaceNetworkCIDRs",
		}},
		{"overlap of ingress and egress", func(s *SupervisorSpec) { s.EgressCIDRs = []CIDR{"172.16.9.0/24", "172.16.0.0/16"} }, nil, []string{
			s + "egressCIDRs[1]: 172.16.0.0/16: overlaps 172.16.9.0/24 of the same field",
			s + "egressCIDRs[1]: 172.16.0.0/16: overlaps 172.16.1.0/24 of Supervisor/default, ingressCIDRs",
		}},
		{"DNS for both", func(s *SupervisorSpec) {
			s.ManagementDNS, s.WorkloadDNS = []IP{"10.0.0.53"}, []IP{"10.0.0.54", "10.0.0.53", "x"}
		}, nil, []string{
			s + "workloadDNS[2]: x: is not an address (such as 10.0.0.53)",
			s + "workloadDNS[1]: 10.0.0.53: is a managementDNS too (the control plane reaches each by another interface)",
		}},
		{"no Tier-0", func(s *SupervisorSpec) { s.Tier0Path = "/infra/tier-1s/x" }, nil, []string{s + "tier0Path: /infra/tier-1s/x: is not a path below /infra/tier-0s/"}},
		{"egress alone", nil, &NamespaceNetworkSpec{EgressCIDRs: []CIDR{"172.16.9.0/24"}}, []string{r + "namespaceNetworkCIDRs: is missing (egressCIDRs wants it)"}},
		{"Tier-0 alone", nil, &NamespaceNetworkSpec{Tier0Path: "/infra/tier-0s/x"}, []string{r + "namespaceNetworkCIDRs: is missing (tier0Path wants it)"}},
		{"mode alone", nil, &NamespaceNetworkSpec{RoutedMode: &yes}, []string{r + "namespaceNetworkCIDRs: is missing (routedMode wants it)"}},
		{"routed inside of what is translated", nil, &NamespaceNetworkSpec{RoutedMode: &yes, NamespaceNetworkCIDRs: []CIDR{"10.244.0.0/22"}}, []string{
			r + "namespaceNetworkCIDRs[0]: 10.244.0.0/22: overlaps 10.244.0.0/20 of the Supervisor, whose routedMode is another",
		}},
		{"routed with own egress", nil, &NamespaceNetworkSpec{RoutedMode: &yes, NamespaceNetworkCIDRs: []CIDR{"10.100.0.0/22"}, EgressCIDRs: []CIDR{"172.16.9.0/24"}}, []string{
			r + "egressCIDRs: is given in routed mode (want it empty)",
		}},
		{"own prefix", nil, &NamespaceNetworkSpec{SubnetPrefix: 16}, []string{r + "subnetPrefix: 16: does not fit the namespace networks (20 to 30)"}},
		{"own network over another's ingress", nil, &NamespaceNetworkSpec{NamespaceNetworkCIDRs: []CIDR{"172.16.0.0/22"}}, []string{
			r + "namespaceNetworkCIDRs[0]: 172.16.0.0/22: overlaps 172.16.1.0/24 of Supervisor/default, ingressCIDRs",
			r + "namespaceNetworkCIDRs[0]: 172.16.0.0/22: overlaps 172.16.2.0/24 of Supervisor/default, egressCIDRs",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, got := effectiveOf(tc.sup, tc.nn)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIsSystem(t *testing.T) {
	sup := supervisor()
	for name, want := range map[string]bool{
		"kube-system": true, "default": true, "vmware-system-nsx": true, "vmware-system": false, "svc-contour-domain-c8": false, "kube-systems": false,
	} {
		if sup.IsSystem(name) != want {
			t.Error(name)
		}
	}
	sup.Spec.SystemNamespaces = []string{}
	if sup.IsSystem("kube-system") {
		t.Error("an empty list has a name")
	}
}

func TestCRDs(t *testing.T) {
	crds, err := CRDs()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range crds {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, " "); got != "namespacenetworks.weft.dev supervisors.weft.dev traces.weft.dev" {
		t.Error(got)
	}
}

// Whatever a field has, Effective says so instead of giving up.
func FuzzEffective(f *testing.F) {
	f.Add("10.244.0.0/20", "10.96.0.0/23", "172.16.1.0/24", int32(28), true)
	f.Add("::ffff:10.0.0.0/104", "fe80::%1/64", "", int32(-1), false)
	f.Fuzz(func(t *testing.T, a, b, c string, prefix int32, routed bool) {
		sup := supervisor()
		sup.Spec.NamespaceNetworkCIDRs = []CIDR{CIDR(a), CIDR(b)}
		sup.Spec.ServiceCIDR, sup.Spec.RoutedMode, sup.Spec.NamespaceSubnetPrefix = CIDR(c), routed, prefix
		nn := &NamespaceNetwork{Spec: NamespaceNetworkSpec{NamespaceNetworkCIDRs: []CIDR{CIDR(c)}, EgressCIDRs: []CIDR{CIDR(b)}, RoutedMode: &routed}}
		n, problems := Effective(sup, nn)
		for _, p := range n.Namespaces {
			if len(problems) == 0 && (n.SubnetPrefix < p.Bits() || n.SubnetPrefix > p.Addr().BitLen()-2) {
				t.Errorf("/%d of %v", n.SubnetPrefix, p)
			}
		}
	})
}
