// Package lab builds hosts, workloads, a physical router and outside machines
// in network namespaces of one machine and loads the data plane, so that the
// packets of a tenant network can be seen on a laptop.
//
// A lab is described by files: the intent and a Lab document (Spec). NewPlan
// turns them into a Plan, plain data; System does what a Plan says and removes
// it. What exists is written down before it is created, so that a lab can be
// removed after the builder was killed at any moment.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/process"
	"github.com/weft-net/weft/table"
)

// Where labs are kept by default.
const (
	DefaultStateDir = "/run/weft"
	DefaultPinDir   = ebpf.FS + "/weft"
	// DefaultKubernetes is where scripts/kube.sh puts a Kubernetes.
	DefaultKubernetes = "/var/cache/weft/kube/v1.37.1"
)

// System is the machine that labs are built on. All fields but Progress and
// Warn must be set. Its methods may be called from several processes at once:
// those that change a lab wait for each other. They need the privileges that
// Facts.Privileges names.
type System struct {
	StateDir string // one directory a lab
	PinDir   string // one directory a lab and host; it need not exist
	// Server is the command that runs ServeHTTP; --listen :PORT is appended
	// for each port.
	Server []string
	// Agent is the command that runs agent.Main; flags are appended. It drives
	// the same data plane as Open.
	Agent []string
	// Programs are what a lab with a Kubernetes needs besides. Optional.
	Programs Programs
	// Compile returns the tables of each host.
	Compile func(*intent.Tree) (map[string]*table.Set, []intent.Problem)
	// Open loads the data plane, or finds the loaded one again, of the host
	// in whose namespace it is called. What it pins goes below pinDir.
	Open func(pinDir string) (dataplane.Driver, error)
	// Progress is told what is being done now, in -ing form. Optional.
	Progress func(what string)
	// Warn is told problems that prevent nothing. Optional.
	Warn func(intent.Problem)
}

func (s *System) progress(format string, args ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, args...))
	}
}

func (s *System) dir(lab string) string { return filepath.Join(s.StateDir, lab) }

// acquire takes the lock of a lab.
func (s *System) acquire(ctx context.Context, lab string) (*lock, error) {
	return acquire(ctx, s.dir(lab), func() { s.progress("waiting for another command on lab %s", lab) })
}

// Up builds the lab that files describe and returns its name.
//
// If exactly this lab is up already, it only starts an agent that is gone. What
// an interrupted Up left is removed first. After an error nothing of the lab is left.
// Errors: Problems if the files are wrong.
func (s *System) Up(ctx context.Context, files []File) (lab string, err error) {
	in := read(files)
	spec := in.spec
	if spec == nil {
		spec = &Spec{Name: DefaultName}
	}
	g, err := s.goal(intent.NewTree(), in, spec)
	if err != nil {
		return "", err
	}
	if spec.Kubernetes != nil {
		if err := s.Programs.check(); err != nil {
			return "", err
		}
	}
	l, err := s.acquire(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	if same, err := s.isUp(ctx, g); same || err != nil {
		return spec.Name, err
	}
	if _, err := s.remove(ctx, spec.Name); err != nil {
		return "", err
	}
	if err := s.build(ctx, g); err != nil {
		s.progress("removing what was built")
		_, undo := s.remove(context.WithoutCancel(ctx), spec.Name)
		return "", errors.Join(err, undo)
	}
	return spec.Name, nil
}

// isUp says whether the lab of g is up as g wants it. It is an error if it is
// up in another way. An agent that is gone is started again. The caller holds
// the lock.
func (s *System) isUp(ctx context.Context, g *goal) (bool, error) {
	dir := s.dir(g.plan.Lab)
	state, err := loadState(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lab %s: %w (use 'weft lab down')", g.plan.Lab, err)
	case state.Phase == Building:
		return false, nil
	case state.Phase == Changing:
		return false, fmt.Errorf("lab %s: a change was interrupted (use 'weft lab apply' again, or 'weft lab down')", g.plan.Lab)
	}
	body, err := os.ReadFile(filepath.Join(dir, intentFile))
	if err != nil {
		return false, err
	}
	if !state.Spec.equal(g.spec) || !bytes.Equal(body, g.body) {
		return false, fmt.Errorf("lab %s is up with other files; use 'weft lab apply' or 'weft lab down'", g.plan.Lab)
	}
	if g.spec.Kubernetes != nil {
		if err := s.run(ctx, s.kubernetes(state, g, change{})); err != nil {
			return false, err
		}
	} else if err := s.ensureAgent(ctx, state, state.Plan); err != nil {
		return false, err
	}
	for _, m := range state.Plan.Machines {
		if wrong := state.check(m, state.Plan.ends(m.Namespace)); wrong != "" {
			return false, fmt.Errorf("lab %s is up, but broken: %s: %s (use 'weft lab down', then up again)", g.plan.Lab, m.Name, wrong)
		}
	}
	return true, nil
}

// build makes all of g. The caller holds the lock and nothing of it exists.
func (s *System) build(ctx context.Context, g *goal) error {
	state := &State{Phase: Building, Spec: g.spec, Plan: g.plan}
	if err := state.save(s.dir(g.plan.Lab)); err != nil {
		return err
	}
	c := diff(g.plan)
	return s.run(ctx, slices.Concat(buildSteps(c), s.finish(state, g, c)))
}

// finish returns the steps after those on namespaces and links: the agent, the
// data plane, the servers, and at last the state that says that all is there.
func (s *System) finish(state *State, g *goal, c change) []step {
	dir := s.dir(g.plan.Lab)
	steps := s.tables(state, g, c)
	if g.spec.Kubernetes != nil {
		steps = s.kubernetes(state, g, c)
	}
	for _, m := range c.serve {
		steps = append(steps, step{"starting the http server of " + m.Name, func(ctx context.Context) error {
			p, err := s.startServer(ctx, dir, m)
			if err != nil {
				return err
			}
			state.Servers = append(state.Servers, p)
			return state.save(dir)
		}})
	}
	return append(steps, step{"writing the state", func(context.Context) error {
		if err := writeFile(filepath.Join(dir, intentFile), g.body); err != nil {
			return err
		}
		state.Phase, state.Spec, state.Plan, state.Next = Running, g.spec, g.plan, nil
		return state.save(dir)
	}})
}

// tables returns the steps that give a host the tables of files.
func (s *System) tables(state *State, g *goal, c change) []step {
	return []step{
		{"starting the agent of " + g.plan.host().Name, func(ctx context.Context) error {
			return s.ensureAgent(ctx, state, g.plan)
		}},
		{"loading the data plane", func(ctx context.Context) error {
			return s.program(ctx, g.plan, g.set)
		}},
		{"raising links", func(context.Context) error { return raise(c.links) }},
	}
}

// Apply changes the running lab as files say: the objects in them are created
// or replaced, those marked for delete are removed, all others stay. A Lab
// document replaces the lab's. Machines whose place in the network changes are
// built anew; the others keep running.
//
// An Apply that was interrupted can be repeated.
// Errors: Problems if the files are wrong; nothing has changed then.
func (s *System) Apply(ctx context.Context, lab string, files []File) (err error) {
	l, err := s.acquire(ctx, lab)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	dir := s.dir(lab)
	state, err := s.Load(lab)
	if err != nil {
		return err
	}
	if state.Phase == Building {
		return fmt.Errorf("lab %s: was not completed (use 'weft lab up' again, or 'weft lab down')", lab)
	}
	if state.Spec.Kubernetes != nil {
		return fmt.Errorf("lab %s: %w", lab, errNoChange)
	}
	g, err := s.changed(state, files)
	if err != nil {
		return err
	}
	c := diff(g.plan, append([]*Plan{state.Plan}, state.Next...)...)
	state.Phase, state.Next = Changing, append(state.Next, g.plan)
	if err := state.save(dir); err != nil {
		return err
	}
	if len(c.remove) > 0 {
		s.progress("removing machines")
	}
	if err := s.removeMachines(ctx, state, c.remove); err != nil {
		return err
	}
	return s.run(ctx, slices.Concat(buildSteps(c), s.finish(state, g, c)))
}

// changed works out what files make of the lab in state.
func (s *System) changed(state *State, files []File) (*goal, error) {
	path := filepath.Join(s.dir(state.Plan.Lab), intentFile)
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	before := read([]File{{Name: path, Data: body}})
	tree := intent.NewTree()
	if _, problems := tree.Apply(before.changes); intent.HasErrors(append(before.problems, problems...)) {
		return nil, s.judge(append(before.problems, problems...))
	}
	in := read(files)
	spec := in.spec
	if spec == nil {
		spec = state.Spec
	}
	g, err := s.goal(tree, in, spec)
	if err != nil {
		return nil, err
	}
	if was := state.Plan; g.plan.Lab != was.Lab || !g.plan.host().equal(*was.host()) {
		return nil, fmt.Errorf("lab %s: the lab's name and its host cannot change while it is up (use 'weft lab down' first)", was.Lab)
	}
	return g, nil
}

// removeMachines ends the processes in namespaces and deletes these.
func (s *System) removeMachines(ctx context.Context, state *State, namespaces []string) error {
	if _, err := killInside(ctx, namespaces); err != nil {
		return err
	}
	for _, name := range namespaces {
		if err := netns.Delete(name); err != nil {
			return err
		}
	}
	state.Servers = slices.DeleteFunc(state.Servers, func(p Process) bool { return !p.alive() })
	return nil
}

// Removed says what a Down found.
type Removed struct {
	Processes, Namespaces int
}

// Down removes all that belongs to lab, also what an interrupted command
// left: processes in its namespaces, the namespaces, the data plane, the
// state. To remove a lab that is not there is no error.
func (s *System) Down(ctx context.Context, lab string) (r Removed, err error) {
	if err := CheckName(lab); err != nil {
		return r, err
	}
	l, err := s.acquire(ctx, lab)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	return s.remove(ctx, lab)
}

// remove is Down under the lock. The namespaces are found by their names, not
// by the state, which may be lost.
func (s *System) remove(ctx context.Context, lab string) (Removed, error) {
	var r Removed
	dir := s.dir(lab)
	if state, err := loadState(dir); err == nil {
		if state.Spec.Kubernetes != nil {
			s.progress("stopping Kubernetes")
			ended, err := s.parts(state.Plan, state.Spec.Kubernetes).stop(ctx, state)
			r.Processes += ended
			if err != nil {
				return r, err
			}
		}
		for _, p := range slices.Concat(state.Agents, state.Servers) {
			if !p.alive() {
				continue
			}
			if err := process.Kill(ctx, p.PID, p.alive); err != nil {
				return r, err
			}
			r.Processes++
		}
	}
	namespaces, err := netns.List(prefixOf(lab))
	if err != nil {
		return r, err
	}
	if len(namespaces) > 0 {
		s.progress("removing %d namespaces", len(namespaces))
	}
	killed, err := killInside(ctx, namespaces)
	r.Processes += killed
	if err != nil {
		return r, err
	}
	if err := s.unpin(lab); err != nil {
		return r, err
	}
	for _, name := range namespaces {
		if err := netns.Delete(name); err != nil {
			return r, err
		}
		r.Namespaces++
	}
	return r, clearDir(dir)
}

// clearDir removes what is in a lab's state directory except the lock, the
// state itself at last.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockFile || e.Name() == stateFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Labs returns the names of all labs of which something is known, sorted.
func (s *System) Labs() ([]string, error) { return labsIn(s.StateDir) }

// Load returns the state of a lab.
func (s *System) Load(lab string) (*State, error) {
	if err := CheckName(lab); err != nil {
		return nil, err
	}
	state, err := loadState(s.dir(lab))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: is not up (use 'weft lab up FILE')", lab)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w (use 'weft lab down')", lab, err)
	}
	return state, nil
}

// Set returns the tables that a lab's host goes by, without the health of
// members.
func (s *System) Set(ctx context.Context, lab string) (*table.Set, error) {
	state, err := s.Load(lab)
	if err != nil {
		return nil, err
	}
	now, err := s.inForce(ctx, state.Plan)
	if err != nil {
		return nil, err
	}
	return now.Set.WithHealth(nil), nil
}

// Names returns the names of a lab's machines, as Exec takes them.
func (s *System) Names(lab string) ([]string, error) {
	state, err := s.Load(lab)
	if err != nil {
		return nil, err
	}
	return state.Plan.names(), nil
}
