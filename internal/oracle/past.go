package oracle

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
)

// Tick is monotonic time in units of 2³⁰ ns.
type Tick uint32

// ticks returns a timeout of n seconds, rounded up.
func ticks(n int64) Tick { return Tick((n*1e9 + 1<<30 - 1) >> 30) }

// Past is what packets so far left behind: connections, fragments, and what
// virtual servers remember. It is a list of facts, searched from its start.
type Past struct {
	conns     []*conn
	fragments []datagram
	held      []waiting
	loads     map[string]int      // open connections by virtual server and by member
	fails     map[Member]int      // of connections in a row
	turns     map[string]uint32   // by pool
	clients   map[client]*loyalty // of persistence
}

// NewPast returns that of a node on which nothing was sent yet.
func NewPast() *Past {
	return &Past{loads: map[string]int{}, fails: map[Member]int{}, turns: map[string]uint32{}, clients: map[client]*loyalty{}}
}

// state is how far a connection came.
type state int

const (
	begun state = iota // New
	replied
	established
	closing
)

// conn is one connection. Index 0 is the original direction, 1 the reply's.
type conn struct {
	tuples   [2]packet.Tuple // as packets of the direction come in
	zones    [2]string       // where: a port, or a Tier-0
	state    state
	seen     [2]Tick
	closed   Tick // when it became closing; valid iff it is
	ways     [2]way
	entrance string       // the port or interface that the original last came in by
	sources  []netip.Addr // of the original before each translation
	choice   *choice      // of the virtual server that took it; nil: none did
}

// way is where packets of one direction go, and how their frames come in.
type way struct {
	gen    uint32 // 0: not known yet
	routed bool
	src    intent.MAC // of their frames
	hops   int
	to     string // port or interface
	zone   string // of replies
	mac    intent.MAC
	next   netip.Addr // by an interface; invalid: the destination itself
}

// timeout returns how long a connection lives without packets.
func (o *Oracle) timeout(c *conn) Tick {
	var timers intent.PolicyFirewallSessionTimerProfile
	if p, ok := intent.Find[*intent.PolicyFirewallSessionTimerProfile](o.tree, intent.DefaultTimersPath); ok {
		timers = *p
	}
	opening := cmp.Or(timers.TCPOpening, 120)
	switch c.tuples[0].Proto {
	case packet.TCP:
		return ticks([]int64{opening, opening, cmp.Or(timers.TCPEstablished, 43200), cmp.Or(timers.TCPClosing, 120)}[c.state])
	case packet.UDP:
		if c.state == begun {
			return ticks(cmp.Or(timers.UDPSingle, 30))
		}
		return ticks(cmp.Or(timers.UDPMultiple, 60))
	case packet.ICMP:
		return ticks(cmp.Or(timers.ICMPFirstPacket, 20))
	}
	return ticks(60)
}

// alive: half a connection keeps both.
func (o *Oracle) alive(c *conn, now Tick) bool {
	return now-c.seen[0] <= o.timeout(c) || now-c.seen[1] <= o.timeout(c)
}

// find returns the connection that packets of a tuple belong to in a zone, and
// their direction.
func (m *Past) find(zone string, t packet.Tuple) (*conn, int) {
	for _, c := range m.conns {
		for dir := range 2 {
			if c.zones[dir] == zone && c.tuples[dir] == t {
				return c, dir
			}
		}
	}
	return nil, 0
}

// forget deletes a connection.
func (m *Past) forget(o *Oracle, c *conn, now Tick) {
	m.conns = slices.DeleteFunc(m.conns, func(other *conn) bool { return other == c })
	if c.choice != nil && c.state != closing {
		m.count(c.choice, -1)
	}
	if c.choice != nil && c.state == begun && c.tuples[0].Proto == packet.TCP && !o.alive(c, now) {
		m.fails[c.choice.member]++
	}
}

// hearing is one packet before the oracle.
type hearing struct {
	*Past
	o        *Oracle
	p        Packet
	gen      uint32
	now      Tick
	zone     string
	src, dst intent.MAC
	v        Verdict
}

// Judge returns what becomes of p, and remembers what it leaves behind. gen is
// the number of o's tree, not 0: each other tree has another one. now never goes
// back.
func (m *Past) Judge(o *Oracle, p Packet, gen uint32, now Tick) Verdict {
	h := &hearing{Past: m, o: o, p: p, gen: gen, now: now, zone: p.Port}
	h.src, h.dst = o.MACs(p)
	h.begin()
	// Nobody is told of a fragment, an error or a reset.
	if p.later() || p.tells() || p.Proto == protoTCP && p.Flags&packet.RST != 0 {
		h.v.Answer, h.v.AnswerFrom = "", netip.Addr{}
	}
	return h.v
}

// drop ends the packet before its walk, or after it.
func (h *hearing) drop(reason string) {
	h.v.Disposition, h.v.Reason, h.v.To = Dropped, reason, ""
	if !h.v.SrcSeen.IsValid() {
		h.v.SrcSeen, h.v.DstSeen, h.v.DstPortSeen = h.p.Src, h.p.Dst, h.p.DstPort
	}
}

// begin is the packet's entry.
func (h *hearing) begin() {
	if !h.o.hasDevice(h.p.Port) {
		h.drop("no_port")
		return
	}
	if reason := unsound(h.p); reason != "" {
		h.drop(reason)
		return
	}
	if port, ok := h.o.portAt(h.p.Port); ok {
		if !h.o.owns(port, h.p.Src) || h.p.Forged {
			h.drop("spoofguard")
			return
		}
	} else {
		h.zone = intent.RouterOf(h.p.Port)
		h.p.ToGateway, h.src, h.dst = true, intent.MAC{}, intent.MAC{}
	}
	switch {
	case h.p.later():
		h.fragment()
	case h.p.tells():
		h.tell()
	default:
		h.whole()
	}
}

// known returns the connection of a tuple, and forgets it if it is over.
func (h *hearing) known(zone string, t packet.Tuple) (*conn, int) {
	c, dir := h.find(zone, t)
	if c != nil && !h.o.alive(c, h.now) {
		h.forget(h.o, c, h.now)
		return nil, 0
	}
	return c, dir
}

// whole is a packet that is no later fragment and no error.
func (h *hearing) whole() {
	c, dir := h.known(h.zone, h.p.tuple())
	if c != nil && h.reopens(c) {
		h.forget(h.o, c, h.now)
		c = nil
	}
	if c == nil {
		h.connect()
		return
	}
	switch h.follow(c, dir) {
	case holds:
		h.track(c, dir)
		h.apply(c, dir)
	case gone:
		h.connect()
	}
}

// reopens: a SYN uses the tuple of a connection that is over (RFC 9293 §3.6.1).
func (h *hearing) reopens(c *conn) bool {
	return h.p.Proto == protoTCP && c.state == closing && h.p.Flags&(packet.SYN|packet.ACK|packet.RST) == packet.SYN
}

// fate is what becomes of a packet of a known connection.
type fate int

const (
	holds  fate = iota // it goes the connection's way
	gone               // the connection is not what it was, and forgotten
	judged             // the verdict is there
)

// follow makes sure that the connection's way is still good for this packet.
func (h *hearing) follow(c *conn, dir int) fate {
	if c.ways[0].gen != h.gen || dir == 0 && h.differs(c.ways[0]) {
		if f := h.walkAgain(c, dir); f != holds {
			return f
		}
	}
	if dir == 1 && (c.ways[1].gen != h.gen || h.differs(c.ways[1])) && !h.walkBack(c) {
		return judged
	}
	if mtu := h.o.mtu(c.ways[dir].to); mtu > 0 && h.p.length() > mtu && !h.p.tells() {
		w := h.retrace(c, dir)
		if w.run(h.p.Port, nil); w.v.Disposition == Delivered {
			h.tooBig(mtu, w.in)
		} else {
			h.end(w, true)
		}
		return judged
	}
	if c.ways[dir].hops > 0 && h.p.TTL <= c.ways[dir].hops {
		w := h.retrace(c, dir)
		w.limited = true
		w.run(h.p.Port, nil)
		h.end(w, true)
		return judged
	}
	return holds
}

// differs: the frame came in another way than those before.
func (h *hearing) differs(w way) bool {
	return w.routed != h.p.ToGateway || w.src != h.src || !w.routed && w.hops == 0 && w.mac != h.dst
}

// retrace returns a walk of one direction as the packet goes.
func (h *hearing) retrace(c *conn, dir int) *walk {
	w := &walk{o: h.o, past: h.Past, now: h.now, conn: c, original: c.tuples[0], mode: []mode{again, back}[dir]}
	w.sent = h.p.of(c.tuples[dir])
	w.at = w.sent
	return w
}

// walkAgain walks the original direction, for a packet of direction dir.
func (h *hearing) walkAgain(c *conn, dir int) fate {
	w := h.retrace(c, 0)
	entrance, mac := c.entrance, (*intent.MAC)(nil)
	if dir == 0 {
		entrance, mac = h.p.Port, &h.dst
	} else {
		w.sent.ToGateway = c.ways[0].routed
		w.at = w.sent
	}
	w.run(entrance, mac)
	if w.v.Disposition != Delivered && !w.gone {
		h.end(w, dir == 0)
		return judged
	}
	leaves := w.at.tuple()
	if w.gone || !c.choice.same(w.choice) || leaves.Src != c.tuples[1].Dst || leaves.Dst != c.tuples[1].Src || leaves.DstPort != c.tuples[1].SrcPort || w.way.zone != c.zones[1] {
		if dir == 0 {
			h.forget(h.o, c, h.now)
			return gone
		}
		h.drop("stale_connection")
		return judged
	}
	frame := way{routed: c.ways[0].routed, src: c.ways[0].src}
	if dir == 0 {
		frame = way{routed: h.p.ToGateway, src: h.src}
		c.entrance = h.p.Port
	}
	c.sources = w.sources
	h.learn(&c.ways[0], w.way, frame)
	return holds
}

// walkBack walks the reply direction; false: the verdict is there.
func (h *hearing) walkBack(c *conn) bool {
	w := h.retrace(c, 1)
	w.run(h.p.Port, &h.dst)
	switch {
	case w.v.Disposition != Delivered:
		h.end(w, true)
		return false
	case w.way.zone != c.zones[0], w.at.Dst != c.tuples[0].Src:
		h.drop("no_route")
		return false
	}
	h.learn(&c.ways[1], w.way, way{routed: h.p.ToGateway, src: h.src})
	return true
}

// learn makes the end of a walk the way of a direction.
func (h *hearing) learn(w *way, end, frame way) {
	*w = end
	w.gen, w.routed, w.src = h.gen, frame.routed, frame.src
}

// end takes a walk's drop over. An answer is sent from where the packet was
// sent to. heard: the sender hears all answers, else only that of a REJECT.
func (h *hearing) end(w *walk, heard bool) {
	h.v = w.v
	switch {
	case w.v.Answer == "rst" || w.v.Answer == "icmp 3/13":
		h.v.AnswerFrom = h.p.Dst
	case !heard:
		h.v.Answer, h.v.AnswerFrom = "", netip.Addr{}
	}
}

// tooBig ends a packet that an interface does not take.
func (h *hearing) tooBig(mtu int, from netip.Addr) {
	h.drop("too_big")
	h.v.Answer, h.v.AnswerFrom = fmt.Sprintf("icmp 3/4 mtu %d", mtu), from
}

// mtu returns the largest IP packet that an interface takes; 0: any.
func (o *Oracle) mtu(path string) int {
	if i, ok := intent.Find[*intent.Tier0Interface](o.tree, path); ok {
		return i.MTU
	}
	return 0
}

// track is what a packet does to the connection's state.
func (h *hearing) track(c *conn, dir int) {
	before := c.state
	tcp, flags := h.p.Proto == protoTCP, h.p.Flags
	switch {
	case !tcp && dir == 1 && before == begun:
		c.state = established
	case !tcp:
	case flags&(packet.RST|packet.FIN) != 0:
		c.state = closing
	case dir == 1 && before == begun && flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK:
		c.state = replied
	case dir == 0 && before == replied && flags&(packet.SYN|packet.ACK) == packet.ACK:
		c.state = established
	}
	c.seen[dir] = h.now
	if c.state == closing && before != closing {
		c.closed = h.now
	}
	if c.choice == nil {
		return
	}
	if c.state == closing && before != closing {
		h.count(c.choice, -1)
	}
	switch {
	case tcp && dir == 1 && before == begun && flags&(packet.RST|packet.ACK) == packet.RST|packet.ACK:
		h.fails[c.choice.member]++
	case c.state == replied && before != replied:
		h.fails[c.choice.member] = 0
	}
}

// apply sends the packet the way of its direction.
func (h *hearing) apply(c *conn, dir int) {
	h.send(c.ways[dir], c.tuples[1-dir].Reversed(), c)
	if h.p.More && !h.p.later() {
		h.firstFragment(c, dir)
	}
}

// send is the packet as it leaves.
func (h *hearing) send(w way, t packet.Tuple, c *conn) {
	h.v.Disposition, h.v.To, h.v.Seen, h.v.NextHop = Delivered, w.to, t, w.next
	h.v.SrcSeen, h.v.DstSeen, h.v.DstPortSeen, h.v.TTL = t.Src, t.Dst, t.DstPort, h.p.TTL-w.hops
	if w.mac != (intent.MAC{}) {
		h.v.DstMAC, h.v.SrcMAC = w.mac, h.src
		if w.hops > 0 {
			h.v.SrcMAC = routerMAC
		}
	}
	if c.choice != nil {
		h.v.Server, h.v.Member, h.v.Why = c.choice.server, c.choice.member, c.choice.why
	}
}

// Sweep forgets what is over, and what it knows of pools and members that are
// none any more.
func (m *Past) Sweep(o *Oracle, now Tick) {
	for _, c := range slices.Clone(m.conns) {
		if !o.alive(c, now) {
			m.forget(o, c, now)
		}
	}
	m.recount()
	for path := range m.turns {
		if o.tree.Get(path) == nil {
			delete(m.turns, path)
		}
	}
	for member := range m.fails {
		pool, _ := intent.Find[*intent.LBPool](o.tree, member.Pool)
		if !slices.ContainsFunc(o.membersOf(pool), func(p poolMember) bool { return p.Member == member }) {
			delete(m.fails, member)
		}
	}
	m.fragments = slices.DeleteFunc(m.fragments, func(d datagram) bool { return now-d.seen > fragmentAge })
	m.held = slices.DeleteFunc(m.held, func(w waiting) bool { return now-w.seen > holdAge })
}

// stillClosing is how long a connection that is over goes on at most.
const stillClosing Tick = 2

// recount sets what virtual servers and members have open to what is to be
// seen. A connection that goes on long after it was closed was not closed: one
// side made that up.
func (m *Past) recount() {
	clear(m.loads)
	for _, c := range m.conns {
		if c.choice != nil && (c.state != closing || c.goesOn()) {
			m.count(c.choice, 1)
		}
	}
}

// goesOn reports whether a packet came long after the connection was closed.
func (c *conn) goesOn() bool {
	return c.seen[0] > c.closed+stillClosing || c.seen[1] > c.closed+stillClosing
}

// Open returns the open connections of a virtual server.
func (m *Past) Open(server string) int { return m.loads[server] }

// OpenAt returns the open connections of a member, and how many failed since
// one did not.
func (m *Past) OpenAt(member Member) (open, failed int) {
	return m.loads[member.load()], m.fails[member]
}

// Connections returns how many connections are remembered, whether alive or not.
func (m *Past) Connections() int { return len(m.conns) }
