package packet

import (
	"net/netip"
	"testing"
)

// FuzzDecode decodes any bytes, and rewrites and answers what is a packet.
func FuzzDecode(f *testing.F) {
	for _, proto := range []Proto{TCP, UDP, ICMP, SCTP, 47} {
		f.Add(Build(with(spec(proto), func(s *Spec) { s.ICMPType, s.Payload = 8, []byte("payload") })))
		f.Add(errorAbout(Build(with(spec(proto), func(s *Spec) { s.ICMPType, s.Payload = 8, make([]byte, 8) }))))
	}
	f.Add(Build(with(spec(UDP), func(s *Spec) { s.FragmentOffset, s.Payload = 1, []byte("later") })))
	to := Tuple{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("198.51.100.9"), SrcPort: 1, DstPort: 2}
	f.Fuzz(func(t *testing.T, frame []byte) {
		DecodeARP(frame)
		var p Packet
		if p.Decode(frame) != FaultNone || p.EtherType != EtherTypeIPv4 {
			return
		}
		before := p
		if _, ok := p.Quoted(); ok {
			TranslateError(frame, to.Src, to.Dst, to.Reversed())
		} else {
			Translate(frame, to)
		}
		SetTTL(frame, 9)
		if fault := p.Decode(frame); fault != FaultNone {
			t.Fatalf("fault %d after a rewrite", fault)
		}
		if p.Src != to.Src || p.Dst != to.Dst || p.TTL != 9 || p.PayloadLen != before.PayloadLen || p.Proto != before.Proto {
			t.Fatalf("rewritten to %+v", p)
		}
		for _, answer := range [][]byte{AppendICMPError(nil, &p, 3, 3, p.Dst), AppendRST(nil, &p)} {
			var q Packet
			if fault := q.Decode(answer); fault != FaultNone {
				t.Fatalf("fault %d of an answer", fault)
			}
		}
		if p.EchoRequest() {
			AppendEchoReply(nil, &p)
		}
	})
}

// FuzzBuild decodes what Build made and gets the Spec back.
func FuzzBuild(f *testing.F) {
	f.Add(uint32(0x0a000001), uint32(0x0a000002), uint8(6), uint8(64), uint16(1), uint16(2), uint8(2), uint32(3), uint32(4), uint16(0), false, []byte("x"))
	f.Add(uint32(0x0a000001), uint32(0x0a000002), uint8(17), uint8(64), uint16(1), uint16(2), uint8(2), uint32(3), uint32(4), uint16(0), true, []byte{})
	f.Add(uint32(0x0a000001), uint32(0x0a000002), uint8(1), uint8(1), uint16(1), uint16(2), uint8(8), uint32(3), uint32(4), uint16(0), false, []byte("x"))
	f.Add(uint32(0x0a000001), uint32(0x0a000002), uint8(17), uint8(64), uint16(1), uint16(2), uint8(2), uint32(3), uint32(4), uint16(9), true, []byte("x"))
	f.Fuzz(func(t *testing.T, src, dst uint32, proto, ttl uint8, sport, dport uint16, typ uint8, seq, ack uint32, offset uint16, more bool, payload []byte) {
		addr := func(n uint32) netip.Addr {
			return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		}
		s := Spec{
			EthDst: macA, EthSrc: macB, TTL: ttl, Proto: Proto(proto), Src: addr(src), Dst: addr(dst), ID: sport ^ dport,
			SrcPort: sport, DstPort: dport, Flags: Flags(typ), Seq: seq, Ack: ack, ICMPType: typ, Ident: sport,
			FragmentOffset: offset & 0x1fff, MoreFragments: more, Payload: payload[:min(len(payload), 1400)], Padding: int(ttl) % 8,
		}
		frame := Build(s)
		var p Packet
		fault := p.Decode(frame)
		switch {
		case fault == FaultMartian || fault == FaultMulticast:
			return
		case fault == FaultFragment && s.Proto == TCP && s.FragmentOffset == 1:
			return
		case fault == FaultICMPType && s.Proto == ICMP && typ != ICMPEchoRequest && typ != ICMPEchoReply && !isError(typ):
			return
		case fault != FaultNone:
			t.Fatalf("fault %d", fault)
		}
		got := Spec{
			EthDst: p.EthDst, EthSrc: p.EthSrc, TTL: p.TTL, Proto: p.Proto, Src: p.Src, Dst: p.Dst, ID: p.ID,
			SrcPort: p.SrcPort, DstPort: p.DstPort, Flags: p.Flags, Seq: p.Seq, Ack: p.Ack, ICMPType: p.ICMPType,
			FragmentOffset: p.FragmentOffset, MoreFragments: p.MoreFragments,
		}
		if want := carried(s); !equal(got, want) || p.PayloadLen != len(s.Payload) || len(frame) != ethLen+p.TotalLen+s.Padding {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if s.Proto != SCTP {
			valid(t, frame)
		}
	})
}

// carried returns s without what its protocol has no room for.
func carried(s Spec) Spec {
	s.Payload, s.Padding = nil, 0
	if s.FragmentOffset > 0 {
		s.SrcPort, s.DstPort, s.Flags, s.Seq, s.Ack, s.ICMPType = 0, 0, 0, 0, 0, 0
	}
	if s.Proto != TCP {
		s.Flags, s.Seq, s.Ack = 0, 0, 0
	}
	if s.Proto != ICMP {
		s.ICMPType = 0
	}
	if !s.Proto.HasPorts() {
		s.SrcPort, s.DstPort = 0, 0
	}
	if s.Proto == ICMP && s.FragmentOffset == 0 {
		switch s.ICMPType {
		case ICMPEchoRequest:
			s.SrcPort = s.Ident
		case ICMPEchoReply:
			s.DstPort = s.Ident
		}
	}
	s.Ident = 0
	return s
}

func equal(a, b Spec) bool {
	return a.EthDst == b.EthDst && a.EthSrc == b.EthSrc && a.TTL == b.TTL && a.Proto == b.Proto && a.Src == b.Src && a.Dst == b.Dst &&
		a.ID == b.ID && a.SrcPort == b.SrcPort && a.DstPort == b.DstPort && a.Flags == b.Flags && a.Seq == b.Seq && a.Ack == b.Ack &&
		a.ICMPType == b.ICMPType && a.FragmentOffset == b.FragmentOffset && a.MoreFragments == b.MoreFragments
}
