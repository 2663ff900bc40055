package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func newLBFabric(t testing.TB) *fabric { return newFabricOf(t, testset.WithLB) }

// memberPorts says where members are.
var memberPorts = map[table.MemberID]table.PortID{
	testset.MemberSrv1: testset.Srv1, testset.MemberSrv2: testset.Srv2, testset.MemberSrv3: testset.Srv3,
	testset.MemberDNS1: testset.Srv1, testset.MemberFar: testset.Far1,
	testset.MemberCluster1: testset.Srv1, testset.MemberCluster2: testset.Srv2,
}

// snat changes what source the members of a pool see.
func snat(id table.PoolID, mode table.SNATMode, addrs ...string) func(*table.Set) {
	return func(s *table.Set) {
		p := s.Pools.Get(id)
		p.SNAT = mode
		for _, a := range addrs {
			p.SNATAddrs = append(p.SNATAddrs, addr(a))
		}
	}
}

// server returns a virtual server of a set, which may be changed.
func server(s *table.Set, id table.VirtualServerID) *table.VirtualServer {
	for _, v := range s.VIPs.All() {
		for _, srv := range v.Servers {
			if srv.ID == id {
				return srv
			}
		}
	}
	return nil
}

func web1ToVIP(sport uint16, flags packet.Flags) packet.Spec {
	return tcp(testset.Web1, "10.1.1.10", sport, "203.0.113.24", 80, flags)
}

// answerTo returns the reply to a forwarded result, as its receiver sends it.
func answerTo(res Result, flags packet.Flags) packet.Spec {
	r := res.Translated.Reversed()
	back := testset.Spec(res.Out, r.Src.String(), r.Dst.String())
	back.Proto, back.SrcPort, back.DstPort, back.Flags = r.Proto, r.SrcPort, r.DstPort, flags
	return back
}

// Each row is a first packet to a VIP, all that it meets, and its reply.
func TestSpec7_VIP(t *testing.T) {
	none := func(*table.Set) {}
	rows := []struct {
		name   string
		change func(*table.Set)
		from   table.PortID
		in     packet.Spec
		path   string
		as     string // what arrives
		back   string // what the client gets back
	}{
		{"from the own Tier-1", none, testset.Web1, web1ToVIP(5000, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"10.1.1.10:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 10.1.1.10:5000/tcp"},
		{"from the own Tier-1, automap", snat(testset.PoolSrv, table.SNATAutoMap), testset.Web1, web1ToVIP(5000, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"203.0.113.24:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 10.1.1.10:5000/tcp"},
		{"from another Tier-1", none, testset.App2, tcp(testset.App2, "10.1.1.40", 5000, "203.0.113.24", 80, syn),
			"spoofguard(208) dfw_out(208 #1013) route(3) ttl(3) snat(3 #2008) route(1) ttl(1) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"203.0.113.33:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 10.1.1.40:5000/tcp"},
		{"from outside", none, testset.UplinkEast, tcp(outside, "198.18.0.9", 5000, "203.0.113.24", 80, syn),
			"route(1) ttl(1) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"198.18.0.9:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 198.18.0.9:5000/tcp"},
		{"from outside, translated too", snat(testset.PoolSrv, table.SNATPool, "203.0.113.28"), testset.UplinkEast, tcp(outside, "198.18.0.9", 5000, "203.0.113.24", 80, syn),
			"route(1) ttl(1) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"203.0.113.28:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 198.18.0.9:5000/tcp"},
		{"from outside, member behind another Tier-1, automap", snat(testset.PoolFar, table.SNATAutoMap), testset.UplinkEast, tcp(outside, "198.18.0.9", 5000, "203.0.113.24", 443, syn),
			"route(1) ttl(1) route(2) lb(2 #713 round_robin) route(2) ttl(2) route(1) ttl(1) route(3) ttl(3) endpoint(104) dfw_in(234 #1013) connect(0) deliver(234)",
			"203.0.113.24:5000 > 172.16.3.20:8443/tcp", "203.0.113.24:443 > 198.18.0.9:5000/tcp"},
		{"from the own Tier-1, member behind another, automap", snat(testset.PoolFar, table.SNATAutoMap), testset.Web1, tcp(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 443, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #713 round_robin) route(2) ttl(2) route(1) ttl(1) route(3) ttl(3) endpoint(104) dfw_in(234 #1013) connect(0) deliver(234)",
			"203.0.113.24:5000 > 172.16.3.20:8443/tcp", "203.0.113.24:443 > 10.1.1.10:5000/tcp"},
		{"of the Tier-0, from below", none, testset.Web2, tcp(testset.Web2, "10.1.1.11", 1025, "192.0.2.200", 80, syn),
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) lb(1 #714 round_robin) route(1) ttl(1) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"203.0.113.16:1025 > 10.1.3.11:8080/tcp", "192.0.2.200:80 > 10.1.1.11:1025/tcp"},
		{"of the Tier-0, from below, translated twice", snat(testset.PoolSrv, table.SNATAutoMap), testset.Web2, tcp(testset.Web2, "10.1.1.11", 1025, "192.0.2.200", 80, syn),
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) lb(1 #714 round_robin) route(1) ttl(1) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"192.0.2.200:1025 > 10.1.3.11:8080/tcp", "192.0.2.200:80 > 10.1.1.11:1025/tcp"},
		{"of the Tier-0, from outside", none, testset.UplinkWest, tcp(outside, "198.18.0.9", 5000, "192.0.2.200", 80, syn),
			"route(1) lb(1 #714 round_robin) route(1) ttl(1) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"198.18.0.9:5000 > 10.1.3.11:8080/tcp", "192.0.2.200:80 > 198.18.0.9:5000/tcp"},
		{"from its own member, by its own address", none, testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5000, "203.0.113.24", 80, syn),
			"spoofguard(231) dfw_out(231 #1013) route(2) lb(2 #711 round_robin) route(2) ttl(2) endpoint(111) connect(0) deliver(231)",
			"203.0.113.24:5000 > 10.1.3.11:8080/tcp", "203.0.113.24:80 > 10.1.3.11:5000/tcp"},
		{"member port as asked", none, testset.Web1, udp(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 53),
			"spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #712 round_robin) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"10.1.1.10:5000 > 10.1.3.11:53/udp", "203.0.113.24:53 > 10.1.1.10:5000/udp"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			f.apply(r.change)
			res := f.send(r.from, r.in)
			if d := cmp.Diff(r.path, path(res)); d != "" || res.Verdict != Forward {
				t.Fatalf("%s: %s", res.Verdict, d)
			}
			if got := res.Translated.String(); got != r.as {
				t.Errorf("arrives as %s, want %s", got, r.as)
			}
			back := answerTo(res, synAck)
			for range 2 { // as the first reply, and after a change of the Set
				b := f.send(res.Out, back)
				if b.Verdict != Forward || b.Translated.String() != r.back {
					t.Fatalf("reply: %s %s, want %s: %s", b.Verdict, b.Translated, r.back, path(b))
				}
				if b.Out != r.from && f.set.Uplinks.Get(r.from) == nil {
					t.Fatalf("reply by %d", b.Out)
				}
				f.apply(r.change)
			}
			if res = f.send(r.from, r.in); res.New || res.Verdict != Forward {
				t.Errorf("again: new %v: %s", res.New, path(res))
			}
		})
	}
}

func TestSpec7_VIPIsTheInAddress(t *testing.T) {
	f := newLBFabric(t)
	f.apply(snat(testset.PoolFar, table.SNATAutoMap))
	in := tcp(testset.Web1, "10.1.1.10", 5000, "203.0.113.24", 443, syn)
	for _, known := range []bool{false, true} {
		for i, want := range []string{"203.0.113.24", "100.64.0.0", "100.64.0.3"} {
			res := f.drop(testset.Web1, ttl(in, uint8(i+1)), ReasonTTLExceeded)
			if p := f.decode(res.Frame); res.Verdict != Answer || p.Src != addr(want) {
				t.Errorf("known %v, TTL %d: %s from %s, want %s", known, i+1, res.Verdict, p.Src, want)
			}
		}
		f.forward(testset.Web1, ttl(in, 4), testset.Far1)
	}
	if got := f.st.Open(LoadMember, uint32(testset.MemberFar)); got != 1 {
		t.Errorf("%d open connections", got)
	}
}

// What no virtual server takes is as for a router's own address.
func TestSpec7_VIPWithoutAServer(t *testing.T) {
	rows := []struct {
		name    string
		from    table.PortID
		in      packet.Spec
		verdict Verdict
		why     Reason
		path    string
		src     string // of the answer
	}{
		{"echo", testset.Web1, echo(testset.Web1, "10.1.1.10", "203.0.113.24", 7), Answer, ReasonNone,
			"spoofguard(201) dfw_out(201 #1007) route(2) local(2)", "203.0.113.24"},
		{"echo from outside", testset.UplinkEast, echo(outside, "198.18.0.9", "203.0.113.24", 7), Answer, ReasonNone,
			"route(1) ttl(1) route(2) local(2)", "203.0.113.24"},
		{"other port", testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 81, syn), Drop, ReasonNoListener,
			"spoofguard(201) dfw_out(201 #1007) route(2) local(2 no_listener)", ""},
		{"other protocol of the port", testset.Web1, udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 80), Answer, ReasonNoListener,
			"spoofguard(201) dfw_out(201 #1007) route(2) local(2 no_listener)", "203.0.113.24"},
		{"SCTP", testset.Web1, func() packet.Spec {
			s := tcp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 80, 0)
			s.Proto = packet.SCTP
			return s
		}(), Drop, ReasonNoListener, "spoofguard(201) dfw_out(201 #1007) route(2) local(2 no_listener)", ""},
		{"distributed, echo", testset.Srv1, echo(testset.Srv1, "10.1.3.11", "10.96.0.10", 7), Answer, ReasonNone,
			"spoofguard(231) local(231)", "10.96.0.10"},
		{"distributed, other port", testset.Srv1, udp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 80), Answer, ReasonNoListener,
			"spoofguard(231) local(231 no_listener)", "10.96.0.10"},
		{"distributed, other port of TCP", testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 81, syn), Drop, ReasonNoListener,
			"spoofguard(231) local(231 no_listener)", ""},
		{"of a distributed load balancer that the endpoint does not have", testset.Srv3, tcp(testset.Srv3, "10.1.3.13", 5, "10.96.0.10", 80, syn), Answer, ReasonNoRoute,
			"spoofguard(233) dfw_out(233 #1013) route(2) ttl(2) snat(2 #2001) route(1) ttl(1) route(1 no_route)", "100.64.0.0"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			res := f.send(r.from, r.in)
			if res.Verdict != r.verdict || res.Reason != r.why || path(res) != r.path {
				t.Fatalf("%s %s: %s, want %s", res.Verdict, res.Reason, path(res), r.path)
			}
			if r.src != "" && f.decode(res.Frame).Src != addr(r.src) {
				t.Errorf("answered by %s", f.decode(res.Frame).Src)
			}
			if f.st.Len() != 0 {
				t.Error("a connection was made")
			}
		})
	}
}

func TestSpec7_VIPWhoseMemberIsTheRouterItself(t *testing.T) {
	for _, a := range []string{"10.1.1.1", "203.0.113.20", "203.0.113.24"} {
		f := newLBFabric(t)
		f.apply(func(s *table.Set) { s.Pools.Get(testset.PoolDNS).Members[0].Addr = addr(a) })
		res := f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53), ReasonNoListener)
		want := "spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #712 round_robin) route(2) local(2 no_listener)"
		if res.Verdict != Drop || path(res) != want {
			t.Errorf("%s: %s %s", a, res.Verdict, path(res))
		}
		if n := f.st.Open(LoadServer, uint32(testset.VSDNS)); n != 0 {
			t.Errorf("%s: %d open connections", a, n)
		}
	}
}

// What a virtual server sends with another's address passes uRPF; nobody else
// may use a VIP as source.
func TestSpec7_URPFAndVIPs(t *testing.T) {
	f := newLBFabric(t)
	for src, want := range map[string]string{"192.0.2.200": "urpf(1 urpf)", "203.0.113.24": "urpf(1 urpf)"} {
		res := f.drop(testset.UplinkEast, udp(outside, src, 5, "10.1.2.11", 53), ReasonURPF)
		if got := path(res); got != want {
			t.Errorf("%s: %s, want %s", src, got, want)
		}
	}
	// Red sends with the client's address, which the Tier-0 routes elsewhere.
	f.forward(testset.UplinkEast, tcp(outside, "198.18.0.9", 5000, "203.0.113.24", 443, syn), testset.Far1)
}

// Two virtual servers on one path.
func TestSpec8_OncePerPath(t *testing.T) {
	f := newLBFabric(t)
	f.apply(func(s *table.Set) {
		s.Pools.Get(testset.PoolCluster).Members[0].Addr = testset.VIPRed
		s.Pools.Get(testset.PoolCluster).Members[0].Port = 80
	})
	res := f.drop(testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 80, syn), ReasonNATDepth)
	if res.Rule != uint32(testset.VSWeb) || path(res) != "spoofguard(231) dlb(231 #715 round_robin) dfw_out(231 #1013) route(2) lb(2 #711 nat_depth)" {
		t.Errorf("#%d %s", res.Rule, path(res))
	}
}

func TestSpec8_TranslationsCountForNATDepth(t *testing.T) {
	f := newLBFabric(t)
	// Two destination translations before: the Tier-0's and red's.
	dnat := func(s *table.Set) {
		s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0].To = prefix("203.0.113.24/32")
		s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0].ToPort = 0
	}
	f.apply(dnat)
	in := tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn)
	res := f.drop(testset.UplinkEast, in, ReasonNATDepth)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageLB || s.Rule != uint32(testset.VSWeb) || s.Server == nil {
		t.Error(path(res))
	}
	// One before is fine; then one behind is the third.
	f.forward(testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "203.0.113.17", 80, syn), testset.Srv1)
	f.apply(func(s *table.Set) {
		s.NAT.Get(table.NATKey{VRF: testset.T0, Dir: table.NATIn}).Rules[0].To = prefix("203.0.113.24/32")
		m := &s.Pools.Get(testset.PoolSrv).Members[1]
		m.Addr, m.Port = addr("10.1.1.20"), 30080
	})
	res = f.drop(testset.UplinkEast, in, ReasonNATDepth)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageDNAT || s.ID != uint32(testset.Node) || s.Rule != testset.NATNodePort {
		t.Error(path(res))
	}
	// Sources: pod, red, and then the Tier-0's virtual server.
	f.apply(func(s *table.Set) { snat(testset.PoolSrv, table.SNATAutoMap)(s) })
	res = f.drop(testset.Pod1, tcp(testset.Pod1, "10.200.1.10", 40000, "192.0.2.200", 80, syn), ReasonNATDepth)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageLB || s.ID != uint32(testset.T0) || s.Src != addr("203.0.113.16") || s.Dst != testset.VIPTop || s.Why != 0 {
		t.Errorf("%+v: %s", s, path(res))
	}
}

func TestSpec8_DistributedVIP(t *testing.T) {
	rows := []struct {
		name           string
		from           table.PortID
		in             packet.Spec
		path, as, back string
		bridgedReply   bool
	}{
		{"member on the own segment", testset.Srv2, tcp(testset.Srv2, "10.1.3.12", 5000, "10.96.0.10", 80, syn),
			"spoofguard(232) dlb(232 #715 round_robin) dfw_out(232 #1013) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"10.1.3.12:5000 > 10.1.3.11:8080/tcp", "10.96.0.10:80 > 10.1.3.12:5000/tcp", true},
		{"member on another segment", testset.Web2, tcp(testset.Web2, "10.1.1.11", 5000, "10.96.0.10", 80, syn),
			"spoofguard(202) dlb(202 #715 round_robin) dfw_out(202 #1007) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) connect(0) deliver(231)",
			"10.1.1.11:5000 > 10.1.3.11:8080/tcp", "10.96.0.10:80 > 10.1.1.11:5000/tcp", false},
		{"the client itself", testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5000, "10.96.0.10", 80, syn),
			"spoofguard(231) dlb(231 #715 round_robin) route(2) ttl(2) endpoint(111) connect(0) deliver(231)",
			"10.96.0.10:5000 > 10.1.3.11:8080/tcp", "10.96.0.10:80 > 10.1.3.11:5000/tcp", false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			// The pool's SNAT is not for distributed servers.
			f.apply(snat(testset.PoolCluster, table.SNATAutoMap))
			res := f.send(r.from, r.in)
			if path(res) != r.path || res.Translated.String() != r.as {
				t.Fatalf("%s: %s, want %s", res.Translated, path(res), r.path)
			}
			back := answerTo(res, synAck)
			if r.bridgedReply {
				back = to(back, r.from)
			}
			p := f.forward(res.Out, back, r.from)
			if got := p.Tuple().String(); got != r.back {
				t.Errorf("reply %s, want %s", got, r.back)
			}
			in := r.in
			in.Flags = ack
			if res = f.send(r.from, in); res.New {
				t.Error(path(res))
			}
			if fl := f.flow(res.Key); fl.Via || fl.Server != testset.VSCluster {
				t.Errorf("via %v server %d", fl.Via, fl.Server)
			}
		})
	}
	// A bridged frame meets no load balancer.
	f := newLBFabric(t)
	f.drop(testset.Srv1, to(tcp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 80, syn), testset.Srv2), ReasonMACUnknown)
}

// Rules with ViaVIP match what came by a virtual server at a router, or from a
// monitor, and nothing else.
func TestSpec7_ViaVIP(t *testing.T) {
	f := newLBFabric(t)
	only := func(s *table.Set) {
		s.Rulesets.Put(650, &table.Ruleset{ID: 650, Rules: []*table.Rule{{ID: 1650, Action: table.Allow, AnyRemote: true, ViaVIP: true}}})
		s.Endpoints.Get(table.EndpointKey{Segment: testset.Srv, Addr: addr("10.1.3.11")}).In = []table.RulesetID{650}
	}
	f.apply(only)
	direct := tcp(testset.Web1, "10.1.1.10", 5, "10.1.3.11", 8080, syn)
	f.drop(testset.Web1, direct, ReasonDFWDefaultDeny)
	res := f.send(testset.Web1, web1ToVIP(5000, syn))
	if res.Verdict != Forward || !f.flow(res.Key).Via {
		t.Error(path(res))
	}
	f.apply(only) // and when it is walked again
	f.forward(testset.Web1, web1ToVIP(5000, ack), testset.Srv1)
	f.drop(testset.Srv2, tcp(testset.Srv2, "10.1.3.12", 5, "10.96.0.10", 80, syn), ReasonDFWDefaultDeny) // distributed
	res = f.send(testset.Mon1, tcp(testset.Mon1, "10.1.9.2", 5, "10.1.3.11", 8080, syn))
	if res.Verdict != Forward || !f.flow(res.Key).Via {
		t.Error(path(res))
	}
}
