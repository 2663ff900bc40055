package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// whyCommand is what `kubectl weft why` was asked.
type whyCommand struct{ question }

// newWhyCommand returns `kubectl weft why`.
func newWhyCommand(env *Env, flags *clusterFlags) *cobra.Command {
	c := &whyCommand{question{env: env, cluster: flags}}
	cmd := &cobra.Command{
		Use:   "why SRC DST [PROTOCOL]",
		Short: "Say which object allows or drops a connection, and what to do",
		Long: `Says in short whether a connection is allowed or dropped, by which firewall
rules, and which Kubernetes object made them: a NetworkPolicy, the isolation of a
namespace, a ClusterNetworkPolicy, or none because people made the rule with
weft apply. What NetworkPolicies can allow comes with one that does; -o yaml
prints that alone.

` + endsHelp + `

The exit code is that of kubectl weft trace.`,
		Example: "  kubectl weft why -n svc-contour-domain-c8 deployment/envoy ns-hackazon-app/deployment/hackazon-shop\n" +
			"  kubectl weft why -n shop pod/web-0 svc/db tcp/3306 -o yaml | kubectl apply -f -",
		Args: counted(cobra.RangeArgs(2, 3)),
		RunE: c.run,
	}
	c.flags(cmd, "text, json or yaml (the NetworkPolicy that would allow it)")
	return cmd
}

func (c *whyCommand) run(cmd *cobra.Command, args []string) error {
	switch c.output {
	case "text", "json", "yaml":
	default:
		return usageError(cmd, fmt.Errorf("-o: %q: is not an output (text, json, yaml)", c.output))
	}
	a, _, err := c.ask(cmd, args)
	switch {
	case err != nil:
		return err
	case c.output == "json":
		return end(a, printJSON(c.env.Stdout, a))
	case c.output == "text":
		_, err = io.WriteString(c.env.Stdout, a.Text())
		return end(a, err)
	case a.Delivered:
		return errors.New("it is allowed: no NetworkPolicy is needed")
	case a.Suggestion == nil:
		return errors.New("no NetworkPolicy would allow it: " + a.ToDo)
	}
	_, err = io.WriteString(c.env.Stdout, a.Suggestion.YAML())
	return err
}
