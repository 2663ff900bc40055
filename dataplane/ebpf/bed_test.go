package ebpf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/table"
)

// bed is a host with the workloads of a Set, and the neighbour of its uplink,
// in namespaces of their own. Nobody speaks IPv6 there.
type bed struct {
	t       testing.TB
	host    *netns.Namespace
	work    map[table.PortID]*netns.Namespace // the neighbour under its uplink
	binding dataplane.Binding
	dir     string
}

func TestMain(m *testing.M) {
	if order := os.Getenv(applierEnv); order != "" {
		if err := runApplier(order); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if file := os.Getenv(closedEnv); file != "" {
		if err := runClosed(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newNamespace(t testing.TB, name string) *netns.Namespace {
	t.Helper()
	ns, err := netns.New(fmt.Sprintf("weft-test-%d-%s", os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Delete(ns.Name()); err != nil {
			t.Error(err)
		}
	})
	if err := ns.Do(noIPv6); err != nil {
		t.Fatal(err)
	}
	return ns
}

// noIPv6 keeps the kernel's own neighbour discovery out of what tests count.
func noIPv6() error {
	for _, which := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// askOften has a device ask for neighbours again after 20 ms instead of 1 s.
func askOften(device string) error {
	return os.WriteFile("/proc/sys/net/ipv4/neigh/"+device+"/retrans_time_ms", []byte("20"), 0)
}

func newBed(t *testing.T, set *table.Set) *bed {
	t.Helper()
	b := newHost(t)
	for _, e := range set.Endpoints.All() {
		b.attach(set, e)
	}
	for _, u := range set.Uplinks.All() {
		b.attachUplink(u)
	}
	return b
}

// newHost is a bed without anything attached.
func newHost(t testing.TB) *bed {
	t.Helper()
	need.Root(t)
	need.BPF(t)
	b := &bed{t: t, host: newNamespace(t, "host"), work: map[table.PortID]*netns.Namespace{}, binding: dataplane.Binding{},
		dir: filepath.Join("/sys/fs/bpf", fmt.Sprintf("weft-test-%d", os.Getpid()))}
	t.Cleanup(func() {
		if err := RemovePinned(b.dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bed) do(ns *netns.Namespace, fn func() error) {
	b.t.Helper()
	if err := ns.Do(fn); err != nil {
		b.t.Fatal(err)
	}
}

// plug makes the device of a port on the host, whose other end is eth0 in ns.
// Its number is index, or the kernel's choice if that is 0.
func (b *bed) plug(id table.PortID, ns *netns.Namespace, mac table.MAC, index int) {
	b.t.Helper()
	name := fmt.Sprintf("p%d", id)
	b.do(b.host, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = name, index
		attrs.HardwareAddr = table.RouterMAC[:]
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mac[:], PeerNamespace: netlink.NsFd(ns.Fd())}); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		b.binding[id] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
		return errors.Join(askOften(name), netlink.LinkSetUp(l))
	})
	b.do(ns, func() error { return askOften("eth0") })
	b.work[id] = ns
}

// unplug removes the device of a port.
func (b *bed) unplug(id table.PortID) {
	b.t.Helper()
	b.do(b.host, func() error {
		l, err := netlink.LinkByIndex(b.binding[id].IfIndex)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
}

// address gives eth0 of ns an address and routes to the rest by via.
func (b *bed) address(ns *netns.Namespace, own netip.Prefix, via netip.Addr, to ...string) {
	b.t.Helper()
	b.do(ns, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(own)}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for _, p := range to {
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix(p)), Gw: via.AsSlice()}); err != nil {
				return err
			}
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func (b *bed) attach(set *table.Set, e *table.Endpoint) {
	b.t.Helper()
	b.plug(e.Port, newNamespace(b.t, fmt.Sprintf("w%d", e.Port)), e.MAC, 0)
	b.addressOf(set, e)
}

func (b *bed) addressOf(set *table.Set, e *table.Endpoint) {
	b.t.Helper()
	gw := set.Segments.Get(e.Segment).Gateways[0]
	b.address(b.work[e.Port], netip.PrefixFrom(e.Addr, gw.Bits()), gw.Addr(), "0.0.0.0/0")
}

// attachUplink makes an uplink and, on the other side, the first address of
// its subnet, which knows the way to tenants.
func (b *bed) attachUplink(u *table.Uplink) {
	b.t.Helper()
	ns := newNamespace(b.t, "outside")
	b.plug(u.ID, ns, mac(byte(u.ID)), 0)
	b.do(b.host, func() error {
		l, err := netlink.LinkByIndex(b.binding[u.ID].IfIndex)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(u.Address)})
	})
	first := u.Address.Masked().Addr().Next()
	b.address(ns, netip.PrefixFrom(first, u.Address.Bits()), u.Address.Addr(), "10.244.0.0/24", "203.0.113.0/24")
}

func (b *bed) open() *Driver {
	b.t.Helper()
	return b.openSized(nil)
}

// openSized opens the data plane with maps of other sizes.
func (b *bed) openSized(s sizes) *Driver {
	b.t.Helper()
	var d *Driver
	b.do(b.host, func() (err error) {
		d, err = open(b.dir, s)
		return err
	})
	b.t.Cleanup(func() { d.Close() })
	return d
}

func (b *bed) apply(d *Driver, set *table.Set) {
	b.t.Helper()
	if err := b.tryApply(d, set); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) tryApply(d *Driver, set *table.Set) error {
	return b.host.Do(func() error { return d.Apply(context.Background(), set, b.binding) })
}

func (b *bed) status(d *Driver) dataplane.Status {
	b.t.Helper()
	s, err := d.Status(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// ask connects from one workload to an address and returns who the other side
// saw, or the error.
func (b *bed) ask(from table.PortID, to netip.AddrPort) (seen string, err error) {
	b.t.Helper()
	b.do(b.work[from], func() error {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", to.String(), 300*time.Millisecond); err != nil {
			return nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		var answer []byte
		answer, err = io.ReadAll(c)
		seen = string(answer)
		return nil
	})
	return seen, err
}

// serve answers every connection to port with the address that it came from.
func (b *bed) serve(at table.PortID, port int) {
	b.t.Helper()
	b.listen(at, port, func(c net.Conn) {
		fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
		c.Close()
	})
}

// listen hands every connection to port to serve, one after another.
func (b *bed) listen(at table.PortID, port int, serve func(net.Conn)) {
	b.t.Helper()
	b.do(b.work[at], func() error {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		b.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serve(c)
			}
		}()
		return nil
	})
}

// connect returns both ends of an established connection.
func (b *bed) connect(from, at table.PortID, to netip.AddrPort) (client, server net.Conn) {
	b.t.Helper()
	accepted := make(chan net.Conn, 1)
	b.listen(at, int(to.Port()), func(c net.Conn) { accepted <- c })
	b.do(b.work[from], func() (err error) {
		client, err = net.DialTimeout("tcp4", to.String(), time.Second)
		return err
	})
	server = <-accepted
	b.t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// passes says whether one byte written to from arrives at to in time.
func passes(t *testing.T, from, to net.Conn, within time.Duration) bool {
	t.Helper()
	if _, err := from.Write([]byte{'x'}); err != nil {
		t.Fatal(err)
	}
	return arrives(to, within)
}

func arrives(to net.Conn, within time.Duration) bool {
	to.SetReadDeadline(time.Now().Add(within))
	_, err := io.ReadFull(to, make([]byte, 1))
	return err == nil
}

// applierEnv makes the test binary a process that applies; its value is an
// applyOrder.
const applierEnv = "WEFT_TEST_APPLIER"

// applyOrder is what such a process applies, in turn and without an end.
type applyOrder struct {
	Dir     string
	Binding dataplane.Binding
}

func (o applyOrder) String() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // it has nothing that JSON does not
	}
	return string(b)
}

// runApplier applies the two sides of a coin until it is killed, and writes
// one byte after each.
func runApplier(order string) error {
	var o applyOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	d, err := Open(o.Dir)
	if err != nil {
		return err
	}
	sets := coin()
	for i := 0; ; i++ {
		if err := d.Apply(context.Background(), sets[i%2], o.Binding); err != nil {
			return err
		}
		if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
			return err
		}
	}
}
