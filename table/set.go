// Package table holds one node's compiled forwarding state as plain data.
//
// A Set is the only thing that forwarders, tracers and printers read. The
// objects in it are immutable once published: a new Set shares the unchanged
// ones by pointer, and the parts of its Maps that have no others, so that Diff can
// skip them.
package table

import "net/netip"

// Ids name compiled objects. They are derived from policy paths (compile), so
// the same intent gives the same ids on any machine and in any order of
// changes. Zero is never a valid id.
type (
	PortID    uint32 // a port of a segment, or an uplink of a Tier-0
	SegmentID uint32
	VRFID     uint32 // a router: Tier-0, Tier-1 or Node
	AddrSetID uint32
	RulesetID uint32
	NextHopID uint32
	RealmID   uint32

	LBServiceID     uint32
	VirtualServerID uint32
	PoolID          uint32
	MemberID        uint32
)

// MAC is an Ethernet address.
type MAC [6]byte

// RouterMAC is the address by which every router answers on every segment.
// Source: facts on NSX distributed routers; 02:50:56:56:44:52 is its vMAC.
var RouterMAC = MAC{0x02, 0x50, 0x56, 0x56, 0x44, 0x52}

// Set is all that one node must do. The zero value drops everything.
type Set struct {
	Node      string
	Ports     Map[PortID, Port]
	Uplinks   Map[PortID, Uplink]
	Segments  Map[SegmentID, Segment]
	Endpoints Map[EndpointKey, Endpoint]
	VRFs      Map[VRFID, VRF]
	Routes    Map[RouteKey, Route]
	NextHops  Map[NextHopID, NextHop]
	NAT       Map[NATKey, NATList]
	Realms    Map[RealmID, Realm]
	AddrSets  Map[AddrSetID, AddrSet]
	Rulesets  Map[RulesetID, Ruleset]
	Services  Map[LBServiceID, LBService]
	VIPs      Map[VIPKey, VIP]
	Pools     Map[PoolID, Pool]
	Timeouts  Timeouts
	// Health is what the node's monitors found out; compile leaves it nil. A
	// member without a row is up. See WithHealth.
	Health map[MemberID]Health
}

// Port is a vNIC on a segment: a workload's, or the uplink of a Node router.
type Port struct {
	ID         PortID
	Path       string // policy path of the segment port
	Name       string // display name
	Segment    SegmentID
	MAC        MAC
	Attachment string // what the node binds to this port; empty if Node is set
	Node       VRFID  // the Node router whose uplink this is; 0: a workload's vNIC
}

// Uplink is an external interface of a Tier-0.
type Uplink struct {
	ID         PortID
	Path       string
	Name       string
	VRF        VRFID
	Address    netip.Prefix // the router's own address and its subnet
	Attachment string       // what the node binds to this uplink
	MTU        uint16       // bytes of the largest IP packet; 0: no limit
	In, Out    RulesetID    // gateway firewall at this interface; 0: none
}

// Segment is a broadcast domain.
type Segment struct {
	ID       SegmentID
	Path     string
	Name     string
	VNI      uint32
	VRF      VRFID          // router of its gateways; 0: not connected
	Gateways []netip.Prefix // router's address with the subnet's length
	// Realm is 0 where the subnets of this segment's router (of the segment
	// alone, if it has none) overlap those of no other router. See Realm.
	Realm RealmID
	// Monitor is the load balancer whose monitors reach members from this
	// segment: its only port is theirs. 0: a segment as people know it.
	Monitor LBServiceID
}

// EndpointKey names one address on one segment.
type EndpointKey struct {
	Segment SegmentID
	Addr    netip.Addr
}

// Endpoint is one address binding of a port. Spoofguard, ARP and delivery all
// read it; the firewall's rule sets hang on it because the own side of every
// rule is resolved at compile time.
type Endpoint struct {
	Segment SegmentID
	Addr    netip.Addr
	Port    PortID
	MAC     MAC
	// Out and In are walked in order, at most three: a ruleset that ends in
	// Continue or matches nothing hands over to the next. No match in the
	// last one is drop dfw_default_deny. Both empty with Unfiltered set:
	// the exclude list.
	Out, In    []RulesetID
	Unfiltered bool
	DLB        LBServiceID // whose virtual servers this address reaches from its own port; 0: none
}

// VRFKind says what a router is.
type VRFKind uint8

const (
	Tier0 VRFKind = iota + 1
	Tier1
	Node
)

// VRF is a router instance. Distributed and service part are one hop.
type VRF struct {
	ID   VRFID
	Kind VRFKind
	Path string
	Name string
	// NodePort is the segment port by which a Node router leaves; valid iff
	// Kind is Node. The gateway of that port's segment is its next hop.
	NodePort PortID
	// Realm is that of the router's segments: the gateway firewall and the
	// access lists of virtual servers tell overlapping tenants apart by it.
	Realm RealmID
	// In and Out are a Tier-1's gateway firewall at the link to its upper
	// router; 0: none. Those of a Tier-0 are at its Uplinks.
	In, Out RulesetID
}

// RouteKey is unique per table: the longest prefix decides.
type RouteKey struct {
	VRF    VRFID
	Prefix netip.Prefix // masked
}

// RouteKind says what a route does with a packet.
type RouteKind uint8

const (
	RouteConnected RouteKind = iota + 1 // deliver on Segment
	RouteLocal                          // an address of the router itself: echo is answered, anything else is no_listener
	RouteNAT                            // an address that only NAT answers for: no_listener if no rule took it
	RouteUp                             // to the upper router VRF, entering it at its address Via
	RouteDown                           // to the lower router VRF, entering it at its address Via
	RouteNode                           // out of a Node router through its port: to gateway Via, or on the link if Via is invalid
	RouteUplink                         // to one of NextHops, by flow hash
	RouteVia                            // on Segment, to the port that owns Via
	RouteDiscard                        // drop, ICMP net unreachable
	RouteVIP                            // an address of virtual servers of this router: as Local for all that none of them takes
)

// Route is one row of a router's table.
type Route struct {
	VRF      VRFID
	Prefix   netip.Prefix
	Kind     RouteKind
	Segment  SegmentID   // valid iff Connected or Via
	To       VRFID       // valid iff Up or Down
	Via      netip.Addr  // valid iff Up, Down, Node or Via
	NextHops []NextHopID // valid iff Uplink; 1 to 8, sorted by address
	Source   string      // policy path of the object that caused the route
}

// NextHop is a neighbour behind an uplink.
type NextHop struct {
	ID     NextHopID
	Uplink PortID
	Addr   netip.Addr
}

// NATKey names the rule list of one router in one direction.
type NATKey struct {
	VRF VRFID
	Dir NATDir
}

// NATDir is the direction through the router's upper link or uplink.
type NATDir uint8

const (
	NATOut NATDir = iota + 1 // leaving upwards: SNAT, NO_SNAT, REFLEXIVE's outward half
	NATIn                    // coming from above: DNAT, NO_DNAT, REFLEXIVE's inward half
)

// NATList is the ordered rules of one NATKey; the first match decides.
type NATList struct {
	Key   NATKey
	Rules []NATRule
}

// NATAction is what a NAT row does.
type NATAction uint8

const (
	NATTranslate NATAction = iota + 1 // SNAT in NATOut, DNAT in NATIn
	NATExempt                         // NO_SNAT, NO_DNAT
)

// NATRule is one row: a rule with several networks becomes several rows.
type NATRule struct {
	ID       uint32 // rule id, shared by all rows of one rule
	Path     string
	Name     string
	Type     string // the intent's word: SNAT, DNAT, NO_SNAT, NO_DNAT, REFLEXIVE
	Action   NATAction
	Src, Dst netip.Prefix // invalid: any
	Service  Service      // zero: any
	Iface    PortID       // the uplink it applies to; 0: any
	// To is the pool. One address, or: OneToOne maps by offset, otherwise
	// Pick chooses. Invalid iff Exempt.
	To       netip.Prefix
	OneToOne bool
	// ToPort replaces the destination port; 0 keeps it. NATIn only.
	ToPort uint16
	// PortFirst to PortLast is the block that new source ports come from
	// when the packet's own is taken. NATOut only.
	PortFirst, PortLast uint16
	Match               FirewallMatch
}

// FirewallMatch says which addresses the gateway firewall sees.
type FirewallMatch uint8

const (
	MatchInternal FirewallMatch = iota
	MatchExternal
	MatchBypass
)

// Service is one protocol and port range.
//
// First and Last are destination ports for TCP, UDP and SCTP, type<<8|code
// for ICMP and ICMPv6, and 0 to 65535 otherwise. Proto 0 is any.
type Service struct {
	Proto       uint8
	First, Last uint16
}

// Realm tells tenants apart whose subnets overlap. At a port of a segment with
// Realm r, address a belongs to r if a lies in one of r's Prefixes, and to
// realm 0, which all tenants share, otherwise. In realm 0 an address is whose
// the Tier-0 routes it to.
type Realm struct {
	ID       RealmID
	Path     string         // policy path of the router or segment it stands for
	Prefixes []netip.Prefix // sorted, disjoint
}

// AddrSet is the effective addresses of a group or of a literal list. A row
// with AnyRealm holds in every realm; else only for addresses of its realm.
type AddrSet struct {
	ID    AddrSetID
	Path  string // policy path of the group, or the literal text
	Name  string
	Addrs []RealmPrefix // sorted, disjoint per realm
}

// AnyRealm marks rows that come from written addresses, not from ports.
const AnyRealm RealmID = 1<<32 - 1

// RealmPrefix is a prefix within a realm.
type RealmPrefix struct {
	Realm  RealmID
	Prefix netip.Prefix
}

// RuleAction is what a firewall rule does.
type RuleAction uint8

const (
	Allow RuleAction = iota + 1
	Drop
	Reject
	Continue // go on with the next ruleset: JUMP_TO_APPLICATION, and ALLOW in category Ethernet
)

// Ruleset is an ordered rule list that some endpoints or interfaces share; first match
// decides.
type Ruleset struct {
	ID    RulesetID
	Name  string // for people: which policies, which direction
	Rules []*Rule
	// Gateway marks the rulesets of routers and uplinks: their rules tell
	// sources and destinations apart.
	Gateway bool
}

// Rule is one rule. In the distributed firewall it is as one side sees it: the
// own side is already resolved. A gateway's firewall has no own side: there
// Remote is the source, and the destination is given by Dst and NotDst.
type Rule struct {
	ID        uint32 // NSX rule id
	Path      string
	Name      string
	Policy    string // policy path of the SecurityPolicy or GatewayPolicy
	Category  string
	Action    RuleAction
	AnyRemote bool        // else Remote decides
	NotRemote bool        // matches addresses outside all of Remote
	Remote    []AddrSetID // union, sorted
	Services  []Service   // empty: any
	Dst       []AddrSetID // gateway firewall only: the destination is in one of these; nil: any
	NotDst    bool        // or in none of them
	ViaVIP    bool        // matches only what came by a virtual server, or from a load balancer's monitor
	Strict    bool        // tcp_strict: a new TCP connection must begin with SYN
	Logged    bool
	Tag       string
}

// Timeouts are in seconds, per connection state.
type Timeouts struct {
	TCPOpening     uint32
	TCPEstablished uint32
	TCPClosing     uint32
	UDPSingle      uint32
	UDPMultiple    uint32
	ICMP           uint32
	Other          uint32
}

// DefaultTimeouts follows NSX's default session timer profile: TCP opening
// 120 s, established 43200 s, closing 120 s; UDP single 30 s, multiple 60 s;
// ICMP 20 s.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		TCPOpening: 120, TCPEstablished: 43200, TCPClosing: 120,
		UDPSingle: 30, UDPMultiple: 60, ICMP: 20, Other: 60,
	}
}

// NewSet returns an empty Set for a node.
func NewSet(node string) *Set { return &Set{Node: node, Timeouts: DefaultTimeouts()} }
