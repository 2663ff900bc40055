package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// withDriver opens the data plane of plan's host inside its namespace, where
// fn runs too.
func (s *System) withDriver(plan *Plan, fn func(dataplane.Driver) error) error {
	host := plan.host()
	return inside(host.Namespace, func() error {
		d, err := s.Open(filepath.Join(s.PinDir, plan.Lab, host.Name))
		if err != nil {
			return err
		}
		return errors.Join(fn(d), d.Close())
	})
}

// program makes the data plane of plan's host equal to set.
func (s *System) program(ctx context.Context, plan *Plan, set *table.Set) error {
	return s.withDriver(plan, func(d dataplane.Driver) error {
		b, err := bind(plan, set)
		if err != nil {
			return err
		}
		return d.Apply(ctx, set, b)
	})
}

// bind looks up the devices of plan in the current namespace, the host's.
func bind(plan *Plan, set *table.Set) (dataplane.Binding, error) {
	ids := make(map[string]table.PortID, len(set.Ports)+len(set.Uplinks))
	for id, p := range set.Ports {
		ids[p.Path] = id
	}
	for id, u := range set.Uplinks {
		ids[u.Path] = id
	}
	b := dataplane.Binding{}
	for _, end := range plan.ends(plan.host().Namespace) {
		id, ok := ids[end.Object]
		if !ok {
			return nil, fmt.Errorf("%s: %s: is not in the tables", end.Name, end.Object)
		}
		link, err := netlink.LinkByName(end.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", end.Name, err)
		}
		d := dataplane.Link{IfIndex: link.Attrs().Index}
		if copy(d.MAC[:], link.Attrs().HardwareAddr) != len(d.MAC) {
			return nil, fmt.Errorf("%s: %s: is not an Ethernet address", end.Name, net.HardwareAddr(link.Attrs().HardwareAddr))
		}
		b[id] = d
	}
	return b, nil
}

// unpin removes what the data plane of a lab keeps alive in the kernel: a
// pinned object lives as long as its name.
func (s *System) unpin(lab string) error {
	if err := os.RemoveAll(filepath.Join(s.PinDir, lab)); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	err := os.Remove(s.PinDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}

// bpfFS is where the kernel's BPF file system is mounted by convention.
const bpfFS = "/sys/fs/bpf"

// MountBPF mounts the BPF file system on /sys/fs/bpf if it is not.
func MountBPF() error {
	var st unix.Statfs_t
	if err := unix.Statfs(bpfFS, &st); err != nil {
		return fmt.Errorf("%s: %w", bpfFS, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", bpfFS, "bpf", 0, "mode=700"); err != nil {
		return fmt.Errorf("%s: mount: %w", bpfFS, err)
	}
	return nil
}
