package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/netns"
)

// Status is what a lab consists of and how each part is.
type Status struct {
	Lab      string          `json:"lab"`
	Phase    Phase           `json:"phase"`
	Machines []MachineStatus `json:"machines"`
	// DataPlane is what the driver tells of itself; nil if it does not, or
	// if the lab is not complete.
	DataPlane *dataplane.Status `json:"data_plane,omitempty"`
	// Agent is what the host's agent tells; nil if it is gone, or if the lab
	// is not complete.
	Agent *agent.Status `json:"agent,omitempty"`
}

// MachineStatus is one row of a Status.
type MachineStatus struct {
	Name      string   `json:"name"`
	Kind      Kind     `json:"kind"`
	Namespace string   `json:"namespace"`
	Addresses []string `json:"addresses"` // with the subnet's length
	MAC       string   `json:"mac,omitempty"`
	Port      string   `json:"port,omitempty"` // policy path
	HTTP      []uint16 `json:"http,omitempty"`
	State     string   `json:"state"` // "up", or what is wrong
}

// Status returns the state of a lab as the kernel has it now.
func (s *System) Status(ctx context.Context, lab string) (*Status, error) {
	l, err := s.acquire(ctx, lab) // a data plane must not be opened while it is taken down
	if err != nil {
		return nil, err
	}
	defer l.release()
	state, err := s.Load(lab)
	if err != nil {
		return nil, err
	}
	status := &Status{Lab: lab, Phase: state.Phase}
	plan := state.Plan
	for _, m := range plan.Machines {
		row := MachineStatus{
			Name: m.Name, Kind: m.Kind, Namespace: m.Namespace, Addresses: []string{}, Port: m.Port, HTTP: m.HTTP,
			State: "up",
		}
		ends := plan.ends(m.Namespace)
		for _, b := range m.Bridges {
			row.Addresses = append(row.Addresses, b.Address.String())
		}
		for _, e := range ends {
			for _, a := range e.Addresses {
				row.Addresses = append(row.Addresses, a.String())
			}
			if m.Kind == Workload {
				row.MAC = e.MAC
			}
		}
		if wrong := state.check(m, ends); wrong != "" {
			row.State = wrong
		}
		status.Machines = append(status.Machines, row)
	}
	if state.Phase != Running {
		return status, nil
	}
	err = s.withDriver(plan, func(d dataplane.Driver) error {
		told, err := d.Status(ctx)
		status.DataPlane = &told
		return err
	})
	if err != nil {
		return status, fmt.Errorf("lab %s: data plane: %w", lab, err)
	}
	told, err := s.client(plan).Status(ctx)
	if errors.Is(err, agent.ErrGone) {
		return status, nil // its host's state says so
	}
	if err != nil {
		return status, fmt.Errorf("lab %s: %w", lab, err)
	}
	status.Agent = told
	return status, nil
}

// check says what is wrong with m; empty: nothing.
func (s *State) check(m Machine, ends []End) string {
	if _, ok := idOf(m.Namespace); !ok {
		return "namespace missing"
	}
	var wrong []string
	err := inside(m.Namespace, func() error {
		for _, e := range ends {
			link, err := netlink.LinkByName(e.Name)
			switch {
			case err != nil:
				wrong = append(wrong, e.Name+" missing")
			case link.Attrs().RawFlags&unix.IFF_UP == 0:
				wrong = append(wrong, e.Name+" down")
			case link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0:
				wrong = append(wrong, e.Name+" has no carrier")
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	works := slices.ContainsFunc(s.Agents, func(p Process) bool { return p.Machine == m.Name && p.alive() })
	if m.Kind == Host && s.Phase == Running && !works {
		wrong = append(wrong, "agent ended")
	}
	serves := slices.ContainsFunc(s.Servers, func(p Process) bool { return p.Machine == m.Name && p.alive() })
	if len(m.HTTP) > 0 && !serves {
		wrong = append(wrong, "http server ended")
	}
	return strings.Join(wrong, ", ")
}

// Exec replaces this process by the program argv[0] inside the machine called
// name. It returns only if that did not work.
//
// Errors: *NoMachineError; *ExecError if the program cannot be run.
func (s *System) Exec(lab, name string, argv []string) error {
	state, err := s.Load(lab)
	if err != nil {
		return err
	}
	m, ok := state.Plan.machine(name)
	if !ok {
		return &NoMachineError{Lab: lab, Name: name, Names: state.Plan.names()}
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return &ExecError{Program: argv[0], Err: err}
	}
	n, err := netns.Open(m.Namespace)
	if err != nil {
		return err
	}
	if err := n.Enter(); err != nil {
		return err
	}
	return &ExecError{Program: argv[0], Err: syscall.Exec(path, argv, os.Environ())}
}

// NoMachineError is the answer to a name that no machine of the lab has.
type NoMachineError struct {
	Lab, Name string
	Names     []string // those that exist
}

func (e *NoMachineError) Error() string {
	return fmt.Sprintf("lab %s: %s: is no machine of it (%s)", e.Lab, e.Name, strings.Join(e.Names, ", "))
}

// ExecError says why a program could not be run.
type ExecError struct {
	Program string
	Err     error
}

func (e *ExecError) Error() string { return e.Program + ": " + e.Err.Error() }

// Unwrap returns the system's error.
func (e *ExecError) Unwrap() error { return e.Err }
