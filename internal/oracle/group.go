package oracle

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// member is what a group may have: a binding of a port, a port (no address),
// or an address alone (no port).
type member struct {
	port *intent.SegmentPort
	addr netip.Addr
}

// whoIs returns what an address may be as an owner sees it, that of the port
// that asks: itself, and the bindings with it. Tenants may use the same
// addresses: one that the owner has means a port of its own; any other means,
// if several have it, the port that the Tier-0 routes it to.
func (o *Oracle) whoIs(a netip.Addr, here string) []member {
	out := []member{{addr: a}}
	for _, m := range o.endpoints() {
		if m.addr != a {
			continue
		}
		there := owner(o.segmentOf(m.port))
		switch {
		case o.contested(here, a):
			if here == there {
				out = append(out, m)
			}
		case !o.contested(there, a) || o.leadsTo(m):
			out = append(out, m)
		}
	}
	return out
}

// contested reports whether an owner has the address and another one too.
func (o *Oracle) contested(by string, a netip.Addr) bool {
	own, others := false, false
	for owner, list := range o.owners() {
		switch {
		case !slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) }):
		case owner == by:
			own = true
		default:
			others = true
		}
	}
	return own && others
}

// owners returns what each owner has: its segments' subnets, its ports'
// addresses, and a gateway its addresses for NAT. Those of a Node are not told
// to others.
func (o *Oracle) owners() map[string][]netip.Prefix {
	if o.owned != nil {
		return o.owned
	}
	o.owned = map[string][]netip.Prefix{}
	for _, s := range every[*intent.Segment](o.tree, "Segment") {
		for _, g := range s.Gateways() {
			o.owned[owner(s)] = append(o.owned[owner(s)], g.Masked())
		}
	}
	for _, m := range o.endpoints() {
		by := owner(o.segmentOf(m.port))
		o.owned[by] = append(o.owned[by], host(m.addr))
	}
	for _, t := range append(o.tree.OfType("Tier0"), o.tree.OfType("Tier1")...) {
		path := t.Meta().Path
		o.owned[path] = append(o.owned[path], o.natPrefixes(path)...)
		for _, a := range append(o.vips(path), o.snatAddresses(path)...) {
			o.owned[path] = append(o.owned[path], host(a))
		}
	}
	return o.owned
}

// leadsTo reports whether a Tier-0's routes for the address of m end at m.
func (o *Oracle) leadsTo(m member) bool {
	for _, t := range every[*intent.Tier0](o.tree, "Tier0") {
		for at := t.Path; at != ""; {
			r := o.lookup(at, m.addr)
			at = ""
			switch r.kind {
			case connected:
				if r.segment == m.port.SegmentPath() {
					return true
				}
			case down:
				at = r.to
			case static:
				hop, _ := o.endpoint(r.segment, r.hops[0].addr)
				for _, n := range every[*intent.Node](o.tree, "Node") {
					if hop.port != nil && n.PortPath == hop.port.Path {
						at = n.Path
					}
				}
			}
		}
	}
	return false
}

// owner returns the router of a segment, or the segment itself.
func owner(s *intent.Segment) string {
	if r := s.RouterPath(); r != "" {
		return r
	}
	return s.Path
}

// selects reports whether a list of Applied To or of the exclude list means
// the port. Written IP addresses of a group do not count there.
// Source: NSX admin guide, "Distributed Firewall", Applied To.
func (o *Oracle) selects(paths []string, p *intent.SegmentPort) bool {
	return slices.ContainsFunc(paths, func(path string) bool {
		return path == p.Path || path == p.SegmentPath() || o.inGroup(path, member{port: p})
	})
}

// inGroup evaluates a group's expression for m; AND binds closer than OR.
func (o *Oracle) inGroup(path string, m member) bool {
	g, ok := intent.Find[*intent.Group](o.tree, path)
	if !ok || len(g.Expression) == 0 {
		return false
	}
	some, term := false, true
	for _, e := range g.Expression {
		if c, ok := e.(*intent.ConjunctionOperator); ok {
			if c.ConjunctionOperator == "OR" {
				some, term = some || term, true
			}
			continue
		}
		term = term && o.holds(e, m)
	}
	return some || term
}

// holds evaluates one operand.
func (o *Oracle) holds(e intent.Expression, m member) bool {
	switch v := e.(type) {
	case *intent.IPAddressExpression:
		return slices.ContainsFunc(v.Prefixes(), func(p netip.Prefix) bool { return p.Contains(m.addr) })
	case *intent.MACAddressExpression:
		return m.port != nil && slices.ContainsFunc(m.port.Bindings(), func(b intent.Binding) bool { return slices.Contains(v.MACs(), b.MAC) })
	case *intent.PathExpression:
		return slices.ContainsFunc(v.Paths, func(path string) bool {
			return o.inGroup(path, m) || m.port != nil && (path == m.port.Path || path == m.port.SegmentPath())
		})
	case *intent.NestedExpression:
		for _, e := range v.Expressions {
			if c, ok := e.(*intent.Condition); ok && !o.holds(c, m) {
				return false
			}
		}
		return true
	case *intent.Condition:
		switch {
		case m.port == nil:
			return false
		case v.MemberType == "Segment":
			return selected(v, o.segmentOf(m.port).Meta())
		}
		return selected(v, m.port.Meta())
	}
	return false
}

// selected evaluates a condition. The value of a tag is scope|tag: `scope|` is
// any tag of the scope, `|tag` has no scope, and no bar means any scope. The
// operators that deny hold if no tag does what they deny; so does the scope's
// NOTEQUALS, and both together deny once.
// Source: NSX Policy API, schema Condition.
func selected(c *intent.Condition, m *intent.Resource) bool {
	denies := c.Operator == "NOTEQUALS" || c.Operator == "NOTIN"
	switch c.Key {
	case "ALL":
		return true
	case "Name":
		return compare(c.Operator, m.Name(), c.Value) != denies
	}
	scope, value, barred := strings.Cut(c.Value, "|")
	if !barred {
		value = c.Value
	}
	some := slices.ContainsFunc(m.Tags, func(t intent.Tag) bool {
		return (!barred || t.Scope == scope) && (value == "" || compare(c.Operator, t.Tag, value))
	})
	return some != (denies || c.ScopeOperator == "NOTEQUALS")
}

// compare is the operator without its NOT.
func compare(operator, have, want string) bool {
	switch operator {
	case "CONTAINS":
		return strings.Contains(have, want)
	case "STARTSWITH":
		return strings.HasPrefix(have, want)
	case "ENDSWITH":
		return strings.HasSuffix(have, want)
	case "IN", "NOTIN":
		return slices.Contains(strings.Split(want, ","), have)
	}
	return have == want
}
