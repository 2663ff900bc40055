package monitor

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/table"
)

// members is a fake Dialer's other side: which members answer, and how often
// each target was asked. Its clock is synctest's.
type members struct {
	mu    sync.Mutex
	dead  map[table.MemberID]bool
	slow  time.Duration // how long each answer takes
	asked map[table.MemberID]int
	now   int // probes at work
	most  int
}

func (m *members) probe(ctx context.Context, t Target) error {
	m.mu.Lock()
	m.asked[t.Member]++
	m.now++
	m.most = max(m.most, m.now)
	dead, slow := m.dead[t.Member], m.slow
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	if dead {
		return errors.New("tcp: connect " + t.Addr.String() + ": connection refused")
	}
	return nil
}

func (m *members) kill(id table.MemberID, dead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead[id] = dead
}

func (m *members) counts() map[table.MemberID]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.asked)
}

// ran runs fn in a bubble with a Runner; no goroutine may be left at the end.
func ran(t *testing.T, start map[table.MemberID]table.Health, fn func(r *Runner, m *members, changes *int)) {
	synctest.Test(t, func(*testing.T) {
		m := &members{dead: map[table.MemberID]bool{}, asked: map[table.MemberID]int{}}
		changes := 0
		r := newRunner(m.probe, start, func() { changes++ })
		fn(r, m, &changes)
		r.Close()
	})
}

// after lets d pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRunnerFollowsMembers(t *testing.T) {
	ran(t, nil, func(r *Runner, m *members, changes *int) {
		m.kill(2, true)
		r.Follow(bed(3, tcp("/tcp")))
		after(10 * time.Second) // two probes each: not enough for Fall
		if h := r.Health(); len(h) != 0 {
			t.Errorf("after two failures: %v", h)
		}
		after(5 * time.Second)
		want := map[table.MemberID]table.Health{2: {Down: true, Why: "tcp: connect 10.1.0.2:80: connection refused (3 times)"}}
		if diff := cmp.Diff(want, r.Health()); diff != "" || *changes != 1 {
			t.Errorf("%d changes; health (-want +got):\n%s", *changes, diff)
		}
		m.kill(2, false)
		after(10 * time.Second)
		if h := r.Health(); len(h) != 0 || *changes != 2 {
			t.Errorf("after two successes: %v, %d changes", h, *changes)
		}
	})
}

func TestRunnerDisturbsNothingThatStays(t *testing.T) {
	ran(t, nil, func(r *Runner, m *members, _ *int) {
		m.kill(1, true)
		m.kill(3, true)
		r.Follow(bed(3, tcp("/tcp")))
		after(15 * time.Second)
		fewer := bed(2, tcp("/tcp"))
		other := *fewer.Pools.Get(1).Monitors[0]
		for range 100 { // a Set a second, more often than the interval
			r.Follow(fewer)
			after(time.Second)
		}
		if got := m.counts(); got[2] != 23 || got[3] != 3 {
			t.Errorf("probes in 115 s at 5 s: %v, want 23 of member 2, 3 of the removed one", got)
		}
		if h := r.Health(); len(h) != 1 || !h[1].Down {
			t.Errorf("health %v, want only member 1 down", h)
		}
		other.Interval = 1
		changed := bed(2, &other)
		r.Follow(changed)
		if h := r.Health(); len(h) != 1 || !h[1].Down {
			t.Errorf("with another interval: health %v, want member 1 still down", h)
		}
		after(10 * time.Second)
		if got := m.counts()[2]; got != 33 {
			t.Errorf("probes after 10 s more at 1 s: %d, want 33", got)
		}
	})
}

func TestRunnerWantsAllMonitorsUp(t *testing.T) {
	ran(t, nil, func(r *Runner, m *members, _ *int) {
		inner := r.probe
		r.probe = func(ctx context.Context, t Target) error {
			if t.Monitor.Path == "/http" {
				return errors.New("http: GET 10.1.0.1:80/: status 503 (200)")
			}
			return inner(ctx, t)
		}
		http := tcp("/http")
		http.Kind = table.MonitorHTTP
		s := bed(1, tcp("/tcp"), http)
		s.Pools.Get(1).Passive = &table.Passive{Path: "/passive", MaxFails: 2, Timeout: 60}
		r.Follow(s)
		after(15 * time.Second)
		r.Fails(map[table.MemberID]uint32{1: 2})
		const why = "http: GET 10.1.0.1:80/: status 503 (200) (3 times); passive: 2 connections in a row failed (for 1m0s)"
		if got := r.Health()[1]; got != (table.Health{Down: true, Why: why}) {
			t.Errorf("got %+v", got)
		}
		checks := r.Checks()[1]
		var got []string
		for _, c := range checks {
			got = append(got, c.Monitor, c.Why)
		}
		want := []string{"/http", "http: GET 10.1.0.1:80/: status 503 (200) (3 times)", "/passive", "passive: 2 connections in a row failed (for 1m0s)", "/tcp", ""}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("checks (-want +got):\n%s", diff)
		}
		s = bed(1, tcp("/tcp"))
		r.Follow(s) // neither HTTP nor passive detection
		if h := r.Health(); len(h) != 0 {
			t.Errorf("without the monitors that found it down: %v", h)
		}
	})
}

func TestRunnerBansByFailsAndTime(t *testing.T) {
	ran(t, nil, func(r *Runner, _ *members, changes *int) {
		s := bed(2)
		s.Pools.Get(1).Passive = &table.Passive{MaxFails: 3, Timeout: 10}
		r.Follow(s)
		if !r.Passive() {
			t.Error("nobody wants fails to be counted")
		}
		for second := range 20 {
			r.Fails(map[table.MemberID]uint32{1: uint32(min(second, 3)), 2: 2})
			if h := r.Health(); h[1].Down != (second >= 3 && second < 13) || h[2].Down {
				t.Errorf("second %d: %v", second, h)
			}
			after(time.Second)
		}
		if *changes != 2 {
			t.Errorf("%d changes", *changes)
		}
	})
}

func TestRunnerGoesOnFromWhatWasFound(t *testing.T) {
	start := map[table.MemberID]table.Health{1: {Down: true, Why: "tcp: refused (9 times)"}, 7: {Down: true, Why: "gone"}}
	ran(t, start, func(r *Runner, _ *members, changes *int) {
		r.Follow(bed(2, tcp("/tcp")))
		if diff := cmp.Diff(map[table.MemberID]table.Health{1: start[1]}, r.Health()); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		after(10 * time.Second)
		if h := r.Health(); len(h) != 0 || *changes != 1 {
			t.Errorf("after two successes: %v, %d changes", h, *changes)
		}
	})
}

func TestRunnerBoundsProbes(t *testing.T) {
	ran(t, nil, func(r *Runner, m *members, _ *int) {
		m.slow = 15 * time.Second
		r.Follow(bed(200, tcp("/tcp")))
		after(30 * time.Second)
		if m.most != probesOfABalancer {
			t.Errorf("%d probes at once, want %d", m.most, probesOfABalancer)
		}
		if got := len(m.counts()); got < 2*probesOfABalancer {
			t.Errorf("%d members were asked in two turns, want %d", got, 2*probesOfABalancer)
		}
	})
}
