package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

const (
	syn    = packet.SYN
	synAck = packet.SYN | packet.ACK
	ack    = packet.ACK
	fin    = packet.FIN | packet.ACK
	rst    = packet.RST
)

// db is a connection between two ports of one segment, by the router.
func db(flags packet.Flags) packet.Spec {
	return tcp(testset.DB1, "10.1.2.10", 4000, "10.1.2.11", 80, flags)
}

func dbReply(flags packet.Flags) packet.Spec {
	return tcp(testset.DB2, "10.1.2.11", 80, "10.1.2.10", 4000, flags)
}

func keyOf(zone Zone, s packet.Spec) FlowKey {
	t := packet.Tuple{Src: s.Src, Dst: s.Dst, Proto: s.Proto, SrcPort: s.SrcPort, DstPort: s.DstPort}
	switch {
	case s.Proto != packet.ICMP:
	case s.ICMPType == packet.ICMPEchoRequest:
		t.SrcPort = s.Ident
	default:
		t.DstPort = s.Ident
	}
	return FlowKey{Zone: zone, Tuple: t}
}

var (
	db1Zone = Zone{Port: testset.DB1}
	db2Zone = Zone{Port: testset.DB2}
	t0Zone  = Zone{VRF: testset.T0}
)

func TestSpec6_BothEntriesOfANewConnection(t *testing.T) {
	f := newFabric(t)
	res := f.send(testset.DB1, db(syn))
	orig, back := keyOf(db1Zone, db(syn)), keyOf(db2Zone, dbReply(syn))
	if !res.New || res.Key != orig || res.Translated != orig.Tuple || res.Hops != 1 {
		t.Errorf("new %v key %v translated %s hops %d", res.New, res.Key, res.Translated, res.Hops)
	}
	want := Flow{
		State: ConnNew, Gen: 1, Seen: 1000, Routed: true, SrcMAC: testset.MAC(testset.DB1), In: testset.DB1, Hops: 1,
		Out: testset.DB2, OutMAC: testset.MAC(testset.DB2), To: orig.Tuple, Peer: db2Zone, Packets: 1, Bytes: 40, Rules: [6]uint32{testset.RuleAny},
	}
	if d := cmp.Diff(want, f.flow(orig), byValue); d != "" {
		t.Error(d)
	}
	want = Flow{Reply: true, State: ConnNew, Seen: 1000, To: back.Tuple, Peer: db1Zone}
	if d := cmp.Diff(want, f.flow(back), byValue); d != "" {
		t.Error(d)
	}
	f.now++
	if res = f.send(testset.DB2, dbReply(synAck)); path(res) != "spoofguard(206) flow(206) route(2) ttl(2) endpoint(102) deliver(205)" {
		t.Error(path(res))
	}
	want = Flow{
		Reply: true, State: ConnReplied, Gen: 1, Seen: 1001, Routed: true, SrcMAC: testset.MAC(testset.DB2), In: testset.DB2, Hops: 1,
		Out: testset.DB1, OutMAC: testset.MAC(testset.DB1), To: back.Tuple, Peer: db1Zone, Packets: 1, Bytes: 40,
	}
	if d := cmp.Diff(want, f.flow(back), byValue); d != "" {
		t.Error(d)
	}
	if o := f.flow(orig); o.State != ConnReplied || o.Seen != 1000 {
		t.Errorf("original %s seen %d", o.State, o.Seen)
	}
	if res = f.send(testset.DB1, db(ack)); path(res) != "spoofguard(205) flow(205) deliver(206)" || res.New {
		t.Error(path(res))
	}
}

func TestSpec6_Track(t *testing.T) {
	type step struct {
		reply bool
		flags packet.Flags
		want  ConnState
	}
	rows := []struct {
		name  string
		steps []step
	}{
		{"handshake and end", []step{{false, syn, ConnNew}, {true, synAck, ConnReplied}, {false, ack, ConnEstablished}, {true, ack, ConnEstablished}, {true, fin, ConnClosing}, {false, ack, ConnClosing}}},
		{"refused", []step{{false, syn, ConnNew}, {true, rst | ack, ConnClosing}}},
		{"SYN again", []step{{false, syn, ConnNew}, {false, syn, ConnNew}, {true, synAck, ConnReplied}, {false, synAck, ConnReplied}, {false, syn, ConnReplied}}},
		{"reply without SYN", []step{{false, syn, ConnNew}, {true, ack, ConnNew}, {false, ack, ConnNew}}},
		{"original's SYN ACK is no reply", []step{{false, syn, ConnNew}, {false, synAck, ConnNew}}},
		{"FIN while New", []step{{false, syn, ConnNew}, {false, fin, ConnClosing}}},
		{"midstream", []step{{false, ack, ConnEstablished}, {true, ack, ConnEstablished}, {false, rst, ConnClosing}}},
		{"midstream SYN ACK", []step{{false, synAck, ConnEstablished}}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			for i, s := range r.steps {
				if s.reply {
					f.forward(testset.DB2, dbReply(s.flags), testset.DB1)
				} else {
					f.forward(testset.DB1, db(s.flags), testset.DB2)
				}
				for _, k := range []FlowKey{keyOf(db1Zone, db(0)), keyOf(db2Zone, dbReply(0))} {
					if got := f.flow(k).State; got != s.want {
						t.Fatalf("step %d: %s, want %s", i, got, s.want)
					}
				}
			}
		})
	}
}

func TestSpec6_OthersAreEstablishedByAReply(t *testing.T) {
	f := newFabric(t)
	rows := []struct{ out, back packet.Spec }{
		{udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), udp(testset.DB2, "10.1.2.11", 2, "10.1.2.10", 1)},
		{echo(testset.DB1, "10.1.2.10", "10.1.2.11", 3), reply(testset.DB2, "10.1.2.11", "10.1.2.10", 3)},
		{raw(testset.DB1, "10.1.2.10", "10.1.2.11", 47), raw(testset.DB2, "10.1.2.11", "10.1.2.10", 47)},
	}
	for _, r := range rows {
		k := keyOf(db1Zone, r.out)
		for range 2 {
			f.forward(testset.DB1, r.out, testset.DB2)
			if s := f.flow(k).State; s != ConnNew {
				t.Errorf("%s: %s", k.Tuple, s)
			}
		}
		f.forward(testset.DB2, r.back, testset.DB1)
		if s := f.flow(k).State; s != ConnEstablished {
			t.Errorf("%s: %s after a reply", k.Tuple, s)
		}
	}
}

func TestSpec6_Timeouts(t *testing.T) {
	rows := []struct {
		name    string
		setup   []packet.Spec // from DB1, or DB2 if the source is its address
		seconds uint64
	}{
		{"tcp new", []packet.Spec{db(syn)}, 120},
		{"tcp replied", []packet.Spec{db(syn), dbReply(synAck)}, 120},
		{"tcp established", []packet.Spec{db(ack)}, 43200},
		{"tcp closing", []packet.Spec{db(ack), db(fin)}, 120},
		{"udp single", []packet.Spec{udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2)}, 30},
		{"udp multiple", []packet.Spec{udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), udp(testset.DB2, "10.1.2.11", 2, "10.1.2.10", 1)}, 60},
		{"icmp", []packet.Spec{echo(testset.DB1, "10.1.2.10", "10.1.2.11", 1)}, 20},
		{"other", []packet.Spec{raw(testset.DB1, "10.1.2.10", "10.1.2.11", 47)}, 60},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			for _, s := range r.setup {
				from := testset.DB1
				if s.Src == addr("10.1.2.11") {
					from = testset.DB2
				}
				if res := f.send(from, s); res.Verdict != Forward {
					t.Fatal(path(res))
				}
			}
			limit := Tick((r.seconds*1e9 + 1<<30 - 1) / (1 << 30))
			for d, want := range map[Tick]int{limit: 2, limit + 1: 0} {
				st := f.st.Clone()
				st.Sweep(f.now+d, f.set)
				if st.Len() != want {
					t.Errorf("%d entries after %d ticks, want %d", st.Len(), d, want)
				}
				// A packet sees the same: whether it begins a new connection.
				g := *f
				g.st, g.now = f.st.Clone(), f.now+d
				in := r.setup[0]
				if in.Proto == packet.TCP {
					in.Flags = ack
				}
				if res := g.send(testset.DB1, in); res.New != (want == 0) {
					t.Errorf("after %d ticks new is %v: %s", d, res.New, path(res))
				}
			}
		})
	}
}

func TestSpec6_AliveByEitherHalf(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), testset.DB2)
	for range 5 { // the original is silent for 134 s
		f.now += 25
		f.forward(testset.DB2, udp(testset.DB2, "10.1.2.11", 2, "10.1.2.10", 1), testset.DB1)
	}
	if res := f.send(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2)); res.New {
		t.Error("dead although replies were seen")
	}
}

func TestSpec6_ClosingReuse(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.forward(testset.DB2, dbReply(rst|ack), testset.DB1)
	if res := f.send(testset.DB1, db(synAck)); res.New {
		t.Error("SYN ACK reopened")
	}
	if res := f.send(testset.DB1, db(syn)); !res.New || f.flow(keyOf(db1Zone, db(syn))).State != ConnNew {
		t.Errorf("SYN did not reopen: %s", path(res))
	}
	// The other side may begin as well.
	there := tcp(testset.Pod1, "10.200.1.10", 4000, "10.200.1.11", 80, fin)
	back := tcp(testset.Pod2, "10.200.1.11", 80, "10.200.1.10", 4000, syn)
	f.forward(testset.Pod1, there, testset.Pod2)
	f.forward(testset.Pod1, there, testset.Pod2)
	if res := f.send(testset.Pod2, back); !res.New {
		t.Error(path(res))
	}
	if f.flow(keyOf(Zone{Port: testset.Pod2}, back)).Reply || !f.flow(keyOf(Zone{Port: testset.Pod1}, there)).Reply {
		t.Error("directions did not change")
	}
}

func TestSpec6_WithoutAnEntry(t *testing.T) {
	f := newFabric(t)
	if res := f.drop(testset.DB1, db(rst), ReasonTCPState); path(res) != "spoofguard(205) flow(205 tcp_state)" {
		t.Error(path(res))
	}
	if res := f.drop(testset.UplinkEast, reply(outside, "192.0.2.9", "10.1.2.11", 1), ReasonNoConnection); path(res) != "flow(1 no_connection)" {
		t.Error(path(res))
	}
	if f.st.Len() != 0 {
		t.Error("a dropped packet made a connection")
	}
}

func TestSpec6_Strict(t *testing.T) {
	for _, flags := range []packet.Flags{ack, synAck, 0, fin} {
		res := newFabric(t).drop(testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.11", 1500, flags), ReasonTCPState)
		if s := res.Steps[len(res.Steps)-1]; s.Stage != StageConnect {
			t.Error(path(res))
		}
	}
	newFabric(t).forward(testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.11", 1500, syn), testset.DB2)
	// Without a strict rule a connection may begin anywhere.
	newFabric(t).forward(testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.11", 2500, ack), testset.DB2)
}

func TestSpec6_BrokenPairCountsAsNoEntryAndIsDeleted(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, db(syn), testset.DB2)
	k := keyOf(db1Zone, db(0))
	f.st.flows.remove(f.st.flows.nodes[k])
	f.drop(testset.DB2, dbReply(rst), ReasonTCPState)
	if f.st.Len() != 0 {
		t.Error("half a pair is left")
	}
	// A peer that points elsewhere.
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.st.flows.nodes[keyOf(db2Zone, dbReply(0))].val.Peer = t0Zone
	if res := f.send(testset.DB1, db(ack)); !res.New {
		t.Error(path(res))
	}
}

func TestSpec6_ReplyOfTheOutside(t *testing.T) {
	f := newFabric(t)
	// Twice translated, out by west: the reply is undone twice.
	out := udp(testset.Web1, "10.1.1.10", 1025, "192.0.2.9", 53)
	f.forward(testset.Web1, out, testset.UplinkWest)
	if mid := f.flow(keyOf(Zone{Port: testset.Web1}, out)).Mid; mid != addr("203.0.113.16") {
		t.Errorf("source between the translations %s", mid)
	}
	back := udp(outside, "192.0.2.9", 53, "198.51.100.16", 1025)
	// It may come by any uplink.
	for _, from := range []table.PortID{testset.UplinkEast, testset.UplinkWest} {
		p := f.forward(from, back, testset.Web1)
		if got := p.Tuple().String(); got != "192.0.2.9:53 > 10.1.1.10:1025/udp" || p.TTL != 62 {
			t.Errorf("%s TTL %d", got, p.TTL)
		}
	}
}

func TestSpec6_ReplyThroughNodes(t *testing.T) {
	rows := []struct {
		name     string
		from, to table.PortID
		out      packet.Spec
		back     packet.Spec
		want     string
	}{
		{"masquerade on the link", testset.Pod1, testset.Web1,
			tcp(testset.Pod1, "10.200.1.10", 40000, "10.1.1.10", 80, syn),
			to(tcp(testset.Web1, "10.1.1.10", 80, "10.1.1.20", 40000, synAck), testset.NodeUp),
			"10.1.1.10:80 > 10.200.1.10:40000/tcp"},
		{"egress", testset.Pod2, testset.DB2,
			tcp(testset.Pod2, "10.200.1.11", 40000, "10.1.2.11", 80, syn),
			tcp(testset.DB2, "10.1.2.11", 80, "10.1.1.21", 40000, synAck),
			"10.1.2.11:80 > 10.200.1.11:40000/tcp"},
		{"node port", testset.Web1, testset.Pod1,
			to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.20", 30080, syn), testset.NodeUp),
			tcp(testset.Pod1, "10.200.1.10", 80, "10.1.1.10", 5, synAck),
			"10.1.1.20:30080 > 10.1.1.10:5/tcp"},
		{"routed to the pod", testset.DB1, testset.Pod1,
			tcp(testset.DB1, "10.1.2.10", 5, "10.200.1.10", 80, syn),
			tcp(testset.Pod1, "10.200.1.10", 80, "10.1.2.10", 5, synAck),
			"10.200.1.10:80 > 10.1.2.10:5/tcp"},
		{"between tenants", testset.App2, testset.DB2,
			tcp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 80, syn),
			tcp(testset.DB2, "10.1.2.11", 80, "203.0.113.32", 5, synAck),
			"10.1.2.11:80 > 10.1.1.40:5/tcp"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			res := f.send(r.from, r.out)
			if res.Verdict != Forward || res.Out != r.to {
				t.Fatal(path(res))
			}
			back := r.back
			if r.name == "between tenants" { // the pool address is a matter of the hash
				back.Dst = res.Translated.Src
			}
			p := f.forward(r.to, back, r.from)
			if got := p.Tuple().String(); got != r.want {
				t.Errorf("%s, want %s", got, r.want)
			}
			f.apply(func(*table.Set) {})
			f.forward(r.to, back, r.from)
			f.forward(r.from, r.out, r.to)
		})
	}
}
