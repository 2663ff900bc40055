package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/internal/leaks"
	"github.com/weft-net/weft/lab"
)

// check is `weft lab check`.
func (c *labCommands) check() *cobra.Command {
	var wait time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Compare a lab with what its Kubernetes objects ask for",
		Long: `Compares the lab's Kubernetes objects, weftd's intent, the tables that weftd
compiled, those of the agent and those of the kernel, attachments, devices,
network namespaces, pods and processes, and prints what is missing, double or
left behind. The exit code is 1 if something is.`,
		Example: "  sudo weft lab check\n  sudo weft lab check --wait 30s -o json",
		Args:    counted(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return usageError(cmd, fmt.Errorf("-o: %q: is not an output (text, json)", output))
			}
			if err := check(lab.Facts.Privileges); err != nil {
				return err
			}
			return picked(c.system, c.name, func(s *lab.System, name string) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), wait)
				defer cancel()
				_, found, err := leaks.Settle(ctx, func(ctx context.Context) (*leaks.Facts, error) { return leaks.Look(ctx, s, name) })
				if err != nil {
					return err
				}
				return c.printFindings(output, name, found)
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long what is on its way may take")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.labFlag(cmd)
	return cmd
}

// printFindings prints what was found; something is an error.
func (c *labCommands) printFindings(output, name string, found []leaks.Finding) error {
	if output == "json" {
		if err := printJSON(c.env.Stdout, append([]leaks.Finding{}, found...)); err != nil {
			return err
		}
	} else {
		for _, f := range found {
			fmt.Fprintln(c.env.Stdout, f)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("lab %s: %d findings", name, len(found))
	}
	if output == "text" {
		fmt.Fprintf(c.env.Stdout, "lab %s: all is as it should be\n", name)
	}
	return nil
}
