package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// Observed is the data plane of a host of a running lab, open to look at.
type Observed struct {
	Host string
	dataplane.Observer
	// Tables returns the tables that the host got last; the same pointer as long
	// as they are the same.
	// Errors: the lab is not up any more.
	Tables func(context.Context) (*table.Set, error)
}

// Observe runs fn with the data planes of all hosts of a lab. Other commands on
// the lab go on meanwhile.
func (s *System) Observe(ctx context.Context, lab string, fn func([]Observed) error) error {
	l, err := s.acquire(ctx, lab) // a data plane must not be opened while it is taken down
	if err != nil {
		return err
	}
	release := sync.OnceValue(l.release)
	defer release()
	state, err := s.Load(lab)
	if err != nil {
		return err
	}
	if state.Phase == Building {
		return fmt.Errorf("lab %s: was not completed (use 'weft lab up' again, or 'weft lab down')", lab)
	}
	return s.withDriver(state.Plan, func(d dataplane.Driver) error {
		o, ok := d.(dataplane.Observer)
		if !ok {
			return fmt.Errorf("lab %s: its data plane shows nothing of its state", lab)
		}
		if err := release(); err != nil {
			return err
		}
		return fn([]Observed{{Host: state.Plan.host().Name, Observer: o, Tables: s.lastTables(state.Plan)}})
	})
}

// lastTables returns what reads the tables that the host of plan goes by.
func (s *System) lastTables(plan *Plan) func(context.Context) (*table.Set, error) {
	var last *table.Set
	return func(ctx context.Context) (*table.Set, error) {
		if _, err := loadState(s.dir(plan.Lab)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("lab %s: is not up any more", plan.Lab)
		}
		now, err := s.inForce(ctx, plan)
		if err != nil {
			return nil, err
		}
		if last == nil || table.Diff(last, now.Set).Len() > 0 {
			last = now.Set
		}
		return last, nil
	}
}
