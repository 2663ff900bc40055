package pipeline

import (
	"encoding/binary"
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func mtu(n uint16) func(*table.Set) {
	return func(s *table.Set) {
		for _, u := range s.Uplinks.All() {
			u.MTU = n
		}
	}
}

// sized makes s an IP packet of n bytes.
func sized(s packet.Spec, n int) packet.Spec {
	s.Payload = nil
	s.Payload = make([]byte, n-(len(packet.Build(s))-14))
	return s
}

func TestSpec6_3_TooBigForTheUplink(t *testing.T) {
	out := udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53)
	for _, known := range []bool{false, true} {
		f := newFabric(t)
		f.apply(mtu(1000))
		if known {
			f.forward(testset.Web2, out, testset.UplinkEast)
		}
		before := f.st.Len()
		in := packet.Build(sized(out, 1001))
		res := f.raw(testset.Web2, in)
		want := "spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) deliver(214 too_big)"
		if known {
			want = "spoofguard(202) flow(202) spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) deliver(214 too_big)"
		}
		if res.Verdict != Answer || res.Reason != ReasonTooBig || res.Out != testset.Web2 || path(res) != want {
			t.Fatalf("known %v: %s %s: %s, want %s", known, res.Verdict, res.Reason, path(res), want)
		}
		p := f.decode(res.Frame)
		if p.Src != addr("100.64.0.0") || p.ICMPType != 3 || p.ICMPCode != 4 || binary.BigEndian.Uint16(res.Frame[40:]) != 1000 || len(res.Frame) != 70 {
			t.Errorf("known %v: %+v", known, p)
		}
		if packet.Checksum(res.Frame[34:]) != 0 {
			t.Error("ICMP checksum")
		}
		if f.st.Len() != before || len(f.st.tallies) > 0 && !known {
			t.Errorf("known %v: a packet that was dropped left a mark", known)
		}
		f.forward(testset.Web2, sized(out, 1000), testset.UplinkEast)
	}
}

func TestSpec6_3_SizeComesBeforeTTLOfAKnownConnection(t *testing.T) {
	out := sized(udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53), 1001)
	f := newFabric(t)
	f.apply(mtu(1000))
	f.drop(testset.Web2, ttl(out, 1), ReasonTTLExceeded) // of a new one the walk is first
	f.forward(testset.Web2, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53), testset.UplinkEast)
	f.drop(testset.Web2, ttl(out, 1), ReasonTooBig)
}

func TestSpec6_3_ReplyTooBig(t *testing.T) {
	f := newFabric(t)
	f.apply(mtu(1000))
	f.forward(testset.UplinkEast, udp(outside, "192.0.2.9", 5, "203.0.113.18", 5000), testset.Web3)
	res := f.drop(testset.Web3, sized(udp(testset.Web3, "10.1.1.30", 5000, "192.0.2.9", 5), 1001), ReasonTooBig)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.Src != addr("100.64.0.0") || p.Dst != addr("10.1.1.30") {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	if path(res) != "spoofguard(203) flow(203) route(2) ttl(2) route(1) ttl(1) route(2) ttl(2) route(1) ttl(1) deliver(215 too_big)" {
		t.Error(path(res))
	}
}

// Inside there is one MTU; errors and resets pass, and later fragments get no
// answer.
func TestSpec6_3_WhatIsNeverTooBigOrAnswered(t *testing.T) {
	f := newFabric(t)
	f.apply(mtu(100))
	f.forward(testset.DB1, sized(udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), 1400), testset.DB2)
	in := udp(outside, "192.0.2.9", 5, "203.0.113.18", 5000)
	f.forward(testset.UplinkEast, sized(in, 1400), testset.Web3) // in is not limited
	e := about(testset.Web3, "10.1.1.30", "192.0.2.9", f.send(testset.UplinkEast, in).Frame)
	e.Payload = make([]byte, 200)
	f.forward(testset.Web3, e, testset.UplinkWest)
	first, later := fragments(udp(testset.Web3, "10.1.1.30", 5000, "192.0.2.9", 5))
	f.forward(testset.Web3, first, testset.UplinkWest)
	later.Payload = make([]byte, 81)
	if res := f.drop(testset.Web3, later, ReasonTooBig); res.Verdict != Drop {
		t.Error(res.Verdict)
	}
	later.Payload = make([]byte, 80)
	f.forward(testset.Web3, later, testset.UplinkWest)
	// No MTU, no limit.
	f.apply(mtu(0))
	later.Payload = make([]byte, 9000)
	f.forward(testset.Web3, later, testset.UplinkWest)
}
