package ebpf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// Short names for what types.h says.
const (
	present = uint32(bpf.WeftPresencePRESENT)
	cover   = uint32(bpf.WeftPresenceCOVER)
)

// held is what the active slots hold.
type held struct {
	as      uint32 // generation; 0: not known
	set     *table.Set
	devices map[table.PortID]bpf.Device
	rows    map[string]int // by map name
	encoder *bpf.Encoder   // holds set
}

func (d *Driver) maps() map[string]*ebpf.Map {
	m := &d.objs.WeftMaps
	return map[string]*ebpf.Map{
		bpf.WeftMapWeftDevices: m.WeftDevices, bpf.WeftMapWeftEndpoints: m.WeftEndpoints,
		bpf.WeftMapWeftSegments: m.WeftSegments, bpf.WeftMapWeftVrfs: m.WeftVrfs,
		bpf.WeftMapWeftRoutes: m.WeftRoutes, bpf.WeftMapWeftNexthops: m.WeftNexthops,
		bpf.WeftMapWeftNatIndex: m.WeftNatIndex, bpf.WeftMapWeftNat: m.WeftNat,
		bpf.WeftMapWeftIdentities: m.WeftIdentities, bpf.WeftMapWeftRules: m.WeftRules,
		bpf.WeftMapWeftClasses: m.WeftClasses, bpf.WeftMapWeftPairs: m.WeftPairs,
		bpf.WeftMapWeftVips: m.WeftVips, bpf.WeftMapWeftPools: m.WeftPools,
		bpf.WeftMapWeftSlots: m.WeftSlots, bpf.WeftMapWeftMembers: m.WeftMembers,
	}
}

// refresh reads which generation is current, and mends what an Apply, of
// whatever process, did not finish.
func (d *Driver) refresh() error {
	if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
		return err
	}
	if _, err := os.Stat(d.unfinished()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return d.mend()
}

// unfinished is a directory that exists while rows show more than one Set. It
// outlives the process that made it.
func (d *Driver) unfinished() string { return filepath.Join(d.dir, "unfinished") }

// difference returns what differs from the maps to a Set, and what they hold
// when that is written. Whatever else comes of it, d.held.encoder holds the Set
// then; see keep.
//
// Cost as that of Encoder.Update if this Driver applied last; else a pass over
// all rows of the kernel.
func (d *Driver) difference(set *table.Set, devices map[table.PortID]bpf.Device) ([]*bpf.Changes, held, error) {
	next := held{set: set, devices: devices, rows: map[string]int{}, encoder: d.held.encoder}
	known := d.held.as == d.config.Generation
	if !known {
		next.encoder = bpf.NewEncoder()
	}
	changes, err := next.encoder.Update(set, devices)
	if err != nil {
		return nil, held{}, err
	}
	for _, c := range changes {
		rows := d.held.rows[c.Map]
		if !known {
			if rows, err = d.compare(c); err != nil {
				return nil, held{}, err
			}
		}
		for i := range c.Len() {
			if _, old, new := c.Row(i); old == nil {
				rows++
			} else if new == nil {
				rows--
			}
		}
		next.rows[c.Map] = rows
	}
	return changes, next, nil
}

// compare makes changes from nothing those from what a map holds, and returns
// how many rows it has.
func (d *Driver) compare(c *bpf.Changes) (rows int, err error) {
	m := d.maps()[c.Map]
	err = scan(m, func(key, value []byte) {
		if now := d.slot(value); isRow(now) {
			c.Was(key, now)
			rows++
		}
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.Map, err)
	}
	c.Drop()
	return rows, nil
}

// slot returns the part of a row that programs read.
func (d *Driver) slot(value []byte) []byte {
	size := len(value) / 2
	return value[int(d.config.Generation&1)*size:][:size]
}

// keep has d.held.encoder hold what the maps do, after difference returned
// what was not written then.
func (d *Driver) keep() {
	if d.held.as != d.config.Generation {
		d.held = held{}
	} else if _, err := d.held.encoder.Update(d.held.set, d.held.devices); err != nil {
		d.held = held{}
	}
}

// swap writes changes and makes them current. On an error nothing has changed.
func (d *Driver) swap(changes []*bpf.Changes, timeouts [bpf.WeftTimeoutClassTIMEOUTS]uint32) error {
	next := d.config
	next.Generation++
	if next.Generation == 0 {
		next.Generation = 2
	}
	active, idle := d.config.Generation&1, next.Generation&1
	next.Timeout[idle] = timeouts
	differs := slices.ContainsFunc(changes, func(c *bpf.Changes) bool { return c.Len() > 0 })
	if !differs && d.config.Timeout[active] == timeouts {
		return nil
	}
	if err := os.Mkdir(d.unfinished(), 0o700); err != nil {
		return err
	}
	for i, c := range changes {
		if err := d.write(c); err != nil {
			return errors.Join(err, d.settle(changes[:i+1], before))
		}
	}
	// The kernel copies the row word by word: a program must not find the new
	// generation beside time-outs that are not there yet.
	d.config.Timeout[idle] = timeouts
	for _, c := range []*bpf.WeftConfig{&d.config, &next} {
		if err := d.objs.WeftConfig.Put(uint32(0), c); err != nil {
			return errors.Join(err, d.settle(changes, before))
		}
	}
	d.config = next
	d.rest = func() { // the new Set is current, whatever fails here; refresh mends it
		if d.wait() == nil {
			_ = d.settle(changes, after)
		}
	}
	return nil
}

// write shows the old Set in the active slot of rows and the new one in the
// other. Rows that go come after those that stay, shorter prefixes first, so
// that each finds in the map what the new Set has in its place.
func (d *Driver) write(c *bpf.Changes) error {
	if c.Len() == 0 {
		return nil
	}
	m := d.maps()[c.Map]
	w := newWriter(m, c.Len())
	active := d.config.Generation & 1
	put := func(i int) {
		key, old, new := c.Row(i)
		slots := [2][]byte{new, new}
		slots[active] = old
		w.put(key, slots, c.Alone(i))
	}
	var going []int
	for i := range c.Len() {
		if _, _, new := c.Row(i); new == nil {
			going = append(going, i)
			continue
		}
		put(i)
	}
	w.flush()
	if m.Type() == ebpf.LPMTrie {
		length := func(i int) int { key, _, _ := c.Row(i); return prefixLen(key) }
		slices.SortFunc(going, func(a, b int) int { return cmp.Compare(length(a), length(b)) })
		last := 0
		for _, i := range going {
			if length(i) != last {
				w.flush()
			}
			last = length(i)
			put(i)
		}
	} else {
		for _, i := range going {
			put(i)
		}
	}
	w.flush()
	if w.err != nil {
		return tooFull(m, c.Map, w.err)
	}
	return nil
}

// before and after choose what settle leaves of a change.
func before(c *bpf.Changes, i int) (key, value []byte) { key, value, _ = c.Row(i); return key, value }
func after(c *bpf.Changes, i int) (key, value []byte)  { key, _, value = c.Row(i); return key, value }

// settle writes one value to both slots of every row, or deletes the row. No
// row shows more than one Set then.
func (d *Driver) settle(changes []*bpf.Changes, value func(*bpf.Changes, int) (key, value []byte)) error {
	var errs []error
	for _, c := range changes {
		if c.Len() == 0 {
			continue
		}
		w := newWriter(d.maps()[c.Map], c.Len())
		for i := range c.Len() {
			if key, v := value(c, i); v != nil {
				w.put(key, [2][]byte{v, v}, true)
			} else {
				w.delete(key)
			}
		}
		w.flush()
		if w.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Map, w.err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := os.Remove(d.unfinished()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// mend reads all rows and settles those that an Apply which broke off left
// behind.
func (d *Driver) mend() error {
	var stale []*bpf.Changes
	for name, m := range d.maps() {
		c := &bpf.Changes{Map: name}
		err := scan(m, func(key, value []byte) {
			now, half := d.slot(value), len(value)/2
			if isRow(now) && bytes.Equal(value[:half], value[half:]) {
				return
			}
			if !isRow(now) {
				now = make([]byte, half)
			}
			c.Was(key, now)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		stale = append(stale, c)
	}
	return d.settle(stale, before)
}

// Check implements dataplane.Driver. Cost: that of encoding the whole Set, and
// a pass over all rows of the kernel.
func (d *Driver) Check(set *table.Set, b dataplane.Binding) error {
	changes, err := bpf.NewEncoder().Update(set, devices(b))
	if err != nil {
		return err
	}
	n := 0
	err = d.locked(func() error {
		if err := d.refresh(); err != nil {
			return err
		}
		for _, c := range changes {
			if _, err := d.compare(c); err != nil {
				return err
			}
			n += c.Len()
		}
		return nil
	})
	if err == nil && n > 0 {
		err = fmt.Errorf("data plane: tables: %d rows differ from the ones last applied (apply them again)", n)
	}
	return err
}
