package table

import "cmp"

// The keys by which a Set has its objects.
func portKey(v *Port) PortID              { return v.ID }
func uplinkKey(v *Uplink) PortID          { return v.ID }
func segmentKey(v *Segment) SegmentID     { return v.ID }
func endpointKey(v *Endpoint) EndpointKey { return EndpointKey{v.Segment, v.Addr} }
func vrfKey(v *VRF) VRFID                 { return v.ID }
func routeKey(v *Route) RouteKey          { return RouteKey{v.VRF, v.Prefix} }
func nextHopKey(v *NextHop) NextHopID     { return v.ID }
func natKey(v *NATList) NATKey            { return v.Key }
func realmKey(v *Realm) RealmID           { return v.ID }
func addrSetKey(v *AddrSet) AddrSetID     { return v.ID }
func rulesetKey(v *Ruleset) RulesetID     { return v.ID }
func serviceKey(v *LBService) LBServiceID { return v.ID }
func vipKey(v *VIP) VIPKey                { return v.Key }
func poolKey(v *Pool) PoolID              { return v.ID }

// Compare orders by segment, then by address.
func (k EndpointKey) Compare(o EndpointKey) int {
	return cmp.Or(cmp.Compare(k.Segment, o.Segment), k.Addr.Compare(o.Addr))
}

// Compare orders by router, then by address, then shorter prefixes first.
func (k RouteKey) Compare(o RouteKey) int {
	return cmp.Or(cmp.Compare(k.VRF, o.VRF), k.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(k.Prefix.Bits(), o.Prefix.Bits()))
}

// Compare orders by router, then out before in.
func (k NATKey) Compare(o NATKey) int {
	return cmp.Or(cmp.Compare(k.VRF, o.VRF), cmp.Compare(k.Dir, o.Dir))
}

// Compare orders by router, then by load balancer, then by address.
func (k VIPKey) Compare(o VIPKey) int {
	return cmp.Or(cmp.Compare(k.VRF, o.VRF), cmp.Compare(k.DLB, o.DLB), k.Addr.Compare(o.Addr))
}
