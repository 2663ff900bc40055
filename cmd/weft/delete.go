package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/policyapi"
	"github.com/weft-net/weft/policyapi/client"
)

// deleteCommand is what `weft delete` was asked.
type deleteCommand struct {
	env            *Env
	server         server
	overwrite      bool
	ignoreNotFound bool
}

// newDeleteCommand returns `weft delete`.
func newDeleteCommand(env *Env) *cobra.Command {
	c := &deleteCommand{env: env}
	cmd := &cobra.Command{
		Use:   "delete PATH...",
		Short: "Take objects away from weftd's intent",
		Long: `Deletes the objects at the policy paths and all below them, all or nothing. What
others still refer to is not deleted, unless those are deleted with it.`,
		Example: "  weft delete /infra/segments/web\n" +
			"  weft delete /infra/segments/web /infra/tier-1s/red --ignore-not-found",
		Args: counted(cobra.MinimumNArgs(1)),
		RunE: c.run,
	}
	cmd.Flags().BoolVar(&c.overwrite, "allow-overwrite", false, "delete what a controller made, too (it may make it again)")
	cmd.Flags().BoolVar(&c.ignoreNotFound, "ignore-not-found", false, "what does not exist is no mistake")
	c.server.flags(cmd)
	return cmd
}

func (c *deleteCommand) run(cmd *cobra.Command, args []string) error {
	for _, path := range args {
		if err := checkPath(cmd, path); err != nil {
			return err
		}
	}
	if err := c.server.open(cmd); err != nil {
		return err
	}
	query := url.Values{"path": args}
	if c.ignoreNotFound {
		query.Set("ignore_missing", "true")
	}
	var done policyapi.Report
	err := c.server.Do(cmd.Context(), client.Request{Method: http.MethodDelete, Path: "/infra", Query: query, Overwrite: c.overwrite}, &done)
	if err != nil {
		return readIntent(nil).all(err)
	}
	return printReport(c.env.Stdout, done)
}
