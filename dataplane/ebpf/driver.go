package ebpf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// Driver is the kernel's data plane of one node. Its methods must be called in
// the network namespace that holds the node's devices, one at a time.
type Driver struct {
	dir     string   // where programs, maps and links are pinned
	lock    *os.File // dir; whoever changes what is pinned there holds its lock
	mu      sync.Mutex
	holds   int // of lock, by this Driver; guarded by mu
	objs    bpf.WeftObjects
	grace   *ebpf.Map // writing to it waits until no program reads old slots
	links   links
	held    held
	config  bpf.WeftConfig
	counted counted
	// evicted is the highest number of flow entries that Status has found to
	// have given way: it can only be told from counts taken one after another.
	evicted uint64
	rest    func()        // of the Apply that is under way: what is left when it returns
	done    chan struct{} // closed when the rest of the last Apply is done; nil: there was none
}

var _ dataplane.Driver = (*Driver)(nil)

// logRate is how many lines about logged rules each CPU may write a second.
const logRate = 1000

// programs are pinned under their names.
func programs(o *bpf.WeftPrograms) map[string]**ebpf.Program {
	return map[string]**ebpf.Program{
		bpf.WeftProgWeftPort:      &o.WeftPort,
		bpf.WeftProgWeftUplink:    &o.WeftUplink,
		bpf.WeftProgWeftSlow:      &o.WeftSlow,
		bpf.WeftProgWeftFollowers: &o.WeftFollowers,
		bpf.WeftProgWeftSweep:     &o.WeftSweep,
	}
}

// Open takes over the data plane pinned below pinDir, or loads one there. The
// directory must be on a bpf file system; it is made if it is missing.
//
// Errors: another version's data plane is pinned there; the kernel refuses
// (then the verifier's last lines are in the text).
func Open(pinDir string) (*Driver, error) { return open(pinDir, nil) }

// sizes are the numbers of rows that maps take, by map name, where they differ
// from those in package bpf.
type sizes map[string]uint32

func open(pinDir string, s sizes) (*Driver, error) {
	dir := filepath.Join(pinDir, version())
	d := &Driver{dir: dir, links: links{dir: filepath.Join(dir, "links")}}
	if err := onlyVersion(pinDir, version()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.links.dir, 0o700); err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	lock, err := os.Open(d.dir)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	d.lock = lock
	err = d.locked(func() error {
		if err := d.load(s); err != nil {
			return err
		}
		return d.init()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data plane: %w", err), d.Close())
	}
	return d, nil
}

// locked runs fn while no other Driver of this data plane, in whatever
// process, changes it, and the rest of the last Apply of this one is done.
func (d *Driver) locked(fn func() error) error {
	d.finish()
	if err := d.hold(); err != nil {
		return err
	}
	err := fn()
	if d.rest == nil {
		d.release()
		return err
	}
	rest, done := d.rest, make(chan struct{})
	d.rest, d.done = nil, done
	go func() {
		defer close(done)
		defer d.release()
		rest()
	}()
	return err
}

// hold takes the lock for one more user within this Driver, and release gives
// it back. The kernel unlocks for a process that dies.
func (d *Driver) hold() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.holds == 0 {
		err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", d.dir, err)
		}
	}
	d.holds++
	return nil
}

func (d *Driver) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holds--; d.holds == 0 {
		unix.Flock(int(d.lock.Fd()), unix.LOCK_UN)
	}
}

// finish waits for the rest of the last Apply.
func (d *Driver) finish() {
	if d.done != nil {
		<-d.done
		d.done = nil
	}
}

// configure changes the configuration that the programs read, generation and
// all, as it is now: another Driver may have written it since.
func (d *Driver) configure(change func(*bpf.WeftConfig)) error {
	return d.locked(func() error {
		if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
			return err
		}
		change(&d.config)
		return d.objs.WeftConfig.Put(uint32(0), &d.config)
	})
}

// version names the programs and the layout of their maps.
func version() string {
	sum := sha256.Sum256(bpf.Object())
	return hex.EncodeToString(sum[:6])
}

func onlyVersion(pinDir, want string) error {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != want {
			return fmt.Errorf("%s: another version's data plane %s is loaded (this one is %s): take it down first", pinDir, e.Name(), want)
		}
	}
	return err
}

// load opens the pinned programs, or loads and pins them. Maps are pinned by
// name and shared either way.
func (d *Driver) load(s sizes) error {
	spec, err := bpf.LoadWeft()
	if err != nil {
		return err
	}
	for name, rows := range s {
		spec.Maps[name].MaxEntries = rows
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.dir}}
	if d.pinned() {
		return d.reopen(spec, opts)
	}
	if err := spec.LoadAndAssign(&d.objs, opts); err != nil {
		return err
	}
	for call, p := range map[bpf.WeftCall]*ebpf.Program{bpf.WeftCallCALL_SLOW: d.objs.WeftSlow, bpf.WeftCallCALL_FOLLOWERS: d.objs.WeftFollowers} {
		if err := d.objs.WeftCalls.Put(uint32(call), p); err != nil {
			return err
		}
	}
	for name, p := range programs(&d.objs.WeftPrograms) {
		pin := filepath.Join(d.dir, name)
		// An Open that broke off may have pinned some of them.
		if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := (*p).Pin(pin); err != nil {
			return err
		}
	}
	return d.takeOver()
}

// takeOver gives devices the programs that were just loaded. Links may have
// outlived the programs and maps that they were made with, if a Remove broke
// off: their devices would go on by tables that nobody changes any more. An
// uplink gets its own program with the next Apply.
func (d *Driver) takeOver() error {
	entries, err := os.ReadDir(d.links.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		pin := filepath.Join(d.links.dir, e.Name())
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", pin, err)
		}
		err = l.Update(d.objs.WeftPort)
		l.Close()
		if err != nil && !errors.Is(err, unix.ENOLINK) { // the device is gone
			return fmt.Errorf("%s: %w", pin, err)
		}
	}
	return nil
}

func (d *Driver) pinned() bool {
	for name := range programs(&d.objs.WeftPrograms) {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err != nil {
			return false
		}
	}
	return true
}

func (d *Driver) reopen(spec *ebpf.CollectionSpec, opts *ebpf.CollectionOptions) (err error) {
	if err := spec.LoadAndAssign(&d.objs.WeftMaps, opts); err != nil {
		return err
	}
	for name, p := range programs(&d.objs.WeftPrograms) {
		if *p, err = ebpf.LoadPinnedProgram(filepath.Join(d.dir, name), nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) init() error {
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	grace, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		return err
	}
	d.grace = grace
	if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
		return err
	}
	killed := d.config.Trace == uint32(bpf.WeftTraceModeTRACE_ONE) // the recorder that would have ended it
	if d.config.Generation == 0 || killed {
		// Reply entries begin with generation 0, which must never be current.
		d.config.Generation = max(d.config.Generation, 1)
		d.config.LogRate = logRate
		d.config.Trace = uint32(bpf.WeftTraceModeTRACE_OFF)
		if err := d.objs.WeftConfig.Put(uint32(0), &d.config); err != nil {
			return err
		}
	}
	return d.refresh()
}

// wait returns when no program that began before still runs: the kernel waits
// for them after a write to a map of maps (kernel/bpf/syscall.c,
// maybe_wait_bpf_programs).
func (d *Driver) wait() error {
	inner, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return err
	}
	defer inner.Close()
	return d.grace.Put(uint32(0), inner)
}

// Apply implements dataplane.Driver. It returns when the Set is in force; rows
// that show the old Set too are settled meanwhile, for which the next change
// waits. Devices that are new get their programs before that: it takes the
// kernel a grace period each.
func (d *Driver) Apply(ctx context.Context, set *table.Set, b dataplane.Binding) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.attachNew(set, b); err != nil {
		return err
	}
	return d.locked(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return d.apply(set, b)
	})
}

func (d *Driver) apply(set *table.Set, b dataplane.Binding) error {
	if err := d.refresh(); err != nil {
		return err
	}
	changes, next, err := d.difference(set, devices(b))
	if err != nil {
		return err
	}
	err = d.attach(set, b)
	if err == nil {
		err = d.swap(changes, bpf.Timeouts(set.Timeouts))
	}
	if err != nil {
		d.keep()
		return err
	}
	next.as = d.config.Generation
	d.held = next
	return nil
}

func devices(b dataplane.Binding) map[table.PortID]bpf.Device {
	out := make(map[table.PortID]bpf.Device, len(b))
	for id, l := range b {
		out[id] = bpf.Device{IfIndex: uint32(l.IfIndex), MAC: l.MAC}
	}
	return out
}

// Close implements dataplane.Driver.
func (d *Driver) Close() error {
	d.finish()
	if d.grace != nil {
		d.grace.Close()
	}
	return errors.Join(d.objs.Close(), d.links.close(), d.lock.Close())
}

// Remove detaches the programs and removes every pin; the kernel frees the
// rest when the Driver is closed.
func (d *Driver) Remove() error {
	d.finish()
	return os.RemoveAll(d.dir)
}

// RemovePinned removes whatever data plane is pinned below pinDir, of any
// version, without loading anything.
func RemovePinned(pinDir string) error { return os.RemoveAll(pinDir) }
