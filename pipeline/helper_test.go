package pipeline

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// fabric is the test set with a state, a generation and a time.
type fabric struct {
	t    testing.TB
	base func() *table.Set
	set  *table.Set
	ix   *Index
	st   *State
	gen  uint32
	now  Tick

	sport uint16 // of the last connection that turns opened
}

func newFabric(t testing.TB) *fabric { return newFabricOf(t, testset.New) }

func newFabricOf(t testing.TB, base func() *table.Set) *fabric {
	f := &fabric{t: t, base: base, st: NewState(1024), now: 1000}
	f.apply(func(*table.Set) {})
	return f
}

// apply makes a changed test set the next generation.
func (f *fabric) apply(change func(*table.Set)) {
	f.set = f.base()
	change(f.set)
	f.ix = NewIndex(f.set)
	f.gen++
}

func (f *fabric) raw(from table.PortID, frame []byte) Result {
	return Run(f.ix, f.st, Input{Port: from, Frame: frame}, f.gen, f.now)
}

func (f *fabric) send(from table.PortID, s packet.Spec) Result {
	return f.raw(from, packet.Build(s))
}

// forward sends s and demands that it is forwarded to a device.
func (f *fabric) forward(from table.PortID, s packet.Spec, to table.PortID) packet.Packet {
	f.t.Helper()
	res := f.send(from, s)
	if res.Verdict != Forward || res.Out != to {
		f.t.Fatalf("%s %s by %d, want forward by %d: %s", res.Verdict, res.Reason, res.Out, to, path(res))
	}
	return f.decode(res.Frame)
}

// drop sends s and demands a reason; whether it is answered does not matter.
func (f *fabric) drop(from table.PortID, s packet.Spec, why Reason) Result {
	f.t.Helper()
	res := f.send(from, s)
	if res.Reason != why {
		f.t.Fatalf("%s %s, want %s: %s", res.Verdict, res.Reason, why, path(res))
	}
	return res
}

// hold sends s and demands that it waits for its first fragment.
func (f *fabric) hold(from table.PortID, s packet.Spec) {
	f.t.Helper()
	res := f.send(from, s)
	if res.Verdict != Hold || res.Reason != ReasonNone || len(res.Frame) != 0 {
		f.t.Fatalf("%s %s, want hold: %s", res.Verdict, res.Reason, path(res))
	}
}

func (f *fabric) decode(frame []byte) packet.Packet {
	f.t.Helper()
	var p packet.Packet
	if fault := p.Decode(frame); fault != packet.FaultNone {
		f.t.Fatalf("frame has fault %d: % x", fault, frame)
	}
	return p
}

// flow returns the entry of a key, which must exist.
func (f *fabric) flow(k FlowKey) Flow {
	f.t.Helper()
	fl, ok := f.st.Flow(k)
	if !ok {
		f.t.Fatalf("no flow %v %s", k.Zone, k.Tuple)
	}
	return fl
}

// path writes a result's steps as stage(id #rule reason).
func path(res Result) string {
	var words []string
	for _, s := range res.Steps {
		w := fmt.Sprintf("%s(%d", s.Stage, s.ID)
		if s.Rule != 0 {
			w += fmt.Sprintf(" #%d", s.Rule)
		}
		if s.Why != 0 {
			w += " " + s.Why.String()
		}
		if s.Reason != ReasonNone {
			w += " " + s.Reason.String()
		}
		words = append(words, w+")")
	}
	return strings.Join(words, " ")
}

// tcp, udp, echo and reply return packets that testset.Spec begins.
func tcp(from table.PortID, src string, sport uint16, dst string, dport uint16, flags packet.Flags) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.SrcPort, s.DstPort, s.Flags, s.Seq, s.Ack = packet.TCP, sport, dport, flags, 100, 200
	return s
}

func udp(from table.PortID, src string, sport uint16, dst string, dport uint16) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.SrcPort, s.DstPort, s.Payload = packet.UDP, sport, dport, []byte("data")
	return s
}

func echo(from table.PortID, src, dst string, id uint16) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.ICMPType, s.Ident, s.Payload = packet.ICMP, packet.ICMPEchoRequest, id, []byte("ping")
	return s
}

func reply(from table.PortID, src, dst string, id uint16) packet.Spec {
	s := echo(from, src, dst, id)
	s.ICMPType = packet.ICMPEchoReply
	return s
}

// to addresses a frame to a port of the same segment.
func to(s packet.Spec, p table.PortID) packet.Spec {
	s.EthDst = packet.MAC(testset.MAC(p))
	return s
}

func ttl(s packet.Spec, n uint8) packet.Spec {
	s.TTL = n
	return s
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// outside is what an uplink's packets come from: no port.
const outside table.PortID = 999

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr4(b [4]byte) netip.Addr { return netip.AddrFrom4(b) }

// raw returns a packet of a protocol without ports.
func raw(from table.PortID, src, dst string, proto packet.Proto) packet.Spec {
	s := testset.Spec(from, src, dst)
	s.Proto, s.Payload = proto, []byte("abc")
	return s
}
