package pipeline

//go:generate go run ../internal/gen ..

// Stage is a place in the order of what one packet meets. The eBPF programs,
// the trace and docs/pipeline.md take their names and numbers from Stages.
type Stage uint8

// The stages, in order. A packet may pass Router to SNAT once per router.
const (
	StageParse Stage = iota + 1
	StageSpoofguard
	StageNeighbour
	StageFlow
	StageDLB
	StageDFWOut
	StageL2
	StageURPF
	StageDNAT
	StageGatewayIn
	StageRoute
	StageLocal
	StageLB
	StageTTL
	StageGatewayOut
	StageSNAT
	StageEndpoint
	StageDFWIn
	StageConnect
	StageDeliver
)

// StageInfo is one row of the stage list.
type StageInfo struct {
	Stage Stage
	Name  string
	Doc   string
}

// Stages is the one list of stages, in the order a packet meets them.
var Stages = []StageInfo{
	{StageParse, "parse", "Ethernet, ARP, IPv4, TCP, UDP, ICMP, fragments; a packet that is cut short or ambiguous stops here"},
	{StageSpoofguard, "spoofguard", "source MAC and address are a binding of the port"},
	{StageNeighbour, "neighbour", "ARP is answered from the tables"},
	{StageFlow, "flow", "a packet of a known connection takes the path that its first packet took"},
	{StageDLB, "dlb", "distributed load balancing of cluster addresses"},
	{StageDFWOut, "dfw_out", "distributed firewall at the source port"},
	{StageL2, "l2", "delivery within the segment"},
	{StageURPF, "urpf", "a source from above does not live below, one from a Tier-1 lives behind that Tier-1"},
	{StageDNAT, "dnat", "destination translation of what comes from above"},
	{StageGatewayIn, "gateway_in", "gateway firewall, inwards"},
	{StageRoute, "route", "longest-prefix match"},
	{StageLocal, "local", "addresses of the router itself"},
	{StageLB, "lb", "virtual servers"},
	{StageTTL, "ttl", "one hop per router"},
	{StageGatewayOut, "gateway_out", "gateway firewall, outwards"},
	{StageSNAT, "snat", "source translation of what leaves upwards"},
	{StageEndpoint, "endpoint", "the port that owns the address"},
	{StageDFWIn, "dfw_in", "distributed firewall at the destination port"},
	{StageConnect, "connect", "both directions of a new connection are entered, a source port is chosen"},
	{StageDeliver, "deliver", "to the port or out of the uplink"},
}

// Reason says why a packet was not forwarded. The list is closed.
type Reason uint8

// The drop reasons.
const (
	ReasonNone Reason = iota
	ReasonMalformed
	ReasonNotIP
	ReasonIPv6
	ReasonVLAN
	ReasonIPOptions
	ReasonMartian
	ReasonMulticast
	ReasonFragment
	ReasonNoPort
	ReasonSpoofguard
	ReasonARPUnknown
	ReasonICMPType
	ReasonICMPUnrelated
	ReasonNoConnection
	ReasonTCPState
	ReasonStaleConnection
	ReasonDFWRule
	ReasonDFWDefaultDeny
	ReasonMACUnknown
	ReasonNoGateway
	ReasonURPF
	ReasonNoRoute
	ReasonNoListener
	ReasonTTLExceeded
	ReasonRouterLoop
	ReasonNATDepth
	ReasonNoEndpoint
	ReasonSNATExhausted
	ReasonTupleInUse
	ReasonFlowTableFull
	ReasonGatewayRule
	ReasonGatewayDefaultDeny
	ReasonLBAccess
	ReasonLBLimit
	ReasonLBNoMember
	ReasonTooBig
	ReasonInternal
)

// ReasonInfo is one row of the list of drop reasons.
type ReasonInfo struct {
	Reason Reason
	Name   string // metric label, trace word
	Doc    string
	Advice string // what a person can do about it
}

// Reasons is the one list of drop reasons.
var Reasons = []ReasonInfo{
	{ReasonMalformed, "malformed", "a header is cut short or contradicts the packet's length", "look at the sender: this is not a packet that a sound stack sends"},
	{ReasonNotIP, "not_ip", "neither ARP nor IP", "only ARP and IPv4 are carried"},
	{ReasonIPv6, "ipv6", "IPv6 is not carried yet", "use IPv4"},
	{ReasonVLAN, "vlan", "the frame has a VLAN tag that no segment expects", "send untagged frames on this port"},
	{ReasonIPOptions, "ip_options", "IPv4 options are not carried", "send without IP options"},
	{ReasonMartian, "martian", "the source or destination address can not stand in a packet on the wire", "look at the sender's address configuration"},
	{ReasonMulticast, "multicast", "multicast and broadcast are not carried", "use unicast"},
	{ReasonFragment, "fragment", "a fragment whose first one was not seen, or one that could hide a header", "lower the sender's MTU, or send the first fragment first"},
	{ReasonNoPort, "no_port", "the device is not bound to a port of the tables", "wait until the port is realized, or see its status"},
	{ReasonSpoofguard, "spoofguard", "the source MAC or address is not a binding of the port", "add the address to the port's address_bindings, or mend the sender's configuration"},
	{ReasonARPUnknown, "arp_unknown", "nobody on the segment owns the address", "check the address, the segment and the port's address_bindings"},
	{ReasonICMPType, "icmp_type", "an ICMP message that is neither echo nor an error", "use echo"},
	{ReasonICMPUnrelated, "icmp_unrelated", "an ICMP error that belongs to no live connection", "none: such errors are forged or late"},
	{ReasonNoConnection, "no_connection", "a reply without a request", "check that request and reply take the same gateway"},
	{ReasonTCPState, "tcp_state", "a TCP segment that begins no connection and belongs to none", "open the connection again; with tcp_strict a connection must begin with SYN"},
	{ReasonStaleConnection, "stale_connection", "the translation that this connection used was removed", "open the connection again"},
	{ReasonDFWRule, "dfw_rule", "a distributed firewall rule drops or rejects it", "change that rule, or put an ALLOW rule before it in the same or an earlier category"},
	{ReasonDFWDefaultDeny, "dfw_default_deny", "no distributed firewall rule of the port matches", "add an ALLOW rule that applies to this port"},
	{ReasonMACUnknown, "mac_unknown", "no port of the segment has this MAC with this address", "send to the gateway's MAC, or check the neighbour's binding"},
	{ReasonNoGateway, "no_gateway", "the segment is connected to no router", "set the segment's connectivity_path"},
	{ReasonURPF, "urpf", "the way back to the source address is another one, or there is none", "advertise the source's subnet, or translate it and advertise the translated one; each from one router only"},
	{ReasonNoRoute, "no_route", "the router has no route for the destination", "advertise the prefix (route_advertisement_types) or add a static route"},
	{ReasonNoListener, "no_listener", "an address of a router, on which nothing listens", "use an address of a workload or of a virtual server"},
	{ReasonTTLExceeded, "ttl_exceeded", "the hop limit ran out", "send with a larger TTL"},
	{ReasonRouterLoop, "router_loop", "the packet passed eight routers", "look for routes that point at each other"},
	{ReasonNATDepth, "nat_depth", "more than two translations of one address on one path", "exempt one of the routers with NO_SNAT or NO_DNAT"},
	{ReasonNoEndpoint, "no_endpoint", "no port of the segment owns the address", "check that the workload exists and its binding is right"},
	{ReasonSNATExhausted, "snat_exhausted", "no free source port for this destination", "give the SNAT rule a larger translated_network"},
	{ReasonTupleInUse, "tuple_in_use", "another connection already uses these addresses and ports at the destination", "use another source port"},
	{ReasonFlowTableFull, "flow_table_full", "the flow table took no new entry", "raise the flow table's size"},
	{ReasonGatewayRule, "gateway_rule", "a gateway firewall rule drops or rejects it", "change that rule, or put an ALLOW rule before it in the same or an earlier category"},
	{ReasonGatewayDefaultDeny, "gateway_default_deny", "no gateway firewall rule of the interface matches", "add an ALLOW rule whose scope is this gateway or interface"},
	{ReasonLBAccess, "lb_access", "the virtual server's access list does not let this client in", "change the group of access_list_control"},
	{ReasonLBLimit, "lb_limit", "the virtual server, or every member that could take it, has as many connections as it may", "raise max_concurrent_connections, or add members"},
	{ReasonLBNoMember, "lb_no_member", "no member of the pool takes connections", "see the members' admin_state and health"},
	{ReasonTooBig, "too_big", "the packet is larger than the uplink's MTU", "let path MTU discovery work: do not filter ICMP type 3 code 4; or lower the sender's MTU"},
	{ReasonInternal, "internal", "the kernel did not let the program change the packet", "this should not happen: report it with the packet"},
}

func (s Stage) String() string {
	for _, i := range Stages {
		if i.Stage == s {
			return i.Name
		}
	}
	return "none"
}

func (r Reason) String() string { return r.Info().Name }

// Info returns r's row; the zero Reason has an empty one.
func (r Reason) Info() ReasonInfo {
	for _, i := range Reasons {
		if i.Reason == r {
			return i
		}
	}
	return ReasonInfo{Name: "none"}
}
