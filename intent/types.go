package intent

// Object is one policy object. The concrete types are the pointers to the
// structs of this package that embed Resource. An Object that was handed to a
// Tree is shared and must not be modified.
type Object interface {
	// Meta returns the part that all objects have; it is never nil.
	Meta() *Resource
}

// Extra holds the JSON fields that this package does not know, so that they
// survive a round trip. Values are as encoding/json decodes them with
// UseNumber.
type Extra map[string]any

// Tag is a scoped label. Scope is at most 317 bytes, Tag at most 512.
type Tag struct {
	Scope string `json:"scope"`
	Tag   string `json:"tag"`
	Extra Extra  `json:"-"`
}

// Resource is the part that all policy objects have.
// Source: NSX Policy API, schema PolicyConfigResource.
type Resource struct {
	ID           string `json:"id"`
	ResourceType string `json:"resource_type"`
	DisplayName  string `json:"display_name"` // empty: the id, see Name
	Description  string `json:"description"`
	Tags         []Tag  `json:"tags"`
	Path         string `json:"path"` // set by Parse and Put
	RelativePath string `json:"relative_path"`
	ParentPath   string `json:"parent_path"`

	MarkedForDelete  bool   `json:"marked_for_delete"`
	Revision         *int64 `json:"_revision"`
	UniqueID         string `json:"unique_id"`
	RealizationID    string `json:"realization_id"`
	CreateTime       int64  `json:"_create_time"` // ms since the epoch
	CreateUser       string `json:"_create_user"`
	LastModifiedTime int64  `json:"_last_modified_time"` // ms since the epoch
	LastModifiedUser string `json:"_last_modified_user"`
	SystemOwned      bool   `json:"_system_owned"`
	Protection       string `json:"_protection"`
	Extra            Extra  `json:"-"`
}

// Meta returns r itself; it makes every struct that embeds Resource an Object.
func (r *Resource) Meta() *Resource { return r }

// Name returns the display name, or the id if there is none.
func (r *Resource) Name() string {
	if r.DisplayName != "" {
		return r.DisplayName
	}
	return r.ID
}

// Opaque is an object of a resource type that this package does not know. All
// its own fields are in Extra.
type Opaque struct {
	Resource
}

// Tier0 is a provider gateway at /infra/tier-0s/<id>.
type Tier0 struct {
	Resource
	HAMode                 string   `json:"ha_mode"`         // ACTIVE_ACTIVE (default) or ACTIVE_STANDBY
	TransitSubnets         []string `json:"transit_subnets"` // default 100.64.0.0/16, see Transit
	InternalTransitSubnets []string `json:"internal_transit_subnets"`
	FailoverMode           string   `json:"failover_mode"`
	DisableFirewall        bool     `json:"disable_firewall"`
}

// Tier1 is a tenant gateway at /infra/tier-1s/<id>.
type Tier1 struct {
	Resource
	Tier0Path               string                   `json:"tier0_path"` // empty: not connected
	RouteAdvertisementTypes []string                 `json:"route_advertisement_types"`
	RouteAdvertisementRules []RouteAdvertisementRule `json:"route_advertisement_rules"`
	Type                    string                   `json:"type"` // ROUTED, ISOLATED or NATTED, which must not advertise inside addresses; else informational
	HAMode                  string                   `json:"ha_mode"`
	FailoverMode            string                   `json:"failover_mode"`
	PoolAllocation          string                   `json:"pool_allocation"`
	DisableFirewall         bool                     `json:"disable_firewall"`
	DHCPConfigPaths         []string                 `json:"dhcp_config_paths"`
}

// RouteAdvertisementRule filters what a Tier-1 tells its Tier-0.
type RouteAdvertisementRule struct {
	Name                    string   `json:"name"`
	Subnets                 []string `json:"subnets"`         // CIDRs
	Action                  string   `json:"action"`          // PERMIT (default) or DENY
	PrefixOperator          string   `json:"prefix_operator"` // GE (default) or EQ
	RouteAdvertisementTypes []string `json:"route_advertisement_types"`
	Extra                   Extra    `json:"-"`
}

// LocaleServices places a gateway on edges: <gateway>/locale-services/<id>.
type LocaleServices struct {
	Resource
	EdgeClusterPath           string                     `json:"edge_cluster_path"`
	PreferredEdgePaths        []string                   `json:"preferred_edge_paths"`
	RouteRedistributionConfig *RouteRedistributionConfig `json:"route_redistribution_config"`
}

// RouteRedistributionConfig says what a Tier-0 tells its routing protocols.
type RouteRedistributionConfig struct {
	BGPEnabled          *bool                     `json:"bgp_enabled"` // default true
	OSPFEnabled         bool                      `json:"ospf_enabled"`
	RedistributionRules []RouteRedistributionRule `json:"redistribution_rules"`
	Extra               Extra                     `json:"-"`
}

// RouteRedistributionRule is one rule of a RouteRedistributionConfig.
type RouteRedistributionRule struct {
	Name                     string   `json:"name"`
	RouteRedistributionTypes []string `json:"route_redistribution_types"`
	RouteMapPath             string   `json:"route_map_path"`
	Destinations             []string `json:"destinations"` // BGP, OSPF; default BGP
	Extra                    Extra    `json:"-"`
}

// Tier0Interface is <tier-0>/locale-services/<ls>/interfaces/<id>.
type Tier0Interface struct {
	Resource
	Type        string            `json:"type"` // EXTERNAL (default), SERVICE or LOOPBACK
	Subnets     []InterfaceSubnet `json:"subnets"`
	SegmentPath string            `json:"segment_path"`
	EdgePath    string            `json:"edge_path"`
	MTU         int               `json:"mtu"` // bytes, IP packet
	URPFMode    string            `json:"urpf_mode"`
}

// InterfaceSubnet is the addresses of an interface in one subnet.
type InterfaceSubnet struct {
	IPAddresses []string `json:"ip_addresses"`
	PrefixLen   int      `json:"prefix_len"`
	Extra       Extra    `json:"-"`
}

// Segment is a broadcast domain at /infra/segments/<id> or
// /infra/tier-1s/<t>/segments/<id>.
type Segment struct {
	Resource
	ConnectivityPath  string                 `json:"connectivity_path"` // see RouterPath
	TransportZonePath string                 `json:"transport_zone_path"`
	Subnets           []SegmentSubnet        `json:"subnets"`
	OverlayID         int64                  `json:"overlay_id"` // the VNI, 1 to 16777215; 0: chosen by compile
	VLANIDs           []string               `json:"vlan_ids"`
	ReplicationMode   string                 `json:"replication_mode"`
	Type              string                 `json:"type"`
	AdminState        string                 `json:"admin_state"` // UP (default) or DOWN
	DomainName        string                 `json:"domain_name"`
	AdvancedConfig    *SegmentAdvancedConfig `json:"advanced_config"`
}

// SegmentSubnet is a gateway address on a segment.
type SegmentSubnet struct {
	GatewayAddress string   `json:"gateway_address"` // 10.1.0.1/24
	Network        string   `json:"network"`         // 10.1.0.0/24, read only in NSX
	DHCPRanges     []string `json:"dhcp_ranges"`
	Extra          Extra    `json:"-"`
}

// SegmentAdvancedConfig is a segment's rarely used settings.
type SegmentAdvancedConfig struct {
	Connectivity     string   `json:"connectivity"` // ON (default) or OFF
	URPFMode         string   `json:"urpf_mode"`
	AddressPoolPaths []string `json:"address_pool_paths"`
	Extra            Extra    `json:"-"`
}

// SegmentPort is a vNIC's place on a segment: <segment>/ports/<id>.
type SegmentPort struct {
	Resource
	AddressBindings []AddressBinding `json:"address_bindings"`
	Attachment      *PortAttachment  `json:"attachment"`
	AdminState      string           `json:"admin_state"` // UP (default) or DOWN
}

// AddressBinding is one address of a port. Source: schema PacketAddressClassifier.
type AddressBinding struct {
	IPAddress  string `json:"ip_address"`
	MACAddress string `json:"mac_address"`
	VLANID     int    `json:"vlan_id"` // 0 to 4094; 0: untagged
	Extra      Extra  `json:"-"`
}

// PortAttachment says what is plugged into a port.
type PortAttachment struct {
	ID                string `json:"id"`
	Type              string `json:"type"` // PARENT, CHILD, INDEPENDENT or STATIC
	ContextID         string `json:"context_id"`
	TrafficTag        int    `json:"traffic_tag"` // VLAN on the parent, 0 to 4094
	AppID             string `json:"app_id"`
	AllocateAddresses string `json:"allocate_addresses"`
	Extra             Extra  `json:"-"`
}

// Domain holds groups and policies: /infra/domains/<id>.
type Domain struct {
	Resource
}

// Group is a set of ports and addresses: <domain>/groups/<id>.
type Group struct {
	Resource
	Expression []Expression `json:"expression"` // operands at even, conjunctions at odd indexes; see Terms
	GroupType  []string     `json:"group_type"`
}

// Expression is one element of a group's expression: *Condition,
// *ConjunctionOperator, *NestedExpression, *IPAddressExpression,
// *MACAddressExpression, *PathExpression or *OpaqueExpression.
type Expression interface{ expression() *expr }

// expr is what all expressions share.
type expr struct {
	Extra Extra `json:"-"`
}

func (e *expr) expression() *expr { return e }

// Condition selects objects by one property; see Matches.
type Condition struct {
	expr
	MemberType    string `json:"member_type"` // Segment, SegmentPort, …
	Key           string `json:"key"`         // Tag, Name or ALL
	Operator      string `json:"operator"`    // EQUALS, CONTAINS, STARTSWITH, ENDSWITH, NOTEQUALS, NOTIN, IN
	Value         string `json:"value"`       // of Tag: scope|tag
	ScopeOperator string `json:"scope_operator"`
}

// ConjunctionOperator joins its neighbours.
type ConjunctionOperator struct {
	expr
	ConjunctionOperator string `json:"conjunction_operator"` // AND or OR
}

// NestedExpression is an expression in brackets: conditions about one
// workload, joined by AND.
type NestedExpression struct {
	expr
	Expressions []Expression `json:"expressions"`
}

// IPAddressExpression is written addresses: IPs, CIDRs or ranges.
type IPAddressExpression struct {
	expr
	IPAddresses []string `json:"ip_addresses"`
}

// MACAddressExpression is written Ethernet addresses.
type MACAddressExpression struct {
	expr
	MACAddresses []string `json:"mac_addresses"`
}

// PathExpression is members by policy path: groups, segments, segment ports.
type PathExpression struct {
	expr
	Paths []string `json:"paths"`
}

// OpaqueExpression is an expression of an unknown kind; validation refuses it
// in a Tree, because a group that ignored it would be another group.
type OpaqueExpression struct {
	expr
	ResourceType string `json:"resource_type"`
}

// Service names protocols and ports: /infra/services/<id>. Its entries are
// child objects.
type Service struct {
	Resource
	ServiceType string `json:"service_type"`
}

// ServiceEntry is one match of a service: *L4PortSetServiceEntry,
// *ICMPTypeServiceEntry, *IGMPTypeServiceEntry, *IPProtocolServiceEntry,
// *EtherTypeServiceEntry or *NestedServiceServiceEntry. It is a child object of
// a Service, or written directly in a rule.
type ServiceEntry interface {
	Object
	// matches returns what the entry itself matches; nil for entries that
	// are no IP match or name another service.
	matches() ([]ServiceMatch, *fault)
}

// L4PortSetServiceEntry matches destination ports of TCP, UDP or SCTP. NSX
// knows TCP and UDP only; SCTP is Weft's own, as network policies want it.
type L4PortSetServiceEntry struct {
	Resource
	L4Protocol       string   `json:"l4_protocol"`       // TCP, UDP or SCTP
	DestinationPorts []string `json:"destination_ports"` // 80 or 80-90; empty: all
	SourcePorts      []string `json:"source_ports"`      // refused by validation
}

// ICMPTypeServiceEntry matches ICMP messages.
type ICMPTypeServiceEntry struct {
	Resource
	Protocol string `json:"protocol"` // ICMPv4 or ICMPv6
	ICMPType *int   `json:"icmp_type"`
	ICMPCode *int   `json:"icmp_code"`
}

// IGMPTypeServiceEntry matches IGMP.
type IGMPTypeServiceEntry struct {
	Resource
}

// IPProtocolServiceEntry matches a whole IP protocol.
type IPProtocolServiceEntry struct {
	Resource
	ProtocolNumber int `json:"protocol_number"` // 0 to 255
}

// EtherTypeServiceEntry matches an Ethernet type.
type EtherTypeServiceEntry struct {
	Resource
	EtherType int `json:"ether_type"`
}

// NestedServiceServiceEntry includes another service.
type NestedServiceServiceEntry struct {
	Resource
	NestedServicePath string `json:"nested_service_path"`
}

// SecurityPolicy is a section of the distributed firewall:
// <domain>/security-policies/<id>. Its rules are child objects.
type SecurityPolicy struct {
	Resource
	Category               string   `json:"category"` // see Categories
	SequenceNumber         int      `json:"sequence_number"`
	InternalSequenceNumber int      `json:"internal_sequence_number"`
	Scope                  []string `json:"scope"`      // wins over the rules' scope; see AppliedTo
	Stateful               *bool    `json:"stateful"`   // default true; see IsStateful
	TCPStrict              *bool    `json:"tcp_strict"` // default true; see IsTCPStrict
	ConnectivityPreference string   `json:"connectivity_preference"`
	IsDefault              bool     `json:"is_default"`
	Locked                 bool     `json:"locked"`
	Comments               string   `json:"comments"`
	RuleCount              int      `json:"rule_count"`
}

// Rule is one rule of a SecurityPolicy or GatewayPolicy: <policy>/rules/<id>.
type Rule struct {
	Resource
	RuleID               int64          `json:"rule_id"` // 0: not assigned yet
	SequenceNumber       int            `json:"sequence_number"`
	SourceGroups         []string       `json:"source_groups"`      // see Sources
	DestinationGroups    []string       `json:"destination_groups"` // see Destinations
	SourcesExcluded      bool           `json:"sources_excluded"`
	DestinationsExcluded bool           `json:"destinations_excluded"`
	Services             []string       `json:"services"` // paths or ANY; see Tree.RuleServices
	ServiceEntries       []ServiceEntry `json:"service_entries"`
	Scope                []string       `json:"scope"`
	Action               string         `json:"action"`      // ALLOW, DROP, REJECT or JUMP_TO_APPLICATION
	Direction            string         `json:"direction"`   // IN, OUT or IN_OUT (default)
	IPProtocol           string         `json:"ip_protocol"` // IPV4, IPV6 or IPV4_IPV6 (default)
	Disabled             bool           `json:"disabled"`
	Logged               bool           `json:"logged"`
	Tag                  string         `json:"tag"` // log label
	Notes                string         `json:"notes"`
	Profiles             []string       `json:"profiles"` // ANY or empty
	IsDefault            bool           `json:"is_default"`
	// ViaVirtualServer is Weft's own: the rule matches only what came by a
	// virtual server of a gateway, or from a load balancer's monitor. Only for
	// direction IN and any source.
	ViaVirtualServer bool `json:"via_virtual_server"`
}

// PolicyExcludeList names members that the distributed firewall does not
// filter: /infra/settings/firewall/security/exclude-list.
type PolicyExcludeList struct {
	Resource
	Members []string `json:"members"` // paths of groups, segments, segment ports
}

// PolicyNat is a NAT section of a router: <router>/nat/<INTERNAL|USER|DEFAULT>.
type PolicyNat struct {
	Resource
	NATType string `json:"nat_type"`
}

// PolicyNatRule is <router>/nat/<section>/nat-rules/<id>.
type PolicyNatRule struct {
	Resource
	Action             string   `json:"action"`              // SNAT, DNAT, REFLEXIVE, NO_SNAT or NO_DNAT
	SourceNetwork      string   `json:"source_network"`      // comma separated, empty or ANY: any; see Sources
	DestinationNetwork string   `json:"destination_network"` // see Destinations
	TranslatedNetwork  string   `json:"translated_network"`  // see Translated
	TranslatedPorts    string   `json:"translated_ports"`    // what is matched if there is a service, see TranslatedPort
	Service            string   `json:"service"`             // path of a Service
	Scope              []string `json:"scope"`               // Tier-0 interface paths; empty: all
	Enabled            *bool    `json:"enabled"`             // default true; see IsEnabled
	Logging            bool     `json:"logging"`
	FirewallMatch      string   `json:"firewall_match"` // MATCH_INTERNAL_ADDRESS (default), MATCH_EXTERNAL_ADDRESS or BYPASS
	SequenceNumber     int      `json:"sequence_number"`
}

// StaticRoutes is one static route: <router>/static-routes/<id>.
type StaticRoutes struct {
	Resource
	Network  string          `json:"network"`
	NextHops []RouterNexthop `json:"next_hops"`
}

// RouterNexthop is a next hop of a static route. An empty IPAddress discards.
type RouterNexthop struct {
	IPAddress     string   `json:"ip_address"`
	AdminDistance int      `json:"admin_distance"` // 1 to 255, default 1
	Scope         []string `json:"scope"`
	Extra         Extra    `json:"-"`
}

// Node is a guest cluster node that routes a pod subnet behind a segment port:
// /infra/nodes/<id>. It is Weft's own; NSX has no such object. Segments connect
// to it by connectivity_path.
type Node struct {
	Resource
	PortPath string `json:"port_path"` // the segment port that it leaves by
}
