package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// A pod that sends while it is attached: what arrives has its own address, what
// no rule allows does not arrive, and the host's stack gets nothing.
func TestFirstPackets(t *testing.T) {
	const allowed, denied = 7010, 7009
	n := newNode(t)
	one, two := namespace(t, "one"), namespace(t, "two")
	set := podded(2)
	ping := set.Rulesets.Get(rulesPing)
	ping.Rules = append(ping.Rules, &table.Rule{
		ID: 1003, Path: "/u", Action: table.Allow, AnyRemote: true, Services: []table.Service{{Proto: 17, First: allowed, Last: allowed}},
	})
	n.start()
	n.apply(set)
	list := n.list("1.1.0", "")
	if _, err := n.add(list, pod(2, netns.Path(two.Name()))); err != nil {
		t.Fatal(err)
	}
	good, bad := sink(t, two, allowed), sink(t, two, denied)
	before := n.received()
	spoofed := packet.Build(packet.Spec{
		EthSrc: packet.MAC(set.Ports.Get(1).MAC), EthDst: packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, TTL: 64, Proto: packet.UDP,
		Src: netip.MustParseAddr("10.1.9.9"), Dst: addrOf(2), SrcPort: 1, DstPort: allowed,
	})

	rt := pod(1, netns.Path(one.Name()))
	for range 3 {
		stop := make(chan struct{})
		var senders sync.WaitGroup
		for _, port := range []int{allowed, denied} {
			senders.Go(func() { flood(one, netip.AddrPortFrom(addrOf(2), uint16(port)), stop) })
		}
		senders.Go(func() { floodFrames(one, spoofed, stop) })
		if _, err := n.add(list, rt); err != nil {
			t.Fatal(err)
		}
		await(t, "a packet that is allowed", func() bool { return good.count() > 0 })
		close(stop)
		senders.Wait()
		if err := n.del(list, rt); err != nil {
			t.Fatal(err)
		}
		for from, packets := range good.take() {
			if from != addrOf(1) {
				t.Errorf("%d packets from %s", packets, from)
			}
		}
	}
	if got := bad.take(); len(got) > 0 {
		t.Errorf("denied packets arrive: %v", got)
	}
	if after := n.received(); after != before {
		t.Errorf("the host's stack: %s packets received before, %s after", before, after)
	}
}

// flood sends to an address as often as it can, from a namespace that may not
// know the way yet.
func flood(p *netns.Namespace, to netip.AddrPort, stop <-chan struct{}) {
	p.Do(func() error {
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if c, err := net.Dial("udp4", to.String()); err == nil {
				c.Write([]byte("x"))
				c.Close()
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
}

// floodFrames sends frame from eth0, when there is one, as often as it can.
func floodFrames(p *netns.Namespace, frame []byte, stop <-chan struct{}) {
	p.Do(func() error {
		const ip = 0x0008 // ETH_P_IP, in network order
		fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			if device, err := net.InterfaceByName("eth0"); err == nil {
				syscall.Sendto(fd, frame, 0, &syscall.SockaddrLinklayer{Protocol: ip, Ifindex: device.Index, Halen: 6})
			}
			time.Sleep(50 * time.Microsecond)
		}
	})
}

// counter counts packets by who sent them.
type counter struct {
	mu   sync.Mutex
	from map[netip.Addr]int
}

// sink counts what arrives at a port of a pod.
func sink(t *testing.T, p *netns.Namespace, port int) *counter {
	t.Helper()
	c := &counter{from: map[netip.Addr]int{}}
	err := p.Do(func() error {
		l, err := net.ListenPacket("udp4", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				_, from, err := l.ReadFrom(make([]byte, 10))
				if err != nil {
					return
				}
				c.mu.Lock()
				c.from[from.(*net.UDPAddr).AddrPort().Addr().Unmap()]++
				c.mu.Unlock()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *counter) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, packets := range c.from {
		n += packets
	}
	return n
}

// take returns what was counted and begins anew.
func (c *counter) take() map[netip.Addr]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.from
	c.from = map[netip.Addr]int{}
	return out
}

// received returns how many IPv4 packets n's own stack has received. Source:
// proc(5), /proc/net/snmp: InReceives.
func (n *node) received() (packets string) {
	n.t.Helper()
	err := n.within(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); fields[0] == "Ip:" {
				packets = fields[3]
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return packets
}

func TestDualStack(t *testing.T) {
	n := newNode(t)
	set := podded(2)
	via := netip.MustParsePrefix("2001:db8::1/64")
	seg := set.Segments.Get(segID)
	seg.Gateways = append(seg.Gateways, via)
	set.Routes.Put(table.RouteKey{VRF: tier1, Prefix: via.Masked()}, &table.Route{VRF: tier1, Prefix: via.Masked(), Kind: table.RouteConnected, Segment: segID})
	address := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprint("2001:db8::1:", i)) }
	for i := 1; i <= 2; i++ {
		port := set.Ports.Get(table.PortID(i))
		set.Endpoints.Put(table.EndpointKey{Segment: segID, Addr: address(i)}, &table.Endpoint{Segment: segID, Addr: address(i), Port: port.ID, MAC: port.MAC, Unfiltered: true})
	}
	n.start()
	n.apply(set)
	list := n.list("1.1.0", "")
	var pods []*netns.Namespace
	for i := 1; i <= 2; i++ {
		p := namespace(t, fmt.Sprint("p", i))
		pods = append(pods, p)
		r, err := n.add(list, pod(i, netns.Path(p.Name())))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.IPs) != 2 || len(r.Routes) != 2 || r.IPs[1].Address.String() != address(i).String()+"/64" || !r.Routes[1].GW.Equal(via.Addr().AsSlice()) {
			t.Errorf("result %v, %v", r.IPs, r.Routes)
		}
		if err := n.check(list, pod(i, netns.Path(p.Name()))); err != nil {
			t.Error(err)
		}
	}
	if err := ping(pods[0], addrOf(2)); err != nil { // IPv6 packets are not carried yet
		t.Error(err)
	}
	// No family but what the port has, and no address that it does not have.
	err := pods[0].Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := device.Addrs()
		if got := fmt.Sprint(addrs); got != "[10.1.1.1/16 2001:db8::1:1/64]" {
			t.Errorf("addresses %s", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"n","type":"weft-cni","socket":"/s","timeout":"1m","mtu":1400}`))
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"n","prevResult":{"interfaces":[{"name":"lo"}],"ips":[{"address":"10.0.0.1/8"}]}}`))
	f.Add([]byte(`{"runtimeConfig":{"ips":null},"cni.dev/valid-attachments":[{"containerID":"c","ifname":"e"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if (c == nil) != (err != nil) {
			t.Errorf("%v, %v", c, err)
		}
		if c != nil && (c.timeout <= 0 || c.timeout > mostTime) {
			t.Errorf("timeout %s", c.timeout)
		}
	})
}
