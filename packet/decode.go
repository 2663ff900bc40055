package packet

import (
	"encoding/binary"
	"net/netip"
)

// EtherTypes that Decode tells apart.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // IEEE 802.1Q
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // IEEE 802.1ad
)

// Header lengths and offsets, in bytes.
const (
	ethLen  = 14
	ipLen   = 20
	ipAt    = ethLen
	l4At    = ethLen + ipLen
	tcpLen  = 20
	udpLen  = 8
	icmpLen = 8
	sctpLen = 12
	arpLen  = 28
	quoteAt = l4At + icmpLen // of the packet that an ICMP error quotes
)

// ICMP message types. Source: RFC 792.
const (
	ICMPEchoReply    = 0
	ICMPUnreachable  = 3
	ICMPEchoRequest  = 8
	ICMPTimeExceeded = 11
	ICMPParameter    = 12
)

// ICMP codes of Unreachable that answers use. Source: RFC 792, RFC 1812 §5.2.7.1.
const (
	ICMPNetUnreachable      = 0
	ICMPHostUnreachable     = 1
	ICMPPortUnreachable     = 3
	ICMPFragmentationNeeded = 4
	ICMPAdminProhibited     = 13
)

// Flags are the control bits of a TCP header.
type Flags uint8

// The control bits. Source: RFC 9293 §3.1.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Fault says why a frame is not a packet that is carried. The list is closed.
type Fault uint8

// The faults, in the order in which Decode looks for them.
const (
	FaultNone Fault = iota
	FaultMalformed
	FaultVLAN
	FaultIPv6
	FaultNotIP
	FaultIPOptions
	FaultMartian
	FaultMulticast
	FaultFragment
	FaultICMPType
)

// Packet is a decoded frame. The zero value is ready for Decode; one Packet
// can be decoded into any number of times.
//
// All fields but Frame, EthDst, EthSrc and EtherType are valid iff EtherType
// is IPv4. Lengths are in bytes.
type Packet struct {
	Frame          []byte // as given to Decode, not copied
	EthDst, EthSrc MAC
	EtherType      uint16

	TOS            uint8
	TotalLen       int // of the IP packet; the rest of Frame is padding
	ID             uint16
	DontFragment   bool
	MoreFragments  bool
	FragmentOffset uint16 // in units of 8 bytes
	TTL            uint8
	Proto          Proto
	Src, Dst       netip.Addr

	// The fields below are zero in a later fragment.

	SrcPort, DstPort uint16 // as Tuple has them; 0 in an ICMP error
	Flags            Flags  // valid iff Proto is TCP
	Seq, Ack         uint32 // valid iff Proto is TCP
	ICMPType         uint8  // valid iff Proto is ICMP
	ICMPCode         uint8  // valid iff Proto is ICMP
	PayloadLen       int    // behind the transport header, within TotalLen
}

// Tuple returns the packet's tuple. In a later fragment the ports are 0.
func (p *Packet) Tuple() Tuple {
	return Tuple{Src: p.Src, Dst: p.Dst, Proto: p.Proto, SrcPort: p.SrcPort, DstPort: p.DstPort}
}

// Later reports whether the packet is a fragment behind the first one.
func (p *Packet) Later() bool { return p.FragmentOffset > 0 }

// First reports whether the packet is the first of several fragments.
func (p *Packet) First() bool { return p.FragmentOffset == 0 && p.MoreFragments }

// EchoRequest reports whether the packet is an ICMP echo request.
func (p *Packet) EchoRequest() bool {
	return p.Proto == ICMP && !p.Later() && p.ICMPType == ICMPEchoRequest
}

// EchoReply reports whether the packet is an ICMP echo reply.
func (p *Packet) EchoReply() bool {
	return p.Proto == ICMP && !p.Later() && p.ICMPType == ICMPEchoReply
}

// ICMPError reports whether the packet is an ICMP error: unreachable, time
// exceeded or parameter problem.
func (p *Packet) ICMPError() bool {
	return p.Proto == ICMP && !p.Later() && isError(p.ICMPType)
}

func isError(icmpType uint8) bool {
	return icmpType == ICMPUnreachable || icmpType == ICMPTimeExceeded || icmpType == ICMPParameter
}

// Decode reads frame into p, whose former content is overwritten.
//
// Checksums are not verified. Of an ARP frame only the Ethernet header is
// read, see DecodeARP. With a fault, the fields up to where it was found are
// set. p keeps frame; it must not change while p is in use.
// Cost O(1), no allocation.
// Source: docs/pipeline.md §2.
func (p *Packet) Decode(frame []byte) Fault {
	*p = Packet{Frame: frame}
	if len(frame) < ethLen {
		return FaultMalformed
	}
	p.EthDst, p.EthSrc = MAC(frame[0:6]), MAC(frame[6:12])
	p.EtherType = binary.BigEndian.Uint16(frame[12:])
	switch p.EtherType {
	case EtherTypeVLAN, EtherTypeQinQ:
		return FaultVLAN
	case EtherTypeIPv6:
		return FaultIPv6
	case EtherTypeARP:
		return FaultNone
	case EtherTypeIPv4:
		return p.decodeIPv4(frame[ipAt:])
	}
	return FaultNotIP
}

func (p *Packet) decodeIPv4(b []byte) Fault {
	if len(b) < ipLen || b[0]>>4 != 4 || b[0]&0xf < ipLen/4 {
		return FaultMalformed
	}
	p.TotalLen = int(binary.BigEndian.Uint16(b[2:]))
	if p.TotalLen < ipLen || p.TotalLen > len(b) {
		return FaultMalformed
	}
	if b[0]&0xf > ipLen/4 {
		return FaultIPOptions
	}
	p.TOS = b[1]
	p.ID = binary.BigEndian.Uint16(b[4:])
	frag := binary.BigEndian.Uint16(b[6:])
	p.DontFragment, p.MoreFragments, p.FragmentOffset = frag&0x4000 != 0, frag&0x2000 != 0, frag&0x1fff
	p.TTL, p.Proto = b[8], Proto(b[9])
	src, dst := [4]byte(b[12:16]), [4]byte(b[16:20])
	p.Src, p.Dst = netip.AddrFrom4(src), netip.AddrFrom4(dst)
	switch {
	case src[0] == 0, src[0] == 127, src[0] >= 224, dst[0] == 0, dst[0] == 127, src == dst:
		return FaultMartian
	case dst[0] >= 224:
		return FaultMulticast
	}
	return p.decodeTransport(b[ipLen:p.TotalLen])
}

func (p *Packet) decodeTransport(b []byte) Fault {
	if p.Later() {
		// RFC 3128: offset 1 would overwrite the flags of the first fragment.
		if p.Proto == TCP && p.FragmentOffset == 1 {
			return FaultFragment
		}
		p.PayloadLen = len(b)
		return FaultNone
	}
	header := 0
	switch p.Proto {
	case TCP:
		if len(b) < tcpLen {
			return FaultMalformed
		}
		header = int(b[12]>>4) * 4
		if header < tcpLen || header > len(b) {
			return FaultMalformed
		}
		p.Seq, p.Ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
		p.Flags = Flags(b[13])
	case UDP:
		header = udpLen
		if len(b) < udpLen || binary.BigEndian.Uint16(b[4:]) < udpLen {
			return FaultMalformed
		}
	case SCTP:
		header = sctpLen
		if len(b) < sctpLen {
			return FaultMalformed
		}
	case ICMP:
		header = icmpLen
		if len(b) < icmpLen {
			return FaultMalformed
		}
		p.ICMPType, p.ICMPCode = b[0], b[1]
		if !isError(b[0]) && !isEcho(b) {
			return FaultICMPType
		}
	}
	p.SrcPort, p.DstPort = ports(p.Proto, b)
	p.PayloadLen = len(b) - header
	return FaultNone
}

// isEcho reports whether b, at least 2 bytes of ICMP, is an echo request or
// reply. Neither has a code other than 0.
func isEcho(b []byte) bool {
	return (b[0] == ICMPEchoRequest || b[0] == ICMPEchoReply) && b[1] == 0
}

// ports reads a tuple's ports from a transport header of at least 8 bytes.
func ports(proto Proto, b []byte) (src, dst uint16) {
	switch {
	case proto.HasPorts():
		return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case proto == ICMP && b[0] == ICMPEchoRequest:
		return binary.BigEndian.Uint16(b[4:]), 0
	case proto == ICMP && b[0] == ICMPEchoReply:
		return 0, binary.BigEndian.Uint16(b[4:])
	}
	return 0, 0
}

// Quoted returns the tuple of the packet that an ICMP error quotes.
//
// ok is false if p is no ICMP error, or the quote has under 28 bytes or is
// one that belongs to no connection: not IPv4, with options, a later
// fragment, or an ICMP message other than echo. No allocation.
// Source: docs/pipeline.md §5.
func (p *Packet) Quoted() (t Tuple, ok bool) {
	if !p.ICMPError() || p.PayloadLen < ipLen+8 {
		return Tuple{}, false
	}
	b := p.Frame[quoteAt : quoteAt+ipLen+8]
	if b[0] != 4<<4|ipLen/4 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return Tuple{}, false
	}
	t = Tuple{
		Src:   netip.AddrFrom4([4]byte(b[12:16])),
		Dst:   netip.AddrFrom4([4]byte(b[16:20])),
		Proto: Proto(b[9]),
	}
	if t.Proto == ICMP && !isEcho(b[ipLen:]) {
		return Tuple{}, false
	}
	t.SrcPort, t.DstPort = ports(t.Proto, b[ipLen:])
	return t, true
}
