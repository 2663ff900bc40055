// Package dataplane is what a node needs of whatever forwards its packets.
package dataplane

import (
	"context"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Link is the network device that a port or an uplink is bound to.
type Link struct {
	IfIndex int
	MAC     table.MAC // of the device itself; uplinks send with it
}

// Binding says which device each port and uplink of a Set has on this node. A
// port without one receives nothing.
type Binding map[table.PortID]Link

// Driver makes a node forward as a Set says.
type Driver interface {
	// Apply makes set current, all of it at once or nothing: on an error the
	// node goes on forwarding as before. Applying the same again changes
	// nothing that packets can see. Established connections are judged again
	// by the new Set with their next packet.
	Apply(ctx context.Context, set *table.Set, b Binding) error
	// Check reports how what is in force differs from set; nil: in nothing.
	Check(set *table.Set, b Binding) error
	// Record begins to record the packets with tuple t that enter by l.
	Record(l Link, t packet.Tuple) (Recorder, error)
	Status(ctx context.Context) (Status, error)
	// Close lets go of the data plane, which goes on forwarding.
	Close() error
}

// Status is what a data plane tells of itself.
type Status struct {
	Generation uint32            `json:"generation"` // of the Set that is current
	Drops      map[string]uint64 `json:"drops"`      // packets by reason, see docs/pipeline.md
	Counters   map[string]uint64 `json:"counters"`
	Maps       []MapUse          `json:"maps"`
	// Conditions name what needs somebody's attention; empty: all is well.
	Conditions []string `json:"conditions"`
}

// MapUse tells how full a kernel map is.
type MapUse struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"`
	Max     int    `json:"max"`
	Evicted uint64 `json:"evicted"` // entries, of live and of dead connections, that gave way to new ones
}
