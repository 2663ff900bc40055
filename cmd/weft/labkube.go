package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/lab"
)

// shellEnv is `weft lab env`.
func (c *labCommands) shellEnv() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print what a shell needs for kubectl and weft apply",
		Long: `Prints lines for a shell that make kubectl speak to the lab's Kubernetes and
'weft apply' to its control plane, with the lab's kubectl and its plugin in PATH.`,
		Example: "  eval \"$(sudo weft lab env)\"\n  kubectl get namespaces",
		Args:    counted(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return picked(c.system, c.name, func(s *lab.System, name string) error {
				kubeconfig, err := s.Kubeconfig(name)
				if err != nil {
					return err
				}
				server, err := s.ServerOf(name)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.env.Stdout, "export KUBECONFIG=%s\nexport WEFT_SERVER=%s\nexport PATH=%s:%s:$PATH\n",
					kubeconfig, server, s.Programs.CNI, s.Programs.Kubernetes)
				return err
			})
		},
	}
	c.labFlag(cmd)
	return cmd
}

// forward is what `weft lab up` starts for the API server.
func (c *labCommands) forward() *cobra.Command {
	var namespace, listen, to string
	cmd := &cobra.Command{
		Use:     "forward",
		Short:   "Lead TCP connections from a network namespace to this one",
		Example: "  weft lab forward --namespace weft-red-control-plane --listen :6443 --to 127.0.0.1:6443",
		Hidden:  true,
		Args:    counted(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Forward(cmd.Context(), namespace, listen, to)
		},
	}
	f := cmd.Flags()
	f.StringVar(&namespace, "namespace", "", "name of the network namespace")
	f.StringVar(&listen, "listen", "", "address inside it, such as :6443")
	f.StringVar(&to, "to", "", "address outside it")
	for _, name := range []string{"namespace", "listen", "to"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is two lines above
		}
	}
	return cmd
}
