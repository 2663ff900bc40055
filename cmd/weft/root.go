package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/lab"
)

// Env is what a command has of the world, apart from the kernel.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exit codes that all commands share.
const (
	exitFailed = 1 // it did not work
	exitUsage  = 2 // the command line is wrong
)

// exitError ends weft with a code of its own.
type exitError struct {
	code int
	err  error // nil: all has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is the answer to a wrong command line of cmd.
func usageError(cmd *cobra.Command, err error) error {
	return &exitError{exitUsage, fmt.Errorf("%w\nsee '%s --help'", err, cmd.CommandPath())}
}

// run executes the command line args and returns the exit code. Errors go to
// env.Stderr, each line by itself.
func run(ctx context.Context, env *Env, args []string) int {
	return execute(ctx, env, newRootCommand(env, newSystem, openForAgent), args)
}

func execute(ctx context.Context, env *Env, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := exitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(env.Stderr, text)
	}
	return code
}

// newRootCommand returns `weft` with all its commands. system makes the System
// that they work on, open the data plane of its agents.
func newRootCommand(env *Env, system func() (*lab.System, error), open func(pinDir string) (agent.Driver, error)) *cobra.Command {
	root := newGroup("weft", "Tenant networks on plain Linux: run them, see them, explain them", "  sudo weft lab up seeds.yaml")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(newLabCommand(env, system, open), newTraceCommand(env, tablesInForce(system), injectInto(system)),
		newFlowsCommand(env, lookAt(system)), newStatsCommand(env, lookAt(system)), newLogsCommand(env, lookAt(system)),
		newApplyCommand(env), newGetCommand(env), newDeleteCommand(env), newVersionCommand(env))
	return root
}

// newGroup returns a command that only has subcommands: alone it prints its
// help, with an unknown one it fails.
func newGroup(use, short, example string) *cobra.Command {
	return &cobra.Command{
		Use:     use,
		Short:   short,
		Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(cmd, fmt.Errorf("%s: %q: is not a command", cmd.CommandPath(), args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// counted makes a wrong number of arguments a usage error.
func counted(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(cmd, fmt.Errorf("%s: %w", cmd.CommandPath(), err))
		}
		return nil
	}
}

func newVersionCommand(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print which weft this is",
		Example: "  weft version",
		Args:    counted(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(env.Stdout, version())
			return err
		},
	}
}

// version describes this binary from what the Go tool recorded in it.
func version() string {
	text, revision := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		text = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = ", commit " + s.Value
			}
		}
	}
	return fmt.Sprintf("weft %s%s, %s %s/%s", text, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
