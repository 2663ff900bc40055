package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// fragments returns the first and a later fragment of s.
func fragments(s packet.Spec) (first, later packet.Spec) {
	first, later = s, s
	first.MoreFragments, first.ID, first.Payload = true, 77, make([]byte, 24)
	later.FragmentOffset, later.ID, later.Payload = 4, 77, []byte("the rest")
	return first, later
}

func TestSpec4_LaterFragmentsFollowTheFirst(t *testing.T) {
	rows := []struct {
		from, to table.PortID
		in       packet.Spec
		want     string
	}{
		{testset.DB1, testset.DB2, udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), "10.1.2.10:0 > 10.1.2.11:0/udp"},
		{testset.DB1, testset.DB2, raw(testset.DB1, "10.1.2.10", "10.1.2.11", 47), "10.1.2.10:0 > 10.1.2.11:0/proto 47"},
		{testset.Web2, testset.UplinkWest, echo(testset.Web2, "10.1.1.11", "192.0.2.10", 5), "198.51.100.16:0 > 192.0.2.10:0/icmp"},
		{testset.UplinkEast, testset.Web1, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn), "192.0.2.9:0 > 10.1.1.10:0/tcp"},
	}
	for _, r := range rows {
		f := newFabric(t)
		first, later := fragments(r.in)
		res := f.send(r.from, first)
		if res.Verdict != Forward || res.Out != r.to {
			t.Fatal(path(res))
		}
		before := f.flow(res.Key)
		f.now++
		p := f.forward(r.from, later, r.to)
		if got := p.Tuple().String(); got != r.want || p.TTL != 64-before.Hops || string(p.Frame[34:]) != "the rest" {
			t.Errorf("%s TTL %d %q, want %s", got, p.TTL, p.Frame[34:], r.want)
		}
		before.Packets, before.Bytes = 2, before.Bytes+uint64(p.TotalLen)
		if d := cmp.Diff(before, f.flow(res.Key), byValue); d != "" {
			t.Errorf("a later fragment changed its flow: %s", d)
		}
	}
}

func TestSpec4_RowsLive30Seconds(t *testing.T) {
	f := newFabric(t)
	first, later := fragments(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53))
	f.forward(testset.DB1, first, testset.DB2)
	f.now += 28
	f.forward(testset.DB1, later, testset.DB2)
	f.now++
	f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), testset.DB2) // the flow lives
	f.hold(testset.DB1, later)
	f.st.Sweep(f.now, f.set)
	if n := f.st.Fragments(); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestSpec4_NeedsALiveFlow(t *testing.T) {
	f := newFabric(t)
	first, later := fragments(echo(testset.DB1, "10.1.2.10", "10.1.2.11", 5))
	f.forward(testset.DB1, first, testset.DB2)
	f.now += ticksOf(20) + 1
	if res := f.drop(testset.DB1, later, ReasonFragment); f.st.Len() != 0 {
		t.Errorf("the dead pair is left: %s", path(res))
	}
}

func TestSpec4_LaterFragmentsAreReevaluatedButNotAnswered(t *testing.T) {
	f := newFabric(t)
	first, later := fragments(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53))
	f.forward(testset.DB1, first, testset.DB2)
	if res := f.drop(testset.DB1, ttl(later, 1), ReasonTTLExceeded); res.Verdict != Drop {
		t.Errorf("TTL: %s", res.Verdict)
	}
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].Action = table.Reject })
	if res := f.drop(testset.DB1, later, ReasonDFWRule); res.Verdict != Drop {
		t.Errorf("reject: %s", res.Verdict)
	}
}

// about returns an ICMP error from a router about frame, as it was forwarded.
func about(from table.PortID, src, dst string, frame []byte) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.ICMPType, s.Quoted = packet.ICMP, packet.ICMPTimeExceeded, packet.Quote(frame)
	return s
}

// RFC 5508 §4.2: the error reaches the sender, and quotes what the sender sent.
func TestRFC5508_4_2_ErrorsReachTheSenderOfATranslatedPacket(t *testing.T) {
	rows := []packet.Spec{
		tcp(testset.Web2, "10.1.1.11", 5, "192.0.2.9", 80, syn),
		udp(testset.Web2, "10.1.1.11", 5, "192.0.2.9", 80),
		echo(testset.Web2, "10.1.1.11", "192.0.2.9", 5),
		tcp(testset.Web1, "10.1.1.10", 1025, "192.0.2.9", 80, syn),
	}
	for _, in := range rows {
		f := newFabric(t)
		from := table.PortID(in.EthSrc[5])
		res := f.send(from, in)
		if res.Verdict != Forward {
			t.Fatal(path(res))
		}
		before := f.st.Clone()
		f.now++
		p := f.forward(testset.UplinkEast, about(outside, "198.18.0.1", res.Translated.Src.String(), res.Frame), from)
		if p.Dst != in.Src || p.Src != addr("198.18.0.1") || p.TTL != 62 {
			t.Errorf("from %s to %s TTL %d", p.Src, p.Dst, p.TTL)
		}
		if q, ok := p.Quoted(); !ok || q != keyOf(Zone{}, in).Tuple {
			t.Errorf("quoted %s, want %s", q, keyOf(Zone{}, in).Tuple)
		}
		if c := packet.Checksum(p.Frame[34 : 14+p.TotalLen]); c != 0 {
			t.Errorf("ICMP checksum off by %#04x", c)
		}
		k := FlowKey{Zone: t0Zone, Tuple: res.Translated.Reversed()}
		was, _ := before.Flow(k)
		if now := f.flow(k); now.Seen != was.Seen || now.State != was.State {
			t.Error("an error counted as activity")
		}
	}
}

func TestSpec5_ErrorsFromTheEndpointAreTranslatedOutside(t *testing.T) {
	f := newFabric(t)
	res := f.send(testset.UplinkEast, udp(outside, "192.0.2.9", 5, "203.0.113.18", 5000))
	if res.Out != testset.Web3 {
		t.Fatal(path(res))
	}
	p := f.forward(testset.Web3, about(testset.Web3, "10.1.1.30", "192.0.2.9", res.Frame), testset.UplinkWest)
	q, _ := p.Quoted()
	if p.Src != addr("203.0.113.18") || q.Dst != addr("203.0.113.18") || q.Src != addr("192.0.2.9") {
		t.Errorf("from %s about %s", p.Src, q)
	}
}

func TestSpec5_Unrelated(t *testing.T) {
	f := newFabric(t)
	in := packet.Build(db(syn))
	e := about(testset.DB2, "10.1.2.11", "10.1.2.10", in)
	if res := f.drop(testset.DB2, e, ReasonICMPUnrelated); path(res) != "spoofguard(206) flow(206 icmp_unrelated)" {
		t.Error(path(res))
	}
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.forward(testset.DB2, e, testset.DB1)
	f.drop(testset.DB1, about(testset.DB1, "10.1.2.10", "10.1.2.11", in), ReasonICMPUnrelated) // wrong direction
	short := e
	short.Quoted = e.Quoted[:27]
	f.drop(testset.DB2, short, ReasonICMPUnrelated)
	spoofed := e
	spoofed.Src = addr("10.1.2.10")
	spoofed.Dst = addr("10.1.2.11")
	f.drop(testset.DB2, spoofed, ReasonSpoofguard)
	if res := f.drop(testset.DB2, ttl(e, 1), ReasonTTLExceeded); res.Verdict != Drop {
		t.Errorf("an error was answered: %s", res.Verdict)
	}
	f.now += ticksOf(120) + 1
	f.drop(testset.DB2, e, ReasonICMPUnrelated)
	if f.st.Len() != 0 {
		t.Error("the dead pair is left")
	}
}

func TestSpec5_StaleEntriesAreReevaluated(t *testing.T) {
	f := newFabric(t)
	in := udp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 53)
	res := f.send(testset.App2, in)
	e := about(testset.DB2, "10.1.2.11", res.Translated.Src.String(), res.Frame)
	f.apply(func(s *table.Set) {
		s.NAT.Get(table.NATKey{VRF: testset.Blue, Dir: table.NATOut}).Rules[1].To = prefix("203.0.113.56/32")
	})
	f.drop(testset.DB2, e, ReasonStaleConnection)
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].Action = table.Reject })
	if res := f.drop(testset.DB2, e, ReasonDFWRule); res.Verdict != Drop {
		t.Error(res.Verdict)
	}
	f.apply(func(*table.Set) {})
	f.forward(testset.DB2, e, testset.App2)
}
