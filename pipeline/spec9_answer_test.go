package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func TestSpec7_RouterAnswersEcho(t *testing.T) {
	rows := []struct {
		name string
		from table.PortID
		in   packet.Spec
		want string
	}{
		{"gateway", testset.Web1, echo(testset.Web1, "10.1.1.10", "10.1.1.1", 7), "spoofguard(201) dfw_out(201 #1007) route(2) local(2)"},
		{"TTL does not count", testset.Web1, ttl(echo(testset.Web1, "10.1.1.10", "10.1.1.1", 7), 0), "spoofguard(201) dfw_out(201 #1007) route(2) local(2)"},
		{"other gateway", testset.Web1, echo(testset.Web1, "10.1.1.10", "10.1.2.1", 7), "spoofguard(201) dfw_out(201 #1007) route(2) local(2)"},
		{"link of the Tier-0", testset.Web1, echo(testset.Web1, "10.1.1.10", "100.64.0.2", 7), "spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) snat(2 #2004) route(1) local(1)"},
		{"uplink", testset.UplinkEast, echo(outside, "192.0.2.9", "192.0.2.2", 7), "route(1) local(1)"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			in := packet.Build(r.in)
			res := f.raw(r.from, in)
			if res.Verdict != Answer || res.Reason != ReasonNone || res.Out != r.from || path(res) != r.want {
				t.Fatalf("%s %s by %d: %s", res.Verdict, res.Reason, res.Out, path(res))
			}
			want := r.in
			want.EthSrc, want.EthDst, want.Src, want.Dst = want.EthDst, want.EthSrc, want.Dst, want.Src
			want.TTL, want.ICMPType = 64, packet.ICMPEchoReply
			if d := cmp.Diff(packet.Build(want), res.Frame); d != "" {
				t.Error(d)
			}
			if f.st.Len() != 0 {
				t.Error("an answered echo made a connection")
			}
		})
	}
}

func TestSpec7_NoListener(t *testing.T) {
	f := newFabric(t)
	res := f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "10.1.1.1", 53), ReasonNoListener)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.ICMPType != 3 || p.ICMPCode != 3 || p.Src != addr("10.1.1.1") {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	for _, in := range []packet.Spec{
		tcp(testset.Web1, "10.1.1.10", 1, "10.1.1.1", 53, packet.SYN),
		udp(testset.Web1, "10.1.1.10", 1, "203.0.113.20", 53),
		echo(testset.Web1, "10.1.1.10", "203.0.113.20", 53),
	} {
		if res := f.drop(testset.Web1, in, ReasonNoListener); res.Verdict != Drop || len(res.Frame) != 0 {
			t.Errorf("%s to %s: %s", in.Proto, in.Dst, res.Verdict)
		}
	}
}

func TestSpec7_Unreachables(t *testing.T) {
	rows := []struct {
		name string
		from table.PortID
		in   packet.Spec
		why  Reason
		code uint8
		src  string
	}{
		{"discard", testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.7.0.1", 2), ReasonNoRoute, 0, "100.64.0.0"},
		{"up from above", testset.UplinkEast, udp(outside, "192.0.2.9", 1, "198.18.0.1", 2), ReasonNoRoute, 0, "192.0.2.2"},
		{"no endpoint", testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "10.1.2.99", 2), ReasonNoEndpoint, 1, "10.1.1.1"},
		{"no endpoint, from outside", testset.UplinkEast, udp(outside, "192.0.2.9", 1, "10.1.2.99", 2), ReasonNoEndpoint, 1, "100.64.0.1"},
		{"no next hop", testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "10.201.0.1", 2), ReasonNoEndpoint, 1, "10.1.1.1"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			in := packet.Build(r.in)
			res := f.raw(r.from, in)
			want := packet.Build(packet.Spec{
				EthSrc: r.in.EthDst, EthDst: r.in.EthSrc, TOS: 0xc0, TTL: 64, Proto: packet.ICMP,
				Src: addr(r.src), Dst: r.in.Src, ICMPType: 3, ICMPCode: r.code, Quoted: packet.Quote(in),
			})
			if d := cmp.Diff(want, res.Frame); d != "" || res.Verdict != Answer || res.Reason != r.why || res.Out != r.from {
				t.Errorf("%s %s by %d: %s", res.Verdict, res.Reason, res.Out, d)
			}
		})
	}
}

func TestSpec9_NeverAnswered(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, tcp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2, packet.SYN), testset.DB2)
	rst := tcp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2, packet.RST)
	if res := f.drop(testset.DB1, ttl(rst, 1), ReasonTTLExceeded); res.Verdict != Drop || len(res.Frame) != 0 {
		t.Errorf("reset: %s", res.Verdict)
	}
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].Action = table.Reject })
	if res := f.drop(testset.DB1, rst, ReasonDFWRule); res.Verdict != Drop || len(res.Frame) != 0 {
		t.Errorf("rejected reset: %s", res.Verdict)
	}
}
