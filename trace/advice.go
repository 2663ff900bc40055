package trace

import (
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// drop explains the step that dropped the packet. The tuple has come to it.
func (w *wording) drop(s pipeline.Step) *Drop {
	s.Reason = w.res.Reason // a step beyond pipeline.MaxSteps is lost
	d := &Drop{
		Stage: s.Stage.String(), Reason: s.Reason.String(), Object: w.place(s, w.from), RuleID: w.res.Rule,
		Answer: answerText(w.res), Advice: w.advice(s),
	}
	if s.NAT != nil {
		d.RuleID, d.RuleName, d.RulePath = s.NAT.ID, s.NAT.Name, s.NAT.Path
	}
	if s.FWRule != nil {
		d.RuleID, d.RuleName, d.RulePath = s.FWRule.ID, s.FWRule.Name, s.FWRule.Path
		d.PolicyPath, d.Category = s.FWRule.Policy, s.FWRule.Category
	}
	if d.Balance = w.balance(s, w.t.DstPort); d.Balance != nil {
		d.RuleID = 0 // it is the virtual server's id
	}
	return d
}

// answerText says what the sender is told; empty: nothing.
func answerText(res pipeline.Result) string {
	if res.Verdict != pipeline.Answer {
		return ""
	}
	var p packet.Packet
	p.Decode(res.Frame)
	if p.Proto == packet.TCP {
		return "TCP reset from " + p.Src.String()
	}
	words := map[[2]uint8]string{
		{packet.ICMPUnreachable, packet.ICMPNetUnreachable}:      "net unreachable",
		{packet.ICMPUnreachable, packet.ICMPHostUnreachable}:     "host unreachable",
		{packet.ICMPUnreachable, packet.ICMPPortUnreachable}:     "port unreachable",
		{packet.ICMPUnreachable, packet.ICMPFragmentationNeeded}: "fragmentation needed",
		{packet.ICMPUnreachable, packet.ICMPAdminProhibited}:     "administratively prohibited",
		{packet.ICMPTimeExceeded, packet.ICMPNetUnreachable}:     "time exceeded",
	}
	return fmt.Sprintf("ICMP %s (%d/%d) from %s", words[[2]uint8{p.ICMPType, p.ICMPCode}], p.ICMPType, p.ICMPCode, p.Src)
}

// advice says in one line what would let the packet pass step s.
func (w *wording) advice(s pipeline.Step) string {
	at := w.place(s, w.from)
	where := at.Component + " (" + at.Path + ")"
	if b := w.balance(s, w.t.DstPort); b != nil {
		return balanceAdvice(s, b, where)
	}
	switch s.Reason {
	case pipeline.ReasonDFWRule, pipeline.ReasonGatewayRule:
		if s.FWRule != nil {
			return ruleAdvice(s.FWRule)
		}
	case pipeline.ReasonDFWDefaultDeny:
		return fmt.Sprintf("no rule at %s matches %s %s: add an ALLOW rule for it that is applied to this port", where, service(w.t), w.remote(s))
	case pipeline.ReasonGatewayDefaultDeny:
		return fmt.Sprintf("no gateway firewall rule at %s matches %s from %s to %s: add an ALLOW rule for it whose scope is this gateway", where, service(w.t), s.Src, s.Dst)
	case pipeline.ReasonSpoofguard:
		return fmt.Sprintf("%s is no binding of %s: add it to the port's address_bindings, or send from one that is", s.Src, where)
	case pipeline.ReasonARPUnknown:
		return fmt.Sprintf("no other port on the link of %s has %s: check the address and the address_bindings of the port that should have it", where, s.Dst)
	case pipeline.ReasonMACUnknown, pipeline.ReasonNoEndpoint:
		return fmt.Sprintf("no port of %s has %s: check that the workload exists, and its address_bindings", where, w.wanted(s))
	case pipeline.ReasonNoGateway:
		return fmt.Sprintf("%s is connected to no router: set its connectivity_path to a Tier-0 or Tier-1", where)
	case pipeline.ReasonNoRoute:
		return w.routeAdvice(s, where)
	case pipeline.ReasonNoListener:
		return w.listenerAdvice(s, where)
	case pipeline.ReasonURPF:
		return fmt.Sprintf("%s reaches %s by another way (%s): advertise it from the Tier-1 that it comes from (route_advertisement_types), and from no other, or translate it", where, s.Src, w.routeOf(s))
	case pipeline.ReasonNATDepth:
		if s.NAT != nil {
			return fmt.Sprintf("%s of %s would be a third translation of one address: exempt the packet there with a NO_%s rule", ruleName(s.NAT.ID, s.NAT.Name), where, direction(s.Stage))
		}
	case pipeline.ReasonSNATExhausted, pipeline.ReasonTCPState:
		if s.NAT != nil {
			return fmt.Sprintf("%s: %s", ruleName(s.NAT.ID, s.NAT.Name), s.Reason.Info().Advice)
		}
	}
	return s.Reason.Info().Advice
}

func direction(s pipeline.Stage) string {
	if s == pipeline.StageDNAT {
		return "DNAT"
	}
	return "SNAT"
}

// ruleAdvice says which rules would come before r.
// Source: NSX admin guide, Distributed Firewall: categories are evaluated from
// Ethernet to Application; an Ethernet rule decides nothing about IP packets.
// Gateway Firewall: from Emergency to Default.
func ruleAdvice(r *table.Rule) string {
	before := "above it or in an earlier category"
	switch r.Category {
	case "Ethernet", "Emergency":
		before = "above it"
	case "Infrastructure", "SharedPreRules":
		before = "above it or in category Emergency"
	case "Environment":
		before = "above it or in category Emergency or Infrastructure"
	}
	return fmt.Sprintf("%s %s it; an ALLOW %s would let it pass", ruleTitle(r), verb(r), before)
}

// remote words the far side of a firewall step.
func (w *wording) remote(s pipeline.Step) string {
	if s.Stage == pipeline.StageDFWOut {
		return "to " + s.Dst.String()
	}
	return "from " + s.Src.String()
}

// wanted is the address that an endpoint was looked for with: of a route with a
// gateway, that.
func (w *wording) wanted(s pipeline.Step) netip.Addr {
	if r := w.lastRoute(); r != nil && r.Kind == table.RouteVia && s.Stage == pipeline.StageEndpoint {
		return r.Via
	}
	return s.Dst
}

func (w *wording) lastRoute() *table.Route {
	for i := len(w.res.Steps) - 1; i >= 0; i-- {
		if r := w.res.Steps[i].Route; r != nil {
			return r
		}
	}
	return nil
}

func (w *wording) routeAdvice(s pipeline.Step, where string) string {
	switch {
	case s.Stage == pipeline.StageFlow:
		return fmt.Sprintf("the reply to %s leads elsewhere than the connection came from: compare the routes of both ways", s.Dst)
	case s.Route == nil:
		return fmt.Sprintf("%s has no route for %s: advertise the prefix from its Tier-1 (route_advertisement_types) or add a static route", where, s.Dst)
	case s.Route.Kind == table.RouteDiscard:
		return fmt.Sprintf("%s discards %s by %s: add a route with a longer prefix", where, s.Dst, s.Route.Prefix)
	}
	return fmt.Sprintf("%s would send %s back up by %s: add the segment that has the address, or withdraw its advertisement", where, s.Dst, s.Route.Prefix)
}

func (w *wording) listenerAdvice(s pipeline.Step, where string) string {
	if s.Route != nil && s.Route.Kind == table.RouteNAT {
		return fmt.Sprintf("%s is an address for NAT at %s and no DNAT rule takes %s: add one, or use the workload's own address", s.Dst, where, service(w.t))
	}
	if s.Route == nil || s.Route.Kind == table.RouteVIP {
		return fmt.Sprintf("%s is a VIP at %s and no virtual server takes %s: add one, or use a port that one has", s.Dst, where, service(w.t))
	}
	return fmt.Sprintf("%s is an address of %s itself, which answers ICMP echo only: use the address of a workload", s.Dst, where)
}

// routeOf words the route of a drop.
func (w *wording) routeOf(s pipeline.Step) string {
	if s.Route == nil {
		return "no route"
	}
	return w.route(s.Route)
}
