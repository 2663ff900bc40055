package trace

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// maxHops ends the search: more than the pipeline's eight routers, a
// neighbour outside and the destination cannot be on one path.
const maxHops = 10

// hops sends probes of the flow's own protocol with TTL 1, 2, 3 …, each with
// an empty connection table.
func (t *tracer) hops(probe func(ttl uint8) (Hop, bool)) []Hop {
	out := []Hop{}
	for ttl := range uint8(maxHops) {
		h, end := probe(ttl + 1)
		if end && !h.Address.IsValid() {
			break
		}
		out = append(out, h)
		if end {
			break
		}
	}
	for len(out) > 0 && !out[len(out)-1].Address.IsValid() {
		out = out[:len(out)-1]
	}
	return out
}

// probe returns who answers a probe. end is true if larger TTLs find nobody
// else.
func (t *tracer) probe(ttl uint8) (h Hop, end bool) {
	st := pipeline.NewState(flows)
	res := t.send(st, t.q.From, t.request(ttl))
	switch res.Verdict {
	case pipeline.Answer:
		var p packet.Packet
		p.Decode(res.Frame)
		return Hop{Address: p.Src, Object: t.last(res), Annotation: annotation(p)}, res.Reason != pipeline.ReasonTTLExceeded
	case pipeline.Forward:
		if h, ok := t.neighbour(st, res); ok {
			return h, false
		}
		return t.destination(st, res), true
	}
	return Hop{}, res.Reason != pipeline.ReasonTTLExceeded
}

// probeBack is probe for the way back: the answer that the destination gives,
// with a small TTL. A router that answered itself has none.
func (t *tracer) probeBack(ttl uint8) (h Hop, end bool) {
	st := pipeline.NewState(flows)
	there := t.send(st, t.q.From, t.request(initialTTL))
	if there.Verdict != pipeline.Forward {
		return Hop{}, true
	}
	spec, tuple := response(there.Frame)
	spec.TTL = ttl
	res := t.send(st, there.Out, spec)
	switch res.Verdict {
	case pipeline.Answer:
		var p packet.Packet
		p.Decode(res.Frame)
		return Hop{Address: p.Src, Object: t.last(res), Annotation: annotation(p)}, res.Reason != pipeline.ReasonTTLExceeded
	case pipeline.Forward:
		return Hop{Address: tuple.Dst, Object: t.entrance(t.q.From)}, true
	}
	return Hop{}, res.Reason != pipeline.ReasonTTLExceeded
}

// annotation returns traceroute's mark of an answer. Source: traceroute(8).
func annotation(p packet.Packet) string {
	if !p.ICMPError() || p.ICMPType != packet.ICMPUnreachable {
		return ""
	}
	switch p.ICMPCode {
	case packet.ICMPNetUnreachable:
		return "!N"
	case packet.ICMPHostUnreachable:
		return "!H"
	case packet.ICMPFragmentationNeeded:
		return "!F"
	case packet.ICMPAdminProhibited:
		return "!X"
	}
	return ""
}

// neighbour returns the router behind an uplink if a probe's TTL runs out
// there: its ICMP error has to come back through the tables. ok is false if the
// probe gets further.
func (t *tracer) neighbour(st *pipeline.State, res pipeline.Result) (h Hop, ok bool) {
	nh := t.set.NextHops.Get(res.NextHop)
	var p packet.Packet
	p.Decode(res.Frame)
	if nh == nil || !nh.Addr.IsValid() || nh.Addr == p.Dst || p.TTL > 1 {
		return Hop{}, false
	}
	back := t.run(st, res.Out, packet.Spec{
		TTL: initialTTL, Proto: packet.ICMP, Src: nh.Addr, Dst: p.Src,
		ICMPType: packet.ICMPTimeExceeded, Quoted: packet.Quote(res.Frame),
	})
	if src, ok := t.heard(back); ok {
		h = Hop{Address: src, Object: t.beyond("next hop of ", res.Out)}
	}
	return h, true
}

// destination returns the destination if its reply comes back.
func (t *tracer) destination(st *pipeline.State, res pipeline.Result) Hop {
	spec, _ := response(res.Frame)
	if src, ok := t.heard(t.send(st, res.Out, spec)); ok {
		if t.set.Uplinks.Get(res.Out) != nil {
			return Hop{Address: src, Object: t.beyond("outside, by ", res.Out)}
		}
		return Hop{Address: src, Object: t.entrance(res.Out)}
	}
	return Hop{}
}

// beyond names something outside by the uplink that leads to it.
func (t *tracer) beyond(what string, uplink table.PortID) Object {
	o := t.entrance(uplink)
	o.Component = what + o.Component
	return o
}

// heard returns the source address with which a packet reached the asker, if
// it did.
func (t *tracer) heard(back pipeline.Result) (netip.Addr, bool) {
	if back.Verdict != pipeline.Forward {
		return netip.Addr{}, false
	}
	var p packet.Packet
	p.Decode(back.Frame)
	return p.Src, true
}
