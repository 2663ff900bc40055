package pipeline

import (
	"cmp"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// The slots of a pool that one choice looks at, and the source ports of what a
// virtual server translates (§8, §10).
const (
	maxTries    = 64
	maxCompared = 256

	firstServerPort = 1024
	lastServerPort  = 65535
)

// Why says what made a member the one that gets a connection.
type Why uint8

// The reasons. Source: docs/pipeline.md §8.
const (
	WhyKept Why = iota + 1
	WhyPersistence
	WhyRoundRobin
	WhyLeastConnections
	WhyIPHash
)

func (w Why) String() string {
	switch w {
	case WhyKept:
		return "kept"
	case WhyPersistence:
		return "persistence"
	case WhyRoundRobin:
		return "round_robin"
	case WhyLeastConnections:
		return "least_connections"
	case WhyIPHash:
		return "ip_hash"
	}
	return "none"
}

// kept is who took a connection before, for mode again; zero: nobody did.
type kept struct {
	server table.VirtualServerID
	member table.MemberID
}

// taken is the choice of a virtual server on a path; zero: none took it.
type taken struct {
	server *table.VirtualServer
	pool   *table.Pool
	member *table.Member
	why    Why
	client netip.Addr  // the source before
	vrf    table.VRFID // the router of the virtual server; 0: distributed
}

// kept names the choice.
func (c *taken) kept() kept {
	if c.server == nil {
		return kept{}
	}
	return kept{server: c.server.ID, member: c.member.ID}
}

// inTurn reports whether the choice moves the pool's counter on.
func (c *taken) inTurn() bool { return c.why == WhyRoundRobin || c.why == WhyLeastConnections }

// balancer is where a virtual server is met.
type balancer struct {
	stage Stage
	id    uint32        // of steps
	vrf   table.VRFID   // 0: distributed
	realm table.RealmID // for the access list
}

// server returns the virtual server that takes the current tuple at a VIP, nil
// if none does. ok is false if the destination is no VIP there.
func (w *walk) server(k table.VIPKey) (v *table.VirtualServer, ok bool) {
	vip := w.ix.Set.VIPs.Get(k)
	if vip == nil {
		return nil, false
	}
	if w.t.Proto == packet.TCP || w.t.Proto == packet.UDP {
		v = vip.Server(uint8(w.t.Proto), w.t.DstPort)
	}
	return v, true
}

// balance gives the connection to a member of v, whose VIP is the destination.
// It reports whether the walk goes on. Source: docs/pipeline.md §8.
func (w *walk) balance(at balancer, v *table.VirtualServer) bool {
	if w.took.server != nil || w.dnats == maxTranslations {
		return w.unbalanced(at, v, ReasonNATDepth)
	}
	p := w.ix.pools[v.Pool]
	m, why, reason := w.choose(at, v, p)
	if w.gone {
		return false
	}
	if reason != ReasonNone {
		return w.unbalanced(at, v, reason)
	}
	vip := w.t.Dst
	src, translates := sourceFor(at, p.Pool, m, w.t.Src, vip)
	if translates && w.snats == maxTranslations {
		return w.unbalanced(at, v, ReasonNATDepth)
	}
	w.took = taken{server: v, pool: p.Pool, member: m, why: why, client: w.t.Src, vrf: at.vrf}
	w.dnats++
	w.t.Dst, w.t.DstPort = m.Addr, cmp.Or(m.Port, v.MemberPort, w.t.DstPort)
	if translates {
		w.snat(src, sourcePorts{first: firstServerPort, last: lastServerPort})
	}
	s := w.step(at.stage, at.id)
	s.Rule, s.Why, s.Server, s.Pool, s.Member = uint32(v.ID), why, v, p.Pool, m
	return true
}

// unbalanced drops what v does not take.
func (w *walk) unbalanced(at balancer, v *table.VirtualServer, why Reason) bool {
	if why == ReasonLBAccess || why == ReasonLBNoMember || why == ReasonTCPState {
		w.answer = answer{kind: answerReject}
	}
	w.rule = uint32(v.ID)
	s := w.drop(at.stage, at.id, why)
	s.Rule, s.Server, s.Pool = uint32(v.ID), v, w.ix.Set.Pools.Get(v.Pool)
	return false
}

// choose returns the member that gets the connection and why, or why none does.
// p is v's pool; nil: it has none.
func (w *walk) choose(at balancer, v *table.VirtualServer, p *pool) (*table.Member, Why, Reason) {
	if v.Access != 0 {
		q := w.remote(at.realm, w.t.Src)
		if r := w.ix.first(v.Access, &q); r == nil || r.Action != table.Allow {
			return nil, 0, ReasonLBAccess
		}
	}
	if w.mode == modeAgain {
		if p != nil && w.kept.server == v.ID {
			if m := p.Member(w.kept.member); m != nil && m.Admin != table.MemberDisabled && (!w.keptNew || w.ix.Set.Up(m.ID)) {
				return m, WhyKept, ReasonNone
			}
		}
		w.gone = true
		return nil, 0, ReasonNone
	}
	if w.midstream {
		return nil, 0, ReasonTCPState
	}
	if v.MaxConns > 0 && w.st.servers[v.ID] >= v.MaxConns {
		return nil, 0, ReasonLBLimit
	}
	if p == nil {
		return nil, 0, ReasonLBNoMember
	}
	if m := w.persistent(v, p); m != nil {
		return m, WhyPersistence, ReasonNone
	}
	if len(p.slots) == 0 {
		return nil, 0, ReasonLBNoMember
	}
	m, why := w.slot(p)
	if m == nil {
		return nil, 0, ReasonLBLimit
	}
	return m, why, ReasonNone
}

// persistent returns the member that the client stays with, nil if there is
// none.
func (w *walk) persistent(v *table.VirtualServer, p *pool) *table.Member {
	if v.Persist == 0 {
		return nil
	}
	row := w.st.clients.peek(clientKey{persist: v.Persist, addr: w.t.Src})
	if row == nil || w.now-row.val.seen > ticksOf(v.PersistFor) {
		return nil
	}
	m := p.Member(row.val.member)
	if m == nil || m.Admin == table.MemberDisabled || !w.ix.Set.Up(m.ID) || !w.st.hasRoom(m) {
		return nil
	}
	return m
}

// slot returns the member whose turn it is, nil if all that may be looked at
// have as many connections as they may.
func (w *walk) slot(p *pool) (*table.Member, Why) {
	n, from := uint32(len(p.slots)), w.st.turns[p.ID]
	if p.Algorithm == table.LeastConnections {
		return w.least(p, from), WhyLeastConnections
	}
	why := WhyRoundRobin
	if p.Algorithm == table.IPHash {
		from, why = HashAddr(w.t.Src), WhyIPHash
	}
	from %= n
	for i := range uint32(maxTries) {
		if m := p.slots[(from+i)%n]; w.st.hasRoom(m) {
			return m, why
		}
	}
	return nil, 0
}

// least returns the first member with the fewest open connections by weight.
func (w *walk) least(p *pool, from uint32) (best *table.Member) {
	n := uint32(len(p.slots))
	for i := range min(n, maxCompared) {
		m := p.slots[(from+i)%n]
		if w.st.hasRoom(m) && (best == nil || w.st.burden(m, best) < w.st.burden(best, m)) {
			best = m
		}
	}
	return best
}

// sourceFor returns the source that member m sees of a client. translates is
// false if it is the client's own.
func sourceFor(at balancer, p *table.Pool, m *table.Member, client, vip netip.Addr) (src netip.Addr, translates bool) {
	switch {
	case at.vrf != 0 && p.SNAT == table.SNATAutoMap:
		return vip, true
	case at.vrf != 0 && p.SNAT == table.SNATPool && len(p.SNATAddrs) > 0:
		return p.SNATAddrs[HashAddr(client)%uint32(len(p.SNATAddrs))], true
	case client == m.Addr:
		return vip, true
	}
	return client, false
}
