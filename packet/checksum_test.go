package packet

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The example of RFC 1071 §3.
func TestRFC1071_3_Example(t *testing.T) {
	if got := Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("%#04x, want %#04x", got, ^uint16(0xddf2))
	}
}

func TestRFC1071_1_OddByteIsPaddedWithZero(t *testing.T) {
	if got, want := Checksum([]byte{1, 2, 3}), Checksum([]byte{1, 2, 3, 0}); got != want {
		t.Errorf("%#04x, want %#04x", got, want)
	}
}

// The example of RFC 1624 §4: equation 2 of RFC 1141 gives 0xffff here.
func TestRFC1624_4_Example(t *testing.T) {
	if got := Update(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("%#04x, want 0", got)
	}
}

func TestRFC1624_3_SameAsAfresh(t *testing.T) {
	for seed := range uint32(20000) {
		h := seed * 2654435761
		b := binary.BigEndian.AppendUint32(nil, h^h>>15)
		b = binary.BigEndian.AppendUint32(b, h*31)
		from, to := binary.BigEndian.Uint16(b[2:]), uint16(h>>7)
		old := Checksum(b)
		binary.BigEndian.PutUint16(b[2:], to)
		if got, want := Update(old, from, to), Checksum(b); got != want {
			t.Fatalf("seed %d: %#04x, want %#04x", seed, got, want)
		}
	}
}

func TestUpdateKeepsUnchanged(t *testing.T) {
	if got := Update(0xffff, 5, 5); got != 0xffff {
		t.Errorf("%#04x, want the checksum as it was", got)
	}
	if got := Update(0xffff, 0xffff, 0); got != 0 {
		t.Errorf("%#04x, want the zero that the kernel writes", got)
	}
}

// valid reports whether all checksums of a built or translated frame are right.
func valid(t *testing.T, frame []byte) {
	t.Helper()
	var p Packet
	if f := p.Decode(frame); f != FaultNone {
		t.Fatalf("fault %d", f)
	}
	if c := Checksum(frame[ipAt:l4At]); c != 0 {
		t.Errorf("IPv4 checksum off by %#04x", c)
	}
	b := frame[l4At : ipAt+p.TotalLen]
	switch {
	case p.Later() || p.MoreFragments:
	case p.Proto == ICMP:
		if c := Checksum(b); c != 0 {
			t.Errorf("ICMP checksum off by %#04x", c)
		}
	case p.Proto == UDP && binary.BigEndian.Uint16(b[6:]) == 0:
	case p.Proto == TCP || p.Proto == UDP:
		s, d := p.Src.As4(), p.Dst.As4()
		if c := ^fold(sum(sum(sum(uint32(p.Proto)+uint32(len(b)), s[:]), d[:]), b)); c != 0 {
			t.Errorf("%s checksum off by %#04x", p.Proto, c)
		}
	}
}

func TestBuildHasRightChecksums(t *testing.T) {
	for _, proto := range []Proto{TCP, UDP, ICMP, SCTP, 47} {
		valid(t, Build(with(spec(proto), func(s *Spec) { s.ICMPType, s.Payload = 8, []byte("odd") })))
	}
}

// A datagram whose sum would be zero is sent with 0xffff (RFC 768).
func TestRFC768_ChecksumZeroIsWrittenAsOnes(t *testing.T) {
	s := with(spec(UDP), func(s *Spec) { s.Payload = []byte{0, 0} })
	f := Build(s)
	s.Payload = f[l4At+udpSumAt : l4At+udpSumAt+2] // as payload the sum makes the new one zero
	f = Build(s)
	if got := binary.BigEndian.Uint16(f[l4At+udpSumAt:]); got != 0xffff {
		t.Fatalf("checksum %#04x", got)
	}
	// Translated and back it is still 0xffff, never 0.
	to := Tuple{Src: s.Dst.Next(), Dst: s.Dst, SrcPort: 9}
	Translate(f, to)
	valid(t, f)
	Translate(f, Tuple{Src: s.Src, Dst: s.Dst})
	if got := binary.BigEndian.Uint16(f[l4At+udpSumAt:]); got != 0xffff {
		t.Errorf("checksum %#04x after translation", got)
	}
}

func TestRFC3022_4_1_Translation(t *testing.T) {
	to := Tuple{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("198.51.100.200"), SrcPort: 1025, DstPort: 65535}
	for _, proto := range []Proto{TCP, UDP, SCTP, ICMP, 47} {
		t.Run(proto.String(), func(t *testing.T) {
			f := Build(with(spec(proto), func(s *Spec) {
				s.SrcPort, s.DstPort, s.ICMPType, s.Ident, s.Payload = 5, 6, ICMPEchoRequest, 5, []byte("payload")
			}))
			Translate(f, to)
			SetTTL(f, 3)
			valid(t, f)
			var p Packet
			p.Decode(f)
			want := to
			want.Proto = proto
			switch proto {
			case ICMP:
				want.DstPort = 0
			case 47:
				want.SrcPort, want.DstPort = 0, 0
			}
			if p.Tuple() != want || p.TTL != 3 {
				t.Errorf("%s TTL %d, want %s", p.Tuple(), p.TTL, want)
			}
		})
	}
}

func TestRFC768_NoChecksumStaysNone(t *testing.T) {
	f := Build(with(spec(UDP), func(s *Spec) { s.NoChecksum = true }))
	Translate(f, Tuple{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 1})
	if got := binary.BigEndian.Uint16(f[l4At+udpSumAt:]); got != 0 {
		t.Errorf("checksum %#04x", got)
	}
}

func TestWrongChecksumStaysWrong(t *testing.T) {
	built := func() []byte {
		return Build(with(spec(TCP), func(s *Spec) { s.SrcPort, s.Payload = 7, []byte("data") }))
	}
	to := Tuple{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("10.0.0.2"), SrcPort: 1}
	right, wrong := built(), built()
	wrong[l4At+tcpSumAt] ^= 0x40
	start := binary.BigEndian.Uint16(wrong[l4At+tcpSumAt:])
	Translate(right, to)
	Translate(wrong, to)
	if cmp.Equal(right, wrong) {
		t.Error("the translation repaired the checksum")
	}
	Translate(wrong, Tuple{Src: netip.MustParseAddr("10.0.0.1"), Dst: to.Dst, SrcPort: 7})
	if got := binary.BigEndian.Uint16(wrong[l4At+tcpSumAt:]); got != start {
		t.Errorf("checksum %#04x after the way back, want %#04x", got, start)
	}
}

func TestLaterFragmentKeepsPayload(t *testing.T) {
	f := Build(with(spec(UDP), func(s *Spec) { s.FragmentOffset, s.Payload = 4, []byte("12345678") }))
	Translate(f, Tuple{Src: netip.MustParseAddr("203.0.113.9"), Dst: netip.MustParseAddr("10.0.0.9"), SrcPort: 1, DstPort: 2})
	valid(t, f)
	if got := string(f[l4At:]); got != "12345678" {
		t.Errorf("payload %q", got)
	}
}
