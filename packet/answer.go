package packet

import (
	"encoding/binary"
	"net/netip"
)

// The functions of this file append a whole frame to b, made from one that
// was received, with its MAC addresses exchanged: it goes back to the device
// that sent it. They allocate only if b has no room.
// Source: docs/pipeline.md §9.

const (
	answerTTL      = 64
	icmpMTUAt      = 6
	tosControl     = 0xc0 // RFC 1812 §4.3.2.5: internetwork control
	fragmentDF     = 0x4000
	icmpErrorBytes = ipLen + icmpLen + ipLen + 8
)

// AppendICMPError appends the ICMP error of type and code about p, sent by
// src: 70 bytes, with p's IPv4 header and 8 bytes of its payload quoted. A
// shorter payload is filled up with zeroes.
//
// p must be IPv4 and no ICMP error (RFC 1122 §3.2.2), which the caller sees to.
// Source: RFC 792.
func AppendICMPError(b []byte, p *Packet, icmpType, code uint8, src netip.Addr) []byte {
	b = appendReturn(b, p)
	b = appendIPv4(b, Spec{TOS: tosControl, TTL: answerTTL, Proto: ICMP, Src: src, Dst: p.Src}, icmpErrorBytes)
	at := len(b)
	b = append(b, icmpType, code, 0, 0, 0, 0, 0, 0)
	quoted := p.Frame[ipAt : ipAt+min(p.TotalLen, ipLen+8)]
	b = append(b, quoted...)
	for range ipLen + 8 - len(quoted) {
		b = append(b, 0)
	}
	binary.BigEndian.PutUint16(b[at+icmpSumAt:], Checksum(b[at:]))
	return b
}

// AppendTooBig appends the ICMP error that says that p is larger than mtu
// bytes, otherwise as AppendICMPError. Source: RFC 1191 §4.
func AppendTooBig(b []byte, p *Packet, mtu uint16, src netip.Addr) []byte {
	at := len(b) + l4At
	b = AppendICMPError(b, p, ICMPUnreachable, ICMPFragmentationNeeded, src)
	update(b, at+icmpMTUAt, at+icmpSumAt, mtu)
	return b
}

// AppendRST appends the reset that refuses TCP segment p: 54 bytes.
//
// p must be no RST itself, nor a later fragment.
// Source: RFC 9293 §3.10.7.1.
func AppendRST(b []byte, p *Packet) []byte {
	s := Spec{
		TTL: answerTTL, DontFragment: true, Proto: TCP, Src: p.Dst, Dst: p.Src,
		SrcPort: p.DstPort, DstPort: p.SrcPort, Flags: RST,
	}
	if p.Flags&ACK != 0 {
		s.Seq = p.Ack
	} else {
		s.Flags |= ACK
		s.Ack = p.Seq + uint32(p.PayloadLen)
		if p.Flags&SYN != 0 {
			s.Ack++
		}
		if p.Flags&FIN != 0 {
			s.Ack++
		}
	}
	b = appendReturn(b, p)
	b = appendIPv4(b, s, ipLen+tcpLen)
	return appendTCP(b, s)
}

// AppendEchoReply appends the reply to echo request p, with p's length and
// data.
//
// Its checksums are updated from p's: wrong ones stay wrong.
func AppendEchoReply(b []byte, p *Packet) []byte {
	at := len(b)
	b = append(b, p.Frame...)
	f := b[at:]
	SetMACs(f, p.EthSrc, p.EthDst)
	SetTTL(f, answerTTL)
	copy(f[ipAt+ipSrcAt:], p.Frame[ipAt+ipDstAt:][:4]) // the sum does not change
	copy(f[ipAt+ipDstAt:], p.Frame[ipAt+ipSrcAt:][:4])
	update(f, l4At, l4At+icmpSumAt, uint16(ICMPEchoReply)<<8)
	return b
}

// AppendARPReply appends the reply to the ARP request in frame, which says
// that mac has the address asked for: frame with sender and target exchanged,
// padding and length kept.
//
// DecodeARP must have been ok for frame. Source: RFC 826.
func AppendARPReply(b []byte, frame []byte, mac MAC) []byte {
	at := len(b)
	b = append(b, frame...)
	f := b[at:]
	SetMACs(f, MAC(frame[6:12]), mac)
	binary.BigEndian.PutUint16(f[ethLen+6:], ARPReply)
	sender, target := frame[ethLen+8:ethLen+18], frame[ethLen+18:ethLen+28]
	copy(f[ethLen+8:], mac[:])
	copy(f[ethLen+14:], target[6:])
	copy(f[ethLen+18:], sender)
	return b
}

// appendReturn appends an Ethernet header that leads back to p's sender.
func appendReturn(b []byte, p *Packet) []byte {
	b = append(b, p.EthSrc[:]...)
	b = append(b, p.EthDst[:]...)
	return binary.BigEndian.AppendUint16(b, EtherTypeIPv4)
}
