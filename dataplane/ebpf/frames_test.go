package ebpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// wire sends and receives frames as they are on eth0 of a namespace.
type wire struct {
	t  testing.TB
	fd int
}

// wire opens eth0 of a workload, or of the uplink's neighbour.
func (b *bed) wire(at table.PortID) *wire {
	b.t.Helper()
	var w *wire
	b.do(b.work[at], func() (err error) {
		w, err = openWire()
		return err
	})
	w.t = b.t
	b.t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func openWire() (*wire, error) {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL}) // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &wire{fd: fd}, nil
}

func (w *wire) send(frames ...[]byte) {
	w.t.Helper()
	for _, f := range frames {
		if _, err := unix.Write(w.fd, f); err != nil {
			w.t.Errorf("frame of %d bytes: %v", len(f), err)
		}
	}
}

// next returns the next frame that came in; nil if none did in time.
func (w *wire) next(within time.Duration) []byte {
	w.t.Helper()
	p := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(within); ; {
		n, err := unix.Poll(p, max(0, int(time.Until(end)/time.Millisecond)))
		if err == nil && n == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			w.t.Error(err)
			return nil
		}
		if n > 0 {
			break
		}
	}
	b, aux := make([]byte, 70000), make([]byte, 128)
	n, m, _, _, err := unix.Recvmsg(w.fd, b, aux, 0)
	if err != nil {
		w.t.Error(err)
		return nil
	}
	return withTag(b[:n:n], aux[:m])
}

// withTag puts back the VLAN tag that the kernel keeps beside a frame. Source:
// packet(7), PACKET_AUXDATA; struct tpacket_auxdata in linux/if_packet.h.
func withTag(frame, control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return frame
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		status, tci := binary.NativeEndian.Uint32(m.Data), binary.NativeEndian.Uint16(m.Data[16:])
		if status&unix.TP_STATUS_VLAN_VALID != 0 {
			return tagged(frame, binary.NativeEndian.Uint16(m.Data[18:]), tci)
		}
	}
	return frame
}

// drain throws away what came in.
func (w *wire) drain() {
	for w.next(0) != nil {
	}
}

// count returns how many of what comes in fit, up to want of them.
func (w *wire) count(want int, within time.Duration, fit func([]byte) bool) (n int) {
	w.t.Helper()
	for end := time.Now().Add(within); n < want; {
		f := w.next(time.Until(end))
		if f == nil {
			return n
		}
		if fit(f) {
			n++
		}
	}
	return n
}

// holding fits frames that hold a text.
func holding(text string) func([]byte) bool {
	return func(f []byte) bool { return bytes.Contains(f, []byte(text)) }
}

// udp is a datagram from a port to the router's MAC.
func udp(from table.PortID, src, dst netip.Addr, sport, dport uint16, payload string) packet.Spec {
	return packet.Spec{
		EthSrc: packet.MAC(mac(byte(from))), EthDst: packet.MAC(table.RouterMAC), TTL: 64, Proto: packet.UDP,
		Src: src, Dst: dst, SrcPort: sport, DstPort: dport, Payload: []byte(payload),
	}
}

// tcp is a segment, likewise.
func tcp(from table.PortID, src, dst netip.Addr, dport uint16, flags packet.Flags) packet.Spec {
	return packet.Spec{
		EthSrc: packet.MAC(mac(byte(from))), EthDst: packet.MAC(table.RouterMAC), TTL: 64, Proto: packet.TCP,
		Src: src, Dst: dst, SrcPort: 40000, DstPort: dport, Flags: flags, Seq: 1, Ack: 1, Window: 1000,
		Payload: []byte("twenty bytes of data"),
	}
}

// changed builds a frame and changes it.
func changed(s packet.Spec, change func(frame []byte) []byte) []byte { return change(packet.Build(s)) }

// patch returns the change that writes bytes at an offset.
func patch(at int, b ...byte) func([]byte) []byte {
	return func(f []byte) []byte {
		copy(f[at:], b)
		return f
	}
}

// tagged puts VLAN tags, each an EtherType and an id, before the EtherType.
func tagged(frame []byte, tags ...uint16) []byte {
	out := bytes.Clone(frame[:12])
	for _, t := range tags {
		out = binary.BigEndian.AppendUint16(out, t)
	}
	return append(out, frame[12:]...)
}

// macOf returns the address of eth0.
func macOf(t *testing.T, ns *netns.Namespace) (m packet.MAC) {
	t.Helper()
	err := ns.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		copy(m[:], l.Attrs().HardwareAddr)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// background runs fn again and again until stop, which waits for its end, or
// the end of the test.
func background(t testing.TB, fn func()) (stop func()) {
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
