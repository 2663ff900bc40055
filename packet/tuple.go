package packet

import (
	"fmt"
	"net/netip"
)

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Proto is an IP protocol number.
// Source: IANA, Assigned Internet Protocol Numbers.
type Proto uint8

// The protocols whose headers are looked at.
const (
	ICMP Proto = 1
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

func (p Proto) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("proto %d", uint8(p))
}

// HasPorts reports whether the protocol's header begins with two ports.
func (p Proto) HasPorts() bool { return p == TCP || p == UDP || p == SCTP }

// Tuple names the packets of one direction of a connection. It is comparable.
//
// For an ICMP echo the identifier is SrcPort of a request and DstPort of a
// reply, and the other is 0: so the Reversed request is its reply. Both are 0
// for protocols without ports.
type Tuple struct {
	Src, Dst         netip.Addr // IPv4, never mapped
	Proto            Proto
	SrcPort, DstPort uint16
}

// Reversed returns the tuple of the opposite direction.
func (t Tuple) Reversed() Tuple {
	return Tuple{Src: t.Dst, Dst: t.Src, Proto: t.Proto, SrcPort: t.DstPort, DstPort: t.SrcPort}
}

func (t Tuple) String() string {
	return fmt.Sprintf("%s:%d > %s:%d/%s", t.Src, t.SrcPort, t.Dst, t.DstPort, t.Proto)
}
