package packet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	macA  = MAC{2, 0, 0, 0, 0, 0xa}
	macB  = MAC{2, 0, 0, 0, 0, 0xb}
	addrs = cmpopts.EquateComparable(netip.Addr{})
)

// spec returns the beginning of a packet from 10.0.0.1 to 10.0.0.2.
func spec(proto Proto) Spec {
	return Spec{
		EthSrc: macA, EthDst: macB, TTL: 64, Proto: proto,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
	}
}

func with(s Spec, change func(*Spec)) Spec {
	change(&s)
	return s
}

// patched returns frame with bytes replaced at an offset.
func patched(frame []byte, at int, bytes ...byte) []byte {
	copy(frame[at:], bytes)
	return frame
}

func TestDecodeFaults(t *testing.T) {
	tcp := func() []byte { return Build(with(spec(TCP), func(s *Spec) { s.Flags = SYN; s.Padding = 6 })) }
	src := func(a string) []byte {
		return Build(with(spec(UDP), func(s *Spec) { s.Src = netip.MustParseAddr(a) }))
	}
	dst := func(a string) []byte {
		return Build(with(spec(UDP), func(s *Spec) { s.Dst = netip.MustParseAddr(a) }))
	}
	icmp := func(typ, code uint8) []byte {
		return Build(with(spec(ICMP), func(s *Spec) { s.ICMPType, s.ICMPCode = typ, code }))
	}
	short := func(proto Proto, n int) []byte { // n bytes behind the IPv4 header, padding behind them
		f := Build(with(spec(99), func(s *Spec) { s.Payload = make([]byte, n); s.Padding = 40 }))
		f[ipAt+9] = uint8(proto)
		return f
	}
	fragment := func(proto Proto, offset uint16, n int) []byte {
		return Build(with(spec(proto), func(s *Spec) { s.FragmentOffset = offset; s.Payload = make([]byte, n) }))
	}
	rows := []struct {
		name  string
		frame []byte
		want  Fault
	}{
		{"empty", nil, FaultMalformed},
		{"ethernet short", tcp()[:13], FaultMalformed},
		{"ethernet only", tcp()[:14], FaultMalformed},
		{"vlan", patched(tcp(), 12, 0x81, 0), FaultVLAN},
		{"qinq", patched(tcp(), 12, 0x88, 0xa8), FaultVLAN},
		{"ipv6", patched(tcp(), 12, 0x86, 0xdd), FaultIPv6},
		{"lldp", patched(tcp(), 12, 0x88, 0xcc), FaultNotIP},
		{"802.3 length", patched(tcp(), 12, 0, 40), FaultNotIP},
		{"arp", patched(tcp(), 12, 8, 6), FaultNone},
		{"header short", tcp()[:14+19], FaultMalformed},
		{"version 6", patched(tcp(), 14, 0x65), FaultMalformed},
		{"IHL 4", patched(tcp(), 14, 0x44), FaultMalformed},
		{"IHL 6", patched(tcp(), 14, 0x46), FaultIPOptions},
		{"IHL 6, total length wrong", patched(tcp(), 14, 0x46, 0, 0, 19), FaultMalformed},
		{"total length 19", patched(tcp(), 16, 0, 19), FaultMalformed},
		{"total length to the end of padding", patched(tcp(), 16, 0, 46), FaultNone},
		{"total length beyond the frame", patched(tcp(), 16, 0, 47), FaultMalformed},
		{"from 0.1.2.3", src("0.1.2.3"), FaultMartian},
		{"from loopback", src("127.0.0.1"), FaultMartian},
		{"from multicast", src("224.0.0.1"), FaultMartian},
		{"from broadcast", src("255.255.255.255"), FaultMartian},
		{"from 223.255.255.255", src("223.255.255.255"), FaultNone},
		{"to 0.0.0.0", dst("0.0.0.0"), FaultMartian},
		{"to loopback", dst("127.1.2.3"), FaultMartian},
		{"land", dst("10.0.0.1"), FaultMartian},
		{"to multicast", dst("224.0.0.5"), FaultMulticast},
		{"to broadcast", dst("255.255.255.255"), FaultMulticast},
		{"tcp 19 bytes", short(TCP, 19), FaultMalformed},
		{"tcp data offset 4", patched(tcp(), 34+12, 0x40), FaultMalformed},
		{"tcp data offset beyond the packet", patched(tcp(), 34+12, 0x60), FaultMalformed},
		{"udp 7 bytes", short(UDP, 7), FaultMalformed},
		{"udp length 7", patched(Build(spec(UDP)), 34+4, 0, 7), FaultMalformed},
		{"udp length beyond the packet", patched(Build(spec(UDP)), 34+4, 0xff, 0xff), FaultNone},
		{"sctp 11 bytes", short(SCTP, 11), FaultMalformed},
		{"sctp", Build(spec(SCTP)), FaultNone},
		{"icmp 7 bytes", short(ICMP, 7), FaultMalformed},
		{"icmp request", icmp(8, 0), FaultNone},
		{"icmp request code 1", icmp(8, 1), FaultICMPType},
		{"icmp reply", icmp(0, 0), FaultNone},
		{"icmp reply code 1", icmp(0, 1), FaultICMPType},
		{"icmp unreachable", icmp(3, 13), FaultNone},
		{"icmp redirect", icmp(5, 0), FaultICMPType},
		{"icmp time exceeded", icmp(11, 0), FaultNone},
		{"icmp parameter problem", icmp(12, 0), FaultNone},
		{"icmp timestamp", icmp(13, 0), FaultICMPType},
		{"other protocol, no payload", short(47, 0), FaultNone},
		{"later fragment, no payload", fragment(UDP, 2, 0), FaultNone},
		{"later fragment of any icmp", fragment(ICMP, 1, 8), FaultNone},
		{"RFC 3128: tcp offset 1", fragment(TCP, 1, 20), FaultFragment},
		{"tcp offset 2", fragment(TCP, 2, 20), FaultNone},
		{"udp offset 1", fragment(UDP, 1, 20), FaultNone},
		{"RFC 1858: first fragment of 16 bytes of tcp", patched(short(TCP, 16), 20, 0x20, 0), FaultMalformed},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var p Packet
			if got := p.Decode(r.frame); got != r.want {
				t.Errorf("fault %d, want %d", got, r.want)
			}
		})
	}
}

func TestDecodeFields(t *testing.T) {
	frame := Build(with(spec(TCP), func(s *Spec) {
		s.TOS, s.ID, s.DontFragment, s.SrcPort, s.DstPort = 0x10, 7, true, 40000, 443
		s.Flags, s.Seq, s.Ack, s.Options, s.Payload, s.Padding = SYN|ACK, 1<<31, 99, make([]byte, 8), []byte("hello"), 3
	}))
	var p Packet
	if f := p.Decode(frame); f != FaultNone {
		t.Fatal(f)
	}
	want := Packet{
		Frame: frame, EthDst: macB, EthSrc: macA, EtherType: EtherTypeIPv4,
		TOS: 0x10, TotalLen: 20 + 28 + 5, ID: 7, DontFragment: true, TTL: 64, Proto: TCP,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		SrcPort: 40000, DstPort: 443, Flags: SYN | ACK, Seq: 1 << 31, Ack: 99, PayloadLen: 5,
	}
	if d := cmp.Diff(want, p, addrs); d != "" {
		t.Error(d)
	}
}

func TestTupleOfEcho(t *testing.T) {
	for _, r := range []struct {
		typ      uint8
		src, dst uint16
	}{{ICMPEchoRequest, 77, 0}, {ICMPEchoReply, 0, 77}, {ICMPUnreachable, 0, 0}} {
		var p Packet
		p.Decode(Build(with(spec(ICMP), func(s *Spec) { s.ICMPType, s.Ident = r.typ, 77 })))
		if p.SrcPort != r.src || p.DstPort != r.dst {
			t.Errorf("type %d: ports %d, %d, want %d, %d", r.typ, p.SrcPort, p.DstPort, r.src, r.dst)
		}
	}
	a := Tuple{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: ICMP, SrcPort: 77}
	if got := a.Reversed().String(); got != "10.0.0.2:0 > 10.0.0.1:77/icmp" {
		t.Errorf("reversed %s", got)
	}
}

func TestQuoted(t *testing.T) {
	inner := func(proto Proto) []byte {
		return Quote(Build(with(spec(proto), func(s *Spec) {
			s.SrcPort, s.DstPort, s.ICMPType, s.Ident, s.Payload = 1000, 2000, ICMPEchoRequest, 55, make([]byte, 16)
		})))
	}
	tuple := func(proto Proto, src, dst uint16) Tuple {
		return Tuple{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: proto, SrcPort: src, DstPort: dst}
	}
	rows := []struct {
		name  string
		quote []byte
		want  Tuple
		ok    bool
	}{
		{"tcp", inner(TCP), tuple(TCP, 1000, 2000), true},
		{"udp", inner(UDP), tuple(UDP, 1000, 2000), true},
		{"sctp", inner(SCTP), tuple(SCTP, 1000, 2000), true},
		{"echo request", inner(ICMP), tuple(ICMP, 55, 0), true},
		{"echo reply", patched(inner(ICMP), 20, 0), tuple(ICMP, 0, 55), true},
		{"gre", inner(47), tuple(47, 0, 0), true},
		{"timestamp", patched(inner(ICMP), 20, 13), Tuple{}, false},
		{"27 bytes", inner(TCP)[:27], Tuple{}, false},
		{"ipv6", patched(inner(TCP), 0, 0x65), Tuple{}, false},
		{"options", patched(inner(TCP), 0, 0x46), Tuple{}, false},
		{"later fragment", patched(inner(TCP), 6, 0, 1), Tuple{}, false},
		{"first fragment", patched(inner(TCP), 6, 0x20, 0), tuple(TCP, 1000, 2000), true},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var p Packet
			if f := p.Decode(Build(with(spec(ICMP), func(s *Spec) { s.ICMPType, s.Quoted, s.Padding = 11, r.quote, 20 }))); f != FaultNone {
				t.Fatal(f)
			}
			got, ok := p.Quoted()
			if d := cmp.Diff(r.want, got, addrs); d != "" || ok != r.ok {
				t.Errorf("ok %v: %s", ok, d)
			}
		})
	}
	var p Packet
	p.Decode(Build(spec(UDP)))
	if _, ok := p.Quoted(); ok {
		t.Error("a UDP packet quotes something")
	}
}

func TestARP(t *testing.T) {
	want := ARP{Op: ARPRequest, SenderMAC: macA, Sender: netip.MustParseAddr("10.0.0.1"), Target: netip.MustParseAddr("10.0.0.2")}
	build := func() []byte { return Build(Spec{EthSrc: macA, ARP: &want, Padding: 18}) }
	got, ok := DecodeARP(build())
	if d := cmp.Diff(want, got, addrs); d != "" || !ok {
		t.Errorf("ok %v: %s", ok, d)
	}
	for name, frame := range map[string][]byte{
		"short":         build()[:41],
		"hardware type": patched(build(), 14, 0, 6),
		"protocol":      patched(build(), 16, 0x86, 0xdd),
		"lengths":       patched(build(), 18, 8, 4),
	} {
		if _, ok := DecodeARP(frame); ok {
			t.Errorf("%s: ok", name)
		}
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	frame := Build(with(spec(ICMP), func(s *Spec) { s.ICMPType, s.Quoted = 3, Quote(Build(spec(TCP))) }))
	var p Packet
	if n := testing.AllocsPerRun(100, func() {
		p.Decode(frame)
		p.Quoted()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
