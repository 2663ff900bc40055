package pipeline

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/weft-net/weft/table"
)

// Index is a Set with what look-ups by address need, and the slots of its pools. It is immutable and safe
// for concurrent use.
type Index struct {
	Set     *table.Set
	routes  map[table.VRFID]*bart.Table[*table.Route]
	members map[memberKey]*bart.Lite
	realms  map[table.RealmID]*bart.Lite
	pools   map[table.PoolID]*pool
}

// pool is a Pool with the members that its slots name.
type pool struct {
	*table.Pool
	slots []*table.Member
}

type memberKey struct {
	set   table.AddrSetID
	realm table.RealmID
}

// NewIndex prepares set, which must not change afterwards. Cost O(set), with
// the slots of each pool: see table.Pool.Slots.
func NewIndex(set *table.Set) *Index {
	ix := &Index{
		Set:     set,
		routes:  map[table.VRFID]*bart.Table[*table.Route]{},
		members: map[memberKey]*bart.Lite{},
		realms:  map[table.RealmID]*bart.Lite{},
		pools:   map[table.PoolID]*pool{},
	}
	for k, r := range set.Routes.All() {
		t := ix.routes[k.VRF]
		if t == nil {
			t = new(bart.Table[*table.Route])
			ix.routes[k.VRF] = t
		}
		t.Insert(k.Prefix, r)
	}
	for id, s := range set.AddrSets.All() {
		for _, a := range s.Addrs {
			lite(ix.members, memberKey{id, a.Realm}).Insert(a.Prefix)
		}
	}
	for id, r := range set.Realms.All() {
		for _, p := range r.Prefixes {
			lite(ix.realms, id).Insert(p)
		}
	}
	for id, p := range set.Pools.All() {
		ix.pools[id] = newPool(p, set.Health)
	}
	return ix
}

func newPool(p *table.Pool, health map[table.MemberID]table.Health) *pool {
	byID := make(map[table.MemberID]*table.Member, len(p.Members))
	for i := range p.Members {
		byID[p.Members[i].ID] = &p.Members[i]
	}
	ids := p.Slots(health)
	out := &pool{Pool: p, slots: make([]*table.Member, len(ids))}
	for i, id := range ids {
		out.slots[i] = byID[id]
	}
	return out
}

// lite returns m[k], making it if need be.
func lite[K comparable](m map[K]*bart.Lite, k K) *bart.Lite {
	l := m[k]
	if l == nil {
		l = new(bart.Lite)
		m[k] = l
	}
	return l
}

// Route returns the longest-prefix route for dst in vrf, nil if there is none.
// No allocation.
func (ix *Index) Route(vrf table.VRFID, dst netip.Addr) *table.Route {
	t := ix.routes[vrf]
	if t == nil {
		return nil
	}
	r, _ := t.Lookup(dst)
	return r
}

// Endpoint returns the binding of addr on a segment, nil if there is none.
func (ix *Index) Endpoint(s table.SegmentID, addr netip.Addr) *table.Endpoint {
	return ix.Set.Endpoints.Get(table.EndpointKey{Segment: s, Addr: addr})
}

// Gateway returns the router's address on s that a sender with address src
// uses: the one whose subnet holds src, else the first; invalid if s has none.
func Gateway(s *table.Segment, src netip.Addr) netip.Addr {
	for _, g := range s.Gateways {
		if g.Contains(src) {
			return g.Addr()
		}
	}
	if len(s.Gateways) == 0 {
		return netip.Addr{}
	}
	return s.Gateways[0].Addr()
}

// segmentRealm and vrfRealm return the realm of a segment and of a router.
func (ix *Index) segmentRealm(id table.SegmentID) table.RealmID {
	if s := ix.Set.Segments.Get(id); s != nil {
		return s.Realm
	}
	return 0
}

func (ix *Index) vrfRealm(id table.VRFID) table.RealmID {
	if v := ix.Set.VRFs.Get(id); v != nil {
		return v.Realm
	}
	return 0
}

// realm returns the realm that addr belongs to where realm r is: r itself or 0.
// See table.Realm.
func (ix *Index) realm(r table.RealmID, addr netip.Addr) table.RealmID {
	if l := ix.realms[r]; l != nil && l.Contains(addr) {
		return r
	}
	return 0
}

// has reports whether m is in an address set.
func (ix *Index) has(set table.AddrSetID, m member) bool {
	for _, r := range [...]table.RealmID{m.realm, table.AnyRealm} {
		if l := ix.members[memberKey{set, r}]; l != nil && l.Contains(m.addr) {
			return true
		}
	}
	return false
}
