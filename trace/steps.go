package trace

import (
	"net/netip"
	"strconv"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// wording turns the steps of one packet into words. It follows the packet's
// tuple on the way, of which steps have the addresses only.
type wording struct {
	*tracer
	from table.PortID // where the packet entered
	t    packet.Tuple
	res  pipeline.Result
}

func (w *wording) steps() []Step {
	out := make([]Step, 0, len(w.res.Steps))
	for _, s := range w.res.Steps {
		out = append(out, w.step(s))
	}
	return out
}

// step words s and takes the tuple past it.
func (w *wording) step(s pipeline.Step) Step {
	before := w.t
	w.follow(s)
	out := Step{Stage: s.Stage.String(), Object: w.place(s, w.from), Translation: translation(before, w.t)}
	if s.FWRule != nil {
		out.RuleID, out.RuleName, out.RulePath = s.FWRule.ID, s.FWRule.Name, s.FWRule.Path
		out.PolicyPath, out.Category = s.FWRule.Policy, s.FWRule.Category
	}
	out.Balance = w.balance(s, before.DstPort)
	if s.NAT != nil && s.Stage != pipeline.StageConnect {
		out.RuleID, out.RuleName, out.RulePath = s.NAT.ID, s.NAT.Name, s.NAT.Path
	}
	if s.Route != nil {
		out.Route, out.RoutePath = w.route(s.Route), s.Route.Source
	}
	out.Text = w.text(s, out)
	if tr := out.Translation; tr != nil && out.Balance != nil {
		out.Text += ": " + tr.From + " becomes " + tr.To
	} else if tr != nil {
		out.Text += ": " + tr.From + " → " + tr.To
	}
	return out
}

// follow applies s to the tuple.
func (w *wording) follow(s pipeline.Step) {
	switch s.Stage {
	case pipeline.StageFlow:
		if w.res.Verdict == pipeline.Forward {
			w.t = w.res.Translated
		}
	case pipeline.StageDNAT:
		w.t.Dst = s.Dst
		if s.NAT.Action == table.NATTranslate && s.NAT.ToPort != 0 && (w.t.Proto == packet.TCP || w.t.Proto == packet.UDP) {
			w.t.DstPort = s.NAT.ToPort
		}
	case pipeline.StageSNAT:
		w.t.Src = s.Src
	case pipeline.StageLB, pipeline.StageDLB:
		w.t = balanced(w.t, s)
	case pipeline.StageConnect:
		if s.ID != 0 {
			w.t.SrcPort = uint16(s.ID)
		}
	}
}

// translation returns what changed from one tuple to the next; nil: nothing.
func translation(from, to packet.Tuple) *Translation {
	src := from.Src != to.Src || from.SrcPort != to.SrcPort
	dst := from.Dst != to.Dst || from.DstPort != to.DstPort
	side := func(t packet.Tuple) string {
		switch {
		case src && dst:
			return endpoint(t.Proto, t.Src, t.SrcPort) + " → " + endpoint(t.Proto, t.Dst, t.DstPort)
		case src:
			return endpoint(t.Proto, t.Src, t.SrcPort)
		}
		return endpoint(t.Proto, t.Dst, t.DstPort)
	}
	if !src && !dst {
		return nil
	}
	return &Translation{From: side(from), To: side(to)}
}

// endpoint words an address and its port or, of an ICMP echo, identifier.
func endpoint(proto packet.Proto, a netip.Addr, port uint16) string {
	if proto.HasPorts() || proto == packet.ICMP && port != 0 {
		return a.String() + ":" + portText(port)
	}
	return a.String()
}

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// text says what s was. A translation is added behind it.
func (w *wording) text(s pipeline.Step, out Step) string {
	if s.Reason != pipeline.ReasonNone {
		return w.dropText(s, out)
	}
	switch s.Stage {
	case pipeline.StageSpoofguard:
		return s.Src.String() + " is bound to the port"
	case pipeline.StageFlow:
		return "the reply of a known connection"
	case pipeline.StageDFWOut, pipeline.StageDFWIn:
		return ruleText(out) + " allows it"
	case pipeline.StageGatewayIn, pipeline.StageGatewayOut:
		return ruleTitle(s.FWRule) + " allows it"
	case pipeline.StageLB, pipeline.StageDLB:
		return out.Balance.text()
	case pipeline.StageL2:
		return "bridged: " + w.owner(s.Endpoint)
	case pipeline.StageDNAT, pipeline.StageSNAT:
		if out.Translation == nil {
			return ruleText(out) + " (" + s.NAT.Type + ") exempts it"
		}
		return ruleText(out) + " (" + s.NAT.Type + ")"
	case pipeline.StageRoute:
		return out.Route
	case pipeline.StageLocal:
		return "echo is answered by " + s.Dst.String()
	case pipeline.StageTTL:
		if s.InAddr.IsValid() {
			return "one hop: " + s.InAddr.String()
		}
		return "one hop"
	case pipeline.StageEndpoint:
		return w.owner(s.Endpoint)
	case pipeline.StageConnect:
		return "new connection"
	case pipeline.StageDeliver:
		if s.NextHop != nil {
			return "out to " + w.nextHop(s.NextHop)
		}
		return "into the port"
	}
	return ""
}

func (w *wording) owner(e *table.Endpoint) string {
	return e.Addr.String() + " is " + w.entrance(e.Port).Component
}

func (w *wording) dropText(s pipeline.Step, out Step) string {
	text := s.Reason.String()
	switch {
	case out.Balance != nil:
		return text + ": " + out.Balance.text()
	case gatewayStage(s.Stage) && s.FWRule != nil:
		return text + ": " + ruleTitle(s.FWRule) + " " + verb(s.FWRule) + " it"
	case s.FWRule != nil && s.FWRule.Action == table.Reject:
		return text + ": " + ruleText(out) + " rejects it"
	case out.RuleID != 0:
		return text + ": " + ruleText(out)
	case out.Route != "":
		return text + ": " + out.Route
	}
	return text + ": " + s.Reason.Info().Doc
}

// ruleText names a step's rule.
func ruleText(s Step) string { return ruleName(s.RuleID, s.RuleName) }

func gatewayStage(s pipeline.Stage) bool {
	return s == pipeline.StageGatewayIn || s == pipeline.StageGatewayOut
}

// ruleTitle names a firewall rule with its policy and category.
func ruleTitle(r *table.Rule) string {
	text := ruleName(r.ID, r.Name)
	if r.Policy != "" {
		text += " of policy " + r.Policy
	}
	if r.Category != "" {
		text += " (category " + r.Category + ")"
	}
	return text
}

// verb says what a rule does that does not allow.
func verb(r *table.Rule) string {
	if r.Action == table.Reject {
		return "rejects"
	}
	return "drops"
}

func ruleName(id uint32, name string) string {
	text := "rule " + strconv.FormatUint(uint64(id), 10)
	if name != "" {
		text += " " + name
	}
	return text
}
