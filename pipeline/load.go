package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// maxClients bounds the persistence rows of a State, of all tables together.
const maxClients = 65536

// clientKey names a client in a persistence table.
type clientKey struct {
	persist uint32 // see table.VirtualServer
	addr    netip.Addr
}

// client is the member that a client stays with.
type client struct {
	member table.MemberID
	seen   Tick // its last new connection
}

// load is what is known of a member by the connections to it.
type load struct {
	open  uint32
	fails uint32 // in a row
}

// LoadKind says whose open connections are meant.
type LoadKind uint8

// The kinds.
const (
	LoadServer LoadKind = iota + 1 // id is a table.VirtualServerID
	LoadMember                     // id is a table.MemberID
)

// Open returns the number of open connections of a virtual server or member.
// Source: docs/pipeline.md §6, Loads.
func (s *State) Open(kind LoadKind, id uint32) uint32 {
	if kind == LoadServer {
		return s.servers[table.VirtualServerID(id)]
	}
	return s.members[table.MemberID(id)].open
}

// Fails returns how many connections to a member failed since one did not.
func (s *State) Fails(id table.MemberID) uint32 { return s.members[id].fails }

// Clients returns the number of persistence rows.
func (s *State) Clients() int { return len(s.clients.nodes) }

// hasRoom reports whether m has fewer connections than it may.
func (s *State) hasRoom(m *table.Member) bool {
	return m.MaxConns == 0 || s.members[m.ID].open < m.MaxConns
}

// burden is what m has to carry if other's weight is the measure.
func (s *State) burden(m, other *table.Member) uint64 {
	return uint64(s.members[m.ID].open) * uint64(max(other.Weight, 1))
}

// commit is what the choice of a virtual server changes once a connection is
// entered. Source: docs/pipeline.md §8, Commit.
func (s *State) commit(c *taken, now Tick) {
	if c.server == nil {
		return
	}
	s.servers[c.server.ID]++
	l := s.members[c.member.ID]
	l.open++
	s.members[c.member.ID] = l
	if c.inTurn() {
		s.turns[c.pool.ID]++
	}
	if c.server.Persist != 0 {
		s.clients.put(clientKey{persist: c.server.Persist, addr: c.client}, client{member: c.member.ID, seen: now})
	}
}

// becomes is told that f's connection goes from its state to another one;
// reset says that this is because of a reply with RST.
func (s *State) becomes(f *Flow, proto packet.Proto, to ConnState, reset bool) {
	if f.Server == 0 || f.State == to || proto != packet.TCP {
		return
	}
	switch to {
	case ConnReplied:
		s.setFails(f.Member, 0)
	case ConnClosing:
		s.closed(f)
		if reset && f.State == ConnNew {
			s.setFails(f.Member, s.Fails(f.Member)+1)
		}
	}
}

// closed takes f's connection from the open ones.
func (s *State) closed(f *Flow) {
	if n := s.servers[f.Server]; n > 0 {
		s.servers[f.Server] = n - 1
	}
	if l := s.members[f.Member]; l.open > 0 {
		l.open--
		s.members[f.Member] = l
	}
}

func (s *State) setFails(id table.MemberID, n uint32) {
	l := s.members[id]
	l.fails = n
	s.members[id] = l
}

// remove deletes a pair.
func (s *State) remove(e, peer *entry) {
	s.flows.remove(e)
	s.flows.remove(peer)
	s.settle(e, peer)
	if e.val.Server != 0 && e.val.State != ConnClosing {
		s.closed(&e.val)
	}
}

// expire deletes a pair because it is not alive.
func (s *State) expire(e, peer *entry) {
	s.remove(e, peer)
	if f := &e.val; f.Server != 0 && f.State == ConnNew && e.key.Tuple.Proto == packet.TCP {
		s.setFails(f.Member, s.Fails(f.Member)+1)
	}
}
