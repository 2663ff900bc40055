package packet

import (
	"encoding/binary"
	"net/netip"
)

// ARP operations. Source: RFC 826.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a decoded ARP packet for IPv4 over Ethernet.
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC MAC
	Sender, Target       netip.Addr
}

// DecodeARP reads the ARP packet of a frame whose EtherType is ARP.
//
// ok is false if it is cut short or for anything but IPv4 over Ethernet.
// No allocation. Source: RFC 826; docs/pipeline.md §3.
func DecodeARP(frame []byte) (a ARP, ok bool) {
	if len(frame) < ethLen+arpLen {
		return ARP{}, false
	}
	b := frame[ethLen:]
	if binary.BigEndian.Uint16(b) != 1 || binary.BigEndian.Uint16(b[2:]) != EtherTypeIPv4 || b[4] != 6 || b[5] != 4 {
		return ARP{}, false
	}
	return ARP{
		Op:        binary.BigEndian.Uint16(b[6:]),
		SenderMAC: MAC(b[8:14]),
		Sender:    netip.AddrFrom4([4]byte(b[14:18])),
		TargetMAC: MAC(b[18:24]),
		Target:    netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}

func (a ARP) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, EtherTypeIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	b = append(b, a.SenderMAC[:]...)
	b = append(b, a.Sender.AsSlice()...)
	b = append(b, a.TargetMAC[:]...)
	return append(b, a.Target.AsSlice()...)
}
