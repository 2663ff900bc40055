package monitor

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/weft-net/weft/table"
)

// Target is one member that one monitor asks.
type Target struct {
	Member  table.MemberID
	Monitor *table.Monitor
	Service table.LBServiceID // whose port the question leaves by
	Addr    netip.AddrPort    // port 0 for ICMP
}

// key names a Target: what changes beside it does not make it another one.
type key struct {
	member  table.MemberID
	monitor string // policy path
}

func (t Target) key() key { return key{t.Member, t.Monitor.Path} }

// same says whether t asks what o asks.
func (t Target) same(o Target) bool { return reflect.DeepEqual(t, o) }

// Targets returns what the monitors of set ask, sorted by pool, member and
// monitor.
//
// A pool is asked about from one load balancer with a port: of those whose
// virtual servers use it, the one with the lowest path. Members that are
// disabled, and members of which no port is known, are not asked.
func Targets(set *table.Set) []Target {
	var out []Target
	for _, u := range uses(set) {
		for i := range u.pool.Members {
			m := &u.pool.Members[i]
			if m.Admin == table.MemberDisabled {
				continue
			}
			for _, mon := range u.pool.Monitors {
				port := cmp.Or(mon.Port, m.Port, u.port)
				if mon.Kind == table.MonitorICMP {
					port = 0
				} else if port == 0 {
					continue
				}
				out = append(out, Target{m.ID, mon, u.service.ID, netip.AddrPortFrom(m.Addr, port)})
			}
		}
	}
	return out
}

// use is a pool and who asks about its members.
type use struct {
	pool    *table.Pool
	service *table.LBService
	port    uint16 // of members without one; 0: not known
}

// uses returns the pools with monitors that virtual servers use, sorted by
// path.
func uses(set *table.Set) []use {
	found := map[table.PoolID]use{}
	for _, v := range servers(set) {
		pool, service := set.Pools.Get(v.Pool), set.Services.Get(v.Service)
		if pool == nil || service == nil || service.Port == 0 || len(pool.Monitors) == 0 {
			continue
		}
		if was, ok := found[pool.ID]; !ok || service.Path < was.service.Path {
			port := v.MemberPort
			if port == 0 && len(v.Services) > 0 {
				port = v.Services[0].First
			}
			found[pool.ID] = use{pool, service, port}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b use) int { return cmp.Compare(a.pool.Path, b.pool.Path) })
}

// servers returns all virtual servers, sorted by path.
func servers(set *table.Set) []*table.VirtualServer {
	var out []*table.VirtualServer
	for _, v := range set.VIPs.All() {
		out = append(out, v.Servers...)
	}
	slices.SortFunc(out, func(a, b *table.VirtualServer) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
