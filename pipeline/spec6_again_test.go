package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// established returns a fabric with an established connection from in's port,
// which leaves by to, and the reply that goes with it.
func established(t *testing.T, from, to table.PortID, in packet.Spec) (f *fabric, back packet.Spec) {
	t.Helper()
	f = newFabric(t)
	res := f.send(from, in)
	if res.Verdict != Forward || res.Out != to {
		t.Fatal(path(res))
	}
	r := res.Translated.Reversed()
	back = testset.Spec(to, r.Src.String(), r.Dst.String())
	back.Proto, back.SrcPort, back.DstPort, back.Flags, back.Ident = r.Proto, r.SrcPort, r.DstPort, synAck, r.DstPort
	f.forward(to, back, from)
	back.Flags = ack
	in.Flags = ack
	f.forward(from, in, to)
	return f, back
}

func TestSpec6_2_ANewGenerationIsWalkedOncePerDirection(t *testing.T) {
	f, back := established(t, testset.DB1, testset.DB2, db(syn))
	f.apply(func(*table.Set) {})
	res := f.send(testset.DB2, back)
	want := "spoofguard(206) flow(206) spoofguard(205) dfw_out(205 #1013) route(2) ttl(2) endpoint(102) route(2) ttl(2) endpoint(102) deliver(205)"
	if d := cmp.Diff(want, path(res)); d != "" {
		t.Error(d)
	}
	for _, k := range []FlowKey{keyOf(db1Zone, db(0)), keyOf(db2Zone, back)} {
		if g := f.flow(k).Gen; g != 2 {
			t.Errorf("%s has generation %d", k.Tuple, g)
		}
	}
	if res = f.send(testset.DB1, db(ack)); path(res) != "spoofguard(205) flow(205) deliver(206)" {
		t.Error(path(res))
	}
}

func TestSpec6_2_ADeniedConnectionStopsAndItsEntriesStay(t *testing.T) {
	for _, action := range []table.RuleAction{table.Drop, table.Reject} {
		f, back := established(t, testset.DB1, testset.DB2, db(syn))
		before := f.flow(keyOf(db1Zone, db(0)))
		f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].Action = action })
		for _, r := range []struct {
			from table.PortID
			in   packet.Spec
		}{{testset.DB1, db(ack)}, {testset.DB2, back}} {
			res := f.drop(r.from, r.in, ReasonDFWRule)
			if action == table.Reject {
				if p := f.decode(res.Frame); res.Verdict != Answer || res.Out != r.from || p.Flags != rst || p.Seq != r.in.Ack || p.Dst != r.in.Src {
					t.Errorf("%s by %d: %+v", res.Verdict, res.Out, p)
				}
			} else if res.Verdict != Drop || res.Rule != testset.RuleAny {
				t.Errorf("%s #%d", res.Verdict, res.Rule)
			}
		}
		if d := cmp.Diff(before, f.flow(keyOf(db1Zone, db(0))), byValue); d != "" {
			t.Error(d)
		}
		// It goes on when it is allowed again.
		f.apply(func(*table.Set) {})
		f.forward(testset.DB2, back, testset.DB1)
	}
}

func TestSpec6_2_AnotherTranslation(t *testing.T) {
	in := udp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 53)
	change := func(s *table.Set) {
		s.NAT.Get(table.NATKey{VRF: testset.Blue, Dir: table.NATOut}).Rules[1].To = prefix("203.0.113.35/32")
	}
	f, back := established(t, testset.App2, testset.DB2, in)
	f.apply(change)
	for range 2 { // the reply changes nothing
		res := f.drop(testset.DB2, back, ReasonStaleConnection)
		if s := res.Steps[len(res.Steps)-1]; s.Stage != StageFlow {
			t.Error(path(res))
		}
	}
	res := f.send(testset.App2, in)
	if !res.New || res.Translated.Src != addr("203.0.113.35") || f.st.Len() != 2 {
		t.Errorf("new %v as %s, %d entries: %s", res.New, res.Translated, f.st.Len(), path(res))
	}
	f.drop(testset.DB2, back, ReasonNoListener)
}

func TestSpec6_2_AnotherZone(t *testing.T) {
	f, back := established(t, testset.DB1, testset.DB2, db(syn))
	f.apply(func(s *table.Set) { // the address moves to another port
		s.Endpoints.Get(table.EndpointKey{Segment: testset.DB, Addr: addr("10.1.2.11")}).Port = testset.Web1
		s.Ports.Get(testset.Web1).Segment = testset.DB
	})
	f.drop(testset.DB2, back, ReasonSpoofguard)
	if res := f.send(testset.DB1, db(ack)); !res.New || res.Out != testset.Web1 {
		t.Errorf("new %v by %d: %s", res.New, res.Out, path(res))
	}
}

func TestSpec6_2_SourcePortsDoNotCount(t *testing.T) {
	in := tcp(testset.Web2, "10.1.1.11", 5, "192.0.2.9", 80, syn) // outside the block: translated
	f := newFabric(t)
	res := f.send(testset.Web2, in)
	port := res.Translated.SrcPort
	if port < 1024 || port > 1027 {
		t.Fatalf("source port %d: %s", port, path(res))
	}
	f.apply(func(*table.Set) {})
	in.Flags = ack
	if res = f.send(testset.Web2, in); res.New || res.Translated.SrcPort != port {
		t.Errorf("new %v port %d, want %d", res.New, res.Translated.SrcPort, port)
	}
}

func TestSpec6_2_RoutedOrSourceMACDiffer(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, db(syn), testset.DB2)
	p := f.forward(testset.DB1, to(db(syn), testset.DB2), testset.DB2) // now bridged
	if p.TTL != 64 || p.EthSrc != packet.MAC(testset.MAC(testset.DB1)) {
		t.Errorf("TTL %d from %s", p.TTL, p.EthSrc)
	}
	if fl := f.flow(keyOf(db1Zone, db(0))); fl.Routed || fl.Hops != 0 {
		t.Errorf("routed %v hops %d", fl.Routed, fl.Hops)
	}
	p = f.forward(testset.DB2, to(dbReply(synAck), testset.DB1), testset.DB1)
	if p.TTL != 64 {
		t.Errorf("reply: TTL %d", p.TTL)
	}
	f.forward(testset.DB2, dbReply(synAck), testset.DB1)
	if fl := f.flow(keyOf(db2Zone, dbReply(0))); !fl.Routed || fl.Hops != 1 {
		t.Errorf("reply routed %v hops %d", fl.Routed, fl.Hops)
	}
}

func TestSpec6_2_AReplyThatEndsElsewhereIsNoRoute(t *testing.T) {
	f := newFabric(t)
	in := udp(outside, "192.0.2.9", 5, "10.1.2.11", 53)
	f.forward(testset.UplinkEast, in, testset.DB2)
	f.apply(func(s *table.Set) { // the client's address is now one of the segment
		k := table.RouteKey{VRF: testset.Red, Prefix: prefix("192.0.2.9/32")}
		s.Routes.Put(k, &table.Route{VRF: k.VRF, Prefix: k.Prefix, Kind: table.RouteVia, Segment: testset.DB, Via: addr("10.1.2.10")})
		s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: prefix("203.0.113.16/28")})
	})
	// uRPF at red drops the original first.
	f.drop(testset.DB2, udp(testset.DB2, "10.1.2.11", 53, "192.0.2.9", 5), ReasonURPF)
	f.apply(func(s *table.Set) {
		k := table.RouteKey{VRF: testset.Red, Prefix: prefix("192.0.2.9/32")}
		s.Routes.Put(k, &table.Route{VRF: k.VRF, Prefix: k.Prefix, Kind: table.RouteDown, To: testset.Blue, Via: addr("100.64.0.3")})
		s.Routes.Put(table.RouteKey{VRF: testset.Blue, Prefix: k.Prefix}, &table.Route{
			VRF: testset.Blue, Prefix: k.Prefix, Kind: table.RouteVia, Segment: testset.DMZ, Via: addr("172.16.3.10"),
		})
	})
	res := f.drop(testset.DB2, udp(testset.DB2, "10.1.2.11", 53, "192.0.2.9", 5), ReasonNoRoute)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageFlow || res.Verdict != Drop {
		t.Errorf("%s %s", res.Verdict, path(res))
	}
}

func TestSpec6_2_OnlyTheWalkersRouterAnswers(t *testing.T) {
	f, back := established(t, testset.DB1, testset.DB2, db(syn))
	f.apply(func(s *table.Set) { s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: prefix("10.1.2.0/24")}) })
	// The original's way is gone: its own packets hear of it, replies do not.
	if res := f.drop(testset.DB2, back, ReasonNoRoute); res.Verdict != Drop {
		t.Errorf("reply: %s", res.Verdict)
	}
	if res := f.drop(testset.DB1, db(ack), ReasonNoRoute); res.Verdict != Answer {
		t.Errorf("original: %s", res.Verdict)
	}
}

func TestSpec6_2_OutsideDNATOfOneUplinkHoldsForReplies(t *testing.T) {
	in := tcp(outside, "198.18.0.9", 7, "192.0.2.100", 80, syn)
	f, back := established(t, testset.UplinkEast, testset.Web1, in)
	f.apply(func(*table.Set) {})
	p := f.forward(testset.Web1, back, testset.UplinkEast)
	if got := p.Tuple().String(); got != "192.0.2.100:80 > 198.18.0.9:7/tcp" {
		t.Error(got)
	}
}

func TestSpec6_PortBlock(t *testing.T) {
	f := newFabric(t)
	send := func(sport uint16) Result {
		return f.send(testset.Web2, tcp(testset.Web2, "10.1.1.11", sport, "10.9.9.9", 80, syn))
	}
	f.apply(func(s *table.Set) { // to one next hop, and translated to 10.9.9.9 too
		s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules[0].Dst = prefix("10.200.0.0/16")
		k := table.RouteKey{VRF: testset.T0, Prefix: prefix("10.9.9.9/32")}
		s.Routes.Put(k, &table.Route{VRF: k.VRF, Prefix: k.Prefix, Kind: table.RouteUplink, NextHops: []table.NextHopID{testset.East}})
	})
	if res := send(1026); res.Translated.SrcPort != 1026 {
		t.Errorf("a free port of the block became %d", res.Translated.SrcPort)
	}
	used := map[uint16]bool{1026: true}
	for _, sport := range []uint16{1023, 1028, 40000} {
		in := packet.Tuple{Src: addr("10.1.1.11"), Dst: addr("10.9.9.9"), Proto: packet.TCP, SrcPort: sport, DstPort: 80}
		want := uint16(0)
		for i := range uint32(4) {
			if p := 1024 + uint16((Hash(in)+i)%4); !used[p] {
				want = p
				break
			}
		}
		res := send(sport)
		if res.Translated.SrcPort != want {
			t.Fatalf("port %d became %d, want %d: %s", sport, res.Translated.SrcPort, want, path(res))
		}
		if s := res.Steps[len(res.Steps)-2]; s.Stage != StageConnect || s.ID != uint32(want) || s.NAT == nil {
			t.Error(path(res))
		}
		used[want] = true
	}
	f.drop(testset.Web2, tcp(testset.Web2, "10.1.1.11", 5, "10.9.9.9", 80, syn), ReasonSNATExhausted)
	// Another destination port, another mapping.
	f.forward(testset.Web2, tcp(testset.Web2, "10.1.1.11", 5, "10.9.9.9", 81, syn), testset.UplinkEast)
	// A dead pair gives its port back.
	f.now += ticksOf(120) + 1
	f.forward(testset.Web2, tcp(testset.Web2, "10.1.1.11", 5, "10.9.9.9", 80, syn), testset.UplinkEast)
}

func TestSpec6_PortBlockIsTheQueryIDOfICMP(t *testing.T) {
	f := newFabric(t)
	in := echo(testset.Web2, "10.1.1.11", "192.0.2.9", 5)
	res := f.send(testset.Web2, in)
	id := res.Translated.SrcPort
	if id < 1024 || id > 1027 || f.decode(res.Frame).SrcPort != id {
		t.Fatalf("query id %d: %s", id, path(res))
	}
	back := reply(outside, "192.0.2.9", res.Translated.Src.String(), id)
	if p := f.forward(res.Out, back, testset.Web2); p.Tuple().String() != "192.0.2.9:0 > 10.1.1.11:5/icmp" {
		t.Error(p.Tuple())
	}
}

func TestSpec6_TakenWithoutABlock(t *testing.T) {
	f := newFabric(t)
	// Two senders become one address.
	f.apply(func(s *table.Set) {
		k := table.EndpointKey{Segment: testset.App, Addr: addr("10.1.1.41")}
		e := *s.Endpoints.Get(table.EndpointKey{Segment: testset.App, Addr: addr("10.1.1.40")})
		e.Addr = k.Addr
		s.Endpoints.Put(k, &e)
		s.NAT.Get(table.NATKey{VRF: testset.Blue, Dir: table.NATOut}).Rules[1].To = prefix("203.0.113.33/32")
	})
	for _, proto := range []packet.Proto{packet.TCP, packet.SCTP, 47} {
		first := tcp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 80, syn)
		first.Proto = proto
		second := first
		second.Src = addr("10.1.1.41")
		f.forward(testset.App2, first, testset.DB2)
		res := f.drop(testset.App2, second, ReasonTupleInUse)
		if s := res.Steps[len(res.Steps)-1]; s.Stage != StageConnect {
			t.Error(path(res))
		}
	}
	f.apply(func(s *table.Set) {
		r := s.NAT.Get(table.NATKey{VRF: testset.Blue, Dir: table.NATOut}).Rules
		r[0].To, r[0].Src = prefix("203.0.113.33/32"), prefix("10.1.1.10/32")
		r[1].To = prefix("203.0.113.33/32")
	})
	f.forward(testset.App2, tcp(testset.App2, "10.1.1.40", 6, "10.1.2.11", 80, syn), testset.DB2)
	f.drop(testset.App1, tcp(testset.App1, "10.1.1.10", 6, "10.1.2.11", 80, syn), ReasonSNATExhausted)
}

func TestSpec6_NoRoom(t *testing.T) {
	f := newFabric(t)
	f.st = NewState(1)
	f.drop(testset.DB1, db(syn), ReasonFlowTableFull)
	f.st = NewState(4)
	for port := range uint16(3) {
		f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", port, "10.1.2.11", 2), testset.DB2)
	}
	if n, _ := f.st.Replaced(); n != 2 || f.st.Len() != 4 {
		t.Errorf("%d entries, %d replaced", f.st.Len(), n)
	}
	if _, ok := f.st.Flow(keyOf(db1Zone, udp(testset.DB1, "10.1.2.10", 0, "10.1.2.11", 2))); ok {
		t.Error("the oldest connection is still there")
	}
}

func TestSpec6_2_ADroppedReplyWalkIsAnsweredToTheReplier(t *testing.T) {
	// Only the reply's way is cut: blue lost its default route.
	in := udp(outside, "192.0.2.9", 5, "172.16.3.10", 80)
	in.Proto, in.Flags = packet.TCP, syn
	f, back := established(t, testset.UplinkEast, testset.DMZ1, in)
	f.apply(func(s *table.Set) { s.Routes.Delete(table.RouteKey{VRF: testset.Blue, Prefix: prefix("0.0.0.0/0")}) })
	res := f.drop(testset.DMZ1, back, ReasonNoRoute)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.Src != addr("172.16.3.1") || p.ICMPType != packet.ICMPUnreachable {
		t.Errorf("%s %+v", res.Verdict, p)
	}
}

func TestSpec6_2_AZoneThatIsGone(t *testing.T) {
	f, back := established(t, testset.DB1, testset.DB2, db(syn))
	f.apply(func(s *table.Set) { s.Ports.Delete(testset.DB1) })
	f.drop(testset.DB2, back, ReasonNoPort)
	f.drop(testset.DB1, db(ack), ReasonNoPort)
}

func TestSpec5_AnErrorWhoseTranslationIsGoneIsUnrelated(t *testing.T) {
	f := newFabric(t)
	in := udp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 53)
	res := f.send(testset.App2, in)
	back := packet.Build(udp(testset.DB2, "10.1.2.11", 53, res.Translated.Src.String(), 5))
	r := f.raw(testset.DB2, back)
	f.apply(func(s *table.Set) {
		s.NAT.Get(table.NATKey{VRF: testset.Blue, Dir: table.NATOut}).Rules[1].To = prefix("203.0.113.56/32")
	})
	f.drop(testset.App2, about(testset.App2, "10.1.1.40", "10.1.2.11", r.Frame), ReasonICMPUnrelated)
	if f.st.Len() != 0 {
		t.Error("the entries are left")
	}
}

func TestSpec7_InAddressIsTheFirstGatewayIfNoneHoldsTheSource(t *testing.T) {
	s := testset.New().Segments.Get(testset.Web)
	s.Gateways = append(s.Gateways, prefix("10.8.0.1/24"))
	for src, want := range map[string]string{"10.8.0.9": "10.8.0.1", "10.1.1.9": "10.1.1.1", "10.9.0.9": "10.1.1.1"} {
		if got := Gateway(s, addr(src)); got != addr(want) {
			t.Errorf("%s uses %s, want %s", src, got, want)
		}
	}
	if got := Gateway(&table.Segment{}, addr("10.0.0.1")); got.IsValid() {
		t.Errorf("no gateway is %s", got)
	}
}

func TestWords(t *testing.T) {
	for v, want := range map[Verdict]string{0: "none", Forward: "forward", Drop: "drop", Answer: "answer", Pass: "pass", Hold: "hold"} {
		if v.String() != want {
			t.Errorf("verdict %d is %s, want %s", v, v, want)
		}
	}
	for s, want := range map[ConnState]string{0: "none", ConnNew: "new", ConnReplied: "replied", ConnEstablished: "established", ConnClosing: "closing"} {
		if s.String() != want {
			t.Errorf("state %d is %s, want %s", s, s, want)
		}
	}
}
