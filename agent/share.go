package agent

import (
	"reflect"

	"github.com/weft-net/weft/table"
)

// share lets set, which nobody else has yet, use the objects of old that are
// the same: a driver skips what two Sets share, and tables that come over a
// socket share nothing by themselves. Cost O(objects).
func share(old, set *table.Set) {
	set.Ports = shared(old.Ports, set.Ports)
	set.Uplinks = shared(old.Uplinks, set.Uplinks)
	set.Segments = shared(old.Segments, set.Segments)
	set.Endpoints = shared(old.Endpoints, set.Endpoints)
	set.VRFs = shared(old.VRFs, set.VRFs)
	set.Routes = shared(old.Routes, set.Routes)
	set.NextHops = shared(old.NextHops, set.NextHops)
	set.NAT = shared(old.NAT, set.NAT)
	set.Realms = shared(old.Realms, set.Realms)
	set.AddrSets = shared(old.AddrSets, set.AddrSets)
	set.Rulesets = shared(old.Rulesets, set.Rulesets)
	set.Services = shared(old.Services, set.Services)
	set.VIPs = shared(old.VIPs, set.VIPs)
	set.Pools = shared(old.Pools, set.Pools)
}

// shared returns list with old's objects where they are the same.
func shared[K comparable, V any](old, list table.Map[K, V]) table.Map[K, V] {
	out := old.Edit()
	for k := range old.Differing(list) {
		switch was, is := old.Get(k), list.Get(k); {
		case is == nil:
			out.Delete(k)
		case was == nil || !reflect.DeepEqual(was, is):
			out.Put(k, is)
		}
	}
	return out.Map()
}
