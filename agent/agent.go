// Package agent keeps one node as its tables say: it hands them to the data
// plane, together with what its monitors find out about load balancer members,
// and tells how the node is.
//
// Packets do not need it. It may be killed at any time: the data plane goes on
// forwarding, and the next agent goes on from the tables that were accepted
// last and from what was known of members then.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/metrics"
	"github.com/weft-net/weft/monitor"
	"github.com/weft-net/weft/table"
)

// Driver is what an agent needs of a data plane; see dataplane.Driver for those
// methods that are there too. They are called one at a time.
type Driver interface {
	Apply(ctx context.Context, set *table.Set, b dataplane.Binding) error
	// Sweep forgets what is over: see docs/pipeline.md, section 6.
	Sweep(ctx context.Context) error
	Close() error
	metrics.Driver // with Status and Loads
}

// network is what an agent needs of monitor.Ports.
type network interface {
	monitor.Dialer
	Make(*table.Set) error
	Keep(*table.Set) error
	Devices(*table.Set) map[string]string
	Close() error
}

// How often the agent does what.
const (
	settleEvery = 200 * time.Millisecond // at most: tell the data plane what monitors found
	failsEvery  = time.Second            // ask how many connections failed, if a pool wants to know
	sweepEvery  = 5 * time.Second        // sweep, look at counters, try again what failed
)

// Agent is the agent of one node.
type Agent struct {
	log         *slog.Logger
	store       *store
	ports       network
	attachments *attachments
	links       func(names []string) (map[string]dataplane.Link, error) // those that are there
	monitors    *monitor.Runner
	wake        chan struct{} // holds one if a finding has changed
	sampling    chan struct{} // holds one while metrics are taken

	mu       sync.Mutex // guards what follows; driver and ports are used under it
	driver   Driver
	tables   *Tables                         // accepted last; nil: none yet
	version  int64                           // of tables, as weftd counts; 0: they are not from there
	control  *follower                       // who tables come from; nil: from whoever has the socket
	health   map[table.MemberID]table.Health // that the data plane goes by
	stale    bool                            // tables are not in force as they should be
	problem  error                           // why they are not
	missing  []string                        // ports whose devices are not there
	binding  dataplane.Binding               // that was applied last, but for devices that are gone
	unbound  bool                            // there are such
	pods     map[string]dataplane.Link       // by name: devices of attachments, which nobody else makes
	renewed  chan struct{}                   // closed when there are new tables
	indexed  *index                          // see index
	followed *index                          // that the pods' interfaces are as
	unlike   []Condition                     // of those that are not
	unwell   *unwell                         // see unhealthy
	last     dataplane.Status                // when its counters were looked at last
	rising   []Condition                     // found then
	ledger   ledger
}

// newAgent takes over what an earlier agent left in s. It owns d and ports from
// now on.
func newAgent(ctx context.Context, log *slog.Logger, s *store, d Driver, ports network, links func([]string) (map[string]dataplane.Link, error), l *attachments) *Agent {
	a := &Agent{
		indexed: indexOf(&table.Set{}),
		log:     log, store: s, ports: ports, links: links, driver: d, wake: make(chan struct{}, 1), sampling: make(chan struct{}, 1),
		health: s.health(log), ledger: ledger{}, pods: map[string]dataplane.Link{}, attachments: l, renewed: make(chan struct{}),
	}
	a.monitors = monitor.NewRunner(ports, a.health, a.changed)
	t, version, err := s.tables()
	switch {
	case err != nil:
		log.Warn("stored tables can not be read; what is in force stays until new ones come", "error", err)
	case t != nil:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tables, a.version, a.stale = t, version, true
		a.realize(ctx, a.health)
		a.monitors.Follow(t.Set)
	}
	if st, err := d.Status(ctx); err == nil {
		a.last = st
	}
	return a
}

// changed says that a finding has changed. It does not wait.
func (a *Agent) changed() {
	select {
	case a.wake <- struct{}{}:
	default: // it will be seen anyway
	}
}

// Apply makes t the node's tables, all of it at once or nothing, and returns
// when they are in force. It owns t and its Set from now on.
// Errors: *BadTables if t can not be meant for this node; what the data plane
// refuses.
func (a *Agent) Apply(ctx context.Context, t *Tables) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := t.check(); err != nil {
		return &BadTables{err}
	}
	pending, err := a.store.prepare(t)
	if err != nil {
		return err
	}
	defer pending.drop()
	if a.tables != nil {
		share(a.tables.Set, t.Set)
	}
	return a.accept(ctx, t, 0, pending.commit)
}

// accept makes t, which is version v, the node's tables; keep is called when
// they are in force. The caller has a.mu.
func (a *Agent) accept(ctx context.Context, t *Tables, v int64, keep func() error) error {
	if err := a.ports.Make(t.Set); err != nil {
		return a.withdraw(err)
	}
	health := a.monitors.Health()
	if err := a.enforce(ctx, t, health, true); err != nil {
		return a.withdraw(err)
	}
	a.tables, a.version, a.health = t, v, health
	a.stale, a.problem = len(a.missing) > 0, nil
	close(a.renewed)
	a.renewed = make(chan struct{})
	if err := a.ports.Keep(t.Set); err != nil {
		a.log.Warn("monitor ports of load balancers that are gone stay", "error", err)
	}
	a.monitors.Follow(t.Set)
	a.changed() // members whose monitors are gone are up
	a.refresh()
	told := slog.LevelInfo
	if v != 0 {
		told = slog.LevelDebug // weftd sends one for every change
	}
	a.log.Log(ctx, told, "new tables are in force", "version", v, "ports", t.Set.Ports.Len(), "pools", t.Set.Pools.Len())
	if err := keep(); err != nil {
		// They are in force: to say that they are not would be worse than to
		// come up with the ones before after a restart.
		a.log.Error("new tables are not kept for a restart", "error", err)
	}
	return nil
}

// withdraw removes what was made for tables that were not accepted because of
// err.
func (a *Agent) withdraw(err error) error {
	before := table.NewSet("")
	if a.tables != nil {
		before = a.tables.Set
	}
	if undo := a.ports.Keep(before); undo != nil {
		a.log.Warn("monitor ports of refused tables stay", "error", undo)
	}
	return err
}

// given returns the devices of t's ports by policy path, but for attachments.
func (a *Agent) given(t *Tables) map[string]string {
	out := a.index(t.Set).present(a.attachments.fixed)
	maps.Copy(out, t.Devices)
	maps.Copy(out, a.ports.Devices(t.Set))
	return out
}

// devices returns all devices of t's ports by policy path.
func (a *Agent) devices(t *Tables) map[string]string {
	out := a.given(t)
	for path, device := range a.attachments.devices(a.index(t.Set)) {
		if out[path] == "" {
			out[path] = device
		}
	}
	return out
}

// realize makes the accepted tables current again, with new findings and with
// the devices that are there. What does not work is tried again at the next
// sweep.
func (a *Agent) realize(ctx context.Context, health map[table.MemberID]table.Health) {
	told := a.problem
	a.problem = func() error {
		if err := a.ports.Make(a.tables.Set); err != nil {
			return err
		}
		return a.enforce(ctx, a.tables, health, false)
	}()
	if a.stale = a.problem != nil || len(a.missing) > 0; a.problem != nil {
		if told == nil || told.Error() != a.problem.Error() {
			a.log.Error("tables are not in force as they should be", "error", a.problem)
		}
		return
	}
	a.health = health
	if err := a.store.saveHealth(health); err != nil {
		a.log.Warn("findings are not stored", "error", err)
	}
}

// settle tells the data plane what monitors found out since.
func (a *Agent) settle(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tables == nil {
		return
	}
	health := a.monitors.Health()
	if a.stale || !sameDown(health, a.health) {
		a.realize(ctx, health)
	}
	a.unbind(ctx)
	a.refresh()
}

// sameDown says whether the same members are down; why does not matter to the
// data plane.
func sameDown(a, b map[table.MemberID]table.Health) bool {
	return maps.EqualFunc(a, b, func(x, y table.Health) bool { return x.Down == y.Down })
}

// run does what is to be done again and again, until ctx ends.
func (a *Agent) run(ctx context.Context) {
	defer a.attachments.end()
	a.follow()
	sweep, fails := time.NewTicker(sweepEvery), time.NewTicker(failsEvery)
	defer sweep.Stop()
	defer fails.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-fails.C:
			a.countFails(ctx)
		case <-sweep.C:
			a.sweep(ctx)
			a.tidy()
			a.settle(ctx)
			a.follow()
		case <-a.wake:
			a.settle(ctx)
			a.follow()
			select {
			case <-ctx.Done():
			case <-time.After(settleEvery):
			}
		}
	}
}

// countFails tells the monitors which connections failed.
func (a *Agent) countFails(ctx context.Context) {
	if !a.monitors.Passive() {
		return
	}
	a.mu.Lock()
	loads, err := a.driver.Loads(ctx)
	a.mu.Unlock()
	if err != nil {
		a.log.Warn("failed connections can not be counted", "error", err)
		return
	}
	fails := map[table.MemberID]uint32{}
	for id, l := range loads.Members {
		fails[id] = l.Fails
	}
	a.monitors.Fails(fails)
}

// sweep lets the data plane forget what is over, and looks at its counters.
func (a *Agent) sweep(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.driver.Sweep(ctx); err != nil {
		a.log.Warn("sweep", "error", err)
	}
	st, err := a.driver.Status(ctx)
	if err != nil {
		a.log.Warn("data plane tells no status", "error", err)
		return
	}
	a.rising = rising(a.last, st)
	a.last = st
}

// refresh brings the conditions up to date and logs those that began or ended.
func (a *Agent) refresh() {
	found := slices.Concat(a.rising, a.unlike, a.control.conditions())
	if a.problem != nil {
		found = append(found, Condition{Type: NotRealized, Reason: "ApplyFailed", Message: a.problem.Error()})
	}
	if a.tables != nil {
		found = append(found, a.lacking()...)
		found = append(found, a.unhealthy()...)
	}
	for _, c := range a.ledger.observe(found, time.Now()) {
		a.log.Log(context.Background(), level(c), "condition", "type", c.Type, "object", c.Object, "status", c.Status, "reason", c.Reason, "message", c.Message)
	}
}

// level is Warn for what begins and Info for what ends.
func level(c Condition) slog.Level {
	if c.Status {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// close ends the monitors and lets go of everything; packets go on.
func (a *Agent) close() error {
	a.monitors.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.ports.Close(), a.driver.Close())
}
