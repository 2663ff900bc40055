package scenario

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// Forward gives a frame to what forwards and returns what became of it; the
// next call overwrites the result.
type Forward func(in table.PortID, frame []byte) *pipeline.Result

// Talk is one connection, a packet at a time, as the machines at its ends send
// them: they know their neighbours by ARP and answer what reaches them.
type Talk struct {
	trace.Question
	forward Forward
	begun   bool
}

// NewTalk returns a connection that has not begun.
func NewTalk(q trace.Question, forward Forward) *Talk { return &Talk{Question: q, forward: forward} }

// Exchange sends a packet and, if it arrives, its answer: for TCP the first
// time the handshake, then data. It returns Passes, or what became of the
// packet or answer that did not arrive.
func (k *Talk) Exchange(set *table.Set) string {
	there, back := packet.ACK, packet.ACK
	if !k.begun {
		there, back = packet.SYN, packet.SYN|packet.ACK
	}
	in, frame := k.request(64, 0)
	frame.Flags = there
	res := k.send(set, in, frame)
	if res.Verdict == pipeline.Forward {
		in, frame = answer(res)
		frame.Flags = back
		res = k.send(set, in, frame)
	}
	switch res.Verdict {
	case pipeline.Forward:
	case pipeline.Answer:
		return Refused
	default:
		return Dropped
	}
	if !k.begun && k.Proto == packet.TCP {
		in, frame = k.request(64, 0)
		frame.Flags = packet.ACK
		k.send(set, in, frame)
	}
	k.begun = true
	return Passes
}

// Close ends the connection: both ends of a TCP one say that they have sent all.
func (k *Talk) Close(set *table.Set) {
	if k.Proto != packet.TCP {
		return
	}
	in, frame := k.request(64, 0)
	frame.Flags = packet.FIN | packet.ACK
	if res := k.send(set, in, frame); res.Verdict == pipeline.Forward {
		in, frame = answer(res)
		frame.Flags = packet.FIN | packet.ACK
		k.send(set, in, frame)
	}
}

// Probe sends what traceroute does: packets with a TTL of 1 to last, each from
// a source port of its own, and the answers of who is behind an uplink.
func (k *Talk) Probe(set *table.Set, last int) {
	for ttl := 1; ttl <= last; ttl++ {
		in, frame := k.request(uint8(ttl), uint16(ttl))
		frame.Flags = packet.SYN
		res := k.send(set, in, frame)
		if res.Verdict != pipeline.Forward {
			continue
		}
		hop := set.NextHops.Get(res.NextHop)
		in, frame = answer(res)
		switch {
		case hop != nil && hop.Addr.IsValid() && hop.Addr != frame.Src && ttl == int(res.Hops)+1:
			frame = trouble(res, packet.ICMPTimeExceeded, 0)
			frame.Src = hop.Addr
		case k.Proto == packet.UDP:
			frame = trouble(res, packet.ICMPUnreachable, packet.ICMPPortUnreachable)
		default:
			frame.Flags = packet.SYN | packet.ACK
		}
		k.send(set, in, frame)
	}
}

// request is a packet of the connection, or with other source ports of one
// like it.
func (k *Talk) request(ttl uint8, others uint16) (table.PortID, packet.Spec) {
	s := packet.Spec{
		TTL: ttl, DontFragment: true, Proto: k.Proto, Src: k.Src, Dst: k.Dst,
		SrcPort: k.SrcPort + others, DstPort: k.DstPort, Window: 65535,
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.Ident, s.Sequence = packet.ICMPEchoRequest, s.SrcPort, 1
	}
	return k.From, s
}

// answer is what the machine that got a packet sends back.
func answer(res *pipeline.Result) (table.PortID, packet.Spec) {
	var p packet.Packet
	p.Decode(res.Frame)
	r := p.Tuple().Reversed()
	s := packet.Spec{
		TTL: 64, DontFragment: true, Proto: r.Proto, Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort,
		Ack: p.Seq + 1, Window: 65535,
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.Ident, s.Sequence = packet.ICMPEchoReply, r.DstPort, 1
	}
	return res.Out, s
}

// trouble is the ICMP error that the machine that got a packet sends back.
func trouble(res *pipeline.Result, kind, code uint8) packet.Spec {
	var p packet.Packet
	p.Decode(res.Frame)
	return packet.Spec{
		TTL: 64, Proto: packet.ICMP, Src: p.Dst, Dst: p.Src, ICMPType: kind, ICMPCode: code,
		Quoted: slices.Clone(packet.Quote(res.Frame)),
	}
}

// send lets the machine behind a port or uplink send s: it asks for the
// neighbour first. Without an answer to that, it is the result.
func (k *Talk) send(set *table.Set, from table.PortID, s packet.Spec) *pipeline.Result {
	port := set.Ports.Get(from)
	if port == nil {
		s.EthDst, s.EthSrc = packet.MAC{2, 0, 0, 0, 0, 1}, packet.MAC{2, 0, 0, 0, 0, 2} // outside, MACs do not matter
		return k.forward(from, packet.Build(s))
	}
	s.EthSrc, s.EthDst = packet.MAC(port.MAC), packet.MAC(table.RouterMAC)
	if e := set.Endpoints.Get(table.EndpointKey{Segment: port.Segment, Addr: s.Src}); e != nil && e.Port == from {
		s.EthSrc = packet.MAC(e.MAC)
	}
	if segment := set.Segments.Get(port.Segment); segment != nil && onLink(segment, s) {
		res := k.forward(from, packet.Build(packet.Spec{
			EthDst: packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EthSrc: s.EthSrc,
			ARP: &packet.ARP{Op: packet.ARPRequest, SenderMAC: s.EthSrc, Sender: s.Src, Target: s.Dst},
		}))
		reply, ok := packet.DecodeARP(res.Frame)
		if res.Verdict != pipeline.Answer || !ok {
			return res
		}
		s.EthDst = reply.SenderMAC
	}
	return k.forward(from, packet.Build(s))
}

// onLink reports whether the sender of s looks for its destination on the
// segment itself: on one without gateways it has no other way.
func onLink(segment *table.Segment, s packet.Spec) bool {
	return len(segment.Gateways) == 0 || slices.ContainsFunc(segment.Gateways, func(g netip.Prefix) bool { return g.Contains(s.Dst) })
}

// Local is a Forward in Go alone: the pipeline and its connections.
type Local struct {
	state      *pipeline.State
	generation uint32
	ix         *pipeline.Index
	res        pipeline.Result
}

// NewLocal returns a Local without connections and tables.
func NewLocal() *Local { return &Local{state: pipeline.NewState(1 << 12)} }

// Apply makes the tables of ix current.
func (l *Local) Apply(ix *pipeline.Index) {
	l.generation++
	l.ix = ix
}

// Forward is a Forward.
func (l *Local) Forward(in table.PortID, frame []byte) *pipeline.Result {
	pipeline.RunInto(&l.res, l.ix, l.state, pipeline.Input{Port: in, Frame: frame}, l.generation, 0)
	return &l.res
}
