package monitor

import (
	"errors"
	"testing"
	"time"

	"github.com/weft-net/weft/table"
)

func TestStateCountsInARow(t *testing.T) {
	m := &table.Monitor{Fall: 3, Rise: 2}
	refused := errors.New("tcp: connect 10.1.0.5:80: connection refused")
	const why = "tcp: connect 10.1.0.5:80: connection refused"
	for name, tc := range map[string]struct {
		probes string // + went well, - failed
		down   bool
		why    string
	}{
		"new":                {"", false, ""},
		"one failure":        {"-", false, ""},
		"two failures":       {"--", false, ""},
		"fall":               {"---", true, why + " (3 times)"},
		"still":              {"-----", true, why + " (5 times)"},
		"not in a row":       {"--+--", false, ""},
		"one success":        {"---+", true, why + " (since then answered, once)"},
		"rise":               {"---++", false, ""},
		"rise not in a row":  {"---+-+", true, why + " (since then answered, once)"},
		"failed again":       {"---+-", true, why + " (once)"},
		"up and down again":  {"---++---", true, why + " (3 times)"},
		"up forgets failure": {"---++--", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			for _, p := range tc.probes {
				if p == '+' {
					s = s.After(m, nil)
				} else {
					s = s.After(m, refused)
				}
			}
			if s.Down != tc.down || s.Reason() != tc.why {
				t.Errorf("down %v, %q; want %v, %q", s.Down, s.Reason(), tc.down, tc.why)
			}
		})
	}
}

func TestStateTellsTheLastFailure(t *testing.T) {
	m := &table.Monitor{Fall: 2, Rise: 1}
	s := State{}.After(m, errors.New("a")).After(m, errors.New("b"))
	if got := s.Reason(); got != "b (2 times)" {
		t.Errorf("got %q", got)
	}
	if s = s.After(&table.Monitor{}, nil); s != (State{}) {
		t.Errorf("a monitor without counts wants more than one success: %+v", s)
	}
}

func TestBanBeginsWithFailuresAndEndsWithTime(t *testing.T) {
	p := &table.Passive{MaxFails: 5, Timeout: 10}
	start := time.Unix(1000, 0)
	type look struct {
		second int
		fails  uint32
		down   bool
	}
	for name, looks := range map[string][]look{
		"too few":             {{0, 4, false}, {60, 4, false}},
		"enough":              {{0, 5, true}, {9, 5, true}, {10, 5, false}, {11, 5, false}},
		"again after as many": {{0, 5, true}, {10, 5, false}, {11, 9, false}, {12, 10, true}, {22, 10, false}},
		"fails meanwhile":     {{0, 5, true}, {5, 8, true}, {10, 8, false}, {11, 12, false}, {12, 13, true}},
		"success between":     {{0, 5, true}, {10, 5, false}, {11, 0, false}, {12, 4, false}, {13, 5, true}},
		"success while down":  {{0, 6, true}, {5, 1, true}, {10, 1, false}, {11, 5, false}, {12, 6, true}},
	} {
		t.Run(name, func(t *testing.T) {
			var b Ban
			for _, l := range looks {
				b = b.After(p, l.fails, start.Add(time.Duration(l.second)*time.Second))
				if b.Down() != l.down {
					t.Errorf("at second %d with %d fails: down %v", l.second, l.fails, b.Down())
				}
			}
		})
	}
	b := Ban{}.After(p, 7, start)
	if want := "passive: 7 connections in a row failed (for 10s)"; b.Why != want || !b.Since.Equal(start) {
		t.Errorf("since %v: %q, want %q", b.Since, b.Why, want)
	}
}
