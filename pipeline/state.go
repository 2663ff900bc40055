package pipeline

import (
	"iter"
	"maps"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Tick is monotonic time in units of 2³⁰ ns (1.07 s). It wraps after 146
// years; only differences count.
type Tick uint32

const tickShift = 30

// TickOf returns the tick of a monotonic time in nanoseconds.
func TickOf(nanoseconds int64) Tick { return Tick(uint64(nanoseconds) >> tickShift) }

// ticksOf returns a timeout of n seconds, rounded up to whole ticks.
func ticksOf(n uint32) Tick {
	return Tick((uint64(n)*1e9 + 1<<tickShift - 1) >> tickShift)
}

// Zone is where a packet enters: exactly one field is not 0.
type Zone struct {
	Port table.PortID
	VRF  table.VRFID // a Tier-0: any of its uplinks
}

// id is the zone's id in a Step.
func (z Zone) id() uint32 {
	if z.Port != 0 {
		return uint32(z.Port)
	}
	return uint32(z.VRF)
}

// FlowKey names the packets of one direction where they enter.
type FlowKey struct {
	Zone  Zone
	Tuple packet.Tuple
}

// ConnState is how far a connection has come.
type ConnState uint8

// The states. Source: docs/pipeline.md §6.
const (
	ConnNew ConnState = iota + 1
	ConnReplied
	ConnEstablished
	ConnClosing
)

func (s ConnState) String() string {
	switch s {
	case ConnNew:
		return "new"
	case ConnReplied:
		return "replied"
	case ConnEstablished:
		return "established"
	case ConnClosing:
		return "closing"
	}
	return "none"
}

// Flow is the outcome of one direction of a connection.
type Flow struct {
	Reply   bool // the direction opposite to the first packet's
	State   ConnState
	Gen     uint32 // of the Set that it was walked with; 0: not yet
	Seen    Tick   // last packet of this direction
	Routed  bool   // frames are addressed to RouterMAC
	SrcMAC  table.MAC
	In      table.PortID // port or uplink that the first packet entered by; 0 in a reply not yet seen
	Hops    uint8        // routers on the way
	Out     table.PortID // port or uplink
	OutMAC  table.MAC    // valid iff Out is a port
	NextHop table.NextHopID
	To      packet.Tuple // what packets leave with
	// Mid is the source address between two source translations; invalid if
	// there were fewer, and in a reply.
	Mid  netip.Addr
	Peer Zone // of the opposite direction

	Packets, Bytes uint64 // forwarded; IP total lengths. Not those of ICMP errors
	// Who took the connection; 0: no virtual server. In both directions.
	Server table.VirtualServerID
	Member table.MemberID

	// The rest is zero in a reply.

	Via    bool                 // came by a virtual server: see table.Rule.ViaVIP
	Rules  [maxFlowRules]uint32 // firewall rules that allowed it, the first ones of its path; 0: no more
	NATs   [maxFlowNATs]uint32  // NAT rules that it met, likewise
	Closed Tick                 // when it became Closing, in both halves
	// What the tallies have already, of both directions.
	TalliedPackets, TalliedBytes uint64
}

func (f *Flow) kept() kept { return kept{server: f.Server, member: f.Member} }

func (f *Flow) peerKey() FlowKey { return FlowKey{Zone: f.Peer, Tuple: f.To.Reversed()} }

// State is what packets leave behind: flows, fragments, loads of virtual servers
// and counts. It is changed by Run and Sweep only, and is not safe for
// concurrent use.
type State struct {
	flows     *lru[FlowKey, Flow]
	fragments *lru[fragmentKey, fragment]
	held      *lru[heldKey, held]
	clients   *lru[clientKey, client]

	servers map[table.VirtualServerID]uint32 // open connections
	members map[table.MemberID]load
	turns   map[table.PoolID]uint32 // connections that took a slot in turn
	tallies map[TallyKey]Tally
}

type entry = node[FlowKey, Flow]

// NewState returns an empty table that holds at most maxFlows entries, two a
// connection, as many fragment rows, 1024 held fragments and 65536 persistence
// rows. Beyond that the least recently used one is replaced; with under 2 no
// connection can be entered. Loads and tallies have a row for each object of the
// Sets since the last Sweep.
func NewState(maxFlows int) *State {
	return &State{
		flows:     newLRU[FlowKey, Flow](maxFlows),
		fragments: newLRU[fragmentKey, fragment](maxFlows),
		held:      newLRU[heldKey, held](maxHeldRows),
		clients:   newLRU[clientKey, client](maxClients),
		servers:   map[table.VirtualServerID]uint32{},
		members:   map[table.MemberID]load{},
		turns:     map[table.PoolID]uint32{},
		tallies:   map[TallyKey]Tally{},
	}
}

// Flow returns the entry of k as it is stored, whether alive or not.
func (s *State) Flow(k FlowKey) (Flow, bool) {
	n, ok := s.flows.nodes[k]
	if !ok {
		return Flow{}, false
	}
	return n.val, true
}

// Flows returns all entries, the most recently used first.
func (s *State) Flows() iter.Seq2[FlowKey, Flow] {
	return func(yield func(FlowKey, Flow) bool) {
		for n := s.flows.root.next; n != &s.flows.root; n = n.next {
			if !yield(n.key, n.val) {
				return
			}
		}
	}
}

// Len returns the number of entries: two a connection.
func (s *State) Len() int { return len(s.flows.nodes) }

// Fragments returns the number of fragment rows.
func (s *State) Fragments() int { return len(s.fragments.nodes) }

// Held returns the number of fragments that wait for their first one, also of
// those that are too old.
func (s *State) Held() int { return len(s.held.nodes) }

// Replaced returns how many flow entries and fragment rows gave way to newer ones.
func (s *State) Replaced() (flows, fragments uint64) {
	return s.flows.replaced, s.fragments.replaced
}

// Clone returns a copy that shares nothing with s.
func (s *State) Clone() *State {
	return &State{
		flows: s.flows.clone(), fragments: s.fragments.clone(), held: s.held.clone(), clients: s.clients.clone(),
		servers: maps.Clone(s.servers), members: maps.Clone(s.members), turns: maps.Clone(s.turns), tallies: maps.Clone(s.tallies),
	}
}

// pair returns the entry of k and its peer; both are nil if there is none. An
// entry that is not half of a pair is deleted.
func (s *State) pair(k FlowKey) (e, peer *entry) {
	e = s.flows.get(k)
	if e == nil {
		return nil, nil
	}
	peer = s.peer(e)
	if peer == nil {
		s.flows.remove(e)
		return nil, nil
	}
	return e, peer
}

// peer returns e's other half, nil if it is missing or does not point back.
func (s *State) peer(e *entry) *entry {
	p := s.flows.nodes[e.val.peerKey()]
	if p == nil || p == e || p.val.peerKey() != e.key {
		return nil
	}
	return p
}

// alive reports whether either half of a pair was seen recently enough.
func alive(e, peer *entry, t *table.Timeouts, now Tick) bool {
	limit := ticksOf(timeout(t, e.key.Tuple.Proto, e.val.State))
	return now-e.val.Seen <= limit || now-peer.val.Seen <= limit
}

// timeout returns the seconds after which a connection in a state is dead.
func timeout(t *table.Timeouts, proto packet.Proto, s ConnState) uint32 {
	switch proto {
	case packet.TCP:
		switch s {
		case ConnEstablished:
			return t.TCPEstablished
		case ConnClosing:
			return t.TCPClosing
		}
		return t.TCPOpening
	case packet.UDP:
		if s == ConnNew {
			return t.UDPSingle
		}
		return t.UDPMultiple
	case packet.ICMP:
		return t.ICMP
	}
	return t.Other
}
