package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Each row is a first packet and everything that it meets.
func TestSpec7_Paths(t *testing.T) {
	const syn = packet.SYN
	rows := []struct {
		name string
		from table.PortID
		in   packet.Spec
		want string
	}{
		{"same segment",
			testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.30", 80, syn), testset.Web3),
			"spoofguard(201) dfw_out(201 #1007) l2(101) dfw_in(203 #1008) connect(0) deliver(203)"},
		{"same segment, by the router",
			testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.30", 80, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) endpoint(101) dfw_in(203 #1008) connect(0) deliver(203)"},
		{"other segment, jump to application",
			testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.10", 3306, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) endpoint(102) dfw_in(205 #1011) connect(0) deliver(205)"},
		{"excluded port is not filtered",
			testset.DB2, tcp(testset.DB2, "10.1.2.11", 5, "10.1.2.10", 3306, syn),
			"spoofguard(206) route(2) ttl(2) endpoint(102) dfw_in(205 dfw_default_deny)"},
		{"other tenant, translated",
			testset.App2, tcp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 9, syn),
			"spoofguard(208) dfw_out(208 #1013) route(3) ttl(3) snat(3 #2008) route(1) ttl(1) route(2) ttl(2) endpoint(102) connect(0) deliver(206)"},
		{"out, translated once by the Tier-1",
			testset.Web2, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53),
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) connect(0) deliver(214)"},
		{"out, exempt and routed",
			testset.DB1, udp(testset.DB1, "10.1.2.10", 1024, "192.0.2.9", 54),
			"spoofguard(205) dfw_out(205 #1013) route(2) ttl(2) snat(2 #2002) route(1) ttl(1) connect(0) deliver(215)"},
		{"in, translated twice",
			testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn),
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, one to one",
			testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "203.0.113.18", 1000, syn),
			"route(1) ttl(1) dnat(2 #2003) route(2) ttl(2) endpoint(101) dfw_in(203 #1008) connect(0) deliver(203)"},
		{"in, exempt and then nobody",
			testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "203.0.113.19", 80, syn),
			"route(1) ttl(1) dnat(2 #2006) route(2) local(2 no_listener)"},
		{"rows of another uplink do not count",
			testset.UplinkWest, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn),
			"route(1) local(1 no_listener)"},
		{"other service of a translated address",
			testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 81, syn),
			"dnat(1 #2010) route(1) ttl(1) route(2) local(2 no_listener)"},
		{"pod to pod",
			testset.Pod1, tcp(testset.Pod1, "10.200.1.10", 5, "10.200.1.11", 80, syn),
			"spoofguard(210) dfw_out(210 #1013) route(4) ttl(4) endpoint(105) dfw_in(211 #1013) connect(0) deliver(211)"},
		{"pod to a machine on the node's link: not by the gateway",
			testset.Pod1, tcp(testset.Pod1, "10.200.1.10", 40000, "10.1.1.10", 80, syn),
			"spoofguard(210) dfw_out(210 #1013) route(4) ttl(4) snat(4 #2013) spoofguard(204) dfw_out(204 #1013) l2(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"pod with an egress, to another segment",
			testset.Pod2, tcp(testset.Pod2, "10.200.1.11", 40000, "10.1.2.11", 80, syn),
			"spoofguard(211) dfw_out(211 #1013) route(4) ttl(4) snat(4 #2012) spoofguard(204) dfw_out(204 #1013) route(2) ttl(2) endpoint(102) connect(0) deliver(206)"},
		{"to a pod by the route through its node",
			testset.DB1, tcp(testset.DB1, "10.1.2.10", 5, "10.200.1.10", 80, syn),
			"spoofguard(205) dfw_out(205 #1013) route(2) ttl(2) endpoint(101) dfw_in(204 #1013) route(4) ttl(4) endpoint(105) dfw_in(210 #1013) connect(0) deliver(210)"},
		{"to a node port, bridged to the node",
			testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.20", 30080, syn), testset.NodeUp),
			"spoofguard(201) dfw_out(201 #1007) l2(101) dfw_in(204 #1013) dnat(4 #2014) route(4) ttl(4) endpoint(105) dfw_in(210 #1013) connect(0) deliver(210)"},
		{"to the node itself",
			testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.20", 22, syn), testset.NodeUp),
			"spoofguard(201) dfw_out(201 #1007) l2(101) dfw_in(204 #1013) route(4) local(4 no_listener)"},
		{"segment without a router",
			testset.Lan1, tcp(testset.Lan1, "10.9.0.1", 5, "10.1.2.10", 80, syn),
			"spoofguard(212) dfw_out(212 #1013) l2(106 no_gateway)"},
		{"MAC and address of different ports",
			testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.11", 80, syn), testset.Web3),
			"spoofguard(201) dfw_out(201 #1001 dfw_rule)"},
		{"MAC of another port",
			testset.Web2, to(tcp(testset.Web2, "10.1.1.11", 5, "10.1.1.10", 80, syn), testset.Web3),
			"spoofguard(202) dfw_out(202 #1007) l2(101 mac_unknown)"},
		{"MAC of nobody: zero is no wildcard",
			testset.Web2, func() packet.Spec {
				s := tcp(testset.Web2, "10.1.1.11", 5, "10.1.1.10", 80, syn)
				s.EthDst = packet.MAC{}
				return s
			}(),
			"spoofguard(202) dfw_out(202 #1007) l2(101 mac_unknown)"},
		{"no route",
			testset.DB1, tcp(testset.DB1, "10.1.2.10", 5, "10.7.0.1", 80, syn),
			"spoofguard(205) dfw_out(205 #1013) route(2) ttl(2) snat(2 #2001) route(1) ttl(1) route(1 no_route)"},
		{"from a Tier-1 with an address that it does not advertise",
			testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.7.0.1", 80, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) snat(2 #2001) urpf(1 urpf)"},
		{"from above and up again",
			testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "198.18.0.1", 80, syn),
			"route(1) ttl(1) route(1 no_route)"},
		{"no endpoint",
			testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.99", 80, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) endpoint(102 no_endpoint)"},
		{"no endpoint for the next hop",
			testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.201.0.1", 80, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) endpoint(101 no_endpoint)"},
		{"from outside with an inner address",
			testset.UplinkEast, tcp(outside, "10.1.2.10", 5, "203.0.113.17", 80, syn),
			"urpf(1 urpf)"},
		{"from outside with the router's own address",
			testset.UplinkEast, tcp(outside, "192.0.2.2", 5, "203.0.113.17", 80, syn),
			"urpf(1 urpf)"},
		{"from a Tier-1 with an address of another",
			testset.App1, tcp(testset.App1, "10.1.1.10", 5, "203.0.113.50", 80, syn),
			"spoofguard(207) dfw_out(207 #1013) route(3) local(3 no_listener)"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			res := newFabric(t).send(r.from, r.in)
			if d := cmp.Diff(r.want, path(res)); d != "" {
				t.Errorf("%s by %d: %s", res.Verdict, res.Out, d)
			}
		})
	}
}

// Blue sends with an address that the Tier-0 routes elsewhere, or not at all.
func TestSpec7_URPFFromATier1IsStrict(t *testing.T) {
	rows := []struct {
		name, src string
		change    func(*table.Set)
	}{
		{"down to red", "10.1.2.10", func(*table.Set) {}},
		{"to an uplink", "192.0.2.9", func(*table.Set) {}},
		{"discarded", "10.9.9.9", func(*table.Set) {}},
		{"of the Tier-0 itself", "198.51.100.2", func(*table.Set) {}},
		{"of the Tier-0's NAT", "192.0.2.100", func(*table.Set) {}},
		{"nowhere", "192.0.2.9", func(s *table.Set) { s.Routes.Delete(table.RouteKey{VRF: testset.T0, Prefix: prefix("0.0.0.0/0")}) }},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			f.apply(func(s *table.Set) {
				k := table.EndpointKey{Segment: testset.DMZ, Addr: addr(r.src)}
				e := *s.Endpoints.Get(table.EndpointKey{Segment: testset.DMZ, Addr: addr("172.16.3.10")})
				e.Addr = k.Addr
				s.Endpoints.Put(k, &e)
				r.change(s)
			})
			res := f.drop(testset.DMZ1, udp(testset.DMZ1, r.src, 1, "198.18.0.9", 2), ReasonURPF)
			if got, want := path(res), "spoofguard(209) dfw_out(209 #1013) route(3) ttl(3) urpf(1 urpf)"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestSpec7_URPFAtTheNode(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		k := table.EndpointKey{Segment: testset.Web, Addr: addr("10.200.1.11")}
		e := *s.Endpoints.Get(table.EndpointKey{Segment: testset.Web, Addr: addr("10.1.1.11")})
		e.Addr = k.Addr
		s.Endpoints.Put(k, &e)
	})
	res := f.drop(testset.Web2, to(tcp(testset.Web2, "10.200.1.11", 1, "10.1.1.20", 30080, packet.SYN), testset.NodeUp), ReasonURPF)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageURPF || s.ID != uint32(testset.Node) {
		t.Error(path(res))
	}
}

func TestSpec7_RouterLoopAfterEightRouters(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		k := table.RouteKey{VRF: testset.Red, Prefix: prefix("10.7.0.0/16")}
		s.Routes.Put(k, &table.Route{VRF: testset.Red, Prefix: k.Prefix, Kind: table.RouteDown, To: testset.Red, Via: addr("100.64.0.1")})
	})
	res := f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "10.7.0.1", 2), ReasonURPF)
	if res.Steps[len(res.Steps)-1].Stage != StageURPF {
		t.Error(path(res))
	}
	f.apply(func(s *table.Set) {
		for _, r := range []struct{ vrf, to table.VRFID }{{testset.Red, testset.T0}, {testset.T0, testset.Red}} {
			k := table.RouteKey{VRF: r.vrf, Prefix: prefix("10.7.0.0/16")}
			s.Routes.Put(k, &table.Route{VRF: r.vrf, Prefix: k.Prefix, Kind: table.RouteDown, To: r.to, Via: addr("100.64.0.1")})
		}
		s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: prefix("10.1.1.0/24")})
	})
	res = f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "10.7.0.1", 2), ReasonRouterLoop)
	hops := 0
	for _, s := range res.Steps {
		if s.Stage == StageTTL {
			hops++
		}
	}
	if hops != 8 {
		t.Errorf("%d hops: %s", hops, path(res))
	}
}

func TestSpec7_TTLExceededIsAnsweredFromTheInAddress(t *testing.T) {
	rows := []struct {
		name string
		from table.PortID
		in   packet.Spec
		want []string // who answers at TTL 1, 2, …
	}{
		{"out", testset.Web2, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53), []string{"10.1.1.1", "100.64.0.0"}},
		{"other tenant", testset.App2, udp(testset.App2, "10.1.1.40", 1024, "10.1.2.11", 53), []string{"10.1.1.1", "100.64.0.2", "100.64.0.1"}},
		{"in", testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, packet.SYN), []string{"192.0.2.2", "100.64.0.1"}},
		{"pod, out", testset.Pod1, udp(testset.Pod1, "10.200.1.10", 40000, "192.0.2.9", 53), []string{"10.200.1.1", "10.1.1.1", "100.64.0.0"}},
		{"pod, by its node", testset.DB1, udp(testset.DB1, "10.1.2.10", 40000, "10.200.1.10", 53), []string{"10.1.2.1", "10.1.1.20"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			for _, known := range []bool{false, true} { // as a first packet, and as one of a connection
				for i, want := range append([]string{r.want[0]}, r.want...) {
					res := f.drop(r.from, ttl(r.in, uint8(i)), ReasonTTLExceeded)
					if res.Verdict != Answer || res.Out != r.from {
						t.Fatalf("known %v, TTL %d: %s by %d", known, i, res.Verdict, res.Out)
					}
					p := f.decode(res.Frame)
					if p.Src != addr(want) || p.Dst != r.in.Src || p.ICMPType != packet.ICMPTimeExceeded {
						t.Errorf("known %v, TTL %d: ICMP %d from %s to %s, want from %s", known, i, p.ICMPType, p.Src, p.Dst, want)
					}
				}
				res := f.send(r.from, ttl(r.in, uint8(len(r.want)+1)))
				if res.Verdict != Forward || int(res.Hops) != len(r.want) || f.decode(res.Frame).TTL != 1 {
					t.Fatalf("known %v: %s, %d hops: %s", known, res.Verdict, res.Hops, path(res))
				}
			}
		})
	}
}

func TestSpec7_BridgedFramesKeepMACAndTTL(t *testing.T) {
	f := newFabric(t)
	p := f.forward(testset.Lan1, ttl(to(udp(testset.Lan1, "10.9.0.1", 1, "10.9.0.2", 2), testset.Lan2), 0), testset.Lan2)
	if p.TTL != 0 || p.EthSrc != packet.MAC(testset.MAC(testset.Lan1)) || p.EthDst != packet.MAC(testset.MAC(testset.Lan2)) {
		t.Errorf("TTL %d from %s to %s", p.TTL, p.EthSrc, p.EthDst)
	}
}

func TestSpec7_RoutedFramesComeFromRouterMAC(t *testing.T) {
	f := newFabric(t)
	p := f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), testset.DB2)
	if p.TTL != 63 || p.EthSrc != packet.MAC(table.RouterMAC) || p.EthDst != packet.MAC(testset.MAC(testset.DB2)) {
		t.Errorf("TTL %d from %s to %s", p.TTL, p.EthSrc, p.EthDst)
	}
	// Bridged to the node, and routed by it.
	p = f.forward(testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.20", 30080, packet.SYN), testset.NodeUp), testset.Pod1)
	if p.TTL != 63 || p.EthSrc != packet.MAC(table.RouterMAC) {
		t.Errorf("TTL %d from %s", p.TTL, p.EthSrc)
	}
	if p = f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "192.0.2.9", 54), testset.UplinkWest); p.EthSrc != (packet.MAC{}) || p.EthDst != (packet.MAC{}) {
		t.Errorf("to an uplink from %s to %s, want zero", p.EthSrc, p.EthDst)
	}
}

func TestSpec7_NextHopByHashOfTheOriginalTuple(t *testing.T) {
	f := newFabric(t)
	seen := map[table.NextHopID]int{}
	for port := range uint16(64) {
		in := udp(testset.DB1, "10.1.2.10", 2000+port, "192.0.2.9", 53)
		res := f.send(testset.DB1, in)
		want := testset.East
		if Hash(packet.Tuple{Src: in.Src, Dst: in.Dst, Proto: packet.UDP, SrcPort: in.SrcPort, DstPort: 53})%2 == 1 {
			want = testset.West
		}
		if res.NextHop != want || res.Out != f.set.NextHops.Get(want).Uplink {
			t.Fatalf("port %d: next hop %d by %d, want %d", in.SrcPort, res.NextHop, res.Out, want)
		}
		seen[want]++
	}
	if len(seen) != 2 {
		t.Errorf("next hops used: %v", seen)
	}
}
