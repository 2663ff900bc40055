package oracle

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
)

// datagram is one whose first fragment was forwarded.
type datagram struct {
	datagramKey
	sport, dport uint16
	seen         Tick
}

// datagramKey tells datagrams apart.
type datagramKey struct {
	zone     string
	src, dst netip.Addr
	proto    uint8
	id       uint16
}

// waiting is a fragment that waits for its first one, at place n of its
// datagram.
type waiting struct {
	datagramKey
	n    int
	p    Packet
	src  intent.MAC
	seen Tick
}

// Source: docs/pipeline.md, "Fragments" and "Bounds".
const (
	places   = 16
	maxWaits = 2048 // bytes of a frame that waits
	ethernet = 14   // bytes of its header
	ipHeader = 20
	maxAge   = 30 // seconds
	maxHolds = 2
)

var fragmentAge, holdAge = ticks(maxAge), ticks(maxHolds)

func (h *hearing) datagram() datagramKey {
	return datagramKey{h.zone, h.p.Src, h.p.Dst, h.p.Proto, h.p.ID}
}

// fragment is a later fragment: it goes with its first one, or waits for it.
func (h *hearing) fragment() {
	for _, d := range h.fragments {
		if d.datagramKey == h.datagram() && h.now-d.seen <= fragmentAge {
			h.belongs(d)
			return
		}
	}
	if ethernet+h.p.length() > maxWaits {
		h.drop("fragment")
		return
	}
	for n := range places {
		if !slices.ContainsFunc(h.held, func(w waiting) bool {
			return w.datagramKey == h.datagram() && w.n == n && h.now-w.seen <= holdAge
		}) {
			h.hold(n)
			return
		}
	}
	h.drop("fragment")
}

// hold keeps the packet at place n.
func (h *hearing) hold(n int) {
	key := h.datagram()
	h.held = slices.DeleteFunc(h.held, func(w waiting) bool { return w.datagramKey == key && w.n == n })
	h.held = append(h.held, waiting{key, n, h.p, h.src, h.now})
	h.v.Disposition, h.v.SrcSeen, h.v.DstSeen = Held, h.p.Src, h.p.Dst
}

// belongs finds the connection of a later fragment, whose first one went.
func (h *hearing) belongs(d datagram) {
	t := h.p.tuple()
	t.SrcPort, t.DstPort = d.sport, d.dport
	c, dir := h.known(h.zone, t)
	if c == nil {
		h.drop("fragment")
		return
	}
	switch h.follow(c, dir) {
	case gone:
		h.drop("fragment")
	case holds:
		h.along(c, dir)
	}
}

// along sends a later fragment the way of its connection.
func (h *hearing) along(c *conn, dir int) {
	h.send(c.ways[dir], c.tuples[1-dir].Reversed(), c)
	h.v.Seen.SrcPort, h.v.Seen.DstPort, h.v.DstPortSeen = 0, 0, 0
}

// firstFragment remembers a datagram, and sends what waited for it.
func (h *hearing) firstFragment(c *conn, dir int) {
	key := h.datagram()
	h.fragments = slices.DeleteFunc(h.fragments, func(d datagram) bool { return d.datagramKey == key })
	h.fragments = append(h.fragments, datagram{key, c.tuples[dir].SrcPort, c.tuples[dir].DstPort, h.now})
	var ready []waiting
	for _, w := range h.held {
		if w.datagramKey == key && h.now-w.seen <= holdAge {
			ready = append(ready, w)
		}
	}
	h.held = slices.DeleteFunc(h.held, func(w waiting) bool { return w.datagramKey == key })
	slices.SortFunc(ready, func(a, b waiting) int { return a.n - b.n })
	for _, w := range ready {
		h.v.Released = append(h.v.Released, h.release(c, dir, w.p, w.src))
	}
}

// release sends a fragment that waited the way that its first one went.
func (h *hearing) release(c *conn, dir int, p Packet, src intent.MAC) Verdict {
	late := &hearing{Past: h.Past, o: h.o, p: p, src: src}
	way := c.ways[dir]
	switch mtu := h.o.mtu(way.to); {
	case mtu > 0 && p.length() > mtu:
		late.drop("too_big")
	case way.hops > 0 && p.TTL <= way.hops:
		late.drop("ttl_exceeded")
	default:
		late.along(c, dir)
	}
	return late.v
}

// tell is an ICMP error: it goes to whoever sent what it is about.
func (h *hearing) tell() {
	if h.p.Cut {
		h.drop("icmp_unrelated")
		return
	}
	t := h.p.Quote.Reversed()
	c, dir := h.known(h.zone, t)
	if c == nil {
		h.drop("icmp_unrelated")
		return
	}
	switch h.follow(c, dir) {
	case gone:
		h.drop("icmp_unrelated")
	case holds:
		outer, to := h.p.tuple(), c.tuples[1-dir].Reversed()
		if outer.Src == t.Src {
			outer.Src = to.Src
		}
		outer.Dst = to.Dst
		h.send(c.ways[dir], outer, c)
		h.v.Quote = to.Reversed()
	}
}
