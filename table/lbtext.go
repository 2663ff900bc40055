package table

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GateRow is a place where a gateway's firewall works, or an MTU holds: a
// Tier-1's link or an uplink.
type GateRow struct{ Path, In, Out, MTU string }

// Columns implements columns.Row.
func (GateRow) Columns() []string { return []string{"GATE", "RULES IN", "RULES OUT", "MTU"} }

// Row implements columns.Row.
func (r GateRow) Row() []string { return []string{r.Path, r.In, r.Out, r.MTU} }

// GateRows lists by path the links and uplinks that have rulesets or an MTU.
func (s *Set) GateRows() []GateRow {
	var out []GateRow
	for _, v := range s.VRFs.All() {
		if v.In != 0 || v.Out != 0 {
			out = append(out, GateRow{short(v.Path), idText(v.In), idText(v.Out), ""})
		}
	}
	for _, u := range s.Uplinks.All() {
		if u.In != 0 || u.Out != 0 || u.MTU != 0 {
			out = append(out, GateRow{short(u.Path), idText(u.In), idText(u.Out), idText(uint32(u.MTU))})
		}
	}
	return ordered(out)
}

// ServiceRow is a load balancer.
type ServiceRow struct{ Path, At, Monitors string }

// Columns implements columns.Row.
func (ServiceRow) Columns() []string { return []string{"LB SERVICE", "AT", "MONITORS FROM"} }

// Row implements columns.Row.
func (r ServiceRow) Row() []string { return []string{r.Path, r.At, r.Monitors} }

// ServiceRows lists load balancers by path.
func (s *Set) ServiceRows() []ServiceRow {
	at := map[LBServiceID]int{}
	for _, e := range s.Endpoints.All() {
		at[e.DLB]++
	}
	var out []ServiceRow
	for _, v := range s.Services.All() {
		r := ServiceRow{short(v.Path), s.vrf(v.VRF), ""}
		if v.VRF == 0 {
			r.At = fmt.Sprintf("%d endpoints", at[v.ID])
		}
		if p := s.Ports.Get(v.Port); p != nil {
			r.Monitors = short(p.Path)
		}
		out = append(out, r)
	}
	return ordered(out)
}

// VIPRow is a virtual server.
type VIPRow struct{ At, Addr, Services, Name, Pool, Limits string }

// Columns implements columns.Row.
func (VIPRow) Columns() []string {
	return []string{"AT", "VIP", "SERVICES", "VIRTUAL SERVER", "POOL", "FLAGS"}
}

// Row implements columns.Row.
func (r VIPRow) Row() []string {
	return []string{r.At, r.Addr, r.Services, r.Name, r.Pool, r.Limits}
}

// VIPRows lists virtual servers by where they are met, address and path.
func (s *Set) VIPRows() []VIPRow {
	all := sortedValues(s.VIPs, VIPKey.Compare)
	slices.SortStableFunc(all, func(a, b *VIP) int { return strings.Compare(s.at(a.Key), s.at(b.Key)) })
	var out []VIPRow
	for _, v := range all {
		for _, server := range v.Servers {
			r := VIPRow{s.at(v.Key), v.Key.Addr.String(), join(server.Services), short(server.Path), idText(server.Pool), serverFlags(server)}
			if p := s.Pools.Get(server.Pool); p != nil {
				r.Pool = short(p.Path)
			}
			out = append(out, r)
		}
	}
	return out
}

// at returns where a VIP is met.
func (s *Set) at(k VIPKey) string {
	if k.DLB == 0 {
		return s.vrf(k.VRF)
	}
	if v := s.Services.Get(k.DLB); v != nil {
		return short(v.Path)
	}
	return idText(k.DLB)
}

func serverFlags(v *VirtualServer) string {
	var out []string
	if v.MemberPort != 0 {
		out = append(out, "port="+strconv.Itoa(int(v.MemberPort)))
	}
	if v.Access != 0 {
		out = append(out, "access="+idText(v.Access))
	}
	if v.MaxConns != 0 {
		out = append(out, "max="+idText(v.MaxConns))
	}
	if v.Persist != 0 {
		out = append(out, fmt.Sprintf("persist=%d/%ds", v.Persist, v.PersistFor))
	}
	return strings.Join(out, ",")
}

// PoolRow is a pool.
type PoolRow struct{ Path, Algorithm, SNAT, MinActive, Monitors string }

// Columns implements columns.Row.
func (PoolRow) Columns() []string { return []string{"POOL", "ALGORITHM", "SNAT", "MIN", "MONITORS"} }

// Row implements columns.Row.
func (r PoolRow) Row() []string {
	return []string{r.Path, r.Algorithm, r.SNAT, r.MinActive, r.Monitors}
}

// PoolRows lists pools by path.
func (s *Set) PoolRows() []PoolRow {
	var out []PoolRow
	for _, p := range s.Pools.All() {
		r := PoolRow{short(p.Path), p.Algorithm.String(), p.SNAT.String(), idText(p.MinActive), ""}
		if p.SNAT == SNATPool {
			r.SNAT = join(p.SNATAddrs)
		}
		var monitors []string
		for _, m := range p.Monitors {
			monitors = append(monitors, m.Kind.String()+" "+short(m.Path))
		}
		if p.Passive != nil {
			monitors = append(monitors, "passive "+short(p.Passive.Path))
		}
		r.Monitors = strings.Join(monitors, ",")
		out = append(out, r)
	}
	return ordered(out)
}

// MemberRow is a member of a pool.
type MemberRow struct{ Pool, Addr, Port, Name, Weight, State, Flags string }

// Columns implements columns.Row.
func (MemberRow) Columns() []string {
	return []string{"POOL", "ADDRESS", "PORT", "NAME", "WEIGHT", "STATE", "FLAGS"}
}

// Row implements columns.Row.
func (r MemberRow) Row() []string {
	return []string{r.Pool, r.Addr, r.Port, r.Name, r.Weight, r.State, r.Flags}
}

// MemberRows lists members by pool, address and port.
func (s *Set) MemberRows() []MemberRow {
	pools := sortedValues(s.Pools, cmp.Compare)
	slices.SortStableFunc(pools, func(a, b *Pool) int { return strings.Compare(a.Path, b.Path) })
	var out []MemberRow
	for _, p := range pools {
		for i := range p.Members {
			m := &p.Members[i]
			r := MemberRow{short(p.Path), m.Addr.String(), idText(uint32(m.Port)), m.Name, idText(uint32(m.Weight)), m.Admin.String(), ""}
			var flags []string
			if m.Backup {
				flags = append(flags, "backup")
			}
			if m.MaxConns != 0 {
				flags = append(flags, "max="+idText(m.MaxConns))
			}
			if h := s.Health[m.ID]; h.Down {
				flags = append(flags, "down: "+h.Why)
			}
			r.Flags = strings.Join(flags, ",")
			out = append(out, r)
		}
	}
	return out
}
