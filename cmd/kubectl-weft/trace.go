package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/kube/explain"
	"github.com/weft-net/weft/kube/v1alpha1"
)

// traceCommand is what `kubectl weft trace` was asked.
type traceCommand struct{ question }

// newTraceCommand returns `kubectl weft trace`.
func newTraceCommand(env *Env, flags *clusterFlags) *cobra.Command {
	c := &traceCommand{question{env: env, cluster: flags}}
	cmd := &cobra.Command{
		Use:   "trace SRC DST [PROTOCOL]",
		Short: "Say what a packet between pods and services meets on its way",
		Long: `Asks weftd by a Trace object what becomes of the first packet of a connection
and of its reply, and prints every rule, route and translation on the way, the
hops that traceroute finds, the source address that the destination sees, and
for a drop the rule and the Kubernetes object that made it. Nothing is sent.

` + endsHelp + `

The exit code is 0 if packet and reply arrive, 3 if one of them is dropped or
rejected, 2 for a wrong command line, and 1 for all else.`,
		Example: "  kubectl weft trace -n shop deployment/web svc/db\n" +
			"  kubectl weft trace -n svc-contour-domain-c8 deployment/envoy ns-hackazon-app/deployment/hackazon-shop tcp/80\n" +
			"  kubectl weft trace pod/web-0 192.168.178.222 icmp -o json\n" +
			"  kubectl weft trace 192.168.178.222 10.15.8.4 tcp/80",
		Args: counted(cobra.RangeArgs(2, 3)),
		RunE: c.run,
	}
	c.flags(cmd, "text or json")
	return cmd
}

func (c *traceCommand) run(cmd *cobra.Command, args []string) error {
	if c.output != "text" && c.output != "json" {
		return usageError(cmd, fmt.Errorf("-o: %q: is not an output (text, json)", c.output))
	}
	a, status, err := c.ask(cmd, args)
	if err != nil {
		return err
	}
	if c.output == "json" {
		return end(a, printJSON(c.env.Stdout, struct {
			*explain.Answer
			Status v1alpha1.TraceStatus `json:"status"`
		}{a, status}))
	}
	return end(a, printTrace(c.env.Stdout, a, status))
}

// printTrace prints the text of a trace and, behind it, what stopped the packet.
func printTrace(w io.Writer, a *explain.Answer, status v1alpha1.TraceStatus) error {
	text := strings.TrimSuffix(status.Text, "\n") + "\n"
	if isTerminal(w) {
		text = painted(text)
	}
	if verdict := a.Verdict(); len(verdict) > 0 {
		text += "\n" + strings.Join(verdict, "\n") + "\n"
		if a.Suggestion != nil {
			text += "          ('kubectl weft why' with the same arguments prints one)\n"
		}
	}
	_, err := io.WriteString(w, text)
	return err
}

// painted gives the line of the disposition a colour.
func painted(text string) string {
	const red, green, plain = "\033[31m", "\033[32m", "\033[0m"
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "dropped at "), strings.HasPrefix(line, "rejected at "), strings.Contains(line, ", but its reply is "):
			lines[i] = red + line + plain
		case strings.HasPrefix(line, "delivered to "):
			lines[i] = green + line + plain
		}
	}
	return strings.Join(lines, "\n")
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
