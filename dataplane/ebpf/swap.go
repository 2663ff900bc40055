package ebpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// row is one change of one map: what the old and the new Set have under a key.
type row struct {
	m        *ebpf.Map
	name     string
	key      string
	old, new []byte // nil: that Set has no such row
}

func (d *Driver) maps() map[string]*ebpf.Map {
	m := &d.objs.WeftMaps
	return map[string]*ebpf.Map{
		bpf.WeftMapWeftDevices: m.WeftDevices, bpf.WeftMapWeftEndpoints: m.WeftEndpoints,
		bpf.WeftMapWeftSegments: m.WeftSegments, bpf.WeftMapWeftVrfs: m.WeftVrfs,
		bpf.WeftMapWeftRoutes: m.WeftRoutes, bpf.WeftMapWeftNexthops: m.WeftNexthops,
		bpf.WeftMapWeftNatIndex: m.WeftNatIndex, bpf.WeftMapWeftNat: m.WeftNat,
		bpf.WeftMapWeftIdentities: m.WeftIdentities, bpf.WeftMapWeftRules: m.WeftRules,
	}
}

// refresh reads what another Driver applied since, and mends what an Apply, of
// whatever process, did not finish.
func (d *Driver) refresh() error {
	if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
		return err
	}
	_, err := os.Stat(d.unfinished())
	if d.as == d.config.Generation && errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return d.tidyAll()
}

// unfinished is a directory that exists while rows show more than one Set. It
// outlives the process that made it.
func (d *Driver) unfinished() string { return filepath.Join(d.dir, "unfinished") }

// swap makes want current. On an error nothing has changed.
func (d *Driver) swap(want bpf.Tables, timeouts [bpf.WeftTimeoutClassTIMEOUTS]uint32) error {
	next := d.config
	next.Generation++
	if next.Generation == 0 {
		next.Generation = 2
	}
	active, idle := d.config.Generation&1, next.Generation&1
	next.Timeout[idle] = timeouts
	changes := d.changes(want)
	if len(changes) == 0 && d.config.Timeout[active] == timeouts {
		return nil
	}
	if err := os.Mkdir(d.unfinished(), 0o700); err != nil {
		return err
	}
	for i, c := range changes {
		if err := c.m.Put([]byte(c.key), d.slots(c, active, want)); err != nil {
			return errors.Join(d.tooFull(c, err), d.undo(changes[:i]))
		}
	}
	// The kernel copies the row word by word: a program must not find the new
	// generation beside time-outs that are not there yet.
	d.config.Timeout[idle] = timeouts
	for _, c := range []*bpf.WeftConfig{&d.config, &next} {
		if err := d.objs.WeftConfig.Put(uint32(0), c); err != nil {
			return errors.Join(err, d.undo(changes))
		}
	}
	d.config, d.current, d.as = next, want, next.Generation
	// want is current, whatever fails from here on; refresh mends it.
	if d.wait() == nil {
		_ = d.settle(changes, func(c row) []byte { return c.new })
	}
	return nil
}

func (d *Driver) changes(want bpf.Tables) (out []row) {
	maps := d.maps()
	for _, name := range bpf.TableMaps {
		for k, v := range want[name] {
			if old := d.current[name][k]; !bytes.Equal(old, v) {
				out = append(out, row{maps[name], name, k, old, v})
			}
		}
		for k, v := range d.current[name] {
			if _, ok := want[name][k]; !ok {
				out = append(out, row{maps[name], name, k, v, nil})
			}
		}
	}
	return out
}

// slots returns a row that shows the old Set in the active slot and the new
// one in the other.
func (d *Driver) slots(c row, active uint32, want bpf.Tables) []byte {
	old, new := c.old, c.new
	if old == nil {
		old = cover(c, d.current[c.name])
	}
	if new == nil {
		new = cover(c, want[c.name])
	}
	if active == 0 {
		return append(bytes.Clone(old), new...)
	}
	return append(bytes.Clone(new), old...)
}

// cover returns what a look-up of c's key finds in entries that lack it: in a
// trie the longest shorter prefix, marked as a copy; else nothing.
func cover(c row, entries bpf.Entries) []byte {
	if c.m.Type() == ebpf.LPMTrie {
		key := []byte(c.key)
		for n := int(binary.NativeEndian.Uint32(key)) - 1; n >= 0; n-- {
			shorten(key, n)
			if v, ok := entries[string(key)]; ok {
				v = bytes.Clone(v)
				binary.NativeEndian.PutUint32(v, uint32(bpf.WeftPresenceCOVER))
				return v
			}
		}
	}
	return make([]byte, c.m.ValueSize()/2)
}

// shorten makes key a prefix of n bits; it had n+1.
func shorten(key []byte, n int) {
	binary.NativeEndian.PutUint32(key, uint32(n))
	key[4+n/8] &^= bits.Reverse8(1 << (n % 8))
}

func (d *Driver) undo(changes []row) error {
	return d.settle(changes, func(c row) []byte { return c.old })
}

// settle writes one value to both slots of every row, or deletes the row. No
// row shows more than one Set then.
func (d *Driver) settle(changes []row, value func(row) []byte) error {
	var errs []error
	for _, c := range changes {
		var err error
		if v := value(c); v != nil {
			err = c.m.Put([]byte(c.key), append(bytes.Clone(v), v...))
		} else if err = c.m.Delete([]byte(c.key)); errors.Is(err, ebpf.ErrKeyNotExist) {
			err = nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
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

func (d *Driver) tooFull(c row, err error) error {
	return fmt.Errorf("%s: %w (at most %d rows)", c.name, err, c.m.MaxEntries())
}

// tidyAll reads the tables that are in force and mends rows that an Apply which
// broke off left behind.
func (d *Driver) tidyAll() error {
	d.current, d.as = bpf.Tables{}, 0
	active := d.config.Generation & 1
	var stale []row
	for name, m := range d.maps() {
		entries := bpf.Entries{}
		size := m.ValueSize() / 2
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		it := m.Iterate()
		for it.Next(&key, &value) {
			now, other := value[active*size:][:size], value[(1-active)*size:][:size]
			c := row{m: m, name: name, key: string(key)}
			if binary.NativeEndian.Uint32(now) == uint32(bpf.WeftPresencePRESENT) {
				c.new = bytes.Clone(now)
				entries[c.key] = c.new
			}
			if !bytes.Equal(now, other) || c.new == nil {
				stale = append(stale, c)
			}
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d.current[name] = entries
	}
	if err := d.settle(stale, func(c row) []byte { return c.new }); err != nil {
		return err
	}
	d.as = d.config.Generation
	return nil
}

// Read returns the tables that the kernel forwards by.
func (d *Driver) Read() (bpf.Tables, error) {
	err := d.locked(func() error {
		if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
			return err
		}
		return d.tidyAll()
	})
	return d.current, err
}

// Check implements dataplane.Driver.
func (d *Driver) Check(set *table.Set, b dataplane.Binding) error {
	want, err := bpf.Encode(set, devices(b))
	if err != nil {
		return err
	}
	if _, err := d.Read(); err != nil {
		return err
	}
	if n := len(d.changes(want)); n > 0 {
		return fmt.Errorf("data plane: tables: %d rows differ from the ones last applied (apply them again)", n)
	}
	return nil
}
