package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/explain"
	"github.com/weft-net/weft/policyapi/client"
)

// getCommand is what `kubectl weft get` was asked.
type getCommand struct {
	env     *Env
	cluster *clusterFlags
	server  client.Options
	output  string
}

// newGetCommand returns `kubectl weft get`.
func newGetCommand(env *Env, flags *clusterFlags) *cobra.Command {
	c := &getCommand{env: env, cluster: flags}
	cmd := &cobra.Command{
		Use:   "get KIND/NAME",
		Short: "Print what stands behind an object",
		Long: `Prints the intent that stands behind a Kubernetes object: of a pod its segment
port, of a svc (Service) virtual servers, pools and their members, of a namespace
the Tier-1, segments, NAT rules, egress address, groups and isolation, of a
networkpolicy and of the policies of a whole cluster (anp, banp, cnp) policies,
rules with their ids, and groups, of a supervisor all that namespaces share.

weftd has it, so it is asked: at --server, else ` + client.ServerEnv + `, else at
` + client.DefaultServer + ` if that is there. Without it, what the object itself says in its
annotations and conditions is printed. json and yaml are what weft apply takes.`,
		Example: "  kubectl weft get -n shop pod/web-0\n" +
			"  kubectl weft get namespace/shop\n" +
			"  kubectl weft get -n shop networkpolicy/db -o yaml\n" +
			"  kubectl weft get supervisor/default",
		Args: counted(cobra.ExactArgs(1)),
		RunE: c.run,
	}
	f := cmd.Flags()
	f.StringVarP(&c.output, "output", "o", "table", "table, json or yaml")
	f.StringVar(&c.server.Server, "server", "", "weftd: unix:PATH or https://HOST:PORT (default: "+client.ServerEnv+", else "+client.DefaultServer+")")
	f.StringVar(&c.server.CA, "ca", "", "file with the certificates that weftd's must be signed by (default: the system's)")
	f.StringVar(&c.server.Cert, "cert", "", "file with the certificate to show")
	f.StringVar(&c.server.Key, "key", "", "file with the key of that certificate")
	complete := &completer{env: env, flags: flags}
	cmd.ValidArgsFunction = complete.object
	return cmd
}

func (c *getCommand) run(cmd *cobra.Command, args []string) error {
	switch c.output {
	case "table", "json", "yaml":
	default:
		return usageError(cmd, fmt.Errorf("-o: %q: is not an output (table, json, yaml)", c.output))
	}
	if _, err := explain.ParseRef("default", args[0], explain.ObjectKinds()...); err != nil {
		return usageError(cmd, err)
	}
	weftd, err := c.weftd(cmd)
	if err != nil {
		return err
	}
	cluster, namespace, err := c.env.Connect(*c.cluster)
	if err != nil {
		return err
	}
	ref, err := explain.ParseRef(namespace, args[0], explain.ObjectKinds()...)
	if err != nil {
		return usageError(cmd, err)
	}
	o, err := explain.Object(cmd.Context(), cluster, ref)
	if err != nil {
		return err
	}
	if weftd == nil {
		return c.withoutWeftd(ref, o)
	}
	return c.print(cmd.Context(), weftd, ref, o)
}

// weftd returns the client of weftd; nil: nobody said where it is, and it is not
// at its usual place.
func (c *getCommand) weftd(cmd *cobra.Command) (*client.Client, error) {
	o := c.server
	o.Server = cmp.Or(o.Server, os.Getenv(client.ServerEnv))
	if o == (client.Options{}) {
		if _, err := os.Stat(client.DefaultSocket); err != nil {
			return nil, nil
		}
	}
	api, err := client.New(o)
	if _, ok := errors.AsType[*client.OptionError](err); ok {
		return nil, usageError(cmd, err)
	}
	return api, err
}

func (c *getCommand) withoutWeftd(ref explain.Ref, o kube.Object) error {
	hint := "--server: is missing, as is " + client.ServerEnv + ": weftd has what stands behind objects (unix:PATH, https://HOST:PORT)"
	if c.output != "table" {
		return errors.New(hint)
	}
	fmt.Fprintln(c.env.Stderr, "hint: "+hint+"; this is what the object itself says")
	return explain.PrintStatus(c.env.Stdout, ref, o)
}

func (c *getCommand) print(ctx context.Context, weftd *client.Client, ref explain.Ref, o kube.Object) error {
	behind, err := explain.FindBehind(ctx, weftd, ref, o)
	if err != nil {
		return err
	}
	if c.output == "table" {
		return behind.Print(c.env.Stdout)
	}
	body, err := client.Body(c.output, behind.Own...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.env.Stdout, strings.TrimSuffix(string(body), "\n"))
	return err
}
