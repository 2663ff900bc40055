package compile

import (
	"github.com/weft-net/weft/intent"
)

// Pools of ids. Those of transit links are named by their Tier-0 and subnets.
const (
	poolVRF         = "vrf"
	poolRealm       = "realm"
	poolSegment     = "segment"
	poolVNI         = "vni"
	poolPort        = "port"
	poolHop         = "next hop"
	poolAddrSet     = "address set"
	poolRuleset     = "ruleset"
	poolRule        = "rule"
	poolService     = "load balancer"
	poolServer      = "virtual server"
	poolPool        = "pool"
	poolMember      = "member"
	poolPersistence = "persistence"
	poolTransit     = "transit " // and transit.pool
)

const (
	noID      = int64(-1)
	maxID     = 1<<31 - 1 // ids fit 31 bits
	maxVNI    = 1<<24 - 1 // RFC 7348 §5
	firstRule = 1000      // NSX: the local manager's rule ids are 1000 to 999999
	lastRule  = 999999
)

// id returns the id of name in a pool and keeps it for as long as the fact
// stands. Zero if the pool is exhausted.
func (x *run) id(pool, name string) uint32 {
	return x.idOf(pool, name, 0)
}

// idOf is id for one who wants a certain id; 0: any.
func (x *run) idOf(pool, name string, explicit int64) uint32 {
	id, _ := x.slot(pool, name, explicit)
	return uint32(id)
}

// slot puts a name into a pool and returns what it has there.
func (x *run) slot(pool, name string, explicit int64) (slot uint64, ok bool) {
	x.record(x.emit(ref{relNeed, pool, name}, explicit))
	return x.c.pools[pool].get(name)
}

// allocate follows a change of who needs an id.
func (c *Compiler) allocate(need *fact) {
	p := c.pools[need.name]
	if p == nil {
		p = c.newPool(need.name)
		c.pools[need.name] = p
	}
	if need.members.size() > 0 {
		explicit := noID
		for m := range need.members.all() {
			if want := m.(int64); want > 0 {
				explicit = max(explicit, want)
			}
		}
		p.put(need.arg, explicit)
		return
	}
	p.remove(need.arg)
	if len(p.names) == 0 {
		delete(c.pools, need.name)
	}
}

// newPool returns an empty pool for a kind of ids.
func (c *Compiler) newPool(name string) *pool {
	moved := func(arg string) { c.g.markRef(ref{relNeed, name, arg}) }
	switch name {
	case poolVNI:
		return newPool(1, maxVNI, moved)
	case poolRule:
		return newPool(firstRule, lastRule-firstRule+1, moved)
	}
	if size, ok := c.transits[name]; ok {
		return newPool(0, size, moved)
	}
	return newPool(1, maxID, moved)
}

// object returns the object at path as T; ok is false if there is none.
func object[T intent.Object](x *run, path string) (T, bool) {
	x.note(ref{srcObject, path, ""})
	return intent.Find[T](x.c.tree, path)
}
