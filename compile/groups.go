package compile

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Groups are evaluated from the port's side: a port looks for groups that may
// hold it by its atoms (its tags, its segment's tags, its path, …), so that a
// changed port costs what concerns that port, and a changed group costs the
// ports that have one of its atoms. Each term of a group is found by one atom
// that a port must have to be in it; atomAny if there is none. Few atoms are
// asked for, so a port watches its atoms, and the text of one is kept only by
// the group that asks for it.
const atomAny = "*"

// appendTags appends the atoms of an object's tags; owner is SegmentPort or
// Segment. conditionAtoms writes the same texts.
func appendTags(out []topic, owner string, tags []intent.Tag) []topic {
	var room [256]byte
	text := append(room[:0], owner...)
	atom := func(parts ...string) {
		whole := text
		for _, p := range parts {
			whole = append(whole, p...)
		}
		out = append(out, topicOf(relTerm, whole))
	}
	for _, t := range tags {
		atom(" tag ", t.Scope, "|", t.Tag)
		atom(" scope ", t.Scope)
		atom(" value ", t.Tag)
	}
	return out
}

// conditionAtoms returns atoms one of which every port that meets the condition
// has.
func conditionAtoms(c *intent.Condition) []string {
	if c.Key != "Tag" || c.Operator != "EQUALS" && c.Operator != "IN" || c.ScopeOperator == "NOTEQUALS" {
		return []string{atomAny}
	}
	scope, value, barred := strings.Cut(c.Value, "|")
	kind, prefix := " tag ", scope+"|"
	switch {
	case !barred:
		kind, prefix, value = " value ", "", scope
	case value == "" && scope != "":
		return []string{c.MemberType + " scope " + scope}
	}
	if value == "" {
		return []string{atomAny}
	}
	values := []string{value}
	if c.Operator == "IN" {
		values = strings.Split(value, ",")
	}
	var out []string
	for _, v := range values {
		out = append(out, c.MemberType+kind+prefix+v)
	}
	return out
}

// termAtoms returns atoms one of which every port that is in the term has: of
// those that are possible, the ones that the fewest ports have, and then those
// under which the fewest groups are found, so that a thousand groups of one tier
// and different zones are found by zone. The choice is a matter of speed alone,
// so it is not noted.
func (x *run) termAtoms(term []intent.Expression) []string {
	best := []string{atomAny}
	for _, e := range term {
		var atoms []string
		switch e := e.(type) {
		case *intent.Condition:
			atoms = conditionAtoms(e)
		case *intent.NestedExpression:
			for _, t := range e.Terms() {
				atoms = append(atoms, x.termAtoms(t)...)
			}
		case *intent.PathExpression:
			atoms = e.Paths
		case *intent.MACAddressExpression:
			for _, m := range e.MACs() {
				atoms = append(atoms, macAtom(m))
			}
		}
		if atoms != nil && !slices.Contains(atoms, atomAny) && (best[0] == atomAny || x.isBetter(atoms, best)) {
			best = atoms
		}
	}
	return best
}

// isBetter reports whether a port should rather look for groups by atoms than
// by others.
func (x *run) isBetter(atoms, others []string) bool {
	return cmp.Or(cmp.Compare(x.ports(atoms), x.ports(others)), cmp.Compare(x.load(atoms), x.load(others)), cmp.Compare(narrowness(others), narrowness(atoms))) < 0
}

// ports returns how many ports have one of the atoms, at most.
func (x *run) ports(atoms []string) int {
	n := 0
	for _, a := range atoms {
		n += x.g.watches.count(topicOf(relTerm, a))
	}
	return n
}

// load returns how many groups are found by one of the atoms, at most.
func (x *run) load(atoms []string) int {
	most := 0
	for _, a := range atoms {
		if f := x.g.facts.get(ref{relTerm, a, ""}); f != nil {
			most = max(most, f.members.size())
		}
	}
	return most
}

// narrowness guesses how few ports have atoms: the worst of them counts.
func narrowness(atoms []string) int {
	worst := len(narrowest)
	for _, a := range atoms {
		at := slices.IndexFunc(narrowest, func(prefix string) bool { return strings.HasPrefix(a, prefix) })
		worst = min(worst, at)
	}
	return worst
}

// narrowest is the prefixes of atoms, the widest first.
var narrowest = []string{"Segment scope", "SegmentPort scope", "Segment value", "Segment tag", "SegmentPort value", "SegmentPort tag", "mac ", "/"}

func macAtom(m intent.MAC) string { return "mac " + string(m[:]) }

// isWritten reports whether a term is written addresses, which hold in every
// realm and need no port. NSX: such groups have no effect in Applied To.
func isWritten(term []intent.Expression) (*intent.IPAddressExpression, bool) {
	if len(term) != 1 {
		return nil, false
	}
	e, ok := term[0].(*intent.IPAddressExpression)
	return e, ok
}

// groupTerms is the terms of a group that hold ports.
type groupTerms [][]operand

// possible is a group that may hold ports. Another expression makes it another
// one: ports that find it by an atom need not read more of it.
type possible struct {
	group string // path
	terms groupTerms
}

func (c *possible) compare(o *possible) int { return strings.Compare(c.group, o.group) }

// operand is an expression that was read once: many ports are held against it.
type operand struct {
	intent.Expression
	nested   groupTerms     // of a NestedExpression
	prefixes []netip.Prefix // of an IPAddressExpression
	macs     []intent.MAC   // of a MACAddressExpression
}

// operands reads the terms that hold ports.
func operands(terms [][]intent.Expression) (out groupTerms) {
	for _, term := range terms {
		if _, ok := isWritten(term); ok {
			continue
		}
		read := make([]operand, len(term))
		for i, e := range term {
			read[i].Expression = e
			switch e := e.(type) {
			case *intent.NestedExpression:
				read[i].nested = operands(e.Terms())
			case *intent.IPAddressExpression:
				read[i].prefixes = e.Prefixes()
			case *intent.MACAddressExpression:
				read[i].macs = e.MACs()
			}
		}
		out = append(out, read)
	}
	return out
}

func (x *run) buildTerms(path string) any {
	g, ok := object[*intent.Group](x, path)
	if !ok {
		return nil
	}
	terms := g.Terms()
	out := &possible{path, operands(terms)}
	if old, ok := x.f.value.(*possible); ok && reflect.DeepEqual(old, out) {
		out = old // ports need not look at it again
	}
	for _, term := range terms {
		if _, ok := isWritten(term); ok {
			continue
		}
		for _, a := range x.termAtoms(term) {
			x.emit(ref{relTerm, a, ""}, out)
		}
	}
	return out
}

// buildWritten collects the prefixes that a group lists, and those of groups
// that it contains.
func (x *run) buildWritten(path string) any {
	g, ok := object[*intent.Group](x, path)
	if !ok {
		return nil
	}
	var out []netip.Prefix
	for _, term := range g.Terms() {
		if e, ok := isWritten(term); ok {
			out = append(out, e.Prefixes()...)
			continue
		}
		e, ok := term[0].(*intent.PathExpression)
		if !ok || len(term) > 1 {
			continue
		}
		for _, p := range e.Paths {
			if isGroup(p) {
				out = append(out, x.written(p)...)
			}
		}
	}
	return disjoint(out)
}

func (x *run) written(group string) []netip.Prefix {
	return built[[]netip.Prefix](x, ref{factWritten, group, ""})
}

// isGroup reports whether a path is a group's.
func isGroup(path string) bool { return strings.Contains(path, "/groups/") }

// member is a port that groups are evaluated for.
type member struct {
	x       *run
	port    *intent.SegmentPort
	segment *intent.Segment
	known   map[string]bool // group within others → holds the port
}

func (x *run) buildGroups(path string) any {
	p, ok := object[*intent.SegmentPort](x, path)
	if !ok {
		return nil
	}
	s, ok := object[*intent.Segment](x, p.SegmentPath())
	if !ok {
		return nil
	}
	m := &member{x: x, port: p, segment: s}
	var out []string
	found := map[*possible]bool{}
	for topics := m.atoms(); len(topics) > 0; topics = topics[1:] {
		for _, rel := range x.watch(relTerm, topics[0]) {
			for _, c := range inOrder(rel.members, (*possible).compare) {
				if m.inTerms(c.terms) && !found[c] {
					found[c] = true
					out = append(out, c.group)
					topics = append(topics, topicOf(relTerm, c.group)) // who contains it
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// atoms returns the port's atoms, some of them twice.
func (m *member) atoms() []topic {
	out := make([]topic, 0, 3*(len(m.port.Tags)+len(m.segment.Tags))+8)
	for _, text := range []string{atomAny, m.port.Path, m.segment.Path} {
		out = append(out, topicOf(relTerm, text))
	}
	for _, b := range m.port.Bindings() {
		out = append(out, topicOf(relTerm, macAtom(b.MAC)))
	}
	out = appendTags(out, "SegmentPort", m.port.Tags)
	return appendTags(out, "Segment", m.segment.Tags)
}

// in reports whether the group holds the port.
func (m *member) in(group string) bool {
	if holds, ok := m.known[group]; ok {
		return holds
	}
	if m.known == nil {
		m.known = map[string]bool{}
	}
	m.known[group] = false
	if c := built[*possible](m.x, ref{factTerms, group, ""}); c != nil {
		m.known[group] = m.inTerms(c.terms)
	}
	return m.known[group]
}

func (m *member) inTerms(terms groupTerms) bool {
next:
	for _, term := range terms {
		for i := range term {
			if !m.meets(&term[i]) {
				continue next
			}
		}
		return true
	}
	return false
}

// meets reports whether the port meets one operand. Written addresses beside
// other operands select ports that have one of them.
func (m *member) meets(o *operand) bool {
	switch e := o.Expression.(type) {
	case *intent.Condition:
		if e.MemberType == "Segment" {
			return e.Matches(m.segment)
		}
		return e.MemberType == "SegmentPort" && e.Matches(m.port)
	case *intent.NestedExpression:
		return m.inTerms(o.nested)
	case *intent.PathExpression:
		return slices.ContainsFunc(e.Paths, func(p string) bool {
			return p == m.port.Path || p == m.segment.Path || isGroup(p) && m.in(p)
		})
	case *intent.IPAddressExpression:
		return slices.ContainsFunc(m.port.Bindings(), func(b intent.Binding) bool { return holds(o.prefixes, b.Addr) })
	case *intent.MACAddressExpression:
		return slices.ContainsFunc(m.port.Bindings(), func(b intent.Binding) bool { return slices.Contains(o.macs, b.MAC) })
	}
	return false
}

func (x *run) groupsOf(port string) []string {
	return built[[]string](x, ref{factGroups, port, ""})
}

// buildRows puts the addresses of a port into the groups that hold it.
func (x *run) buildRows(path string) any {
	p := built[*port](x, ref{factPort, path, ""})
	if p == nil {
		return nil
	}
	s, _ := object[*intent.Segment](x, intent.ParentOf(path))
	var rows []any
	for _, b := range p.Bindings {
		for _, realm := range x.realmsOf(s, b.Addr) {
			rows = append(rows, table.RealmPrefix{Realm: realm, Prefix: host(b.Addr)})
		}
	}
	for _, g := range x.groupsOf(path) {
		for _, row := range rows {
			x.emit(ref{relRow, g, ""}, row)
		}
	}
	return nil
}

// compareRows is the order of AddrSet.Addrs.
func compareRows(a, b table.RealmPrefix) int {
	return cmp.Or(cmp.Compare(a.Realm, b.Realm), comparePrefixes(a.Prefix, b.Prefix))
}

// buildSet wants the set of a group and returns its id.
func (x *run) buildSet(group string) any {
	x.emit(ref{relUse, group, ""}, present)
	return x.addrSetID(group)
}

func (x *run) buildAddrSet(group string) any {
	g, ok := object[*intent.Group](x, group)
	if !ok {
		return nil
	}
	out := &table.AddrSet{ID: x.addrSetID(group), Path: group, Name: g.Name()}
	out.Addrs = members(x, ref{relRow, group, ""}, compareRows)
	for _, p := range x.written(group) {
		out.Addrs = append(out.Addrs, table.RealmPrefix{Realm: table.AnyRealm, Prefix: p})
	}
	return out
}

// buildLiteral makes the set of addresses that are written in a rule; list is
// their text.
func (x *run) buildLiteral(list string) any {
	out := &table.AddrSet{ID: x.addrSetID(list), Path: list, Name: list}
	for s := range strings.SplitSeq(list, ",") {
		out.Addrs = append(out.Addrs, table.RealmPrefix{Realm: table.AnyRealm, Prefix: netip.MustParsePrefix(s)})
	}
	return out
}

func (x *run) addrSetID(name string) table.AddrSetID {
	return table.AddrSetID(x.id(poolAddrSet, name))
}
