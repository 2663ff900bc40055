// Package testset is one small table.Set, made by hand, on which tests of
// forwarding agree.
//
//	         192.0.2.1         198.51.100.1
//	             |                  |
//	      UplinkEast .2       UplinkWest .2
//	             +------- t0 -------+
//	       100.64.0.0/31    100.64.0.2/31
//	             |                  |
//	            red                blue
//	      +------+-----+        +---+-------+
//	     web           db      app         dmz          lan
//	10.1.1.0/24  10.1.2.0/24  10.1.1.0/24  172.16.3.0/24  10.9.0.0/24
//	 Web1 .10     DB1 .10      App1 .10     DMZ1 .10      Lan1 .1
//	 Web2 .11     DB2 .11      App2 .40                   Lan2 .2
//	 Web3 .30
//	 NodeUp .20, .21
//	   |
//	  node ---- pods 10.200.1.0/24: Pod1 .10, Pod2 .11
//
// Red web and blue app have the same subnet: each router's segments have a
// realm. lan has no router. DB2 is on the exclude list.
//
// What is translated where, first match first:
//
//	red out   to 10.0.0.0/8 and from db: not; Web3: one to one to .18;
//	          web: 203.0.113.16, ports 1024–1027
//	red in    203.0.113.17 tcp/80 to Web1:8080; .18 to Web3; not for .19
//	blue out  10.1.1.0/28: one to one to 203.0.113.48/28; app: 203.0.113.32/30
//	blue in   203.0.113.48/28 to 10.1.1.0/28
//	t0 out    by UplinkWest only: red's 203.0.113.16/28 one to one to 198.51.100.16/28
//	t0 in     by UplinkEast only: 192.0.2.100 to 203.0.113.17
//	node out  to 10.200.0.0/16: not; Pod2: 10.1.1.21 (egress); pods: 10.1.1.20, ports 32768–60999
//	node in   10.1.1.20 tcp/30080 to Pod1:80
package testset

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Routers.
const (
	T0 table.VRFID = iota + 1
	Red
	Blue
	Node
)

// Segments.
const (
	Web table.SegmentID = iota + 101
	DB
	App
	DMZ
	Pods
	Lan
)

// Ports and uplinks.
const (
	Web1 table.PortID = iota + 201
	Web2
	Web3
	NodeUp
	DB1
	DB2
	App1
	App2
	DMZ1
	Pod1
	Pod2
	Lan1
	Lan2
	UplinkEast
	UplinkWest
)

// Next hops.
const (
	East table.NextHopID = iota + 301
	West
)

// Realms.
const (
	RealmRed table.RealmID = iota + 401
	RealmBlue
)

// Address sets.
const (
	SetQuarantine table.AddrSetID = iota + 501 // 192.0.2.66 anywhere, Web2
	SetDBs                                     // red db
	SetRedWeb                                  // red web, and no other 10.1.1.0/24
	SetInside                                  // 10.0.0.0/8 as written
)

// Rulesets.
const (
	RulesEmergency table.RulesetID = iota + 601 // of web, outwards, first
	RulesWebOut
	RulesWebIn
	RulesDBIn
	RulesDMZIn
	RulesAny
)

// Firewall rule ids.
const (
	RuleQuarantine uint32 = iota + 1001 // Drop to SetQuarantine
	RuleNoMail                          // Reject tcp/25, udp/25
	RuleJump                            // Continue tcp/3306 to SetDBs
	RuleNoProtocol                      // Drop tcp/3306 to others
	RuleStrict                          // Allow tcp/1000–1999, strict
	RuleNoSSHOut                        // Drop tcp/22 to all but SetInside
	RuleWebOut                          // Allow all
	RuleWebIn                           // Allow tcp/80, tcp/1000–1999, tcp/8080, udp/5000–5010
	RulePing                            // Allow ICMP echo
	RuleFromRed                         // Allow all from SetRedWeb
	RuleDB                              // Allow tcp/3306 from SetRedWeb
	RuleNoAdmin                         // Reject tcp/3307
	RuleAny                             // Allow all
)

// NAT rule ids.
const (
	NATRedLocal   uint32 = iota + 2001 // NO_SNAT
	NATRedDB                           // NO_SNAT
	NATWeb3                            // REFLEXIVE
	NATRed                             // SNAT
	NATRedWeb                          // DNAT
	NATRedNone                         // NO_DNAT
	NATBlueLow                         // SNAT one to one, DNAT back
	NATBlue                            // SNAT to a pool
	NATWest                            // SNAT at the Tier-0
	NATEast                            // DNAT at the Tier-0
	NATPods                            // NO_SNAT
	NATEgress                          // SNAT
	NATMasquerade                      // SNAT
	NATNodePort                        // DNAT
)

// MAC returns the address of a port.
func MAC(p table.PortID) table.MAC { return table.MAC{2, 0, 0, 0, byte(p >> 8), byte(p)} }

// Spec returns the beginning of a packet from a device: to the router's MAC,
// TTL 64. The rest is the caller's.
func Spec(from table.PortID, src, dst string) packet.Spec {
	return packet.Spec{
		EthSrc: packet.MAC(MAC(from)), EthDst: packet.MAC(table.RouterMAC), TTL: 64,
		Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
	}
}

// New returns a Set of its own on every call: callers may change it.
func New() *table.Set {
	s := set{table.NewSet("test")}
	s.topology()
	s.routes()
	s.nat()
	s.firewall()
	return s.Set
}

type set struct{ *table.Set }

func (s set) topology() {
	s.VRFs.Put(T0, &table.VRF{ID: T0, Kind: table.Tier0, Path: "/infra/tier-0s/t0", Name: "t0"})
	s.VRFs.Put(Red, &table.VRF{ID: Red, Kind: table.Tier1, Path: "/infra/tier-1s/red", Name: "red"})
	s.VRFs.Put(Blue, &table.VRF{ID: Blue, Kind: table.Tier1, Path: "/infra/tier-1s/blue", Name: "blue"})
	s.VRFs.Put(Node, &table.VRF{ID: Node, Kind: table.Node, Path: "/infra/nodes/node", Name: "node", NodePort: NodeUp})
	s.uplink(UplinkEast, "east", "192.0.2.2/24")
	s.uplink(UplinkWest, "west", "198.51.100.2/24")
	s.NextHops.Put(East, &table.NextHop{ID: East, Uplink: UplinkEast, Addr: netip.MustParseAddr("192.0.2.1")})
	s.NextHops.Put(West, &table.NextHop{ID: West, Uplink: UplinkWest, Addr: netip.MustParseAddr("198.51.100.1")})

	s.Realms.Put(RealmRed, &table.Realm{ID: RealmRed, Path: "/infra/tier-1s/red", Prefixes: prefixes("10.1.1.0/24", "10.1.2.0/24")})
	s.Realms.Put(RealmBlue, &table.Realm{ID: RealmBlue, Path: "/infra/tier-1s/blue", Prefixes: prefixes("10.1.1.0/24", "172.16.3.0/24")})
	s.segment(Web, "web", Red, RealmRed, "10.1.1.1/24")
	s.segment(DB, "db", Red, RealmRed, "10.1.2.1/24")
	s.segment(App, "app", Blue, RealmBlue, "10.1.1.1/24")
	s.segment(DMZ, "dmz", Blue, RealmBlue, "172.16.3.1/24")
	s.segment(Pods, "pods", Node, 0, "10.200.1.1/24")
	s.segment(Lan, "lan", 0, 0)

	s.port(Web1, "web1", Web, "10.1.1.10")
	s.port(Web2, "web2", Web, "10.1.1.11")
	s.port(Web3, "web3", Web, "10.1.1.30")
	s.port(NodeUp, "node-up", Web, "10.1.1.20", "10.1.1.21")
	s.Ports.Get(NodeUp).Node, s.Ports.Get(NodeUp).Attachment = Node, ""
	s.port(DB1, "db1", DB, "10.1.2.10")
	s.port(DB2, "db2", DB, "10.1.2.11")
	s.port(App1, "app1", App, "10.1.1.10")
	s.port(App2, "app2", App, "10.1.1.40")
	s.port(DMZ1, "dmz1", DMZ, "172.16.3.10")
	s.port(Pod1, "pod1", Pods, "10.200.1.10")
	s.port(Pod2, "pod2", Pods, "10.200.1.11")
	s.port(Lan1, "lan1", Lan, "10.9.0.1")
	s.port(Lan2, "lan2", Lan, "10.9.0.2")
}

func (s set) routes() {
	t0link := map[table.VRFID]netip.Addr{Red: addr("100.64.0.0"), Blue: addr("100.64.0.2")}
	for vrf, up := range t0link {
		down := table.Route{VRF: T0, Kind: table.RouteDown, To: vrf, Via: up.Next()}
		s.route(down, map[table.VRFID][]string{
			Red:  {"10.1.2.0/24", "10.200.1.0/24", "203.0.113.16/28"},
			Blue: {"172.16.3.0/24", "203.0.113.32/27"},
		}[vrf]...)
		s.route(table.Route{VRF: T0, Kind: table.RouteLocal}, up.String()+"/32")
		s.route(table.Route{VRF: vrf, Kind: table.RouteLocal}, up.Next().String()+"/32")
		s.route(table.Route{VRF: vrf, Kind: table.RouteUp, To: T0, Via: up}, "0.0.0.0/0")
	}
	s.route(table.Route{VRF: T0, Kind: table.RouteLocal}, "192.0.2.2/32", "198.51.100.2/32")
	s.route(table.Route{VRF: T0, Kind: table.RouteNAT}, "192.0.2.100/32", "198.51.100.16/28")
	s.route(table.Route{VRF: T0, Kind: table.RouteDiscard}, "10.0.0.0/8")
	s.route(table.Route{VRF: T0, Kind: table.RouteUplink, NextHops: []table.NextHopID{East, West}}, "0.0.0.0/0")

	s.connected(Web, DB, App, DMZ, Pods)
	s.route(table.Route{VRF: Red, Kind: table.RouteNAT}, "203.0.113.16/28")
	s.route(table.Route{VRF: Blue, Kind: table.RouteNAT}, "203.0.113.32/30", "203.0.113.48/28")
	s.route(table.Route{VRF: Red, Kind: table.RouteVia, Segment: Web, Via: addr("10.1.1.20")}, "10.200.1.0/24")
	s.route(table.Route{VRF: Red, Kind: table.RouteVia, Segment: Web, Via: addr("10.1.1.99")}, "10.201.0.0/16")

	s.route(table.Route{VRF: Node, Kind: table.RouteLocal}, "10.1.1.20/32")
	s.route(table.Route{VRF: Node, Kind: table.RouteNAT}, "10.1.1.21/32")
	s.route(table.Route{VRF: Node, Kind: table.RouteNode}, "10.1.1.0/24")
	s.route(table.Route{VRF: Node, Kind: table.RouteNode, Via: addr("10.1.1.1")}, "0.0.0.0/0")
}

func (s set) uplink(id table.PortID, name, address string) {
	s.Uplinks.Put(id, &table.Uplink{
		ID: id, Path: "/infra/tier-0s/t0/locale-services/default/interfaces/" + name, Name: name, VRF: T0,
		Address: netip.MustParsePrefix(address), Attachment: name,
	})
}

func (s set) segment(id table.SegmentID, name string, vrf table.VRFID, realm table.RealmID, gateways ...string) {
	s.Segments.Put(id, &table.Segment{
		ID: id, Path: "/infra/segments/" + name, Name: name, VNI: 70000 + uint32(id), VRF: vrf, Realm: realm,
		Gateways: prefixes(gateways...),
	})
}

func (s set) port(id table.PortID, name string, segment table.SegmentID, addrs ...string) {
	s.Ports.Put(id, &table.Port{
		ID: id, Path: s.Segments.Get(segment).Path + "/ports/" + name, Name: name, Segment: segment, MAC: MAC(id), Attachment: name,
	})
	for _, a := range addrs {
		s.Endpoints.Put(table.EndpointKey{Segment: segment, Addr: addr(a)}, &table.Endpoint{
			Segment: segment, Addr: addr(a), Port: id, MAC: MAC(id),
			Out: []table.RulesetID{RulesAny}, In: []table.RulesetID{RulesAny},
		})
	}
}

// connected adds the routes of segments' subnets and gateways.
func (s set) connected(ids ...table.SegmentID) {
	for _, id := range ids {
		seg := s.Segments.Get(id)
		for _, g := range seg.Gateways {
			s.route(table.Route{VRF: seg.VRF, Kind: table.RouteConnected, Segment: id, Source: seg.Path}, g.Masked().String())
			s.route(table.Route{VRF: seg.VRF, Kind: table.RouteLocal, Source: seg.Path}, g.Addr().String()+"/32")
		}
	}
}

// route adds r for each of dsts.
func (s set) route(r table.Route, dsts ...string) {
	for _, p := range prefixes(dsts...) {
		one := r
		one.Prefix = p
		s.Routes.Put(table.RouteKey{VRF: r.VRF, Prefix: p}, &one)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}
