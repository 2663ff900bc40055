package tenant

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Reasons of conditions.
const (
	ReasonSubnetsExhausted = "SubnetsExhausted"
	ReasonEgressExhausted  = "EgressExhausted"
	ReasonNoSupervisor     = "NoSupervisor"
)

// gateway is a Tier-1 with what makes it useful: the shared one of the system,
// or that of a namespace.
type gateway struct {
	tree *intent.Tree
	net  v1alpha1.Network
	held func(netip.Addr) bool

	tier1, lb string // paths
	name      string
	tags      []intent.Tag
	static    string // the egress address that is asked for; empty: any
	busy      bool   // something has an address behind it
}

// routeTypes is what a tenant's gateway tells the Tier-0. The subnets are told
// in NAT mode too: the sources of what NO_SNAT exempts must be reachable.
func routeTypes() []string {
	return []string{"TIER1_CONNECTED", "TIER1_NAT", "TIER1_LB_VIP", "TIER1_LB_SNAT", "TIER1_STATIC_ROUTES"}
}

// objects returns the Tier-1, where it is, its load balancer and, unless it is
// routed, its NAT rules. own is the subnets behind it.
func (g *gateway) objects(egress netip.Addr, own []netip.Prefix) []intent.Object {
	out := []intent.Object{
		put(g.tier1, &intent.Tier1{
			Resource: g.resource(), Tier0Path: g.net.Tier0Path, Type: "ROUTED", HAMode: "ACTIVE_STANDBY",
			FailoverMode: "NON_PREEMPTIVE", RouteAdvertisementTypes: routeTypes(),
		}),
		put(ncp.LocaleServicesPath(g.tier1), &intent.LocaleServices{Resource: g.resource(), EdgeClusterPath: g.net.EdgeClusterPath}),
		put(g.lb, &intent.LBService{Resource: g.resource(), ConnectivityPath: g.tier1, Size: g.net.LoadBalancer}),
	}
	if g.net.Routed {
		return out
	}
	return append(out, g.nat(egress, own)...)
}

// nat returns the NAT rules: towards ingress addresses, namespaces and exempt
// networks sources stay, towards all else they become the egress address, unless
// a Service has another for them (ncp.SequenceServiceSNAT).
func (g *gateway) nat(egress netip.Addr, own []netip.Prefix) []intent.Object {
	var out []intent.Object
	source := list(sources(g.net.Namespaces, own))
	add := func(id string, r *intent.PolicyNatRule) {
		r.Resource, r.SequenceNumber = g.resource(), cmp.Or(r.SequenceNumber, len(out)+1)
		r.DisplayName = id
		out = append(out, put(ncp.NATRulePath(g.tier1, id), r))
	}
	exempt := func(prefix string, to []netip.Prefix) {
		for i, p := range to {
			add(prefix+strconv.Itoa(i), &intent.PolicyNatRule{Action: "NO_SNAT", SourceNetwork: source, DestinationNetwork: p.String()})
		}
	}
	if !g.net.SNATToIngress {
		exempt(ncp.NATIngress, g.net.AllIngress)
	}
	exempt(ncp.NATInside, sources(g.net.AllNamespaces, own))
	exempt(ncp.NATExempt, g.net.Exempt)
	add(ncp.NATEgress, &intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: egress.String(), SequenceNumber: ncp.SequenceEgress})
	return out
}

// sources returns networks and those of own that none of them contains.
func sources(networks, own []netip.Prefix) []netip.Prefix {
	out := append([]netip.Prefix(nil), networks...)
	for _, p := range own {
		if !within(networks, p) {
			out = append(out, p)
		}
	}
	return out
}

// egressRule returns the SNAT rule that the gateway has; nil: none.
func (g *gateway) egressRule() *intent.PolicyNatRule {
	r, _ := intent.Find[*intent.PolicyNatRule](g.tree, ncp.NATRulePath(g.tier1, ncp.NATEgress))
	return r
}

// egress returns the gateway's egress address and, if one was asked for or none
// is free, what became of that in the words of ncp.AnnotationSNATStatus. A fault
// beside a valid address says that it is not the one that was asked for.
func (g *gateway) egress() (netip.Addr, string, *writer.Fault) {
	if g.net.Routed {
		if g.static != "" {
			return netip.Addr{}, ncp.SNATFailed, staticFault(writer.ReasonInvalid, g.static, "is given for a routed namespace, which has no egress address")
		}
		return netip.Addr{}, "", nil
	}
	var now netip.Addr
	if r := g.egressRule(); r != nil && r.Translated().IsValid() {
		now = r.Translated().Addr()
	}
	if g.static != "" {
		a, status, fault := g.asked(now)
		if fault == nil {
			return a, status, nil
		}
		if !now.IsValid() || !g.busy && !contains(g.net.Egress, now) {
			return netip.Addr{}, status, fault
		}
		return now, status, fault
	}
	if now.IsValid() && (g.busy || contains(g.net.Egress, now)) {
		return now, "", nil
	}
	used, taken := g.used()
	a, ok := writer.Lowest(g.net.Egress, func(a netip.Addr) (netip.Addr, bool) {
		if used(a) != "" {
			return taken.Last(a), true
		}
		return a, g.held(a)
	})
	if !ok {
		return netip.Addr{}, ncp.SNATExhausted, &writer.Fault{
			Reason: ReasonEgressExhausted, Field: v1alpha1.FieldEgress,
			Msg: list(g.net.Egress) + ": has no free address (" + strconv.FormatInt(writer.CountHosts(g.net.Egress), 10) + " are taken or were released just now)",
		}
	}
	return a, "", nil
}

// asked returns the address that was asked for.
func (g *gateway) asked(now netip.Addr) (netip.Addr, string, *writer.Fault) {
	a, err := netip.ParseAddr(g.static)
	if err != nil {
		return netip.Addr{}, ncp.SNATFailed, staticFault(writer.ReasonInvalid, g.static, "is not an address")
	}
	if a == now {
		return a, ncp.SNATAllocated, nil
	}
	used, _ := g.used()
	switch {
	case !contains(g.net.Egress, a):
		return netip.Addr{}, ncp.SNATOutside, staticFault(writer.ReasonInvalid, g.static, "is no address for a host of the egress CIDRs ("+list(g.net.Egress)+")")
	case used(a) != "":
		return netip.Addr{}, ncp.SNATInUse, staticFault(writer.ReasonConflict, g.static, "belongs to "+used(a))
	case g.held(a):
		return netip.Addr{}, ncp.SNATInUse, staticFault(writer.ReasonConflict, g.static, "was released just now (held for "+g.net.HoldTime.String()+")")
	}
	return a, ncp.SNATAllocated, nil
}

func staticFault(reason, value, fact string) *writer.Fault {
	return &writer.Fault{Reason: reason, Field: "metadata.annotations[" + ncp.AnnotationStaticSNAT + "]", Msg: value + ": " + fact}
}

// used returns what says whose an address is that the egress address cannot be;
// empty: nobody's, or that of the gateway now; and what it looks at.
func (g *gateway) used() (by func(netip.Addr) string, taken *writer.Taken) {
	taken = writer.TakenIn(g.tree)
	var now netip.Addr
	var self store.Owner
	if r := g.egressRule(); r != nil {
		now, self = r.Translated().Addr(), store.OwnerOf(r)
	}
	return func(a netip.Addr) string {
		owner, is := taken.By(a)
		if !is || a == now && owner == self {
			return ""
		}
		return cmp.Or(string(owner), "people")
	}, taken
}

// needs returns what must be in the tree before a gateway can be.
func (g *gateway) needs() *writer.Fault {
	tier0, ok := intent.Find[*intent.Tier0](g.tree, g.net.Tier0Path)
	if !ok {
		return &writer.Fault{Reason: writer.ReasonNotFound, Field: "tier0Path", Msg: g.net.Tier0Path + ": does not exist (weft apply makes a Tier-0)"}
	}
	return apartFromTransit(tier0, g.net)
}

func (g *gateway) resource() intent.Resource {
	return intent.Resource{DisplayName: g.name, Tags: g.tags}
}

// put gives o its path.
func put(path string, o intent.Object) intent.Object { return intent.Put(path, o).Object }

// list returns prefixes as a NAT rule has them.
func list(prefixes []netip.Prefix) string {
	parts := make([]string, len(prefixes))
	for i, p := range prefixes {
		parts[i] = p.String()
	}
	return strings.Join(parts, ",")
}

// within reports whether one of the networks contains all of p.
func within(networks []netip.Prefix, p netip.Prefix) bool {
	for _, n := range networks {
		if n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// contains reports whether a host of one of the ranges can have the address.
func contains(ranges []netip.Prefix, a netip.Addr) bool {
	for _, p := range ranges {
		if first, last := writer.Hosts(p); a.BitLen() == first.BitLen() && first.Compare(a) <= 0 && a.Compare(last) <= 0 {
			return true
		}
	}
	return false
}
