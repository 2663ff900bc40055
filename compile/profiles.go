package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// A profile is what the firewall can tell about an endpoint: which atoms that
// some rule depends on it has. Endpoints with equal profiles have the same
// rules, so rules are chosen once for each profile.
type profile struct {
	out, in    []table.RulesetID
	unfiltered bool
	dlb        table.LBServiceID
}

// exclude is the exclude list.
type exclude struct{ members []string }

func (x *run) buildExclude(path string) any {
	l, ok := object[*intent.PolicyExcludeList](x, path)
	if !ok || len(l.Members) == 0 {
		return nil
	}
	for _, m := range l.Members {
		x.emit(ref{relUsed, m, ""}, present)
	}
	return &exclude{l.Members}
}

// buildOwn puts a group that rules have on their own side where the endpoints
// find it that it holds or whose addresses it lists.
func (x *run) buildOwn(group string) any {
	x.emit(ref{relUsed, group, ""}, present)
	atom := ""
	for _, p := range x.written(group) {
		atom = listedAtom(group)
		x.emit(ref{relPrefix, p.String(), ""}, atom)
		x.emit(ref{relLength, "", ""}, p.Bits())
	}
	return atom
}

func (x *run) buildLengths() any {
	return members(x, ref{relLength, "", ""}, cmp.Compare[int])
}

// buildProfileKey returns the endpoint's atoms that something depends on,
// joined.
func (x *run) buildProfileKey(segment, addr string) any {
	path := x.owner(segment, addr)
	if path == "" {
		return nil
	}
	var atoms []string
	for _, a := range append([]string{path, segment}, x.groupsOf(path)...) {
		if x.rel(relUsed, a) != nil {
			atoms = append(atoms, a)
		}
	}
	a := netip.MustParseAddr(addr)
	for _, bits := range built[[]int](x, ref{factLengths, "", ""}) {
		if p, err := a.Prefix(bits); err == nil {
			atoms = append(atoms, members(x, ref{relPrefix, p.String(), ""}, strings.Compare)...)
		}
	}
	slices.Sort(atoms)
	return strings.Join(atoms, atomSeparator)
}

// atomSeparator joins the atoms of a profile; no path or prefix has it.
const atomSeparator = "\n"

// owner returns the port that has an address; of several the first by path.
func (x *run) owner(segment, addr string) string {
	ports := members(x, ref{relBinding, segment, addr}, strings.Compare)
	if len(ports) == 0 {
		return ""
	}
	return ports[0]
}

func (x *run) buildProfile(key string) any {
	atoms := map[string]bool{}
	for a := range strings.SplitSeq(key, atomSeparator) {
		atoms[a] = true
	}
	if l := built[*exclude](x, ref{factExclude, intent.ExcludeListPath, ""}); l != nil {
		if slices.ContainsFunc(l.members, func(m string) bool { return atoms[m] }) {
			return &profile{unfiltered: true, dlb: x.dlbOf(atoms)}
		}
	}
	var out, in []*side
	for _, s := range x.candidates(atoms) {
		if s.out != nil && s.out.worksOn(atoms) {
			out = append(out, s.out)
		}
		if s.in != nil && s.in.worksOn(atoms) {
			in = append(in, s.in)
		}
	}
	return &profile{
		out: x.rulesets(dirOut, out),
		in:  x.rulesets(dirIn, in),
		dlb: x.dlbOf(atoms),
	}
}

// candidates returns the rules that endpoints with the atoms find, in order.
func (x *run) candidates(atoms map[string]bool) []*sides {
	out := members(x, ref{relCandidate, atomAny, ""}, compareSides)
	sorted := len(out)
	for a := range atoms {
		out = append(out, members(x, ref{relCandidate, a, ""}, compareSides)...)
	}
	if len(out) == sorted {
		return out
	}
	slices.SortFunc(out, compareSides)
	return slices.Compact(out)
}

// rulesets returns the chain of one direction; see table.Endpoint.
func (x *run) rulesets(dir string, all []*side) []table.RulesetID {
	first := func(in section) int { // the sections follow each other
		at, _ := slices.BinarySearchFunc(all, in, func(s *side, in section) int { return cmp.Compare(s.section, in) })
		return at
	}
	environment, application := first(sectionEnvironment), first(sectionApplication)
	lists := [][]*side{all[:environment], all[environment:]}
	if slices.ContainsFunc(all[environment:application], func(s *side) bool { return s.rule.Action == table.Continue }) {
		lists = [][]*side{all[:environment], all[environment:application], all[application:]}
	}
	var out []table.RulesetID
	for _, list := range lists {
		if len(list) > 0 {
			out = append(out, x.share(dir, list))
		}
	}
	return out
}

// ruleList is the content of a Ruleset.
type ruleList struct {
	name  string
	gate  bool // of a gateway's firewall
	rules []*table.Rule
}

// share offers a rule list under the hash of its content, so that equal lists
// are one Ruleset, and returns its id.
func (x *run) share(dir string, list []*side) table.RulesetID {
	h := sha256.New()
	h.Write([]byte(dir))
	for _, s := range list {
		h.Write(s.digest[:])
	}
	digest := hex.EncodeToString(h.Sum(nil))
	rel := ref{relRuleset, digest, ""}
	l := x.shared(rel)
	if l == nil {
		l = newRuleList(dir, list)
	}
	x.emit(rel, l)
	return table.RulesetID(x.id(poolRuleset, digest))
}

// shared returns the rule list that others have offered under a digest, or
// nil. Its content follows from the digest, so it need not be noted.
func (x *run) shared(rel ref) *ruleList {
	if f := x.g.facts.get(rel); f != nil && f.members.size() > 0 {
		return f.members.first().(*ruleList)
	}
	return nil
}

func newRuleList(dir string, list []*side) *ruleList {
	l := &ruleList{gate: dir == gateFirewall, rules: make([]*table.Rule, 0, len(list))}
	const shown = 3
	var policies []string
	more, last := 0, ""
	for _, s := range list {
		l.rules = append(l.rules, s.rule)
		switch {
		case s.rule.Policy == last:
		case len(policies) < shown:
			policies = append(policies, intent.IDOf(s.rule.Policy))
		default:
			more++
		}
		last = s.rule.Policy
	}
	l.name = dir + ": " + strings.Join(policies, ", ")
	if more > 0 {
		l.name += " and " + strconv.Itoa(more) + " more"
	}
	return l
}

func (x *run) buildRuleset(digest string) any {
	rel := x.note(ref{relRuleset, digest, ""})
	if rel.members.size() == 0 {
		return nil
	}
	l := rel.members.first().(*ruleList) // all have the same content
	return &table.Ruleset{
		ID:      table.RulesetID(x.id(poolRuleset, digest)),
		Name:    l.name,
		Gateway: l.gate,
		Rules:   l.rules,
	}
}

func (x *run) buildEndpoint(segment, addr string) any {
	path := x.owner(segment, addr)
	p := built[*port](x, ref{factPort, path, ""})
	if path == "" || p == nil {
		return nil
	}
	a := netip.MustParseAddr(addr)
	i := slices.IndexFunc(p.Bindings, func(b intent.Binding) bool { return b.Addr == a })
	if i < 0 {
		return nil
	}
	out := &table.Endpoint{
		Segment: p.Segment,
		Addr:    a,
		Port:    p.ID,
		MAC:     table.MAC(p.Bindings[i].MAC),
	}
	key := built[string](x, ref{factProfileKey, segment, addr})
	if f := built[*profile](x, ref{factProfile, key, ""}); f != nil {
		out.Out, out.In, out.Unfiltered, out.DLB = f.out, f.in, f.unfiltered, f.dlb
	}
	return out
}
