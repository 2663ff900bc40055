package packet

import (
	"encoding/binary"
	"net/netip"
)

// The functions of this file change a frame in place that Decode accepted as
// IPv4. Checksums are updated incrementally, never computed afresh.

// Offsets of fields, in bytes from the start of the header that has them.
const (
	ipTTLAt   = 8
	ipSumAt   = 10
	ipSrcAt   = 12
	ipDstAt   = 16
	tcpSumAt  = 16
	udpSumAt  = 6
	icmpIDAt  = 4
	icmpSumAt = 2
)

// SetMACs writes destination and source of frame's Ethernet header.
func SetMACs(frame []byte, dst, src MAC) {
	copy(frame[0:6], dst[:])
	copy(frame[6:12], src[:])
}

// SetTTL writes the time to live.
func SetTTL(frame []byte, ttl uint8) {
	update(frame, ipAt+ipTTLAt, ipAt+ipSumAt, uint16(ttl)<<8|uint16(frame[ipAt+ipTTLAt+1]))
}

// Translate makes the addresses and ports of frame those of to; its protocol
// is not looked at.
//
// Of a later fragment only the addresses are rewritten: the transport checksum
// is in the first one. A UDP checksum of 0 (none) stays 0, and one that
// becomes 0 is written as 0xffff. ICMP errors are for TranslateError.
// Source: RFC 3022 §4.1, RFC 768, RFC 5508 §3.1 for the query id.
func Translate(frame []byte, to Tuple) {
	e := edit{frame: frame}
	if binary.BigEndian.Uint16(frame[ipAt+6:])&0x1fff != 0 {
		e.addresses(ipAt, covering{}, to.Src, to.Dst)
		return
	}
	proto := Proto(frame[ipAt+9])
	sum := e.transport(proto, l4At)
	e.addresses(ipAt, sum, to.Src, to.Dst)
	e.ports(proto, l4At, sum, to)
}

// TranslateError makes the addresses of an ICMP error src and dst, and those
// and the ports of the packet that it quotes, whose direction is the opposite
// one, the tuple quoted.
//
// Quoted must have been ok for frame. The quoted packet's header checksum, UDP
// and ICMP checksum are updated, and the outer ICMP checksum with all of them;
// a quoted TCP checksum is left alone, for it is rarely within the quote.
// Source: RFC 5508 §4.2, RFC 3022 §4.3.
func TranslateError(frame []byte, src, dst netip.Addr, quoted Tuple) {
	edit{frame: frame}.addresses(ipAt, covering{}, src, dst)
	e := edit{frame: frame, outer: l4At + icmpSumAt}
	proto := Proto(frame[quoteAt+9])
	var sum covering
	if proto == UDP {
		sum = e.transport(proto, quoteAt+ipLen)
	}
	e.addresses(quoteAt, sum, quoted.Src, quoted.Dst)
	e.ports(proto, quoteAt+ipLen, sum, quoted)
}

// edit changes words of a frame.
type edit struct {
	frame []byte
	outer int // offset of a checksum that covers every change; 0: none
}

// covering is a checksum that covers some words. The zero value is none.
type covering struct {
	at  int
	udp bool // 0 means none, and is avoided
}

// transport returns the checksum that covers the addresses and the ports of
// the transport header at offset at.
func (e edit) transport(proto Proto, at int) covering {
	switch {
	case proto == TCP:
		return covering{at: at + tcpSumAt}
	case proto == UDP && binary.BigEndian.Uint16(e.frame[at+udpSumAt:]) != 0:
		return covering{at: at + udpSumAt, udp: true}
	}
	return covering{}
}

func (e edit) addresses(ip int, sum covering, src, dst netip.Addr) {
	s, d := src.As4(), dst.As4()
	for i := 0; i < 4; i += 2 {
		e.change(ip+ipSrcAt+i, binary.BigEndian.Uint16(s[i:]), covering{at: ip + ipSumAt}, sum)
		e.change(ip+ipDstAt+i, binary.BigEndian.Uint16(d[i:]), covering{at: ip + ipSumAt}, sum)
	}
}

func (e edit) ports(proto Proto, at int, sum covering, to Tuple) {
	switch {
	case proto.HasPorts():
		e.change(at, to.SrcPort, sum, covering{})
		e.change(at+2, to.DstPort, sum, covering{})
	case proto == ICMP && e.frame[at] == ICMPEchoRequest:
		e.change(at+icmpIDAt, to.SrcPort, covering{at: at + icmpSumAt}, covering{})
	case proto == ICMP && e.frame[at] == ICMPEchoReply:
		e.change(at+icmpIDAt, to.DstPort, covering{at: at + icmpSumAt}, covering{})
	}
}

// change sets the word at offset at and updates the checksums a and b.
func (e edit) change(at int, v uint16, a, b covering) {
	old := binary.BigEndian.Uint16(e.frame[at:])
	if old == v {
		return
	}
	e.put(at, v)
	for _, c := range [2]covering{a, b} {
		if c.at == 0 {
			continue
		}
		s := Update(binary.BigEndian.Uint16(e.frame[c.at:]), old, v)
		if s == 0 && c.udp {
			s = 0xffff
		}
		e.put(c.at, s)
	}
}

func (e edit) put(at int, v uint16) {
	if e.outer == 0 {
		binary.BigEndian.PutUint16(e.frame[at:], v)
		return
	}
	update(e.frame, at, e.outer, v)
}
