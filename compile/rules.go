package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// sides is a rule in both directions; nil where it does not look.
type sides struct {
	order   order
	out, in *side
}

// side is a rule in one direction: what it looks at on the far side is in rule,
// the rest says for which endpoints it works.
type side struct {
	rule    *table.Rule
	digest  [sha256.Size]byte // of rule
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

// compareSides orders by the rules' places. The words differ rarely, so they
// come last of what has to be compared.
func compareSides(s, t *sides) int {
	a, b := &s.order, &t.order
	switch {
	case a.category != b.category:
		return cmp.Compare(a.category, b.category)
	case a.isDefault != b.isDefault:
		return compareBool(a.isDefault, b.isDefault)
	case a.policySeq != b.policySeq:
		return cmp.Compare(a.policySeq, b.policySeq)
	case a.policy != b.policy:
		return strings.Compare(a.policy, b.policy)
	case a.ruleSeq != b.ruleSeq:
		return cmp.Compare(a.ruleSeq, b.ruleSeq)
	}
	return strings.Compare(a.rule, b.rule)
}

// section is which of the rulesets of an endpoint a rule goes into.
type section uint8

const (
	sectionEthernet    section = iota
	sectionEnvironment         // and what comes before it
	sectionApplication         // and what comes after it
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

// buildSides puts a rule where the endpoints that it may work on find it. The
// value is the one of before if that is equal.
func (x *run) buildSides(path string) any {
	r, ok := object[*intent.Rule](x, path)
	if !ok || r.Disabled || !r.IPv4() {
		return nil
	}
	p, ok := object[*intent.SecurityPolicy](x, r.PolicyPath())
	if !ok {
		return nil
	}
	out, section := &sides{}, section(0)
	out.order, section = orderOf(p, r)
	rule, scope := x.ruleOf(r, p.Path, p.Category, p.IsTCPStrict()), intent.AppliedTo(p, r)
	from, to := far{r.Sources(), r.SourcesExcluded}, far{r.Destinations(), r.DestinationsExcluded}
	if r.Out() {
		out.out = x.side(*rule, section, scope, from, to)
	}
	if r.In() {
		out.in = x.side(*rule, section, scope, to, from)
	}
	if before, ok := x.f.value.(*sides); ok && reflect.DeepEqual(before, out) {
		out = before
	}
	x.find(out)
	return out
}

// far is the peers of one end of a rule; not: all but them.
type far struct {
	intent.Peers
	not bool
}

// side returns a rule as one end sees it.
func (x *run) side(rule table.Rule, in section, scope []string, own, remote far) *side {
	rule.AnyRemote, rule.NotRemote = remote.Any, remote.not
	rule.Remote = x.remote(remote.Peers)
	return &side{
		rule:    &rule,
		digest:  digestOf(&rule),
		section: in,
		scope:   scope,
		any:     own.Any,
		not:     own.not,
		own:     x.own(own.Peers),
	}
}

// ruleOf returns what both directions of a rule have.
func (x *run) ruleOf(r *intent.Rule, policy, category string, strict bool) *table.Rule {
	out := &table.Rule{
		ID:       x.idOf(poolRule, r.Path, r.RuleID),
		Path:     r.Path,
		Name:     r.Name(),
		Policy:   policy,
		Category: category,
		Services: x.ruleServices(r),
		ViaVIP:   r.ViaVirtualServer,
		Strict:   strict,
		Logged:   r.Logged,
		Tag:      r.Tag,
	}
	switch r.Action {
	case "ALLOW":
		out.Action = table.Allow
		if category == "Ethernet" {
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
		out = append(out, built[table.AddrSetID](x, ref{factSet, g, ""}))
	}
	if len(p.Prefixes) > 0 {
		list := literal(p.Prefixes)
		x.emit(ref{relLiteral, list, ""}, present)
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

// own returns the atoms of own addresses, sorted.
func (x *run) own(p intent.Peers) []string {
	var out []string
	for _, g := range p.Groups {
		out = append(out, g)
		if listed := built[string](x, ref{factOwn, g, ""}); listed != "" {
			out = append(out, listed)
		}
	}
	for _, prefix := range p.Prefixes {
		x.emit(ref{relPrefix, prefix.String(), ""}, prefix.String())
		x.emit(ref{relLength, "", ""}, prefix.Bits())
		out = append(out, prefix.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// find puts a rule where the endpoints that it may work on find it.
func (x *run) find(s *sides) {
	var atoms []string
	for _, one := range []*side{s.out, s.in} {
		switch {
		case one == nil:
		case one.scope != nil:
			atoms = append(atoms, one.scope...)
		case one.any || one.not:
			atoms = append(atoms, atomAny)
		default:
			atoms = append(atoms, one.own...)
		}
	}
	slices.Sort(atoms)
	for _, a := range slices.Compact(atoms) {
		x.emit(ref{relCandidate, a, ""}, s)
		x.emit(ref{relUsed, a, ""}, present)
	}
}

// worksOn reports whether the rule works on endpoints that have the atoms and
// have found it: those in its Applied To, see find.
func (s *side) worksOn(atoms map[string]bool) bool {
	return s.any || slices.ContainsFunc(s.own, func(a string) bool { return atoms[a] }) != s.not
}

// digestOf returns a hash of all that a rule says.
func digestOf(r *table.Rule) [sha256.Size]byte {
	b := make([]byte, 0, 512)
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
	sum := sha256.Sum256(b)
	if r.Dst == nil && !r.NotDst && !r.ViaVIP {
		return sum
	}
	b = append(b[:0], sum[:]...) // what most rules do not have
	flag(r.NotDst)
	flag(r.ViaVIP)
	for _, id := range r.Dst {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return sha256.Sum256(b)
}
