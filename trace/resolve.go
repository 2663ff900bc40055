package trace

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Place is an end of a flow.
type Place struct {
	Port table.PortID // a port or uplink; 0: whoever has Addr
	Addr netip.Addr
}

// ResolveSource finds what a person calls the source of a flow:
//
//   - a port: its display name, its id, either behind its segment's name or id
//     and a slash, or its policy path. Its lowest address is meant, of a Node's
//     port the lowest that is the Node's own;
//   - an address: that of a port or, if no subnet here has it, one that comes in
//     by the uplink that the Tier-0's route for it leads to, the one of its first
//     next hop;
//   - ADDRESS@PORT: an address at a port or uplink, whether it is bound there or
//     not.
//
// Errors: nothing is called so, or several things are; they are listed.
func ResolveSource(ix *pipeline.Index, name string) (Place, error) {
	r := resolver{names{ix.Set}, ix}
	if text, at, ok := strings.Cut(name, "@"); ok {
		a, err := address(text)
		if err != nil {
			return Place{}, fmt.Errorf("source %s: %w", name, err)
		}
		id, err := r.device(at)
		if err != nil {
			return Place{}, fmt.Errorf("source %s: %w", name, err)
		}
		return Place{id, a}, nil
	}
	p, err := r.port(name)
	if err == nil && p.Port == 0 {
		p, err = r.owner(p.Addr)
	}
	if err != nil {
		return Place{}, fmt.Errorf("source %s: %w", name, err)
	}
	return p, nil
}

// ResolveDestination finds what a person calls the destination of a flow: a
// port as in ResolveSource, or any address, for which Port is 0.
//
// Errors: as of ResolveSource.
func ResolveDestination(ix *pipeline.Index, name string) (Place, error) {
	r := resolver{names{ix.Set}, ix}
	p, err := r.port(name)
	if err != nil {
		return Place{}, fmt.Errorf("destination %s: %w", name, err)
	}
	return p, nil
}

type resolver struct {
	names
	ix *pipeline.Index
}

// port resolves a port's name, or an address, for which Port stays 0.
func (r resolver) port(name string) (Place, error) {
	ids := r.ports(name)
	switch len(ids) {
	case 0:
		a, err := address(name)
		return Place{Addr: a}, err
	case 1:
		addrs := r.addresses(ids[0])
		if len(addrs) == 0 {
			return Place{}, fmt.Errorf("%s: has no address", r.set.Ports.Get(ids[0]).Path)
		}
		return Place{ids[0], addrs[0]}, nil
	}
	return Place{}, fmt.Errorf("is the name of several ports (%s)", r.list(ids))
}

func address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, errors.New("is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)")
	case !a.Is4():
		return a, errors.New("is not IPv4 (IPv6 is not carried yet)")
	}
	return a, nil
}

// ports returns the ports that name fits, ordered by path.
func (r resolver) ports(name string) []table.PortID {
	var out []table.PortID
	for id, p := range r.set.Ports.All() {
		if r.called(p, name) {
			out = append(out, id)
		}
	}
	return r.sorted(out)
}

func (r resolver) called(p *table.Port, name string) bool {
	if called(p.Name, p.Path, name) {
		return true
	}
	s := r.set.Segments.Get(p.Segment)
	if s == nil {
		return false
	}
	for _, prefix := range []string{s.Name + "/", path.Base(s.Path) + "/"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && called(p.Name, "", rest) || ok && rest == path.Base(p.Path) {
			return true
		}
	}
	return false
}

// called reports whether an object with a display name and a path goes by name.
func called(display, policyPath, name string) bool {
	return name != "" && (name == display || name == policyPath || policyPath != "" && name == path.Base(policyPath))
}

// device resolves the name of a port or uplink.
func (r resolver) device(name string) (table.PortID, error) {
	ids := r.ports(name)
	for id, u := range r.set.Uplinks.All() {
		if called(u.Name, u.Path, name) {
			ids = append(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return 0, fmt.Errorf("%s: is no port and no uplink", name)
	case 1:
		return ids[0], nil
	}
	return 0, fmt.Errorf("%s: is the name of several ports (%s)", name, r.list(r.sorted(ids)))
}

// owner returns where packets from a come from.
func (r resolver) owner(a netip.Addr) (Place, error) {
	var ids []table.PortID
	for k, e := range r.set.Endpoints.All() {
		if k.Addr == a {
			ids = append(ids, e.Port)
		}
	}
	switch len(ids) {
	case 0:
		return r.outside(a)
	case 1:
		return Place{ids[0], a}, nil
	}
	return Place{}, fmt.Errorf("is the address of several ports (%s)", r.list(r.sorted(ids)))
}

// outside returns the uplink that a is behind.
func (r resolver) outside(a netip.Addr) (Place, error) {
	best, uplinks := -1, map[table.VRFID]table.PortID{}
	for _, id := range slices.Sorted(r.set.VRFs.Keys()) {
		route := r.ix.Route(id, a)
		if route == nil {
			continue
		}
		switch route.Kind {
		case table.RouteLocal:
			return Place{}, fmt.Errorf("is an address of %s (%s), which begins no flow", r.router(id).Component, r.router(id).Path)
		case table.RouteConnected:
			s := r.segment(route.Segment)
			return Place{}, fmt.Errorf("is in the subnet of %s (%s), of which no port has it (%s@PORT sends it all the same)", s.Component, s.Path, a)
		case table.RouteUplink:
			hop := r.firstHop(route)
			if hop == nil || route.Prefix.Bits() < best {
				continue
			}
			if route.Prefix.Bits() > best {
				best = route.Prefix.Bits()
				clear(uplinks)
			}
			uplinks[id] = hop.Uplink
		}
	}
	ids := slices.Collect(maps.Values(uplinks))
	switch len(ids) {
	case 0:
		return Place{}, errors.New("no port has it and no Tier-0 has a route for it by an uplink")
	case 1:
		return Place{ids[0], a}, nil
	}
	return Place{}, fmt.Errorf("is behind several Tier-0s (%s; say which as %s@UPLINK)", r.list(r.sorted(ids)), a)
}

// firstHop returns the first next hop of an uplink's route, nil if it has none.
func (r resolver) firstHop(route *table.Route) *table.NextHop {
	if len(route.NextHops) == 0 {
		return nil
	}
	return r.set.NextHops.Get(route.NextHops[0])
}

// addresses returns the addresses of a port in the order of preference.
func (r resolver) addresses(id table.PortID) []netip.Addr {
	node := r.set.Ports.Get(id).Node
	var own, more []netip.Addr
	for k, e := range r.set.Endpoints.All() {
		if e.Port != id {
			continue
		}
		if route := r.ix.Route(node, k.Addr); node != 0 && (route == nil || route.Kind != table.RouteLocal) {
			more = append(more, k.Addr)
		} else {
			own = append(own, k.Addr)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	slices.SortFunc(more, netip.Addr.Compare)
	return append(own, more...)
}

// sorted orders ports and uplinks by path and drops doubles.
func (r resolver) sorted(ids []table.PortID) []table.PortID {
	slices.SortFunc(ids, func(a, b table.PortID) int {
		return cmp.Or(strings.Compare(r.entrance(a).Path, r.entrance(b).Path), cmp.Compare(a, b))
	})
	return slices.Compact(ids)
}

// list names ports and uplinks for an error.
func (r resolver) list(ids []table.PortID) string {
	var all []string
	for _, id := range ids {
		all = append(all, r.entrance(id).Path)
	}
	return strings.Join(all, ", ")
}
