package intent

import "slices"

// GatewayPolicy is a section of the gateway firewall:
// <domain>/gateway-policies/<id>. Its rules are child objects.
// Source: NSX Policy API, schema GatewayPolicy.
type GatewayPolicy struct {
	Resource
	Category               string   `json:"category"` // see GatewayCategories; default LocalGatewayRules
	SequenceNumber         int      `json:"sequence_number"`
	InternalSequenceNumber int      `json:"internal_sequence_number"`
	Scope                  []string `json:"scope"`      // wins over the rules' scope; see GatewayScope
	Stateful               *bool    `json:"stateful"`   // default true; see IsStateful
	TCPStrict              *bool    `json:"tcp_strict"` // default true; see IsTCPStrict
	IsDefault              bool     `json:"is_default"`
	Locked                 bool     `json:"locked"`
	Comments               string   `json:"comments"`
	RuleCount              int      `json:"rule_count"`
}

// PolicyFirewallSessionTimerProfile says how long connections live that are
// idle: /infra/firewall-session-timer-profiles/<id>. Only the one with the id
// default has effect. Times are in seconds, 10 to 4320000; 0: see
// table.DefaultTimeouts.
// Source: NSX Policy API, schema PolicyFirewallSessionTimerProfile.
type PolicyFirewallSessionTimerProfile struct {
	Resource
	TCPFirstPacket  int64 `json:"tcp_first_packet"` // without effect
	TCPOpening      int64 `json:"tcp_opening"`
	TCPEstablished  int64 `json:"tcp_established"`
	TCPClosing      int64 `json:"tcp_closing"`
	TCPFinWait      int64 `json:"tcp_finwait"`      // without effect
	TCPClosed       int64 `json:"tcp_closed"`       // without effect
	UDPFirstPacket  int64 `json:"udp_first_packet"` // without effect
	UDPSingle       int64 `json:"udp_single"`
	UDPMultiple     int64 `json:"udp_multiple"`
	ICMPFirstPacket int64 `json:"icmp_first_packet"`
	ICMPErrorReply  int64 `json:"icmp_error_reply"` // without effect
}

// DefaultTimersPath is the session timer profile that has effect.
const DefaultTimersPath = "/infra/firewall-session-timer-profiles/default"

// GatewayCategories returns the categories of the gateway firewall in the order
// in which they are evaluated. Source: NSX admin guide, "Gateway Firewall".
func GatewayCategories() []string {
	return []string{"Emergency", "SystemRules", "SharedPreRules", "LocalGatewayRules", "AutoServiceRules", "Default"}
}

// userGatewayCategories is those of GatewayCategories that people write.
var userGatewayCategories = []string{"Emergency", "SharedPreRules", "LocalGatewayRules", "Default"}

// CategoryName returns the category.
func (p *GatewayPolicy) CategoryName() string {
	if p.Category == "" {
		return "LocalGatewayRules"
	}
	return p.Category
}

// CategoryRank returns the policy's place in GatewayCategories.
func (p *GatewayPolicy) CategoryRank() int {
	return slices.Index(GatewayCategories(), p.CategoryName())
}

// IsStateful reports whether replies are allowed without a rule.
func (p *GatewayPolicy) IsStateful() bool { return isOn(p.Stateful) }

// IsTCPStrict reports whether a new TCP connection must begin with SYN.
func (p *GatewayPolicy) IsTCPStrict() bool { return isOn(p.TCPStrict) }

// GatewayScope returns the gateways and Tier-0 interfaces where the rule works:
// the policy's scope, else the rule's.
func GatewayScope(p *GatewayPolicy, r *Rule) []string {
	if len(p.Scope) > 0 {
		return p.Scope
	}
	return r.Scope
}

// IsGatewayRule reports whether the rule is one of a GatewayPolicy.
func (r *Rule) IsGatewayRule() bool {
	k := kindAt(r.PolicyPath())
	return k != nil && k.resource == "GatewayPolicy"
}
