package compile

import (
	"crypto/sha256"
	"encoding/binary"
)

// pool gives the numbers base to base+size-1, called slots, to names so that who has which slot depends on
// the set of names alone, not on the order in which they came.
//
// Each name has a list of wanted slots: the explicit one, if it has one (it may
// lie outside of the range), then a permutation of all slots that is derived from the name. In the order of
// rank (explicit ones first, then by name) each takes the first slot of its
// list that no earlier name has. That assignment is unique, and put and remove
// keep it incrementally: a name that comes pushes a later one out of a slot,
// a name that goes is followed by the first in rank of those it had kept out.
//
// Cost O(1) expected while less than half of the slots are taken.
type pool struct {
	base    uint64
	size    uint64 // below 2^32
	holders map[uint64]*claimant
	waiters map[uint64]map[*claimant]struct{} // who wanted the slot and was refused
	names   map[string]*claimant
	moved   func(name string) // called for every name whose slot changes; may be nil
}

// claimant is a name's place in its list.
type claimant struct {
	name          string
	explicit      int64 // wanted slot, -1: none
	start, stride uint64
	at            uint64 // place in the list: 0 is the explicit slot, i+1 the i-th derived one
	holds         bool
}

func newPool(base, size uint64, moved func(string)) *pool {
	return &pool{
		base:    base,
		size:    size,
		holders: map[uint64]*claimant{},
		waiters: map[uint64]map[*claimant]struct{}{},
		names:   map[string]*claimant{},
		moved:   moved,
	}
}

// put adds a name; explicit is the slot that it wants, or -1. A name that is
// there already with another explicit slot starts again.
func (p *pool) put(name string, explicit int64) {
	if c := p.names[name]; c != nil {
		if c.explicit == explicit {
			return
		}
		p.remove(name)
	}
	sum := sha256.Sum256([]byte(name))
	c := &claimant{
		name:     name,
		explicit: explicit,
		start:    binary.BigEndian.Uint64(sum[:]) % max(p.size, 1),
		stride:   binary.BigEndian.Uint64(sum[8:]) % max(p.size, 1),
	}
	for gcd(c.stride, p.size) != 1 {
		c.stride++
	}
	p.names[name] = c
	p.settle(c)
}

// settle lets c, and then everyone who is pushed out, find a slot.
func (p *pool) settle(c *claimant) {
	for c != nil {
		slot, wanted := p.slot(c)
		if c.at > p.size {
			c.holds = false // all slots belong to earlier names
			p.changed(c)
			return
		}
		if !wanted {
			c.at++
			continue
		}
		holder := p.holders[slot]
		switch {
		case holder == nil:
			p.take(c, slot)
			c = nil
		case before(c, holder):
			p.take(c, slot)
			holder.holds = false
			p.wait(holder, slot)
			c = holder
			c.at++
		default:
			p.wait(c, slot)
			c.at++
		}
	}
}

// slot returns the slot at c's place in its list; wanted is false if there is
// none, or if it is the explicit one, which stands at the front already.
func (p *pool) slot(c *claimant) (slot uint64, wanted bool) {
	if c.at == 0 {
		return uint64(max(c.explicit, 0)), c.explicit >= 0
	}
	slot = p.base + (c.start+mulmod(c.at-1, c.stride, p.size))%max(p.size, 1)
	return slot, int64(slot) != c.explicit
}

func (p *pool) take(c *claimant, slot uint64) {
	p.holders[slot] = c
	c.holds = true
	p.changed(c)
}

func (p *pool) changed(c *claimant) {
	if p.moved != nil {
		p.moved(c.name)
	}
}

func (p *pool) wait(c *claimant, slot uint64) {
	if p.waiters[slot] == nil {
		p.waiters[slot] = map[*claimant]struct{}{}
	}
	p.waiters[slot][c] = struct{}{}
}

func (p *pool) unwait(c *claimant, slot uint64) {
	delete(p.waiters[slot], c)
	if len(p.waiters[slot]) == 0 {
		delete(p.waiters, slot)
	}
}

// remove takes a name out and lets those that waited for its slot move up.
func (p *pool) remove(name string) {
	c := p.names[name]
	if c == nil {
		return
	}
	delete(p.names, name)
	freed, holds := p.slot(c)
	holds = holds && c.holds
	p.forget(c, 0)
	if holds {
		p.free(freed)
	}
}

// free gives a slot to the first in rank of those that wait for it, then that
// one's old slot, and so on.
func (p *pool) free(slot uint64) {
	for {
		delete(p.holders, slot)
		var next *claimant
		for w := range p.waiters[slot] {
			if next == nil || before(w, next) {
				next = w
			}
		}
		if next == nil {
			return
		}
		old, holds := p.slot(next)
		holds = holds && next.holds
		p.forget(next, p.placeOf(next, slot))
		p.take(next, slot)
		if !holds {
			return
		}
		slot = old
	}
}

// placeOf returns where in its list c has the slot; c waits for it.
func (p *pool) placeOf(c *claimant, slot uint64) uint64 {
	at := c.at
	for c.at = 0; c.at < at; c.at++ {
		if s, wanted := p.slot(c); wanted && s == slot {
			break
		}
	}
	at, c.at = c.at, at
	return at
}

// forget moves c back to a place in its list and stops its waiting from there
// on.
func (p *pool) forget(c *claimant, place uint64) {
	last := c.at
	for c.at = place; c.at < last; c.at++ {
		if s, wanted := p.slot(c); wanted {
			p.unwait(c, s)
		}
	}
	c.at = place
}

// get returns the slot of a name; ok is false if it has none.
func (p *pool) get(name string) (slot uint64, ok bool) {
	c := p.names[name]
	if c == nil || !c.holds {
		return 0, false
	}
	slot, _ = p.slot(c)
	return slot, true
}

// before reports whether a ranks before b.
func before(a, b *claimant) bool {
	if (a.explicit >= 0) != (b.explicit >= 0) {
		return a.explicit >= 0
	}
	return a.name < b.name
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// mulmod returns a*b mod m for a, b and m below 2^32; m 0 gives 0.
func mulmod(a, b, m uint64) uint64 {
	if m == 0 {
		return 0
	}
	return a % m * (b % m) % m
}
