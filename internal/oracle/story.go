package oracle

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
)

// Event is one thing that happens on a node. The zero Event is that nothing
// does.
type Event struct {
	Packet  *Packet         // comes in
	Changes []intent.Change // of the tree; what is invalid, or changes nothing, is none
	Health  []Member        // a monitor finds these, and only these, down; valid iff Monitor
	Monitor bool
	Ticks   Tick // pass
	Sweep   bool // the agent sweeps
}

// Story tells what happens next, as who knows the past: packets of connections
// old and new, in both directions, at the edges of what a tree says, and from
// time to time changes of the tree.
type Story struct {
	*rand.Rand
	size    Size
	edges   *Edges
	of      *Oracle                  // whose edges these are
	deleted map[string]intent.Object // that may come back
	ports   []uint16                 // source ports, few so that they meet
	clients []netip.Addr             // sources from outside, likewise
	burst   int                      // fragments of one datagram that are still to come
}

// NewStory returns a story over trees of RandomTree with a Size. The same state
// of r, and the same past, give the same story.
func NewStory(r *rand.Rand, size Size) *Story {
	return &Story{
		Rand: r, size: size, deleted: map[string]intent.Object{},
		ports:   []uint16{40000, 40001, 40002, 1023, 1024, 65535, 80},
		clients: []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("203.0.113.1")},
	}
}

// Next returns what happens next to a node whose tree is o's and whose past is
// m.
func (s *Story) Next(o *Oracle, m *Past) Event {
	if s.of != o {
		s.of, s.edges = o, EdgesOf(o.tree)
	}
	if n := len(m.held); n > 0 && s.burst > 0 {
		s.burst--
		return Event{Packet: s.more(m.held[n-1])}
	}
	if s.IntN(300) == 0 {
		s.burst = 2 * places
	}
	switch n := s.IntN(100); {
	case n < 5:
		return Event{Ticks: one[Tick](s.Rand, 1, 1, 2, 3, 9, 10, 11, 18, 19, 20, 27, 28, 29, 30, 55, 56, 57, 112, 113, 279, 280, 281, 40234, 40235)}
	case n < 7:
		return Event{Sweep: true}
	case n < 10:
		if c := s.conn(o, m); c != nil && c.choice != nil && s.IntN(2) == 0 {
			return Event{Changes: s.rearranged(o.tree, c.choice)}
		}
		return Event{Changes: s.changes(o.tree)}
	case n < 13 && s.size.Servers > 0:
		return Event{Monitor: true, Health: s.health(o)}
	case n < 40 || len(m.conns) == 0:
		return Event{Packet: s.first(o, m)}
	case n < 42 && len(o.monitors()) > 0:
		return Event{Packet: s.ask(o)}
	case n < 46:
		return Event{Packet: s.late(o, m)}
	case n < 52:
		return Event{Packet: s.tell(o, m)}
	}
	return Event{Packet: s.next(o, m)}
}

// conn returns a connection, mostly one of the last, and one of a virtual
// server, whose ports work; nil if there is none.
func (s *Story) conn(o *Oracle, m *Past) *conn {
	var c *conn
	for range 4 {
		n := len(m.conns)
		if n == 0 {
			return nil
		}
		c = m.conns[n-1-s.IntN(min(n, one(s.Rand, 2, 8, 8, n)))]
		if (c.choice != nil || s.IntN(2) == 0) && o.hasDevice(c.entrance) && o.hasDevice(c.ways[0].to) {
			break
		}
	}
	return c
}

// first is a packet that means to begin something, mostly one that comes
// through.
func (s *Story) first(o *Oracle, m *Past) *Packet {
	var p Packet
	for range 6 {
		p = s.attempt(o, m)
		if s.IntN(5) == 0 || o.Judge(p).Disposition == Delivered {
			break
		}
	}
	p.Flags = packet.SYN
	if s.IntN(8) == 0 {
		p.Flags = s.flags()
	}
	s.shape(o, &p, "")
	return &p
}

// attempt is a first packet of which nobody knows what becomes. Half of them
// are for virtual servers, some of those from who was at one before.
func (s *Story) attempt(o *Oracle, m *Past) Packet {
	p := RandomPacket(s.Rand, s.edges)
	if s.IntN(4) > 0 {
		p.TTL = 64
	}
	if s.IntN(10) < 9 && p.Proto != protoICMP {
		p.SrcPort = one(s.Rand, s.ports...)
	}
	if _, up := intent.Find[*intent.Tier0Interface](o.tree, p.Port); up && s.IntN(3) > 0 {
		p.Src = one(s.Rand, s.clients...)
	}
	if servers := every[*intent.LBVirtualServer](o.tree, "LBVirtualServer"); len(servers) > 0 && s.IntN(2) == 0 {
		v := one(s.Rand, servers...)
		p.Dst, p.ToGateway = v.Address(), true
		if c := s.conn(o, m); c != nil && c.choice != nil && s.IntN(3) == 0 {
			p.Port, p.Src = c.entrance, c.tuples[0].Src
		}
		if m := one(s.Rand, o.tree.LBMatches(v)...); s.IntN(8) > 0 {
			p.Proto, p.ICMPType, p.ICMPCode = m.Proto, 0, 0
			p.SrcPort, p.DstPort = one(s.Rand, s.ports...), one(s.Rand, m.First, m.First, m.Last, m.First-1, m.Last+1)
		}
	}
	return p
}

// ask is a monitor that connects to a member of some pool.
func (s *Story) ask(o *Oracle) *Packet {
	p := &Packet{
		Port: one(s.Rand, o.monitors()...).port.Path, Src: netip.MustParseAddr(monitorAddress), Dst: one(s.Rand, s.edges.addresses...),
		Proto: protoTCP, Flags: packet.SYN, TTL: 64, SrcPort: one(s.Rand, s.ports...), DstPort: one(s.Rand, s.edges.ports...), ToGateway: true,
	}
	if all := o.membersOf(one(s.Rand, every[*intent.LBPool](o.tree, "LBPool")...)); len(all) > 0 {
		m := one(s.Rand, all...)
		p.Dst, p.DstPort = m.Addr, max(m.Port, 1)
	}
	return p
}

func (s *Story) flags() packet.Flags {
	return one(s.Rand, packet.SYN, packet.ACK, packet.SYN|packet.ACK, packet.FIN|packet.ACK, packet.RST, packet.RST|packet.ACK, packet.PSH|packet.ACK, packet.FIN)
}

// shape gives the packet a length, and sometimes makes it a first fragment or
// a frame that is wrong. to is where it goes; empty: not known.
func (s *Story) shape(o *Oracle, p *Packet, to string) {
	p.ID = uint16(s.IntN(4))
	if mtu := o.mtu(to); s.IntN(8) == 0 {
		p.Size = one(s.Rand, mtu, mtu+1, 576, 577, 1500, 1501)
	}
	switch s.IntN(40) {
	case 0, 1, 2:
		p.More = true
	case 3:
		p.Astray = !p.ToGateway
	case 4:
		p.Forged = true
	case 5:
		p.ToGateway = !p.ToGateway
	}
}

// next is a packet of a connection.
func (s *Story) next(o *Oracle, m *Past) *Packet {
	c, dir := s.conn(o, m), s.IntN(2)
	if p := s.awaited(o, m); p != nil && s.IntN(3) == 0 {
		return p
	}
	p := s.along(o, c, dir)
	p.Flags = s.flags()
	if s.IntN(3) > 0 {
		switch {
		case dir == 1 && c.state == begun:
			p.Flags = packet.SYN | packet.ACK
		case c.state == closing && dir == 0:
			p.Flags = one(s.Rand, packet.SYN, packet.ACK)
		case s.IntN(4) > 0:
			p.Flags = packet.ACK
		}
	}
	s.shape(o, p, c.ways[dir].to)
	return p
}

// awaited is the first fragment of a datagram of which others wait; nil: none
// do.
func (s *Story) awaited(o *Oracle, m *Past) *Packet {
	if len(m.held) == 0 {
		return nil
	}
	w := m.held[len(m.held)-1]
	for _, c := range m.conns {
		for dir, t := range c.tuples {
			if c.zones[dir] == w.zone && t.Src == w.datagramKey.src && t.Dst == w.dst && uint8(t.Proto) == w.proto {
				p := s.along(o, c, dir)
				p.ID, p.More, p.Flags = w.id, true, packet.ACK
				return p
			}
		}
	}
	return nil
}

// along is a packet that goes one direction of a connection, sometimes with a
// TTL near its hops.
func (s *Story) along(o *Oracle, c *conn, dir int) *Packet {
	p := Packet{}.of(c.tuples[dir])
	p.Port, p.TTL = s.entrance(o, c.zones[dir]), 64
	if dir == 0 && s.IntN(8) > 0 {
		p.Port = c.entrance
	}
	p.ToGateway = c.ways[0].hops > 0
	if s.IntN(6) == 0 {
		p.TTL = max(1, c.ways[dir].hops+s.IntN(3)-1)
	}
	return &p
}

// entrance returns a port or interface of a zone.
func (s *Story) entrance(o *Oracle, zone string) string {
	if _, ok := intent.Find[*intent.Tier0](o.tree, zone); !ok {
		return zone
	}
	if list := o.interfacesOf(zone); len(list) > 0 {
		return one(s.Rand, list...).Path
	}
	return zone
}

// late is a later fragment, of a datagram that began, or one that has not yet.
func (s *Story) late(o *Oracle, m *Past) *Packet {
	c, dir := s.conn(o, m), s.IntN(2)
	p := s.along(o, c, dir)
	p.ID, p.Offset, p.More = uint16(s.IntN(4)), uint16(one(s.Rand, 1, 2, 3, 64)), s.IntN(2) == 0
	if len(m.fragments) > 0 && s.IntN(2) == 0 {
		d := one(s.Rand, m.fragments...)
		if c, dir := m.find(d.zone, packet.Tuple{Src: d.src, Dst: d.dst, Proto: packet.Proto(d.proto), SrcPort: d.sport, DstPort: d.dport}); c != nil {
			q := s.along(o, c, dir)
			q.ID, q.Offset, q.More = d.id, p.Offset, p.More
			p = q
		}
	}
	if n := len(m.held); n > 0 && s.IntN(3) > 0 {
		return s.more(m.held[n-1])
	}
	p.SrcPort, p.DstPort, p.ICMPType = 0, 0, 0
	p.Size = one(s.Rand, 0, 28, 577, 1501, 2034, 2035)
	return p
}

// more is another fragment of a datagram that waits.
func (s *Story) more(w waiting) *Packet {
	p := w.p
	p.Offset, p.More = uint16(2+s.IntN(64)), s.IntN(2) == 0
	return &p
}

// tell is an ICMP error about a connection, from its other end or from a
// router on the way.
func (s *Story) tell(o *Oracle, m *Past) *Packet {
	c, dir := s.conn(o, m), s.IntN(2)
	p := s.along(o, c, dir)
	p.Quote = c.tuples[dir].Reversed()
	p.Proto, p.SrcPort, p.DstPort = protoICMP, 0, 0
	p.ICMPType, p.ICMPCode = one[uint8](s.Rand, 3, 3, 11, 12), uint8(s.IntN(5))
	p.Cut = s.IntN(12) == 0
	switch s.IntN(8) {
	case 0:
		if p.Quote.Proto.HasPorts() {
			p.Quote.DstPort++
		}
	case 1:
		p.Src = one(s.Rand, s.edges.addresses...)
	case 2:
		p.Src = one(s.Rand, s.clients...)
	case 3:
		p.Dst = one(s.Rand, s.edges.addresses...)
	}
	return p
}

// health returns the members that are down from now on.
func (s *Story) health(o *Oracle) []Member {
	var out []Member
	for _, p := range every[*intent.LBPool](o.tree, "LBPool") {
		for _, m := range o.membersOf(p) {
			if s.IntN(4) == 0 {
				out = append(out, m.Member)
			}
		}
	}
	return out
}

// rearranged changes what a connection depends on: its virtual server or pool,
// or moves the server's address and ports to another of the same pool.
func (s *Story) rearranged(t *intent.Tree, c *choice) []intent.Change {
	server, ok := intent.Find[*intent.LBVirtualServer](t, c.server)
	pool, some := intent.Find[*intent.LBPool](t, c.member.Pool)
	switch {
	case !ok || !some:
		return s.changes(t)
	case s.IntN(4) > 0:
		return s.edited(one[intent.Object](s.Rand, server, pool, pool))
	}
	n := *server
	return []intent.Change{intent.Delete(server.Path), intent.Put(one(s.Rand, lbServers+"moved", lbServers+"again"), &n)}
}

// changes returns a change of the tree, or a few at once.
func (s *Story) changes(t *intent.Tree) []intent.Change {
	var out []intent.Change
	for range one(s.Rand, 1, 1, 1, 3) {
		out = append(out, s.change(t)...)
	}
	return out
}

// change changes, deletes or brings back an object, or makes one anew.
func (s *Story) change(t *intent.Tree) []intent.Change {
	var all []intent.Object
	for _, o := range t.All() {
		if s.touches(o) {
			all = append(all, o)
		}
	}
	back := make([]string, 0, len(s.deleted))
	for path := range s.deleted {
		back = append(back, path)
	}
	slices.Sort(back)
	switch n := s.IntN(10); {
	case n < 2 && len(back) > 0:
		path := one(s.Rand, back...)
		o := s.deleted[path]
		delete(s.deleted, path)
		return []intent.Change{{Path: path, Object: o}}
	case n < 4 && len(all) > 0:
		o := one(s.Rand, all...)
		s.deleted[o.Meta().Path] = o
		return []intent.Change{intent.Delete(o.Meta().Path)}
	case n < 7 || len(all) == 0:
		return s.anew(t)
	}
	return s.edited(one(s.Rand, all...))
}

// touches reports whether a story changes such objects. Ports and segments stay
// often enough for connections to live.
func (s *Story) touches(o intent.Object) bool {
	if o.Meta().Path == intent.DefaultRulePath || o.Meta().Path == intent.DefaultPolicyPath {
		return false
	}
	switch o.(type) {
	case *intent.Rule, *intent.SecurityPolicy, *intent.GatewayPolicy, *intent.PolicyNatRule, *intent.StaticRoutes,
		*intent.LBVirtualServer, *intent.LBPool, *intent.LBService, *intent.Group, *intent.PolicyExcludeList,
		*intent.LBSourceIpPersistenceProfile, *intent.PolicyFirewallSessionTimerProfile:
		return true
	case *intent.Tier1, *intent.SegmentPort, *intent.Tier0Interface:
		return s.IntN(3) == 0
	}
	return false
}

// anew makes what the tree has of a kind once more.
func (s *Story) anew(t *intent.Tree) []intent.Change {
	b := &builder{Rand: s.Rand, t: t, size: s.size, whole: true, macs: 1 << 15}
	for _, g := range every[*intent.Group](t, "Group") {
		b.groups = append(b.groups, g.Path)
	}
	kinds := []func(){
		func() { b.group(s.IntN(s.size.Groups)) },
		func() { b.policy(s.IntN(s.size.Policies)) },
		func() { b.nat(provider, "172.30.0", "10.0") },
		func() {
			i := s.IntN(s.size.Tier1s)
			b.nat(b.text("/infra/tier-1s/t%d", i), b.text("10.222.%d", i), "10.0")
		},
		b.timers,
		func() {
			b.put(intent.DefaultRulePath, &intent.Rule{RuleID: 2, Action: one(s.Rand, "ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"), IsDefault: true})
		},
	}
	if s.size.Servers > 0 {
		pools, servers := func() { b.pool(s.IntN(s.size.Pools)) }, func() { b.server(s.IntN(s.size.Servers)) }
		kinds = append(kinds, func() { b.gatewayPolicy(s.IntN(s.size.Gateway)) }, pools, pools, pools, servers, servers)
	}
	one(s.Rand, kinds...)()
	return b.later
}

// edited returns an object with another value of a field.
func (s *Story) edited(o intent.Object) []intent.Change {
	path := o.Meta().Path
	b := &builder{Rand: s.Rand}
	switch v := o.(type) {
	case *intent.Rule:
		n := *v
		n.Disabled, n.Action = s.IntN(4) == 0, one(s.Rand, "ALLOW", "DROP", "REJECT")
		return []intent.Change{intent.Put(path, &n)}
	case *intent.PolicyNatRule:
		n, on := *v, s.IntN(2) == 0
		n.Enabled = &on
		return []intent.Change{intent.Put(path, &n)}
	case *intent.SegmentPort:
		n := *v
		n.AdminState = one(s.Rand, "UP", "UP", "DOWN")
		n.AddressBindings = slices.Clone(v.AddressBindings)
		if s.IntN(2) == 0 {
			n.AddressBindings[0].MACAddress = b.text("02:00:00:01:%02x:%02x", s.IntN(256), s.IntN(256))
		}
		return []intent.Change{intent.Put(path, &n)}
	case *intent.Tier1:
		n := *v
		n.RouteAdvertisementTypes = some(s.Rand, "TIER1_CONNECTED", "TIER1_NAT", "TIER1_LB_VIP", "TIER1_CONNECTED", "TIER1_NAT", "TIER1_LB_VIP", "TIER1_LB_SNAT", "TIER1_STATIC_ROUTES")
		return []intent.Change{intent.Put(path, &n)}
	case *intent.Tier0Interface:
		n := *v
		n.MTU = one(s.Rand, 0, 576, 1500)
		return []intent.Change{intent.Put(path, &n)}
	case *intent.LBVirtualServer:
		n := *v
		on := s.IntN(4) > 0
		n.Enabled, n.MaxConcurrentConnections = &on, int64(one(s.Rand, 0, 0, 1, 2))
		return []intent.Change{intent.Put(path, &n)}
	case *intent.LBPool:
		n := *v
		n.Members = slices.Clone(v.Members)
		for i := range n.Members {
			if s.IntN(2) == 0 {
				n.Members[i].AdminState = b.adminState()
			}
		}
		return []intent.Change{intent.Put(path, &n)}
	case *intent.LBSourceIpPersistenceProfile:
		n := *v
		n.Timeout, n.PersistenceShared = int64(one(s.Rand, 0, 10, 3600)), s.IntN(2) == 0
		return []intent.Change{intent.Put(path, &n)}
	}
	return nil
}
