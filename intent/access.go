package intent

import (
	"net/netip"
	"slices"
	"strings"
)

// DefaultTransit is the transit subnet of a Tier-0 that names none.
const DefaultTransit = "100.64.0.0/16"

// Transit returns the subnets that the links to Tier-1s are taken from.
func (t *Tier0) Transit() []netip.Prefix {
	if len(t.TransitSubnets) == 0 {
		return []netip.Prefix{netip.MustParsePrefix(DefaultTransit)}
	}
	out := make([]netip.Prefix, 0, len(t.TransitSubnets))
	for _, s := range t.TransitSubnets {
		out = append(out, must(parseCIDR(s)).Masked())
	}
	return out
}

// Advertises reports whether the Tier-1 tells its Tier-0 a prefix of the given
// route advertisement type, such as TIER1_CONNECTED. The type must be on, and
// the first advertisement rule for the type that covers the prefix decides;
// without one it is told.
func (t *Tier1) Advertises(kind string, p netip.Prefix) bool {
	if !slices.Contains(t.RouteAdvertisementTypes, kind) {
		return false
	}
	for _, r := range t.RouteAdvertisementRules {
		if len(r.RouteAdvertisementTypes) > 0 && !slices.Contains(r.RouteAdvertisementTypes, kind) {
			continue
		}
		if r.covers(p) {
			return r.Action != "DENY"
		}
	}
	return true
}

func (r *RouteAdvertisementRule) covers(p netip.Prefix) bool {
	for _, s := range r.Subnets {
		n := must(parseNetwork(s))
		if n == p || r.PrefixOperator != "EQ" && n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// GatewayPath returns the Tier-0 or Tier-1 that the object places.
func (l *LocaleServices) GatewayPath() string { return RouterOf(l.Path) }

// Redistributes reports whether BGP tells routes of the given type, such as
// TIER1_NAT.
func (l *LocaleServices) Redistributes(kind string) bool {
	c := l.RouteRedistributionConfig
	if c == nil || c.BGPEnabled != nil && !*c.BGPEnabled {
		return false
	}
	return slices.ContainsFunc(c.RedistributionRules, func(r RouteRedistributionRule) bool {
		bgp := len(r.Destinations) == 0 || slices.Contains(r.Destinations, "BGP")
		return bgp && slices.Contains(r.RouteRedistributionTypes, kind)
	})
}

// RouterPath returns the Tier-0 of the interface.
func (i *Tier0Interface) RouterPath() string { return RouterOf(i.Path) }

// Addresses returns the interface's addresses with their subnets' lengths.
func (i *Tier0Interface) Addresses() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range i.Subnets {
		for _, a := range s.IPAddresses {
			out = append(out, netip.PrefixFrom(must(parseAddr(a)), s.PrefixLen))
		}
	}
	return out
}

// RouterPath returns the router of the segment's gateways: the
// connectivity_path, or the Tier-1 that the segment is a child of. It is empty
// if there is none or the connectivity is switched off.
func (s *Segment) RouterPath() string {
	if s.AdvancedConfig != nil && s.AdvancedConfig.Connectivity == "OFF" {
		return ""
	}
	return s.connectedTo()
}

// connectedTo is RouterPath without the switch.
func (s *Segment) connectedTo() string {
	if r := RouterOf(s.Path); r != "" {
		return r
	}
	return s.ConnectivityPath
}

// Gateways returns the router's addresses with their subnets' lengths.
func (s *Segment) Gateways() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(s.Subnets))
	for _, n := range s.Subnets {
		out = append(out, must(parseHost(n.GatewayAddress)))
	}
	return out
}

// VNI returns the overlay id; 0: none was chosen.
func (s *Segment) VNI() uint32 { return uint32(s.OverlayID) }

// IsUp reports the admin state.
func (s *Segment) IsUp() bool { return s.AdminState != "DOWN" }

// SegmentPath returns the segment of the port.
func (p *SegmentPort) SegmentPath() string { return ParentOf(p.Path) }

// IsUp reports the admin state.
func (p *SegmentPort) IsUp() bool { return p.AdminState != "DOWN" }

// AttachmentID returns what is plugged into the port; empty: nothing.
func (p *SegmentPort) AttachmentID() string {
	if p.Attachment == nil {
		return ""
	}
	return p.Attachment.ID
}

// Bindings returns the address bindings in the order given.
func (p *SegmentPort) Bindings() []Binding {
	out := make([]Binding, 0, len(p.AddressBindings))
	for _, b := range p.AddressBindings {
		out = append(out, Binding{
			Addr: must(parseAddr(b.IPAddress)),
			MAC:  must(parseMAC(b.MACAddress)),
			VLAN: uint16(b.VLANID),
		})
	}
	return out
}

// RouterPath returns the gateway or Node of the rule.
func (r *PolicyNatRule) RouterPath() string { return RouterOf(r.Path) }

// Section returns INTERNAL, USER or DEFAULT.
func (r *PolicyNatRule) Section() string { return IDOf(ParentOf(r.Path)) }

// Priority returns the rule's place among all rules of its router: lower is
// earlier. Source: NSX Policy API, schema PolicyNatRule, rule_priority.
func (r *PolicyNatRule) Priority() uint32 {
	switch r.Section() {
	case "INTERNAL":
		return uint32(r.SequenceNumber)
	case "DEFAULT":
		return 2147482624 + uint32(r.SequenceNumber)
	}
	return 1024 + uint32(r.SequenceNumber)
}

// IsEnabled reports whether the rule is on.
func (r *PolicyNatRule) IsEnabled() bool { return r.Enabled == nil || *r.Enabled }

// Sources returns the networks of source_network; nil: any.
func (r *PolicyNatRule) Sources() []netip.Prefix { return must(parseNetworks(r.SourceNetwork)) }

// Destinations returns the networks of destination_network; nil: any.
func (r *PolicyNatRule) Destinations() []netip.Prefix {
	return must(parseNetworks(r.DestinationNetwork))
}

// Translated returns the pool; it is invalid iff the action is NO_SNAT or
// NO_DNAT.
func (r *PolicyNatRule) Translated() netip.Prefix {
	if r.TranslatedNetwork == "" {
		return netip.Prefix{}
	}
	return must(parseNetwork(r.TranslatedNetwork))
}

// TranslatedPort returns translated_ports of a DNAT rule with a service: the
// destination port that a TCP or UDP packet must have to be matched. What it is
// translated to is the port of the service. 0: none, the service's port is
// matched and kept; without a service translated_ports is ignored.
// Source: NSX Policy API, schema PolicyNatRule, service and translated_ports.
func (r *PolicyNatRule) TranslatedPort() uint16 {
	if r.TranslatedPorts == "" || r.Service == "" {
		return 0
	}
	first, _, f := parsePorts(r.TranslatedPorts)
	return must(first, f)
}

// RouterPath returns the gateway of the route.
func (s *StaticRoutes) RouterPath() string { return RouterOf(s.Path) }

// Prefix returns the destination, masked.
func (s *StaticRoutes) Prefix() netip.Prefix { return must(parseNetwork(s.Network)) }

// Hops returns the next hops in the order given.
func (s *StaticRoutes) Hops() []NextHop {
	out := make([]NextHop, 0, len(s.NextHops))
	for _, h := range s.NextHops {
		n := NextHop{Distance: uint8(max(h.AdminDistance, 1))}
		if h.IPAddress != "" {
			n.Addr = must(parseAddr(h.IPAddress))
		}
		out = append(out, n)
	}
	return out
}

// ParentOf returns the path of the object that contains the one at path; empty
// for objects directly below /infra.
func ParentOf(path string) string {
	if p, ok := fixedParent[path]; ok {
		return p
	}
	p := path
	for range 2 {
		p = p[:max(strings.LastIndexByte(p, '/'), 0)]
	}
	if p == "/infra" {
		return ""
	}
	return p
}

// fixedParent holds the paths of single objects, which have no id segment.
var fixedParent = map[string]string{ExcludeListPath: ""}

// IDOf returns the last segment of a path.
func IDOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// RouterOf returns the Tier-0, Tier-1 or Node that the path is or lies below;
// empty if there is none.
func RouterOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/infra/")
	if !ok {
		return ""
	}
	collection, rest, _ := strings.Cut(rest, "/")
	switch collection {
	case "tier-0s", "tier-1s", "nodes":
		id, _, _ := strings.Cut(rest, "/")
		return "/infra/" + collection + "/" + id
	}
	return ""
}
