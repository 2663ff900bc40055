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
	switch {
	case e == nil:
	case !alive(e, peer, &r.ix.Set.Timeouts, r.now):
		r.st.expire(e, peer)
		e = nil
	case r.reopens(e):
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
	if mtu := r.mtu(e.val.Out, r.p.TotalLen); mtu != 0 && e.val.Hops > 0 && !r.p.ICMPError() {
		r.oversize(e, o, mtu)
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
	if !w.start(o.key.Zone, r.entrance(e, o)) && !w.gone {
		r.refuse(&w, e == o)
		return dropped
	}
	if f := &o.val; w.gone || w.t.Src != f.To.Src || w.t.Dst != f.To.Dst || w.t.DstPort != f.To.DstPort || w.zone != f.Peer || w.took.kept() != f.kept() {
		if e == o {
			r.st.remove(e, r.st.peer(e))
			return gone
		}
		r.drop(StageFlow, r.zone.id(), ReasonStaleConnection, e.val.To)
		return dropped
	}
	r.take(o, &w)
	o.val.Mid, o.val.Rules, o.val.NATs, o.val.Via = w.mid(), w.rules, w.nats, w.via
	if e == o {
		r.seenBy(&o.val)
	}
	return followed
}

// walkAgain returns a walk of o in mode again for a packet of e.
func (r *run) walkAgain(e, o *entry) walk {
	w := r.walk(modeAgain, o.key.Tuple)
	w.original, w.routed, w.kept, w.keptNew = o.key.Tuple, o.val.Routed, o.val.kept(), o.val.State == ConnNew
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
	if w.zone != o.key.Zone || w.t.Dst != o.key.Tuple.Src {
		r.drop(StageFlow, r.zone.id(), ReasonNoRoute, w.t)
		return false
	}
	r.take(e, &w)
	r.seenBy(&e.val)
	return true
}

// walkReply returns a walk of e, the reply of o, in mode reply.
func (r *run) walkReply(e, o *entry) walk {
	w := r.walk(modeReply, e.key.Tuple)
	w.original, w.routed, w.exact, w.dstMAC = o.key.Tuple, r.routed, true, r.dstMAC
	w.setSources(o)
	w.served = o.val.Server != 0
	return w
}

// walk returns a walk of t.
func (r *run) walk(m mode, t packet.Tuple) walk {
	return walk{ix: r.ix, st: r.st, now: r.now, res: r.res, mode: m, t: t}
}

// rewalk returns a walk of e by the packet's way.
func (r *run) rewalk(e, o *entry) walk {
	if e != o {
		return r.walkReply(e, o)
	}
	return r.walkAgain(e, o)
}

// exceeded finds out who answers a packet of e whose TTL runs out.
func (r *run) exceeded(e, o *entry) {
	w := r.rewalk(e, o)
	w.limited, w.ttl = true, r.p.TTL
	if w.start(e.key.Zone, r.in.Port) {
		r.drop(StageFlow, r.zone.id(), ReasonTTLExceeded, e.val.To)
		return
	}
	r.refuse(&w, true)
}

// mtu returns the MTU of an uplink if it is smaller than an IP packet of n
// bytes, else 0.
func (r *run) mtu(out table.PortID, n int) uint16 {
	if u := r.ix.Set.Uplinks.Get(out); u != nil && int(u.MTU) < n {
		return u.MTU
	}
	return 0
}

// oversize finds out who answers a packet of e that is larger than mtu.
func (r *run) oversize(e, o *entry, mtu uint16) {
	if w := r.rewalk(e, o); w.start(e.key.Zone, r.in.Port) {
		r.tooBig(&w, mtu)
	} else {
		r.refuse(&w, true)
	}
}

// tooBig drops a packet that w brought to an uplink whose MTU is smaller.
func (r *run) tooBig(w *walk, mtu uint16) {
	r.drop(StageDeliver, uint32(w.out), ReasonTooBig, w.t).InAddr = w.inAddr
	a := icmpAnswer(packet.ICMPUnreachable, packet.ICMPFragmentationNeeded, w.inAddr)
	a.mtu = mtu
	r.reply(a)
}

// take makes the outcome of w that of e. Translation and peer stay: the caller
// has seen that they are the same.
func (r *run) take(e *entry, w *walk) {
	f := &e.val
	f.Gen, f.Hops = r.gen, w.hops
	f.Out, f.OutMAC, f.NextHop = w.out, w.outMAC, w.nextHop
}

// seenBy records how the packet's frame came.
func (r *run) seenBy(f *Flow) { f.Routed, f.SrcMAC, f.In = r.routed, r.srcMAC, r.in.Port }

// track is step 4 of §6.
func (r *run) track(e, peer *entry) {
	s := next(e.val.State, e.val.Reply, r.p.Proto, r.p.Flags)
	const rstAck = packet.RST | packet.ACK
	if s != e.val.State {
		r.st.becomes(&e.val, e.key.Tuple.Proto, s, e.val.Reply && r.p.Flags&rstAck == rstAck)
		e.val.State, peer.val.State = s, s
		if s == ConnClosing {
			e.val.Closed, peer.val.Closed = r.now, r.now
		}
	}
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
	r.res.Frame = apply(r.res.Frame, &r.p, f)
	packet.Translate(r.res.Frame, f.To)
	f.count(&r.p)
	r.deliver(f, f.To)
	if r.p.First() {
		r.rememberFragment()
		r.release(f)
	}
}

// count adds a packet that f forwarded.
func (f *Flow) count(p *packet.Packet) {
	f.Packets++
	f.Bytes += uint64(p.TotalLen)
}

// apply overwrites frame with p's, with f's MACs and TTL.
func apply(frame []byte, p *packet.Packet, f *Flow) []byte {
	frame = append(frame[:0], p.Frame...)
	dst, src := packet.MAC(f.OutMAC), p.EthSrc
	switch {
	case f.NextHop != 0:
		src = packet.MAC{}
	case f.Hops > 0:
		src = packet.MAC(table.RouterMAC)
	}
	packet.SetMACs(frame, dst, src)
	if f.Hops > 0 {
		packet.SetTTL(frame, p.TTL-f.Hops)
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
		s.NextHop = r.ix.Set.NextHops.Get(f.NextHop)
	}
}
