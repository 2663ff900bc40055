package compile

import "github.com/weft-net/weft/table"

// change is a built fact that has another value than at the last Update.
type change struct {
	fact   *fact
	before any
}

func (c *Compiler) changed(f *fact, before any) {
	if !f.told {
		f.told = true
		c.changes = append(c.changes, change{f, before})
	}
}

// publish makes new Sets that hold the values of all facts that changed. What
// goes is taken out before what comes is put in, because an id may pass from
// one to the other.
func (c *Compiler) publish() {
	edits := map[string]*edit{}
	for _, put := range []bool{false, true} {
		for _, ch := range c.changes {
			value := ch.before
			if put {
				value = ch.fact.value
				ch.fact.told = false
			}
			for _, node := range places(ch.fact) {
				if edits[node] == nil {
					set := *c.sets[node]
					edits[node] = &edit{set: &set, maps: map[any]any{}}
				}
				edits[node].apply(value, put)
			}
		}
	}
	for node, e := range edits {
		for _, end := range e.ends {
			end()
		}
		if e.own {
			c.sets[node] = e.set
		}
	}
	c.changes = nil
}

// edit changes a copy of a Set.
type edit struct {
	set  *table.Set
	maps map[any]any // edits of its Maps
	ends []func()    // put what these made into the Set
	own  bool        // something changed
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
	case *table.LBService:
		write(e, &e.set.Services, v.ID, v, put)
	case *table.VIP:
		write(e, &e.set.VIPs, v.Key, v, put)
	case *table.Pool:
		write(e, &e.set.Pools, v.ID, v, put)
	case *monitorNet:
		e.apply(v.segment, put)
		e.apply(&port{Port: v.port}, put)
		e.apply(v.endpoint, put)
	case *timers:
		e.own = true
		e.set.Timeouts = table.DefaultTimeouts()
		if put {
			e.set.Timeouts = v.Timeouts
		}
	case *table.Ruleset:
		write(e, &e.set.Rulesets, v.ID, v, put)
	}
}

// write puts or deletes one row of a Map of the Set.
func write[K comparable, V any](e *edit, m *table.Map[K, V], key K, v *V, put bool) {
	changes, ok := e.maps[m].(*table.MapEdit[K, V])
	if !ok {
		changes = m.Edit()
		e.maps[m], e.own = changes, true
		e.ends = append(e.ends, func() { *m = changes.Map() })
	}
	if put {
		changes.Put(key, v)
	} else {
		changes.Delete(key)
	}
}
