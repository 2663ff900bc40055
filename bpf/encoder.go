package bpf

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"

	"github.com/weft-net/weft/table"
)

// TableMaps names the maps that a Set fills.
var TableMaps = []string{
	WeftMapWeftDevices, WeftMapWeftEndpoints, WeftMapWeftSegments, WeftMapWeftVrfs, WeftMapWeftRoutes,
	WeftMapWeftNexthops, WeftMapWeftNatIndex, WeftMapWeftNat, WeftMapWeftIdentities, WeftMapWeftRules,
	WeftMapWeftClasses, WeftMapWeftPairs, WeftMapWeftVips, WeftMapWeftPools, WeftMapWeftSlots, WeftMapWeftMembers,
}

// Encoder turns Sets into map rows, each as what differs from the one before.
// It holds no rows: those of the Set before are made again where objects differ.
// The zero value is not usable.
type Encoder struct {
	set      *table.Set
	isNew    bool // it was never updated: what it holds has no rows
	devices  map[table.PortID]Device
	flags    map[table.RulesetID]uint32 // which rows a ruleset has
	lists    map[string]*natList        // by index key
	numbers  numbers                    // of lists
	bound    map[table.PortID][]table.EndpointKey
	parts    partition
	rulesets map[table.RulesetID]*classified
	gateways map[table.RulesetID]*gatewayRules            // what the rows of those rulesets were made from
	users    map[table.AddrSetID]map[table.RulesetID]bool // the rulesets that name a set
}

// NewEncoder returns an Encoder that holds the empty Set.
func NewEncoder() *Encoder { return newEncoder(fnv32) }

func newEncoder(hash func(string) uint32) *Encoder {
	return &Encoder{
		set:      &table.Set{},
		isNew:    true,
		flags:    map[table.RulesetID]uint32{},
		lists:    map[string]*natList{},
		numbers:  newNumbers(hash, 0),
		bound:    map[table.PortID][]table.EndpointKey{},
		parts:    newPartition(hash),
		rulesets: map[table.RulesetID]*classified{},
		gateways: map[table.RulesetID]*gatewayRules{},
		users:    map[table.AddrSetID]map[table.RulesetID]bool{},
	}
}

// Update makes set the one that the Encoder holds and returns what differs in
// each map, in the order of TableMaps. The rows of a Set depend on the Set and
// the devices alone, not on what the Encoder held.
//
// Objects, and maps of the Set, are taken as equal if they are the same in
// memory: Sets share what did not change. Neither they nor devices may be
// modified later. No two ports or uplinks of a Set have one device. A port
// without a device gets its endpoints, so that it is answered for, but
// receives nothing.
//
// Cost O(what differs), and a pass over devices, next hops, uplinks and routers;
// over endpoints and virtual servers if rulesets differ in which rows they have,
// over pools if others are healthy.
// Errors name the object and the limit of the data plane that it exceeds
// (docs/pipeline.md section 10); the Encoder then holds what it held.
func (e *Encoder) Update(set *table.Set, devices map[table.PortID]Device) ([]*Changes, error) {
	wasSet, wasDevices := e.set, e.devices
	changes, err := e.move(set, devices)
	if err != nil {
		_, _ = e.move(wasSet, wasDevices) // within the limits, or it would not be held
		return nil, err
	}
	return changes, nil
}

// update is one step from a Set to the next.
type update struct {
	e       *Encoder
	changes map[string]*Changes
	old     view
	new     view
	err     error

	ports    map[table.PortID]bool      // whose port or device differs
	rulesets map[table.RulesetID]uint32 // flags before, of those whose flags differ
}

// view is one of the two Sets of an update, on its way into rows.
type view struct {
	u       *update
	side    side
	set     *table.Set
	devices map[table.PortID]Device
	alone   bool // see Changes.Alone
}

func (e *Encoder) move(set *table.Set, devices map[table.PortID]Device) ([]*Changes, error) {
	u := &update{e: e, changes: map[string]*Changes{}, ports: map[table.PortID]bool{}, rulesets: map[table.RulesetID]uint32{}}
	u.old = view{u: u, side: before, set: e.set, devices: e.devices}
	u.new = view{u: u, side: after, set: set, devices: devices, alone: e.isNew}
	for _, name := range TableMaps {
		u.changes[name] = &Changes{Map: name}
	}
	e.set, e.devices, e.isNew = set, devices, false
	u.tables()
	var out []*Changes
	for _, name := range TableMaps {
		u.changes[name].Drop()
		out = append(out, u.changes[name])
	}
	return out, u.err
}

// tables goes through the kinds of objects. Where rows depend on more than the
// object, the last argument is the keys of the objects that this concerns besides
// those that differ themselves; nil: none.
func (u *update) tables() {
	old, new := u.old.set, u.new.set
	u.findPorts()
	u.findEndpoints()
	u.firewall()
	u.nat()
	each(u, old.Ports, new.Ports, (*view).port, maps.Keys(u.ports))
	each(u, old.Uplinks, new.Uplinks, (*view).uplink, those(new.Uplinks, u.uplinkConcerned))
	each(u, old.NextHops, new.NextHops, (*view).nextHop, those(new.NextHops, u.nextHopConcerned))
	each(u, old.Segments, new.Segments, (*view).segment, nil)
	each(u, old.Routes, new.Routes, (*view).route, nil)
	each(u, old.VRFs, new.VRFs, (*view).vrf, those(new.VRFs, u.vrfConcerned))
	each(u, old.Endpoints, new.Endpoints, (*view).endpoint, u.endpointsConcerned())
	each(u, old.VIPs, new.VIPs, (*view).vip, those(new.VIPs, concerned(u.rulesets, u.vipConcerned)))
	each(u, old.Pools, new.Pools, (*view).pool, those(new.Pools, u.poolConcerned()))
}

// concerned returns fn, or nil if nothing is among what differs.
func concerned[D, K comparable, V, T any](differs map[D]V, fn func(K, T) bool) func(K, T) bool {
	if len(differs) == 0 {
		return nil
	}
	return fn
}

// findPorts notes the ports whose device differs, or what others say of them.
func (u *update) findPorts() {
	for id := range differing(u.old.devices, u.new.devices) {
		u.ports[id] = true
	}
	for id := range u.old.set.Ports.Differing(u.new.set.Ports) {
		was, is := u.old.set.Ports.Get(id), u.new.set.Ports.Get(id)
		if was == nil || is == nil || *was != *is {
			u.ports[id] = true
		}
	}
}

// findEndpoints follows which endpoints are of which port.
func (u *update) findEndpoints() {
	bound := u.e.bound
	for k := range u.old.set.Endpoints.Differing(u.new.set.Endpoints) {
		if was := u.old.set.Endpoints.Get(k); was != nil {
			left := slices.DeleteFunc(bound[was.Port], func(o table.EndpointKey) bool { return o == k })
			if bound[was.Port] = left; len(left) == 0 {
				delete(bound, was.Port)
			}
		}
		if is := u.new.set.Endpoints.Get(k); is != nil {
			bound[is.Port] = append(bound[is.Port], k)
		}
	}
}

// vrfConcerned says whether a router's row differs by its port, by whether
// it has NAT lists, or by its firewall.
func (u *update) vrfConcerned(id table.VRFID, r *table.VRF) bool {
	if u.ports[r.NodePort] || u.flagsDiffer(r.In) || u.flagsDiffer(r.Out) {
		return true
	}
	for _, dir := range []table.NATDir{table.NATOut, table.NATIn} {
		k := table.NATKey{VRF: id, Dir: dir}
		if (u.old.set.NAT.Get(k) == nil) != (u.new.set.NAT.Get(k) == nil) {
			return true
		}
	}
	return false
}

// flagsDiffer says whether the flags of a ruleset do.
func (u *update) flagsDiffer(id table.RulesetID) bool {
	_, differ := u.rulesets[id]
	return differ
}

func (u *update) uplinkConcerned(id table.PortID, up *table.Uplink) bool {
	return u.ports[id] || u.flagsDiffer(up.In)
}

// nextHopConcerned says whether the row of a next hop differs by its uplink.
func (u *update) nextHopConcerned(_ table.NextHopID, n *table.NextHop) bool {
	was, is := u.old.set.Uplinks.Get(n.Uplink), u.new.set.Uplinks.Get(n.Uplink)
	return u.ports[n.Uplink] || was != is || is != nil && u.flagsDiffer(is.Out)
}

// endpointsConcerned yields the endpoints whose rows differ by their port or by
// the flags of their rulesets.
func (u *update) endpointsConcerned() iter.Seq[table.EndpointKey] {
	if len(u.rulesets) > 0 {
		return those(u.new.set.Endpoints, func(_ table.EndpointKey, ep *table.Endpoint) bool {
			return u.ports[ep.Port] || slices.ContainsFunc(ep.Out, u.flagsDiffer) || slices.ContainsFunc(ep.In, u.flagsDiffer)
		})
	}
	return func(yield func(table.EndpointKey) bool) {
		for id := range u.ports {
			for _, k := range u.e.bound[id] {
				if !yield(k) {
					return
				}
			}
		}
	}
}

// those yields the keys of the objects that fn picks; nil if there is no fn.
func those[K comparable, V any](m table.Map[K, V], fn func(K, *V) bool) iter.Seq[K] {
	if fn == nil {
		return nil
	}
	return func(yield func(K) bool) {
		for k, v := range m.All() {
			if fn(k, v) && !yield(k) {
				return
			}
		}
	}
}

// each makes the rows, old and new, of the objects of one kind that differ or
// are concerned by what does.
func each[K comparable, V any](u *update, old, new table.Map[K, V], rows func(*view, K, *V), concerned iter.Seq[K]) {
	for k := range old.Differing(new) {
		if v := old.Get(k); v != nil {
			rows(&u.old, k, v)
		}
		if v := new.Get(k); v != nil {
			rows(&u.new, k, v)
		}
	}
	if concerned == nil {
		return
	}
	for k := range concerned {
		if v := new.Get(k); v != nil && old.Get(k) == v {
			rows(&u.old, k, v)
			rows(&u.new, k, v)
		}
	}
}

// differing yields the keys under which two maps do not have the same value.
func differing[K, V comparable](old, new map[K]V) iter.Seq[K] {
	return func(yield func(K) bool) {
		if reflect.ValueOf(old).Pointer() == reflect.ValueOf(new).Pointer() {
			return
		}
		common := 0
		for k, v := range new {
			was, ok := old[k]
			if ok {
				common++
			}
			if (!ok || was != v) && !yield(k) {
				return
			}
		}
		if common == len(old) {
			return
		}
		for k := range old {
			if _, ok := new[k]; !ok && !yield(k) {
				return
			}
		}
	}
}

// put enters a row; the caller has set the value's Present.
func put[K, V any](v *view, name string, k K, val V) {
	c, b := v.u.changes[name], memory(&val)
	i := c.at(memory(&k), len(b))
	copy(c.value(i, v.side), b)
	if v.alone {
		c.row(i)[0] = 1
	}
}

// limit notes an object that the data plane can not hold.
func (v *view) limit(got, most int, what string, object func() string) bool {
	if got > most && v.u.err == nil {
		v.u.err = fmt.Errorf("%s: %s: %d (at most %d)", object(), what, got, most)
	}
	return got > most
}

// flagsOf returns which rows a ruleset has.
func (v *view) flagsOf(id table.RulesetID) uint32 {
	if flags, differ := v.u.rulesets[id]; differ && v.side == before {
		return flags
	}
	return v.u.e.flags[id]
}

// Entries are the rows of one map: key bytes to the bytes of one slot.
type Entries map[string][]byte

// Tables are the entries of every map that a Set fills, by map name.
type Tables map[string]Entries

// Encode returns the rows of a Set, see Encoder.Update.
func Encode(set *table.Set, devices map[table.PortID]Device) (Tables, error) {
	return encode(NewEncoder(), set, devices)
}

// encode returns the rows of a Set; e holds the empty one.
func encode(e *Encoder, set *table.Set, devices map[table.PortID]Device) (Tables, error) {
	changes, err := e.Update(set, devices)
	if err != nil {
		return nil, err
	}
	out := Tables{}
	for _, c := range changes {
		out[c.Map] = make(Entries, c.Len())
		for i := range c.Len() {
			key, _, value := c.Row(i)
			out[c.Map][string(key)] = bytes.Clone(value)
		}
	}
	return out, nil
}
