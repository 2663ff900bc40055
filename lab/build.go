package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
)

const mtu = 1500 // bytes, IP packet

// step is one piece of work on the kernel. Steps are done in order; what an
// interruption leaves between any two of them, Down can remove.
type step struct {
	what string // for progress, in -ing form
	do   func(context.Context) error
}

// run does steps until one fails or ctx ends.
func (s *System) run(ctx context.Context, steps []step) error {
	for _, st := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.progress("%s", st.what)
		if err := st.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", st.what, err)
		}
	}
	return nil
}

// buildSteps returns the steps of c that concern namespaces and links.
func buildSteps(c change) []step {
	var steps []step
	add := func(what string, do func() error) {
		steps = append(steps, step{what, func(context.Context) error { return do() }})
	}
	for _, l := range c.unlink {
		add("removing link "+l.A.Name, l.remove)
	}
	for _, m := range c.machines {
		add("creating "+m.Name, m.create)
	}
	for _, l := range c.links {
		add("linking "+l.A.Name, l.create)
	}
	for _, m := range c.reroute {
		add("routing "+m.Name, m.route)
	}
	return steps
}

// inside runs fn in the named namespace.
func inside(namespace string, fn func() error) error {
	n, err := netns.Open(namespace)
	if err != nil {
		return err
	}
	return errors.Join(n.Do(fn), n.Close())
}

// create makes m's namespace with its bridges; links and routes come later.
func (m Machine) create() error {
	n, err := netns.New(m.Namespace)
	if err != nil {
		return err
	}
	err = n.Do(func() error {
		if err := m.sysctls(); err != nil {
			return err
		}
		if err := bringUp("lo"); err != nil {
			return err
		}
		for _, b := range m.Bridges {
			if err := b.create(); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, n.Close())
}

// sysctls sets what devices that come later shall inherit. The physical
// router is the only machine that forwards by the kernel; in the host's
// namespace the data plane does.
func (m Machine) sysctls() error {
	forward := "0"
	if m.Kind == Physical {
		forward = "1"
	}
	settings := []struct{ key, value string }{
		{"ipv4/ip_forward", forward},
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/icmp_ratelimit", "0"}, // traceroute must not lose hops
	}
	if m.IPv6 {
		settings = append(settings, []struct{ key, value string }{
			{"ipv6/conf/all/forwarding", forward},
			{"ipv6/conf/default/accept_ra", "0"},
			{"ipv6/conf/default/accept_dad", "0"},
			{"ipv6/conf/default/addr_gen_mode", "1"}, // no link-local address by itself
		}...)
	} else {
		settings = append(settings, []struct{ key, value string }{
			{"ipv6/conf/all/disable_ipv6", "1"},
			{"ipv6/conf/default/disable_ipv6", "1"},
		}...)
	}
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.key), []byte(s.value), 0o644)
		if errors.Is(err, fs.ErrNotExist) && !m.IPv6 {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	return nil
}

// create makes the bridge in the current namespace.
func (b Bridge) create() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = b.Name, mtu
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	if err := addAddress(b.Name, b.Address); err != nil {
		return err
	}
	return bringUp(b.Name)
}

// create makes the veth pair and configures both ends. A device of A's name
// that an interrupted change left is replaced.
func (l Link) create() error {
	if err := l.remove(); err != nil {
		return err
	}
	peer, err := netns.Open(l.B.Namespace)
	if err != nil {
		return err
	}
	defer peer.Close()
	err = inside(l.A.Namespace, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = l.A.Name, mtu
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: l.B.Name, PeerMTU: mtu, PeerNamespace: netlink.NsFd(peer.Fd())}
		if attrs.HardwareAddr, err = l.A.mac(); err != nil {
			return err
		}
		if veth.PeerHardwareAddr, err = l.B.mac(); err != nil {
			return err
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth: %w", err)
		}
		return l.A.configure()
	})
	if err != nil {
		return err
	}
	return peer.Do(l.B.configure)
}

// remove deletes the pair; one that is not there is no error.
func (l Link) remove() error {
	return inside(l.A.Namespace, func() error {
		link, err := netlink.LinkByName(l.A.Name)
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if netns.NoDevice(err) {
			return nil
		}
		return err
	})
}

// mac parses e.MAC; nil if the kernel chooses.
func (e End) mac() (net.HardwareAddr, error) {
	if e.MAC == "" {
		return nil, nil
	}
	return net.ParseMAC(e.MAC)
}

// configure gives the device of e, in the current namespace, all but its MAC.
// What the data plane binds stays down until that is done: see raise.
func (e End) configure() error {
	link, err := netlink.LinkByName(e.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	if e.Alias != "" {
		if err := netlink.LinkSetAlias(link, alias(e.Alias)); err != nil {
			return fmt.Errorf("%s: alias: %w", e.Name, err)
		}
	}
	if e.Bridge != "" {
		bridge, err := netlink.LinkByName(e.Bridge)
		if err != nil {
			return fmt.Errorf("%s: bridge %s: %w", e.Name, e.Bridge, err)
		}
		if err := netlink.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("%s: bridge %s: %w", e.Name, e.Bridge, err)
		}
	}
	for _, a := range e.Addresses {
		if err := addAddress(e.Name, a); err != nil {
			return err
		}
	}
	if e.Object != "" {
		return nil
	}
	return bringUp(e.Name)
}

// raise brings up the ends that the data plane has bound. Until then nothing
// of a workload could reach the host's own stack.
func raise(links []Link) error {
	for _, l := range links {
		if l.A.Object == "" {
			continue
		}
		if err := inside(l.A.Namespace, func() error { return bringUp(l.A.Name) }); err != nil {
			return err
		}
	}
	return nil
}

// alias shortens text to what the kernel takes. Source: linux/if.h, IFALIASZ.
func alias(text string) string {
	const most = 255
	return text[:min(len(text), most)]
}

// route sets m's static routes.
func (m Machine) route() error {
	if len(m.Routes) == 0 {
		return nil
	}
	return inside(m.Namespace, func() error {
		for _, r := range m.Routes {
			if err := r.set(); err != nil {
				return fmt.Errorf("route %s: %w", r.To, err)
			}
		}
		return nil
	})
}

// set adds or replaces r in the current namespace.
func (r Route) set() error {
	route := &netlink.Route{Dst: ipNet(r.To)}
	if r.Via.IsValid() {
		route.Gw = r.Via.AsSlice()
	} else {
		link, err := netlink.LinkByName(r.Dev)
		if err != nil {
			return err
		}
		route.LinkIndex, route.Scope = link.Attrs().Index, netlink.SCOPE_LINK
	}
	return netlink.RouteReplace(route)
}

func addAddress(device string, address netip.Prefix) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	a := &netlink.Addr{IPNet: ipNet(address)}
	if address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("%s: address %s: %w", device, address, err)
	}
	return nil
}

func bringUp(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("%s: %w", device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: up: %w", device, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
