package tenant

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Usage returns how much of a Supervisor's ranges the tree has in use.
func Usage(t *intent.Tree, n v1alpha1.Network) v1alpha1.Usage {
	var out v1alpha1.Usage
	for _, p := range n.Namespaces {
		if bits := n.SubnetPrefix - p.Bits(); bits < 62 {
			out.Subnets.Total += 1 << max(bits, 0)
		}
	}
	for o := range t.EachOfType("Segment") {
		if p := subnetOf(o.(*intent.Segment)); p.IsValid() && within(n.Namespaces, p) {
			out.Subnets.Used += 1 << max(n.SubnetPrefix-p.Bits(), 0)
		}
	}
	out.Egress.Total, out.Ingress.Total = writer.CountHosts(n.Egress), writer.CountHosts(n.Ingress)
	for a := range writer.Used(t) {
		switch {
		case contains(n.Egress, a):
			out.Egress.Used++
		case contains(n.Ingress, a):
			out.Ingress.Used++
		}
	}
	for _, s := range []*v1alpha1.Share{&out.Subnets, &out.Egress, &out.Ingress} {
		s.Text = strconv.FormatInt(s.Used, 10) + "/" + strconv.FormatInt(s.Total, 10)
	}
	return out
}

// Outside returns what is in use of the cluster outside of all ranges that sup
// and the NamespaceNetworks have, so that a range was shrunk too early; nil:
// nothing is.
func Outside(t *intent.Tree, sup *v1alpha1.Supervisor, nns []v1alpha1.NamespaceNetwork) *writer.Fault {
	own, _ := v1alpha1.Effective(sup, nil)
	namespaces, egress, ingress := own.Namespaces, own.Egress, own.Ingress
	for i := range nns {
		n, _ := v1alpha1.Effective(sup, &nns[i])
		namespaces, egress, ingress = slices.Concat(namespaces, n.Namespaces), slices.Concat(egress, n.Egress), slices.Concat(ingress, n.Ingress)
	}
	var found []string
	field := ""
	add := func(f string, o intent.Object, what string) {
		if field == "" || field == f {
			field, found = f, append(found, what+" of "+o.Meta().Name())
		}
	}
	ours := func(o intent.Object) bool {
		return ncp.TagValue(o.Meta().Tags, ncp.TagCluster) == own.Cluster && store.OwnerOf(o) != ""
	}
	for _, o := range t.OfType("Segment") {
		if p := subnetOf(o.(*intent.Segment)); ours(o) && p.IsValid() && !within(namespaces, p) {
			add("namespaceNetworkCIDRs", o, p.String())
		}
	}
	for _, o := range t.OfType("PolicyNatRule") {
		r := o.(*intent.PolicyNatRule)
		if p := r.Translated(); ours(o) && r.ID == ncp.NATEgress && p.IsValid() && !contains(egress, p.Addr()) {
			add("egressCIDRs", t.Get(r.RouterPath()), p.Addr().String())
		}
	}
	for _, o := range t.OfType("LBVirtualServer") {
		a, err := netip.ParseAddr(o.(*intent.LBVirtualServer).IPAddress)
		if ours(o) && err == nil && !contains(ingress, a) && !own.Service.Contains(a) {
			add("ingressCIDRs", o, a.String())
		}
	}
	if len(found) == 0 {
		return nil
	}
	const most = 3
	if n := len(found); n > most {
		found = append(found[:most], strconv.Itoa(n-most)+" more")
	}
	return &writer.Fault{Reason: writer.ReasonInUse, Field: field, Msg: "does not contain " + strings.Join(found, ", ") + " (still in use)"}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// texts returns prefixes as a rule has them.
func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}
