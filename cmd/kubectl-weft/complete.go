package main

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/explain"
)

// completionScript is what kubectl runs to complete the plugin's arguments, as
// kubectl_complete-weft in PATH.
const completionScript = `#!/bin/sh
exec kubectl-weft __complete "$@"
`

// newCompletionCommand returns `kubectl weft completion`.
func newCompletionCommand(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion",
		Short: "Print the script by which kubectl completes names after kubectl weft",
		Long: `Prints a script. As the executable file kubectl_complete-weft in PATH it is what
kubectl asks when it completes the arguments of kubectl weft: kinds, names in the
cluster, namespaces. kubectl's own completion must be on: see kubectl completion
--help.`,
		Example: "  kubectl weft completion | sudo install /dev/stdin /usr/local/bin/kubectl_complete-weft",
		Args:    counted(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(env.Stdout, completionScript)
			return err
		},
	}
}

// completeTime bounds what completion asks the cluster: somebody waits with a
// finger on the key.
const completeTime = 3 * time.Second

// completer completes arguments from the cluster. What it cannot find out it
// leaves out.
type completer struct {
	env   *Env
	flags *clusterFlags
}

const (
	word = cobra.ShellCompDirectiveNoFileComp
	part = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
)

// ends completes SRC DST [PROTOCOL].
func (c *completer) ends(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return c.refs(cmd.Context(), explain.SourceKinds(), typed)
	case 1:
		return c.refs(cmd.Context(), explain.DestinationKinds(), typed)
	case 2:
		if strings.Contains(typed, "/") {
			return nil, word
		}
		return beginning([]string{"icmp", "tcp/", "udp/"}, typed), part
	}
	return nil, word
}

// object completes KIND/NAME.
func (c *completer) object(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, word
	}
	return c.refs(cmd.Context(), explain.ObjectKinds(), typed)
}

// refs completes KIND/NAME and NAMESPACE/KIND/NAME.
func (c *completer) refs(ctx context.Context, kinds []string, typed string) ([]string, cobra.ShellCompDirective) {
	cluster, namespace, err := c.env.Connect(*c.flags)
	if err != nil {
		return nil, word
	}
	var heads []string
	for _, kind := range kinds {
		if kind != explain.Address {
			heads = append(heads, explain.Word(kind)+"/")
		}
	}
	parts := strings.Split(typed, "/")
	if len(parts) == 1 {
		out := beginning(heads, typed)
		for _, ns := range names(ctx, cluster, explain.Namespace, "") {
			out = append(out, beginning([]string{ns + "/"}, typed)...)
		}
		return out, part
	}
	if r, err := explain.ParseRef(namespace, typed+"x", kinds...); err == nil {
		head := typed[:strings.LastIndexByte(typed, '/')+1]
		var out []string
		for _, name := range names(ctx, cluster, r.Kind, r.Namespace) {
			out = append(out, beginning([]string{head + name}, typed)...)
		}
		return out, word
	}
	if len(parts) > 2 {
		return nil, word
	}
	var out []string
	for _, head := range heads { // of another namespace
		out = append(out, beginning([]string{parts[0] + "/" + head}, typed)...)
	}
	return out, part
}

// namespaces completes -n.
func (c *completer) namespaces(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	cluster, _, err := c.env.Connect(*c.flags)
	if err != nil {
		return nil, word
	}
	return beginning(names(cmd.Context(), cluster, explain.Namespace, ""), typed), word
}

// contexts completes --context.
func (c *completer) contexts(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	config, err := c.flags.config().RawConfig()
	if err != nil {
		return nil, word
	}
	return beginning(slices.Sorted(maps.Keys(config.Contexts)), typed), word
}

func beginning(list []string, typed string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, typed) })
}

// names returns the names of a kind's objects in a namespace, sorted.
func names(ctx context.Context, c client.Reader, kind, namespace string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	var out []string
	for _, v := range explain.Versions(kind) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(v.WithKind(kind + "List"))
		if c.List(ctx, list, client.InNamespace(namespace)) != nil {
			continue
		}
		for _, o := range list.Items {
			out = append(out, o.Name)
		}
		slices.Sort(out)
		break
	}
	return out
}
