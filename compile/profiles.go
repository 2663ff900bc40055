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
}

// exclude is the exclude list.
type exclude struct{ members []string }

func (x *run) buildExclude(path string) any {
	l, ok := object[*intent.PolicyExcludeList](x, path)
	if !ok || len(l.Members) == 0 {
		return nil
	}
	for _, m := range l.Members {
		x.emit(ref{relMention, m, ""}, path)
	}
	return &exclude{l.Members}
}

func (x *run) buildUsed(atom string) any {
	return len(x.note(ref{relMention, atom, ""}).members) > 0
}

// buildOwn puts a group that rules have on their own side where the endpoints
// find it whose addresses it lists.
func (x *run) buildOwn(group string) any {
	for _, p := range x.written(group) {
		x.emit(ref{relPrefix, p.String(), ""}, listedAtom(group))
		x.emit(ref{relLength, "", ""}, p.Bits())
	}
	return nil
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
		if built[bool](x, ref{factUsed, a, ""}) {
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
			return &profile{unfiltered: true}
		}
	}
	return &profile{
		out: x.rulesets(dirOut, atoms),
		in:  x.rulesets(dirIn, atoms),
	}
}

// rulesets returns the chain of one direction; see table.Endpoint.
func (x *run) rulesets(dir string, atoms map[string]bool) []table.RulesetID {
	var lists [sections][]*side
	jumps := false
	for _, s := range x.sides(dir, atoms) {
		lists[s.section] = append(lists[s.section], s)
		jumps = jumps || s.section == sectionEnvironment && s.rule.Action == table.Continue
	}
	if !jumps {
		lists[sectionApplication] = append(lists[sectionEnvironment], lists[sectionApplication]...)
		lists[sectionEnvironment] = nil
	}
	var out []table.RulesetID
	for _, list := range lists {
		if len(list) > 0 {
			out = append(out, x.share(dir, list))
		}
	}
	return out
}

// sides returns the rules that work on endpoints with the atoms, in order.
func (x *run) sides(dir string, atoms map[string]bool) []*side {
	seen := map[ref]bool{}
	var out []*side
	collect := func(atom string) {
		for m := range x.note(ref{relCandidate, atom, dir}).members {
			self := m.(ref)
			if seen[self] {
				continue
			}
			seen[self] = true
			if s := built[*side](x, self); s != nil && s.worksOn(atoms) {
				out = append(out, s)
			}
		}
	}
	collect(atomAny)
	for a := range atoms {
		collect(a)
	}
	slices.SortFunc(out, func(a, b *side) int { return compareOrder(a.order, b.order) })
	return out
}

// ruleList is the content of a Ruleset.
type ruleList struct {
	name  string
	rules []*table.Rule
}

// share offers a rule list under the hash of its content, so that equal lists
// are one Ruleset, and returns its id.
func (x *run) share(dir string, list []*side) table.RulesetID {
	l := &ruleList{}
	var policies []string
	h := sha256.New()
	h.Write([]byte(dir))
	for _, s := range list {
		l.rules = append(l.rules, s.rule)
		h.Write(s.digest[:])
		if id := intent.IDOf(s.rule.Policy); !slices.Contains(policies, id) {
			policies = append(policies, id)
		}
	}
	const shown = 3
	more := ""
	if n := len(policies) - shown; n > 0 {
		policies, more = policies[:shown], " and "+strconv.Itoa(n)+" more"
	}
	l.name = dir + ": " + strings.Join(policies, ", ") + more
	digest := hex.EncodeToString(h.Sum(nil))
	x.emit(ref{relRuleset, digest, ""}, l)
	return table.RulesetID(x.id(poolRuleset, digest))
}

func (x *run) buildRuleset(digest string) any {
	rel := x.note(ref{relRuleset, digest, ""})
	for m := range rel.members { // all have the same content
		l := m.(*ruleList)
		return &table.Ruleset{
			ID:    table.RulesetID(x.id(poolRuleset, digest)),
			Name:  l.name,
			Rules: l.rules,
		}
	}
	return nil
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
		out.Out, out.In, out.Unfiltered = f.out, f.in, f.unfiltered
	}
	return out
}
