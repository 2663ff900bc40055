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
// nothing is. Addresses of an IpAddressPool are not the Supervisor's: their
// Services tell of them.
func Outside(t *intent.Tree, sup *v1alpha1.Supervisor, nns []v1alpha1.NamespaceNetwork) *writer.Fault {
	o := newOutside(sup, nns)
	for _, part := range []func(*intent.Tree){o.segments, o.gateways, o.servers} {
		part(t)
	}
	if len(o.found) == 0 {
		return nil
	}
	const most = 3
	if n := len(o.found); n > most {
		o.found = append(o.found[:most], strconv.Itoa(n-most)+" more")
	}
	return &writer.Fault{Reason: writer.ReasonInUse, Field: o.field, Msg: "does not contain " + strings.Join(o.found, ", ") + " (still in use)"}
}

// outside collects what one Outside finds: of one field, the first that lacks
// something.
type outside struct {
	net   v1alpha1.Network // the Supervisor's, with the ranges of all
	field string
	found []string
}

func newOutside(sup *v1alpha1.Supervisor, nns []v1alpha1.NamespaceNetwork) *outside {
	all, _ := v1alpha1.Effective(sup, nil)
	for i := range nns {
		n, _ := v1alpha1.Effective(sup, &nns[i])
		all.Namespaces, all.Egress, all.Ingress = slices.Concat(all.Namespaces, n.Namespaces), slices.Concat(all.Egress, n.Egress), slices.Concat(all.Ingress, n.Ingress)
	}
	return &outside{net: all}
}

func (o *outside) add(field, what, whose string) {
	found := what + " of " + whose
	if o.field == "" || o.field == field && !slices.Contains(o.found, found) {
		o.field, o.found = field, append(o.found, found)
	}
}

// ours reports whether an object was made for the cluster.
func (o *outside) ours(x intent.Object) bool {
	return ncp.TagValue(x.Meta().Tags, ncp.TagCluster) == o.net.Cluster && store.OwnerOf(x) != ""
}

func (o *outside) segments(t *intent.Tree) {
	for _, s := range t.OfType("Segment") {
		if p := subnetOf(s.(*intent.Segment)); o.ours(s) && p.IsValid() && !within(o.net.Namespaces, p) {
			o.add(v1alpha1.FieldNetworks, p.String(), s.Meta().Name())
		}
	}
}

func (o *outside) gateways(t *intent.Tree) {
	for _, x := range t.OfType("PolicyNatRule") {
		r := x.(*intent.PolicyNatRule)
		if p := r.Translated(); o.ours(r) && r.ID == ncp.NATEgress && p.IsValid() && !contains(o.net.Egress, p.Addr()) {
			o.add(v1alpha1.FieldEgress, p.Addr().String(), t.Get(r.RouterPath()).Meta().Name())
		}
	}
}

func (o *outside) servers(t *intent.Tree) {
	for _, x := range t.OfType("LBVirtualServer") {
		v := x.(*intent.LBVirtualServer)
		a, tags := v.Address(), v.Tags
		if !o.ours(v) || !a.IsValid() || ncp.TagValue(tags, ncp.TagIPPool) != "" {
			continue
		}
		whose := "Service " + ncp.TagValue(tags, ncp.TagProject) + "/" + ncp.TagValue(tags, ncp.TagService)
		switch inside := ncp.TagValue(tags, ncp.TagCreatedFor) == ncp.CreatedForDLB; {
		case inside && !o.net.Service.Contains(a):
			o.add(v1alpha1.FieldService, a.String(), whose)
		case !inside && !contains(o.net.Ingress, a):
			o.add(v1alpha1.FieldIngress, a.String(), whose)
		}
	}
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
