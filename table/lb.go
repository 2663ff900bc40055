package table

import (
	"net/netip"
	"slices"
)

// LBService is a load balancer at a router, or (distributed) at the endpoints
// that name it.
type LBService struct {
	ID   LBServiceID
	Path string
	Name string
	VRF  VRFID // 0: distributed
	// Port is where the service's monitors send from: the only port of a
	// segment with Monitor set. 0: nothing is monitored.
	Port PortID
}

// VIPKey names an address of virtual servers where it is met: exactly one of
// VRF and DLB is not 0.
type VIPKey struct {
	VRF  VRFID
	DLB  LBServiceID
	Addr netip.Addr
}

// VIP is the virtual servers of one address.
type VIP struct {
	Key     VIPKey
	Servers []*VirtualServer // no two serve the same protocol and port; sorted by path
}

// VirtualServer says what becomes of connections to some ports of a VIP.
type VirtualServer struct {
	ID       VirtualServerID
	Path     string
	Name     string
	Service  LBServiceID
	Services []Service // TCP and UDP only
	Pool     PoolID    // 0 or unknown: no member
	// MemberPort is for members that have no port of their own; 0: the port
	// that was asked.
	MemberPort uint16
	Access     RulesetID // over the client's address, as Remote; 0: everyone
	MaxConns   uint32    // open connections; 0: no limit
	// Persist names the table of clients that this server shares with others
	// of the same number; 0: no persistence. A client stays with its member
	// until PersistFor seconds after its last new connection.
	Persist    uint32
	PersistFor uint32
}

// Algorithm says how a pool chooses a member for a connection.
type Algorithm uint8

const (
	RoundRobin       Algorithm = iota + 1 // by weight
	LeastConnections                      // fewest open connections by weight
	IPHash                                // by the client's address; see Slots
)

// AdminState is what the administrator wants of a member.
type AdminState uint8

const (
	MemberEnabled  AdminState = iota + 1
	MemberDraining            // GRACEFUL_DISABLED: only open connections and persistent clients
	MemberDisabled            // nothing: its open connections are cut too
)

// SNATMode says which source a pool's members see.
type SNATMode uint8

const (
	SNATDisabled SNATMode = iota // the client's
	SNATAutoMap                  // the VIP
	SNATPool                     // one of the pool's SNAT addresses
)

// Pool is the members that virtual servers send connections to.
type Pool struct {
	ID        PoolID
	Path      string
	Name      string
	Algorithm Algorithm
	Members   []Member // sorted by address and port; ids are unique
	// MinActive is the number of members below which backup members help.
	MinActive uint32
	SNAT      SNATMode
	SNATAddrs []netip.Addr // valid iff SNATPool; sorted, 1 to 8
	Monitors  []*Monitor   // active ones: a member is up if all of them find it so
	Passive   *Passive     // nil: none
}

// Member is one address and port of a pool.
type Member struct {
	ID       MemberID // names pool, address and port
	Name     string
	Addr     netip.Addr
	Port     uint16 // 0: see VirtualServer.MemberPort
	Weight   uint16 // 1 to 256
	MaxConns uint32 // open connections; 0: no limit
	Backup   bool
	Admin    AdminState
}

// MonitorKind is how a monitor asks.
type MonitorKind uint8

const (
	MonitorTCP MonitorKind = iota + 1
	MonitorHTTP
	MonitorHTTPS
	MonitorICMP
	MonitorUDP
)

// Monitor is one active monitor. Times are in seconds.
type Monitor struct {
	Path     string
	Name     string
	Kind     MonitorKind
	Port     uint16 // 0: the member's; ICMP: unused
	Interval uint32
	Timeout  uint32
	Fall     uint32 // failures in a row that make a member down
	Rise     uint32 // successes in a row that make it up
	// What is sent and expected. Send and Receive are bytes of TCP and UDP
	// monitors and the bodies of HTTP ones; empty Receive: anything. Length is
	// ICMP's.
	Send, Receive string
	Length        uint16
	Method        string
	URL           string
	Headers       []Header
	Version       string   // HTTP_VERSION_1_0, HTTP_VERSION_1_1
	Codes         []uint16 // HTTP status codes that are good
	// VerifyName and VerifyCA are HTTPS's: a server certificate is only
	// checked if VerifyCA, PEM, is not empty.
	VerifyName string
	VerifyCA   string
}

// Header is one HTTP header of a monitor's request.
type Header struct{ Name, Value string }

// Passive says when connections that fail make a member down.
type Passive struct {
	Path     string
	MaxFails uint32 // in a row
	Timeout  uint32 // seconds that the member stays down
}

// Health is what monitors found out about a member.
type Health struct {
	Down bool
	Why  string // for people: monitor and fact
}

// WithHealth returns s with other findings about members. It shares everything
// else.
func (s *Set) WithHealth(h map[MemberID]Health) *Set {
	out := *s
	out.Health = h
	return &out
}

// Up reports whether monitors let a member take connections.
func (s *Set) Up(id MemberID) bool { return !s.Health[id].Down }

// Server returns the virtual server of v that takes a protocol and port, nil if
// none does.
func (v *VIP) Server(proto uint8, port uint16) *VirtualServer {
	for _, s := range v.Servers {
		for _, m := range s.Services {
			if m.Proto == proto && m.First <= port && port <= m.Last {
				return s
			}
		}
	}
	return nil
}

// Member returns the member with an id, nil if the pool has none.
func (p *Pool) Member(id MemberID) *Member {
	for i := range p.Members {
		if p.Members[i].ID == id {
			return &p.Members[i]
		}
	}
	return nil
}

// Active returns the members that new connections may go to: those that are
// enabled and up, without the backup ones unless there are fewer than
// MinActive others. Cost O(members).
func (p *Pool) Active(health map[MemberID]Health) []*Member {
	var primary, backup []*Member
	for i := range p.Members {
		m := &p.Members[i]
		switch {
		case m.Admin != MemberEnabled || health[m.ID].Down:
		case m.Backup:
			backup = append(backup, m)
		default:
			primary = append(primary, m)
		}
	}
	if len(primary) < int(max(p.MinActive, 1)) {
		return append(primary, backup...)
	}
	return primary
}

// maxTurns bounds the slots of a pool that is used in turn; weights are scaled
// down to fit.
const maxTurns = 4096

// Slots returns the table that a pool chooses from; it depends on the members
// and their health alone.
//
//   - RoundRobin: each active member as often as its weight says, spread evenly
//     (smooth weighted round robin); connections take the slots in turn.
//   - LeastConnections: the active members, each once.
//   - IPHash: a Maglev table, indexed by a hash of the client's address modulo
//     its length. If one of n members goes, about 1/n of the slots change.
//     Source: Eisenbud et al., Maglev, NSDI 2016, section 3.4.
//
// Cost O(slots) for Maglev, O(slots × members) for RoundRobin with weights.
func (p *Pool) Slots(health map[MemberID]Health) []MemberID {
	active := p.Active(health)
	switch {
	case len(active) == 0:
		return nil
	case p.Algorithm == IPHash:
		return maglev(active, len(p.Members))
	case p.Algorithm == RoundRobin:
		return turns(active)
	}
	out := make([]MemberID, len(active))
	for i, m := range active {
		out[i] = m.ID
	}
	return out
}

// turns is smooth weighted round robin over one round.
func turns(active []*Member) []MemberID {
	weights := weightsOf(active)
	total := 0
	for _, w := range weights {
		total += w
	}
	out := make([]MemberID, 0, total)
	if total == len(active) {
		for _, m := range active {
			out = append(out, m.ID)
		}
		return out
	}
	credit := make([]int, len(active))
	for range total {
		best := 0
		for i, w := range weights {
			credit[i] += w
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		out = append(out, active[best].ID)
	}
	return out
}

// weightsOf returns the members' weights in lowest terms, at most maxTurns in
// all unless there are more members than that.
func weightsOf(active []*Member) []int {
	out := make([]int, len(active))
	common, total := 0, 0
	for i, m := range active {
		out[i] = int(max(m.Weight, 1))
		common = gcd(out[i], common)
		total += out[i]
	}
	for i := range out {
		out[i] /= common
	}
	if total /= common; total > maxTurns {
		for i := range out {
			out[i] = max(1, out[i]*maxTurns/total)
		}
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// maglevSizes are the primes that a Maglev table may have as length: at least
// a hundred slots for each member keep the shares within a few percent.
var maglevSizes = []int{251, 1021, 4093, 16381, 65521}

// maglev fills a table by letting members take turns, as often as their weights
// say, at the first free slot of each one's own permutation. configured is the
// number of all members, so that the length does not change with health.
func maglev(active []*Member, configured int) []MemberID {
	size := maglevSizes[len(maglevSizes)-1]
	for _, s := range slices.Backward(maglevSizes) {
		if s >= 100*configured {
			size = s
		}
	}
	weights := weightsOf(active)
	out := make([]MemberID, size)
	next := make([]uint32, len(active))
	for filled := 0; ; {
		for i, m := range active {
			offset, skip := mix(uint32(m.ID))%uint32(size), mix(^uint32(m.ID))%uint32(size-1)+1
			for range weights[i] {
				var at uint32
				for {
					at = uint32((uint64(offset) + uint64(next[i])*uint64(skip)) % uint64(size))
					next[i]++
					if out[at] == 0 {
						break
					}
				}
				out[at] = m.ID
				if filled++; filled == size {
					return out
				}
			}
		}
	}
}

// mix spreads the bits of x (the finalizer of MurmurHash3).
func mix(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	x *= 0xc2b2ae35
	return x ^ x>>16
}
