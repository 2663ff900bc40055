package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Virtual servers are met at the router of their load balancer; those of a
// distributed one at the ports of its group. The path of that router, or else
// of the load balancer, is called their place.

// virtualServer is one virtual server at its address, before those that have
// the address too.
type virtualServer struct {
	path     string
	services []intent.ServiceMatch
	table.VirtualServer
}

// loadBalancer returns the load balancer at path if it is on and connected.
func (x *run) loadBalancer(path string) (s *intent.LBService, place string) {
	s, ok := object[*intent.LBService](x, path)
	switch {
	case !ok || !s.IsEnabled() || s.ConnectivityPath == "":
		return nil, ""
	case s.IsDistributed():
		return s, s.Path
	}
	return s, s.ConnectivityPath
}

// isService reports whether a place is a distributed load balancer.
func isService(place string) bool { return strings.HasPrefix(place, "/infra/lb-services/") }

// buildLBService makes a load balancer, and a distributed one known to the ports
// of its group.
func (x *run) buildLBService(path string) any {
	s, place := x.loadBalancer(path)
	if s == nil {
		return nil
	}
	out := &table.LBService{ID: x.serviceID(path), Path: path, Name: s.Name()}
	if isService(place) {
		x.emit(ref{relUsed, s.ConnectivityPath, ""}, present)
		x.emit(ref{relDLB, s.ConnectivityPath, ""}, path)
		return out
	}
	out.VRF = x.vrfID(place)
	if x.note(ref{relMonitored, path, ""}).members.size() > 0 {
		out.Port = x.portID(monitorPort(path))
	}
	return out
}

func (x *run) serviceID(path string) table.LBServiceID {
	return table.LBServiceID(x.id(poolService, path))
}

// dlbOf returns the distributed load balancer of endpoints that have the atoms:
// of several the first by path.
func (x *run) dlbOf(atoms map[string]bool) table.LBServiceID {
	var all []string
	for a := range atoms {
		if strings.HasPrefix(a, "/") && isGroup(a) {
			all = append(all, members(x, ref{relDLB, a, ""}, strings.Compare)...)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	for _, path := range slices.Compact(all)[1:] {
		x.warn(path, "connectivity_path", intent.Overlap, "has ports that are those of "+all[0]+" too, which is used there (connect one distributed load balancer to a port)")
	}
	return x.serviceID(all[0])
}

func (x *run) buildVirtualServer(path string) any {
	v, ok := object[*intent.LBVirtualServer](x, path)
	if !ok {
		return nil
	}
	pool, hasPool := object[*intent.LBPool](x, v.PoolPath)
	s, place := x.loadBalancer(v.LBServicePath)
	x.withoutEffect(v, pool, s)
	if s == nil || !v.IsEnabled() {
		return nil
	}
	x.note(ref{srcObject, v.ApplicationProfilePath, ""})
	out := &virtualServer{
		path:     path,
		services: x.c.tree.LBMatches(v),
		VirtualServer: table.VirtualServer{
			ID:         table.VirtualServerID(x.id(poolServer, path)),
			Path:       path,
			Name:       v.Name(),
			Service:    x.serviceID(s.Path),
			MemberPort: v.MemberPort(),
			Access:     x.access(v),
			MaxConns:   uint32(v.MaxConcurrentConnections),
		},
	}
	if hasPool {
		out.Pool = x.poolID(pool.Path)
	}
	out.Persist, out.PersistFor = x.persistence(v)
	x.emit(ref{relVIP, place, v.Address().String()}, path)
	if isService(place) {
		return out
	}
	x.lbRoutes(place, v, pool)
	if hasPool && len(pool.ActiveMonitorPaths) > 0 {
		x.emit(ref{relMonitored, s.Path, ""}, present)
	}
	return out
}

// withoutEffect warns of what a virtual server, its pool and its load balancer
// say in vain.
func (x *run) withoutEffect(v *intent.LBVirtualServer, pool *intent.LBPool, s *intent.LBService) {
	if v.MaxNewConnectionRate != 0 {
		x.warn(v.Path, "max_new_connection_rate", intent.Unsupported, strconv.FormatInt(v.MaxNewConnectionRate, 10)+": has no effect (want it empty)")
	}
	if v.AccessLogEnabled {
		x.warn(v.Path, "access_log_enabled", intent.Unsupported, "true: has no effect (want false; firewall rules are logged)")
	}
	if v.SorryPoolPath != "" {
		x.warn(v.Path, "sorry_pool_path", intent.Unsupported, v.SorryPoolPath+": has no effect, only layer 4 is carried (want it empty)")
	}
	if pool == nil {
		x.warn(v.Path, "pool_path", intent.Required, "is missing (without a pool every connection is refused)")
		return
	}
	if s == nil || !s.IsDistributed() {
		return
	}
	if pool.SNATTranslation != nil && pool.SNATType() != "LBSnatDisabled" {
		x.warn(v.Path, "pool_path", intent.Unsupported, pool.Path+": has "+pool.SNATType()+", without effect at a distributed load balancer (LBSnatDisabled)")
	}
	if len(pool.ActiveMonitorPaths) > 0 {
		x.warn(v.Path, "pool_path", intent.Unsupported, pool.Path+": has active monitors, without effect at a distributed load balancer (want none)")
	}
}

// lbRoutes gives a router the VIP and the sources of LBSnatIpPool.
func (x *run) lbRoutes(router string, v *intent.LBVirtualServer, pool *intent.LBPool) {
	x.lbRoute(router, table.RouteVIP, "TIER1_LB_VIP", v.Address(), v.Path)
	if pool != nil {
		for _, a := range pool.SNATAddresses() {
			x.lbRoute(router, table.RouteNAT, "TIER1_LB_SNAT", a, v.Path)
		}
	}
}

// lbRoute gives a router an address and tells it to the Tier-0 above. A
// Tier-0's own addresses are told to neighbours by the same word, as there is
// none for them.
func (x *run) lbRoute(router string, kind table.RouteKind, origin string, a netip.Addr, source string) {
	x.emit(ref{relSubnet, router, ""}, host(a)) // who is behind it is not who has the address
	x.want(router, candidate{kind: kind, prefix: host(a), source: source, origin: origin})
	x.advertise(router, origin, origin, host(a), source)
}

// persistence returns the number of the table that keeps clients at their
// members and for how many seconds; zeros: none.
func (x *run) persistence(v *intent.LBVirtualServer) (number, seconds uint32) {
	p, ok := object[*intent.LBSourceIpPersistenceProfile](x, v.LBPersistenceProfilePath)
	if !ok {
		return 0, 0
	}
	name := v.Path
	if p.PersistenceShared {
		// by the virtual servers of one load balancer: another one's clients
		// may be other people with the same addresses
		name = p.Path + " " + v.LBServicePath
	}
	const usual = 300 // NSX Policy API, schema LBSourceIpPersistenceProfile
	return x.id(poolPersistence, name), uint32(cmp.Or(p.Timeout, usual))
}

// access returns the ruleset of an access list; 0: everyone.
func (x *run) access(v *intent.LBVirtualServer) table.RulesetID {
	a := v.Access()
	if a == nil {
		return 0
	}
	const name = "access_list_control"
	first := &table.Rule{
		ID: x.id(poolRule, v.Path+"/"+name), Path: v.Path, Name: name, Policy: v.Path,
		Action: table.Allow, Remote: x.remote(intent.Peers{Groups: []string{a.GroupPath}}),
	}
	list := []*side{{rule: first}}
	if a.Action == "DROP" {
		first.Action = table.Drop
		list = append(list, &side{rule: &table.Rule{
			ID: x.id(poolRule, v.Path+"/"+name+"/others"), Path: v.Path, Name: "others", Policy: v.Path,
			Action: table.Allow, AnyRemote: true,
		}})
	}
	for _, s := range list {
		s.digest = digestOf(s.rule)
	}
	return x.share("access", list)
}

// buildVIP joins the virtual servers of one address. Where two take the same
// port the first by path has it.
func (x *run) buildVIP(place, addr string) any {
	out := &table.VIP{Key: table.VIPKey{Addr: netip.MustParseAddr(addr)}}
	if isService(place) {
		out.Key.DLB = x.serviceID(place)
	} else {
		out.Key.VRF = x.vrfID(place)
	}
	taken := map[string][]intent.ServiceMatch{}
	var before []string
	for _, path := range members(x, ref{relVIP, place, addr}, strings.Compare) {
		v := built[*virtualServer](x, ref{factVirtualServer, path, ""})
		if v == nil {
			continue
		}
		left := v.services
		for _, other := range before {
			rest := without(left, taken[other])
			if !slices.Equal(rest, left) {
				x.warn(path, "ports", intent.Overlap, addr+": has ports that "+other+" has too, which takes them (give each port to one virtual server)")
			}
			left = rest
		}
		before, taken[path] = append(before, path), v.services
		if len(left) > 0 {
			server := v.VirtualServer
			server.Services = tableServices(left)
			out.Servers = append(out.Servers, &server)
		}
	}
	if len(out.Servers) == 0 {
		return nil
	}
	if !isService(place) {
		x.rivalsOfVIP(place, out)
	}
	return out
}

// without returns what is in the ranges of list and not in those of others, as
// disjoint ranges.
func without(list, others []intent.ServiceMatch) []intent.ServiceMatch {
	for _, o := range others {
		var out []intent.ServiceMatch
		for _, m := range list {
			if m.Proto != o.Proto || m.Last < o.First || o.Last < m.First {
				out = append(out, m)
				continue
			}
			if m.First < o.First {
				out = append(out, intent.ServiceMatch{Proto: m.Proto, First: m.First, Last: o.First - 1})
			}
			if m.Last > o.Last {
				out = append(out, intent.ServiceMatch{Proto: m.Proto, First: o.Last + 1, Last: m.Last})
			}
		}
		list = out
	}
	return list
}

// rivalsOfVIP warns of others at the router that have the address of a VIP.
func (x *run) rivalsOfVIP(router string, v *table.VIP) {
	a, path := v.Key.Addr, v.Servers[0].Path
	for _, c := range members(x, ref{relRoute, router, host(a).String()}, compareCandidates) {
		if c.kind == table.RouteLocal {
			x.warn(path, "ip_address", intent.Conflict, a.String()+": is an address of "+router+" itself, by "+c.source+" (want an address of its own)")
		}
	}
	for _, segment := range members(x, ref{relSegment, router, ""}, strings.Compare) {
		if port := x.owner(segment, a.String()); port != "" {
			x.warn(path, "ip_address", intent.Conflict, a.String()+": is the address of "+port+" too, which is no longer reached through "+router+" (want an address of its own)")
		}
	}
}
