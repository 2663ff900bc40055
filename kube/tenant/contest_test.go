package tenant

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/store"
)

// network returns a NamespaceNetwork that was made so many seconds after the
// first. Each range is n:, i: or e: for what it is, and a CIDR; routed and nat
// are its mode.
func network(name string, second int64, words ...string) v1alpha1.NamespaceNetwork {
	nn := v1alpha1.NamespaceNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(second, 0))}}
	for _, w := range words {
		kind, cidr, _ := strings.Cut(w, ":")
		switch s, c := &nn.Spec, v1alpha1.CIDR(cidr); kind {
		case "n":
			s.NamespaceNetworkCIDRs = append(s.NamespaceNetworkCIDRs, c)
		case "i":
			s.IngressCIDRs = append(s.IngressCIDRs, c)
		case "e":
			s.EgressCIDRs = append(s.EgressCIDRs, c)
		default:
			routed := kind == "routed"
			s.RoutedMode = &routed
		}
	}
	return nn
}

// Ranges of two NamespaceNetworks exclude each other if they are for different
// things: the older one has them.
func TestContest(t *testing.T) {
	const want = "NamespaceNetwork/blue: egressCIDRs[0]: 10.77.0.0/29: overlaps 10.77.0.0/22 of NamespaceNetwork/red, namespaceNetworkCIDRs[0] (the older one has it, want another range)"
	for _, tc := range []struct {
		name string
		nns  []v1alpha1.NamespaceNetwork
		want string
	}{
		{"egress in a network", []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.77.0.0/22"), network("blue", 2, "n:10.78.0.0/22", "e:10.77.0.0/29")}, want},
		{"the other way round", []v1alpha1.NamespaceNetwork{network("blue", 1, "n:10.78.0.0/22", "e:10.77.0.0/29"), network("red", 2, "n:10.77.0.0/22")},
			"NamespaceNetwork/red: namespaceNetworkCIDRs[0]: 10.77.0.0/22: overlaps 10.77.0.0/29 of NamespaceNetwork/blue, egressCIDRs[0] (the older one has it, want another range)"},
		{"of one second the names tell", []v1alpha1.NamespaceNetwork{network("zinc", 1, "n:10.77.0.0/22"), network("blue", 1, "n:10.78.0.0/22", "e:10.77.0.0/29")},
			"NamespaceNetwork/zinc: namespaceNetworkCIDRs[0]: 10.77.0.0/22: overlaps 10.77.0.0/29 of NamespaceNetwork/blue, egressCIDRs[0] (the older one has it, want another range)"},
		{"ingress and egress, all of them", []v1alpha1.NamespaceNetwork{
			network("red", 1, "n:10.77.0.0/22", "i:10.1.0.0/24", "i:10.2.0.0/24"), network("blue", 2, "n:10.78.0.0/22", "e:10.1.0.7/24", "e:10.3.0.0/24", "e:10.2.0.0/16"),
		}, "NamespaceNetwork/blue: egressCIDRs[0]: 10.1.0.0/24: overlaps 10.1.0.0/24 of NamespaceNetwork/red, ingressCIDRs[0] (the older one has it, want another range)" +
			"; NamespaceNetwork/blue: egressCIDRs[2]: 10.2.0.0/16: overlaps 10.2.0.0/24 of NamespaceNetwork/red, ingressCIDRs[1] (the older one has it, want another range)"},
		{"for the same purpose", []v1alpha1.NamespaceNetwork{
			network("red", 1, "n:10.77.0.0/22", "i:10.1.0.0/24", "e:10.2.0.0/24"), network("blue", 2, "n:10.77.0.0/22", "i:10.1.0.0/24", "e:10.2.0.0/25"),
		}, ""},
		{"routed and translated", []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.77.0.0/22", "routed"), network("blue", 2, "n:10.77.0.0/23")},
			"NamespaceNetwork/blue: namespaceNetworkCIDRs[0]: 10.77.0.0/23: overlaps 10.77.0.0/22 of NamespaceNetwork/red, namespaceNetworkCIDRs[0] (the older one has it and its routedMode is another, want another range)"},
		{"both routed", []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.77.0.0/22", "routed"), network("blue", 2, "n:10.77.0.0/23", "routed")}, ""},
		{"of a system namespace", []v1alpha1.NamespaceNetwork{network("kube-system", 1, "n:10.77.0.0/22"), network("blue", 2, "n:10.78.0.0/22", "e:10.77.0.0/29")}, ""},
		{"no CIDR", []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.77.0.0/33"), network("blue", 2, "n:10.78.0.0/22", "e:10.77.0.0/29")}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := v1alpha1.NewContest(kubetest.Supervisor(), tc.nns)
			var got []string
			for i := range tc.nns {
				for _, p := range c.Problems(&tc.nns[i]) {
					got = append(got, p.String())
				}
			}
			same(t, tc.want, strings.Join(got, "; "))
			if a, b := &tc.nns[0], &tc.nns[1]; tc.want != "" && !(v1alpha1.MayContest(a, b) && v1alpha1.MayContest(b, a)) {
				t.Error("a change of one does not concern the other")
			}
		})
	}
}

// What an older one contests may be the source of what that sends, so the guard
// does not know it.
func TestContestedIsNotGuarded(t *testing.T) {
	nns := []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.78.0.0/22", "e:10.77.0.0/29"), network("blue", 2, "n:10.77.0.0/22"), network("green", 3, "n:10.79.0.0/22")}
	same(t, []string{"10.78.0.0/22", "10.79.0.0/22", "10.244.0.0/20"}, texts(Translated(kubetest.Supervisor(), nns)[kubetest.Tier0Path]))
}

// An address of a link to a Tier-1 is nobody else's.
func TestTransit(t *testing.T) {
	const rule = " of /infra/tier-0s/provider, transit_subnets, which its links to Tier-1s have (want another range, or other transit_subnets)"
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.SupervisorSpec)
		want   string
	}{
		{"networks", func(s *v1alpha1.SupervisorSpec) {
			s.NamespaceNetworkCIDRs = append(s.NamespaceNetworkCIDRs, "100.64.0.0/20")
		}, "Conflict namespaceNetworkCIDRs: 100.64.0.0/20: overlaps 100.64.0.0/16" + rule},
		{"services", func(s *v1alpha1.SupervisorSpec) { s.ServiceCIDR = "100.64.3.0/24" }, "Conflict serviceCIDR: 100.64.3.0/24: overlaps 100.64.0.0/16" + rule},
		{"ingress", func(s *v1alpha1.SupervisorSpec) { s.IngressCIDRs = []v1alpha1.CIDR{"100.64.9.0/24"} }, "Conflict ingressCIDRs: 100.64.9.0/24: overlaps 100.64.0.0/16" + rule},
		{"egress", func(s *v1alpha1.SupervisorSpec) { s.EgressCIDRs = []v1alpha1.CIDR{"100.0.0.0/8"} }, "Conflict egressCIDRs: 100.0.0.0/8: overlaps 100.64.0.0/16" + rule},
	} {
		w := newWorld(t)
		tc.change(&w.sup.Spec)
		out := w.supervisor()
		same(t, tc.name+": "+tc.want, tc.name+": "+out.Reason+" "+out.Message)
	}
	w := newWorld(t)
	w.supervisor()
	w.nns = []v1alpha1.NamespaceNetwork{network("red", 1, "n:100.64.0.0/20")}
	out, _ := w.write(w.named("red"))
	same(t, "Conflict namespaceNetworkCIDRs: 100.64.0.0/20: overlaps 100.64.0.0/16"+rule, out.Reason+" "+out.Message)
	if _, _, err := w.store.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) {
		return []intent.Change{intent.Put(kubetest.Tier0Path, &intent.Tier0{TransitSubnets: []string{"100.65.0.0/16"}})}, nil
	}); err != nil {
		t.Fatal(err)
	}
	w.ready(w.named("red"))
}

// Whatever ranges say, no address is given out that somebody has: not one of a
// subnet, and no subnet with one that is in use.
func TestAddressesOfOthers(t *testing.T) {
	w := newWorld(t)
	w.supervisor()
	w.nns = []v1alpha1.NamespaceNetwork{network("red", 1, "n:10.77.0.0/22"), network("blue", 2, "n:10.78.0.0/22", "e:10.77.0.0/28", "e:10.77.0.16/28")}
	w.ready(w.named("red"))
	same(t, "red-0 10.77.0.1/28", w.subnets("red"))
	n := w.named("blue")
	n.StaticSNAT = "10.77.0.1"
	out, _ := w.write(n)
	same(t, "Conflict metadata.annotations[ncp/static_snat_ip]: 10.77.0.1: belongs to Namespace/red/u-red", out.Reason+" "+out.Message)
	w.ready(w.named("blue"))
	same(t, "10.77.0.17", w.egress("blue"))
	n = w.named("red")
	n.Pods = 20
	w.ready(n)
	same(t, "red-0 10.77.0.1/28, red-1 10.77.0.33/28", w.subnets("red"))
	same(t, "10.77.0.17", w.egress("blue"))

	// Of segments that people made, gateways and ports.
	people := func(path string, o intent.Object) intent.Change { return intent.Put(path, o) }
	if _, _, err := w.store.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) {
		return []intent.Change{
			people("/infra/segments/x", &intent.Segment{ConnectivityPath: kubetest.Tier0Path, Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.80.0.1/24"}}}),
			people("/infra/segments/x/ports/p", &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{IPAddress: "10.80.0.2", MACAddress: mac(0, 2)}}}),
		}, nil
	}); err != nil {
		t.Fatal(err)
	}
	w.nns = append(w.nns, network("green", 3, "n:10.79.0.0/22", "e:10.80.0.0/29"))
	w.ready(w.named("green"))
	same(t, "10.80.0.3", w.egress("green"))
	same(t, 1, len(w.store.Owners(string(store.Owner("Namespace/green/")))))
}
