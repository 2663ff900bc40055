package compile

import (
	"slices"

	"github.com/weft-net/weft/intent"
)

// Pools of ids. Those of transit links are named by their Tier-0 and subnets.
const (
	poolVRF     = "vrf"
	poolRealm   = "realm"
	poolSegment = "segment"
	poolVNI     = "vni"
	poolPort    = "port"
	poolHop     = "next hop"
	poolAddrSet = "address set"
	poolRuleset = "ruleset"
	poolRule    = "rule"
	poolTransit = "transit " // and transit.pool
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
	return x.idOf(pool, name, noID)
}

// idOf is id for one who wants a certain id; noID: any.
func (x *run) idOf(pool, name string, explicit int64) uint32 {
	x.emit(ref{relNeed, pool, name}, explicit)
	id, _ := x.slot(pool, name)
	return uint32(id)
}

// slot returns what a name has in a pool that it was put into.
func (x *run) slot(pool, name string) (slot uint64, ok bool) {
	x.note(ref{srcID, pool, name})
	return x.c.pools[pool].get(name)
}

// allocate follows a change of who needs an id.
func (c *Compiler) allocate(need *fact) {
	p := c.pools[need.name]
	if p == nil {
		p = c.newPool(need.name)
		c.pools[need.name] = p
	}
	if len(need.members) > 0 {
		explicit := noID
		for m := range need.members {
			explicit = max(explicit, m.(int64))
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
	moved := func(arg string) { c.g.markRef(ref{srcID, name, arg}) }
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

// sorted returns the members of a relation in order.
func sorted[T comparable](rel *fact, cmp func(a, b T) int) []T {
	out := make([]T, 0, len(rel.members))
	for m := range rel.members {
		out = append(out, m.(T))
	}
	slices.SortFunc(out, cmp)
	return out
}
