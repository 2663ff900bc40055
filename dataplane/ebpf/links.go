package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// links are the programs of devices: a pin each, which is called by the number
// of its device and outlives the process. To look at a pin takes several system
// calls, so each is looked at once, and again if its device has gone. What that
// misses, because somebody else took a program off, review finds.
type links struct {
	dir    string
	gone   *departures           // nil: no pin was looked at yet
	known  map[int]*ebpf.Program // by device number, as it was looked at last
	doubts map[int]bool          // devices that have gone, whose pins may be there
	whole  bool                  // doubts are complete; else any pin may be there
	looks  int                   // at pins, ever
}

// reviewed is how many pins a Sweep looks at.
const reviewed = 64

func (l *links) pin(ifindex int) string { return filepath.Join(l.dir, strconv.Itoa(ifindex)) }

// doubt forgets what is known.
func (l *links) doubt() {
	clear(l.known)
	l.whole = false
}

// catchUp brings what is known up to date with the devices of the current
// namespace.
func (l *links) catchUp() (err error) {
	if l.gone == nil {
		l.known, l.doubts = map[int]*ebpf.Program{}, map[int]bool{}
		l.gone, err = listen()
		return err
	}
	gone, whole, err := l.gone.since()
	if err != nil {
		return err
	}
	for _, ifindex := range gone {
		delete(l.known, ifindex)
		l.doubts[ifindex] = true
	}
	if !whole {
		l.doubt()
	}
	return nil
}

// attach puts the programs on all devices that do not have them yet and that
// are there, and removes the pins of those that are not. Until the tables name a
// device, its packets are dropped; so they are if it is bound to nothing that the
// Set has. A device keeps its program when the Set is refused: without it, its
// packets would reach the host's own stack.
//
// Cost O(devices that are new or gone), and a pass over b.
func (d *Driver) attach(set *table.Set, b dataplane.Binding) error {
	if d.held.as != d.config.Generation {
		d.links.doubt() // another Driver may have changed them
	}
	if err := d.links.catchUp(); err != nil {
		return err
	}
	err := d.attachWhere(set, b, func(had, want *ebpf.Program) bool { return had != want })
	d.links.tidy()
	return err
}

// attachNew is attach for devices that nothing is known of, while the rest of
// the last Apply may be under way.
func (d *Driver) attachNew(set *table.Set, b dataplane.Binding) error {
	if len(d.links.known) == 0 {
		return nil // all may be known to others
	}
	if err := d.hold(); err != nil {
		return err
	}
	defer d.release() // not kept until the rest is over: another Driver may wait for it
	if err := d.links.catchUp(); err != nil {
		return err
	}
	return d.attachWhere(set, b, func(had, _ *ebpf.Program) bool { return had == nil })
}

func (d *Driver) attachWhere(set *table.Set, b dataplane.Binding, which func(had, want *ebpf.Program) bool) error {
	var errs []error
	for id, l := range b {
		program := d.objs.WeftPort
		if set.Uplinks.Get(id) != nil {
			program = d.objs.WeftUplink
		}
		if !which(d.links.known[l.IfIndex], program) {
			continue
		}
		if err := d.attachTo(l.IfIndex, program); err != nil {
			errs = append(errs, fmt.Errorf("attach to device %d: %w", l.IfIndex, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) attachTo(ifindex int, program *ebpf.Program) error {
	delete(d.links.known, ifindex)
	if !d.links.has(ifindex, program) {
		if program == d.objs.WeftPort {
			if err := guard(ifindex); err != nil {
				return err
			}
		}
		at, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: program, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		if err := errors.Join(at.Pin(d.links.pin(ifindex)), at.Close()); err != nil {
			return err
		}
	}
	d.links.known[ifindex] = program
	return nil
}

// has reports whether the pin of a device holds a link to it, which it makes one
// to program; a pin whose device is gone is removed.
func (l *links) has(ifindex int, program *ebpf.Program) bool {
	pinned, err := l.load(ifindex)
	if err != nil {
		return false
	}
	defer pinned.Close()
	info, err := pinned.Info()
	if err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == ifindex && (runs(info, program) || pinned.Update(program) == nil) {
		return true
	}
	os.Remove(l.pin(ifindex))
	return false
}

// runs says whether a link is one to program.
func runs(info *link.Info, program *ebpf.Program) bool {
	p, err := program.Info()
	if err != nil {
		return false
	}
	id, ok := p.ID()
	return ok && info.Program == id
}

func (l *links) load(ifindex int) (link.Link, error) {
	l.looks++
	return link.LoadPinnedLink(l.pin(ifindex), nil)
}

// tidy removes the pins of devices that are gone. A device that is only not
// bound any more keeps its program, which drops its packets: without it, they
// would reach the host's own stack. What can not be removed now is the next
// tidy's.
func (l *links) tidy() {
	if !l.whole {
		entries, err := os.ReadDir(l.dir)
		if err != nil {
			return
		}
		for _, e := range entries {
			if ifindex, err := strconv.Atoi(e.Name()); err == nil && l.known[ifindex] == nil {
				l.doubts[ifindex] = true
			}
		}
		l.whole = true
	}
	for ifindex := range l.doubts {
		if l.forget(ifindex) {
			delete(l.doubts, ifindex)
		}
	}
}

// forget removes the pin of a device if that is gone, and says whether there is
// nothing left to do.
func (l *links) forget(ifindex int) (done bool) {
	pinned, err := l.load(ifindex)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer pinned.Close()
	info, err := pinned.Info()
	if err != nil || info.TCX() == nil {
		return false
	}
	return info.TCX().Ifindex != 0 || os.Remove(l.pin(ifindex)) == nil
}

// review looks at some pins again, and at those of devices that are gone. What
// is not as it was is put right by the next Apply.
func (l *links) review() error {
	if l.gone == nil {
		return nil // nothing was applied yet
	}
	if err := l.catchUp(); err != nil {
		return err
	}
	n := 0
	for ifindex, program := range l.known {
		if n++; n > reviewed {
			break
		}
		if !l.has(ifindex, program) {
			delete(l.known, ifindex)
		}
	}
	l.tidy()
	return nil
}

func (l *links) close() error {
	if l.gone == nil {
		return nil
	}
	return l.gone.close()
}
