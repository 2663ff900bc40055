package ebpf

import (
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/table"
)

const (
	redPort     table.PortID = 11
	bluePort    table.PortID = 12
	malloryPort table.PortID = 13
	uplinkPort  table.PortID = 21
)

var (
	redAddr     = netip.MustParseAddr("10.244.0.18")
	malloryAddr = netip.MustParseAddr("10.244.0.19")
	blueAddr    = netip.MustParseAddr("10.244.0.67")
	outsideAddr = netip.MustParseAddr("192.0.2.1")
	snatAddr    = netip.MustParseAddr("203.0.113.16")
	blueWeb     = netip.AddrPortFrom(blueAddr, 80)
)

func mac(last byte) table.MAC { return table.MAC{4, 0x50, 0x56, 0, 0, last} }

// testSet is red and blue, each a Tier-1 with one segment and one port, under
// one Tier-0; allow says whether blue accepts port 80.
func testSet(allow bool) *table.Set {
	s := table.NewSet("host1")
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	action := table.Drop
	if allow {
		action = table.Allow
	}
	s.Rulesets.Put(1, &table.Ruleset{ID: 1, Rules: []*table.Rule{{ID: 2, Name: "any", Action: table.Allow, AnyRemote: true}}})
	s.Rulesets.Put(2, &table.Ruleset{ID: 2, Rules: []*table.Rule{
		{ID: 1005, Name: "web", Action: action, AnyRemote: true, Services: []table.Service{{Proto: 6, First: 80, Last: 80}}},
		{ID: 2, Name: "any", Action: table.Allow, AnyRemote: true},
	}})
	s.VRFs.Put(1, &table.VRF{ID: 1, Kind: table.Tier0, Path: "/infra/tier-0s/t0"})
	tenant := func(vrf table.VRFID, seg table.SegmentID, port table.PortID, net, gw, addr string, t0, t1 string, in table.RulesetID) {
		s.VRFs.Put(vrf, &table.VRF{ID: vrf, Kind: table.Tier1, Path: fmt.Sprintf("/infra/tier-1s/t%d", vrf)})
		s.Segments.Put(seg, &table.Segment{ID: seg, Path: fmt.Sprintf("/infra/segments/s%d", seg), VRF: vrf, Gateways: []netip.Prefix{netip.PrefixFrom(a(gw), p(net).Bits())}})
		s.Ports.Put(port, &table.Port{ID: port, Path: fmt.Sprintf("/infra/segments/s%d/ports/p", seg), Segment: seg, MAC: mac(byte(port))})
		s.Endpoints.Put(table.EndpointKey{Segment: seg, Addr: a(addr)}, &table.Endpoint{
			Segment: seg, Addr: a(addr), Port: port, MAC: mac(byte(port)),
			Out: []table.RulesetID{1}, In: []table.RulesetID{in},
		})
		route := func(r table.Route) { s.Routes.Put(table.RouteKey{VRF: r.VRF, Prefix: r.Prefix}, &r) }
		route(table.Route{VRF: vrf, Prefix: p(net), Kind: table.RouteConnected, Segment: seg})
		route(table.Route{VRF: vrf, Prefix: netip.PrefixFrom(a(gw), 32), Kind: table.RouteLocal})
		route(table.Route{VRF: vrf, Prefix: netip.PrefixFrom(a(t1), 32), Kind: table.RouteLocal})
		route(table.Route{VRF: vrf, Prefix: p("0.0.0.0/0"), Kind: table.RouteUp, To: 1, Via: a(t0)})
		route(table.Route{VRF: 1, Prefix: p(net), Kind: table.RouteDown, To: vrf, Via: a(t1)})
		route(table.Route{VRF: 1, Prefix: netip.PrefixFrom(a(t0), 32), Kind: table.RouteLocal})
	}
	tenant(2, 1, redPort, "10.244.0.16/28", "10.244.0.17", "10.244.0.18", "100.64.144.0", "100.64.144.1", 1)
	tenant(3, 2, bluePort, "10.244.0.64/28", "10.244.0.65", "10.244.0.67", "100.64.200.0", "100.64.200.1", 2)
	return s
}

// openSet is testSet(allow) with mallory beside red on one segment, and an
// uplink of the Tier-0. Red's segment leaves by snatAddr, with source ports
// first to last.
func openSet(allow bool, first, last uint16) *table.Set {
	s := testSet(allow)
	p := netip.MustParsePrefix
	s.Ports.Put(malloryPort, &table.Port{ID: malloryPort, Path: "/infra/segments/s1/ports/m", Segment: 1, MAC: mac(byte(malloryPort))})
	s.Endpoints.Put(table.EndpointKey{Segment: 1, Addr: malloryAddr}, &table.Endpoint{
		Segment: 1, Addr: malloryAddr, Port: malloryPort, MAC: mac(byte(malloryPort)),
		Out: []table.RulesetID{1}, In: []table.RulesetID{1},
	})
	s.Uplinks.Put(uplinkPort, &table.Uplink{ID: uplinkPort, Path: "/infra/tier-0s/t0/up", VRF: 1, Address: p("192.0.2.2/24")})
	s.NextHops.Put(31, &table.NextHop{ID: 31, Uplink: uplinkPort, Addr: outsideAddr})
	s.NextHops.Put(32, &table.NextHop{ID: 32, Uplink: uplinkPort})
	route := func(r table.Route) { s.Routes.Put(table.RouteKey{VRF: r.VRF, Prefix: r.Prefix}, &r) }
	route(table.Route{VRF: 1, Prefix: p("0.0.0.0/0"), Kind: table.RouteUplink, NextHops: []table.NextHopID{31}})
	route(table.Route{VRF: 1, Prefix: p("192.0.2.0/24"), Kind: table.RouteUplink, NextHops: []table.NextHopID{32}})
	route(table.Route{VRF: 1, Prefix: p("192.0.2.2/32"), Kind: table.RouteLocal})
	pool := netip.PrefixFrom(snatAddr, 32)
	route(table.Route{VRF: 1, Prefix: pool, Kind: table.RouteDown, To: 2, Via: netip.MustParseAddr("100.64.144.1")})
	route(table.Route{VRF: 2, Prefix: pool, Kind: table.RouteNAT})
	out := table.NATKey{VRF: 2, Dir: table.NATOut}
	s.NAT.Put(out, &table.NATList{Key: out, Rules: []table.NATRule{
		{ID: 41, Action: table.NATExempt, Dst: p("10.0.0.0/8")},
		{ID: 42, Action: table.NATTranslate, Src: p("10.244.0.16/28"), To: pool, PortFirst: first, PortLast: last},
	}})
	return s
}

// The ports that the two sides of a coin tell apart, see coin.
const (
	headsPort = 80 // only sets[0] lets it through
	tailsPort = 81 // only sets[1] does
	bothPort  = 82
	mixPort   = 90 // red may send it by one and blue receive it by the other
)

// coin returns two Sets that differ in every map and in many rows. No packet
// to mixPort passes either of them, but it passes red's side of one and blue's
// of the other. Both name the ports of testSet.
func coin() [2]*table.Set {
	return [2]*table.Set{coinSide(headsPort, false), coinSide(tailsPort, true)}
}

func coinSide(port uint16, mixOut bool) *table.Set {
	s := testSet(true)
	s.Rulesets = table.MapOf(map[table.RulesetID]*table.Ruleset{})
	judge := func(id table.RulesetID, mix bool) {
		actions := map[bool]table.RuleAction{true: table.Allow, false: table.Drop}
		tcpUDP := func(p uint16) []table.Service {
			return []table.Service{{Proto: 6, First: p, Last: p}, {Proto: 17, First: p, Last: p}}
		}
		s.Rulesets.Put(id, &table.Ruleset{ID: id, Rules: []*table.Rule{
			{ID: 101, Action: table.Allow, AnyRemote: true, Services: tcpUDP(port)},
			{ID: 102, Action: table.Allow, AnyRemote: true, Services: tcpUDP(bothPort)},
			{ID: 103, Action: actions[mix], AnyRemote: true, Services: tcpUDP(mixPort)},
			{ID: 104, Action: table.Allow, Remote: []table.AddrSetID{table.AddrSetID(port)}, Services: []table.Service{{Proto: 1, Last: 65535}}},
			{ID: 105, Action: table.Drop, AnyRemote: true},
		}})
	}
	judge(1, mixOut)
	judge(2, !mixOut)
	s.AddrSets.Put(table.AddrSetID(port), &table.AddrSet{ID: table.AddrSetID(port), Addrs: []table.RealmPrefix{
		{Realm: table.AnyRealm, Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", port))},
	}})
	if mixOut { // a longer prefix than the other's for what must never stop
		p := netip.PrefixFrom(blueAddr, 32)
		s.Routes.Put(table.RouteKey{VRF: 1, Prefix: p}, &table.Route{VRF: 1, Prefix: p, Kind: table.RouteDown, To: 3, Via: netip.MustParseAddr("100.64.200.1")})
	}
	fill(s, byte(port))
	return s
}

// fill adds rows that only this side has, so that a change takes a while.
func fill(s *table.Set, side byte) {
	for i := range 600 {
		a := netip.AddrFrom4([4]byte{172, side, byte(i >> 8), byte(i)})
		s.Endpoints.Put(table.EndpointKey{Segment: 1, Addr: a}, &table.Endpoint{
			Segment: 1, Addr: a, Port: redPort, MAC: mac(byte(redPort)), Out: []table.RulesetID{1}, In: []table.RulesetID{1},
		})
		r := &table.Route{VRF: 2, Prefix: netip.PrefixFrom(a, 32), Kind: table.RouteDiscard}
		s.Routes.Put(table.RouteKey{VRF: 2, Prefix: r.Prefix}, r)
	}
	id := table.NextHopID(side)
	s.NextHops.Put(id, &table.NextHop{ID: id, Uplink: uplinkPort, Addr: outsideAddr})
	s.VRFs.Put(table.VRFID(side), &table.VRF{ID: table.VRFID(side), Kind: table.Tier1, Path: "/infra/tier-1s/side"})
	s.Segments.Put(table.SegmentID(side), &table.Segment{ID: table.SegmentID(side), Path: "/infra/segments/side"})
	k := table.NATKey{VRF: table.VRFID(side), Dir: table.NATOut}
	s.NAT.Put(k, &table.NATList{Key: k, Rules: []table.NATRule{
		{ID: 51, Action: table.NATTranslate, Src: netip.PrefixFrom(redAddr, 32), To: netip.PrefixFrom(snatAddr, 32)},
	}})
	balance(s, side)
}

// balance adds a virtual server and a gateway's rules that no packet meets.
func balance(s *table.Set, side byte) {
	vip := table.VIPKey{VRF: table.VRFID(side), Addr: netip.AddrFrom4([4]byte{172, side, 255, 1})}
	s.VIPs.Put(vip, &table.VIP{Key: vip, Servers: []*table.VirtualServer{
		{ID: table.VirtualServerID(side), Path: "/infra/lb-virtual-servers/side", Services: []table.Service{{Proto: 6, First: 80, Last: 80}}, Pool: table.PoolID(side)},
	}})
	s.Pools.Put(table.PoolID(side), &table.Pool{
		ID: table.PoolID(side), Path: "/infra/lb-pools/side", Algorithm: table.RoundRobin,
		Members: []table.Member{{ID: table.MemberID(side), Addr: redAddr, Port: 80, Weight: 1, Admin: table.MemberEnabled}},
	})
	for id := range s.AddrSets.All() {
		rs := table.RulesetID(1000 + uint32(side))
		s.Rulesets.Put(rs, &table.Ruleset{ID: rs, Name: "gateway", Gateway: true, Rules: []*table.Rule{
			{ID: 201, Action: table.Allow, Remote: []table.AddrSetID{id}},
			{ID: 202, Action: table.Drop, AnyRemote: true, Dst: []table.AddrSetID{id}},
		}})
	}
}
