package pipeline

import "github.com/weft-net/weft/packet"

// maxPortTries bounds the source ports that are tried for one connection (§9).
const maxPortTries = 64

// connect is §6 for a packet without an entry: it walks, and enters both
// directions of the new connection.
func (r *run) connect(key FlowKey) {
	p := &r.p
	switch {
	case p.Proto == packet.TCP && p.Flags&packet.RST != 0:
		r.drop(StageFlow, r.zone.id(), ReasonTCPState, key.Tuple)
		return
	case p.EchoReply():
		r.drop(StageFlow, r.zone.id(), ReasonNoConnection, key.Tuple)
		return
	}
	w := walk{
		ix: r.ix, res: r.res, mode: modeNew, original: key.Tuple, t: key.Tuple,
		routed: r.routed, exact: true, dstMAC: r.dstMAC, limited: true, ttl: p.TTL,
	}
	if !w.start(key.Zone, r.in.Port) {
		if w.reason == ReasonNone {
			r.reply(w.answer)
			return
		}
		r.refuse(&w, true)
		return
	}
	state := ConnNew
	if p.Proto == packet.TCP && p.Flags&(packet.SYN|packet.ACK) != packet.SYN {
		if w.strict != nil {
			r.drop(StageConnect, 0, ReasonTCPState, w.t).FWRule = w.strict
			return
		}
		state = ConnEstablished
	}
	to, why := r.reserve(key, &w)
	if why != ReasonNone {
		r.drop(StageConnect, 0, why, w.t).NAT = w.lastSNAT
		return
	}
	f := r.establish(key, to, state, &w)
	r.res.New = true
	r.forward(&f)
}

// establish enters both directions and returns the original one.
func (r *run) establish(key FlowKey, to packet.Tuple, state ConnState, w *walk) Flow {
	f := Flow{
		State: state, Gen: r.gen, Seen: r.now,
		Routed: r.routed, SrcMAC: r.srcMAC, In: r.in.Port, Hops: w.hops,
		Out: w.out, OutMAC: w.outMAC, NextHop: w.nextHop,
		To: to, Mid: w.mid(), Peer: w.zone, Rules: w.rules,
	}
	r.st.flows.put(f.peerKey(), Flow{Reply: true, State: state, Seen: r.now, To: key.Tuple.Reversed(), Peer: key.Zone})
	r.st.flows.put(key, f)
	var id uint32
	if to.SrcPort != key.Tuple.SrcPort {
		id = uint32(to.SrcPort)
	}
	s := r.res.add(StageConnect, id, to)
	s.NAT = w.lastSNAT
	return f
}

// reserve returns the tuple that the connection leaves with: as translated by
// w, with a source port for which the reply's key is free.
func (r *run) reserve(key FlowKey, w *walk) (packet.Tuple, Reason) {
	if r.st.flows.max < 2 {
		return packet.Tuple{}, ReasonFlowTableFull
	}
	t, row := w.t, w.lastSNAT
	block := row != nil && row.PortLast != 0 && hasBlock(t.Proto)
	if !block {
		if r.free(key, w.zone, t) {
			return t, ReasonNone
		}
		if row != nil && row.OneToOne {
			return t, ReasonSNATExhausted
		}
		return t, ReasonTupleInUse
	}
	if row.PortFirst <= t.SrcPort && t.SrcPort <= row.PortLast && r.free(key, w.zone, t) {
		return t, ReasonNone
	}
	n := uint32(row.PortLast) - uint32(row.PortFirst) + 1
	h := Hash(key.Tuple)
	for i := range min(n, maxPortTries) {
		t.SrcPort = row.PortFirst + uint16((h+i)%n)
		if r.free(key, w.zone, t) {
			return t, ReasonNone
		}
	}
	return t, ReasonSNATExhausted
}

// hasBlock reports whether source ports, or query ids, of proto can be chosen.
func hasBlock(proto packet.Proto) bool {
	return proto == packet.TCP || proto == packet.UDP || proto == packet.ICMP
}

// free reports whether the reply of a connection that leaves with t into zone
// could be entered. A pair in its way that is not alive is deleted.
func (r *run) free(key FlowKey, zone Zone, t packet.Tuple) bool {
	reply := FlowKey{Zone: zone, Tuple: t.Reversed()}
	if reply == key {
		return false
	}
	e, peer := r.st.pair(reply)
	if e == nil {
		return true
	}
	if alive(e, peer, &r.ix.Set.Timeouts, r.now) {
		return false
	}
	r.st.remove(e, peer)
	return true
}
