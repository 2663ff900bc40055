package intent

import (
	"net/netip"
	"strings"
)

func (c *checker) natSection(n *PolicyNat) {
	if n.ID == "NAT64" {
		c.value("id", Unsupported, n.ID, "is not supported yet (INTERNAL, USER, DEFAULT)")
		return
	}
	c.word("id", n.ID, "INTERNAL", "USER", "DEFAULT")
}

// natLast is the last sequence number of each section. Source: NSX Policy API,
// schema PolicyNatRule.
var natLast = map[string]int64{"INTERNAL": 1023, "USER": 2147481599, "DEFAULT": 1023}

func (c *checker) natRule(r *PolicyNatRule) {
	if r.Action == "NAT64" {
		c.value("action", Unsupported, r.Action, "is not supported yet (SNAT, DNAT, REFLEXIVE, NO_SNAT, NO_DNAT)")
	} else {
		c.needWord("action", r.Action, "SNAT", "DNAT", "REFLEXIVE", "NO_SNAT", "NO_DNAT")
	}
	c.word("firewall_match", r.FirewallMatch, "MATCH_INTERNAL_ADDRESS", "MATCH_EXTERNAL_ADDRESS", "BYPASS")
	if last, ok := natLast[r.Section()]; ok {
		c.number("sequence_number", int64(r.SequenceNumber), 0, last)
	}
	c.needPath("service", r.Service)
	router := r.RouterPath()
	if strings.HasPrefix(router, "/infra/tier-1s/") && !c.t.HasEdge(router) {
		c.value("path", NoEdge, router, "has no edge cluster (want a locale service with edge_cluster_path)")
	}
	for i, s := range r.Scope {
		if RouterOf(s) != router || !strings.HasPrefix(router, "/infra/tier-0s/") {
			c.value(indexed("scope", i), BadValue, s, "is not an interface of "+router)
		}
	}
	src, f1 := parseNetworks(r.SourceNetwork)
	dst, f2 := parseNetworks(r.DestinationNetwork)
	ok := c.fault("source_network", f1)
	if ok = c.fault("destination_network", f2) && ok; !ok {
		return
	}
	switch r.Action {
	case "SNAT":
		c.pool(r, src)
		c.sameFamily("destination_network", r.DestinationNetwork, dst, src)
	case "DNAT":
		c.needDestination(r)
		c.pool(r, dst)
		c.sameFamily("source_network", r.SourceNetwork, src, dst)
	case "REFLEXIVE":
		c.reflexive(r, src)
	case "NO_DNAT":
		c.needDestination(r)
		c.exempt(r)
	case "NO_SNAT":
		c.exempt(r)
	}
	c.translatedPorts(r)
}

func (c *checker) needDestination(r *PolicyNatRule) {
	if isAnyText(r.DestinationNetwork) {
		c.add("destination_network", Required, "is missing ("+r.Action+" wants the addresses that it is for)")
	}
}

// exempt checks what NO_SNAT and NO_DNAT must not have.
func (c *checker) exempt(r *PolicyNatRule) {
	if r.TranslatedNetwork != "" {
		c.value("translated_network", Conflict, r.TranslatedNetwork, "is given for "+r.Action+" (want it empty)")
	}
	if r.FirewallMatch != "" && r.FirewallMatch != "BYPASS" {
		c.value("firewall_match", Conflict, r.FirewallMatch, "is given for "+r.Action+" (BYPASS or empty)")
	}
}

// pool checks translated_network and that it has the family of the addresses
// that it replaces.
func (c *checker) pool(r *PolicyNatRule, replaced []netip.Prefix) (netip.Prefix, bool) {
	const field = "translated_network"
	if r.TranslatedNetwork == "" {
		c.add(field, Required, "is missing ("+r.Action+" wants an address or a CIDR)")
		return netip.Prefix{}, false
	}
	if strings.Contains(r.TranslatedNetwork, ",") {
		c.value(field, Unsupported, r.TranslatedNetwork, "is a list, not supported yet (one address or CIDR)")
		return netip.Prefix{}, false
	}
	p, f := parseNetwork(r.TranslatedNetwork)
	if !c.fault(field, f) {
		return p, false
	}
	return p, c.sameFamily(field, r.TranslatedNetwork, []netip.Prefix{p}, replaced)
}

// sameFamily checks that all prefixes of both lists are IPv4, or all IPv6.
func (c *checker) sameFamily(field, value string, list, others []netip.Prefix) bool {
	for _, p := range list {
		for _, q := range others {
			if p.Addr().Is4() != q.Addr().Is4() {
				c.value(field, Conflict, value, "is not of the family of "+q.String())
				return false
			}
		}
	}
	return true
}

// reflexive checks that the pool has one address for each source.
func (c *checker) reflexive(r *PolicyNatRule, src []netip.Prefix) {
	if len(src) != 1 {
		c.add("source_network", Required, "is not one network (REFLEXIVE wants one address or CIDR)")
		return
	}
	if !isAnyText(r.DestinationNetwork) {
		c.value("destination_network", Conflict, r.DestinationNetwork, "is given for REFLEXIVE (want it empty)")
	}
	if p, ok := c.pool(r, src); ok && p.Bits() != src[0].Bits() {
		c.value("translated_network", Conflict, r.TranslatedNetwork, "has not the size of "+src[0].String())
	}
}

func (c *checker) translatedPorts(r *PolicyNatRule) {
	const field = "translated_ports"
	if r.TranslatedPorts == "" {
		return
	}
	first, last, f := parsePorts(r.TranslatedPorts)
	switch {
	case !c.fault(field, f):
	case r.Action != "DNAT":
		c.value(field, Conflict, r.TranslatedPorts, "is given for "+r.Action+" (only DNAT has it)")
	case first != last:
		c.value(field, Unsupported, r.TranslatedPorts, "is a range, not supported yet (one port)")
	case first == 0:
		c.value(field, BadPort, r.TranslatedPorts, "is not a port that a packet can have (1 to 65535)")
	}
}
