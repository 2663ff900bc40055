package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// recordTimeout is how long an injected packet may take to be recorded; it
// takes microseconds.
const recordTimeout = 2 * time.Second

// Tables returns the tables that a lab's host forwards by: those that it got
// last, held against the kernel's.
// Errors: the kernel's differ.
func (s *System) Tables(ctx context.Context, lab string) (*table.Set, error) {
	l, err := s.acquire(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer l.release()
	set, err := s.Set(lab)
	if err != nil {
		return nil, err
	}
	return set, s.bound(lab, set, func(d dataplane.Driver, b dataplane.Binding) error { return d.Check(set, b) })
}

// Places returns what the machines of a lab are to its tables, by name: the
// policy path of a workload's port, the address of a machine outside.
func (s *System) Places(lab string) (map[string]string, error) {
	state, err := s.Load(lab)
	if err != nil {
		return nil, err
	}
	places := map[string]string{}
	for _, m := range state.Plan.Machines {
		switch m.Kind {
		case Workload:
			places[m.Name] = m.Port
		case Outside:
			for _, e := range state.Plan.ends(m.Namespace) {
				if len(e.Addresses) > 0 {
					places[m.Name] = e.Addresses[0].Addr().String()
				}
			}
		}
	}
	return places, nil
}

// bound runs fn inside the host of a lab, with its data plane and devices.
func (s *System) bound(lab string, set *table.Set, fn func(dataplane.Driver, dataplane.Binding) error) error {
	state, err := s.Load(lab)
	if err != nil {
		return err
	}
	return s.withDriver(state.Plan, func(d dataplane.Driver) error {
		b, err := bind(state.Plan, set)
		if err != nil {
			return err
		}
		return fn(d, b)
	})
}

// Inject sends a frame as the machine behind a port or uplink would, and
// returns what the data plane did with it. The packet is real: it arrives
// where it is forwarded to.
func (s *System) Inject(ctx context.Context, lab string, port table.PortID, frame []byte) (r dataplane.Record, err error) {
	l, err := s.acquire(ctx, lab)
	if err != nil {
		return r, err
	}
	defer l.release()
	set, err := s.Set(lab)
	if err != nil {
		return r, err
	}
	state, err := s.Load(lab)
	if err != nil {
		return r, err
	}
	from, err := state.Plan.outer(objectPath(set, port))
	if err != nil {
		return r, err
	}
	err = s.bound(lab, set, func(d dataplane.Driver, b dataplane.Binding) (err error) {
		r, err = record(d, b[port], from, set.Uplinks[port] != nil, frame)
		return err
	})
	return r, err
}

func record(d dataplane.Driver, at dataplane.Link, from End, uplink bool, frame []byte) (r dataplane.Record, err error) {
	if uplink {
		copy(frame, at.MAC[:]) // the physical router sends to the device
	}
	var p packet.Packet
	p.Decode(frame) // what it can not read has no tuple, and is recorded as such
	rec, err := d.Record(at, p.Tuple())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, rec.Close()) }()
	if err := inside(from.Namespace, func() error { return sendFrame(from.Name, frame) }); err != nil {
		return r, err
	}
	if r, err = rec.Next(recordTimeout); err != nil {
		return r, fmt.Errorf("%s: the packet was not seen: %w", from.Name, err)
	}
	return r, nil
}

// sendFrame puts a frame on a device of the current namespace.
func sendFrame(device string, frame []byte) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index})
}

// outer returns the far end of the link whose near end the data plane binds to
// a port or uplink.
func (p *Plan) outer(object string) (End, error) {
	for _, l := range p.Links {
		switch object {
		case l.A.Object:
			return l.B, nil
		case l.B.Object:
			return l.A, nil
		}
	}
	return End{}, fmt.Errorf("%s: has no machine in this lab", object)
}

func objectPath(set *table.Set, id table.PortID) string {
	if p := set.Ports[id]; p != nil {
		return p.Path
	}
	if u := set.Uplinks[id]; u != nil {
		return u.Path
	}
	return ""
}
