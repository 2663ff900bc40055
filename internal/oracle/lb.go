package oracle

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Member is one member of a pool.
type Member struct {
	Pool string // policy path
	Addr netip.Addr
	Port uint16 // 0: none of its own
}

// choice is what a virtual server did with a connection.
type choice struct {
	server  string
	vip     netip.Addr
	client  netip.Addr // the source that it saw
	member  Member
	why     string // see Verdict.Why
	turn    bool   // the pool's turn was used
	table   string // of persistence; empty: none
	lasting Tick   // of its rows
}

// client is a row of persistence: of a table, who came.
type client struct {
	table string
	addr  netip.Addr
}

// loyalty is where a client stays.
type loyalty struct {
	member Member
	since  Tick
}

// same reports whether both are the same member of the same virtual server, or
// none.
func (c *choice) same(d *choice) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c.server == d.server && c.member == d.member
}

// count changes the open connections of a virtual server and its member.
func (m *Past) count(c *choice, by int) {
	m.loads[c.server] += by
	m.loads[c.member.load()] += by
}

// load names the member among the loads.
func (m Member) load() string { return m.Pool + " " + netip.AddrPortFrom(m.Addr, m.Port).String() }

// commit remembers a choice whose connection was made.
func (h *hearing) commit(c *choice) {
	h.count(c, 1)
	if c.turn {
		h.turns[c.member.Pool]++
	}
	if c.table != "" {
		h.clients[client{c.table, c.client}] = &loyalty{c.member, h.now}
	}
}

// serversOf returns the virtual servers that work at a router, or of a
// distributed load balancer, by path.
func (o *Oracle) serversOf(at string) []*intent.LBVirtualServer {
	list, known := o.servers[at]
	if known {
		return list
	}
	for _, s := range every[*intent.LBService](o.tree, "LBService") {
		if !s.IsEnabled() || s.IsDistributed() && s.Path != at || !s.IsDistributed() && s.ConnectivityPath != at {
			continue
		}
		for _, v := range every[*intent.LBVirtualServer](o.tree, "LBVirtualServer") {
			if v.LBServicePath == s.Path && v.IsEnabled() {
				list = append(list, v)
			}
		}
	}
	o.servers[at] = list
	return list
}

// serverOf returns the virtual server that takes a packet, or nil.
func (o *Oracle) serverOf(at string, p Packet) *intent.LBVirtualServer {
	if p.Proto != protoTCP && p.Proto != protoUDP {
		return nil
	}
	for _, v := range o.serversOf(at) {
		if v.Address() == p.Dst && served(o.tree.LBMatches(v), p) {
			return v
		}
	}
	return nil
}

// vips returns the addresses of the virtual servers at a place.
func (o *Oracle) vips(at string) []netip.Addr {
	var out []netip.Addr
	for _, v := range o.serversOf(at) {
		out = append(out, v.Address())
	}
	return out
}

// snatAddresses returns what the pools of a router's virtual servers translate
// sources to, without VIPs.
func (o *Oracle) snatAddresses(router string) []netip.Addr {
	var out []netip.Addr
	for _, v := range o.serversOf(router) {
		if p, ok := intent.Find[*intent.LBPool](o.tree, v.PoolPath); ok {
			out = append(out, p.SNATAddresses()...)
		}
	}
	return out
}

// distributedFor returns the distributed load balancer that works at a port;
// empty: none. Of several it is the first by path. Written addresses of its
// group do not count, as in Applied To; a monitor's port is in no group.
func (o *Oracle) distributedFor(m member) string {
	if o.isMonitor(m.port) {
		return ""
	}
	for _, s := range every[*intent.LBService](o.tree, "LBService") {
		if s.IsEnabled() && s.IsDistributed() && o.inGroup(s.ConnectivityPath, member{port: m.port}) {
			return s.Path
		}
	}
	return ""
}

// distributed is the distributed load balancer at a port; false: the packet
// ended there.
func (w *walk) distributed(own member) bool {
	lb := w.o.distributedFor(own)
	if lb == "" || !slices.Contains(w.o.vips(lb), w.at.Dst) {
		return true
	}
	if s := w.o.serverOf(lb, w.at); s != nil {
		return w.balance(s, owner(w.o.segmentOf(own.port)), true)
	}
	w.local()
	return false
}

// restoreClient undoes, for a reply, that a distributed load balancer sent a
// client to itself.
func (w *walk) restoreClient(own member) {
	if !slices.Contains(w.o.vips(w.o.distributedFor(own)), w.at.Dst) {
		return
	}
	for i, before := range w.conn.sources {
		after := w.conn.tuples[1].Dst
		if i+1 < len(w.conn.sources) {
			after = w.conn.sources[i+1]
		}
		if after == w.at.Dst {
			w.at.Dst = before
			return
		}
	}
}

// balance sends the packet to a member of a virtual server; false: it was
// dropped. here is the owner whose view of addresses access lists have.
func (w *walk) balance(v *intent.LBVirtualServer, here string, distributed bool) bool {
	if w.choice != nil {
		w.drop("nat_depth")
		return false
	}
	c := &choice{server: v.Path, vip: v.Address(), client: w.at.Src, why: "kept"}
	pool, _ := intent.Find[*intent.LBPool](w.o.tree, v.PoolPath)
	members := w.o.membersOf(pool)
	if a := v.Access(); a != nil && !w.o.side(intent.Peers{Groups: []string{a.GroupPath}}, a.Action == "DROP", w.o.whoIs(w.at.Src, here)) {
		w.reject("lb_access")
		return false
	}
	var m *poolMember
	if w.mode == again {
		if m = w.kept(v, members); m == nil {
			w.gone = true
			w.drop("stale_connection")
		}
	} else {
		m = w.pick(c, v, pool, members)
	}
	if m == nil {
		return false
	}
	c.member = m.Member
	source := w.at.Src
	switch kind := pool.SNATType(); {
	case distributed || kind == "LBSnatDisabled":
		if w.at.Src == m.Addr {
			source = c.vip
		}
	case kind == "LBSnatAutoMap":
		source = c.vip
	default:
		list := pool.SNATAddresses()
		source = list[hash(words(w.at.Src)...)%uint32(len(list))]
	}
	translated := source != w.at.Src || !distributed && pool.SNATType() != "LBSnatDisabled"
	if w.dsts++; w.dsts > maxTranslations {
		w.drop("nat_depth")
		return false
	}
	if translated && !w.translateSource(source) {
		return false
	}
	if translated {
		w.block, w.exact = true, false
	}
	w.choice, w.at.Dst = c, m.Addr
	switch port := v.MemberPort(); {
	case m.Port != 0:
		w.at.DstPort = m.Port
	case port != 0:
		w.at.DstPort = port
	}
	return true
}

// kept returns the member that a known connection stays with, or nil.
func (w *walk) kept(v *intent.LBVirtualServer, members []poolMember) *poolMember {
	if w.conn.choice == nil || w.conn.choice.server != v.Path {
		return nil
	}
	for i, m := range members {
		if m.Member == w.conn.choice.member && m.admin != "DISABLED" && (w.conn.state != begun || !w.o.facts.down(m.Member)) {
			return &members[i]
		}
	}
	return nil
}

// pick chooses a member for a connection; nil: the packet was dropped.
func (w *walk) pick(c *choice, v *intent.LBVirtualServer, pool *intent.LBPool, members []poolMember) *poolMember {
	if w.at.Proto == protoTCP && w.at.Flags&(packet.SYN|packet.ACK) != packet.SYN {
		w.reject("tcp_state")
		return nil
	}
	if limit := v.MaxConcurrentConnections; limit > 0 && w.past.loads[v.Path] >= int(limit) {
		w.drop("lb_limit")
		return nil
	}
	if c.table, c.lasting = w.o.persistence(v); c.table != "" {
		if row := w.past.clients[client{c.table, w.at.Src}]; row != nil && w.now-row.since <= c.lasting {
			for i, m := range members {
				if m.Member == row.member && m.admin != "DISABLED" && !w.o.facts.down(m.Member) && w.hasRoom(m) {
					c.why = "persistence"
					return &members[i]
				}
			}
		}
	}
	slots := w.o.slots(pool, members)
	if len(slots) == 0 {
		w.reject("lb_no_member")
		return nil
	}
	best := w.bySlot(c, pool, slots)
	if best == nil {
		w.drop("lb_limit")
	}
	return best
}

// bySlot chooses from the pool's slots by its algorithm; nil: all are full.
func (w *walk) bySlot(c *choice, pool *intent.LBPool, slots []*poolMember) *poolMember {
	first, seen := w.past.turns[pool.Path], 64
	c.why, c.turn = "round_robin", true
	switch {
	case pool.Algorithm == "IP_HASH":
		first = hash(words(w.at.Src)...)
		c.why, c.turn = "ip_hash", false
	case strings.HasSuffix(pool.Algorithm, "LEAST_CONNECTION"):
		seen = min(len(slots), 256)
		c.why = "least_connections"
	}
	var best *poolMember
	for i := range seen {
		m := slots[(uint64(first)+uint64(i))%uint64(len(slots))]
		if !w.hasRoom(*m) {
			continue
		}
		if c.why != "least_connections" {
			return m
		}
		if best == nil || w.past.loads[m.load()]*best.weight < w.past.loads[best.load()]*m.weight {
			best = m
		}
	}
	return best
}

// hasRoom reports whether a member takes another connection.
func (w *walk) hasRoom(m poolMember) bool {
	return m.max == 0 || w.past.loads[m.load()] < m.max
}

// persistence returns the table of clients that a virtual server has, and how
// long its rows last; empty: none. A shared one is shared by the servers of one
// load balancer.
func (o *Oracle) persistence(v *intent.LBVirtualServer) (string, Tick) {
	p, ok := intent.Find[*intent.LBSourceIpPersistenceProfile](o.tree, v.LBPersistenceProfilePath)
	if !ok {
		return "", 0
	}
	lasting := ticks(cmp.Or(p.Timeout, 300))
	if p.PersistenceShared {
		return p.Path + " " + v.LBServicePath, lasting
	}
	return v.Path, lasting
}

// poolMember is a member as its pool has it.
type poolMember struct {
	Member
	weight, max int
	backup      bool
	admin       string
}

// membersOf returns the members of a pool by address and port.
func (o *Oracle) membersOf(p *intent.LBPool) []poolMember {
	var out []poolMember
	if p == nil {
		return nil
	}
	add := func(a netip.Addr, port uint16, weight, limit int64, backup bool, admin string) {
		if !p.IsWeighted() {
			weight = 1
		}
		out = append(out, poolMember{Member{p.Path, a, port}, int(max(weight, 1)), int(limit), backup, admin})
	}
	for _, m := range p.Members {
		add(m.Address(), m.PortNumber(), m.Weight, m.MaxConcurrentConnections, m.BackupMember, m.AdminState)
	}
	if g := p.MemberGroup; g != nil {
		for _, a := range o.groupAddresses(g) {
			s := g.Setting(a)
			add(a, uint16(g.Port), s.Weight, 0, false, s.AdminState)
		}
	}
	slices.SortFunc(out, func(a, b poolMember) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// groupAddresses returns the addresses of a member group, sorted: those of
// ports, and written ones that a host can have, one by one. The first max_ip_list_size are members,
// at most as many as a pool may have.
func (o *Oracle) groupAddresses(g *intent.LBPoolMemberGroup) []netip.Addr {
	limit := intent.MaxLBMembers
	if g.MaxIPListSize > 0 {
		limit = min(limit, int(g.MaxIPListSize))
	}
	var out []netip.Addr
	for _, m := range o.endpoints() {
		if g.Takes(m.addr) && o.inGroup(g.GroupPath, m) {
			out = append(out, m.addr)
		}
	}
	for _, p := range o.written(g.GroupPath) {
		for a, n := p.Addr(), 0; p.Contains(a) && n < limit; a = a.Next() {
			if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
				continue
			}
			if n++; g.Takes(a) && o.inGroup(g.GroupPath, member{addr: a}) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	out = slices.Compact(out)
	return out[:min(limit, len(out))]
}

// written returns the addresses that a group, or one in it, lists.
func (o *Oracle) written(group string) []netip.Prefix {
	g, ok := intent.Find[*intent.Group](o.tree, group)
	if !ok {
		return nil
	}
	out := g.Addresses()
	for _, e := range g.Expression {
		if p, ok := e.(*intent.PathExpression); ok {
			for _, path := range p.Paths {
				out = append(out, o.written(path)...)
			}
		}
	}
	return out
}

// slots returns what the pool chooses from: the contract of table.Pool.Slots.
func (o *Oracle) slots(p *intent.LBPool, members []poolMember) []*poolMember {
	if p == nil {
		return nil
	}
	t := table.Pool{MinActive: uint32(p.MinActiveMembers), Algorithm: table.RoundRobin}
	switch {
	case p.Algorithm == "IP_HASH":
		t.Algorithm = table.IPHash
	case strings.HasSuffix(p.Algorithm, "LEAST_CONNECTION"):
		t.Algorithm = table.LeastConnections
	}
	health := map[table.MemberID]table.Health{}
	byID := map[table.MemberID]*poolMember{}
	for i, m := range members {
		id := o.facts.MemberID(m.Member)
		byID[id] = &members[i]
		health[id] = table.Health{Down: o.facts.down(m.Member)}
		state := map[string]table.AdminState{"": table.MemberEnabled, "ENABLED": table.MemberEnabled, "GRACEFUL_DISABLED": table.MemberDraining, "DISABLED": table.MemberDisabled}[m.admin]
		t.Members = append(t.Members, table.Member{ID: id, Addr: m.Addr, Port: m.Port, Weight: uint16(m.weight), Backup: m.backup, Admin: state})
	}
	var out []*poolMember
	for _, id := range t.Slots(health) {
		out = append(out, byID[id])
	}
	return out
}
