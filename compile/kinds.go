package compile

// kind says what a fact is. The name of a fact is a policy path unless its
// kind says something else.
type kind uint8

// Sources, marked when they change.
const (
	srcObject   kind = iota + 1 // the object at a path
	srcChildren                 // which objects are directly below a path
	srcID                       // the id of arg in pool name
	srcOverlap                  // which addresses domain name shares with others

	// Relations: name and arg, and what the members are.

	relNeed      // pool, name: explicit ids (int64; -1: none) of those that need an id
	relSubnet    // domain: its subnets and other addresses (netip.Prefix)
	relSegment   // router: its segments (path)
	relUplink    // Tier-0: its uplinks (path)
	relNodePort  // segment port: the Node that leaves by it (path)
	relBinding   // segment, address: the ports that have it (path)
	relRoute     // router, prefix: candidates
	relLengths   // router: lengths of the prefixes of its routes (int)
	relTold      // Tier-0: told, what it could tell its neighbours
	relHop       // uplink, address: the routers whose routes use the next hop (path)
	relNAT       // router, direction: rules (path)
	relTerm      // atom of a port: groups that may hold a port with it (path)
	relRow       // group: table.RealmPrefixes of its ports
	relUse       // group: rules that need its addresses (path)
	relLiteral   // written list: rules that need it (path)
	relOwn       // group: rules that have it on their own side (path)
	relMention   // atom of an endpoint: who depends on it (path)
	relCandidate // atom of an endpoint: the sides that may work on an endpoint with it (ref)
	relPrefix    // written prefix: atoms of the endpoints within it (string)
	relLength    // no name: lengths of the prefixes in relPrefix (int)
	relRuleset   // digest: rule lists with that digest (*ruleList)

	// Built facts: what the value is. They stand in the order of who reads
	// whom: a builder reads facts of smaller kinds or, for groups and
	// services that contain others, of its own.

	factService       // serviceMatches of a service, nested ones included
	factWritten       // []netip.Prefix that a group lists, nested groups included
	factTransit       // transit of a Tier-0
	factSubnets       // nil; puts a segment's subnets into its domain
	factRealm         // *table.Realm of a domain
	factVRF           // *table.VRF
	factSegment       // *table.Segment
	factPort          // *port
	factUplink        // *table.Uplink
	factLink          // *link of a Tier-1 to its Tier-0
	factSegmentRoutes // nil; puts the routes that a segment causes
	factRouterRoutes  // nil; puts the routes of a router's link, or of a Node
	factUplinkRoutes  // nil; puts the routes that a Tier-0 interface causes
	factStaticRoute   // nil; puts the routes of a static route
	factNATRule       // *natRows of a NAT rule
	factHop           // *table.NextHop
	factRoute         // *table.Route
	factNATList       // *table.NATList of a router in direction arg
	factNATDepth      // nil; warns of a Node with too many translations above it
	factTerms         // nil; puts a group where the ports that it may hold find it
	factGroups        // []string, the groups that hold a port
	factRows          // nil; puts a port's addresses into its groups
	factAddrSet       // *table.AddrSet of a group
	factLiteral       // *table.AddrSet of a written list
	factSide          // *side, a rule as direction arg sees it
	factExclude       // *exclude, the exclude list
	factUsed          // bool: whether anything depends on an atom of endpoints
	factOwn           // nil; puts a group where the endpoints that it lists find it
	factLengths       // []int, the lengths of the prefixes in relPrefix
	factProfileKey    // string, the profile of segment name's endpoint arg
	factProfile       // *profile
	factRuleset       // *table.Ruleset of a digest
	factEndpoint      // *table.Endpoint of segment name and address arg

	kinds // the number of kinds
)

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
	case relOwn:
		root.kind = factOwn
	case relRuleset:
		root.kind = factRuleset
	}
	return root, root.kind != 0
}
