package lab

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/process"
	"github.com/weft-net/weft/table"
)

// killAgent ends a lab's agent as a crash would.
func killAgent(t *testing.T, s *System, lab string) Process {
	t.Helper()
	state, err := s.Load(lab)
	if err != nil {
		t.Fatal(err)
	}
	p := state.Agents[0]
	if err := process.Kill(t.Context(), p.PID, p.alive); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAgentThatIsGoneIsStartedAgain(t *testing.T) {
	s, driver := newSystem(t)
	lab := testLab(t, s, "revive")
	files := labFiles(t, "seeds.yaml", lab)
	up(t, s, files)
	first := agentPID(t, s, lab)
	if _, err := s.Tables(t.Context(), lab); err != nil {
		t.Error(err)
	}
	killAgent(t, s, lab)
	_, err := s.Tables(t.Context(), lab)
	if want := "lab " + lab + ": the agent is not running (use 'weft lab up' or 'weft lab apply' again)"; err == nil || err.Error() != want {
		t.Errorf("tables without an agent: %v, want %s", err, want)
	}
	status, err := s.Status(t.Context(), lab)
	if err != nil || status.Agent != nil || status.DataPlane == nil {
		t.Errorf("status without an agent: %+v, %v", status, err)
	}
	up(t, s, files)
	second := agentPID(t, s, lab)
	told := driver.told(t)
	if second == first || len(told) != 2 || table.Diff(told[0].Set, told[1].Set).Len() > 0 {
		t.Errorf("up: process %d after %d, told %d times, want the tables of the first once more", second, first, len(told))
	}
	killAgent(t, s, lab)
	if err := s.Apply(t.Context(), lab, []File{{Name: "change", Data: []byte(deleteDB)}}); err != nil {
		t.Fatal(err)
	}
	if now := agentPID(t, s, lab); now == second {
		t.Errorf("apply: the agent is still process %d", now)
	}
	wantUp(t, s, lab, "host1", "physical", "web", "client", "red/web", "new")
}

// TestAgentThatNobodyWroteDown is about a kill between the agent's start and
// the state that names it.
func TestAgentThatNobodyWroteDown(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "found")
	files := labFiles(t, "seeds.yaml", lab)
	up(t, s, files)
	pid := agentPID(t, s, lab)
	state, err := s.Load(lab)
	if err != nil {
		t.Fatal(err)
	}
	state.Agents = nil
	if err := state.save(s.dir(lab)); err != nil {
		t.Fatal(err)
	}
	up(t, s, files)
	if now := agentPID(t, s, lab); now != pid {
		t.Errorf("process %d took the place of %d", now, pid)
	}
	state.Agents = nil
	if err := state.save(s.dir(lab)); err != nil {
		t.Fatal(err)
	}
	if removed, err := s.Down(t.Context(), lab); err != nil || removed.Processes != 2 {
		t.Errorf("Down = %+v, %v, want agent and server ended", removed, err)
	}
}

func TestAgentThatCanNotStart(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "broken")
	s.Agent = append(s.Agent, "--nope")
	_, err := s.Up(t.Context(), labFiles(t, "seeds.yaml", lab))
	if err == nil || !strings.Contains(err.Error(), "agent of host1: ended before it listened (see 'weft-agent --help')") {
		t.Errorf("Up: %v", err)
	}
	wantNothing(t, s, lab)
}
