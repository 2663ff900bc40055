package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// side is a rule in one direction: what it looks at on the far side is in rule,
// the rest says for which endpoints it works.
type side struct {
	rule    *table.Rule
	digest  [sha256.Size]byte // of rule
	order   order
	section section
	scope   []string // atoms of Applied To; nil: every port
	any     bool     // every own address
	not     bool     // own addresses outside of own
	own     []string // atoms of own addresses
}

// order is a rule's place among all rules of the distributed firewall.
type order struct {
	category  int
	isDefault bool
	policySeq int
	policy    string
	ruleSeq   int
	rule      string
}

func compareOrder(a, b order) int {
	return cmp.Or(
		cmp.Compare(a.category, b.category), compareBool(a.isDefault, b.isDefault),
		cmp.Compare(a.policySeq, b.policySeq), strings.Compare(a.policy, b.policy),
		cmp.Compare(a.ruleSeq, b.ruleSeq), strings.Compare(a.rule, b.rule),
	)
}

// section is which of the rulesets of an endpoint a rule goes into.
type section uint8

const (
	sectionEthernet    section = iota
	sectionEnvironment         // and what comes before it
	sectionApplication         // and what comes after it
	sections
)

// orderOf returns the place of a rule. Policies without a category come after
// all, default policies at the end: that of layer 3 after everything, others
// in their category. Source: NSX admin guide, "Distributed Firewall"; NSX
// Policy API, schema SecurityPolicy, category.
func orderOf(p *intent.SecurityPolicy, r *intent.Rule) (order, section) {
	o := order{
		category:  p.CategoryRank(),
		isDefault: p.IsDefault,
		policySeq: p.SequenceNumber, policy: p.Path,
		ruleSeq: r.SequenceNumber, rule: r.Path,
	}
	s := sectionApplication
	switch p.Category {
	case "Ethernet":
		return o, sectionEthernet
	case "Emergency", "Infrastructure", "Environment":
		s = sectionEnvironment
	case "Application":
		if p.IsDefault {
			o.category = len(intent.Categories()) + 1
		}
	}
	return o, s
}

func (x *run) buildSide(path, dir string) any {
	r, ok := object[*intent.Rule](x, path)
	if !ok || r.Disabled || !r.IPv4() || dir == dirOut && !r.Out() || dir == dirIn && !r.In() {
		return nil
	}
	p, ok := object[*intent.SecurityPolicy](x, r.PolicyPath())
	if !ok {
		return nil
	}
	s := &side{rule: x.ruleOf(p, r)}
	s.order, s.section = orderOf(p, r)
	own, remote, not := r.Sources(), r.Destinations(), r.DestinationsExcluded
	s.not = r.SourcesExcluded
	if dir == dirIn {
		own, remote, not, s.not = remote, own, r.SourcesExcluded, r.DestinationsExcluded
	}
	s.rule.AnyRemote, s.rule.NotRemote = remote.Any, not
	s.rule.Remote = x.remote(remote)
	s.digest = digestOf(s.rule)
	s.scope = intent.AppliedTo(p, r)
	s.any = own.Any
	x.own(s, own)
	x.find(s, ref{factSide, path, dir})
	return s
}

// ruleOf returns what both directions of a rule have.
func (x *run) ruleOf(p *intent.SecurityPolicy, r *intent.Rule) *table.Rule {
	want := noID
	if r.RuleID != 0 {
		want = r.RuleID
	}
	out := &table.Rule{
		ID:       x.idOf(poolRule, r.Path, want),
		Path:     r.Path,
		Name:     r.Name(),
		Policy:   p.Path,
		Category: p.Category,
		Services: x.ruleServices(r),
		Strict:   p.IsTCPStrict(),
		Logged:   r.Logged,
		Tag:      r.Tag,
	}
	switch r.Action {
	case "ALLOW":
		out.Action = table.Allow
		if p.Category == "Ethernet" {
			out.Action = table.Continue
		}
	case "DROP":
		out.Action = table.Drop
	case "REJECT":
		out.Action = table.Reject
	case "JUMP_TO_APPLICATION":
		out.Action = table.Continue
	}
	return out
}

// remote returns the sets of addresses that the far side is in.
func (x *run) remote(p intent.Peers) []table.AddrSetID {
	var out []table.AddrSetID
	for _, g := range p.Groups {
		x.emit(ref{relUse, g, ""}, x.f.name)
		out = append(out, x.addrSetID(g))
	}
	if len(p.Prefixes) > 0 {
		list := literal(p.Prefixes)
		x.emit(ref{relLiteral, list, ""}, x.f.name)
		out = append(out, x.addrSetID(list))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// literal returns the text of written prefixes.
func literal(prefixes []netip.Prefix) string {
	var out []string
	for _, p := range disjoint(prefixes) {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

// An endpoint's atoms are the paths of its port, its segment and the groups
// that hold its port; listedAtom of the groups that list its address; and the
// written prefixes around its address.

// listedAtom is the atom of addresses that a group lists.
func listedAtom(group string) string { return "listed in " + group }

// own sets the atoms of a side's own addresses.
func (x *run) own(s *side, p intent.Peers) {
	for _, g := range p.Groups {
		x.emit(ref{relOwn, g, ""}, x.f.name)
		s.own = append(s.own, g, listedAtom(g))
	}
	for _, prefix := range p.Prefixes {
		x.emit(ref{relPrefix, prefix.String(), ""}, prefix.String())
		x.emit(ref{relLength, "", ""}, prefix.Bits())
		s.own = append(s.own, prefix.String())
	}
	slices.Sort(s.own)
	s.own = slices.Compact(s.own)
}

// find puts a side where the endpoints that it may work on find it.
func (x *run) find(s *side, self ref) {
	for _, atoms := range [][]string{s.scope, s.own} {
		for _, a := range atoms {
			x.emit(ref{relMention, a, ""}, x.f.name)
		}
	}
	by := []string{atomAny}
	switch {
	case s.scope != nil:
		by = s.scope
	case !s.any && !s.not:
		by = s.own
	}
	for _, a := range by {
		x.emit(ref{relCandidate, a, self.arg}, self)
	}
}

// worksOn reports whether the rule works on endpoints that have the atoms and
// have found it: those in its Applied To, see find.
func (s *side) worksOn(atoms map[string]bool) bool {
	return s.any || slices.ContainsFunc(s.own, func(a string) bool { return atoms[a] }) != s.not
}

// digestOf returns a hash of all that a rule says.
func digestOf(r *table.Rule) [sha256.Size]byte {
	var b []byte
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	flag := func(v bool) {
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = binary.AppendUvarint(b, uint64(r.ID))
	for _, s := range []string{r.Path, r.Name, r.Policy, r.Category, r.Tag} {
		text(s)
	}
	b = append(b, byte(r.Action))
	for _, v := range []bool{r.AnyRemote, r.NotRemote, r.Strict, r.Logged} {
		flag(v)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Remote)))
	for _, id := range r.Remote {
		b = binary.AppendUvarint(b, uint64(id))
	}
	for _, s := range r.Services {
		b = append(b, s.Proto)
		b = binary.BigEndian.AppendUint16(b, s.First)
		b = binary.BigEndian.AppendUint16(b, s.Last)
	}
	return sha256.Sum256(b)
}
