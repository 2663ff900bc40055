package table

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The row types below are the text form of a Set: cells for people, with
// policy paths (without /infra/) where the Set has ids. Each list is ordered
// by what it shows, so that ids decide nothing.

// PortRow is a port or an uplink.
type PortRow struct{ Kind, Path, On, MAC, Address, Attachment string }

// Columns implements columns.Row.
func (PortRow) Columns() []string {
	return []string{"PORT", "KIND", "ON", "MAC", "ADDRESS", "ATTACHMENT"}
}

// Row implements columns.Row.
func (r PortRow) Row() []string {
	return []string{r.Path, r.Kind, r.On, r.MAC, r.Address, r.Attachment}
}

// PortRows lists ports and uplinks by path.
func (s *Set) PortRows() []PortRow {
	var out []PortRow
	for _, p := range s.Ports.All() {
		r := PortRow{Kind: "port", Path: short(p.Path), On: s.segment(p.Segment), MAC: p.MAC.String(), Attachment: p.Attachment}
		if p.Node != 0 {
			r.Kind, r.Attachment = "node", s.vrf(p.Node)
		}
		if g := s.Segments.Get(p.Segment); g != nil && g.Monitor != 0 {
			r.Kind = "monitor"
		}
		out = append(out, r)
	}
	for _, u := range s.Uplinks.All() {
		out = append(out, PortRow{"uplink", short(u.Path), s.vrf(u.VRF), "", u.Address.String(), u.Attachment})
	}
	return ordered(out)
}

// SegmentRow is a segment.
type SegmentRow struct{ Path, VNI, Router, Gateways, Realm string }

// Columns implements columns.Row.
func (SegmentRow) Columns() []string {
	return []string{"SEGMENT", "VNI", "ROUTER", "GATEWAYS", "REALM"}
}

// Row implements columns.Row.
func (r SegmentRow) Row() []string {
	return []string{r.Path, r.VNI, r.Router, r.Gateways, r.Realm}
}

// SegmentRows lists segments by path.
func (s *Set) SegmentRows() []SegmentRow {
	var out []SegmentRow
	for _, g := range s.Segments.All() {
		out = append(out, SegmentRow{short(g.Path), strconv.Itoa(int(g.VNI)), s.vrf(g.VRF), join(g.Gateways), s.realm(g.Realm)})
	}
	return ordered(out)
}

// EndpointRow is an endpoint.
type EndpointRow struct{ Segment, Addr, Port, MAC, Out, In string }

// Columns implements columns.Row.
func (EndpointRow) Columns() []string {
	return []string{"SEGMENT", "ADDRESS", "PORT", "MAC", "RULES OUT", "RULES IN"}
}

// Row implements columns.Row.
func (r EndpointRow) Row() []string {
	return []string{r.Segment, r.Addr, r.Port, r.MAC, r.Out, r.In}
}

// EndpointRows lists endpoints by segment and address.
func (s *Set) EndpointRows() []EndpointRow {
	all := sortedValues(s.Endpoints, EndpointKey.Compare)
	slices.SortStableFunc(all, func(a, b *Endpoint) int {
		return strings.Compare(s.segment(a.Segment), s.segment(b.Segment))
	})
	var out []EndpointRow
	for _, e := range all {
		r := EndpointRow{s.segment(e.Segment), e.Addr.String(), idText(e.Port), e.MAC.String(), join(e.Out), join(e.In)}
		if p := s.Ports.Get(e.Port); p != nil {
			r.Port = short(p.Path)
		}
		if e.Unfiltered {
			r.Out, r.In = "unfiltered", "unfiltered"
		}
		out = append(out, r)
	}
	return out
}

// RouterRow is a router.
type RouterRow struct{ Path, Kind, Name, Port string }

// Columns implements columns.Row.
func (RouterRow) Columns() []string { return []string{"ROUTER", "KIND", "NAME", "LEAVES BY"} }

// Row implements columns.Row.
func (r RouterRow) Row() []string { return []string{r.Path, r.Kind, r.Name, r.Port} }

// RouterRows lists routers by path.
func (s *Set) RouterRows() []RouterRow {
	var out []RouterRow
	for _, v := range s.VRFs.All() {
		r := RouterRow{short(v.Path), v.Kind.String(), v.Name, ""}
		if p := s.Ports.Get(v.NodePort); p != nil {
			r.Port = short(p.Path)
		}
		out = append(out, r)
	}
	return ordered(out)
}

// RouteRow is a route.
type RouteRow struct{ Router, Prefix, Kind, Target, Source string }

// Columns implements columns.Row.
func (RouteRow) Columns() []string {
	return []string{"ROUTER", "PREFIX", "KIND", "TARGET", "FROM"}
}

// Row implements columns.Row.
func (r RouteRow) Row() []string { return []string{r.Router, r.Prefix, r.Kind, r.Target, r.Source} }

// RouteRows lists routes by router and prefix.
func (s *Set) RouteRows() []RouteRow {
	all := sortedValues(s.Routes, RouteKey.Compare)
	slices.SortStableFunc(all, func(a, b *Route) int { return strings.Compare(s.vrf(a.VRF), s.vrf(b.VRF)) })
	var out []RouteRow
	for _, r := range all {
		out = append(out, RouteRow{s.vrf(r.VRF), r.Prefix.String(), r.Kind.String(), s.target(r), short(r.Source)})
	}
	return out
}

// target returns where a route leads.
func (s *Set) target(r *Route) string {
	var parts []string
	if r.Segment != 0 {
		parts = append(parts, s.segment(r.Segment))
	}
	if r.To != 0 {
		parts = append(parts, s.vrf(r.To))
	}
	if r.Via.IsValid() {
		parts = append(parts, "via "+r.Via.String())
	}
	var hops []string
	for _, id := range r.NextHops {
		hops = append(hops, s.hop(id))
	}
	slices.Sort(hops)
	return strings.Join(append(parts, hops...), " ")
}

func (s *Set) hop(id NextHopID) string {
	h := s.NextHops.Get(id)
	if h == nil {
		return idText(id)
	}
	name := idText(h.Uplink)
	if u := s.Uplinks.Get(h.Uplink); u != nil {
		name = u.Name
	}
	if !h.Addr.IsValid() {
		return "on " + name
	}
	return "via " + h.Addr.String() + " on " + name
}

// NATRow is a row of a NAT list.
type NATRow struct{ Router, Dir, ID, Name, Type, Match, Translated, Firewall string }

// Columns implements columns.Row.
func (NATRow) Columns() []string {
	return []string{"ROUTER", "DIR", "ID", "NAME", "TYPE", "MATCH", "TRANSLATED", "FIREWALL"}
}

// Row implements columns.Row.
func (r NATRow) Row() []string {
	return []string{r.Router, r.Dir, r.ID, r.Name, r.Type, r.Match, r.Translated, r.Firewall}
}

// NATRows lists NAT rows by router and direction, in the order of evaluation.
func (s *Set) NATRows() []NATRow {
	all := sortedValues(s.NAT, NATKey.Compare)
	slices.SortStableFunc(all, func(a, b *NATList) int { return strings.Compare(s.vrf(a.Key.VRF), s.vrf(b.Key.VRF)) })
	var out []NATRow
	for _, l := range all {
		for i := range l.Rules {
			r := &l.Rules[i]
			out = append(out, NATRow{
				s.vrf(l.Key.VRF), l.Key.Dir.String(), idText(r.ID), r.Name, r.Type, s.natMatch(r), natTo(r), r.Match.String(),
			})
		}
	}
	return out
}

func (s *Set) natMatch(r *NATRule) string {
	text := prefixText(r.Src) + " → " + prefixText(r.Dst)
	if r.Service.Proto != 0 {
		text += " " + r.Service.String()
	}
	if u := s.Uplinks.Get(r.Iface); u != nil {
		text += " on " + u.Name
	} else if r.Iface != 0 {
		text += " on " + idText(r.Iface)
	}
	return text
}

func natTo(r *NATRule) string {
	if r.Action == NATExempt {
		return "unchanged"
	}
	text := prefixText(r.To)
	if r.ToPort != 0 {
		text += " port " + strconv.Itoa(int(r.ToPort))
	}
	if r.OneToOne {
		text += " one to one"
	}
	if r.PortLast != 0 {
		text += fmt.Sprintf(" ports %d-%d", r.PortFirst, r.PortLast)
	}
	return text
}

// RuleRow is a rule of a ruleset.
type RuleRow struct{ Ruleset, Name, ID, Rule, Action, Remote, Services, Flags, Policy string }

// Columns implements columns.Row.
func (RuleRow) Columns() []string {
	return []string{"RULESET", "NAME", "ID", "RULE", "ACTION", "REMOTE", "SERVICES", "FLAGS", "POLICY"}
}

// Row implements columns.Row.
func (r RuleRow) Row() []string {
	return []string{r.Ruleset, r.Name, r.ID, r.Rule, r.Action, r.Remote, r.Services, r.Flags, r.Policy}
}

// RuleRows lists the rules of all rulesets by the ruleset's name, in the order
// of evaluation.
func (s *Set) RuleRows() []RuleRow {
	sets := sortedValues(s.Rulesets, cmp.Compare)
	slices.SortStableFunc(sets, func(a, b *Ruleset) int { return strings.Compare(a.Name, b.Name) })
	var out []RuleRow
	for _, set := range sets {
		for _, r := range set.Rules {
			out = append(out, RuleRow{
				idText(set.ID), set.Name, idText(r.ID), r.Name, r.Action.String(),
				s.remote(r), join(r.Services), flags(r), strings.TrimPrefix(r.Category+" ", " ") + short(r.Policy),
			})
		}
	}
	return out
}

// remote returns the far side; of a gateway's rule that names destinations,
// source → destination.
func (s *Set) remote(r *Rule) string {
	text := "any"
	if !r.AnyRemote {
		text = s.sets(r.Remote, r.NotRemote)
	}
	if r.Dst != nil {
		text += " → " + s.sets(r.Dst, r.NotDst)
	}
	return text
}

// sets returns the union of address sets, or what is outside of it.
func (s *Set) sets(ids []AddrSetID, not bool) string {
	var names []string
	for _, id := range ids {
		names = append(names, s.addrSet(id))
	}
	slices.Sort(names)
	text := strings.Join(names, ",")
	if not {
		return "not " + text
	}
	return text
}

func flags(r *Rule) string {
	var out []string
	if r.Strict {
		out = append(out, "strict")
	}
	if r.ViaVIP {
		out = append(out, "via-vip")
	}
	if r.Logged {
		out = append(out, "logged")
	}
	if r.Tag != "" {
		out = append(out, "tag="+r.Tag)
	}
	return strings.Join(out, ",")
}

// SetRow is an address set or a realm.
type SetRow struct{ Kind, Path, Realm, Addrs string }

// Columns implements columns.Row.
func (SetRow) Columns() []string { return []string{"SET", "KIND", "REALM", "ADDRESSES"} }

// Row implements columns.Row.
func (r SetRow) Row() []string { return []string{r.Path, r.Kind, r.Realm, r.Addrs} }

// SetRows lists address sets and realms by path, one row for each realm.
func (s *Set) SetRows() []SetRow {
	var out []SetRow
	for _, a := range s.AddrSets.All() {
		byRealm := map[RealmID][]netip.Prefix{}
		for _, r := range a.Addrs {
			byRealm[r.Realm] = append(byRealm[r.Realm], r.Prefix)
		}
		for realm, addrs := range byRealm {
			out = append(out, SetRow{"set", short(a.Path), s.realm(realm), join(addrs)})
		}
		if len(byRealm) == 0 {
			out = append(out, SetRow{"set", short(a.Path), "", ""})
		}
	}
	for _, r := range s.Realms.All() {
		out = append(out, SetRow{"realm", short(r.Path), "", join(r.Prefixes)})
	}
	return ordered(out)
}

func (s *Set) segment(id SegmentID) string {
	if g := s.Segments.Get(id); g != nil {
		return short(g.Path)
	}
	return idText(id)
}

func (s *Set) vrf(id VRFID) string {
	if v := s.VRFs.Get(id); v != nil {
		return short(v.Path)
	}
	return idText(id)
}

func (s *Set) addrSet(id AddrSetID) string {
	if a := s.AddrSets.Get(id); a != nil {
		return short(a.Path)
	}
	return idText(id)
}

func (s *Set) realm(id RealmID) string {
	if id == AnyRealm {
		return "any"
	}
	if r := s.Realms.Get(id); r != nil {
		return short(r.Path)
	}
	return idText(id)
}

// short returns a path without the prefix that all paths have.
func short(path string) string { return strings.TrimPrefix(path, "/infra/") }

// idText returns the id of an object; empty for none.
func idText[I ~uint32](id I) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(id), 10)
}

func prefixText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "any"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

// join returns the texts of a list with commas between; any for services of
// an empty list.
func join[T any](list []T) string {
	out := make([]string, 0, len(list))
	for _, v := range list {
		if p, ok := any(v).(netip.Prefix); ok {
			out = append(out, prefixText(p))
			continue
		}
		out = append(out, fmt.Sprint(v))
	}
	if _, services := any(list).([]Service); services && len(list) == 0 {
		return "any"
	}
	return strings.Join(out, ",")
}

// ordered sorts rows by their cells.
func ordered[R interface{ Row() []string }](rows []R) []R {
	slices.SortFunc(rows, func(a, b R) int { return slices.Compare(a.Row(), b.Row()) })
	return rows
}
