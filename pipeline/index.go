package pipeline

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"github.com/weft-net/weft/table"
)

// Index is a Set with what look-ups by address need. It is immutable and safe
// for concurrent use.
type Index struct {
	Set     *table.Set
	routes  map[table.VRFID]*bart.Table[*table.Route]
	members map[memberKey]*bart.Lite
	realms  map[table.RealmID]*bart.Lite
}

type memberKey struct {
	set   table.AddrSetID
	realm table.RealmID
}

// NewIndex prepares set, which must not change afterwards. Cost O(set).
func NewIndex(set *table.Set) *Index {
	ix := &Index{
		Set:     set,
		routes:  map[table.VRFID]*bart.Table[*table.Route]{},
		members: map[memberKey]*bart.Lite{},
		realms:  map[table.RealmID]*bart.Lite{},
	}
	for k, r := range set.Routes {
		t := ix.routes[k.VRF]
		if t == nil {
			t = new(bart.Table[*table.Route])
			ix.routes[k.VRF] = t
		}
		t.Insert(k.Prefix, r)
	}
	for id, s := range set.AddrSets {
		for _, a := range s.Addrs {
			lite(ix.members, memberKey{id, a.Realm}).Insert(a.Prefix)
		}
	}
	for id, r := range set.Realms {
		for _, p := range r.Prefixes {
			lite(ix.realms, id).Insert(p)
		}
	}
	return ix
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
	return ix.Set.Endpoints[table.EndpointKey{Segment: s, Addr: addr}]
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

// realm returns the realm that addr belongs to at a port of s. See table.Realm.
func (ix *Index) realm(s table.SegmentID, addr netip.Addr) table.RealmID {
	seg := ix.Set.Segments[s]
	if seg == nil || seg.Realm == 0 {
		return 0
	}
	if l := ix.realms[seg.Realm]; l != nil && l.Contains(addr) {
		return seg.Realm
	}
	return 0
}

// member reports whether addr, of a realm, is in an address set.
func (ix *Index) member(set table.AddrSetID, realm table.RealmID, addr netip.Addr) bool {
	for _, r := range [...]table.RealmID{realm, table.AnyRealm} {
		if l := ix.members[memberKey{set, r}]; l != nil && l.Contains(addr) {
			return true
		}
	}
	return false
}
