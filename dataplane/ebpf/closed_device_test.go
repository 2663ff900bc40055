package ebpf

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
)

// closedHost has the host's own stack forward, but nothing that comes from
// devices that are made from now on: they check the way back. Where there is no
// route to the destination the source is not checked; only without forwarding
// is no ICMP error sent to it then. Source: net/ipv4/route.c,
// ip_route_input_slow, ip_error.
func closedHost() error {
	for _, s := range [][2]string{{"ip_forward", "1"}, {"conf/default/rp_filter", "1"}, {"conf/default/forwarding", "0"}} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", s[0]), []byte(s[1]), 0); err != nil {
			return err
		}
	}
	return nil
}

// attached returns how many programs a device runs.
func (b *bed) attached(ifindex int) (n int) {
	b.t.Helper()
	b.do(b.host, func() error {
		got, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			n = len(got.Programs)
		}
		return err
	})
	return n
}

// bare waits until no device runs a program: the kernel takes them off a
// little after their pins are gone.
func (b *bed) bare() {
	b.t.Helper()
	for _, l := range b.binding {
		for b.attached(l.IfIndex) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestWorkloadDoesNotReachTheHost has a host that forwards on its own, and
// devices whose programs are gone.
func TestWorkloadDoesNotReachTheHost(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	b.do(b.host, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }) // on all devices
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	try := func(neighbour netip.Addr) (n int) {
		t.Helper()
		for _, src := range []netip.Addr{redAddr, outsideAddr, netip.MustParseAddr("198.51.100.1")} {
			echo := udp(redPort, src, netip.MustParseAddr("192.0.2.2"), 1, 2, "to the host")
			echo.Proto, echo.ICMPType = packet.ICMP, packet.ICMPEchoRequest
			red.send(packet.Build(udp(redPort, src, neighbour, 1, 2, "to the host")), packet.Build(echo))
			red.send(packet.Build(udp(redPort, src, netip.MustParseAddr("172.31.0.1"), 1, 2, "to the host"))) // no route
			if src != outsideAddr {
				red.send(packet.Build(udp(redPort, src, outsideAddr, 1, 2, "to the host")))
			}
		}
		return outside.count(1, 300*time.Millisecond, func(f []byte) bool {
			a, ok := packet.DecodeARP(f)
			return ok && a.Target == neighbour || bytes.Contains(f, []byte("to the host"))
		})
	}
	if try(netip.MustParseAddr("192.0.2.7")) == 0 {
		t.Error("the host's own stack lets nothing through, so this proves nothing")
	}
	d := b.open()
	b.apply(d, s)
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	b.bare()
	outside.drain()
	if try(netip.MustParseAddr("192.0.2.8")) > 0 {
		t.Error("a packet passes the host's own stack")
	}
}

// TestRefusedSetLeavesNewDevicesClosed has a device that is bound for the first
// time by a Set that the data plane refuses.
func TestRefusedSetLeavesNewDevicesClosed(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	d := b.open()
	bad := maps.Clone(b.binding)
	bad[bluePort] = dataplane.Link{IfIndex: 1 << 20}
	if err := b.host.Do(func() error { return d.Apply(context.Background(), s, bad) }); err == nil {
		t.Fatal("a device that does not exist was attached to")
	}
	good := maps.Clone(b.binding)
	delete(good, bluePort)
	for id, l := range good {
		if n := b.attached(l.IfIndex); n != 1 {
			t.Errorf("the device of port %d runs %d programs", id, n)
		}
	}
}

// TestDeviceDoesNotGoOnByForgottenTables breaks off a Remove: links stay, and
// with them the programs and maps that a later Open knows nothing of.
func TestDeviceDoesNotGoOnByForgottenTables(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	ask := func(word string) int {
		red.send(packet.Build(udp(redPort, redAddr, outsideAddr, 4000, 4001, word)))
		return outside.count(1, 300*time.Millisecond, holding(word))
	}
	if ask("first") != 1 || ask("second") != 1 {
		t.Fatal("the connection does not work")
	}
	d.Close()
	pins, err := filepath.Glob(filepath.Join(b.dir, version(), "weft_*"))
	if err != nil || len(pins) == 0 {
		t.Fatal(pins, err)
	}
	for _, pin := range pins {
		if err := os.Remove(pin); err != nil {
			t.Fatal(err)
		}
	}
	d = b.open()
	if ask("after open") != 0 {
		t.Error("a packet passes a data plane without tables")
	}
	delete(b.binding, redPort)
	b.apply(d, s)
	if ask("after apply") != 0 {
		t.Error("a packet passes from a device that the new data plane does not know")
	}
}
