package table

import (
	"cmp"
	"reflect"
	"slices"
)

// Delta is what differs in one map of two Sets: keys in order.
type Delta[K comparable] struct {
	Added, Changed, Removed []K
}

// Len returns the number of differences.
func (d Delta[K]) Len() int { return len(d.Added) + len(d.Changed) + len(d.Removed) }

// Difference is what differs between two Sets.
type Difference struct {
	Ports     Delta[PortID]
	Uplinks   Delta[PortID]
	Segments  Delta[SegmentID]
	Endpoints Delta[EndpointKey]
	VRFs      Delta[VRFID]
	Routes    Delta[RouteKey]
	NextHops  Delta[NextHopID]
	NAT       Delta[NATKey]
	Realms    Delta[RealmID]
	AddrSets  Delta[AddrSetID]
	Rulesets  Delta[RulesetID]
	Services  Delta[LBServiceID]
	VIPs      Delta[VIPKey]
	Pools     Delta[PoolID]
	Timeouts  bool // whether they differ
}

// Len returns the number of differences; 0: the Sets are equal but for the
// node's name and the members' health.
func (d *Difference) Len() int {
	n := d.Ports.Len() + d.Uplinks.Len() + d.Segments.Len() + d.Endpoints.Len() + d.VRFs.Len() + d.Routes.Len() +
		d.NextHops.Len() + d.NAT.Len() + d.Realms.Len() + d.AddrSets.Len() + d.Rulesets.Len() +
		d.Services.Len() + d.VIPs.Len() + d.Pools.Len()
	if d.Timeouts {
		n++
	}
	return n
}

// Diff returns what differs from before to after; nil stands for an empty Set.
// Cost: see Map.Differing, and a comparison of the content of those objects that
// the Sets do not share by pointer.
func Diff(before, after *Set) *Difference {
	if before == nil {
		before = &Set{}
	}
	if after == nil {
		after = &Set{}
	}
	return &Difference{
		Ports:     delta(before.Ports, after.Ports, cmp.Compare),
		Uplinks:   delta(before.Uplinks, after.Uplinks, cmp.Compare),
		Segments:  delta(before.Segments, after.Segments, cmp.Compare),
		Endpoints: delta(before.Endpoints, after.Endpoints, EndpointKey.Compare),
		VRFs:      delta(before.VRFs, after.VRFs, cmp.Compare),
		Routes:    delta(before.Routes, after.Routes, RouteKey.Compare),
		NextHops:  delta(before.NextHops, after.NextHops, cmp.Compare),
		NAT:       delta(before.NAT, after.NAT, NATKey.Compare),
		Realms:    delta(before.Realms, after.Realms, cmp.Compare),
		AddrSets:  delta(before.AddrSets, after.AddrSets, cmp.Compare),
		Rulesets:  delta(before.Rulesets, after.Rulesets, cmp.Compare),
		Services:  delta(before.Services, after.Services, cmp.Compare),
		VIPs:      delta(before.VIPs, after.VIPs, VIPKey.Compare),
		Pools:     delta(before.Pools, after.Pools, cmp.Compare),
		Timeouts:  before.Timeouts != after.Timeouts,
	}
}

func delta[K comparable, V any](before, after Map[K, V], compare func(a, b K) int) Delta[K] {
	var d Delta[K]
	for k := range before.Differing(after) {
		switch old, new := before.Get(k), after.Get(k); {
		case old == nil:
			d.Added = append(d.Added, k)
		case new == nil:
			d.Removed = append(d.Removed, k)
		case !reflect.DeepEqual(old, new):
			d.Changed = append(d.Changed, k)
		}
	}
	for _, list := range [][]K{d.Added, d.Changed, d.Removed} {
		slices.SortFunc(list, compare)
	}
	return d
}

// sortedValues returns the objects of a map in the order of their keys.
func sortedValues[K comparable, V any](m Map[K, V], compare func(a, b K) int) []*V {
	out := make([]*V, 0, m.Len())
	for _, k := range slices.SortedFunc(m.Keys(), compare) {
		out = append(out, m.Get(k))
	}
	return out
}
