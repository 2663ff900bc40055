package pipeline

import (
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// packet is §6 for whole packets and first fragments.
func (r *run) packet() {
	key := FlowKey{Zone: r.zone, Tuple: r.p.Tuple()}
	r.res.Key = key
	e, peer := r.st.pair(key)
	if e != nil && (!alive(e, peer, &r.ix.Set.Timeouts, r.now) || r.reopens(e)) {
		r.st.remove(e, peer)
		e = nil
	}
	if e == nil {
		r.connect(key)
		return
	}
	switch r.follow(e, peer) {
	case followed:
		r.track(e, peer)
		r.forward(&e.val)
	case gone:
		r.connect(key)
	}
}

// reopens reports whether the packet begins a connection anew whose tuple was
// used before. Source: RFC 9293 §3.6.1.
func (r *run) reopens(e *entry) bool {
	return r.p.Proto == packet.TCP && e.val.State == ConnClosing &&
		r.p.Flags&(packet.SYN|packet.ACK|packet.RST) == packet.SYN
}

// followed, gone and dropped are what can become of a packet with an entry.
type outcome uint8

const (
	followed outcome = iota // the entry is up to date: apply it
	gone                    // its translation is gone: both entries were deleted
	dropped                 // the result has the verdict
)

// follow is steps 2 and 3 of §6 for a packet of entry e, whose pair is alive.
func (r *run) follow(e, peer *entry) outcome {
	r.res.add(StageFlow, r.zone.id(), e.val.To)
	o := e
	if e.val.Reply {
		o = peer
	}
	if o.val.Gen != r.gen || e == o && r.differs(&e.val) {
		if c := r.again(e, o); c != followed {
			return c
		}
	}
	if e.val.Reply && (e.val.Gen != r.gen || r.differs(&e.val)) && !r.replyAgain(e, o) {
		return dropped
	}
	if e.val.Hops > 0 && r.p.TTL <= e.val.Hops {
		r.exceeded(e, o)
		return dropped
	}
	return followed
}

// differs reports whether the frame came otherwise than f's frames do: routed or
// bridged, from another MAC, or bridged to another MAC.
func (r *run) differs(f *Flow) bool {
	return f.Routed != r.routed || f.SrcMAC != r.srcMAC || !f.Routed && f.Hops == 0 && f.OutMAC != r.dstMAC
}

// again walks original entry o, because a packet of e, which is o or its
// reply, found it out of date.
func (r *run) again(e, o *entry) outcome {
	w := r.walkAgain(e, o)
	if !w.start(o.key.Zone, r.entrance(e, o)) {
		r.refuse(&w, e == o)
		return dropped
	}
	if f := &o.val; w.t.Src != f.To.Src || w.t.Dst != f.To.Dst || w.t.DstPort != f.To.DstPort || w.zone != f.Peer {
		if e == o {
			r.st.remove(e, r.st.peer(e))
			return gone
		}
		r.drop(StageFlow, r.zone.id(), ReasonStaleConnection, e.val.To)
		return dropped
	}
	r.take(o, &w)
	o.val.Mid = w.mid()
	if e == o {
		r.seenBy(&o.val)
	}
	return followed
}

// walkAgain returns a walk of o in mode again for a packet of e.
func (r *run) walkAgain(e, o *entry) walk {
	w := walk{ix: r.ix, res: r.res, mode: modeAgain, original: o.key.Tuple, t: o.key.Tuple, routed: o.val.Routed}
	if e == o {
		w.routed, w.exact, w.dstMAC = r.routed, true, r.dstMAC
	}
	return w
}

// entrance returns the port or uplink that o's packets enter by: that of this
// packet, or if it is a reply the one that was seen last.
func (r *run) entrance(e, o *entry) table.PortID {
	if e == o {
		return r.in.Port
	}
	return o.val.In
}

// replyAgain walks reply entry e of o and reports whether it holds.
func (r *run) replyAgain(e, o *entry) bool {
	w := r.walkReply(e, o)
	if !w.start(e.key.Zone, r.in.Port) {
		r.refuse(&w, true)
		return false
	}
	if w.zone != o.key.Zone {
		r.drop(StageFlow, r.zone.id(), ReasonNoRoute, w.t)
		return false
	}
	r.take(e, &w)
	r.seenBy(&e.val)
	return true
}

// walkReply returns a walk of e, the reply of o, in mode reply.
func (r *run) walkReply(e, o *entry) walk {
	w := walk{
		ix: r.ix, res: r.res, mode: modeReply, original: o.key.Tuple, t: e.key.Tuple,
		routed: r.routed, exact: true, dstMAC: r.dstMAC,
	}
	w.setSources(o)
	return w
}

// exceeded finds out who answers a packet of e whose TTL runs out.
func (r *run) exceeded(e, o *entry) {
	w := r.walkAgain(e, o)
	if e != o {
		w = r.walkReply(e, o)
	}
	w.limited, w.ttl = true, r.p.TTL
	if w.start(e.key.Zone, r.in.Port) {
		r.drop(StageFlow, r.zone.id(), ReasonTTLExceeded, e.val.To)
		return
	}
	r.refuse(&w, true)
}

// take makes the outcome of w that of e. Translation and peer stay: the caller
// has seen that they are the same.
func (r *run) take(e *entry, w *walk) {
	f := &e.val
	f.Gen, f.Hops = r.gen, w.hops
	f.Out, f.OutMAC, f.NextHop = w.out, w.outMAC, w.nextHop
	f.Rules = w.rules
}

// seenBy records how the packet's frame came.
func (r *run) seenBy(f *Flow) { f.Routed, f.SrcMAC, f.In = r.routed, r.srcMAC, r.in.Port }

// track is step 4 of §6.
func (r *run) track(e, peer *entry) {
	s := next(e.val.State, e.val.Reply, r.p.Proto, r.p.Flags)
	e.val.State, peer.val.State = s, s
	e.val.Seen = r.now
}

// next returns the state of a connection after a packet.
func next(s ConnState, reply bool, proto packet.Proto, flags packet.Flags) ConnState {
	const synAck = packet.SYN | packet.ACK
	switch {
	case proto != packet.TCP:
		if reply && s == ConnNew {
			return ConnEstablished
		}
	case flags&(packet.RST|packet.FIN) != 0:
		return ConnClosing
	case reply && s == ConnNew && flags&synAck == synAck:
		return ConnReplied
	case !reply && s == ConnReplied && flags&synAck == packet.ACK:
		return ConnEstablished
	}
	return s
}

// forward is step 5 of §6: it applies f to the packet.
func (r *run) forward(f *Flow) {
	frame := r.apply(f)
	packet.Translate(frame, f.To)
	r.deliver(f, f.To)
	if r.p.First() {
		r.rememberFragment()
	}
}

// apply copies the frame into the result, with f's MACs and TTL.
func (r *run) apply(f *Flow) []byte {
	r.res.Frame = append(r.res.Frame[:0], r.in.Frame...)
	frame := r.res.Frame
	dst, src := packet.MAC(f.OutMAC), r.p.EthSrc
	switch {
	case f.NextHop != 0:
		src = packet.MAC{}
	case f.Hops > 0:
		src = packet.MAC(table.RouterMAC)
	}
	packet.SetMACs(frame, dst, src)
	if f.Hops > 0 {
		packet.SetTTL(frame, r.p.TTL-f.Hops)
	}
	return frame
}

// deliver sets the verdict to Forward, by f, with the tuple t.
func (r *run) deliver(f *Flow, t packet.Tuple) {
	res := r.res
	res.Verdict, res.Out, res.NextHop = Forward, f.Out, f.NextHop
	res.Translated, res.Hops = f.To, f.Hops
	s := r.res.add(StageDeliver, uint32(f.Out), t)
	if f.NextHop != 0 {
		s.NextHop = r.ix.Set.NextHops[f.NextHop]
	}
}
