package compile

// kind says what a fact is. The name of a fact is a policy path unless its
// kind says something else.
type kind uint8

// Sources, marked when they change.
const (
	srcObject   kind = iota + 1 // the object at a path
	srcChildren                 // which objects are directly below a path
	srcOverlap                  // which addresses domain name shares with others

	// Relations: name and arg, and what the members are. What matters of
	// some is only whether they have any; their member is present.

	relNeed      // pool, name: explicit ids (int64; 0: none) of those that need an id; marked when the id is another, too
	relSubnet    // domain: its subnets and other addresses (netip.Prefix)
	relSegment   // router: its segments (path)
	relUplink    // Tier-0: its uplinks (path)
	relNodePort  // segment port: the Node that leaves by it (path); watched
	relBinding   // segment, address: the ports that have it (path)
	relRoute     // router, prefix: candidates
	relLengths   // router: lengths of the prefixes of its routes (int)
	relTold      // Tier-0: told, what it could tell its neighbours
	relHop       // uplink, address: the routers whose routes use the next hop (path)
	relNAT       // router, direction: rules (path)
	relTerm      // atom of a port: groups that may hold a port with it (*possible); watched
	relRow       // group: table.RealmPrefixes of its ports
	relUse       // group: present for as long as rules need its addresses
	relLiteral   // written list: present for as long as rules need it
	relUsed      // atom of an endpoint: present for as long as something depends on it; watched
	relCandidate // atom of an endpoint: the rules that may work on an endpoint with it (*sides)
	relPrefix    // written prefix: atoms of the endpoints within it (string)
	relLength    // no name: lengths of the prefixes in relPrefix (int)
	relGate      // gateway: rules of its firewall (path)
	relVIP       // router or distributed load balancer, address: virtual servers (path)
	relMonitored // load balancer: present for as long as a pool of it at a router is monitored
	relDLB       // group: distributed load balancers that are connected to it (path)
	relRuleset   // digest: rule lists with that digest (*ruleList)

	// Built facts: what the value is. They stand in the order of who reads
	// whom: a builder reads facts of smaller kinds or, for groups and
	// services that contain others, of its own.

	factService       // serviceMatches of a service, nested ones included
	factWritten       // []netip.Prefix that a group lists, nested groups included
	factTransit       // transit of a Tier-0
	factSubnets       // nil; puts a segment's subnets into its domain
	factRealm         // *table.Realm of a domain
	factGateRule      // *gateRule, a rule of the gateway firewall
	factVRF           // *table.VRF
	factSegment       // *table.Segment
	factPort          // *port
	factUplink        // *table.Uplink
	factLink          // *link of a Tier-1 to its Tier-0
	factSegmentRoutes // nil; puts the routes that a segment causes
	factRouterRoutes  // nil; puts the routes of a router's link, or of a Node
	factUplinkRoutes  // nil; puts the routes that a Tier-0 interface causes
	factStaticRoute   // nil; puts the routes of a static route
	factVirtualServer // *virtualServer
	factLBService     // *table.LBService
	factMonitorNet    // *monitorNet of a load balancer
	factNATRule       // *natRows of a NAT rule, or of a load balancer's monitors
	factVIP           // *table.VIP of a router or distributed load balancer and address arg
	factHop           // *table.NextHop
	factRoute         // *table.Route
	factNATList       // *table.NATList of a router in direction arg
	factNATDepth      // nil; warns of a Node with too many translations above it
	factTerms         // *possible, a group; puts it where the ports that it may hold find it
	factSet           // table.AddrSetID of a group that is a far side of rules; puts it among the used ones
	factOwn           // string, the atom of the addresses that a group lists, if any; puts it where the endpoints find it
	factSides         // *sides of a rule
	factGroups        // []string, the groups that hold a port
	factRows          // nil; puts a port's addresses into its groups
	factMonitor       // *table.Monitor, or *table.Passive
	factPool          // *table.Pool
	factAddrSet       // *table.AddrSet of a group
	factLiteral       // *table.AddrSet of a written list
	factExclude       // *exclude, the exclude list
	factLengths       // []int, the lengths of the prefixes in relPrefix
	factProfileKey    // string, the profile of segment name's endpoint arg
	factProfile       // *profile
	factRuleset       // *table.Ruleset of a digest
	factTimers        // *timers
	factEndpoint      // *table.Endpoint of segment name and address arg

	kinds // the number of kinds
)

// present is the member of relations that are there or not.
const present = true

// isRelation reports whether facts of the kind have members.
func (k kind) isRelation() bool { return k >= relNeed && !k.isBuilt() }

// isBuilt reports whether facts of the kind have a builder.
func (k kind) isBuilt() bool { return k >= factService }

// root returns the built fact that is wanted for as long as a relation has
// members; ok is false if there is none.
func (r ref) root() (root ref, ok bool) {
	root = ref{0, r.name, r.arg}
	switch r.kind {
	case relSubnet:
		root.kind = factRealm
	case relBinding:
		root.kind = factEndpoint
	case relRoute:
		root.kind = factRoute
	case relHop:
		root.kind = factHop
	case relNAT:
		root.kind = factNATList
	case relUse:
		root.kind = factAddrSet
	case relLiteral:
		root.kind = factLiteral
	case relVIP:
		root.kind = factVIP
	case relMonitored:
		root.kind = factMonitorNet
	case relRuleset:
		root.kind = factRuleset
	}
	return root, root.kind != 0
}
