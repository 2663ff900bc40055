package monitor

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/table"
)

// space makes a namespace of this test.
func space(t testing.TB, name string) *netns.Namespace {
	t.Helper()
	need.Root(t)
	n, err := netns.New(fmt.Sprintf("weft-test%d-%s", os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		if err := netns.Delete(n.Name()); err != nil {
			t.Error(err)
		}
	})
	return n
}

func within(t testing.TB, n *netns.Namespace, fn func() error) {
	t.Helper()
	if err := n.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// ports returns Ports whose outer ends are for the namespace host.
func ports(t testing.TB) *Ports {
	t.Helper()
	p := NewPorts(fmt.Sprintf("weft-test%d-monitors", os.Getpid()))
	t.Cleanup(func() {
		p.Close()
		if err := netns.Delete(p.name); err != nil {
			t.Error(err)
		}
	})
	return p
}

// inner says how the inner end of a load balancer is.
func inner(t *testing.T, p *Ports, id table.LBServiceID) (text string) {
	t.Helper()
	n, err := netns.Open(p.name)
	if err != nil {
		return "no namespace"
	}
	defer n.Close()
	within(t, n, func() error {
		l, err := netlink.LinkByName(device(id))
		if err != nil {
			text = "no device"
			return nil
		}
		text = fmt.Sprintf("%s %s mtu %d", l.Attrs().HardwareAddr, l.Attrs().OperState, l.Attrs().MTU)
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			text += " " + a.IPNet.String()
		}
		routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
		for _, r := range routes {
			if r.Gw != nil {
				text += " by " + r.Gw.String()
			}
		}
		return err
	})
	return text
}

func TestPortsAreMadeAndKept(t *testing.T) {
	host, p := space(t, "host"), ports(t)
	set := bed(1, tcp("/tcp"))
	addService(set, 2)
	do := func(fn func(*table.Set) error) {
		t.Helper()
		within(t, host, func() error { return fn(set) })
	}
	do(p.Make)
	const as = "02:50:56:00:ff:%02x up mtu 1500 169.254.255.2/30 by 169.254.255.1"
	for id := range table.LBServiceID(2) {
		if got, want := inner(t, p, id+1), fmt.Sprintf(as, id+1); got != want {
			t.Errorf("load balancer %d: %s, want %s", id+1, got, want)
		}
	}
	want := map[string]string{"/infra/lb-services/s1/monitor/port": "lbmon-00000001", "/infra/lb-services/s2/monitor/port": "lbmon-00000002"}
	if diff := cmp.Diff(want, p.Devices(set)); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	before := indexes(t, host)

	t.Run("another process takes over", func(t *testing.T) {
		p.Close()
		p = NewPorts(p.name)
		do(p.Make)
		do(p.Keep)
		if diff := cmp.Diff(before, indexes(t, host)); diff != "" {
			t.Errorf("devices were made anew (-before +now):\n%s", diff)
		}
	})
	t.Run("what is broken is mended", func(t *testing.T) {
		within(t, host, func() error {
			l, err := netlink.LinkByName("lbmon-00000001")
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		})
		within(t, p.inner, func() error {
			l, err := netlink.LinkByName("lbmon-00000002")
			if err != nil {
				return err
			}
			return netlink.LinkSetDown(l)
		})
		do(p.Make)
		for id := range table.LBServiceID(2) {
			if got, want := inner(t, p, id+1), fmt.Sprintf(as, id+1); got != want {
				t.Errorf("load balancer %d: %s, want %s", id+1, got, want)
			}
		}
	})
	t.Run("what nobody needs goes", func(t *testing.T) {
		set.Services.Delete(2)
		do(p.Keep)
		if names := slices.Collect(maps.Keys(indexes(t, host))); !slices.Equal(names, []string{"lbmon-00000001"}) {
			t.Errorf("left: %v", names)
		}
		set.Services.Clear()
		do(p.Keep)
		if left := indexes(t, host); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if got := inner(t, p, 1); got != "no namespace" {
			t.Errorf("the namespace is left: %s", got)
		}
	})
	t.Run("without an endpoint", func(t *testing.T) {
		set := bed(1, tcp("/tcp"))
		set.Endpoints.Clear()
		err := host.Do(func() error { return p.Make(set) })
		const want = "/infra/lb-services/s1: monitor port: /infra/lb-services/s1/monitor/port: has no address in a gateway's subnet"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

// indexes returns the monitors' devices in a namespace.
func indexes(t *testing.T, n *netns.Namespace) map[string]int {
	t.Helper()
	out := map[string]int{}
	within(t, n, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if name := l.Attrs().Name; name != "lo" {
				out[name] = l.Attrs().Index
			}
		}
		return err
	})
	return out
}

// TestPortsTellTenantsApart probes two members that have one address, from two
// load balancers that have one address.
func TestPortsTellTenantsApart(t *testing.T) {
	host, p := space(t, "host"), ports(t)
	set := bed(1, tcp("/tcp"))
	addService(set, 2)
	within(t, host, func() error { return p.Make(set) })
	member := netip.MustParseAddr("10.1.0.5")
	for id := range table.LBServiceID(2) {
		tenant := space(t, fmt.Sprintf("tenant%d", id+1))
		within(t, host, func() error {
			l, err := netlink.LinkByName(device(id + 1))
			if err != nil {
				return err
			}
			return netlink.LinkSetNsFd(l, tenant.Fd())
		})
		within(t, tenant, func() error { return tenantSide(device(id+1), member) })
		answerAs(t, tenant, member, fmt.Sprintf("tenant %d", id+1))
	}
	for id := range table.LBServiceID(2) {
		for _, m := range []*table.Monitor{
			{Kind: table.MonitorHTTP, Receive: fmt.Sprintf("tenant %d", id+1)},
			{Kind: table.MonitorUDP, Send: "who", Receive: fmt.Sprintf("tenant %d", id+1)},
			{Kind: table.MonitorTCP},
			{Kind: table.MonitorICMP, Length: 56},
			{Kind: table.MonitorICMP},
		} {
			m.Timeout = 5
			port := uint16(80)
			if m.Kind == table.MonitorICMP {
				port = 0
			}
			err := Probe(t.Context(), p, Target{Member: 1, Monitor: m, Service: id + 1, Addr: netip.AddrPortFrom(member, port)})
			if err != nil {
				t.Errorf("load balancer %d, kind %d: %v", id+1, m.Kind, err)
			}
		}
		for at, want := range map[string]string{
			"10.1.0.5:81": "tcp: connect 10.1.0.5:81: connection refused",
			"10.1.0.6:80": "tcp: 10.1.0.6:80: no answer within 1s",
			"192.0.2.1:1": "tcp: connect 192.0.2.1:1: no route to host",
		} {
			m := &table.Monitor{Kind: table.MonitorTCP, Timeout: 1}
			err := Probe(t.Context(), p, Target{Monitor: m, Service: id + 1, Addr: netip.MustParseAddrPort(at)})
			if err == nil || err.Error() != want {
				t.Errorf("load balancer %d: got %v, want %s", id+1, err, want)
			}
		}
		m := &table.Monitor{Kind: table.MonitorICMP, Timeout: 1}
		err := Probe(t.Context(), p, Target{Monitor: m, Service: id + 1, Addr: netip.MustParseAddrPort("10.1.0.6:0")})
		if err == nil || err.Error() != "icmp: 10.1.0.6: no answer within 1s" {
			t.Errorf("load balancer %d: %v", id+1, err)
		}
	}
	_, err := p.Dial(context.Background(), 9, "tcp", netip.AddrPortFrom(member, 80))
	if err != errNoPort {
		t.Errorf("from an unknown load balancer: %v", err)
	}
}

// tenantSide makes the current namespace the network behind a monitors' port:
// its gateway, one member, a network that swallows and one that refuses.
func tenantSide(name string, member netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	gateway := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("169.254.255.1/30"))}
	if err := netlink.AddrAdd(l, gateway); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, r := range []*netlink.Route{
		{Dst: ipNet(netip.MustParsePrefix("10.1.0.6/32")), Type: unix.RTN_BLACKHOLE},
		{Dst: ipNet(netip.MustParsePrefix("192.0.2.0/24")), Type: unix.RTN_UNREACHABLE},
	} {
		if err := netlink.RouteAdd(r); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	return netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(member, 32))})
}

// answerAs serves HTTP and UDP on port 80 of a member.
func answerAs(t testing.TB, n *netns.Namespace, member netip.Addr, text string) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	within(t, n, func() (err error) {
		at := netip.AddrPortFrom(member, 80).String()
		if l, err = net.Listen("tcp", at); err == nil {
			u, err = net.ListenPacket("udp", at)
		}
		return err
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })}
	go server.Serve(l)
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo([]byte(text), from)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		u.Close()
	})
}

// BenchmarkProbe is what one TCP probe costs, the member's side included.
func BenchmarkProbe(b *testing.B) {
	need.Root(b)
	host, p := space(b, "host"), ports(b)
	set := bed(1, tcp("/tcp"))
	within(b, host, func() error { return p.Make(set) })
	tenant, member := space(b, "tenant"), netip.MustParseAddr("10.1.0.5")
	within(b, host, func() error {
		l, err := netlink.LinkByName(device(1))
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(l, tenant.Fd())
	})
	within(b, tenant, func() error { return tenantSide(device(1), member) })
	answerAs(b, tenant, member, "yes")
	target := Target{Monitor: &table.Monitor{Kind: table.MonitorTCP, Timeout: 5}, Service: 1, Addr: netip.AddrPortFrom(member, 80)}
	for b.Loop() {
		if err := Probe(b.Context(), p, target); err != nil {
			b.Fatal(err)
		}
	}
}
