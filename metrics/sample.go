// Package metrics tells what a node's data plane knows in the words and form of
// Prometheus. docs/metrics.md lists what there is.
package metrics

import (
	"context"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Sample is what metrics are made of: a node at one moment.
type Sample struct {
	Set         *table.Set // in force, with the health of members; nil: none yet
	Status      dataplane.Status
	Tallies     map[pipeline.TallyKey]pipeline.Tally
	Loads       dataplane.Loads
	PortDrops   []dataplane.PortDrop
	Connections map[Kind]int // that are not over
	Conditions  []Condition  // those that hold
}

// Kind is what connections are told apart by.
type Kind struct {
	Proto packet.Proto
	State pipeline.ConnState
}

// Condition is something that needs somebody's attention.
type Condition struct {
	Type   string
	Object string // policy path or kernel map; empty: the node
}

// Driver is what a Sample is taken from.
type Driver interface {
	Status(ctx context.Context) (dataplane.Status, error)
	Tallies(ctx context.Context) (map[pipeline.TallyKey]pipeline.Tally, error)
	Loads(ctx context.Context) (dataplane.Loads, error)
	PortDrops(ctx context.Context) ([]dataplane.PortDrop, error)
	Connections(ctx context.Context, yield func(*dataplane.Connection) bool) error
}

// Take asks a driver, which forwards by set, for a Sample without conditions.
// It calls one method at a time. Cost as that of Driver.Connections.
func Take(ctx context.Context, set *table.Set, d Driver) (s *Sample, err error) {
	s = &Sample{Set: set, Connections: map[Kind]int{}}
	if s.Status, err = d.Status(ctx); err != nil {
		return nil, err
	}
	if s.Tallies, err = d.Tallies(ctx); err != nil {
		return nil, err
	}
	if s.Loads, err = d.Loads(ctx); err != nil {
		return nil, err
	}
	if s.PortDrops, err = d.PortDrops(ctx); err != nil {
		return nil, err
	}
	err = d.Connections(ctx, func(c *dataplane.Connection) bool {
		if !c.Over {
			s.Connections[Kind{c.Tuple.Proto, c.State}]++
		}
		return true
	})
	return s, err
}
