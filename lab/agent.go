package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/table"
)

// agentTime bounds the wait for a started agent, which may have to load the
// data plane.
const agentTime = time.Minute

// agentDir is where the agent of plan's host keeps what it needs.
func (s *System) agentDir(plan *Plan) string {
	return filepath.Join(s.dir(plan.Lab), "agent-"+plan.host().Name)
}

// client speaks to the agent of plan's host.
func (s *System) client(plan *Plan) *agent.Client {
	return &agent.Client{Socket: filepath.Join(s.agentDir(plan), "socket")}
}

// ensureAgent starts the agent of plan's host if it does not answer, and writes
// down which process it is. An agent goes on from the tables that the one
// before had.
func (s *System) ensureAgent(ctx context.Context, state *State, plan *Plan) error {
	host := plan.host()
	p, err := s.agentProcess(ctx, plan)
	if errors.Is(err, agent.ErrGone) {
		var follow []string
		if k := state.Spec.Kubernetes; k != nil {
			if follow, err = s.parts(plan, k).agentFlags(ctx); err != nil {
				return err
			}
		}
		p, err = s.startAgent(ctx, plan, follow)
	}
	if err != nil {
		return fmt.Errorf("agent of %s: %w", host.Name, err)
	}
	if slices.Equal(state.Agents, []Process{p}) {
		return nil
	}
	state.Agents = []Process{p}
	return state.save(s.dir(plan.Lab))
}

// agentProcess asks the agent of plan's host which process it is.
func (s *System) agentProcess(ctx context.Context, plan *Plan) (Process, error) {
	told, err := s.client(plan).Status(ctx)
	if err != nil {
		return Process{}, err
	}
	p, err := identify(told.PID)
	p.Machine = plan.host().Name
	return p, err
}

// startAgent returns when the agent of plan's host, with further flags, answers.
func (s *System) startAgent(ctx context.Context, plan *Plan, further []string) (Process, error) {
	host := plan.host()
	args := append(slices.Clone(s.Agent),
		"--dir", s.agentDir(plan), "--socket", s.client(plan).Socket, "--pins", s.pins(plan), "--monitors", monitorsOf(host))
	args = append(args, further...)
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	return start(*host, args, s.agentDir(plan)+".log", func(ended <-chan struct{}) error {
		for {
			_, err := s.client(plan).Status(ctx)
			if !errors.Is(err, agent.ErrGone) {
				return err
			}
			select {
			case <-ended:
				return errEnded
			case <-ctx.Done():
				return fmt.Errorf("does not answer: %w", ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

// program makes the data plane of plan's host equal to set.
func (s *System) program(ctx context.Context, plan *Plan, set *table.Set) error {
	t := &agent.Tables{Set: set, Devices: map[string]string{}}
	for _, end := range plan.ends(plan.host().Namespace) {
		if end.Object != "" {
			t.Devices[end.Object] = end.Name
		}
	}
	return s.client(plan).Apply(ctx, t)
}
