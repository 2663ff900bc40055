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

// nics finds the ports of a Set by what is attached to them. It is made once for
// all Sets that have the same of what it looks at.
type nics struct {
	set       *table.Set             // has nothing else
	ports     map[string]*table.Port // by attachment id
	twice     map[string]*table.Port // another one with the same attachment id
	endpoints map[table.PortID][]*table.Endpoint
}

// nicsOf returns those of set. Cost O(ports + endpoints).
func nicsOf(set *table.Set) *nics {
	looked := &table.Set{Ports: set.Ports, Endpoints: set.Endpoints, Segments: set.Segments}
	n := &nics{looked, make(map[string]*table.Port, len(set.Ports)), map[string]*table.Port{}, make(map[table.PortID][]*table.Endpoint, len(set.Ports))}
	for _, p := range set.Ports {
		if p.Node != 0 || p.Attachment == "" {
			continue
		}
		if other := n.ports[p.Attachment]; other != nil {
			n.twice[p.Attachment] = other
		}
		n.ports[p.Attachment] = p
	}
	for k, e := range set.Endpoints {
		if p := set.Ports[e.Port]; p != nil && p.Segment == k.Segment {
			n.endpoints[e.Port] = append(n.endpoints[e.Port], e)
		}
	}
	return n
}

// of says whether n is what nicsOf would make of set. Sets share the maps that
// did not change.
func (n *nics) of(set *table.Set) bool {
	return same(n.set.Ports, set.Ports) && same(n.set.Endpoints, set.Endpoints) && same(n.set.Segments, set.Segments)
}

// want returns q as it shall be made; nil if no port is for it.
// Errors: the port is none for a pod.
func (n *nics) want(q *Attachment) (*Attached, error) {
	port := n.ports[q.ID]
	if port == nil {
		return nil, nil
	}
	if other := n.twice[q.ID]; other != nil {
		return nil, refuse(PortIncomplete, "%s: attachment id %s: is that of two ports, %s and %s (one)", q, q.ID, min(port.Path, other.Path), max(port.Path, other.Path))
	}
	nic, err := n.nic(port, cmp.Or(q.MTU, defaultMTU))
	if err != nil {
		return nil, refuse(PortIncomplete, "%s: %v", q, err)
	}
	return &Attached{Attachment: *q, Port: port.Path, Device: q.device(), NIC: nic}, nil
}

// nic returns how the interface of port looks.
// Errors: the port has no addresses, no MAC address, or two.
func (n *nics) nic(port *table.Port, mtu int) (NIC, error) {
	out := NIC{MAC: port.MAC, MTU: mtu}
	var gateways []netip.Prefix
	if s := n.set.Segments[port.Segment]; s != nil {
		gateways = s.Gateways
	}
	for _, e := range n.endpoints[port.ID] {
		if e.MAC != port.MAC {
			return NIC{}, fmt.Errorf("port %s: mac address %s: is not that of its address %s, %s (one a port)", port.Path, port.MAC, e.Addr, e.MAC)
		}
		a := NICAddress{Address: netip.PrefixFrom(e.Addr, e.Addr.BitLen())}
		if i := slices.IndexFunc(gateways, func(g netip.Prefix) bool { return g.Contains(e.Addr) }); i >= 0 {
			a = NICAddress{netip.PrefixFrom(e.Addr, gateways[i].Bits()), gateways[i].Addr()}
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
