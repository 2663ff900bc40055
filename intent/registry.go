package intent

import (
	"reflect"
	"slices"
	"strings"
)

// root is the resource type of /infra.
const root = "Infra"

// kind is what the package knows of one resource type. A new type needs one
// row in kinds and, if it refers to others or can be wrong, a case in
// references and in check.
type kind struct {
	resource   string   // resource_type
	wrapper    string   // X of the hierarchical body's ChildX; empty: resource
	collection string   // path segments between the parent's path and the id
	parents    []string // wrappers that it may be a child of
	single     bool     // at the collection itself, without an id segment
	implicit   bool     // made with its first child, as NSX's NAT sections always exist
	inline     string   // field of the object that may list children
	inlineAs   string   // wrapper of these children
	make       func() Object
}

// kinds is the one table of resource types.
var kinds = []kind{
	{resource: "Tier0", collection: "tier-0s", parents: []string{root}, make: func() Object { return new(Tier0) }},
	{resource: "Tier1", collection: "tier-1s", parents: []string{root}, make: func() Object { return new(Tier1) }},
	{resource: "LocaleServices", collection: "locale-services", parents: []string{"Tier0", "Tier1"}, make: func() Object { return new(LocaleServices) }},
	{resource: "Tier0Interface", collection: "interfaces", parents: []string{"LocaleServices"}, make: func() Object { return new(Tier0Interface) }},
	{resource: "Segment", collection: "segments", parents: []string{root, "Tier1"}, make: func() Object { return new(Segment) }},
	{resource: "SegmentPort", collection: "ports", parents: []string{"Segment"}, make: func() Object { return new(SegmentPort) }},
	{resource: "Domain", collection: "domains", parents: []string{root}, make: func() Object { return new(Domain) }},
	{resource: "Group", collection: "groups", parents: []string{"Domain"}, make: func() Object { return new(Group) }},
	{resource: "SecurityPolicy", collection: "security-policies", parents: []string{"Domain"}, inline: "rules", inlineAs: "Rule", make: func() Object { return new(SecurityPolicy) }},
	{resource: "GatewayPolicy", collection: "gateway-policies", parents: []string{"Domain"}, inline: "rules", inlineAs: "Rule", make: func() Object { return new(GatewayPolicy) }},
	{resource: "Rule", collection: "rules", parents: []string{"SecurityPolicy", "GatewayPolicy"}, make: func() Object { return new(Rule) }},
	{resource: "Service", collection: "services", parents: []string{root}, inline: "service_entries", inlineAs: "ServiceEntry", make: func() Object { return new(Service) }},
	entryKind("L4PortSetServiceEntry", func() Object { return new(L4PortSetServiceEntry) }),
	entryKind("ICMPTypeServiceEntry", func() Object { return new(ICMPTypeServiceEntry) }),
	entryKind("IGMPTypeServiceEntry", func() Object { return new(IGMPTypeServiceEntry) }),
	entryKind("IPProtocolServiceEntry", func() Object { return new(IPProtocolServiceEntry) }),
	entryKind("EtherTypeServiceEntry", func() Object { return new(EtherTypeServiceEntry) }),
	entryKind("NestedServiceServiceEntry", func() Object { return new(NestedServiceServiceEntry) }),
	{resource: "PolicyExcludeList", collection: "settings/firewall/security/exclude-list", parents: []string{root}, single: true, make: func() Object { return new(PolicyExcludeList) }},
	{resource: "PolicyNat", collection: "nat", parents: []string{"Tier0", "Tier1", "Node"}, implicit: true, make: func() Object { return new(PolicyNat) }},
	{resource: "PolicyNatRule", collection: "nat-rules", parents: []string{"PolicyNat"}, make: func() Object { return new(PolicyNatRule) }},
	{resource: "StaticRoutes", collection: "static-routes", parents: []string{"Tier0", "Tier1"}, make: func() Object { return new(StaticRoutes) }},
	{resource: "Node", collection: "nodes", parents: []string{root}, make: func() Object { return new(Node) }},
	{resource: "LBService", collection: "lb-services", parents: []string{root}, make: func() Object { return new(LBService) }},
	{resource: "LBVirtualServer", collection: "lb-virtual-servers", parents: []string{root}, make: func() Object { return new(LBVirtualServer) }},
	{resource: "LBPool", collection: "lb-pools", parents: []string{root}, make: func() Object { return new(LBPool) }},
	profileKind("LBFastTcpProfile", "LBAppProfile", func() Object { return new(LBFastTcpProfile) }),
	profileKind("LBFastUdpProfile", "LBAppProfile", func() Object { return new(LBFastUdpProfile) }),
	profileKind("LBHttpProfile", "LBAppProfile", func() Object { return new(LBHttpProfile) }),
	profileKind("LBSourceIpPersistenceProfile", "LBPersistenceProfile", func() Object { return new(LBSourceIpPersistenceProfile) }),
	profileKind("LBCookiePersistenceProfile", "LBPersistenceProfile", func() Object { return new(LBCookiePersistenceProfile) }),
	profileKind("LBTcpMonitorProfile", "LBMonitorProfile", func() Object { return new(LBTcpMonitorProfile) }),
	profileKind("LBUdpMonitorProfile", "LBMonitorProfile", func() Object { return new(LBUdpMonitorProfile) }),
	profileKind("LBIcmpMonitorProfile", "LBMonitorProfile", func() Object { return new(LBIcmpMonitorProfile) }),
	profileKind("LBHttpMonitorProfile", "LBMonitorProfile", func() Object { return new(LBHttpMonitorProfile) }),
	profileKind("LBHttpsMonitorProfile", "LBMonitorProfile", func() Object { return new(LBHttpsMonitorProfile) }),
	profileKind("LBPassiveMonitorProfile", "LBMonitorProfile", func() Object { return new(LBPassiveMonitorProfile) }),
	{resource: "PolicyFirewallSessionTimerProfile", collection: "firewall-session-timer-profiles", parents: []string{root}, make: func() Object { return new(PolicyFirewallSessionTimerProfile) }},
}

// profileKind is the row of one kind of load balancer profile.
func profileKind(resource, wrapper string, mk func() Object) kind {
	return kind{resource: resource, wrapper: wrapper, collection: collections[wrapper], parents: []string{root}, make: mk}
}

// entryKind is the row of one kind of service entry.
func entryKind(resource string, mk func() Object) kind {
	return kind{resource: resource, wrapper: "ServiceEntry", collection: "service-entries", parents: []string{"Service"}, make: mk}
}

// collections names the paths of wrappers that stand for several types, and of
// NSX types that are kept but have no effect.
var collections = map[string]string{
	"IpAddressPool":        "ip-pools",
	"IpAddressBlock":       "ip-blocks",
	"IpAddressAllocation":  "ip-allocations",
	"LBAppProfile":         "lb-app-profiles",
	"LBMonitorProfile":     "lb-monitor-profiles",
	"LBPersistenceProfile": "lb-persistence-profiles",
	"LBClientSslProfile":   "lb-client-ssl-profiles",
	"LBServerSslProfile":   "lb-server-ssl-profiles",
}

// childName returns X of ChildX.
func (k *kind) childName() string {
	if k.wrapper != "" {
		return k.wrapper
	}
	return k.resource
}

// kindOf returns the row of a resource type, or nil.
func kindOf(resource string) *kind {
	for i := range kinds {
		if kinds[i].resource == resource {
			return &kinds[i]
		}
	}
	return nil
}

// kindOfChild returns the first row of a wrapper name, or nil.
func kindOfChild(name string) *kind {
	for i := range kinds {
		if kinds[i].childName() == name {
			return &kinds[i]
		}
	}
	return nil
}

// kindAt returns the row that a path belongs to by its collections, or nil.
// For a wrapper of several types it is the first of them.
func kindAt(path string) *kind {
	if path == ExcludeListPath {
		return kindOf("PolicyExcludeList")
	}
	parent := ParentOf(path)
	if IDOf(path) == "" || parent == path {
		return nil
	}
	collection := IDOf(strings.TrimSuffix(path, "/"+IDOf(path)))
	name := root
	if parent != "" {
		k := kindAt(parent)
		if k == nil {
			return nil
		}
		name = k.childName()
	} else if path != "/infra/"+collection+"/"+IDOf(path) {
		return nil
	}
	for i := range kinds {
		if k := &kinds[i]; k.collection == collection && slices.Contains(k.parents, name) {
			return k
		}
	}
	return nil
}

// pathBelow returns the path of an object by its parent's path, which is empty
// for /infra, its type and its id.
func pathBelow(parent, resource, id string) string {
	if parent == "" {
		parent = "/infra"
	}
	k := kindOf(resource)
	if k == nil {
		k = kindOfChild(resource)
	}
	switch {
	case k == nil:
		return parent + "/" + collectionOf(resource) + "/" + id
	case k.single:
		return parent + "/" + k.collection
	}
	return parent + "/" + k.collection + "/" + id
}

// collectionOf guesses the collection of an unknown type: IpAddressFoo gives
// ip-address-foos.
func collectionOf(resource string) string {
	if c, ok := collections[resource]; ok {
		return c
	}
	var b strings.Builder
	lower := false
	for _, r := range resource {
		upper := r >= 'A' && r <= 'Z'
		if upper && lower {
			b.WriteByte('-')
		}
		lower = !upper
		b.WriteRune(r)
	}
	return strings.ToLower(b.String()) + "s"
}

// Put returns the Change that makes o the object at path. It sets o's id,
// paths and, unless o is Opaque, resource type.
func Put(path string, o Object) Change {
	m := o.Meta()
	for i := range kinds {
		if reflect.TypeOf(kinds[i].make()) == reflect.TypeOf(o) {
			m.ResourceType = kinds[i].resource
		}
	}
	m.Path, m.ID, m.RelativePath, m.ParentPath = path, IDOf(path), IDOf(path), ParentOf(path)
	return Change{Path: path, Object: o}
}

// Delete returns the Change that deletes the object at path and all below it.
func Delete(path string) Change { return Change{Path: path} }
