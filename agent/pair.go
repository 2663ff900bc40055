package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/table"
)

// pairs is what attachments need of the kernel: a veth pair each.
type pairs interface {
	// Reach says why q's namespace can not have a pair.
	Reach(q *Attachment) error
	// Make makes w's pair, its outer end down, if it is not there, and
	// configures the inner end, where was is no longer wanted; nil: nothing
	// was. It changes nothing the second time.
	Make(w, was *Attached) (dataplane.Link, error)
	// Raise brings up the outer end.
	Raise(device string) error
	// Remove deletes the pair; one that is not there is no error.
	Remove(device string) error
	// Differences says in which points the pair is not as w.
	Differences(w *Attached) ([]string, error)
	// List returns the outer ends that are there, and whether each is up.
	List() (map[string]bool, error)
}

// veths are pairs of the kernel, between the current namespace and those of
// pods.
type veths struct{}

// openNetNS opens a pod's namespace.
func openNetNS(q *Attachment) (*netns.Namespace, error) {
	n, err := netns.OpenPath(q.NetNS)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(NoNamespace, "%s: netns %s: does not exist", q, q.NetNS)
	}
	if errors.Is(err, netns.ErrNoNamespace) {
		return nil, refuse(NoNamespace, "%s: netns %s: is no network namespace", q, q.NetNS)
	}
	if err != nil {
		return nil, err
	}
	id, err := n.ID()
	if own, ok := netns.OfProcess(os.Getpid()); err == nil && ok && id == own {
		err = refuse(NoNamespace, "%s: netns %s: is that of the agent (a pod has one of its own)", q, q.NetNS)
	}
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (veths) Reach(q *Attachment) error {
	pod, err := openNetNS(q)
	if err != nil {
		return err
	}
	return pod.Close()
}

func (veths) Make(w, was *Attached) (dataplane.Link, error) {
	pod, err := openNetNS(&w.Attachment)
	if err != nil {
		return dataplane.Link{}, err
	}
	defer pod.Close()
	outer, err := linkOf(w.Device)
	if err == nil && outer != nil && pod.Do(func() error { _, err := innerOf(w, outer); return err }) != nil {
		err = veths{}.Remove(w.Device) // one into another namespace
		outer = nil
	}
	if err != nil {
		return dataplane.Link{}, err
	}
	if outer == nil {
		if outer, err = makePair(w, pod); err != nil {
			return dataplane.Link{}, err
		}
	}
	if outer.Attrs().MTU != w.NIC.MTU {
		if err := netlink.LinkSetMTU(outer, w.NIC.MTU); err != nil {
			return dataplane.Link{}, fmt.Errorf("%s: mtu %d: %w", w.Device, w.NIC.MTU, err)
		}
	}
	err = pod.Do(func() error {
		inner, err := innerOf(w, outer)
		if err != nil {
			return err
		}
		return configure(inner, w, was)
	})
	link := dataplane.Link{IfIndex: outer.Attrs().Index}
	copy(link.MAC[:], outer.Attrs().HardwareAddr)
	return link, err
}

// makePair makes the pair of w, both ends down.
func makePair(w *Attached, pod *netns.Namespace) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = w.Device, w.NIC.MTU
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: w.Interface, PeerMTU: uint32(w.NIC.MTU), PeerHardwareAddr: w.NIC.MAC[:], PeerNamespace: netlink.NsFd(pod.Fd()),
	})
	if errors.Is(err, fs.ErrExist) {
		return nil, refuse(InterfaceTaken, "%s: netns %s: interface %s: exists already", &w.Attachment, w.NetNS, w.Interface)
	}
	if err != nil {
		return nil, fmt.Errorf("veth %s: %w", w.Device, err)
	}
	outer, err := netlink.LinkByName(w.Device)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.Device, err)
	}
	if err := netlink.LinkSetAlias(outer, alias(w)); err != nil {
		return nil, fmt.Errorf("%s: alias: %w", w.Device, err)
	}
	return outer, nil
}

// alias is what people see at the outer end. Source: linux/if.h, IFALIASZ.
func alias(w *Attached) string {
	const most = 255
	text := w.Attachment.String() + " " + w.AttachmentKey.String()
	return text[:min(len(text), most)]
}

// linkOf returns a device of the current namespace; nil if there is none.
func linkOf(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// innerOf returns the inner end of w in the current namespace, the other end of
// outer.
func innerOf(w *Attached, outer netlink.Link) (netlink.Link, error) {
	l, err := linkOf(w.Interface)
	if err == nil && l == nil {
		err = fmt.Errorf("interface %s: does not exist", w.Interface)
	}
	if err != nil {
		return nil, err
	}
	if l.Type() != "veth" || l.Attrs().ParentIndex != outer.Attrs().Index || outer.Attrs().ParentIndex != l.Attrs().Index {
		return nil, fmt.Errorf("interface %s: is not the other end of %s", w.Interface, w.Device)
	}
	return l, nil
}

// configure makes the inner end, in the current namespace, as w says. Nothing
// is sent before the MAC address is right and IPv6 says nothing by itself.
func configure(inner netlink.Link, w, was *Attached) error {
	attrs := inner.Attrs()
	if attrs.Alias != w.Device {
		if err := netlink.LinkSetAlias(inner, w.Device); err != nil {
			return fmt.Errorf("interface %s: alias: %w", w.Interface, err)
		}
	}
	if string(attrs.HardwareAddr) != string(w.NIC.MAC[:]) {
		if err := netlink.LinkSetHardwareAddr(inner, w.NIC.MAC[:]); err != nil {
			return fmt.Errorf("interface %s: mac address %s: %w", w.Interface, w.NIC.MAC, err)
		}
	}
	if attrs.MTU != w.NIC.MTU {
		if err := netlink.LinkSetMTU(inner, w.NIC.MTU); err != nil {
			return fmt.Errorf("interface %s: mtu %d: %w", w.Interface, w.NIC.MTU, err)
		}
	}
	if err := quiet(w.Interface, w.NIC.has6()); err != nil {
		return fmt.Errorf("interface %s: %w", w.Interface, err)
	}
	if err := setAddresses(inner, w, was); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(inner); err != nil {
		return fmt.Errorf("interface %s: up: %w", w.Interface, err)
	}
	return setRoutes(inner, w, was)
}

// quiet keeps an interface of the current namespace from speaking IPv6 with
// addresses that its port does not have. What is right already is not written.
// Source: Documentation/networking/ip-sysctl.rst.
func quiet(device string, v6 bool) error {
	settings := []struct{ key, value string }{{"disable_ipv6", "1"}}
	if v6 {
		settings = []struct{ key, value string }{{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}}
	}
	for _, s := range settings {
		path := filepath.Join("/proc/sys/net/ipv6/conf", device, s.key)
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && !v6 {
			return nil // a kernel without IPv6
		}
		if err == nil && strings.TrimSpace(string(now)) != s.value {
			err = os.WriteFile(path, []byte(s.value), 0o644)
		}
		if err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	return nil
}

// setAddresses removes those of was that w does not have; others, which somebody
// else gave the interface, stay. Old ones go first: the kernel takes away what
// came to a subnet later together with the address that came first.
func setAddresses(inner netlink.Link, w, was *Attached) error {
	for _, a := range was.obsolete(w) {
		err := netlink.AddrDel(inner, &netlink.Addr{IPNet: ipNet(a.Address)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("interface %s: address %s: %w", w.Interface, a.Address, err)
		}
	}
	for _, a := range w.NIC.Addresses {
		address := &netlink.Addr{IPNet: ipNet(a.Address)}
		if a.Address.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(inner, address); err != nil {
			return fmt.Errorf("interface %s: address %s: %w", w.Interface, a.Address, err)
		}
	}
	return nil
}

// obsolete returns the addresses of was that w does not have.
func (was *Attached) obsolete(w *Attached) []NICAddress {
	if was == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(was.NIC.Addresses), func(a NICAddress) bool {
		return slices.ContainsFunc(w.NIC.Addresses, func(b NICAddress) bool { return b.Address == a.Address })
	})
}

func setRoutes(inner netlink.Link, w, was *Attached) error {
	routes := w.NIC.Routes()
	for _, r := range routes {
		if err := netlink.RouteReplace(r.route(inner)); err != nil {
			return fmt.Errorf("interface %s: route %s: %w", w.Interface, r, err)
		}
	}
	if was == nil {
		return nil
	}
	for _, r := range was.NIC.Routes() {
		if slices.ContainsFunc(routes, func(o NICRoute) bool { return o.To == r.To }) {
			continue
		}
		if err := netlink.RouteDel(r.route(inner)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("interface %s: route %s: %w", w.Interface, r, err)
		}
	}
	return nil
}

func (r NICRoute) String() string {
	if !r.Via.IsValid() {
		return r.To.String()
	}
	return r.To.String() + " via " + r.Via.String()
}

func (r NICRoute) route(inner netlink.Link) *netlink.Route {
	route := &netlink.Route{LinkIndex: inner.Attrs().Index, Dst: ipNet(r.To), Scope: netlink.SCOPE_LINK}
	if r.Via.IsValid() {
		route.Gw, route.Scope = r.Via.AsSlice(), netlink.SCOPE_UNIVERSE
	}
	return route
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (veths) Raise(device string) error {
	l, err := netlink.LinkByName(device)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("%s: up: %w", device, err)
	}
	return nil
}

func (veths) Remove(device string) error {
	l, err := linkOf(device)
	if err != nil || l == nil {
		return err
	}
	if err := netlink.LinkDel(l); err != nil && !netns.NoDevice(err) {
		return fmt.Errorf("%s: %w", device, err)
	}
	return nil
}

func (veths) List() (map[string]bool, error) {
	links, err := listLinks()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, l := range links {
		if name := l.Attrs().Name; l.Type() == "veth" && deviceName.MatchString(name) {
			out[name] = l.Attrs().Flags&net.FlagUp != 0
		}
	}
	return out, nil
}

// listLinks returns the devices of the current namespace. What the kernel tells
// while devices come and go may lack some: then it is asked again.
func listLinks() ([]netlink.Link, error) {
	for tries := 20; ; tries-- {
		links, err := netlink.LinkList()
		if err == nil {
			return links, nil
		}
		if tries == 1 || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("devices: %w", err)
		}
	}
}

func (veths) Differences(w *Attached) ([]string, error) {
	outer, err := linkOf(w.Device)
	if err != nil {
		return nil, err
	}
	if outer == nil {
		return []string{"device " + w.Device + ": does not exist"}, nil
	}
	var out []string
	if outer.Attrs().Flags&net.FlagUp == 0 {
		out = append(out, "device "+w.Device+": is down")
	}
	pod, err := openNetNS(&w.Attachment)
	if err != nil {
		return append(out, err.Error()), nil
	}
	defer pod.Close()
	err = pod.Do(func() error {
		inner, err := innerOf(w, outer)
		if err != nil {
			out = append(out, err.Error())
			return nil
		}
		found, err := differences(inner, w)
		out = append(out, found...)
		return err
	})
	return out, err
}

// differences says in which points inner, in the current namespace, is not as w.
func differences(inner netlink.Link, w *Attached) (out []string, err error) {
	differs := func(field string, is, want any) {
		out = append(out, fmt.Sprintf("interface %s: %s: is %v (%v)", w.Interface, field, is, want))
	}
	attrs := inner.Attrs()
	var mac table.MAC
	copy(mac[:], attrs.HardwareAddr)
	if mac != w.NIC.MAC {
		differs("mac address", mac, w.NIC.MAC)
	}
	if attrs.MTU != w.NIC.MTU {
		differs("mtu", attrs.MTU, w.NIC.MTU)
	}
	if attrs.Flags&net.FlagUp == 0 {
		differs("state", "down", "up")
	}
	addresses, err := netlink.AddrList(inner, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("interface %s: addresses: %w", w.Interface, err)
	}
	for _, a := range w.NIC.Addresses {
		if !slices.ContainsFunc(addresses, func(b netlink.Addr) bool { return b.IPNet.String() == a.Address.String() }) {
			differs("address "+a.Address.String(), "missing", "there")
		}
	}
	routes, err := netlink.RouteList(inner, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("interface %s: routes: %w", w.Interface, err)
	}
	for _, r := range w.NIC.Routes() {
		if !slices.ContainsFunc(routes, func(o netlink.Route) bool { return r.is(&o) }) {
			differs("route "+r.String(), "missing", "there")
		}
	}
	return out, nil
}

// is says whether o is r; the kernel may tell a default route without its
// destination.
func (r NICRoute) is(o *netlink.Route) bool {
	to := r.To
	if o.Dst != nil {
		addr, _ := netip.AddrFromSlice(o.Dst.IP)
		bits, _ := o.Dst.Mask.Size()
		to = netip.PrefixFrom(addr.Unmap(), bits)
	} else if o.Family == netlink.FAMILY_V6 != r.To.Addr().Is6() {
		return false
	}
	via, _ := netip.AddrFromSlice(o.Gw)
	return to == r.To && via.Unmap() == r.Via
}
