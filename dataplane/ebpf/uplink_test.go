package ebpf

import (
	"bytes"
	"crypto/sha256"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// echoUDP answers datagrams to a port with what they hold.
func (b *bed) echoUDP(at table.PortID, port int) {
	b.t.Helper()
	b.do(b.work[at], func() error {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		if err != nil {
			return err
		}
		b.t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 65536)
			for {
				n, from, err := c.ReadFromUDP(buf)
				if err != nil {
					return
				}
				c.WriteToUDP(buf[:n], from)
			}
		}()
		return nil
	})
}

// datagram returns n bytes of which no two parts are the same.
func datagram(n int) []byte {
	var out []byte
	sum := sha256.Sum256([]byte("datagram"))
	for len(out) < n {
		sum = sha256.Sum256(sum[:])
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func TestFragmentedDatagramsArriveWhole(t *testing.T) {
	s := openSet(true, 2000, 2003)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	b.echoUDP(bluePort, 5000)
	b.echoUDP(malloryPort, 5000)
	b.echoUDP(uplinkPort, 5000)
	for _, tc := range []struct {
		name string
		to   netip.Addr
		size int
	}{
		{"to the other Tier-1", blueAddr, 8000},
		{"in its segment", malloryAddr, 8000},
		{"through SNAT to the outside", outsideAddr, 8000},
		{"just two fragments", outsideAddr, 1473},
		{"the longest", outsideAddr, 65507},
		{"the longest to the other Tier-1", blueAddr, 65507},
	} {
		b.do(b.work[redPort], func() error {
			c, err := net.Dial("udp4", netip.AddrPortFrom(tc.to, 5000).String())
			if err != nil {
				return err
			}
			defer c.Close()
			for range 3 {
				sent, got := datagram(tc.size), make([]byte, 65536)
				if _, err := c.Write(sent); err != nil {
					return err
				}
				c.SetDeadline(time.Now().Add(time.Second))
				n, err := c.Read(got)
				if err != nil || !bytes.Equal(got[:n], sent) {
					t.Errorf("%s: %d of %d bytes came back, %v", tc.name, n, len(sent), err)
				}
			}
			return nil
		})
	}
	if drops := b.status(d).Drops; len(drops) != 0 {
		t.Errorf("drops %v", drops)
	}
}

// neighbour returns what the data plane knows of an address on the uplink.
func (b *bed) neighbour(d *Driver, a netip.Addr) (m packet.MAC, ok bool) {
	var n bpf.WeftNeighbour
	key := bpf.WeftNeighbourKey{Ifindex: uint32(b.binding[uplinkPort].IfIndex), Addr: bpf.MapAddr(a)}
	if err := d.objs.WeftNeighbours.Lookup(&key, &n); err != nil {
		return m, false
	}
	return n.Mac, true
}

// says sends ARP from outside: sender has this MAC.
func says(w *wire, op uint16, m packet.MAC, sender, target netip.Addr) {
	w.send(packet.Build(packet.Spec{
		EthDst: packet.MAC{255, 255, 255, 255, 255, 255}, EthSrc: m,
		ARP: &packet.ARP{Op: op, SenderMAC: m, Sender: sender, Target: target},
	}))
}

func TestUplinkFindsItsNeighbour(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	send := func(word string) []byte {
		t.Helper()
		red.send(packet.Build(udp(redPort, redAddr, outsideAddr, 4000, 4001, word)))
		for {
			f := outside.next(2 * time.Second)
			if f == nil {
				t.Fatalf("%s: no packet", word)
			}
			if bytes.Contains(f, []byte(word)) {
				return f
			}
		}
	}
	own := macOf(t, b.work[uplinkPort])
	if m, ok := b.neighbour(d, outsideAddr); ok {
		t.Fatalf("knows %v beforehand", m)
	}
	send("the first packet")
	if m, ok := b.neighbour(d, outsideAddr); !ok || m != own {
		t.Errorf("neighbour %v, %v, want %v", m, ok, own)
	}
	f := send("the second packet")
	if dst, src := packet.MAC(f[:6]), packet.MAC(f[6:12]); dst != own || src != packet.MAC(table.RouterMAC) {
		t.Errorf("second packet from %v to %v", src, dst)
	}

	moved := packet.MAC{4, 0x50, 0x56, 0, 0, 99}
	b.do(b.work[uplinkPort], func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, moved[:])
	})
	says(outside, packet.ARPRequest, moved, outsideAddr, outsideAddr)
	if f := send("after it moved"); packet.MAC(f[:6]) != moved {
		t.Errorf("a packet to %v after the neighbour moved to %v", packet.MAC(f[:6]), moved)
	}

	for _, a := range []string{"192.0.3.1", "198.51.100.9", "10.244.0.18", "0.0.0.0"} {
		for _, op := range []uint16{packet.ARPRequest, packet.ARPReply} {
			says(outside, op, moved, netip.MustParseAddr(a), netip.MustParseAddr("192.0.2.2"))
		}
	}
	send("after addresses that are not of the subnet")
	for _, a := range []string{"192.0.3.1", "198.51.100.9", "10.244.0.18", "0.0.0.0"} {
		if m, ok := b.neighbour(d, netip.MustParseAddr(a)); ok {
			t.Errorf("learned %s at %v from outside its subnet", a, m)
		}
	}
	says(outside, packet.ARPReply, moved, netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.2"))
	send("after one more neighbour")
	if _, ok := b.neighbour(d, netip.MustParseAddr("192.0.2.9")); !ok {
		t.Error("a neighbour of the subnet was not learned")
	}
}

// Source: RFC 1812 §3.3.2, last paragraph but one.
func TestUplinkBelievesNoGroupAddress(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	outside := b.wire(uplinkPort)
	for _, m := range []packet.MAC{{255, 255, 255, 255, 255, 255}, {1, 0, 0x5e, 0, 0, 1}} {
		says(outside, packet.ARPReply, m, outsideAddr, netip.MustParseAddr("192.0.2.2"))
		// what is heard after it is learned after it
		says(outside, packet.ARPReply, packet.MAC(mac(99)), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.2"))
		for range 100 {
			if _, ok := b.neighbour(d, netip.MustParseAddr("192.0.2.9")); ok {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if got, ok := b.neighbour(d, outsideAddr); ok && got == m {
			t.Errorf("%v is believed to be at %v", outsideAddr, m)
		}
	}
}

// TestUplinkFindsItsNeighbourForABurst has the kernel keep packets while it
// asks who the neighbour is.
func TestUplinkFindsItsNeighbourForABurst(t *testing.T) {
	const burst = 30
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	for i := range burst {
		red.send(packet.Build(udp(redPort, redAddr, outsideAddr, uint16(4000+i), 4001, "burst")))
	}
	if n := outside.count(burst, time.Second, holding("burst")); n != burst {
		t.Errorf("%d of %d packets arrived", n, burst)
	}
}
