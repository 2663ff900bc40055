package compile

import (
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// gateFirewall is what rulesets of gateways are shared by, as others are by
// their direction.
const gateFirewall = "gateway"

// gateRule is a rule of the gateway firewall; both directions have the same
// side, as there is no own end.
type gateRule struct {
	sides
	scope []string // gateways and Tier-0 interfaces
}

// isGatewayRule reports whether a path is that of a rule of a GatewayPolicy.
func isGatewayRule(path string) bool {
	policy := intent.ParentOf(path)
	return strings.HasSuffix(strings.TrimSuffix(policy, "/"+intent.IDOf(policy)), "/gateway-policies")
}

// buildGateRule puts a rule where its gateways find it.
func (x *run) buildGateRule(path string) any {
	r, ok := object[*intent.Rule](x, path)
	if !ok || r.Disabled || !r.IPv4() {
		return nil
	}
	p, ok := object[*intent.GatewayPolicy](x, r.PolicyPath())
	if !ok {
		return nil
	}
	rule := x.ruleOf(r, p.Path, p.CategoryName(), p.IsTCPStrict())
	from, to := r.Sources(), r.Destinations()
	rule.AnyRemote, rule.NotRemote, rule.Remote = from.Any, r.SourcesExcluded, x.remote(from)
	rule.NotDst, rule.Dst = r.DestinationsExcluded, x.remote(to)
	out := &gateRule{scope: intent.GatewayScope(p, r)}
	out.order = order{
		category:  p.CategoryRank(),
		policySeq: p.SequenceNumber, policy: p.Path,
		ruleSeq: r.SequenceNumber, rule: path,
	}
	one := &side{rule: rule, digest: digestOf(rule)}
	if r.Out() {
		out.out = one
	}
	if r.In() {
		out.in = one
	}
	for _, s := range out.scope {
		x.emit(ref{relGate, intent.RouterOf(s), ""}, path)
	}
	return out
}

// gates returns the gateway firewall, in and out, at a place: a Tier-1 or a
// Tier-0's interface. Zeros if the gateway has no rule.
func (x *run) gates(place string) (in, out table.RulesetID) {
	gateway := intent.RouterOf(place)
	if x.isOpen(gateway) {
		return 0, 0
	}
	var all []*gateRule
	for _, path := range members(x, ref{relGate, gateway, ""}, strings.Compare) {
		if r := built[*gateRule](x, ref{factGateRule, path, ""}); r != nil {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.SortFunc(all, func(a, b *gateRule) int { return compareSides(&a.sides, &b.sides) })
	var inward, outward []*side
	for _, r := range all {
		if !r.worksAt(gateway, place) {
			continue
		}
		if r.in != nil {
			inward = append(inward, r.in)
		}
		if r.out != nil {
			outward = append(outward, r.out)
		}
	}
	return x.gate(gateway, inward), x.gate(gateway, outward)
}

// worksAt reports whether the rule is for a place of the gateway.
func (r *gateRule) worksAt(gateway, place string) bool {
	return slices.Contains(r.scope, gateway) || slices.Contains(r.scope, place)
}

// isOpen reports whether a gateway's firewall is switched off.
func (x *run) isOpen(gateway string) bool {
	x.note(ref{srcObject, gateway, ""})
	switch o := x.c.tree.Get(gateway).(type) {
	case *intent.Tier0:
		return o.DisableFirewall
	case *intent.Tier1:
		return o.DisableFirewall
	}
	return true
}

// gate returns the ruleset of one direction. Its last rule is of category
// Default: a written one, or what NSX gives every gateway, which allows.
func (x *run) gate(gateway string, list []*side) table.RulesetID {
	if n := len(list); n == 0 || list[n-1].rule.Category != "Default" {
		rule := &table.Rule{
			ID: x.id(poolRule, gateway+"/gateway-firewall/implied-default-rule"), Path: gateway + "/gateway-firewall/implied-default-rule",
			Name: "implied default rule", Policy: gateway, Category: "Default", Action: table.Allow, AnyRemote: true,
		}
		list = append(list, &side{rule: rule, digest: digestOf(rule)})
	}
	return x.share(gateFirewall, list)
}

// timers is the session timers that a Set has instead of the usual ones.
type timers struct{ table.Timeouts }

func (x *run) buildTimers(path string) any {
	p, ok := object[*intent.PolicyFirewallSessionTimerProfile](x, path)
	if !ok {
		return nil
	}
	if path != intent.DefaultTimersPath {
		x.warn(path, "", intent.Unsupported, "has no effect (only "+intent.DefaultTimersPath+" has)")
		return nil
	}
	out := &timers{table.DefaultTimeouts()}
	for _, t := range []struct {
		to   *uint32
		from int64
	}{
		{&out.TCPOpening, p.TCPOpening}, {&out.TCPEstablished, p.TCPEstablished}, {&out.TCPClosing, p.TCPClosing},
		{&out.UDPSingle, p.UDPSingle}, {&out.UDPMultiple, p.UDPMultiple}, {&out.ICMP, p.ICMPFirstPacket},
	} {
		if t.from != 0 {
			*t.to = uint32(t.from)
		}
	}
	return out
}
