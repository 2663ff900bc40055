package oracle

import "github.com/weft-net/weft/packet"

// connect is a packet of no known connection.
func (h *hearing) connect() {
	p := h.p
	switch {
	case p.Proto == protoTCP && p.Flags&packet.RST != 0:
		h.drop("tcp_state")
		return
	case p.Proto == protoICMP && p.ICMPType == packet.ICMPEchoReply:
		h.drop("no_connection")
		return
	}
	w := &walk{o: h.o, past: h.Past, now: h.now, sent: p, at: p, original: p.tuple(), limited: true}
	w.run(p.Port, &h.dst)
	h.v = w.v
	if w.v.Disposition != Delivered {
		return
	}
	if mtu := h.o.mtu(w.way.to); mtu > 0 && h.p.length() > mtu {
		h.tooBig(mtu, w.in)
		return
	}
	c := &conn{
		tuples: [2]packet.Tuple{p.tuple(), w.at.tuple().Reversed()}, zones: [2]string{h.zone, w.way.zone},
		seen: [2]Tick{h.now, h.now}, entrance: p.Port, sources: w.sources, choice: w.choice,
	}
	if p.Proto == protoTCP && p.Flags&(packet.SYN|packet.ACK) != packet.SYN {
		if w.strict {
			h.drop("tcp_state")
			return
		}
		c.state = established
	}
	if reason := h.reserve(c, w); reason != "" {
		h.drop(reason)
		return
	}
	h.learn(&c.ways[0], w.way, way{routed: p.ToGateway, src: h.src})
	h.conns = append(h.conns, c)
	if c.choice != nil {
		h.commit(c.choice)
	}
	h.v.New = true
	h.apply(c, 0)
}

// Ports that translated sources may have, and how many are tried. Source:
// docs/pipeline.md, "Flow" and "Bounds".
const (
	firstPort = 1024
	lastPort  = 65535
	tries     = 64
)

// reserve finds the source port by which the reply is told apart, or says why
// there is none.
func (h *hearing) reserve(c *conn, w *walk) (reason string) {
	t := w.at.tuple()
	ported := t.Proto == packet.TCP || t.Proto == packet.UDP || t.Proto == packet.ICMP
	switch {
	case w.block && ported:
		if t.SrcPort >= firstPort && h.free(c, t) {
			return ""
		}
		const n = lastPort - firstPort + 1
		for i := range uint32(tries) {
			t.SrcPort = uint16(firstPort + (hashTuple(w.original)+i)%n)
			if h.free(c, t) {
				return ""
			}
		}
		return "snat_exhausted"
	case h.free(c, t):
		return ""
	case w.exact:
		return "snat_exhausted"
	}
	return "tuple_in_use"
}

// free makes t what the connection leaves with, unless its reply means another
// one that is alive.
func (h *hearing) free(c *conn, t packet.Tuple) bool {
	c.tuples[1] = t.Reversed()
	if c.zones[0] == c.zones[1] && c.tuples[0] == c.tuples[1] {
		return false
	}
	other, _ := h.known(c.zones[1], c.tuples[1])
	return other == nil
}
