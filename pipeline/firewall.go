package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// serviceNumber returns what rules match of t besides the protocol. An ICMP
// tuple's first packet is an echo request: nothing else begins a connection.
func serviceNumber(t packet.Tuple) uint16 {
	switch {
	case t.Proto.HasPorts():
		return t.DstPort
	case t.Proto == packet.ICMP:
		return packet.ICMPEchoRequest << 8
	}
	return 0
}

// serves reports whether s matches t.
func serves(s table.Service, t packet.Tuple) bool {
	if s.Proto == 0 {
		return true
	}
	n := serviceNumber(t)
	return s.Proto == uint8(t.Proto) && s.First <= n && n <= s.Last
}

// firewall asks rulesets, in order, about the current tuple and a remote
// address, at endpoint e. It reports whether the packet passes; else the walk
// has its reason. Source: docs/pipeline.md §7, Firewall.
func (w *walk) firewall(stage Stage, e *table.Endpoint, rulesets []table.RulesetID, remote netip.Addr) bool {
	if e.Unfiltered {
		return true
	}
	rule := w.match(e, rulesets, remote)
	if rule == nil {
		w.drop(stage, uint32(e.Port), ReasonDFWDefaultDeny)
		return false
	}
	if rule.Action != table.Allow {
		if rule.Action == table.Reject {
			w.answer = answer{kind: answerReject}
		}
		w.rule = rule.ID
		s := w.drop(stage, uint32(e.Port), ReasonDFWRule)
		s.Rule, s.FWRule = rule.ID, rule
		return false
	}
	if rule.Strict && w.strict == nil {
		w.strict = rule
	}
	if stage == StageDFWIn {
		w.rules[1] = rule.ID
	} else if w.rules[0] == 0 {
		w.rules[0] = rule.ID
	}
	s := w.step(stage, uint32(e.Port))
	s.Rule, s.FWRule = rule.ID, rule
	return true
}

// match returns the rule that decides, nil if none does.
func (w *walk) match(e *table.Endpoint, rulesets []table.RulesetID, remote netip.Addr) *table.Rule {
	realm := w.ix.realm(e.Segment, remote)
	for _, id := range rulesets {
		rs := w.ix.Set.Rulesets[id]
		if rs == nil {
			continue
		}
		for _, r := range rs.Rules {
			if !w.ix.matches(r, realm, remote, w.t) {
				continue
			}
			if r.Action == table.Continue {
				break
			}
			return r
		}
	}
	return nil
}

func (ix *Index) matches(r *table.Rule, realm table.RealmID, remote netip.Addr, t packet.Tuple) bool {
	if !r.AnyRemote {
		in := false
		for _, set := range r.Remote {
			if in = ix.member(set, realm, remote); in {
				break
			}
		}
		if in == r.NotRemote {
			return false
		}
	}
	for _, s := range r.Services {
		if serves(s, t) {
			return true
		}
	}
	return len(r.Services) == 0
}
