package bpftest_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/bpftest"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// siege is a Judge on the test set with load balancers, with words for attacks:
// what it says holds for the kernel's programs and for pipeline.
type siege struct {
	t *testing.T
	*bpftest.Judge
}

func newSiege(t *testing.T, change ...func(*table.Set)) siege {
	t.Helper()
	return siege{t, bpftest.New(t, besieged(change...), true)}
}

func besieged(change ...func(*table.Set)) *table.Set {
	s := testset.WithLB()
	for _, c := range change {
		c(s)
	}
	return s
}

// outside is what packets by an uplink come from.
const outside table.PortID = 999

const everything = packet.FIN | packet.SYN | packet.RST | packet.ACK | 0x28

func segment(from table.PortID, src string, sport uint16, dst string, dport uint16, flags packet.Flags) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.SrcPort, s.DstPort, s.Flags, s.Seq, s.Ack = packet.TCP, sport, dport, flags, 100, 200
	return s
}

func datagram(from table.PortID, src string, sport uint16, dst string, dport uint16) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.SrcPort, s.DstPort, s.Payload = packet.UDP, sport, dport, []byte("sixteen bytes ..")
	return s
}

// passes sends a packet and demands that it is forwarded to a device.
func (s siege) passes(from table.PortID, p packet.Spec, to table.PortID) pipeline.Result {
	s.t.Helper()
	res := *s.Run(from, packet.Build(p))
	if res.Verdict != pipeline.Forward || res.Out != to {
		s.t.Fatalf("%s %s by %d, want forward by %d", res.Verdict, res.Reason, res.Out, to)
	}
	return res
}

// stops sends a packet and demands that it goes nowhere, for a reason.
func (s siege) stops(from table.PortID, p packet.Spec, why pipeline.Reason) {
	s.t.Helper()
	res := s.Run(from, packet.Build(p))
	if res.Verdict == pipeline.Forward || res.Reason != why {
		s.t.Errorf("%s to %s: %s %s by %d as %s, want %s", p.Src, p.Dst, res.Verdict, res.Reason, res.Out, res.Translated, why)
	}
}

// waits sends a fragment and demands that it is held, and nothing goes.
func (s siege) waits(from table.PortID, p packet.Spec) {
	s.t.Helper()
	if res := s.Run(from, packet.Build(p)); res.Verdict != pipeline.Hold {
		s.t.Errorf("%s %s by %d, want it held", res.Verdict, res.Reason, res.Out)
	}
}

// answer is what the receiver of a forwarded packet sends back.
func answer(res pipeline.Result, flags packet.Flags) packet.Spec {
	r := res.Translated.Reversed()
	return segment(res.Out, r.Src.String(), r.SrcPort, r.Dst.String(), r.DstPort, flags)
}

// opened is a connection of Web1 with one of red's virtual servers.
func (s siege) opened(sport uint16, member table.PortID) pipeline.Result {
	s.t.Helper()
	res := s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", sport, "203.0.113.24", 80, packet.SYN), member)
	res.Frame = nil
	s.passes(member, answer(res, packet.SYN|packet.ACK), testset.Web1)
	s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", sport, "203.0.113.24", 80, packet.ACK), member)
	return res
}

func autoMap(id table.PoolID) func(*table.Set) {
	return func(s *table.Set) { s.Pools.Get(id).SNAT = table.SNATAutoMap }
}

// Nobody but the two sides speaks in a connection that a virtual server took:
// not another member, not another client, not who knows all its numbers.
func TestHostileStrangers(t *testing.T) {
	for name, change := range map[string]func(*table.Set){"client's source": func(*table.Set) {}, "VIP's source": autoMap(testset.PoolSrv)} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t, change)
			res := s.opened(5000, testset.Srv1)
			seen := res.Translated.Src.String()
			quoted := packet.Quote(packet.Build(segment(testset.Web1, seen, 5000, "10.1.3.11", 8080, packet.ACK)))
			asked := packet.Quote(packet.Build(segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 80, packet.ACK)))
			for _, flags := range []packet.Flags{packet.RST, packet.RST | packet.ACK, packet.FIN | packet.ACK, packet.ACK, packet.SYN | packet.ACK, everything} {
				foreign := pipeline.ReasonURPF
				if flags&packet.RST != 0 {
					foreign = pipeline.ReasonTCPState
				}
				// in the member's name, or the virtual server's
				s.stops(testset.Srv2, segment(testset.Srv2, "10.1.3.11", 8080, seen, 5000, flags), pipeline.ReasonSpoofguard)
				s.stops(testset.Srv2, segment(testset.Srv2, "203.0.113.24", 80, "10.1.1.10", 5000, flags), pipeline.ReasonSpoofguard)
				s.stops(testset.UplinkEast, segment(outside, "203.0.113.24", 80, "10.1.1.10", 5000, flags), foreign)
				s.stops(testset.UplinkEast, segment(outside, "10.1.3.11", 8080, seen, 5000, flags), foreign)
				// in the client's
				s.stops(testset.Web2, segment(testset.Web2, "10.1.1.10", 5000, "203.0.113.24", 80, flags), pipeline.ReasonSpoofguard)
				s.stops(testset.App1, segment(testset.App1, "203.0.113.24", 5000, "10.1.3.11", 8080, flags), pipeline.ReasonSpoofguard)
				s.stops(testset.UplinkWest, segment(outside, "203.0.113.24", 5000, "10.1.3.11", 8080, flags), foreign)
			}
			for _, kind := range []uint8{packet.ICMPUnreachable, packet.ICMPTimeExceeded, packet.ICMPParameter} {
				for from, src := range map[table.PortID]string{testset.Srv2: "10.1.3.12", testset.Web2: "10.1.1.11", testset.App1: "10.1.1.10", testset.UplinkEast: "198.18.0.9"} {
					for _, q := range [][]byte{quoted, asked} {
						for _, dst := range []string{seen, "10.1.1.10", "203.0.113.24", "10.1.3.11"} {
							if src == dst {
								continue
							}
							p := testset.Spec(from, src, dst)
							p.Proto, p.ICMPType, p.ICMPCode, p.Quoted = packet.ICMP, kind, 4, q
							s.stops(from, p, pipeline.ReasonICMPUnrelated)
						}
					}
				}
			}
			s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 80, packet.ACK), testset.Srv1)
			s.passes(testset.Srv1, answer(res, packet.ACK), testset.Web1)
			s.Compare()
		})
	}
}

// Clients with one source port at one VIP, and SNAT with the VIP's address,
// each get their own answers.
func TestHostileCollisions(t *testing.T) {
	s := newSiege(t, autoMap(testset.PoolDNS), func(s *table.Set) {
		out := s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules
		for i := range out {
			if out[i].ID == testset.NATRed {
				out[i].To = netip.PrefixFrom(testset.VIPRed, 32)
			}
		}
	})
	clients := map[table.PortID]string{testset.Web1: "10.1.1.10", testset.Web2: "10.1.1.11", testset.DB2: "10.1.2.11", testset.Srv2: "10.1.3.12", testset.Srv3: "10.1.3.13"}
	taken := map[packet.Tuple]table.PortID{}
	for from, src := range clients {
		res := s.passes(from, datagram(from, src, 5000, "203.0.113.24", 53), testset.Srv1)
		if was, ok := taken[res.Translated]; ok {
			t.Fatalf("%d and %d are both %s", was, from, res.Translated)
		}
		taken[res.Translated] = from
	}
	for tuple, from := range taken {
		back := s.passes(testset.Srv1, datagram(testset.Srv1, "10.1.3.11", 53, "203.0.113.24", tuple.SrcPort), from)
		if got := back.Translated.String(); got != "203.0.113.24:53 > "+clients[from]+":5000/udp" {
			t.Errorf("%d gets %s", from, got)
		}
	}
	// A port of the VIP that nobody has is no way in; who holds the SYN may not
	// take over what is there.
	s.stops(testset.Srv1, datagram(testset.Srv1, "10.1.3.11", 53, "203.0.113.24", 9), pipeline.ReasonNoListener)
	s.stops(testset.Srv2, datagram(testset.Srv2, "10.1.3.11", 53, "203.0.113.24", 5000), pipeline.ReasonSpoofguard)
	s.Compare()
}

// Rules for what came by a virtual server match nothing else.
func TestHostileViaVIP(t *testing.T) {
	s := newSiege(t, func(s *table.Set) {
		s.Rulesets.Put(690, &table.Ruleset{ID: 690, Rules: []*table.Rule{{ID: 1690, Action: table.Allow, AnyRemote: true, ViaVIP: true}}})
		for _, a := range []string{"10.1.3.11", "10.1.3.12"} {
			s.Endpoints.Get(table.EndpointKey{Segment: testset.Srv, Addr: netip.MustParseAddr(a)}).In = []table.RulesetID{690}
		}
		dnat := &s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0]
		dnat.To, dnat.Service, dnat.ToPort = netip.MustParsePrefix("10.1.3.11/32"), table.Service{}, 8080
	})
	denied := pipeline.ReasonDFWDefaultDeny
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5, "10.1.3.11", 8080, packet.SYN), denied)
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5, "10.1.3.11", 8080, packet.SYN), denied)
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5, "203.0.113.17", 80, packet.SYN), denied) // DNAT
	s.stops(testset.Srv2, segment(testset.Srv2, "10.1.3.12", 5, "10.96.0.10", 80, packet.SYN), denied)     // distributed
	bridged := segment(testset.Srv3, "10.1.3.13", 5, "10.1.3.11", 8080, packet.SYN)
	bridged.EthDst = packet.MAC(testset.MAC(testset.Srv1))
	s.stops(testset.Srv3, bridged, denied)
	s.stops(testset.Web1, segment(testset.Web1, "10.1.9.2", 5, "10.1.3.11", 8080, packet.SYN), pipeline.ReasonSpoofguard) // the monitor's name
	s.stops(testset.UplinkEast, segment(outside, "10.1.9.2", 5, "10.1.3.11", 8080, packet.SYN), pipeline.ReasonURPF)
	s.passes(testset.Mon1, segment(testset.Mon1, "10.1.9.2", 5, "10.1.3.11", 8080, packet.SYN), testset.Srv1)
	s.opened(5000, testset.Srv1)
	// a connection that began at the VIP is no way in for others of its client
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000, "10.1.3.11", 8080, packet.ACK), denied)
}

// A VIP that is not advertised, or another tenant's VIP of the same address, is
// reached by nobody above; a member without a route is not looked for elsewhere.
func TestHostileTenants(t *testing.T) {
	const inner = "10.255.0.1"
	both := func(s *table.Set) {
		for vrf, pool := range map[table.VRFID]table.PoolID{testset.Red: testset.PoolSrv, testset.Blue: testset.PoolFar} {
			k := table.VIPKey{VRF: vrf, Addr: netip.MustParseAddr(inner)}
			v := &table.VirtualServer{ID: 800 + table.VirtualServerID(vrf), Path: fmt.Sprint("/v", vrf), Services: []table.Service{{Proto: 6, First: 1, Last: 65535}}, Pool: pool, MemberPort: 8080}
			s.VIPs.Put(k, &table.VIP{Key: k, Servers: []*table.VirtualServer{v}})
			p := netip.PrefixFrom(k.Addr, 32)
			s.Routes.Put(table.RouteKey{VRF: vrf, Prefix: p}, &table.Route{VRF: vrf, Prefix: p, Kind: table.RouteVIP})
		}
	}
	s := newSiege(t, both)
	s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", 5, inner, 65535, packet.SYN), testset.Srv1)
	s.passes(testset.App1, segment(testset.App1, "10.1.1.10", 5, inner, 1, packet.SYN), testset.Far1)
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5, inner, 80, packet.SYN), pipeline.ReasonNoRoute)
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5, inner, 0, packet.SYN), pipeline.ReasonNoListener)
	s.stops(testset.UplinkEast, segment(outside, inner, 80, "10.1.1.10", 5, packet.SYN|packet.ACK), pipeline.ReasonNoRoute)

	// A member that blue alone has: red's virtual server does not find it.
	s.Apply(besieged(both, func(s *table.Set) {
		p := s.Pools.Get(testset.PoolSrv)
		p.Members = p.Members[:1]
		p.Members[0].Addr = netip.MustParseAddr("10.1.1.40")
	}))
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 6, inner, 80, packet.SYN), pipeline.ReasonNoEndpoint)
	s.Compare()
}

// Red may give connections any source, but a Tier-0 that has not seen them yet
// lets only red's own addresses up.
func TestHostileSources(t *testing.T) {
	s := newSiege(t)
	for _, addr := range []string{"198.18.0.77", "172.16.3.10", "10.1.1.10", "203.0.113.33", "192.0.2.2", "192.0.2.200"} {
		s.Apply(besieged(func(s *table.Set) {
			p := s.Pools.Get(testset.PoolFar)
			p.SNAT, p.SNATAddrs = table.SNATPool, []netip.Addr{netip.MustParseAddr(addr)}
		}))
		s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 443, packet.SYN), pipeline.ReasonURPF)
	}
}

// only lets nobody but the addresses of one set ask Far1, at blue.
func only(realm table.RealmID, addr string) func(*table.Set) {
	return func(s *table.Set) {
		s.AddrSets.Put(590, &table.AddrSet{ID: 590, Addrs: []table.RealmPrefix{{Realm: realm, Prefix: netip.MustParsePrefix(addr + "/32")}}})
		s.Rulesets.Put(690, &table.Ruleset{ID: 690, Rules: []*table.Rule{{ID: 1690, Action: table.Allow, Remote: []table.AddrSetID{590}}}})
		s.Endpoints.Get(table.EndpointKey{Segment: testset.DMZ, Addr: netip.MustParseAddr("172.16.3.20")}).In = []table.RulesetID{690}
	}
}

// far makes the members of red's virtual server, which are blue's, see an address.
func far(addr string) func(*table.Set) {
	return func(s *table.Set) {
		p := s.Pools.Get(testset.PoolFar)
		p.SNAT, p.SNATAddrs = table.SNATPool, []netip.Addr{netip.MustParseAddr(addr)}
	}
}

// One tenant's load balancer gives its clients the address of somebody whom
// another tenant lets in.
func TestHostileIdentity(t *testing.T) {
	for name, who := range map[string]struct {
		realm table.RealmID
		addr  string
	}{
		"somebody outside":          {table.AnyRealm, "198.18.0.77"},
		"a workload of that tenant": {testset.RealmBlue, "172.16.3.10"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t, only(who.realm, who.addr), far(who.addr))
			s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5000, "203.0.113.24", 443, packet.SYN), pipeline.ReasonURPF)
		})
	}
}

// A client makes a healthy member look failed: its SYN does not reach the
// member's stack (a wrong checksum), its ACK does, and gets a reset.
func TestHostileResets(t *testing.T) {
	s := newSiege(t)
	for i := range uint16(3) {
		res := s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000+i, "203.0.113.24", 80, packet.SYN), testset.Srv1+table.PortID(i))
		s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000+i, "203.0.113.24", 80, packet.ACK), res.Out)
		s.passes(res.Out, answer(res, packet.RST), testset.Web1)
	}
	s.Compare()
	for _, m := range []table.MemberID{testset.MemberSrv1, testset.MemberSrv2, testset.MemberSrv3} {
		if n := s.Fails(m); n != 0 {
			t.Errorf("member %d: %d fails", m, n)
		}
	}
}

// A client says that its connections are over, and goes on.
func TestHostileLimit(t *testing.T) {
	for name, flags := range map[string]packet.Flags{"FIN": packet.FIN | packet.ACK, "RST": packet.RST} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t, func(s *table.Set) {
				for _, v := range s.VIPs.Get(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed}).Servers {
					v.MaxConns = 2
				}
			})
			ask := func(sport uint16, f packet.Flags) packet.Spec {
				return segment(testset.Web1, "10.1.1.10", sport, "203.0.113.24", 80, f)
			}
			open := []pipeline.Result{s.opened(5000, testset.Srv1), s.opened(5001, testset.Srv2)}
			for i, res := range open {
				s.passes(testset.Web1, ask(5000+uint16(i), flags), res.Out)
			}
			for range 3 { // the member has not listened
				s.Clock(60)
				for i, res := range open {
					s.passes(testset.Web1, ask(5000+uint16(i), packet.ACK), res.Out)
					s.passes(res.Out, answer(res, packet.ACK), testset.Web1)
				}
				s.Sweep()
				s.stops(testset.Web1, ask(5002, packet.SYN), pipeline.ReasonLBLimit)
			}
			s.Compare()
			s.Clock(130) // silent, they are over
			s.Sweep()
			s.passes(testset.Web1, ask(5002, packet.SYN), testset.Srv3)
			s.Compare()
		})
	}
}

// An access list that does not let a client in any more cuts its connections.
func TestHostileAccess(t *testing.T) {
	s := newSiege(t)
	res := s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 80, packet.SYN), testset.Srv1)
	s.passes(res.Out, answer(res, packet.SYN|packet.ACK), testset.Web1)
	s.Apply(besieged(func(s *table.Set) {
		s.Rulesets.Put(691, &table.Ruleset{ID: 691, Rules: []*table.Rule{{ID: 1691, Action: table.Drop, AnyRemote: true}}})
		for _, v := range s.VIPs.Get(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed}).Servers {
			v.Access = 691
		}
	}))
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 80, packet.ACK), pipeline.ReasonLBAccess)
}

// A monitor's port takes nothing but answers.
func TestHostileAskers(t *testing.T) {
	s := newSiege(t, func(s *table.Set) { // the Tier-0 knows the way, too
		p := netip.MustParsePrefix("10.1.9.0/30")
		s.Routes.Put(table.RouteKey{VRF: testset.T0, Prefix: p}, &table.Route{VRF: testset.T0, Prefix: p, Kind: table.RouteDown, To: testset.Red, Via: netip.MustParseAddr("100.64.0.1")})
	})
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 5, "10.1.9.2", 22, packet.SYN), pipeline.ReasonNoEndpoint)
	s.stops(testset.Srv1, datagram(testset.Srv1, "10.1.3.11", 8080, "10.1.9.2", 5), pipeline.ReasonNoEndpoint)
	s.stops(testset.UplinkEast, datagram(outside, "198.18.0.9", 5, "10.1.9.2", 5), pipeline.ReasonNoEndpoint)
	res := s.passes(testset.Mon1, segment(testset.Mon1, "10.1.9.2", 5, "10.1.3.11", 8080, packet.SYN), testset.Srv1)
	s.passes(testset.Srv1, answer(res, packet.SYN|packet.ACK), testset.Mon1)
	s.stops(testset.Srv2, segment(testset.Srv2, "10.1.3.12", 8080, "10.1.9.2", 5, packet.SYN|packet.ACK), pipeline.ReasonNoEndpoint)
	s.Apply(besieged())
	s.passes(testset.Srv1, answer(res, packet.ACK), testset.Mon1)
	s.Compare()
}

// A virtual server whose member is outside, or another virtual server, or the
// client: every packet ends, each time with a smaller TTL.
func TestHostileHairpins(t *testing.T) {
	member := func(id table.PoolID, a string) func(*table.Set) {
		return func(s *table.Set) {
			p := s.Pools.Get(id)
			p.Members = p.Members[:1]
			p.Members[0].Addr, p.Members[0].Port = netip.MustParseAddr(a), 80
		}
	}
	top := segment(outside, "198.18.0.9", 5, "192.0.2.200", 80, packet.SYN)
	s := newSiege(t, member(testset.PoolSrv, "198.18.0.80"))
	res := s.passes(testset.UplinkEast, top, s.out(top))
	if res.Hops != 1 || packet.Build(top)[22]-res.Frame[22] != 1 {
		t.Errorf("TTL %d after %d hops", res.Frame[22], res.Hops)
	}
	top.TTL, top.SrcPort = 1, 6
	s.stops(testset.UplinkEast, top, pipeline.ReasonTTLExceeded)
	// what comes back for an address that is only outside goes nowhere
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5, "198.18.0.80", 80, packet.SYN), pipeline.ReasonNoRoute)

	// A Tier-0's virtual server, red's, and each other.
	s.Apply(besieged(member(testset.PoolSrv, "203.0.113.24")))
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 7, "192.0.2.200", 80, packet.SYN), pipeline.ReasonNATDepth)
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 7, "203.0.113.24", 80, packet.SYN), pipeline.ReasonNoListener)
	s.Apply(besieged(member(testset.PoolSrv, "192.0.2.200")))
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 8, "192.0.2.200", 80, packet.SYN), pipeline.ReasonNoListener)
	s.stops(testset.Web1, segment(testset.Web1, "10.1.1.10", 8, "203.0.113.24", 80, packet.SYN), pipeline.ReasonURPF)
	s.Apply(besieged(member(testset.PoolCluster, "10.96.0.10")))
	s.stops(testset.Srv1, segment(testset.Srv1, "10.1.3.11", 9, "10.96.0.10", 80, packet.SYN), pipeline.ReasonNoRoute)
	s.Compare()
}

// out finds the uplink that a packet leaves by, without a trace of it.
func (s siege) out(p packet.Spec) table.PortID {
	s.t.Helper()
	return s.Run(testset.UplinkEast, packet.Build(p)).Out
}

// Fragments: ports that a second one brings do not count, what was held follows
// only a first one of the same sender that passes, by the rules of then.
func TestHostileFragments(t *testing.T) {
	piece := func(p packet.Spec, id, offset uint16, more bool) packet.Spec {
		p.ID, p.FragmentOffset, p.MoreFragments = id, offset, more
		return p
	}
	open := datagram(testset.DB2, "10.1.2.11", 9, "10.1.1.10", 5000) // RulesWebIn: udp/5000-5010
	shut := datagram(testset.DB2, "10.1.2.11", 9, "10.1.1.10", 53)
	s := newSiege(t)

	// Another one's held fragment, with all but the sender the same.
	other := datagram(testset.Pod1, "10.200.1.10", 9, "10.1.1.10", 5000)
	s.waits(testset.Pod1, piece(other, 7, 4, false))
	if res := s.passes(testset.DB2, piece(open, 7, 0, true), testset.Web1); len(res.Followers) != 0 {
		t.Errorf("%d of another sender's fragments follow", len(res.Followers))
	}
	s.stops(testset.DB2, piece(datagram(testset.DB2, "10.200.1.10", 9, "10.1.1.10", 5000), 7, 0, true), pipeline.ReasonSpoofguard)

	// First ones that do not pass let nothing follow and leave no row.
	s.waits(testset.DB2, piece(open, 8, 4, false))
	s.stops(testset.DB2, piece(shut, 8, 0, true), pipeline.ReasonDFWDefaultDeny)
	s.waits(testset.DB2, piece(open, 8, 6, false))
	if res := s.passes(testset.DB2, piece(open, 8, 0, true), testset.Web1); len(res.Followers) != 2 {
		t.Errorf("%d followers, want two", len(res.Followers))
	}

	// Overlap: later fragments at any offset, also over the ports, go where the
	// first one went and change no port; one that says other ports is judged.
	for offset := uint16(1); offset < 4; offset++ {
		res := s.passes(testset.DB2, piece(shut, 8, offset, true), testset.Web1)
		if res.Key.Tuple.DstPort != 5000 {
			t.Errorf("offset %d: as %s", offset, res.Key.Tuple)
		}
	}
	s.stops(testset.DB2, piece(shut, 8, 0, true), pipeline.ReasonDFWDefaultDeny)
	s.stops(testset.DB2, piece(shut, 8, 0, false), pipeline.ReasonDFWDefaultDeny)
	s.stops(testset.DB2, piece(segment(testset.DB2, "10.1.2.11", 9, "10.1.1.10", 80, packet.SYN), 9, 1, false), pipeline.ReasonFragment)

	// The rules change while a fragment waits.
	s.waits(testset.DB2, piece(open, 10, 4, false))
	s.Apply(besieged(func(s *table.Set) {
		s.Endpoints.Get(table.EndpointKey{Segment: testset.Web, Addr: netip.MustParseAddr("10.1.1.10")}).In = nil
	}))
	s.stops(testset.DB2, piece(open, 10, 0, true), pipeline.ReasonDFWDefaultDeny)
	s.stops(testset.DB2, piece(open, 8, 5, false), pipeline.ReasonDFWDefaultDeny)
	s.Clock(3)
	s.Sweep()
	s.Compare()

	// A flood keeps no more than a datagram's places, and is over after two
	// seconds.
	for i := range uint16(40) {
		p := piece(open, 11, 1+i, true)
		if i < 16 {
			s.waits(testset.DB2, p)
		} else {
			s.stops(testset.DB2, p, pipeline.ReasonFragment)
		}
	}
	s.Clock(3)
	s.waits(testset.DB2, piece(open, 11, 1, true))
	s.Sweep()
	s.Compare()
}

// Between two Sets: the VIP moves to another router, its pool goes, its access
// list is not there. What is not known is refused.
func TestHostileGaps(t *testing.T) {
	s := newSiege(t)
	s.opened(5000, testset.Srv1)
	again := segment(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 80, packet.ACK)
	fresh := segment(testset.Web1, "10.1.1.10", 6000, "203.0.113.24", 80, packet.SYN)
	web := func(c func(*table.VirtualServer)) func(*table.Set) {
		return func(s *table.Set) {
			for _, v := range s.VIPs.Get(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed}).Servers {
				c(v)
			}
		}
	}
	s.Apply(besieged(web(func(v *table.VirtualServer) { v.Access = 12345 })))
	s.stops(testset.Web1, fresh, pipeline.ReasonLBAccess)
	s.Apply(besieged(web(func(v *table.VirtualServer) { v.Pool = 12345 })))
	s.stops(testset.Web1, fresh, pipeline.ReasonLBNoMember)
	s.Apply(besieged(web(func(v *table.VirtualServer) { v.Pool = 0 })))
	s.stops(testset.Web1, fresh, pipeline.ReasonLBNoMember)
	s.Apply(besieged(func(s *table.Set) { // the route, but no VIP
		s.VIPs.Delete(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed})
	}))
	s.stops(testset.Web1, fresh, pipeline.ReasonNoListener)
	s.stops(testset.Web1, again, pipeline.ReasonNoListener)
	s.Apply(besieged(func(s *table.Set) { // and to the Tier-0
		old, k := table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed}, table.VIPKey{VRF: testset.T0, Addr: testset.VIPRed}
		v := *s.VIPs.Get(old)
		v.Key = k
		s.VIPs.Delete(old)
		s.VIPs.Put(k, &v)
		p := netip.PrefixFrom(testset.VIPRed, 32)
		s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: p})
		s.Routes.Put(table.RouteKey{VRF: testset.T0, Prefix: p}, &table.Route{VRF: testset.T0, Prefix: p, Kind: table.RouteVIP})
		s.VRFs.Get(testset.Red).In, s.VRFs.Get(testset.Red).Out = 12345, 12345 // whose firewall is not there
	}))
	s.stops(testset.Web1, again, pipeline.ReasonNoListener) // red's NAT has the rest of that prefix
	s.stops(testset.UplinkEast, segment(outside, "198.18.0.9", 5, "203.0.113.24", 80, packet.SYN), pipeline.ReasonGatewayDefaultDeny)
	s.stops(testset.Web1, datagram(testset.Web1, "10.1.1.10", 5, "198.18.0.9", 53), pipeline.ReasonGatewayDefaultDeny)
	s.Apply(besieged())
	s.passes(testset.Web1, fresh, testset.Srv2)
	s.Compare()
}

// Weights, numbers of members, ports and MTUs at their ends.
func TestHostileNumbers(t *testing.T) {
	s := newSiege(t)
	port := uint16(100)
	for _, a := range []table.Algorithm{table.RoundRobin, table.LeastConnections, table.IPHash} {
		for n, weights := range map[int][]uint16{1: {65535}, 7: {0, 65535, 1}, 2048: {65535, 1, 256, 65521}} {
			s.Apply(besieged(numbers(a, weights, n)))
			for range 8 {
				port++
				s.passes(testset.Web1, segment(testset.Web1, "10.1.1.10", port, "203.0.113.24", 65535, packet.SYN), testset.Srv1)
				s.passes(testset.UplinkEast, segment(outside, fmt.Sprintf("198.18.0.%d", port), port, "203.0.113.24", 0, packet.SYN), testset.Srv1)
			}
			s.Compare()
		}
	}
	for _, mtu := range []uint16{1, 20, 55, 67} {
		s.Apply(besieged(func(s *table.Set) {
			for _, u := range s.Uplinks.All() {
				u.MTU = mtu
			}
		}))
		p := datagram(testset.DB2, "10.1.2.11", 5, "192.0.2.9", 53)
		p.Payload = make([]byte, 40)
		s.stops(testset.DB2, p, pipeline.ReasonTooBig)
	}
}

// numbers makes PoolSrv one of n members, all Srv1, behind all ports.
func numbers(a table.Algorithm, weights []uint16, n int) func(*table.Set) {
	return func(s *table.Set) {
		p := s.Pools.Get(testset.PoolSrv)
		m := p.Members[0]
		p.Algorithm, p.Members, p.SNAT = a, nil, table.SNATPool
		for i := range 8 {
			p.SNATAddrs = append(p.SNATAddrs, netip.AddrFrom4([4]byte{203, 0, 113, byte(200 + i)}))
		}
		for i := range n {
			m.ID, m.Port, m.Weight, m.MaxConns = table.MemberID(5000+i), uint16(i+1), weights[i%len(weights)], 1<<32-1
			p.Members = append(p.Members, m)
		}
		v := s.VIPs.Get(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed})
		v.Servers = v.Servers[2:]
		v.Servers[0].Services, v.Servers[0].MaxConns = []table.Service{{Proto: 6, First: 0, Last: 65535}}, 1<<32-1
	}
}
