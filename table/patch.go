package table

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Patch is what changes from one Set to the next, as compact as a machine needs
// it; Difference is the same for people.
//
// The long lists of address sets and rulesets are not repeated: an object of
// which a few rows changed is in the Patch with these rows. Health is in no
// Patch: it is the node's own.
type Patch struct {
	node      string
	ports     edit[PortID, Port]
	uplinks   edit[PortID, Uplink]
	segments  edit[SegmentID, Segment]
	endpoints edit[EndpointKey, Endpoint]
	vrfs      edit[VRFID, VRF]
	routes    edit[RouteKey, Route]
	nextHops  edit[NextHopID, NextHop]
	nat       edit[NATKey, NATList]
	realms    edit[RealmID, Realm]
	addrSets  edit[AddrSetID, AddrSet]
	addrRows  []respliced[AddrSet, RealmPrefix]
	rulesets  edit[RulesetID, Ruleset]
	ruleRows  []respliced[Ruleset, *Rule]
	services  edit[LBServiceID, LBService]
	vips      edit[VIPKey, VIP]
	pools     edit[PoolID, Pool]
	timeouts  *Timeouts // nil: as before
}

// MakePatch returns what changes from before to after; nil stands for an empty
// Set. It shares objects with after. Cost: see Diff.
func MakePatch(before, after *Set) *Patch {
	if before == nil {
		before = &Set{}
	}
	if after == nil {
		after = &Set{}
	}
	p := &Patch{
		node:      after.Node,
		ports:     edits(before.Ports, after.Ports, cmp.Compare),
		uplinks:   edits(before.Uplinks, after.Uplinks, cmp.Compare),
		segments:  edits(before.Segments, after.Segments, cmp.Compare),
		endpoints: edits(before.Endpoints, after.Endpoints, EndpointKey.Compare),
		vrfs:      edits(before.VRFs, after.VRFs, cmp.Compare),
		routes:    edits(before.Routes, after.Routes, RouteKey.Compare),
		nextHops:  edits(before.NextHops, after.NextHops, cmp.Compare),
		nat:       edits(before.NAT, after.NAT, NATKey.Compare),
		realms:    edits(before.Realms, after.Realms, cmp.Compare),
		addrSets:  edits(before.AddrSets, after.AddrSets, cmp.Compare),
		rulesets:  edits(before.Rulesets, after.Rulesets, cmp.Compare),
		services:  edits(before.Services, after.Services, cmp.Compare),
		vips:      edits(before.VIPs, after.VIPs, VIPKey.Compare),
		pools:     edits(before.Pools, after.Pools, cmp.Compare),
	}
	p.addrSets.Put, p.addrRows = resplice(p.addrSets.Put, before.AddrSets, addrSetKey, addrSetRows)
	p.rulesets.Put, p.ruleRows = resplice(p.rulesets.Put, before.Rulesets, rulesetKey, rulesetRows)
	if before.Timeouts != after.Timeouts {
		p.timeouts = &after.Timeouts
	}
	return p
}

func addrSetRows(s *AddrSet) *[]RealmPrefix { return &s.Addrs }
func rulesetRows(s *Ruleset) *[]*Rule       { return &s.Rules }

// edits returns what changes from before to after.
func edits[K comparable, V any](before, after Map[K, V], compare func(a, b K) int) edit[K, V] {
	var put []K
	var e edit[K, V]
	for k := range before.Differing(after) {
		switch old, new := before.Get(k), after.Get(k); {
		case new == nil:
			e.Gone = append(e.Gone, k)
		case old == nil || !reflect.DeepEqual(old, new):
			put = append(put, k)
		}
	}
	slices.SortFunc(put, compare)
	slices.SortFunc(e.Gone, compare)
	for _, k := range put {
		e.Put = append(e.Put, after.Get(k))
	}
	return e
}

// resplice takes those objects out of put of whose list a small part changed.
func resplice[K, T comparable, V any](put []*V, before Map[K, V], key func(*V) K, rows func(*V) *[]T) (whole []*V, some []respliced[V, T]) {
	for _, v := range put {
		if old := before.Get(key(v)); old != nil {
			if list, small := splices(*rows(old), *rows(v)); small {
				head := *v
				*rows(&head) = nil
				some = append(some, respliced[V, T]{&head, list})
				continue
			}
		}
		whole = append(whole, v)
	}
	return whole, some
}

// Len returns the number of objects that change; 0: applying p changes nothing
// but perhaps the node's name.
func (p *Patch) Len() int {
	n := p.ports.len() + p.uplinks.len() + p.segments.len() + p.endpoints.len() + p.vrfs.len() + p.routes.len() +
		p.nextHops.len() + p.nat.len() + p.realms.len() + p.addrSets.len() + len(p.addrRows) +
		p.rulesets.len() + len(p.ruleRows) + p.services.len() + p.vips.len() + p.pools.len()
	if p.timeouts != nil {
		n++
	}
	return n
}

// Apply returns the Set that p makes of before, without health; nil stands for
// an empty Set. The result shares with before all that stays, and with p what
// is new.
// Errors: p was made from a Set that is not before.
func (p *Patch) Apply(before *Set) (*Set, error) {
	out := NewSet("")
	out.Timeouts = Timeouts{}
	if before != nil {
		*out = *before
	}
	out.Node, out.Health = p.node, nil
	if p.timeouts != nil {
		out.Timeouts = *p.timeouts
	}
	addrSets, err := with(p.addrSets, out.AddrSets, p.addrRows, addrSetKey, addrSetRows)
	if err != nil {
		return nil, fmt.Errorf("patch: address sets: %w", err)
	}
	rulesets, err := with(p.rulesets, out.Rulesets, p.ruleRows, rulesetKey, rulesetRows)
	if err != nil {
		return nil, fmt.Errorf("patch: rulesets: %w", err)
	}
	for _, err := range []error{
		change(&out.Ports, "ports", p.ports, portKey),
		change(&out.Uplinks, "uplinks", p.uplinks, uplinkKey),
		change(&out.Segments, "segments", p.segments, segmentKey),
		change(&out.Endpoints, "endpoints", p.endpoints, endpointKey),
		change(&out.VRFs, "vrfs", p.vrfs, vrfKey),
		change(&out.Routes, "routes", p.routes, routeKey),
		change(&out.NextHops, "next hops", p.nextHops, nextHopKey),
		change(&out.NAT, "nat", p.nat, natKey),
		change(&out.Realms, "realms", p.realms, realmKey),
		change(&out.AddrSets, "address sets", addrSets, addrSetKey),
		change(&out.Rulesets, "rulesets", rulesets, rulesetKey),
		change(&out.Services, "services", p.services, serviceKey),
		change(&out.VIPs, "vips", p.vips, vipKey),
		change(&out.Pools, "pools", p.pools, poolKey),
	} {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
