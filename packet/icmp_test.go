package packet

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// errorAbout returns an ICMP error from a router about inner.
func errorAbout(inner []byte) []byte {
	return Build(Spec{
		EthSrc: macA, EthDst: macB, TTL: 60, Proto: ICMP, ICMPType: ICMPTimeExceeded,
		Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("203.0.113.9"), Quoted: Quote(inner),
	})
}

// RFC 5508 §4.2: the outer header, the quoted header and the quoted transport
// header are translated, and all checksums are right afterwards. RFC 3022 §4.3
// says the same of the checksums.
func TestRFC5508_4_2_ICMPErrorTranslatesInnerHeader(t *testing.T) {
	outside := func(proto Proto) []byte { // as the translated packet was sent
		return Build(with(spec(proto), func(s *Spec) {
			s.Src, s.SrcPort, s.DstPort = netip.MustParseAddr("203.0.113.9"), 1025, 80
			s.ICMPType, s.Ident = ICMPEchoRequest, 1025
		}))
	}
	inside := Tuple{Src: netip.MustParseAddr("10.1.1.10"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 40000, DstPort: 80}
	for _, proto := range []Proto{TCP, UDP, ICMP, SCTP, 47} {
		t.Run(proto.String(), func(t *testing.T) {
			inner := outside(proto)
			if proto == 47 {
				inner = append(inner, make([]byte, 8)...)
				inner[17] += 8
				inner[ipAt+ipSumAt+1] -= 8
			}
			f := errorAbout(inner)
			TranslateError(f, netip.MustParseAddr("192.0.2.1"), inside.Src, inside)
			valid(t, f)
			quoted := f[quoteAt:]
			if c := Checksum(quoted[:ipLen]); c != 0 {
				t.Errorf("quoted IPv4 checksum off by %#04x", c)
			}
			var p Packet
			p.Decode(f)
			got, ok := p.Quoted()
			want := inside
			want.Proto = proto
			switch proto {
			case ICMP:
				want.DstPort = 0
				if c := Checksum(quoted[ipLen : ipLen+8]); c != 0 {
					t.Errorf("quoted ICMP checksum off by %#04x", c)
				}
			case UDP:
				whole := append(make([]byte, ethLen), quoted...)
				copy(whole[12:], []byte{8, 0})
				valid(t, whole)
			case 47:
				want.SrcPort, want.DstPort = 0, 0
			}
			if d := cmp.Diff(want, got, addrs); d != "" || !ok {
				t.Errorf("ok %v: %s", ok, d)
			}
			if p.Dst != inside.Src {
				t.Errorf("to %s", p.Dst)
			}
		})
	}
}

// A quoted UDP checksum of zero means none and stays so.
func TestRFC5508_4_2_QuotedUDPWithoutChecksum(t *testing.T) {
	f := errorAbout(Build(with(spec(UDP), func(s *Spec) { s.NoChecksum = true })))
	TranslateError(f, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.1.10"),
		Tuple{Src: netip.MustParseAddr("10.1.1.10"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 1})
	valid(t, f)
	if got := binary.BigEndian.Uint16(f[quoteAt+ipLen+udpSumAt:]); got != 0 {
		t.Errorf("checksum %#04x", got)
	}
}

func TestAppendICMPError(t *testing.T) {
	var p Packet
	in := Build(with(spec(UDP), func(s *Spec) { s.SrcPort, s.DstPort, s.Payload = 1, 2, []byte("long enough") }))
	p.Decode(in)
	f := AppendICMPError(nil, &p, ICMPUnreachable, ICMPPortUnreachable, netip.MustParseAddr("10.0.0.254"))
	want := Build(Spec{
		EthSrc: macB, EthDst: macA, TOS: 0xc0, TTL: 64, Proto: ICMP, ICMPType: 3, ICMPCode: 3,
		Src: netip.MustParseAddr("10.0.0.254"), Dst: p.Src, Quoted: Quote(in),
	})
	if d := cmp.Diff(want, f); d != "" || len(f) != 70 {
		t.Errorf("%d bytes: %s", len(f), d)
	}
}

func TestAppendICMPErrorFillsUpAShortQuote(t *testing.T) {
	var p Packet
	p.Decode(patched(Build(with(spec(47), func(s *Spec) { s.Payload, s.Padding = []byte("abc"), 9 })), 37, 'x'))
	f := AppendICMPError(nil, &p, 11, 0, p.Dst)
	valid(t, f)
	if got := string(f[62:]); got != "abc\x00\x00\x00\x00\x00" {
		t.Errorf("quoted %q", got)
	}
}

func TestRFC9293_3_10_7_1_Reset(t *testing.T) {
	rows := []struct {
		name    string
		flags   Flags
		payload int
		want    Spec
	}{
		{"SYN", SYN, 0, Spec{Flags: RST | ACK, Ack: 1001}},
		{"SYN with data", SYN, 5, Spec{Flags: RST | ACK, Ack: 1006}},
		{"FIN", FIN, 5, Spec{Flags: RST | ACK, Ack: 1006}},
		{"ACK", ACK, 5, Spec{Flags: RST, Seq: 2000}},
		{"SYN ACK", SYN | ACK, 0, Spec{Flags: RST, Seq: 2000}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var p Packet
			p.Decode(Build(with(spec(TCP), func(s *Spec) {
				s.SrcPort, s.DstPort, s.Flags, s.Seq, s.Ack, s.Payload = 40000, 22, r.flags, 1000, 2000, make([]byte, r.payload)
				s.Options, s.Padding = make([]byte, 4), 2
			})))
			want := r.want
			want.EthSrc, want.EthDst, want.Src, want.Dst = macB, macA, p.Dst, p.Src
			want.SrcPort, want.DstPort, want.TTL, want.Proto, want.DontFragment = 22, 40000, 64, TCP, true
			if d := cmp.Diff(Build(want), AppendRST(nil, &p)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAppendEchoReply(t *testing.T) {
	s := with(spec(ICMP), func(s *Spec) {
		s.TTL, s.ICMPType, s.Ident, s.Sequence, s.Payload, s.Padding = 7, ICMPEchoRequest, 5, 6, []byte("ping"), 3
	})
	var p Packet
	p.Decode(Build(s))
	s.EthSrc, s.EthDst, s.Src, s.Dst, s.TTL, s.ICMPType = s.EthDst, s.EthSrc, s.Dst, s.Src, 64, ICMPEchoReply
	if d := cmp.Diff(Build(s), AppendEchoReply(nil, &p)); d != "" {
		t.Error(d)
	}
}

func TestAppendARPReply(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	in := Build(Spec{EthSrc: macA, EthDst: MAC{255, 255, 255, 255, 255, 255}, ARP: &ARP{Op: ARPRequest, SenderMAC: macA, Sender: a, Target: b}, Padding: 18})
	want := Build(Spec{EthSrc: macB, EthDst: macA, ARP: &ARP{Op: ARPReply, SenderMAC: macB, Sender: b, TargetMAC: macA, Target: a}, Padding: 18})
	if d := cmp.Diff(want, AppendARPReply(nil, in, macB)); d != "" {
		t.Error(d)
	}
}

func TestRFC1191_4_TooBigSaysTheMTU(t *testing.T) {
	var p Packet
	p.Decode(Build(with(spec(UDP), func(s *Spec) { s.SrcPort, s.DstPort, s.Payload = 1, 2, make([]byte, 1400) })))
	f := AppendTooBig([]byte("before"), &p, 1280, netip.MustParseAddr("10.0.0.254"))[len("before"):]
	valid(t, f)
	if mtu := binary.BigEndian.Uint16(f[l4At+6:]); f[l4At] != 3 || f[l4At+1] != 4 || mtu != 1280 || len(f) != 70 {
		t.Errorf("ICMP %d,%d MTU %d, %d bytes", f[l4At], f[l4At+1], mtu, len(f))
	}
	if c := Checksum(f[l4At:]); c != 0 {
		t.Errorf("checksum off by %#04x", c)
	}
}
