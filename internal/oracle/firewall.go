package oracle

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// filter asks the distributed firewall at the vNIC of own; false: the packet
// was dropped. First match decides, but an ALLOW in category Ethernet only ends
// that category (its rules are layer 2), and JUMP_TO_APPLICATION skips the
// rest of Environment.
// Source: NSX admin guide, "Distributed Firewall".
func (w *walk) filter(own member, remote netip.Addr, out bool) bool {
	list, _ := intent.Find[*intent.PolicyExcludeList](w.o.tree, intent.ExcludeListPath)
	if w.o.isMonitor(own.port) || list != nil && w.o.selects(list.Members, own.port) {
		return true
	}
	done := "no category"
	for _, pr := range w.o.rules() {
		if pr.policy.Category == done || !w.matches(pr, own, remote, out) {
			continue
		}
		switch {
		case pr.rule.Action == "JUMP_TO_APPLICATION", pr.rule.Action == "ALLOW" && pr.policy.Category == "Ethernet":
			done = pr.policy.Category
			continue
		case pr.rule.Action == "ALLOW":
			w.v.Allowed = append(w.v.Allowed, pr.rule.Path)
			w.strict = w.strict || pr.policy.IsTCPStrict()
			return true
		case pr.rule.Action == "DROP":
			w.drop("dfw_rule")
		default:
			w.reject("dfw_rule")
		}
		w.v.RulePath, w.v.RuleID = pr.rule.Path, pr.rule.RuleID
		return false
	}
	w.drop("dfw_default_deny")
	return false
}

// policyRule is a rule in its policy.
type policyRule struct {
	policy *intent.SecurityPolicy
	rule   *intent.Rule
}

// rules returns all rules in the order of evaluation: category, policy by
// sequence_number, rule by sequence_number, ties by path; the default section
// is the last of all.
func (o *Oracle) rules() []policyRule {
	if o.sorted != nil {
		return o.sorted
	}
	categories := []string{"Ethernet", "Emergency", "Infrastructure", "Environment", "Application", ""}
	var out []policyRule
	for _, r := range every[*intent.Rule](o.tree, "Rule") {
		if p, ok := intent.Find[*intent.SecurityPolicy](o.tree, r.PolicyPath()); ok {
			out = append(out, policyRule{p, r})
		}
	}
	last := func(p *intent.SecurityPolicy) int {
		return slices.Index([]bool{false, true}, p.Path == intent.DefaultPolicyPath)
	}
	slices.SortFunc(out, func(a, b policyRule) int {
		return cmp.Or(
			cmp.Compare(last(a.policy), last(b.policy)),
			cmp.Compare(slices.Index(categories, a.policy.Category), slices.Index(categories, b.policy.Category)),
			cmp.Compare(a.policy.SequenceNumber, b.policy.SequenceNumber),
			strings.Compare(a.policy.Path, b.policy.Path),
			cmp.Compare(a.rule.SequenceNumber, b.rule.SequenceNumber),
			strings.Compare(a.rule.Path, b.rule.Path),
		)
	})
	o.sorted = out
	return out
}

// matches reports whether a rule is for this packet at this vNIC. Direction
// OUT is from the vNIC: its own side is the source.
func (w *walk) matches(pr policyRule, own member, remote netip.Addr, out bool) bool {
	o, r := w.o, pr.rule
	if r.Disabled || r.IPProtocol == "IPV6" || out && r.Direction == "IN" || !out && r.Direction == "OUT" {
		return false
	}
	// Applied To: the scope of the policy wins over that of the rule.
	scope := r.Scope
	if !everywhere(pr.policy.Scope) {
		scope = pr.policy.Scope
	}
	if !everywhere(scope) && !o.selects(scope, own.port) {
		return false
	}
	if r.ViaVirtualServer && !w.viaVIP {
		return false
	}
	if services := o.tree.RuleServices(r); services != nil && !served(services, w.at) {
		return false
	}
	src, dst := []member{own}, o.whoIs(remote, owner(o.segmentOf(own.port)))
	if !out {
		src, dst = dst, src
	}
	return o.side(r.Sources(), r.SourcesExcluded, src) && o.side(r.Destinations(), r.DestinationsExcluded, dst)
}

func everywhere(scope []string) bool {
	return len(scope) == 0 || slices.Equal(scope, []string{"ANY"}) || slices.Equal(scope, []string{"DFW"})
}

// side reports whether one side of a rule holds for somebody, who may be known
// in several ways.
func (o *Oracle) side(peers intent.Peers, excluded bool, ways []member) bool {
	if peers.Any {
		return true
	}
	named := slices.ContainsFunc(ways, func(m member) bool {
		return slices.ContainsFunc(peers.Prefixes, func(p netip.Prefix) bool { return p.Contains(m.addr) }) ||
			slices.ContainsFunc(peers.Groups, func(g string) bool { return o.inGroup(g, m) })
	})
	return named != excluded
}

// served reports whether one of the services is the packet's.
func served(services []intent.ServiceMatch, p Packet) bool {
	var n uint16
	switch p.Proto {
	case protoTCP, protoUDP, protoSCTP:
		n = p.DstPort
	case protoICMP:
		n = uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
	}
	return slices.ContainsFunc(services, func(s intent.ServiceMatch) bool {
		return (s.Proto == 0 || s.Proto == p.Proto) && s.First <= n && n <= s.Last
	})
}
