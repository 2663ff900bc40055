package compile

import (
	"maps"

	"github.com/weft-net/weft/table"
)

// changed notes that a built fact has another value than at the last Update.
func (c *Compiler) changed(f *fact, before any) {
	if _, known := c.before[f]; !known {
		c.before[f] = before
	}
}

// publish makes new Sets that hold the values of all facts that changed. What
// goes is taken out before what comes is put in, because an id may pass from
// one to the other.
func (c *Compiler) publish() {
	edits := map[string]*edit{}
	for f := range c.before {
		for _, node := range places(f) {
			if edits[node] == nil {
				set := *c.sets[node]
				edits[node] = &edit{set: &set, own: map[any]bool{}}
			}
		}
	}
	for f, old := range c.before {
		for _, node := range places(f) {
			edits[node].apply(old, false)
		}
	}
	for f := range c.before {
		for _, node := range places(f) {
			edits[node].apply(f.value, true)
		}
	}
	for node, e := range edits {
		if len(e.own) > 0 {
			c.sets[node] = e.set
		}
	}
	clear(c.before)
}

// edit changes a shallow copy of a Set; own is the maps that it has copied.
type edit struct {
	set *table.Set
	own map[any]bool
}

// apply puts a fact's value into the Set or takes it out; values that are no
// objects of a Set are ignored.
func (e *edit) apply(value any, put bool) {
	switch v := value.(type) {
	case *port:
		write(e, &e.set.Ports, v.ID, v.Port, put)
	case *table.Uplink:
		write(e, &e.set.Uplinks, v.ID, v, put)
	case *table.Segment:
		write(e, &e.set.Segments, v.ID, v, put)
	case *table.Endpoint:
		write(e, &e.set.Endpoints, table.EndpointKey{Segment: v.Segment, Addr: v.Addr}, v, put)
	case *table.VRF:
		write(e, &e.set.VRFs, v.ID, v, put)
	case *table.Route:
		write(e, &e.set.Routes, table.RouteKey{VRF: v.VRF, Prefix: v.Prefix}, v, put)
	case *table.NextHop:
		write(e, &e.set.NextHops, v.ID, v, put)
	case *table.NATList:
		write(e, &e.set.NAT, v.Key, v, put)
	case *table.Realm:
		write(e, &e.set.Realms, v.ID, v, put)
	case *table.AddrSet:
		write(e, &e.set.AddrSets, v.ID, v, put)
	case *table.Ruleset:
		write(e, &e.set.Rulesets, v.ID, v, put)
	}
}

// write puts or deletes one row of a map of the Set, which it copies first.
func write[K comparable, V any](e *edit, m *map[K]*V, key K, v *V, put bool) {
	if !e.own[m] {
		e.own[m] = true
		*m = maps.Clone(*m)
	}
	if put {
		(*m)[key] = v
	} else {
		delete(*m, key)
	}
}
