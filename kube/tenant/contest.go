package tenant

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// What ranges are for. Ranges of one purpose may be those of several objects,
// as their addresses and subnets are given out once; what Effective says of a
// Supervisor and one NamespaceNetwork, a contest says of all of these.
const (
	fieldNetworks = "namespaceNetworkCIDRs"
	fieldService  = "serviceCIDR"
	fieldIngress  = "ingressCIDRs"
	fieldEgress   = "egressCIDRs"
)

// claim is a range that a NamespaceNetwork does not inherit.
type claim struct {
	field string
	index int
	cidr  netip.Prefix // masked
}

func (c claim) at() string { return c.field + "[" + strconv.Itoa(c.index) + "]" }

// claims returns the ranges of a NamespaceNetwork. What does not parse is left
// out, Effective tells of it.
func claims(nn *v1alpha1.NamespaceNetwork) []claim {
	var out []claim
	for _, f := range []struct {
		field string
		list  []v1alpha1.CIDR
	}{{fieldNetworks, nn.Spec.NamespaceNetworkCIDRs}, {fieldIngress, nn.Spec.IngressCIDRs}, {fieldEgress, nn.Spec.EgressCIDRs}} {
		for i, text := range f.list {
			if p, err := netip.ParsePrefix(string(text)); err == nil {
				out = append(out, claim{f.field, i, p.Masked()})
			}
		}
	}
	return out
}

// mayContest reports whether objects with these ranges may be in each other's
// way.
func mayContest(some, others []claim) bool {
	for _, a := range some {
		for _, b := range others {
			if (a.field != b.field || a.field == fieldNetworks) && a.cidr.Overlaps(b.cidr) {
				return true
			}
		}
	}
	return false
}

// contest is the NamespaceNetworks of a cluster, of which the older one has what
// two claim.
type contest struct {
	sup *v1alpha1.Supervisor
	all []contender
}

// contender is one of them.
type contender struct {
	nn     *v1alpha1.NamespaceNetwork
	claims []claim
}

// newContest returns the contest of the NamespaceNetworks that have an effect:
// those of system namespaces have none.
func newContest(sup *v1alpha1.Supervisor, nns []v1alpha1.NamespaceNetwork) contest {
	c := contest{sup: sup}
	for i := range nns {
		if !sup.IsSystem(nns[i].Name) {
			c.all = append(c.all, contender{&nns[i], claims(&nns[i])})
		}
	}
	return c
}

// problems returns what of nn is that of an older NamespaceNetwork, which has it
// whatever else is wrong with it. Cost O(ranges of nn * ranges of all).
func (c contest) problems(nn *v1alpha1.NamespaceNetwork) []intent.Problem {
	var out []intent.Problem
	own := claims(nn)
	for _, other := range c.all {
		if !older(other.nn, nn) {
			continue
		}
		for _, a := range own {
			for _, b := range other.claims {
				if why := c.why(a, b, nn, other.nn); why != "" {
					out = append(out, intent.Problem{
						Path: "NamespaceNetwork/" + nn.Name, Field: a.at(), Kind: intent.Overlap,
						Msg: a.cidr.String() + ": overlaps " + b.cidr.String() + " of NamespaceNetwork/" + other.nn.Name + ", " + b.at() + " (" + why + ")",
					})
				}
			}
		}
	}
	return out
}

// why returns the rule by which a of nn and b of an older one exclude each other;
// empty: they do not.
func (c contest) why(a, b claim, nn, older *v1alpha1.NamespaceNetwork) string {
	switch {
	case !a.cidr.Overlaps(b.cidr):
		return ""
	case a.field != b.field:
		return "the older one has it, want another range"
	case a.field == fieldNetworks && c.routed(nn) != c.routed(older):
		return "the older one has it and its routedMode is another, want another range"
	}
	return ""
}

func (c contest) routed(nn *v1alpha1.NamespaceNetwork) bool {
	if nn.Spec.RoutedMode != nil {
		return *nn.Spec.RoutedMode
	}
	return c.sup.Spec.RoutedMode
}

// older reports whether a was made before b. Creation times have seconds, so
// names tell apart those of one second.
func older(a, b *v1alpha1.NamespaceNetwork) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name)) < 0
}

// apartFromTransit checks that no address of a network can be that of a link
// between a Tier-0 and its Tier-1s; nil: none can.
func apartFromTransit(tier0 *intent.Tier0, net v1alpha1.Network) *writer.Fault {
	for _, f := range []struct {
		field string
		list  []netip.Prefix
	}{{fieldNetworks, net.Namespaces}, {fieldService, []netip.Prefix{net.Service}}, {fieldIngress, net.Ingress}, {fieldEgress, net.Egress}} {
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
