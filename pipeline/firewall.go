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

// question is what rulesets are asked. In the distributed firewall remote is
// the far side and no rule asks for dst; in a gateway's remote is the source.
type question struct {
	remote, dst member
	t           packet.Tuple // its protocol and service number
	via         bool         // the connection came by a virtual server
}

// member is an address and the realm that it is of.
type member struct {
	realm table.RealmID
	addr  netip.Addr
}

// member returns addr as it is known where realm r is.
func (ix *Index) member(r table.RealmID, addr netip.Addr) member {
	return member{realm: ix.realm(r, addr), addr: addr}
}

// remote returns a question about the current tuple and a far side.
func (w *walk) remote(realm table.RealmID, addr netip.Addr) question {
	return question{remote: w.ix.member(realm, addr), t: w.t, via: w.via}
}

// firewall asks rulesets, in order, about the current tuple and a remote
// address, at endpoint e. It reports whether the packet passes; else the walk
// has its reason. Source: docs/pipeline.md §7, Firewall.
func (w *walk) firewall(stage Stage, e *table.Endpoint, rulesets []table.RulesetID, remote netip.Addr) bool {
	if e.Unfiltered {
		return true
	}
	q := w.remote(w.ix.segmentRealm(e.Segment), remote)
	rule := w.ix.decides(rulesets, &q)
	return w.judged(stage, uint32(e.Port), rule, ReasonDFWRule, ReasonDFWDefaultDeny)
}

// gatewayIn asks the firewall of router id about what came from above, with
// row the NAT row that matched, and before the tuple that it matched.
func (w *walk) gatewayIn(id table.VRFID, row *table.NATRule, before packet.Tuple) bool {
	seen := w.t
	if row != nil && row.Match == table.MatchExternal {
		seen = before
	}
	var ruleset table.RulesetID
	switch w.kind(id) {
	case table.Tier1:
		ruleset = w.ix.Set.VRFs.Get(id).In
	case table.Tier0:
		if u := w.ix.Set.Uplinks.Get(w.uplink); u != nil {
			ruleset = u.In
		}
	}
	return w.gateway(StageGatewayIn, id, ruleset, row, seen)
}

// gatewayOut asks the firewall of router id about what leaves by uplink, or
// upwards if that is 0, with row the NAT row that matches.
func (w *walk) gatewayOut(id table.VRFID, uplink table.PortID, row *table.NATRule) bool {
	seen := w.t
	if row != nil && row.Match == table.MatchExternal && row.Action == table.NATTranslate {
		seen.Src = translated(row, row.Src, seen.Src)
	}
	var ruleset table.RulesetID
	switch w.kind(id) {
	case table.Tier1:
		ruleset = w.ix.Set.VRFs.Get(id).Out
	case table.Tier0:
		if u := w.ix.Set.Uplinks.Get(uplink); u != nil {
			ruleset = u.Out
		}
	}
	return w.gateway(StageGatewayOut, id, ruleset, row, seen)
}

// gateway asks one ruleset about tuple t. It reports whether the packet passes.
// Source: docs/pipeline.md §7, Gateway firewall.
func (w *walk) gateway(stage Stage, id table.VRFID, ruleset table.RulesetID, row *table.NATRule, t packet.Tuple) bool {
	if ruleset == 0 || row != nil && row.Match == table.MatchBypass {
		return true
	}
	realm := w.ix.vrfRealm(id)
	rule := w.ix.decides([]table.RulesetID{ruleset}, &question{
		remote: w.ix.member(realm, t.Src), dst: w.ix.member(realm, t.Dst), t: t, via: w.via,
	})
	return w.judged(stage, uint32(id), rule, ReasonGatewayRule, ReasonGatewayDefaultDeny)
}

// judged records what rule, nil if none matches, means for the walk, and reports
// whether it goes on.
func (w *walk) judged(stage Stage, id uint32, rule *table.Rule, denied, unmatched Reason) bool {
	if rule == nil {
		w.drop(stage, id, unmatched)
		return false
	}
	if rule.Action != table.Allow {
		if rule.Action == table.Reject {
			w.answer = answer{kind: answerReject}
		}
		w.rule = rule.ID
		s := w.drop(stage, id, denied)
		s.Rule, s.FWRule = rule.ID, rule
		return false
	}
	if rule.Strict && w.strict == nil {
		w.strict = rule
	}
	note(w.rules[:], rule.ID)
	s := w.step(stage, id)
	s.Rule, s.FWRule = rule.ID, rule
	return true
}

// decides returns the rule that decides in a list of rulesets, nil if none
// does.
func (ix *Index) decides(rulesets []table.RulesetID, q *question) *table.Rule {
	for _, id := range rulesets {
		if r := ix.first(id, q); r != nil && r.Action != table.Continue {
			return r
		}
	}
	return nil
}

// first returns the first rule of a ruleset that matches, nil if none does.
func (ix *Index) first(id table.RulesetID, q *question) *table.Rule {
	rs := ix.Set.Rulesets.Get(id)
	if rs == nil {
		return nil
	}
	for _, r := range rs.Rules {
		if ix.matches(r, q) {
			return r
		}
	}
	return nil
}

func (ix *Index) matches(r *table.Rule, q *question) bool {
	switch {
	case r.ViaVIP && !q.via,
		!r.AnyRemote && ix.inAny(r.Remote, q.remote) == r.NotRemote,
		r.Dst != nil && ix.inAny(r.Dst, q.dst) == r.NotDst:
		return false
	}
	for _, s := range r.Services {
		if serves(s, q.t) {
			return true
		}
	}
	return len(r.Services) == 0
}

// inAny reports whether m is in one of the sets.
func (ix *Index) inAny(sets []table.AddrSetID, m member) bool {
	for _, id := range sets {
		if ix.has(id, m) {
			return true
		}
	}
	return false
}
