package pipeline

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/packet"
)

// How long a first fragment is remembered and a later one held (§4).
var (
	fragmentTimeout = ticksOf(30)
	heldTimeout     = ticksOf(2)
)

// Bounds of held fragments (§4, §10): of one datagram, of a frame in bytes, and
// the rows of a State.
const (
	maxHeld      = 16
	maxHeldFrame = 2048
	maxHeldRows  = 1024
)

// fragmentKey names the fragments of one packet. Source: RFC 791 §3.2.
type fragmentKey struct {
	zone     Zone
	src, dst netip.Addr
	proto    packet.Proto
	id       uint16
}

// fragment is what the first fragment says about the later ones.
type fragment struct {
	srcPort, dstPort uint16
	seen             Tick
}

// heldKey is one of the places of a datagram's held fragments.
type heldKey struct {
	fragmentKey
	place uint8
}

// held is a later fragment that came before the first one.
type held struct {
	frame []byte // never changed
	seen  Tick
}

func (r *run) fragmentKey() fragmentKey {
	return fragmentKey{zone: r.zone, src: r.p.Src, dst: r.p.Dst, proto: r.p.Proto, id: r.p.ID}
}

// rememberFragment enters the row of a first fragment.
func (r *run) rememberFragment() {
	r.st.fragments.put(r.fragmentKey(), fragment{srcPort: r.p.SrcPort, dstPort: r.p.DstPort, seen: r.now})
}

// laterFragment is §4: the packet goes where its first fragment went, or waits
// for it.
func (r *run) laterFragment() {
	t := r.p.Tuple()
	row := r.st.fragments.get(r.fragmentKey())
	if row == nil || r.now-row.val.seen > fragmentTimeout {
		if r.hold() {
			r.res.add(StageFlow, r.zone.id(), t)
			r.res.Verdict = Hold
			return
		}
		r.drop(StageFlow, r.zone.id(), ReasonFragment, t)
		return
	}
	t.SrcPort, t.DstPort = row.val.srcPort, row.val.dstPort
	r.res.Key = FlowKey{Zone: r.zone, Tuple: t}
	e, peer := r.st.pair(r.res.Key)
	if e != nil && !alive(e, peer, &r.ix.Set.Timeouts, r.now) {
		r.st.expire(e, peer)
		e = nil
	}
	o := gone
	if e != nil {
		o = r.follow(e, peer)
	}
	switch o {
	case followed:
		r.forward(&e.val)
	case gone:
		r.drop(StageFlow, r.zone.id(), ReasonFragment, t)
	}
}

// hold keeps the frame at the first place of its datagram that is free. It
// reports whether there was one.
func (r *run) hold() bool {
	if len(r.in.Frame) > maxHeldFrame {
		return false
	}
	k := heldKey{fragmentKey: r.fragmentKey()}
	for ; k.place < maxHeld; k.place++ {
		if row := r.st.held.peek(k); row == nil || r.now-row.val.seen > heldTimeout {
			r.st.held.put(k, held{frame: slices.Clone(r.in.Frame), seen: r.now})
			return true
		}
	}
	return false
}

// release lets the held fragments follow the first one, which f forwarded.
func (r *run) release(f *Flow) {
	k := heldKey{fragmentKey: r.fragmentKey()}
	for ; k.place < maxHeld; k.place++ {
		row := r.st.held.peek(k)
		if row == nil {
			continue
		}
		r.st.held.remove(row)
		if r.now-row.val.seen <= heldTimeout {
			r.follower(f, row.val.frame)
		}
	}
}

// follower sends a held fragment by f, unless its TTL runs out or it is too big.
func (r *run) follower(f *Flow, frame []byte) {
	var p packet.Packet
	p.Decode(frame) // hold has kept sound ones only
	if f.Hops > 0 && (p.TTL <= f.Hops || r.mtu(f.Out, p.TotalLen) != 0) {
		return
	}
	out := r.res.follower()
	*out = apply(*out, &p, f)
	packet.Translate(*out, f.To)
	f.count(&p)
}
