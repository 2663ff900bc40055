package v1alpha1

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
)

// What ranges are for. Ranges of one purpose may be those of several objects,
// as their addresses and subnets are given out once; what Effective says of a
// Supervisor and one NamespaceNetwork, a Contest says of all of these.
const (
	FieldNetworks = "namespaceNetworkCIDRs"
	FieldService  = "serviceCIDR"
	FieldIngress  = "ingressCIDRs"
	FieldEgress   = "egressCIDRs"
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
func claims(nn *NamespaceNetwork) []claim {
	var out []claim
	for _, f := range []struct {
		field string
		list  []CIDR
	}{{FieldNetworks, nn.Spec.NamespaceNetworkCIDRs}, {FieldIngress, nn.Spec.IngressCIDRs}, {FieldEgress, nn.Spec.EgressCIDRs}} {
		for i, text := range f.list {
			if p, err := netip.ParsePrefix(string(text)); err == nil {
				out = append(out, claim{f.field, i, p.Masked()})
			}
		}
	}
	return out
}

// MayContest reports whether two NamespaceNetworks with these ranges may be in
// each other's way.
func MayContest(one, other *NamespaceNetwork) bool {
	others := claims(other)
	for _, a := range claims(one) {
		for _, b := range others {
			if (a.field != b.field || a.field == FieldNetworks) && a.cidr.Overlaps(b.cidr) {
				return true
			}
		}
	}
	return false
}

// Contest is the NamespaceNetworks of a cluster, of which the older one has what
// two claim.
//
// +kubebuilder:object:generate=false
type Contest struct {
	sup *Supervisor
	all []contender
}

// contender is one of them.
type contender struct {
	nn     *NamespaceNetwork
	claims []claim
}

// NewContest returns the contest of the NamespaceNetworks that have an effect:
// those of system namespaces have none.
func NewContest(sup *Supervisor, nns []NamespaceNetwork) Contest {
	c := Contest{sup: sup}
	for i := range nns {
		if !sup.IsSystem(nns[i].Name) {
			c.all = append(c.all, contender{&nns[i], claims(&nns[i])})
		}
	}
	return c
}

// Problems returns what of nn is that of an older NamespaceNetwork, which has it
// whatever else is wrong with it. Cost O(ranges of nn * ranges of all).
func (c Contest) Problems(nn *NamespaceNetwork) []intent.Problem {
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
func (c Contest) why(a, b claim, nn, older *NamespaceNetwork) string {
	switch {
	case !a.cidr.Overlaps(b.cidr):
		return ""
	case a.field != b.field:
		return "the older one has it, want another range"
	case a.field == FieldNetworks && c.routed(nn) != c.routed(older):
		return "the older one has it and its routedMode is another, want another range"
	}
	return ""
}

func (c Contest) routed(nn *NamespaceNetwork) bool {
	if nn.Spec.RoutedMode != nil {
		return *nn.Spec.RoutedMode
	}
	return c.sup.Spec.RoutedMode
}

// older reports whether a was made before b. Creation times have seconds, so
// names tell apart those of one second.
func older(a, b *NamespaceNetwork) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name)) < 0
}
