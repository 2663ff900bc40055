package pipeline

import "github.com/weft-net/weft/packet"

// icmpError is §5: an error goes the way of the packets that it is about, in
// the opposite direction. Source: RFC 5508 §4.2.
func (r *run) icmpError() {
	quoted, ok := r.p.Quoted()
	if !ok {
		r.unrelated()
		return
	}
	r.res.Key = FlowKey{Zone: r.zone, Tuple: quoted.Reversed()}
	e, peer := r.st.pair(r.res.Key)
	if e != nil && !alive(e, peer, &r.ix.Set.Timeouts, r.now) {
		r.st.expire(e, peer)
		e = nil
	}
	if e == nil {
		r.unrelated()
		return
	}
	switch r.follow(e, peer) {
	case followed:
		r.forwardError(e)
	case gone:
		r.unrelated()
	}
}

func (r *run) unrelated() {
	r.drop(StageFlow, r.zone.id(), ReasonICMPUnrelated, r.p.Tuple())
}

// forwardError applies e to the error and, exchanged, to what it quotes.
func (r *run) forwardError(e *entry) {
	f := &e.val
	src := r.p.Src
	if src == e.key.Tuple.Src {
		src = f.To.Src
	}
	r.res.Frame = apply(r.res.Frame, &r.p, f)
	packet.TranslateError(r.res.Frame, src, f.To.Dst, f.To.Reversed())
	r.deliver(f, packet.Tuple{Src: src, Dst: f.To.Dst, Proto: packet.ICMP})
}
