package ebpf

import (
	"context"
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

// bed is a host with the workloads of testSet in namespaces of their own.
type bed struct {
	t       *testing.T
	host    *netns.Namespace
	work    map[table.PortID]*netns.Namespace
	binding dataplane.Binding
	dir     string
}

const (
	redPort  table.PortID = 11
	bluePort table.PortID = 12
)

func newNamespace(t *testing.T, name string) *netns.Namespace {
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
	return ns
}

func newBed(t *testing.T, set *table.Set) *bed {
	need.Root(t)
	need.BPF(t)
	b := &bed{t: t, host: newNamespace(t, "host"), work: map[table.PortID]*netns.Namespace{}, binding: dataplane.Binding{},
		dir: filepath.Join("/sys/fs/bpf", fmt.Sprintf("weft-test-%d", os.Getpid()))}
	t.Cleanup(func() { RemovePinned(b.dir) })
	for _, e := range set.Endpoints {
		b.attach(set, e)
	}
	return b
}

func (b *bed) do(ns *netns.Namespace, fn func() error) {
	b.t.Helper()
	if err := ns.Do(fn); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) attach(set *table.Set, e *table.Endpoint) {
	ns := newNamespace(b.t, fmt.Sprintf("w%d", e.Port))
	b.work[e.Port] = ns
	name := fmt.Sprintf("p%d", e.Port)
	b.do(b.host, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		attrs.HardwareAddr = table.RouterMAC[:]
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: e.MAC[:], PeerNamespace: netlink.NsFd(ns.Fd())}); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		b.binding[e.Port] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
		return netlink.LinkSetUp(l)
	})
	gw := set.Segments[e.Segment].Gateways[0]
	b.do(ns, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: e.Addr.AsSlice(), Mask: net.CIDRMask(gw.Bits(), 32)}}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: gw.Addr().AsSlice()})
	})
}

func (b *bed) open() *Driver {
	b.t.Helper()
	var d *Driver
	b.do(b.host, func() (err error) {
		d, err = Open(b.dir)
		return err
	})
	return d
}

func (b *bed) apply(d *Driver, set *table.Set) {
	b.t.Helper()
	b.do(b.host, func() error { return d.Apply(context.Background(), set, b.binding) })
}

// ask connects from one workload to an address and returns who the other side
// saw, or the error.
func (b *bed) ask(from table.PortID, to netip.AddrPort) (seen string, err error) {
	b.do(b.work[from], func() error {
		var c net.Conn
		if c, err = net.DialTimeout("tcp4", to.String(), 500*time.Millisecond); err != nil {
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
				fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
				c.Close()
			}
		}()
		return nil
	})
}

func mac(last byte) table.MAC { return table.MAC{4, 0x50, 0x56, 0, 0, last} }

// testSet is red and blue, each a Tier-1 with one segment and one port, under
// one Tier-0; allow says whether blue accepts port 80.
func testSet(allow bool) *table.Set {
	s := table.NewSet("host1")
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	action := table.Drop
	if allow {
		action = table.Allow
	}
	s.Rulesets[1] = &table.Ruleset{ID: 1, Rules: []*table.Rule{{ID: 2, Name: "any", Action: table.Allow, AnyRemote: true}}}
	s.Rulesets[2] = &table.Ruleset{ID: 2, Rules: []*table.Rule{
		{ID: 1005, Name: "web", Action: action, AnyRemote: true, Services: []table.Service{{Proto: 6, First: 80, Last: 80}}},
		{ID: 2, Name: "any", Action: table.Allow, AnyRemote: true},
	}}
	s.VRFs[1] = &table.VRF{ID: 1, Kind: table.Tier0, Path: "/infra/tier-0s/t0"}
	tenant := func(vrf table.VRFID, seg table.SegmentID, port table.PortID, net, gw, addr string, t0, t1 string, in table.RulesetID) {
		s.VRFs[vrf] = &table.VRF{ID: vrf, Kind: table.Tier1, Path: fmt.Sprintf("/infra/tier-1s/t%d", vrf)}
		s.Segments[seg] = &table.Segment{ID: seg, Path: fmt.Sprintf("/infra/segments/s%d", seg), VRF: vrf, Gateways: []netip.Prefix{netip.PrefixFrom(a(gw), p(net).Bits())}}
		s.Ports[port] = &table.Port{ID: port, Path: fmt.Sprintf("/infra/segments/s%d/ports/p", seg), Segment: seg, MAC: mac(byte(port))}
		s.Endpoints[table.EndpointKey{Segment: seg, Addr: a(addr)}] = &table.Endpoint{
			Segment: seg, Addr: a(addr), Port: port, MAC: mac(byte(port)),
			Out: []table.RulesetID{1}, In: []table.RulesetID{in},
		}
		route := func(r table.Route) { s.Routes[table.RouteKey{VRF: r.VRF, Prefix: r.Prefix}] = &r }
		route(table.Route{VRF: vrf, Prefix: p(net), Kind: table.RouteConnected, Segment: seg})
		route(table.Route{VRF: vrf, Prefix: netip.PrefixFrom(a(gw), 32), Kind: table.RouteLocal})
		route(table.Route{VRF: vrf, Prefix: netip.PrefixFrom(a(t1), 32), Kind: table.RouteLocal})
		route(table.Route{VRF: vrf, Prefix: p("0.0.0.0/0"), Kind: table.RouteUp, To: 1, Via: a(t0)})
		route(table.Route{VRF: 1, Prefix: p(net), Kind: table.RouteDown, To: vrf, Via: a(t1)})
		route(table.Route{VRF: 1, Prefix: netip.PrefixFrom(a(t0), 32), Kind: table.RouteLocal})
	}
	tenant(2, 1, redPort, "10.244.0.16/28", "10.244.0.17", "10.244.0.18", "100.64.144.0", "100.64.144.1", 1)
	tenant(3, 2, bluePort, "10.244.0.64/28", "10.244.0.65", "10.244.0.67", "100.64.200.0", "100.64.200.1", 2)
	return s
}

var blueWeb = netip.MustParseAddrPort("10.244.0.67:80")

func TestApplyForwardsAndAgentMayGo(t *testing.T) {
	set := testSet(true)
	b := newBed(t, set)
	b.serve(bluePort, 80)
	d := b.open()
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("packets pass before anything was applied")
	}
	b.apply(d, set)
	if seen, err := b.ask(redPort, blueWeb); err != nil || seen != "10.244.0.18" {
		t.Errorf("seen %q, %v", seen, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if seen, err := b.ask(redPort, blueWeb); err != nil || seen != "10.244.0.18" {
		t.Errorf("without a process: seen %q, %v", seen, err)
	}
}

func TestApplyChangesRules(t *testing.T) {
	b := newBed(t, testSet(true))
	b.serve(bluePort, 80)
	d := b.open()
	defer d.Close()
	for i, allow := range []bool{true, false, true} {
		b.apply(d, testSet(allow))
		if _, err := b.ask(redPort, blueWeb); (err == nil) != allow {
			t.Errorf("step %d: allow %v, got %v", i, allow, err)
		}
	}
	s, err := d.Status(context.Background())
	if err != nil || s.Drops["dfw_rule"] == 0 {
		t.Errorf("drops %v, %v", s.Drops, err)
	}
}
