package monitor

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/table"
)

// Bounds on probes at work at the same time. One load balancer whose members do
// not answer must not hold up the others.
const (
	probesAtOnce      = 1024
	probesOfABalancer = 64
)

// minTurn is the least time between two probes of one target, which matters if
// a probe takes longer than the interval.
const minTurn = 10 * time.Millisecond

// Runner asks all targets of a Set again and again. Its methods may be called
// at any time from anywhere; Close must be called in the end.
type Runner struct {
	probe   func(context.Context, Target) error
	changed func()
	slots   chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex // guards what follows
	set     *table.Set
	start   map[table.MemberID]table.Health // what an earlier process found
	watched map[key]*watch
	bans    map[table.MemberID]Ban
	turns   map[table.LBServiceID]chan struct{}
}

// watch is one target and what is known of it.
type watch struct {
	target Target
	turn   chan struct{}
	end    context.CancelFunc
	state  State
	since  time.Time // of state.Down
	asked  time.Time // zero: not yet
	last   string    // failure of the last probe; empty: it went well
}

// NewRunner returns a Runner that asks by d and calls changed when a member
// goes up or down; changed must not wait for anything.
//
// start is what an earlier process found: members that were down stay so until
// they answer.
func NewRunner(d Dialer, start map[table.MemberID]table.Health, changed func()) *Runner {
	return newRunner(func(ctx context.Context, t Target) error { return Probe(ctx, d, t) }, start, changed)
}

func newRunner(probe func(context.Context, Target) error, start map[table.MemberID]table.Health, changed func()) *Runner {
	return &Runner{
		probe: probe, changed: changed, start: maps.Clone(start), slots: make(chan struct{}, probesAtOnce),
		set: table.NewSet(""), watched: map[key]*watch{}, bans: map[table.MemberID]Ban{},
		turns: map[table.LBServiceID]chan struct{}{},
	}
}

// Follow asks what set wants to be asked from now on. Targets that stay are not
// disturbed; one that only asks otherwise keeps what is known of it.
func (r *Runner) Follow(set *table.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.set
	if r.set = set; was.Pools.Same(set.Pools) && was.VIPs.Same(set.VIPs) && was.Services.Same(set.Services) {
		r.start = nil
		return // Targets looks at nothing else
	}
	want := map[key]Target{}
	for _, t := range Targets(set) {
		want[t.key()] = t
	}
	old := r.watched
	r.watched, r.turns = make(map[key]*watch, len(want)), map[table.LBServiceID]chan struct{}{}
	for k, w := range old {
		if t, ok := want[k]; ok && t.same(w.target) {
			r.watched[k], r.turns[t.Service] = w, w.turn
		} else {
			w.end()
		}
	}
	for k, t := range want {
		if r.watched[k] == nil {
			r.watched[k] = r.begin(t, old[k])
		}
	}
	r.start = nil
	r.keepBans()
}

// begin starts to watch t; before is how it was watched until now, or nil.
func (r *Runner) begin(t Target, before *watch) *watch {
	w := &watch{target: t, since: time.Now()}
	if before != nil {
		w.state, w.since, w.asked, w.last = before.state, before.since, before.asked, before.last
		w.state.Run = 0
	} else if h := r.start[t.Member]; h.Down {
		w.state, w.last = State{Down: true, Why: h.Why}, h.Why
	}
	if r.turns[t.Service] == nil {
		r.turns[t.Service] = make(chan struct{}, probesOfABalancer)
	}
	w.turn = r.turns[t.Service]
	var ctx context.Context
	ctx, w.end = context.WithCancel(context.Background())
	r.done.Go(func() { r.watch(ctx, w) })
	return w
}

// watch asks w's target until ctx ends. It begins at a random moment of the
// interval, so that the targets of a pool are not all asked at once.
func (r *Runner) watch(ctx context.Context, w *watch) {
	interval := seconds(w.target.Monitor.Interval)
	timer := time.NewTimer(rand.N(interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		err, ok := r.ask(ctx, w)
		if !ok {
			return
		}
		r.report(w, err)
		timer.Reset(max(interval-time.Since(began), minTurn))
	}
}

// ask probes when it is w's turn; ok is false if ctx ended first.
func (r *Runner) ask(ctx context.Context, w *watch) (err error, ok bool) {
	for _, c := range []chan struct{}{w.turn, r.slots} {
		select {
		case c <- struct{}{}:
			defer func() { <-c }()
		case <-ctx.Done():
			return nil, false
		}
	}
	err = r.probe(ctx, w.target)
	return err, ctx.Err() == nil
}

func (r *Runner) report(w *watch, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watched[w.target.key()] != w {
		return // it was replaced while it asked
	}
	was := w.state.Down
	w.state, w.asked, w.last = w.state.After(w.target.Monitor, err), time.Now(), ""
	if err != nil {
		w.last = err.Error()
	}
	if w.state.Down != was {
		w.since = w.asked
		r.changed()
	}
}

// Fails tells how many connections in a row failed, by member: none if it is
// missing. It should be called once a second while Passive says so.
func (r *Runner) Fails(fails map[table.MemberID]uint32) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := false
	for _, p := range r.set.Pools.All() {
		if p.Passive == nil {
			continue
		}
		for i := range p.Members {
			id := p.Members[i].ID
			was := r.bans[id]
			b := was.After(p.Passive, fails[id], now)
			if b.Down() != was.Down() {
				changed = true
			}
			if b == (Ban{}) {
				delete(r.bans, id)
			} else {
				r.bans[id] = b
			}
		}
	}
	if changed {
		r.changed()
	}
}

// Passive says whether a pool wants its connections to be counted.
func (r *Runner) Passive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.set.Pools.All() {
		if p.Passive != nil {
			return true
		}
	}
	return false
}

// keepBans forgets the bans of members that have no passive detection any more.
func (r *Runner) keepBans() {
	stay := map[table.MemberID]bool{}
	for _, p := range r.set.Pools.All() {
		for i := range p.Members {
			stay[p.Members[i].ID] = p.Passive != nil
		}
	}
	maps.DeleteFunc(r.bans, func(id table.MemberID, _ Ban) bool { return !stay[id] })
}

// Health returns a row for each member that is down, and no other.
//
// Passive detection alone takes no pool its last active member: clients make
// connections fail at will, and a pool without members helps nobody.
func (r *Runner) Health() map[table.MemberID]table.Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := map[table.MemberID][]string{}
	for _, w := range r.watched {
		if w.state.Down {
			why[w.target.Member] = append(why[w.target.Member], w.state.Reason())
		}
	}
	asked := healthOf(why)
	for id, b := range r.bans {
		if b.Down() {
			why[id] = append(why[id], b.Why)
		}
	}
	all := healthOf(why)
	for _, p := range r.set.Pools.All() {
		if p.Passive == nil || len(p.Active(all)) > 0 || len(p.Active(asked)) == 0 {
			continue
		}
		for i := range p.Members {
			if id := p.Members[i].ID; !asked[id].Down {
				delete(all, id)
			}
		}
	}
	return all
}

// healthOf returns the members that are down for some reasons.
func healthOf(why map[table.MemberID][]string) map[table.MemberID]table.Health {
	out := make(map[table.MemberID]table.Health, len(why))
	for id, lines := range why {
		slices.Sort(lines)
		out[id] = table.Health{Down: true, Why: strings.Join(lines, "; ")}
	}
	return out
}

// Check is one monitor's finding about a member.
type Check struct {
	Monitor string    `json:"monitor"` // policy path; of passive detection, its profile's
	Down    bool      `json:"down"`
	Why     string    `json:"why,omitempty"` // why it is down
	Since   time.Time `json:"since"`         // of Down
	Asked   time.Time `json:"asked,omitzero"`
	Last    string    `json:"last,omitempty"` // what was wrong the last time, also if it is not down yet
}

// Checks returns what each member's monitors found, ordered by monitor.
func (r *Runner) Checks() map[table.MemberID][]Check {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[table.MemberID][]Check{}
	for _, w := range r.watched {
		out[w.target.Member] = append(out[w.target.Member], Check{
			Monitor: w.target.Monitor.Path, Down: w.state.Down, Why: w.state.Reason(), Since: w.since, Asked: w.asked, Last: w.last,
		})
	}
	for _, p := range r.set.Pools.All() {
		if p.Passive == nil {
			continue
		}
		for i := range p.Members {
			id := p.Members[i].ID
			if b := r.bans[id]; b.Down() {
				out[id] = append(out[id], Check{Monitor: p.Passive.Path, Down: true, Why: b.Why, Since: b.Since, Last: b.Why})
			}
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b Check) int { return cmp.Compare(a.Monitor, b.Monitor) })
	}
	return out
}

// Close ends all probes and returns when no goroutine of r is left.
func (r *Runner) Close() {
	r.Follow(table.NewSet(""))
	r.done.Wait()
}
