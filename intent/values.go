package intent

import "net/netip"

// MAC is an Ethernet address.
type MAC [6]byte

// Binding is a parsed AddressBinding.
type Binding struct {
	Addr netip.Addr
	MAC  MAC
	VLAN uint16 // 0: untagged
}

// ServiceMatch is one protocol and port range.
//
// First and Last are destination ports for TCP, UDP and SCTP, type<<8|code for
// ICMP (1) and ICMPv6 (58), and 0 to 65535 otherwise. Proto 0 is any.
type ServiceMatch struct {
	Proto       uint8
	First, Last uint16
}

// Peers is one side of a rule: any address, or the union of groups and
// prefixes.
type Peers struct {
	Any      bool
	Groups   []string       // policy paths
	Prefixes []netip.Prefix // written in the rule itself
}

// NextHop is a parsed RouterNexthop.
type NextHop struct {
	Addr     netip.Addr // invalid: discard
	Distance uint8
}
