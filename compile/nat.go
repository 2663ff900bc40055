package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Directions, as args of facts and words of names.
const (
	dirOut = "out"
	dirIn  = "in"
)

// The block that SNAT takes source ports from. Source: RFC 6056 §3.2, the
// ports that no well-known service has.
const (
	firstPort = 1024
	lastPort  = 65535
)

// natRows is the rows of one NAT rule, with what orders them among others.
type natRows struct {
	monitor  bool // of a load balancer's monitors: before all others
	priority uint32
	exempt   bool // NO_SNAT, NO_DNAT: before others of the same priority
	path     string
	out, in  []table.NATRule
}

func (x *run) buildNATRule(path string) any {
	if s, ok := object[*intent.LBService](x, path); ok {
		return x.monitorRows(s)
	}
	r, ok := object[*intent.PolicyNatRule](x, path)
	if !ok || !r.IsEnabled() {
		return nil
	}
	n := &natRows{
		priority: r.Priority(),
		exempt:   strings.HasPrefix(r.Action, "NO_"),
		path:     path,
	}
	switch r.Action {
	case "SNAT", "NO_SNAT":
		n.out = x.natOut(r)
	case "DNAT", "NO_DNAT":
		n.in = x.natIn(r)
	case "REFLEXIVE":
		n.out, n.in = x.natReflexive(r)
	}
	router := r.RouterPath()
	for dir, rows := range map[string][]table.NATRule{dirOut: n.out, dirIn: n.in} {
		if len(rows) > 0 {
			x.emit(ref{relNAT, router, dir}, path)
		}
	}
	if len(n.out)+len(n.in) == 0 {
		return nil
	}
	for _, p := range external(r) {
		if !strings.HasPrefix(router, "/infra/nodes/") {
			x.emit(ref{relSubnet, router, ""}, p) // who is behind it is not who has the address
		}
		x.want(router, candidate{kind: table.RouteNAT, prefix: p, source: path, origin: "TIER0_NAT"})
		x.advertise(router, "TIER1_NAT", "TIER1_NAT", p, path)
	}
	return n
}

// external returns the addresses that a rule answers for towards above.
func external(r *intent.PolicyNatRule) []netip.Prefix {
	switch r.Action {
	case "SNAT", "REFLEXIVE":
		return []netip.Prefix{r.Translated()}
	case "DNAT":
		return r.Destinations()
	}
	return nil
}

// natRow returns what all rows of a rule have.
func (x *run) natRow(r *intent.PolicyNatRule) table.NATRule {
	row := table.NATRule{
		ID:     x.id(poolRule, r.Path),
		Path:   r.Path,
		Name:   r.Name(),
		Type:   r.Action,
		Action: table.NATTranslate,
	}
	switch r.FirewallMatch {
	case "MATCH_EXTERNAL_ADDRESS":
		row.Match = table.MatchExternal
	case "BYPASS":
		row.Match = table.MatchBypass
	}
	if strings.HasPrefix(r.Action, "NO_") {
		row.Action = table.NATExempt
	}
	return row
}

// natOut returns one row for each source, destination, service and interface.
func (x *run) natOut(r *intent.PolicyNatRule) []table.NATRule {
	var out []table.NATRule
	x.natEach(r, func(row table.NATRule) {
		row.To = r.Translated()
		row.OneToOne = sameSize(row.Src, row.To)
		if row.Action == table.NATTranslate && !row.OneToOne {
			row.PortFirst, row.PortLast = firstPort, lastPort
		}
		out = append(out, row)
	})
	return out
}

// natIn is natOut for what comes from above.
//
// With a service and translated_ports, NSX takes the latter as the port that
// the packet has, and the service's as the new one: the smallest if it has
// several. Without translated_ports the port stays. Source: NSX Policy API,
// schema PolicyNatRule, service and translated_ports.
func (x *run) natIn(r *intent.PolicyNatRule) []table.NATRule {
	var out []table.NATRule
	x.natEach(r, func(row table.NATRule) {
		row.To = r.Translated()
		row.OneToOne = sameSize(row.Dst, row.To)
		if p := r.TranslatedPort(); p != 0 && hasPorts(row.Service.Proto) {
			if row.Service.First != row.Service.Last {
				x.warn(r.Path, "translated_ports", intent.Unsupported, r.TranslatedPorts+": is given with a service that is a range of ports (want a service of one port)")
				return
			}
			row.ToPort = row.Service.First
			row.Service.First, row.Service.Last = p, p
		}
		out = append(out, row)
	})
	return out
}

// natReflexive returns a one-to-one row in each direction.
func (x *run) natReflexive(r *intent.PolicyNatRule) (out, in []table.NATRule) {
	x.natEach(r, func(row table.NATRule) {
		row.OneToOne = true
		inside := row.Src
		row.To = r.Translated()
		out = append(out, row)
		row.Src, row.Dst, row.To = netip.Prefix{}, row.To, inside
		in = append(in, row)
	})
	return out, in
}

// natEach calls do for each combination of what a rule lists.
func (x *run) natEach(r *intent.PolicyNatRule, do func(table.NATRule)) {
	row := x.natRow(r)
	anything := func(list []netip.Prefix) []netip.Prefix {
		if list == nil {
			return []netip.Prefix{{}}
		}
		return list
	}
	services := []table.Service{{}}
	if r.Service != "" {
		services = x.services(r.Service)
	}
	ifaces := []table.PortID{0}
	if len(r.Scope) > 0 {
		ifaces = nil
		for _, path := range r.Scope {
			ifaces = append(ifaces, x.portID(path))
		}
	}
	for _, row.Src = range anything(r.Sources()) {
		for _, row.Dst = range anything(r.Destinations()) {
			for _, row.Service = range services {
				for _, row.Iface = range ifaces {
					do(row)
				}
			}
		}
	}
}

// sameSize reports whether a prefix and its translation have equally many
// addresses, more than one.
func sameSize(from, to netip.Prefix) bool {
	return from.IsValid() && to.IsValid() && from.Bits() == to.Bits() && !to.IsSingleIP()
}

// hasPorts reports whether NAT may replace the protocol's ports.
func hasPorts(proto uint8) bool { return proto == 6 || proto == 17 }

func (x *run) buildNATList(router, dir string) any {
	var all []*natRows
	for _, path := range members(x, ref{relNAT, router, dir}, strings.Compare) {
		if n := built[*natRows](x, ref{factNATRule, path, ""}); n != nil {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *natRows) int {
		return cmp.Or(compareBool(b.monitor, a.monitor), cmp.Compare(a.priority, b.priority), compareBool(b.exempt, a.exempt), strings.Compare(a.path, b.path))
	})
	list := &table.NATList{Key: table.NATKey{VRF: x.vrfID(router), Dir: table.NATOut}}
	if dir == dirIn {
		list.Key.Dir = table.NATIn
	}
	for _, n := range all {
		if dir == dirIn {
			list.Rules = append(list.Rules, n.in...)
		} else {
			list.Rules = append(list.Rules, n.out...)
		}
	}
	if len(list.Rules) == 0 {
		return nil // monitors of a router that leads nowhere
	}
	return list
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	if a == b {
		return 0
	}
	if b {
		return -1
	}
	return 1
}

// maxNATDepth is how often one address can be translated on one path; see
// docs/pipeline.md, section 10.
const maxNATDepth = 2

// buildNATDepth warns of a Node above which more routers translate an address
// than a path allows.
func (x *run) buildNATDepth(path string) any {
	if _, ok := object[*intent.Node](x, path); !ok {
		return nil
	}
	for _, dir := range []string{dirOut, dirIn} {
		var by []string
		seen := map[string]bool{}
		for r := path; r != "" && !seen[r]; r = x.above(r) {
			seen[r] = true
			if x.translates(r, dir) {
				by = append(by, r)
			}
		}
		if len(by) > maxNATDepth {
			x.warn(path, "", intent.Conflict, strings.Join(by, ", ")+": all translate addresses on one path, "+dir+" (at most 2; exempt one with NO_SNAT or NO_DNAT)")
		}
	}
	return nil
}

// above returns the router that a router leaves to; empty if there is none.
func (x *run) above(router string) string {
	x.note(ref{srcObject, router, ""})
	switch o := x.c.tree.Get(router).(type) {
	case *intent.Tier1:
		return o.Tier0Path
	case *intent.Node:
		if s, ok := object[*intent.Segment](x, intent.ParentOf(o.PortPath)); ok {
			return s.RouterPath()
		}
	}
	return ""
}

// translates reports whether a router has a rule that translates.
func (x *run) translates(router, dir string) bool {
	l := built[*table.NATList](x, ref{factNATList, router, dir})
	return l != nil && slices.ContainsFunc(l.Rules, func(r table.NATRule) bool {
		return r.Action == table.NATTranslate && !isService(r.Path)
	})
}
