package agent

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"github.com/weft-net/weft/metrics"
	"github.com/weft-net/weft/monitor"
	"github.com/weft-net/weft/table"
)

// Status is how a node is.
type Status struct {
	Node       string      `json:"node"`
	PID        int         `json:"pid"`               // of the agent
	Generation uint32      `json:"generation"`        // of the data plane; 0: no tables yet
	Version    int64       `json:"version,omitempty"` // of the tables, as weftd counts; 0: they are not from there
	Conditions []Condition `json:"conditions"`        // those that hold first
	Members    []Member    `json:"members"`           // of all pools, by pool and address
}

// Member is a member of a pool and how it is.
type Member struct {
	Pool    string          `json:"pool"` // policy path
	Name    string          `json:"name,omitempty"`
	Address string          `json:"address"` // with the port, if it has one of its own
	Admin   string          `json:"admin_state"`
	Up      bool            `json:"up"`
	Why     string          `json:"why,omitempty"`    // why it is down
	Since   time.Time       `json:"since,omitzero"`   // valid iff Checks are there: the latest change of one of them
	Checks  []monitor.Check `json:"checks,omitempty"` // none: nothing asks, so it is up
}

// InForce is what a node goes by.
type InForce struct {
	Set     *table.Set        // with the health of members
	Devices map[string]string // of all ports, those of monitors too
}

// Status returns how the node is now. It costs what Driver.Status does.
func (a *Agent) Status(ctx context.Context) (*Status, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &Status{PID: os.Getpid(), Members: []Member{}}
	if a.tables != nil {
		s.Members = members(a.tables.Set, a.monitors.Health(), a.monitors.Checks())
	}
	a.refresh() // after the members: who is down here has its condition
	s.Conditions = a.ledger.list()
	if a.tables == nil {
		return s, nil
	}
	told, err := a.driver.Status(ctx)
	if err != nil {
		return nil, err
	}
	s.Node, s.Generation, s.Version = a.tables.Set.Node, told.Generation, a.version
	return s, nil
}

func members(set *table.Set, health map[table.MemberID]table.Health, checks map[table.MemberID][]monitor.Check) []Member {
	out := []Member{}
	for _, p := range set.Pools.All() {
		for i := range p.Members {
			m := &p.Members[i]
			row := Member{
				Pool: p.Path, Name: m.Name, Address: address(m), Admin: m.Admin.String(),
				Up: !health[m.ID].Down, Why: health[m.ID].Why, Checks: checks[m.ID],
			}
			for _, c := range row.Checks {
				if c.Since.After(row.Since) {
					row.Since = c.Since
				}
			}
			out = append(out, row)
		}
	}
	slices.SortStableFunc(out, func(a, b Member) int { return cmp.Compare(a.Pool, b.Pool) })
	return out
}

// sample returns what metrics tell of the node now. However many ask for it,
// only one of them keeps others waiting for a.
func (a *Agent) sample(ctx context.Context) (*metrics.Sample, error) {
	select {
	case a.sampling <- struct{}{}:
		defer func() { <-a.sampling }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var set *table.Set
	if a.tables != nil {
		set = a.tables.Set.WithHealth(a.health)
	}
	s, err := metrics.Take(ctx, set, a.driver)
	if err != nil {
		return nil, err
	}
	a.refresh()
	for _, c := range a.ledger.list() {
		if c.Status {
			s.Conditions = append(s.Conditions, metrics.Condition{Type: c.Type, Object: c.Object})
		}
	}
	return s, nil
}

// InForce returns what the node goes by; nil if it got no tables yet.
func (a *Agent) InForce() *InForce {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tables == nil {
		return nil
	}
	return &InForce{a.tables.Set.WithHealth(a.health), a.devices(a.tables)}
}
