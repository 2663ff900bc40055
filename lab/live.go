package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// recordTimeout is how long an injected packet may take to be recorded; it
// takes microseconds.
const recordTimeout = 2 * time.Second

// Tables returns the tables that a lab's host forwards by, with the health of
// load balancer members: those that its agent has in force, held against the
// kernel's.
// Errors: the kernel's differ; the agent is gone.
func (s *System) Tables(ctx context.Context, lab string) (*table.Set, error) {
	l, err := s.acquire(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer l.release()
	var set *table.Set
	for range 3 { // a member may go up or down between two looks
		err = s.bound(ctx, lab, func(d dataplane.Driver, now *table.Set, b dataplane.Binding) error {
			set = now
			return d.Check(now, b)
		})
		if err == nil {
			return set, nil
		}
	}
	return nil, err
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

// bound runs fn inside the host of a lab, with its data plane, what is in force
// there, and its devices.
func (s *System) bound(ctx context.Context, lab string, fn func(dataplane.Driver, *table.Set, dataplane.Binding) error) error {
	state, err := s.Load(lab)
	if err != nil {
		return err
	}
	now, err := s.inForce(ctx, state.Plan)
	if err != nil {
		return err
	}
	return s.withDriver(state.Plan, func(d dataplane.Driver) error {
		links, err := agent.Links()
		if err != nil {
			return err
		}
		b, _, err := agent.Bind(now.Set, now.Devices, links)
		if err != nil {
			return err
		}
		return fn(d, now.Set, b)
	})
}

// inForce asks the agent of plan's host what it goes by.
// Errors: it is gone.
func (s *System) inForce(ctx context.Context, plan *Plan) (*agent.InForce, error) {
	now, err := s.client(plan).InForce(ctx)
	if errors.Is(err, agent.ErrGone) {
		return nil, fmt.Errorf("lab %s: %w (use 'weft lab up' or 'weft lab apply' again)", plan.Lab, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", plan.Lab, err)
	}
	return now, nil
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
	state, err := s.Load(lab)
	if err != nil {
		return r, err
	}
	err = s.bound(ctx, lab, func(d dataplane.Driver, set *table.Set, b dataplane.Binding) error {
		from, err := s.outer(ctx, state.Plan, objectPath(set, port))
		if err != nil {
			return err
		}
		r, err = record(d, b[port], from, set.Uplinks.Get(port) != nil, frame)
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

// outer returns the far end of what the data plane binds to a port or uplink: of
// a link of the plan, or of a pod's attachment.
func (s *System) outer(ctx context.Context, plan *Plan, object string) (End, error) {
	for _, l := range plan.Links {
		switch object {
		case l.A.Object:
			return l.B, nil
		case l.B.Object:
			return l.A, nil
		}
	}
	attached, _, err := s.client(plan).Attachments(ctx)
	if err != nil {
		return End{}, err
	}
	for _, a := range attached {
		if a.Port == object {
			return End{Namespace: filepath.Base(a.NetNS), Name: a.Interface}, nil
		}
	}
	return End{}, fmt.Errorf("%s: has no machine in this lab", object)
}

func objectPath(set *table.Set, id table.PortID) string {
	if p := set.Ports.Get(id); p != nil {
		return p.Path
	}
	if u := set.Uplinks.Get(id); u != nil {
		return u.Path
	}
	return ""
}
