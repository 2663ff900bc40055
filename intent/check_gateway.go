package intent

import "strings"

func (c *checker) gatewayPolicy(p *GatewayPolicy) {
	c.word("category", p.Category, userGatewayCategories...)
	c.number("sequence_number", int64(p.SequenceNumber), 0, 1<<31-1)
	c.gatewayScope(p.Scope)
	if !p.IsStateful() {
		c.value("stateful", Unsupported, "false", "is not supported yet (true)")
	}
}

// gatewayScope checks the places of gateway rules. Source: NSX admin guide,
// "Gateway Firewall": it runs where the gateway's edge cluster is.
func (c *checker) gatewayScope(list []string) {
	for i, s := range list {
		field := indexed("scope", i)
		switch {
		case !isPath(s):
			c.value(field, BadValue, s, "is not the path of a Tier-0, Tier-1 or Tier-0 interface")
		case strings.HasPrefix(s, "/infra/tier-1s/"):
			c.edge(field, s)
		}
	}
}

// edge checks that a Tier-1 that does more than route has an edge cluster.
func (c *checker) edge(field, tier1 string) {
	if _, ok := Find[*Tier1](c.t, tier1); ok && !c.t.HasEdge(tier1) {
		c.value(field, NoEdge, tier1, "has no edge cluster (want a locale service with edge_cluster_path)")
	}
}

// gatewayRule checks what only rules of the gateway firewall have.
func (c *checker) gatewayRule(r *Rule) {
	c.needWord("action", r.Action, "ALLOW", "DROP", "REJECT")
	if r.ViaVirtualServer {
		c.value("via_virtual_server", Conflict, "true", "is given for a gateway rule (only the distributed firewall has it)")
	}
	p, ok := Find[*GatewayPolicy](c.t, r.ParentPath)
	if ok && len(GatewayScope(p, r)) == 0 {
		c.add("scope", Required, "is missing, and the policy has none (want paths of Tier-0s, Tier-1s or Tier-0 interfaces)")
	}
	c.gatewayScope(r.Scope)
}

// Limits of session timers in seconds. Source: NSX Policy API, schema
// PolicyFirewallSessionTimerProfile.
const (
	minTimer = 10
	maxTimer = 4320000
)

func (c *checker) timers(p *PolicyFirewallSessionTimerProfile) {
	for _, t := range []struct {
		field string
		value int64
	}{
		{"tcp_first_packet", p.TCPFirstPacket}, {"tcp_opening", p.TCPOpening}, {"tcp_established", p.TCPEstablished},
		{"tcp_closing", p.TCPClosing}, {"tcp_finwait", p.TCPFinWait}, {"tcp_closed", p.TCPClosed},
		{"udp_first_packet", p.UDPFirstPacket}, {"udp_single", p.UDPSingle}, {"udp_multiple", p.UDPMultiple},
		{"icmp_first_packet", p.ICMPFirstPacket}, {"icmp_error_reply", p.ICMPErrorReply},
	} {
		if t.value != 0 {
			c.number(t.field, t.value, minTimer, maxTimer)
		}
	}
}
