package intent

import (
	"strconv"
	"strings"
)

// inventory is the prefix of paths that name what is not intent: edge clusters
// and transport zones of a site. They are not looked up.
const inventory = "/infra/sites/"

// reference is one policy path in an object.
type reference struct {
	field string
	path  string
	want  []string // wrappers that it may name; nil: any
}

// members is what a scope, a path expression and the exclude list may name.
var members = []string{"Group", "Segment", "SegmentPort"}

// gateways is what a scope of the gateway firewall may name.
var gateways = []string{"Tier0", "Tier1", "Tier0Interface"}

// references returns all policy paths that o names; the inventory is left out.
func references(o Object) []reference {
	var out []reference
	one := func(field, path string, want ...string) {
		if isPath(path) && !strings.HasPrefix(path, inventory) {
			out = append(out, reference{field, path, want})
		}
	}
	many := func(field string, paths []string, want ...string) {
		for i, path := range paths {
			one(indexed(field, i), path, want...)
		}
	}
	switch v := o.(type) {
	case *Tier1:
		one("tier0_path", v.Tier0Path, "Tier0")
	case *LocaleServices:
		one("edge_cluster_path", v.EdgeClusterPath)
		many("preferred_edge_paths", v.PreferredEdgePaths)
		if c := v.RouteRedistributionConfig; c != nil {
			for i, r := range c.RedistributionRules {
				one(indexed("route_redistribution_config.redistribution_rules", i)+".route_map_path", r.RouteMapPath)
			}
		}
	case *Tier0Interface:
		one("segment_path", v.SegmentPath, "Segment")
		one("edge_path", v.EdgePath)
	case *Segment:
		one("connectivity_path", v.ConnectivityPath, "Tier0", "Tier1", "Node")
		one("transport_zone_path", v.TransportZonePath)
	case *Group:
		pathsIn("expression", v.Expression, func(field string, paths []string) { many(field, paths, members...) })
	case *NestedServiceServiceEntry:
		one("nested_service_path", v.NestedServicePath, "Service")
	case *SecurityPolicy:
		many("scope", v.Scope, members...)
	case *GatewayPolicy:
		many("scope", v.Scope, gateways...)
	case *Rule:
		many("source_groups", v.SourceGroups, "Group")
		many("destination_groups", v.DestinationGroups, "Group")
		many("services", v.Services, "Service")
		if v.IsGatewayRule() {
			many("scope", v.Scope, gateways...)
		} else {
			many("scope", v.Scope, members...)
		}
		for i, e := range v.ServiceEntries {
			if n, ok := e.(*NestedServiceServiceEntry); ok {
				one(indexed("service_entries", i)+".nested_service_path", n.NestedServicePath, "Service")
			}
		}
	case *PolicyExcludeList:
		many("members", v.Members, members...)
	case *PolicyNatRule:
		one("service", v.Service, "Service")
		many("scope", v.Scope, "Tier0Interface")
	case *StaticRoutes:
		for i, h := range v.NextHops {
			many(indexed("next_hops", i)+".scope", h.Scope, "Tier0Interface", "Segment")
		}
	case *Node:
		one("port_path", v.PortPath, "SegmentPort")
	case *LBService:
		one("connectivity_path", v.ConnectivityPath, "Tier0", "Tier1", "Group")
	case *LBVirtualServer:
		one("pool_path", v.PoolPath, "LBPool")
		one("sorry_pool_path", v.SorryPoolPath, "LBPool")
		one("lb_service_path", v.LBServicePath, "LBService")
		one("application_profile_path", v.ApplicationProfilePath, "LBAppProfile")
		one("lb_persistence_profile_path", v.LBPersistenceProfilePath, "LBPersistenceProfile")
		if a := v.AccessListControl; a != nil {
			one("access_list_control.group_path", a.GroupPath, "Group")
		}
	case *LBPool:
		if g := v.MemberGroup; g != nil {
			one("member_group.group_path", g.GroupPath, "Group")
		}
		many("active_monitor_paths", v.ActiveMonitorPaths, "LBMonitorProfile")
		one("passive_monitor_path", v.PassiveMonitorPath, "LBMonitorProfile")
	}
	return out
}

// pathsIn calls do for each path expression of a list.
func pathsIn(field string, list []Expression, do func(string, []string)) {
	for i, e := range list {
		switch v := e.(type) {
		case *PathExpression:
			do(indexed(field, i)+".paths", v.Paths)
		case *NestedExpression:
			pathsIn(indexed(field, i)+".expressions", v.Expressions, do)
		}
	}
}

// indexed returns field[i].
func indexed(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// claim is something that only one object may have.
type claim struct{ what, value string }

// claimed is a claim and the field that makes it.
type claimed struct {
	claim
	field string
	text  string // the value as the field has it
}

// claimsOf returns what o wants for itself alone. Texts that do not parse
// claim nothing.
func claimsOf(o Object) []claimed {
	switch v := o.(type) {
	case *Segment:
		if v.OverlayID != 0 {
			vni := strconv.FormatInt(v.OverlayID, 10)
			return []claimed{{claim{"vni", vni}, "overlay_id", vni}}
		}
	case *SegmentPort:
		return portClaims(v)
	case *Rule:
		if v.RuleID != 0 {
			id := strconv.FormatInt(v.RuleID, 10)
			return []claimed{{claim{"rule", id}, "rule_id", id}}
		}
	case *Node:
		return []claimed{{claim{"node", v.PortPath}, "port_path", v.PortPath}}
	case *LBService:
		if v.ConnectivityPath != "" && !v.IsDistributed() {
			return []claimed{{claim{"load balancer", v.ConnectivityPath}, "connectivity_path", v.ConnectivityPath}}
		}
	}
	return nil
}

// RuleWithID returns the path of a rule that has the rule_id; empty: none has
// it. Cost O(1).
func (t *Tree) RuleWithID(id int64) string {
	first := ""
	for path := range t.claims[claim{"rule", strconv.FormatInt(id, 10)}] {
		if first == "" || path < first {
			first = path
		}
	}
	return first
}

func portClaims(p *SegmentPort) []claimed {
	var out []claimed
	segment := p.ParentPath
	for i, b := range p.AddressBindings {
		field := indexed("address_bindings", i)
		if a, f := parseAddr(b.IPAddress); f == nil {
			out = append(out, claimed{claim{"ip " + segment, a.String()}, field + ".ip_address", b.IPAddress})
		}
		if m, f := parseMAC(b.MACAddress); f == nil {
			out = append(out, claimed{claim{"mac " + segment, string(m[:])}, field + ".mac_address", b.MACAddress})
		}
	}
	if id := p.AttachmentID(); id != "" {
		out = append(out, claimed{claim{"attachment", id}, "attachment.id", id})
	}
	return out
}
