package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
)

// fragmentTimeout is how long a first fragment is remembered (§4): 30 s.
var fragmentTimeout = ticksOf(30)

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

func (r *run) fragmentKey() fragmentKey {
	return fragmentKey{zone: r.zone, src: r.p.Src, dst: r.p.Dst, proto: r.p.Proto, id: r.p.ID}
}

// rememberFragment enters the row of a first fragment.
func (r *run) rememberFragment() {
	r.st.fragments.put(r.fragmentKey(), fragment{srcPort: r.p.SrcPort, dstPort: r.p.DstPort, seen: r.now})
}

// laterFragment is §4: the packet goes where its first fragment went.
func (r *run) laterFragment() {
	t := r.p.Tuple()
	row := r.st.fragments.get(r.fragmentKey())
	if row == nil || r.now-row.val.seen > fragmentTimeout {
		r.drop(StageFlow, r.zone.id(), ReasonFragment, t)
		return
	}
	t.SrcPort, t.DstPort = row.val.srcPort, row.val.dstPort
	r.res.Key = FlowKey{Zone: r.zone, Tuple: t}
	e, peer := r.st.pair(r.res.Key)
	if e != nil && !alive(e, peer, &r.ix.Set.Timeouts, r.now) {
		r.st.remove(e, peer)
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
