package oracle

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// guard asks the gateway firewall of a router, at an interface if it is a
// Tier-0; false: the packet was dropped. nat is the NAT rule that the packet
// meets there, outside is the packet as it is on the upper side.
// Source: NSX admin guide, "Gateway Firewall", and schema PolicyNatRule,
// firewall_match.
func (w *walk) guard(router, iface string, out bool, nat *intent.PolicyNatRule, outside Packet) bool {
	seen := w.at
	if nat != nil {
		switch nat.FirewallMatch {
		case "BYPASS":
			return true
		case "MATCH_EXTERNAL_ADDRESS":
			seen = outside
		}
	}
	place := router
	if iface != "" {
		place = iface
	}
	rules, guarded := w.o.gatewayRules(router, place, out)
	if !guarded {
		return true
	}
	closed := false
	for _, pr := range rules {
		closed = closed || pr.gateway.CategoryName() == "Default"
		if !w.o.gatewayMatches(pr.rule, router, seen) {
			continue
		}
		switch pr.rule.Action {
		case "ALLOW":
			w.v.Allowed = append(w.v.Allowed, pr.rule.Path)
			w.strict = w.strict || pr.gateway.IsTCPStrict()
			return true
		case "DROP":
			w.drop("gateway_rule")
		default:
			w.reject("gateway_rule")
		}
		w.v.RulePath, w.v.RuleID = pr.rule.Path, pr.rule.RuleID
		return false
	}
	if closed {
		w.drop("gateway_default_deny")
		return false
	}
	return true
}

// gatewayRule is a rule in its policy.
type gatewayRule struct {
	gateway *intent.GatewayPolicy
	rule    *intent.Rule
}

// gatewayRules returns the rules for one direction at a gateway or interface in
// the order of evaluation, and whether there is a firewall at all.
func (o *Oracle) gatewayRules(router, place string, out bool) (rules []gatewayRule, guarded bool) {
	switch g := o.tree.Get(router).(type) {
	case *intent.Tier0:
		guarded = !g.DisableFirewall
	case *intent.Tier1:
		guarded = !g.DisableFirewall
	}
	for _, r := range every[*intent.Rule](o.tree, "Rule") {
		p, ok := intent.Find[*intent.GatewayPolicy](o.tree, r.PolicyPath())
		if !ok || r.Disabled || r.IPProtocol == "IPV6" || out && r.Direction == "IN" || !out && r.Direction == "OUT" {
			continue
		}
		scope := r.Scope
		if len(p.Scope) > 0 {
			scope = p.Scope
		}
		if slices.Contains(scope, router) || slices.Contains(scope, place) {
			rules = append(rules, gatewayRule{p, r})
		}
	}
	categories := []string{"Emergency", "SystemRules", "SharedPreRules", "LocalGatewayRules", "AutoServiceRules", "Default"}
	slices.SortFunc(rules, func(a, b gatewayRule) int {
		return cmp.Or(
			cmp.Compare(slices.Index(categories, a.gateway.CategoryName()), slices.Index(categories, b.gateway.CategoryName())),
			cmp.Compare(a.gateway.SequenceNumber, b.gateway.SequenceNumber),
			strings.Compare(a.gateway.Path, b.gateway.Path),
			cmp.Compare(a.rule.SequenceNumber, b.rule.SequenceNumber),
			strings.Compare(a.rule.Path, b.rule.Path),
		)
	})
	return rules, guarded
}

// gatewayMatches reports whether a rule is for this packet at a gateway, which
// has its own view of who an address is.
func (o *Oracle) gatewayMatches(r *intent.Rule, router string, p Packet) bool {
	if services := o.tree.RuleServices(r); services != nil && !served(services, p) {
		return false
	}
	who := func(a netip.Addr) []member { return o.whoIs(a, router) }
	return o.side(r.Sources(), r.SourcesExcluded, who(p.Src)) && o.side(r.Destinations(), r.DestinationsExcluded, who(p.Dst))
}
