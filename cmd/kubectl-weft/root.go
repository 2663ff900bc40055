package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Env is what a command has of the world.
type Env struct {
	Stdout, Stderr io.Writer
	// Connect reaches the cluster that flags name, and returns the namespace
	// that is meant where none is given.
	Connect func(clusterFlags) (client.WithWatch, string, error)
}

// Exit codes.
const (
	exitFailed       = 1 // it did not work
	exitUsage        = 2 // the command line is wrong
	exitNotDelivered = 3 // packet or reply does not arrive
)

// exitError ends the command with a code of its own.
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

// counted makes a wrong number of arguments a usage error.
func counted(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(cmd, fmt.Errorf("%s: %w", cmd.CommandPath(), err))
		}
		return nil
	}
}

// run executes the command line args and returns the exit code. Errors go to
// env.Stderr.
func run(ctx context.Context, env *Env, args []string) int {
	root := newRootCommand(env)
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

// newRootCommand returns `kubectl weft` with all its commands.
func newRootCommand(env *Env) *cobra.Command {
	flags := &clusterFlags{}
	root := &cobra.Command{
		Use:         "kubectl-weft",
		Short:       "Explain the network of Kubernetes objects",
		Example:     "  kubectl weft trace deployment/web svc/db",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl weft"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError(cmd, fmt.Errorf("%s: %q: is not a command", cmd.CommandPath(), args[0]))
			}
			return nil
		},
		RunE:         func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(usageError)
	flags.add(root, env)
	root.AddCommand(newTraceCommand(env, flags), newWhyCommand(env, flags), newGetCommand(env, flags), newCompletionCommand(env))
	return root
}
