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

// index finds the ports of a Set by what is attached to them, and by their policy
// paths. It is immutable.
type index struct {
	set       *table.Set                       // has nothing but what is looked at
	paths     table.Map[string, table.PortID]  // ports and uplinks
	attached  table.Map[string, []*table.Port] // by attachment id
	endpoints table.Map[table.PortID, []*table.Endpoint]
}

// of returns the index of set; i itself if it has the same of what is looked at.
// Cost O(what differs).
func (i *index) of(set *table.Set) *index {
	old := i.set
	if old.Ports.Same(set.Ports) && old.Uplinks.Same(set.Uplinks) && old.Endpoints.Same(set.Endpoints) && old.Segments.Same(set.Segments) {
		return i
	}
	paths, attached, endpoints := i.paths.Edit(), i.attached.Edit(), i.endpoints.Edit()
	for id := range old.Uplinks.Differing(set.Uplinks) {
		if was := old.Uplinks.Get(id); was != nil {
			paths.Delete(was.Path)
		}
	}
	for id := range old.Ports.Differing(set.Ports) {
		if was := old.Ports.Get(id); was != nil {
			paths.Delete(was.Path)
			drop(attached, was.Attachment, was)
		}
	}
	for id := range old.Uplinks.Differing(set.Uplinks) {
		if is := set.Uplinks.Get(id); is != nil {
			paths.Put(is.Path, &is.ID)
		}
	}
	for id := range old.Ports.Differing(set.Ports) {
		if is := set.Ports.Get(id); is != nil {
			paths.Put(is.Path, &is.ID)
			if is.Node == 0 && is.Attachment != "" {
				add(attached, is.Attachment, is)
			}
		}
	}
	for k := range old.Endpoints.Differing(set.Endpoints) {
		if was := old.Endpoints.Get(k); was != nil {
			drop(endpoints, was.Port, was)
		}
		if is := set.Endpoints.Get(k); is != nil {
			add(endpoints, is.Port, is)
		}
	}
	looked := &table.Set{Ports: set.Ports, Uplinks: set.Uplinks, Endpoints: set.Endpoints, Segments: set.Segments}
	return &index{looked, paths.Map(), attached.Map(), endpoints.Map()}
}

// indexOf returns the index of set. Cost O(ports + endpoints).
func indexOf(set *table.Set) *index { return (&index{set: &table.Set{}}).of(set) }

// add puts v into the list of a key, drop takes it out.
func add[K, V comparable](e *table.MapEdit[K, []V], k K, v V) {
	var list []V
	if was := e.Get(k); was != nil {
		list = slices.Clone(*was)
	}
	list = append(list, v)
	e.Put(k, &list)
}

func drop[K, V comparable](e *table.MapEdit[K, []V], k K, v V) {
	was := e.Get(k)
	if was == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*was), func(o V) bool { return o == v })
	if len(list) == 0 {
		e.Delete(k)
		return
	}
	e.Put(k, &list)
}

// port returns a port that id is attached to; nil if there is none.
func (i *index) port(id string) *table.Port {
	if list := i.attached.Get(id); list != nil {
		return (*list)[0]
	}
	return nil
}

// present returns those of devices, names by policy path, whose ports or uplinks
// there are.
func (i *index) present(devices map[string]string) map[string]string {
	out := make(map[string]string, len(devices))
	for path, name := range devices {
		if i.paths.Has(path) {
			out[path] = name
		}
	}
	return out
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

// endpointsOf returns the addresses of a port on its segment.
func (i *index) endpointsOf(port *table.Port) (out []*table.Endpoint) {
	if list := i.endpoints.Get(port.ID); list != nil {
		for _, e := range *list {
			if e.Segment == port.Segment {
				out = append(out, e)
			}
		}
	}
	return out
}
