package packet

import (
	"encoding/binary"
	"net/netip"
)

// Checksum returns the Internet checksum of b: the complement of the one's
// complement sum of its 16-bit words, an odd last byte padded with zero.
// Source: RFC 1071 §1.
func Checksum(b []byte) uint16 { return ^fold(sum(0, b)) }

// sum adds the words of b to s without folding; b has under 64 KiB.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// Update returns checksum after one 16-bit word of what it covers changed.
//
// A wrong checksum stays wrong by the same difference. The result of a change
// is never 0xffff, as the kernel's csum_replace: of the two forms of zero it is
// 0. An unchanged word leaves the checksum as it is.
// Source: RFC 1624 §3, equation 3.
func Update(checksum, from, to uint16) uint16 {
	if from == to {
		return checksum
	}
	// 0xffff is a zero of one's complement: with it no sum is the other one.
	return ^fold(0xffff + uint32(^checksum) + uint32(^from) + uint32(to))
}

// update changes the word at b[at:] to v and the checksum at b[sum:], which
// covers it, along with it.
func update(b []byte, at, sum int, v uint16) {
	old := binary.BigEndian.Uint16(b[at:])
	binary.BigEndian.PutUint16(b[at:], v)
	binary.BigEndian.PutUint16(b[sum:], Update(binary.BigEndian.Uint16(b[sum:]), old, v))
}

// transportSum returns the checksum of TCP or UDP segment b with the IPv4
// pseudo header. Source: RFC 9293 §3.1, RFC 768.
func transportSum(src, dst netip.Addr, proto Proto, b []byte) uint16 {
	s4, d4 := src.As4(), dst.As4()
	s := sum(sum(uint32(proto)+uint32(len(b)), s4[:]), d4[:])
	c := ^fold(sum(s, b))
	if c == 0 && proto == UDP {
		return 0xffff
	}
	return c
}
