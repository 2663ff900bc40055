package tenant

import (
	"net/netip"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// apartFromTransit checks that no address of a network can be that of a link
// between a Tier-0 and its Tier-1s; nil: none can.
func apartFromTransit(tier0 *intent.Tier0, net v1alpha1.Network) *writer.Fault {
	for _, f := range []struct {
		field string
		list  []netip.Prefix
	}{{v1alpha1.FieldNetworks, net.Namespaces}, {v1alpha1.FieldService, []netip.Prefix{net.Service}}, {v1alpha1.FieldIngress, net.Ingress}, {v1alpha1.FieldEgress, net.Egress}} {
		for _, p := range f.list {
			for _, q := range tier0.Transit() {
				if p.Overlaps(q) {
					return &writer.Fault{Reason: writer.ReasonConflict, Field: f.field, Msg: p.String() + ": overlaps " + q.String() +
						" of " + tier0.Path + ", transit_subnets, which its links to Tier-1s have (want another range, or other transit_subnets)"}
				}
			}
		}
	}
	return nil
}
