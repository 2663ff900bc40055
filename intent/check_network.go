package intent

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// advertisementTypes is what a Tier-1 may tell its Tier-0. Source: NSX Policy
// API, schema Tier1, route_advertisement_types.
var advertisementTypes = []string{
	"TIER1_STATIC_ROUTES", "TIER1_CONNECTED", "TIER1_NAT", "TIER1_LB_VIP", "TIER1_LB_SNAT",
	"TIER1_DNS_FORWARDER_IP", "TIER1_IPSEC_LOCAL_ENDPOINT",
}

// redistributionTypes is what a Tier-0 may tell its neighbours. Source: NSX
// Policy API, schema Tier0RouteRedistributionRule.
var redistributionTypes = []string{
	"TIER0_STATIC", "TIER0_CONNECTED", "TIER0_EXTERNAL_INTERFACE", "TIER0_SEGMENT", "TIER0_ROUTER_LINK",
	"TIER0_SERVICE_INTERFACE", "TIER0_LOOPBACK_INTERFACE", "TIER0_DNS_FORWARDER_IP", "TIER0_IPSEC_LOCAL_IP",
	"TIER0_NAT", "TIER0_EVPN_TEP_IP", "TIER1_NAT", "TIER1_STATIC", "TIER1_LB_VIP", "TIER1_LB_SNAT",
	"TIER1_DNS_FORWARDER_IP", "TIER1_CONNECTED", "TIER1_SERVICE_INTERFACE", "TIER1_SEGMENT",
	"TIER1_IPSEC_LOCAL_ENDPOINT", "INTER_VRF_STATIC",
}

func (c *checker) tier0(t *Tier0) {
	c.word("ha_mode", t.HAMode, "ACTIVE_ACTIVE", "ACTIVE_STANDBY")
	for i, s := range t.TransitSubnets {
		field := indexed("transit_subnets", i)
		p, f := parseCIDR(s)
		switch {
		case !c.fault(field, f):
		case p.Masked() != p:
			c.value(field, BadAddress, s, "has host bits (want "+p.Masked().String()+")")
		case p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().IsLoopback():
			c.value(field, BadAddress, s, "is not a unicast subnet (such as "+DefaultTransit+")")
		case p.Bits() > p.Addr().BitLen()-2:
			c.value(field, BadValue, s, "is too small for a link per Tier-1 (at most /"+strconv.Itoa(p.Addr().BitLen()-2)+")")
		}
	}
}

func (c *checker) tier1(t *Tier1) {
	c.needPath("tier0_path", t.Tier0Path)
	c.word("type", t.Type, "ROUTED", "ISOLATED", "NATTED")
	c.word("ha_mode", t.HAMode, "ACTIVE_ACTIVE", "ACTIVE_STANDBY")
	c.words("route_advertisement_types", t.RouteAdvertisementTypes, advertisementTypes...)
	for i, kind := range t.RouteAdvertisementTypes {
		if t.Type == "NATTED" && (kind == "TIER1_CONNECTED" || kind == "TIER1_STATIC_ROUTES") {
			c.value(indexed("route_advertisement_types", i), Conflict, kind, "is given, and the type is NATTED (what no NAT rule translates would leave as it is)")
		}
	}
	for i, r := range t.RouteAdvertisementRules {
		field := indexed("route_advertisement_rules", i)
		c.word(field+".action", r.Action, "PERMIT", "DENY")
		c.word(field+".prefix_operator", r.PrefixOperator, "GE", "EQ")
		c.words(field+".route_advertisement_types", r.RouteAdvertisementTypes, advertisementTypes...)
		for j, s := range r.Subnets {
			_, f := parseNetwork(s)
			c.fault(indexed(field+".subnets", j), f)
		}
	}
}

func (c *checker) localeServices(l *LocaleServices) {
	c.needPath("edge_cluster_path", l.EdgeClusterPath)
	if l.RouteRedistributionConfig == nil {
		return
	}
	for i, r := range l.RouteRedistributionConfig.RedistributionRules {
		field := indexed("route_redistribution_config.redistribution_rules", i)
		c.words(field+".route_redistribution_types", r.RouteRedistributionTypes, redistributionTypes...)
		c.words(field+".destinations", r.Destinations, "BGP", "OSPF")
	}
}

func (c *checker) tier0Interface(i *Tier0Interface) {
	if !strings.HasPrefix(i.Path, "/infra/tier-0s/") {
		c.value("path", Unsupported, i.Path, "is an interface of a Tier-1, not supported yet")
	}
	c.needPath("segment_path", i.SegmentPath)
	if i.Type != "" && i.Type != "EXTERNAL" {
		c.word("type", i.Type, "EXTERNAL", "SERVICE", "LOOPBACK")
		if i.Type == "SERVICE" || i.Type == "LOOPBACK" {
			c.value("type", Unsupported, i.Type, "is not supported yet (EXTERNAL)")
		}
	}
	if i.MTU != 0 {
		c.number("mtu", int64(i.MTU), 68, 65535) // RFC 791 §3.2
	}
	if len(i.Subnets) == 0 {
		c.add("subnets", Required, "is missing (want an address such as 192.168.100.2/24)")
	}
	for n, s := range i.Subnets {
		field := indexed("subnets", n)
		if len(s.IPAddresses) == 0 {
			c.add(field+".ip_addresses", Required, "is missing (want an address)")
		}
		for j, a := range s.IPAddresses {
			_, f := parseHost(a + "/" + strconv.Itoa(s.PrefixLen))
			c.fault(indexed(field+".ip_addresses", j), f)
		}
	}
	c.overlaps(i.RouterPath(), interfaceSubnets(i))
}

// subnet is a connected subnet with the field that gives it.
type subnet struct {
	prefix netip.Prefix // not masked: the router's address
	field  string
}

// interfaceSubnets returns the addresses that parse.
func interfaceSubnets(i *Tier0Interface) []subnet {
	var out []subnet
	for n, s := range i.Subnets {
		for j, a := range s.IPAddresses {
			if p, f := parseHost(a + "/" + strconv.Itoa(s.PrefixLen)); f == nil {
				out = append(out, subnet{p, indexed(indexed("subnets", n)+".ip_addresses", j)})
			}
		}
	}
	return out
}

// segmentSubnets returns the gateways that parse.
func segmentSubnets(s *Segment) []subnet {
	var out []subnet
	for n, sub := range s.Subnets {
		if p, f := parseHost(sub.GatewayAddress); f == nil {
			out = append(out, subnet{p, indexed("subnets", n) + ".gateway_address"})
		}
	}
	return out
}

// connected calls do for each connected subnet of a router and its owner.
func (c *checker) connected(router string, do func(owner string, s subnet)) {
	for _, segment := range c.t.SegmentsOf(router) {
		for _, s := range segmentSubnets(segment) {
			do(segment.Path, s)
		}
	}
	for _, i := range c.t.InterfacesOf(router) {
		for _, s := range interfaceSubnets(i) {
			do(i.Path, s)
		}
	}
}

// monitorSubnet is, at every router that has a load balancer, where its monitors
// are: see package compile. The gateway firewall lets pass what has an address
// of theirs.
var monitorSubnet = netip.MustParsePrefix("169.254.255.0/30")

// overlaps reports own subnets that overlap each other or those of others on
// the router. Of two objects that changed together the later is reported.
func (c *checker) overlaps(router string, own []subnet) {
	if router == "" {
		return
	}
	for i, s := range own {
		if s.prefix.Overlaps(monitorSubnet) {
			c.value(s.field, Conflict, s.prefix.String(), "overlaps "+monitorSubnet.String()+", where the monitors of load balancers are")
		}
		for _, before := range own[:i] {
			if s.prefix.Overlaps(before.prefix) && s.prefix.Masked() != before.prefix.Masked() || s.prefix.Addr() == before.prefix.Addr() {
				c.value(s.field, Overlap, s.prefix.String(), "overlaps "+before.prefix.String()+" of the same object")
			}
		}
	}
	c.connected(router, func(owner string, other subnet) {
		_, changed := c.changed[owner]
		if owner == c.path || changed && owner > c.path {
			return
		}
		for _, s := range own {
			if s.prefix.Overlaps(other.prefix) && !c.sharedUplink(owner, s, other) {
				c.value(s.field, Overlap, s.prefix.String(), "overlaps "+other.prefix.String()+" of "+owner+" on "+router)
			}
		}
	})
}

// sharedUplink reports whether both are interfaces of a Tier-0 in one subnet
// with different addresses, as several edges on one VLAN have.
func (c *checker) sharedUplink(owner string, a, b subnet) bool {
	_, own := c.o.(*Tier0Interface)
	_, other := Find[*Tier0Interface](c.t, owner)
	return own && other && a.prefix.Masked() == b.prefix.Masked() && a.prefix.Addr() != b.prefix.Addr()
}

func (c *checker) segment(s *Segment) {
	c.needPath("connectivity_path", s.ConnectivityPath)
	if r := RouterOf(s.Path); r != "" && s.ConnectivityPath != "" && s.ConnectivityPath != r {
		c.value("connectivity_path", Conflict, s.ConnectivityPath, "is not the Tier-1 that the segment is a child of ("+r+")")
	}
	c.number("overlay_id", s.OverlayID, 0, 1<<24-1)
	c.word("admin_state", s.AdminState, "UP", "DOWN")
	if s.AdvancedConfig != nil {
		c.word("advanced_config.connectivity", s.AdvancedConfig.Connectivity, "ON", "OFF")
	}
	for i, v := range s.VLANIDs {
		if _, last, f := parsePorts(v); f != nil || last > 4094 {
			c.value(indexed("vlan_ids", i), BadValue, v, "is not a VLAN or a range of VLANs (0 to 4094)")
		}
	}
	for i, sub := range s.Subnets {
		field := indexed("subnets", i)
		p, f := parseHost(sub.GatewayAddress)
		if !c.fault(field+".gateway_address", f) || sub.Network == "" {
			continue
		}
		if n, f := parseCIDR(sub.Network); c.fault(field+".network", f) && n != p.Masked() {
			c.value(field+".network", Conflict, sub.Network, "is not the gateway's subnet ("+p.Masked().String()+")")
		}
	}
	c.overlaps(s.RouterPath(), segmentSubnets(s))
}

// routerMAC is the address of every router on every segment.
var routerMAC = MAC{0x02, 0x50, 0x56, 0x56, 0x44, 0x52}

func (c *checker) port(p *SegmentPort) {
	c.word("admin_state", p.AdminState, "UP", "DOWN")
	if a := p.Attachment; a != nil {
		c.word("attachment.type", a.Type, "PARENT", "CHILD", "INDEPENDENT", "STATIC")
		c.number("attachment.traffic_tag", int64(a.TrafficTag), 0, 4094)
	}
	var subnets []subnet
	if s, ok := Find[*Segment](c.t, p.ParentPath); ok {
		subnets = segmentSubnets(s)
	}
	for i, b := range p.AddressBindings {
		field := indexed("address_bindings", i)
		m, f := parseMAC(b.MACAddress)
		if c.fault(field+".mac_address", f) && m == routerMAC {
			c.value(field+".mac_address", Conflict, b.MACAddress, "is the address of the routers")
		}
		c.number(field+".vlan_id", int64(b.VLANID), 0, 4094)
		if a, f := parseAddr(b.IPAddress); c.fault(field+".ip_address", f) {
			c.inSubnet(field+".ip_address", a, subnets)
		}
	}
}

// inSubnet checks a binding's address against the segment's subnets.
func (c *checker) inSubnet(field string, a netip.Addr, subnets []subnet) {
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		c.value(field, NotAHost, a.String(), "is not a unicast address")
		return
	}
	if monitorSubnet.Contains(a) {
		c.value(field, Conflict, a.String(), "is of "+monitorSubnet.String()+", where the monitors of load balancers are")
		return
	}
	if len(subnets) == 0 || a.IsLinkLocalUnicast() {
		return
	}
	var have []string
	for _, s := range subnets {
		if s.prefix.Addr() == a {
			c.value(field, IsGateway, a.String(), "is the gateway of the segment")
			return
		}
		if s.prefix.Contains(a) {
			if fact := reserved(a, s.prefix); fact != "" {
				c.value(field, NotAHost, a.String(), fact+" of "+s.prefix.Masked().String())
			}
			return
		}
		have = append(have, s.prefix.Masked().String())
	}
	c.value(field, OutsideSubnet, a.String(), "is outside the segment's subnets ("+strings.Join(have, ", ")+")")
}

func (c *checker) staticRoute(s *StaticRoutes) {
	p, f := parseNetwork(s.Network)
	if !c.fault("network", f) {
		return
	}
	if len(s.NextHops) == 0 || len(s.NextHops) > 8 {
		c.add("next_hops", Required, "has "+strconv.Itoa(len(s.NextHops))+" next hops (want 1 to 8)")
	}
	for i, h := range s.NextHops {
		field := indexed("next_hops", i)
		c.number(field+".admin_distance", int64(h.AdminDistance), 0, 255)
		if h.IPAddress == "" {
			if len(s.NextHops) > 1 {
				c.add(field+".ip_address", Conflict, "is empty, which discards (want it to be the only next hop)")
			}
			continue
		}
		a, f := parseAddr(h.IPAddress)
		if !c.fault(field+".ip_address", f) {
			continue
		}
		if a.Is4() != p.Addr().Is4() {
			c.value(field+".ip_address", Conflict, h.IPAddress, "is not of the family of "+p.String())
			continue
		}
		c.nextHop(field+".ip_address", a, s.RouterPath())
	}
}

// nextHop checks that an address is a neighbour of the router.
func (c *checker) nextHop(field string, a netip.Addr, router string) {
	on, own := false, ""
	var have []string
	c.connected(router, func(owner string, s subnet) {
		on = on || s.prefix.Contains(a)
		if s.prefix.Addr() == a {
			own = owner
		}
		have = append(have, s.prefix.Masked().String())
	})
	slices.Sort(have)
	have = slices.Compact(have)
	switch {
	case own != "":
		c.value(field, IsGateway, a.String(), "is the router's own address on "+own)
	case !on && len(have) == 0:
		c.value(field, OutsideSubnet, a.String(), "is not on a connected subnet of "+router+" (it has none)")
	case !on:
		c.value(field, OutsideSubnet, a.String(), "is not on a connected subnet of "+router+" ("+strings.Join(have, ", ")+")")
	}
}

func (c *checker) node(n *Node) {
	if n.PortPath == "" {
		c.add("port_path", Required, "is missing (want the path of a segment port)")
	}
	c.needPath("port_path", n.PortPath)
}
