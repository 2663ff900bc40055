package dataplane

import (
	"context"
	"net/netip"
	"time"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Observer shows what a data plane keeps besides the tables: its connections
// and its counts. What it shows is as of some moment of the call; packets do
// not wait for it.
type Observer interface {
	// Connections calls yield once for each connection, in no order, until it
	// returns false. The Connection is valid until yield returns. One that
	// begins or ends meanwhile may be missing. Memory is bounded however many
	// there are; cost O(flow entries).
	Connections(ctx context.Context, yield func(*Connection) bool) error
	// Tallies returns what rules, NAT rows and virtual servers had to do with.
	// Packets and bytes of a connection that is open are in it as of the last
	// sweep.
	Tallies(ctx context.Context) (map[pipeline.TallyKey]pipeline.Tally, error)
	// Loads returns the open connections of virtual servers and members. What
	// has neither open connections nor fails is missing.
	Loads(ctx context.Context) (Loads, error)
	// PortDrops returns the packets dropped, by port and reason, in no order.
	PortDrops(ctx context.Context) ([]PortDrop, error)
	// Logs begins to read the lines of logged rules that nobody has read yet.
	// Errors: ErrLogsTaken.
	Logs() (LogReader, error)
}

// Connection is one connection: an original entry of the flow table and its
// reply. Source: docs/pipeline.md §6.
type Connection struct {
	Zone  pipeline.Zone // where its packets enter; zero: that device is bound to nothing any more
	In    table.PortID  // port or uplink that they came in by last; 0: as above
	InDev int           // device number of In
	Tuple packet.Tuple  // as the first packet had it when it came
	To    packet.Tuple  // and when it left
	Mid   netip.Addr    // source between two source translations; invalid if there were fewer

	State pipeline.ConnState
	Over  bool          // its time-out has passed: the next packet or sweep deletes it
	Age   time.Duration // whole ticks of 2³⁰ ns

	Original, Reply Direction

	// Set by the latest walk of the original direction.

	Out     table.PortID // port or uplink that it leaves by
	OutDev  int          // device number of Out; 0: it has none
	NextHop netip.Addr   // valid iff Out is an uplink
	Hops    uint8
	Rules   []uint32 // firewall rules that let it pass, the first ones of its path
	NATs    []uint32 // NAT rules that it met, likewise
	Server  table.VirtualServerID
	Member  table.MemberID // valid iff Server
}

// Direction is what one direction of a Connection did.
type Direction struct {
	Idle    time.Duration // since its latest packet, whole ticks; of a reply never seen: the connection's age
	Packets uint64        // forwarded, without ICMP errors
	Bytes   uint64        // IP total lengths
}

// Idle returns the time since the latest packet of either direction.
func (c *Connection) Idle() time.Duration { return min(c.Original.Idle, c.Reply.Idle) }

// Packets returns the packets of both directions.
func (c *Connection) Packets() uint64 { return c.Original.Packets + c.Reply.Packets }

// Bytes returns the bytes of both directions.
func (c *Connection) Bytes() uint64 { return c.Original.Bytes + c.Reply.Bytes }

// Counted calls fn with each of what c is counted for: its rules, its NAT rows,
// its virtual server. A rule that c met twice is told twice.
func (c *Connection) Counted(fn func(pipeline.TallyKey)) {
	for _, id := range c.Rules {
		fn(pipeline.TallyKey{Kind: pipeline.TallyRule, ID: id})
	}
	for _, id := range c.NATs {
		fn(pipeline.TallyKey{Kind: pipeline.TallyNAT, ID: id})
	}
	if c.Server != 0 {
		fn(pipeline.TallyKey{Kind: pipeline.TallyServer, ID: uint32(c.Server)})
	}
}

// Loads are the open connections of virtual servers and members, and the fails
// of members. Source: docs/pipeline.md §6, Loads.
type Loads struct {
	Servers map[table.VirtualServerID]uint32
	Members map[table.MemberID]Load
}

// Load is what the connections to a member say.
type Load struct {
	Open  uint32 // connections
	Fails uint32 // in a row
}

// PortDrop is how many packets were dropped at a port for a reason.
type PortDrop struct {
	Port    table.PortID // port or uplink that they came in by; 0: a device that is bound to none
	Reason  pipeline.Reason
	Packets uint64
}
