package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// algorithms is the words of a pool's algorithm; whether weights count is
// intent's to say.
var algorithms = map[string]table.Algorithm{
	"":                          table.RoundRobin,
	"ROUND_ROBIN":               table.RoundRobin,
	"WEIGHTED_ROUND_ROBIN":      table.RoundRobin,
	"LEAST_CONNECTION":          table.LeastConnections,
	"WEIGHTED_LEAST_CONNECTION": table.LeastConnections,
	"IP_HASH":                   table.IPHash,
}

var adminStates = map[string]table.AdminState{
	"":                  table.MemberEnabled,
	"ENABLED":           table.MemberEnabled,
	"GRACEFUL_DISABLED": table.MemberDraining,
	"DISABLED":          table.MemberDisabled,
}

var snatModes = map[string]table.SNATMode{
	"LBSnatAutoMap":  table.SNATAutoMap,
	"LBSnatDisabled": table.SNATDisabled,
	"LBSnatIpPool":   table.SNATPool,
}

func (x *run) poolID(path string) table.PoolID { return table.PoolID(x.id(poolPool, path)) }

func (x *run) buildPool(path string) any {
	p, ok := object[*intent.LBPool](x, path)
	if !ok {
		return nil
	}
	out := &table.Pool{
		ID:        x.poolID(path),
		Path:      path,
		Name:      p.Name(),
		Algorithm: algorithms[p.Algorithm],
		MinActive: uint32(max(p.MinActiveMembers, 1)),
		SNAT:      snatModes[p.SNATType()],
		SNATAddrs: p.SNATAddresses(),
	}
	if p.MemberGroup != nil {
		out.Members = x.groupMembers(p)
	} else {
		out.Members = x.writtenMembers(p)
	}
	slices.SortFunc(out.Members, func(a, b table.Member) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
	for _, m := range p.ActiveMonitorPaths {
		if monitor := built[*table.Monitor](x, ref{factMonitor, m, ""}); monitor != nil && !slices.Contains(out.Monitors, monitor) {
			out.Monitors = append(out.Monitors, monitor)
		}
	}
	out.Passive = built[*table.Passive](x, ref{factMonitor, p.PassiveMonitorPath, ""})
	return out
}

// member returns what all members of a pool have.
func (x *run) member(p *intent.LBPool, a netip.Addr, port uint16, name string, weight int64, state string) table.Member {
	m := table.Member{
		ID:     table.MemberID(x.id(poolMember, p.Path+" "+netip.AddrPortFrom(a, port).String())),
		Name:   name,
		Addr:   a,
		Port:   port,
		Weight: 1,
		Admin:  adminStates[state],
	}
	if p.IsWeighted() {
		m.Weight = uint16(max(weight, 1))
	}
	return m
}

func (x *run) writtenMembers(p *intent.LBPool) []table.Member {
	var out []table.Member
	for i := range p.Members {
		m := &p.Members[i]
		one := x.member(p, m.Address(), m.PortNumber(), m.DisplayName, m.Weight, m.AdminState)
		one.Backup, one.MaxConns = m.BackupMember, uint32(m.MaxConcurrentConnections)
		out = append(out, one)
	}
	return out
}

// groupMembers returns the addresses of the ports that the group holds, and
// those that it lists.
func (x *run) groupMembers(p *intent.LBPool) []table.Member {
	g := p.MemberGroup
	limit := intent.MaxLBMembers
	if g.MaxIPListSize > 0 {
		limit = min(limit, int(g.MaxIPListSize))
	}
	var addrs []netip.Addr
	for _, row := range members(x, ref{relRow, g.GroupPath, ""}, compareRows) {
		addrs = append(addrs, row.Prefix.Addr())
	}
	for _, w := range x.written(g.GroupPath) {
		for a, n := w.Addr(), 0; w.Contains(a) && n <= limit; a, n = a.Next(), n+1 {
			addrs = append(addrs, a)
		}
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool {
		return !g.Takes(a) || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast()
	})
	slices.SortFunc(addrs, netip.Addr.Compare)
	if addrs = slices.Compact(addrs); len(addrs) > limit {
		addrs = addrs[:limit]
		x.warn(p.Path, "member_group", intent.TooLong, g.GroupPath+": has more than "+strconv.Itoa(limit)+" addresses (the first ones are members)")
	}
	var out []table.Member
	for _, a := range addrs {
		s := g.Setting(a)
		out = append(out, x.member(p, a, uint16(g.Port), s.DisplayName, s.Weight, s.AdminState))
	}
	return out
}

// Defaults of monitors. Source: NSX Policy API, schemas LBActiveMonitor,
// LBHttpMonitorProfile, LBIcmpMonitorProfile and LBPassiveMonitorProfile.
const (
	monitorInterval = 5
	monitorTimeout  = 5
	monitorFall     = 3
	monitorRise     = 3
	monitorLength   = 56
	passiveFails    = 5
	passiveTimeout  = 5
)

// buildMonitor makes a *table.Monitor, or a *table.Passive.
func (x *run) buildMonitor(path string) any {
	x.note(ref{srcObject, path, ""})
	o := x.c.tree.Get(path)
	switch o := o.(type) {
	case *intent.LBPassiveMonitorProfile:
		return &table.Passive{Path: path, MaxFails: uint32(cmp.Or(o.MaxFails, passiveFails)), Timeout: uint32(cmp.Or(o.Timeout, passiveTimeout))}
	case *intent.LBTcpMonitorProfile:
		m := activeMonitor(o, table.MonitorTCP, &o.LBActiveMonitor)
		m.Send, m.Receive = o.Send, o.Receive
		return m
	case *intent.LBUdpMonitorProfile:
		m := activeMonitor(o, table.MonitorUDP, &o.LBActiveMonitor)
		m.Send, m.Receive = o.Send, o.Receive
		return m
	case *intent.LBIcmpMonitorProfile:
		m := activeMonitor(o, table.MonitorICMP, &o.LBActiveMonitor)
		m.Length = monitorLength
		if o.DataLength != nil {
			m.Length = uint16(*o.DataLength)
		}
		return m
	case *intent.LBHttpMonitorProfile:
		return httpMonitor(activeMonitor(o, table.MonitorHTTP, &o.LBActiveMonitor), &o.LBHTTPMonitor)
	case *intent.LBHttpsMonitorProfile:
		m := httpMonitor(activeMonitor(o, table.MonitorHTTPS, &o.LBActiveMonitor), &o.LBHTTPMonitor)
		m.VerifyName, m.VerifyCA = o.ServerName, o.TrustedCA
		if o.ServerSSLProfileBinding != nil {
			x.warn(path, "server_ssl_profile_binding", intent.Unsupported, "has no effect (want trusted_ca and server_name)")
		}
		return m
	}
	return nil
}

func activeMonitor(o intent.Object, kind table.MonitorKind, a *intent.LBActiveMonitor) *table.Monitor {
	return &table.Monitor{
		Path:     o.Meta().Path,
		Name:     o.Meta().Name(),
		Kind:     kind,
		Port:     uint16(a.MonitorPort),
		Interval: uint32(cmp.Or(a.Interval, monitorInterval)),
		Timeout:  uint32(cmp.Or(a.Timeout, monitorTimeout)),
		Fall:     uint32(cmp.Or(a.FallCount, monitorFall)),
		Rise:     uint32(cmp.Or(a.RiseCount, monitorRise)),
	}
}

func httpMonitor(m *table.Monitor, h *intent.LBHTTPMonitor) *table.Monitor {
	m.Method = cmp.Or(h.RequestMethod, "GET")
	m.URL = cmp.Or(h.RequestURL, "/")
	m.Version = cmp.Or(h.RequestVersion, "HTTP_VERSION_1_1")
	m.Send, m.Receive = h.RequestBody, h.ResponseBody
	for _, header := range h.RequestHeaders {
		m.Headers = append(m.Headers, table.Header{Name: header.HeaderName, Value: header.HeaderValue})
	}
	m.Codes = []uint16{200}
	if len(h.ResponseStatusCodes) > 0 {
		m.Codes = nil
		for _, code := range h.ResponseStatusCodes {
			m.Codes = append(m.Codes, uint16(code))
		}
	}
	return m
}
