package monitor

import (
	"fmt"
	"time"

	"github.com/weft-net/weft/table"
)

// State is what one monitor knows of one member. The zero value is up.
type State struct {
	Down bool
	Run  uint32 // failures in a row; if Down and the last probe went well, successes in a row
	Why  string // of the last failure; empty if the last probe went well and the member is up
	good bool   // Run counts successes
}

// After returns what is known after one more probe, whose failure err is: nil
// if it went well.
func (s State) After(m *table.Monitor, err error) State {
	if err == nil {
		return s.afterGood(max(m.Rise, 1))
	}
	run := uint32(1)
	if !s.good {
		run += s.Run
	}
	return State{Down: s.Down || run >= max(m.Fall, 1), Run: run, Why: err.Error()}
}

func (s State) afterGood(rise uint32) State {
	if !s.Down {
		return State{}
	}
	run := uint32(1)
	if s.good {
		run += s.Run
	}
	if run >= rise {
		return State{}
	}
	return State{Down: true, Run: run, Why: s.Why, good: true}
}

// Reason says in words why the member is down; empty if it is up.
func (s State) Reason() string {
	switch {
	case !s.Down:
		return ""
	case s.good:
		return fmt.Sprintf("%s (since then answered, %s)", s.Why, times(s.Run))
	case s.Run == 0: // found by an earlier process
		return s.Why
	}
	return fmt.Sprintf("%s (%s)", s.Why, times(s.Run))
}

func times(n uint32) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Ban is what passive detection knows of one member. The zero value is up.
type Ban struct {
	Since, Until time.Time // when the member is down; zero: it is up
	Why          string    // valid iff it is down
	// base is the count of failures up to which they are forgiven: after a ban
	// as many as before make the next one.
	base uint32
}

// After returns what is known at now, when fails connections in a row have
// failed. A ban begins with MaxFails and ends by time alone.
func (b Ban) After(p *table.Passive, fails uint32, now time.Time) Ban {
	if fails < b.base {
		b.base = 0 // one went well since
	}
	switch most := max(p.MaxFails, 1); {
	case b.Down() && now.Before(b.Until):
		return b
	case b.Down():
		return Ban{base: fails}
	case fails-b.base < most:
		return b
	default:
		return Ban{
			Since: now, Until: now.Add(seconds(p.Timeout)), base: fails,
			Why: fmt.Sprintf("passive: %d connections in a row failed (for %s)", fails-b.base, seconds(p.Timeout)),
		}
	}
}

// Down says whether the member is down.
func (b Ban) Down() bool { return !b.Until.IsZero() }

// seconds returns a duration of the tables, at least one second.
func seconds(n uint32) time.Duration { return time.Duration(max(n, 1)) * time.Second }
