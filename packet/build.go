package packet

import (
	"encoding/binary"
	"net/netip"
)

// Spec says what Build makes. Every field is written as it stands: the zero
// TTL is 0.
type Spec struct {
	EthDst, EthSrc MAC
	EtherType      uint16 // 0: IPv4, or ARP if ARP is set
	ARP            *ARP   // if set, the fields of IP do not matter

	TOS            uint8
	ID             uint16
	DontFragment   bool
	MoreFragments  bool
	FragmentOffset uint16 // in units of 8 bytes; not 0: Payload follows the IPv4 header
	TTL            uint8
	Proto          Proto
	Src, Dst       netip.Addr // IPv4

	SrcPort, DstPort uint16 // TCP, UDP, SCTP
	Flags            Flags  // TCP
	Seq, Ack         uint32 // TCP
	Window           uint16 // TCP
	Options          []byte // TCP; a multiple of 4 bytes, at most 40
	NoChecksum       bool   // UDP: the checksum is 0

	ICMPType, ICMPCode uint8
	Ident, Sequence    uint16 // ICMP: second word of the header; 0 in an error
	Quoted             []byte // ICMP errors: an IP packet, see Quote

	Payload []byte // behind the transport header, or behind the quoted packet
	Padding int    // zero bytes behind the IP packet
}

// Build returns the frame that s says, with right lengths and checksums. The
// checksum of SCTP is left 0.
//
// It panics if an address is not IPv4 or the packet exceeds 65535 bytes. For
// tests and for packets that a tracer injects.
func Build(s Spec) []byte {
	b := append([]byte(nil), s.EthDst[:]...)
	b = append(b, s.EthSrc[:]...)
	switch {
	case s.EtherType != 0:
		b = binary.BigEndian.AppendUint16(b, s.EtherType)
	case s.ARP != nil:
		b = binary.BigEndian.AppendUint16(b, EtherTypeARP)
	default:
		b = binary.BigEndian.AppendUint16(b, EtherTypeIPv4)
	}
	if s.ARP != nil {
		b = s.ARP.append(b)
	} else {
		b = appendPacket(b, s)
	}
	return append(b, make([]byte, s.Padding)...)
}

// Quote returns what an ICMP error quotes of frame: its IPv4 header and the
// 8 bytes that follow. Source: RFC 792.
func Quote(frame []byte) []byte {
	return frame[ipAt:min(len(frame), l4At+8)]
}

func appendPacket(b []byte, s Spec) []byte {
	var segment []byte
	switch {
	case s.FragmentOffset > 0:
		segment = s.Payload
	case s.Proto == TCP:
		segment = appendTCP(nil, s)
	case s.Proto == UDP:
		segment = appendUDP(nil, s)
	case s.Proto == SCTP:
		segment = binary.BigEndian.AppendUint16(nil, s.SrcPort)
		segment = binary.BigEndian.AppendUint16(segment, s.DstPort)
		segment = append(segment, make([]byte, sctpLen-len(segment))...)
		segment = append(segment, s.Payload...)
	case s.Proto == ICMP:
		segment = appendICMP(nil, s)
	default:
		segment = s.Payload
	}
	if len(segment) > 65535-ipLen {
		panic("packet: build: more than 65535 bytes")
	}
	return append(appendIPv4(b, s, ipLen+len(segment)), segment...)
}

func appendIPv4(b []byte, s Spec, total int) []byte {
	at := len(b)
	frag := s.FragmentOffset
	if s.DontFragment {
		frag |= fragmentDF
	}
	if s.MoreFragments {
		frag |= 0x2000
	}
	b = append(b, 4<<4|ipLen/4, s.TOS)
	b = binary.BigEndian.AppendUint16(b, uint16(total))
	b = binary.BigEndian.AppendUint16(b, s.ID)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, s.TTL, uint8(s.Proto), 0, 0)
	src, dst := s.Src.As4(), s.Dst.As4()
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	binary.BigEndian.PutUint16(b[at+ipSumAt:], Checksum(b[at:]))
	return b
}

func appendTCP(b []byte, s Spec) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, s.SrcPort)
	b = binary.BigEndian.AppendUint16(b, s.DstPort)
	b = binary.BigEndian.AppendUint32(b, s.Seq)
	b = binary.BigEndian.AppendUint32(b, s.Ack)
	b = append(b, uint8(tcpLen+len(s.Options))<<2, uint8(s.Flags))
	b = binary.BigEndian.AppendUint16(b, s.Window)
	b = append(b, 0, 0, 0, 0)
	b = append(b, s.Options...)
	b = append(b, s.Payload...)
	binary.BigEndian.PutUint16(b[at+tcpSumAt:], transportSum(s.Src, s.Dst, TCP, b[at:]))
	return b
}

func appendUDP(b []byte, s Spec) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, s.SrcPort)
	b = binary.BigEndian.AppendUint16(b, s.DstPort)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(s.Payload)))
	b = append(b, 0, 0)
	b = append(b, s.Payload...)
	if !s.NoChecksum {
		binary.BigEndian.PutUint16(b[at+udpSumAt:], transportSum(s.Src, s.Dst, UDP, b[at:]))
	}
	return b
}

func appendICMP(b []byte, s Spec) []byte {
	at := len(b)
	b = append(b, s.ICMPType, s.ICMPCode, 0, 0)
	b = binary.BigEndian.AppendUint16(b, s.Ident)
	b = binary.BigEndian.AppendUint16(b, s.Sequence)
	b = append(b, s.Quoted...)
	b = append(b, s.Payload...)
	binary.BigEndian.PutUint16(b[at+icmpSumAt:], Checksum(b[at:]))
	return b
}
