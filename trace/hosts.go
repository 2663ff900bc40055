package trace

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

var broadcast = packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// request is the flow's first packet.
func (t *tracer) request(ttl uint8) packet.Spec {
	s := packet.Spec{
		TTL: ttl, DontFragment: true, Proto: t.q.Proto, Src: t.q.Src, Dst: t.q.Dst,
		SrcPort: t.q.SrcPort, DstPort: t.q.DstPort, Flags: packet.SYN, Window: 65535,
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.Ident, s.Sequence = packet.ICMPEchoRequest, t.q.SrcPort, 1
	}
	return s
}

// response is what the destination sends back when frame has reached it: a
// SYN-ACK, an echo reply, or the same protocol with the ports exchanged.
func response(frame []byte) (packet.Spec, packet.Tuple) {
	var p packet.Packet
	p.Decode(frame) // the pipeline has decoded it before
	r := p.Tuple().Reversed()
	s := packet.Spec{
		TTL: initialTTL, DontFragment: true, Proto: r.Proto, Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort,
		Flags: packet.SYN | packet.ACK, Ack: p.Seq + 1, Window: 65535,
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.Ident, s.Sequence = packet.ICMPEchoReply, r.DstPort, 1
	}
	return s, r
}

// Frame returns the flow's first packet as its sender puts it on the wire. ok
// is false if the sender finds no neighbour to send it to.
func Frame(ix *pipeline.Index, q Question) (frame []byte, ok bool) {
	t := &tracer{names: names{ix.Set}, ix: ix, q: q}
	s, _, ok := t.addressed(pipeline.NewState(flows), q.From, t.request(initialTTL))
	if !ok {
		return nil, false
	}
	return packet.Build(s), true
}

// send lets the machine behind a port or uplink send s: if need be it resolves
// the neighbour first. If that fails, the result is the ARP request's.
func (t *tracer) send(st *pipeline.State, from table.PortID, s packet.Spec) pipeline.Result {
	s, res, ok := t.addressed(st, from, s)
	if !ok {
		return res
	}
	return t.run(st, from, s)
}

// addressed returns s with the MACs of the machine behind from and of its
// neighbour. ok is false if nobody answers for that; res is then what became
// of the question.
func (t *tracer) addressed(st *pipeline.State, from table.PortID, s packet.Spec) (_ packet.Spec, res pipeline.Result, ok bool) {
	p := t.set.Ports.Get(from)
	if p == nil {
		return s, res, true
	}
	s.EthSrc, s.EthDst = t.sender(p, s.Src), packet.MAC(table.RouterMAC)
	if s.Src == s.Dst || !t.onLink(p.Segment, s.Dst) {
		return s, res, true
	}
	res = t.run(st, from, packet.Spec{EthDst: broadcast, EthSrc: s.EthSrc, ARP: &packet.ARP{
		Op: packet.ARPRequest, SenderMAC: s.EthSrc, Sender: s.Src, Target: s.Dst,
	}})
	if res.Verdict != pipeline.Answer {
		return s, res, false
	}
	reply, _ := packet.DecodeARP(res.Frame)
	s.EthDst = reply.SenderMAC
	return s, res, true
}

func (t *tracer) run(st *pipeline.State, from table.PortID, s packet.Spec) pipeline.Result {
	return pipeline.Run(t.ix, st, pipeline.Input{Port: from, Frame: packet.Build(s)}, generation, 0)
}

// sender returns the MAC that p's machine has with src.
func (t *tracer) sender(p *table.Port, src netip.Addr) packet.MAC {
	if e := t.ix.Endpoint(p.Segment, src); e != nil && e.Port == p.ID {
		return packet.MAC(e.MAC)
	}
	return packet.MAC(p.MAC)
}

// onLink reports whether a machine on a segment looks for dst there and not
// behind its gateway: it has the subnets of the segment's gateways. On a
// segment without any, everyone knows their neighbours.
func (t *tracer) onLink(id table.SegmentID, dst netip.Addr) bool {
	s := t.set.Segments.Get(id)
	if s == nil {
		return false
	}
	for _, g := range s.Gateways {
		if g.Contains(dst) {
			return true
		}
	}
	return len(s.Gateways) == 0 && t.ix.Endpoint(id, dst) != nil
}
