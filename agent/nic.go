package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// NIC is how the interface of a port's workload looks.
type NIC struct {
	MAC       table.MAC    `json:"mac"`
	MTU       int          `json:"mtu"`       // bytes, IP packet
	Addresses []NICAddress `json:"addresses"` // by address, at least one
}

// NICAddress is an address of a NIC.
type NICAddress struct {
	Address netip.Prefix `json:"address"` // with the length of its subnet
	// Gateway of its subnet. Invalid: the segment has none, then the length is
	// that of the address and everything is a neighbour.
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// NICRoute is a route of a NIC.
type NICRoute struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via,omitzero"` // invalid: on the link
}

// Routes returns the default route of each family that n has an address of: by
// the gateway of the first address.
func (n *NIC) Routes() (routes []NICRoute) {
	for _, a := range n.Addresses {
		to := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if a.Address.Addr().Is6() {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !slices.ContainsFunc(routes, func(r NICRoute) bool { return r.To == to }) {
			routes = append(routes, NICRoute{to, a.Gateway})
		}
	}
	return routes
}

// has6 says whether n speaks IPv6.
func (n *NIC) has6() bool {
	return slices.ContainsFunc(n.Addresses, func(a NICAddress) bool { return a.Address.Addr().Is6() })
}

func (n *NIC) equal(o *NIC) bool {
	return n.MAC == o.MAC && n.MTU == o.MTU && slices.Equal(n.Addresses, o.Addresses)
}

// want returns q as it shall be made; nil if no port is for it.
// Errors: the port is none for a pod.
func (i *index) want(q *Attachment) (*Attached, error) {
	port := i.port(q.ID)
	if port == nil {
		return nil, nil
	}
	if list := *i.attached.Get(q.ID); len(list) > 1 {
		other := list[1]
		return nil, refuse(PortIncomplete, "%s: attachment id %s: is that of two ports, %s and %s (one)", q, q.ID, min(port.Path, other.Path), max(port.Path, other.Path))
	}
	nic, err := i.nic(port, cmp.Or(q.MTU, defaultMTU))
	if err != nil {
		return nil, refuse(PortIncomplete, "%s: %v", q, err)
	}
	return &Attached{Attachment: *q, Port: port.Path, Device: q.device(), NIC: nic}, nil
}

// nic returns how the interface of port looks.
// Errors: the port has no addresses, no MAC address, or two.
func (i *index) nic(port *table.Port, mtu int) (NIC, error) {
	out := NIC{MAC: port.MAC, MTU: mtu}
	var gateways []netip.Prefix
	if s := i.set.Segments.Get(port.Segment); s != nil {
		gateways = s.Gateways
	}
	for _, e := range i.endpointsOf(port) {
		if e.MAC != port.MAC {
			return NIC{}, fmt.Errorf("port %s: mac address %s: is not that of its address %s, %s (one a port)", port.Path, port.MAC, e.Addr, e.MAC)
		}
		a := NICAddress{Address: netip.PrefixFrom(e.Addr, e.Addr.BitLen())}
		if at := slices.IndexFunc(gateways, func(g netip.Prefix) bool { return g.Contains(e.Addr) }); at >= 0 {
			a = NICAddress{netip.PrefixFrom(e.Addr, gateways[at].Bits()), gateways[at].Addr()}
		}
		out.Addresses = append(out.Addresses, a)
	}
	if len(out.Addresses) == 0 {
		return NIC{}, fmt.Errorf("port %s: address bindings: are missing (at least one)", port.Path)
	}
	if out.MAC == (table.MAC{}) {
		return NIC{}, fmt.Errorf("port %s: mac address: is missing (one in its address bindings)", port.Path)
	}
	slices.SortFunc(out.Addresses, func(a, b NICAddress) int { return a.Address.Addr().Compare(b.Address.Addr()) })
	return out, nil
}
