package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// closedFile is a lab whose only workload hides behind EGRESS.
const closedFile = `
resource_type: Infra
children:
- resource_type: ChildTier0
  Tier0:
    id: t0
    children:
    - resource_type: ChildLocaleServices
      LocaleServices:
        id: default
        edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec
        children:
        - resource_type: ChildTier0Interface
          Tier0Interface: {id: up, type: EXTERNAL, subnets: [{ip_addresses: [192.168.105.1], prefix_len: 24}]}
    - resource_type: ChildStaticRoutes
      StaticRoutes: {id: default, network: 0.0.0.0/0, next_hops: [{ip_address: 192.168.105.253}]}
- resource_type: ChildTier1
  Tier1:
    id: red
    tier0_path: /infra/tier-0s/t0
    type: NATTED
    route_advertisement_types: [TIER1_NAT]
    children:
    - resource_type: ChildLocaleServices
      LocaleServices: {id: default, edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec}
    - resource_type: ChildPolicyNat
      PolicyNat:
        id: USER
        children:
        - resource_type: ChildPolicyNatRule
          PolicyNatRule: {id: egress, action: SNAT, translated_network: EGRESS}
- resource_type: ChildSegment
  Segment:
    id: red
    connectivity_path: /infra/tier-1s/red
    subnets: [{gateway_address: 10.244.0.17/28}]
    children:
    - resource_type: ChildSegmentPort
      SegmentPort: {id: web, display_name: web, address_bindings: [{ip_address: 10.244.0.18, mac_address: "MACADDRESS"}]}
---
resource_type: Lab
name: LABNAME
physical_router:
  interfaces:
  - {name: up, address: 192.168.105.253/24, tier0_interface: /infra/tier-0s/t0/locale-services/default/interfaces/up}
  - {name: lan, address: 192.168.178.1/24}
outside:
- {name: client, address: 192.168.178.222/24, interface: lan}
`

func closedFiles(lab, egress, mac string) []File {
	text := strings.NewReplacer("LABNAME", lab, "EGRESS", egress, "MACADDRESS", mac).Replace(closedFile)
	return []File{{Name: "closed.yaml", Data: []byte(text)}}
}

// Addresses of closedFile.
var (
	closedWeb    = netip.MustParseAddr("10.244.0.18")
	closedClient = netip.MustParseAddr("192.168.178.222")
	closedUplink = netip.MustParseAddr("192.168.105.1")
	closedRouter = netip.MustParseAddr("192.168.105.253")
)

const closedMark = "closed lab|"

// rawSocket sends and receives frames on a device of the current namespace; on
// all that there are and will be if it is 0.
func rawSocket(ifindex int) (fd int, err error) {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8&0xff // in network order
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: ifindex}),
	)
	return fd, err
}

// again runs fn again and again until the test ends, or stop is called.
func again(t *testing.T, fn func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				fn()
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// inNamed runs fn in a namespace if there is one of that name.
func inNamed(name string, fn func() error) error {
	n, err := netns.Open(name)
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(fn)
}

// workload is the machine "web" of a lab, whoever builds it and how often: it
// sends over eth0 from the moment that there is one.
type workload struct {
	namespace string
	fd        int // 0: there is no eth0
	mac       packet.MAC
}

func (w *workload) send() {
	if w.fd == 0 {
		err := inNamed(w.namespace, func() error {
			l, err := netlink.LinkByName(workloadNIC)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			copy(w.mac[:], l.Attrs().HardwareAddr)
			w.fd, err = rawSocket(l.Attrs().Index)
			return err
		})
		if err != nil {
			time.Sleep(200 * time.Microsecond)
			return
		}
	}
	for _, f := range w.frames() {
		if _, err := unix.Write(w.fd, f); errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			w.close()
			return
		}
	}
	time.Sleep(time.Millisecond)
}

func (w *workload) close() {
	if w.fd != 0 {
		unix.Close(w.fd)
		w.fd = 0
	}
}

// frames are an honest datagram to the client, and what could get out by the
// host's own stack.
func (w *workload) frames() (frames [][]byte) {
	for _, to := range []packet.MAC{packet.MAC(table.RouterMAC), {255, 255, 255, 255, 255, 255}} {
		for _, ends := range [][2]netip.Addr{{closedWeb, closedClient}, {closedWeb, closedRouter}, {closedRouter, closedUplink}, {closedRouter, closedClient}} {
			p := packet.Spec{
				EthSrc: w.mac, EthDst: to, TTL: 64, Proto: packet.UDP, Src: ends[0], Dst: ends[1], SrcPort: 4000, DstPort: 4001,
				Payload: fmt.Appendf(nil, "%s%d|", closedMark, time.Now().UnixNano()),
			}
			frames = append(frames, packet.Build(p))
			p.Proto, p.ICMPType = packet.ICMP, packet.ICMPEchoRequest
			frames = append(frames, packet.Build(p))
		}
	}
	return frames
}

// leaks hears what comes to the physical router of a lab and what of it may:
// packets of egress addresses, each for a time.
type leaks struct {
	t         *testing.T
	namespace string
	fd        int

	mu    sync.Mutex
	until map[netip.Addr]time.Time // an address whose time is over; zero: it is not
	heard map[netip.Addr]int
	wrong int
}

// assign allows an address from now on.
func (l *leaks) assign(egress string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until[netip.MustParseAddr(egress)] = time.Time{}
}

// end allows no address but one for what is sent from now on.
func (l *leaks) end(but string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, end := range l.until {
		if end.IsZero() && a.String() != but {
			l.until[a] = time.Now()
		}
	}
}

func (l *leaks) hear() {
	if l.fd == 0 {
		err := inNamed(l.namespace, func() (err error) {
			l.fd, err = rawSocket(0)
			return err
		})
		if err != nil {
			time.Sleep(200 * time.Microsecond)
		}
		return
	}
	b := make([]byte, 4096)
	n, _, err := unix.Recvfrom(l.fd, b, 0)
	if err != nil {
		return
	}
	_, rest, found := bytes.Cut(b[:n], []byte(closedMark))
	if !found {
		return
	}
	var sent int64
	fmt.Sscanf(string(rest), "%d|", &sent)
	var p packet.Packet
	fault := p.Decode(b[:n])
	if fault == packet.FaultNone && p.Src == closedClient {
		return // its kernel answers
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	end, ok := l.until[p.Src]
	if fault == packet.FaultNone && ok && (end.IsZero() || end.UnixNano() > sent) && (p.Dst == closedClient || p.Dst == closedRouter) {
		l.heard[p.Src]++
	} else if l.wrong++; l.wrong <= 5 {
		l.t.Errorf("outside: %v > %v (fault %v): may not be seen: %x", p.Src, p.Dst, fault, b[:n])
	}
}

// await waits until an address is heard anew.
func (l *leaks) await(egress string) {
	l.t.Helper()
	a, before := netip.MustParseAddr(egress), -1
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		l.mu.Lock()
		n := l.heard[a]
		l.mu.Unlock()
		if before < 0 {
			before = n
		}
		if n > before {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("nothing is heard of %s", egress)
		}
	}
}

// TestLabIsClosed proves that nothing of a workload leaves a lab but by its
// egress address, from its first packet on, while the lab is built, changed,
// without an agent, and taken down.
func TestLabIsClosed(t *testing.T) {
	s := realSystem(t)
	lab := testLab(t, s, "closed")
	l := &leaks{t: t, namespace: prefixOf(lab) + "physical", until: map[netip.Addr]time.Time{}, heard: map[netip.Addr]int{}}
	w := &workload{namespace: prefixOf(lab) + "web"}
	t.Cleanup(func() { unix.Close(l.fd) })
	t.Cleanup(w.close)
	again(t, l.hear)
	stop := again(t, w.send)
	const one, two, macA, macB = "203.0.113.10", "203.0.113.11", "04:50:56:00:00:12", "04:50:56:00:00:13"

	l.assign(one)
	up(t, s, closedFiles(lab, one, macA))
	l.await(one)
	killAgent(t, s, lab)
	l.await(one)
	change := func(egress, mac string) {
		t.Helper()
		l.assign(egress)
		if err := s.Apply(t.Context(), lab, closedFiles(lab, egress, mac)); err != nil {
			t.Fatal(err)
		}
		l.end(egress)
		l.await(egress)
	}
	change(two, macA) // a new agent
	change(two, macB) // the machine is built anew
	change(one, macA)
	if _, err := s.Down(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
	stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%v seen, %d wrong", l.heard, l.wrong)
}
