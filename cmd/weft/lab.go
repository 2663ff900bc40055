package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/lab"
)

// labCommands is what the commands below `weft lab` share.
type labCommands struct {
	env    *Env
	system func() (*lab.System, error)
	name   string // --lab

	openForAgent func(pinDir string) (agent.Driver, error)
}

// newLabCommand returns `weft lab`. system makes the System that the commands
// work on; open is the data plane of its agents.
func newLabCommand(env *Env, system func() (*lab.System, error), open func(pinDir string) (agent.Driver, error)) *cobra.Command {
	c := &labCommands{env: env, system: system, openForAgent: open}
	group := newGroup("lab", "Build a network in namespaces of this machine",
		"  sudo weft lab up seeds.yaml\n  sudo weft lab exec red/web -- ping -c 3 192.168.178.222\n  sudo weft lab down")
	group.AddCommand(c.up(), c.apply(), c.exec(), c.status(), c.down(), c.shellEnv(), c.check(), c.serveHTTP(), c.agent(), c.forward())
	return group
}

func (c *labCommands) up() *cobra.Command {
	return &cobra.Command{
		Use:   "up FILE...",
		Short: "Build a lab and load its data plane",
		Long: `Builds hosts, workloads, the physical router and outside machines in network
namespaces and loads the data plane.

A FILE is YAML with documents of resource_type Infra (the intent, as the NSX
Policy API takes it) and one of resource_type Lab (what stands around it).
FILE - is the standard input. What is up already stays as it is.`,
		Example: "  sudo weft lab up seeds.yaml",
		Args:    counted(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := check(lab.Facts.Ready); err != nil {
				return err
			}
			files, err := readFiles(c.env.Stdin, args)
			if err != nil {
				return err
			}
			s, done, err := c.open()
			if err != nil {
				return err
			}
			defer done()
			name, err := s.Up(cmd.Context(), files)
			if err != nil {
				return err
			}
			done()
			return c.printStatus(cmd.Context(), s, name, "machines")
		},
	}
}

func (c *labCommands) apply() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE...",
		Short: "Change the running lab",
		Long: `Changes the intent of the running lab: objects in FILE are created or replaced,
those with marked_for_delete: true are removed, all others stay. A document of
resource_type Lab replaces the lab's. Workloads that do not change keep running.`,
		Example: "  sudo weft lab apply deny-ssh.yaml",
		Args:    counted(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := check(lab.Facts.Ready); err != nil {
				return err
			}
			files, err := readFiles(c.env.Stdin, args)
			if err != nil {
				return err
			}
			s, done, err := c.open()
			if err != nil {
				return err
			}
			defer done()
			name, err := c.pick(s)
			if err != nil {
				return err
			}
			return s.Apply(cmd.Context(), name, files)
		},
	}
	c.labFlag(cmd)
	return cmd
}

func (c *labCommands) exec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec [--lab LAB] NAME -- CMD...",
		Short: "Run a program inside a machine of the lab",
		Long: `Runs CMD in the network namespace of a workload, an outside machine, the
physical router or the host, with this terminal and files. The exit code is
that of CMD; 127 if CMD is not found, 126 if it cannot be run.`,
		Example: "  sudo weft lab exec red/web -- curl -s http://192.168.178.222\n" +
			"  sudo weft lab exec host1 -- ip -s link",
		Args:              counted(needCommand),
		ValidArgsFunction: c.completeName,

		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := check(lab.Facts.Privileges); err != nil {
				return err
			}
			s, err := c.system()
			if err != nil {
				return err
			}
			name, err := c.pick(s)
			if err != nil {
				return err
			}
			_, argv := target(args)
			err = s.Exec(name, args[0], argv)
			if _, ok := errors.AsType[*lab.ExecError](err); ok {
				code := 126
				if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
					code = 127
				}
				return &exitError{code, err}
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false) // CMD's own flags are not ours
	c.labFlag(cmd)
	return cmd
}

// target splits the arguments of exec; the -- between them may be missing.
func target(args []string) (name string, argv []string) {
	name, argv = args[0], args[1:]
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	return name, argv
}

func needCommand(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("NAME: is missing")
	}
	if _, argv := target(args); len(argv) == 0 {
		return errors.New("CMD: is missing")
	}
	return nil
}

// completeName offers the machines of the lab to the shell.
func (c *labCommands) completeName(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	s, err := c.system()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	name, err := c.pick(s)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := s.Names(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *labCommands) status() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show the machines of the lab and how they are",
		Example: "  sudo weft lab status\n  sudo weft lab status -o json",
		Args:    counted(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o: %q: is not an output (table, json)", output))
			}
			if err := check(lab.Facts.Privileges); err != nil {
				return err
			}
			s, err := c.system()
			if err != nil {
				return err
			}
			name, err := c.pick(s)
			if err != nil {
				return err
			}
			return c.printStatus(cmd.Context(), s, name, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	c.labFlag(cmd)
	return cmd
}

func (c *labCommands) down() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove the lab and all that belongs to it",
		Long: `Ends all processes in the lab's namespaces, and removes the namespaces, the data
plane and the state, also when an earlier command was killed half way.`,
		Example: "  sudo weft lab down\n  sudo weft lab down --lab seeds",
		Args:    counted(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := check(lab.Facts.Privileges); err != nil {
				return err
			}
			s, done, err := c.open()
			if err != nil {
				return err
			}
			defer done()
			name, err := c.pick(s)
			if errors.Is(err, errNoLab) {
				fmt.Fprintln(c.env.Stdout, "no lab is up")
				return nil
			}
			if err != nil {
				return err
			}
			removed, err := s.Down(cmd.Context(), name)
			if err != nil {
				return err
			}
			done()
			fmt.Fprintf(c.env.Stdout, "lab %s is down: %d namespaces and %d processes removed\n",
				name, removed.Namespaces, removed.Processes)
			return nil
		},
	}
	c.labFlag(cmd)
	return cmd
}

// serveHTTP is what `weft lab up` starts inside machines that have http ports.
func (c *labCommands) serveHTTP() *cobra.Command {
	var listen []string
	cmd := &cobra.Command{
		Use:     "serve-http",
		Short:   "Answer HTTP requests with the address they came from",
		Example: "  weft lab serve-http --listen :80 --listen :88",
		Hidden:  true,
		Args:    counted(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(listen) == 0 {
				return usageError(cmd, errors.New("--listen: is missing"))
			}
			return lab.ServeHTTP(cmd.Context(), listen, c.env.Stderr)
		},
	}
	cmd.Flags().StringArrayVar(&listen, "listen", nil, "address to listen on, such as :80; may be repeated")
	return cmd
}

// agent is what `weft lab up` starts inside hosts: weft-agent itself.
func (c *labCommands) agent() *cobra.Command {
	return &cobra.Command{
		Use:                "agent",
		Short:              "Keep the data plane of a host as its tables say",
		Example:            "  weft lab agent --help",
		Hidden:             true,
		DisableFlagParsing: true, // the flags are those of weft-agent
		RunE: func(cmd *cobra.Command, args []string) error {
			if code := agent.Main(cmd.Context(), args, c.env.Stdout, c.env.Stderr, c.openForAgent); code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func (c *labCommands) labFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.name, "lab", "l", "", "name of the lab (default: the one that is up)")
}

// open returns the System with its progress and warnings on standard error,
// and what ends them; it may be called twice.
func (c *labCommands) open() (*lab.System, func(), error) {
	s, err := c.system()
	if err != nil {
		return nil, nil, err
	}
	p := startProgress(c.env.Stderr)
	s.Progress = p.set
	s.Warn = func(w intent.Problem) { p.line("warning: " + w.String()) }
	return s, p.stop, nil
}

var errNoLab = errors.New("no lab is up (use 'weft lab up FILE')")

// pick returns the lab that --lab names, or the only one.
func (c *labCommands) pick(s *lab.System) (string, error) {
	if c.name != "" {
		return c.name, lab.CheckName(c.name)
	}
	names, err := s.Labs()
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", errNoLab
	case len(names) > 1:
		return "", fmt.Errorf("several labs are up: say which with --lab (%s)", strings.Join(names, ", "))
	}
	return names[0], nil
}

// check probes this machine and returns what it lacks.
func check(lacks func(lab.Facts) error) error {
	facts, err := lab.Probe()
	if err != nil {
		return err
	}
	return lacks(facts)
}

// readFiles reads the named files; - is the standard input.
func readFiles(stdin io.Reader, names []string) ([]lab.File, error) {
	files := make([]lab.File, 0, len(names))
	for _, name := range names {
		var data []byte
		var err error
		if name == "-" {
			data, err = io.ReadAll(stdin)
		} else {
			data, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, err
		}
		files = append(files, lab.File{Name: name, Data: data})
	}
	return files, nil
}

// printStatus prints the Status of a lab as a table or json, or its machines
// only, and fails if a part of it does.
func (c *labCommands) printStatus(ctx context.Context, s *lab.System, name, output string) error {
	status, err := s.Status(ctx, name)
	if status == nil {
		return err
	}
	switch output {
	case "json":
		return errors.Join(printJSON(c.env.Stdout, status), err)
	case "machines":
		return errors.Join(printMachines(c.env.Stdout, status), err)
	default:
		return errors.Join(printTable(c.env.Stdout, status), err)
	}
}
