package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/table"
)

// Ports are the devices that probes leave by: a veth pair for each load
// balancer with a port. The outer ends are in the node's namespace, for the data
// plane to bind; the inner ends are in a namespace of the monitors' own, where
// each is a workload with the addresses of its endpoint. All load balancers may
// have the same addresses, because every socket is bound to its device.
//
// Make and Keep must be called in the node's namespace, one at a time; what an
// earlier process left is taken over. Dial may be called at any time.
type Ports struct {
	name string // of the namespace

	mu      sync.RWMutex     // guards what follows
	inner   *netns.Namespace // nil: there is no device yet
	devices map[table.LBServiceID]string
	tidy    bool // there are no others of monitors, nor a namespace without any
}

// NewPorts returns no ports yet. Nothing is made before it is needed.
//
// namespace names the monitors' namespace, which nobody else uses.
func NewPorts(namespace string) *Ports {
	return &Ports{name: namespace, devices: map[table.LBServiceID]string{}}
}

// devicePrefix is how all names of monitors' devices begin.
const devicePrefix = "lbmon-"

// device returns the name of both ends; it has at most 14 bytes.
func device(id table.LBServiceID) string { return fmt.Sprintf("%s%08x", devicePrefix, uint32(id)) }

// monitored returns the load balancers of set that have a port.
func monitored(set *table.Set) map[table.LBServiceID]*table.LBService {
	out := map[table.LBServiceID]*table.LBService{}
	for id, s := range set.Services.All() {
		if s.Port != 0 && set.Ports.Get(s.Port) != nil {
			out[id] = s
		}
	}
	return out
}

// Make makes the devices that set needs and lacks.
// Errors: a port without an endpoint; what the kernel refuses.
func (p *Ports) Make(set *table.Set) error {
	want := monitored(set)
	if len(want) == 0 {
		return nil
	}
	p.begin(want)
	inner, err := p.open()
	if err != nil {
		return err
	}
	endpoints := endpointsOf(set, want)
	for id, s := range want {
		end, err := endOf(set, s, endpoints[s.Port])
		if err == nil {
			err = end.make(inner)
		}
		if err != nil {
			return fmt.Errorf("%s: monitor port: %w", s.Path, err)
		}
		p.mu.Lock()
		p.devices[id] = end.name
		p.mu.Unlock()
	}
	return nil
}

// begin notes whether there may be half a device of want soon.
func (p *Ports) begin(want map[table.LBServiceID]*table.LBService) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range want {
		p.tidy = p.tidy && p.devices[id] != ""
	}
}

// needs says whether there is nothing to remove but want, names of devices.
func (p *Ports) needs(want map[string]bool) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, name := range p.devices {
		if !want[name] {
			return false
		}
	}
	return p.tidy
}

// Keep removes the devices that set does not need. Cost O(devices of the node)
// if some may be there, else O(load balancers).
func (p *Ports) Keep(set *table.Set) error {
	want := map[string]bool{}
	for id := range monitored(set) {
		want[device(id)] = true
	}
	if p.needs(want) {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("monitor ports: %w", err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, devicePrefix) && !want[name] {
			if err := netlink.LinkDel(l); err != nil && !netns.NoDevice(err) {
				return fmt.Errorf("monitor ports: %s: %w", name, err)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, name := range p.devices {
		if !want[name] {
			delete(p.devices, id)
		}
	}
	if len(want) == 0 {
		if p.inner != nil {
			p.inner.Close() // nothing was written to it
			p.inner = nil
		}
		if err := netns.Delete(p.name); err != nil {
			return err
		}
	}
	p.tidy = true
	return nil
}

// Devices returns the outer ends by the policy paths of their ports.
func (p *Ports) Devices(set *table.Set) map[string]string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := map[string]string{}
	for id, s := range monitored(set) {
		if name := p.devices[id]; name != "" {
			out[set.Ports.Get(s.Port).Path] = name
		}
	}
	return out
}

// Close lets go of the namespace; devices stay, and Dial fails.
func (p *Ports) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inner == nil {
		return nil
	}
	err := p.inner.Close()
	p.inner = nil
	return err
}

// open returns the monitors' namespace, which it makes if it is missing.
func (p *Ports) open() (*netns.Namespace, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inner != nil {
		return p.inner, nil
	}
	n, err := netns.Open(p.name)
	if err == nil {
		if _, err = n.ID(); err == nil && n.Do(prepare) == nil {
			p.inner = n
			return n, nil
		}
		n.Close()
	}
	// A name without a namespace behind it is what a killed process leaves.
	if err := netns.Delete(p.name); err != nil {
		return nil, err
	}
	if n, err = netns.New(p.name); err != nil {
		return nil, err
	}
	if err := n.Do(prepare); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	p.inner = n
	return n, nil
}

// prepare sets up the current namespace for monitors: equal addresses on many
// devices, echo sockets, nothing by itself.
func prepare() error {
	for _, s := range []struct{ key, value string }{
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/ip_forward", "0"},
		{"ipv4/ping_group_range", "0 2147483647"},
		{"ipv6/conf/all/disable_ipv6", "1"},
		{"ipv6/conf/default/disable_ipv6", "1"},
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.key), []byte(s.value), 0o644)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.key, "ipv6/") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// end is an inner end as it shall be; the outer one has the same name.
type end struct {
	name    string
	mac     table.MAC
	address netip.Prefix
	gateway netip.Addr
}

// endpointsOf returns the endpoints of the ports of services. Cost O(endpoints).
func endpointsOf(set *table.Set, services map[table.LBServiceID]*table.LBService) map[table.PortID][]*table.Endpoint {
	out := make(map[table.PortID][]*table.Endpoint, len(services))
	for _, s := range services {
		out[s.Port] = nil
	}
	for _, e := range set.Endpoints.All() {
		if list, ok := out[e.Port]; ok {
			out[e.Port] = append(list, e)
		}
	}
	return out
}

func endOf(set *table.Set, s *table.LBService, endpoints []*table.Endpoint) (end, error) {
	port := set.Ports.Get(s.Port)
	segment := set.Segments.Get(port.Segment)
	for _, e := range endpoints {
		if segment == nil || e.Segment != segment.ID {
			continue
		}
		for _, g := range segment.Gateways {
			if g.Contains(e.Addr) {
				return end{device(s.ID), e.MAC, netip.PrefixFrom(e.Addr, g.Bits()), g.Addr()}, nil
			}
		}
	}
	return end{}, fmt.Errorf("%s: has no address in a gateway's subnet", port.Path)
}

const mtu = 1500 // bytes, IP packet

// make makes the pair, or takes over the one that is there.
func (e end) make(inner *netns.Namespace) error {
	outer, err := netlink.LinkByName(e.name)
	if err == nil {
		if inner.Do(e.configure) == nil {
			return netlink.LinkSetUp(outer)
		}
		// half of a pair, or one into a namespace that is gone
		if err := netlink.LinkDel(outer); err != nil && !netns.NoDevice(err) {
			return err
		}
	} else if !netns.NoDevice(err) {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = e.name, mtu
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: e.name, PeerMTU: mtu, PeerHardwareAddr: e.mac[:], PeerNamespace: netlink.NsFd(inner.Fd()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	if err := inner.Do(e.configure); err != nil {
		return err
	}
	if outer, err = netlink.LinkByName(e.name); err != nil {
		return err
	}
	return netlink.LinkSetUp(outer)
}

// configure gives the inner end, in the current namespace, all that it needs.
// The default routes of all devices differ in their metric: a socket's device
// chooses one.
func (e end) configure() error {
	link, err := netlink.LinkByName(e.name)
	if err != nil {
		return err
	}
	if string(link.Attrs().HardwareAddr) != string(e.mac[:]) {
		if err := netlink.LinkSetHardwareAddr(link, e.mac[:]); err != nil {
			return fmt.Errorf("address %s: %w", e.mac, err)
		}
	}
	address := &netlink.Addr{IPNet: ipNet(e.address)}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("address %s: %w", e.address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	index := link.Attrs().Index
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	route := &netlink.Route{LinkIndex: index, Dst: ipNet(everything), Gw: e.gateway.AsSlice(), Priority: index}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route by %s: %w", e.gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// errNoPort is the answer to a question from a load balancer without a device.
var errNoPort = errors.New("the load balancer has no monitor port")

// Dial implements Dialer.
func (p *Ports) Dial(ctx context.Context, from table.LBServiceID, network string, to netip.AddrPort) (net.Conn, error) {
	fd, err := p.socket(from, network, to)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "probe")
	defer file.Close() // FileConn has its own descriptor
	if network == "tcp" {
		if err := connected(ctx, file); err != nil {
			return nil, err
		}
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return &bounded{conn, context.AfterFunc(ctx, func() { conn.SetDeadline(past) })}, nil
}

// socket returns a socket bound to from's device that has begun to connect.
func (p *Ports) socket(from table.LBServiceID, network string, to netip.AddrPort) (fd int, err error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	name := p.devices[from]
	if p.inner == nil || name == "" {
		return -1, errNoPort
	}
	err = p.inner.Do(func() error {
		if fd, err = open(network, to.Addr().Is6()); err != nil {
			return err
		}
		if err = unix.BindToDevice(fd, name); err == nil {
			err = unix.Connect(fd, sockaddr(to))
		}
		if errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	return fd, err
}
