package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/explain"
	"github.com/weft-net/weft/kube/v1alpha1"
)

// question is what the commands that ask for a connection have in common.
type question struct {
	env     *Env
	cluster *clusterFlags
	timeout time.Duration
	output  string
}

// endsHelp says what the arguments may be.
const endsHelp = `SRC and DST are pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME,
replicaset/NAME (its first ready pod) or an address; DST may be svc/NAME, too.
Those of another namespace are NAMESPACE/KIND/NAME. PROTOCOL is tcp/PORT,
udp/PORT or icmp; by default the first port of the Service or of the pod's
containers, else icmp.`

func (q *question) flags(cmd *cobra.Command, outputs string) {
	cmd.Flags().DurationVar(&q.timeout, "timeout", 40*time.Second, "how long to wait for the answer")
	cmd.Flags().StringVarP(&q.output, "output", "o", "text", outputs)
	c := &completer{env: q.env, flags: q.cluster}
	cmd.ValidArgsFunction = c.ends
}

// parse reads the arguments SRC DST [PROTOCOL]; the protocol is zero if it is not
// given.
func (q *question) parse(cmd *cobra.Command, namespace string, args []string) (from, to explain.Ref, proto explain.Protocol, err error) {
	from, errFrom := explain.ParseRef(namespace, args[0], explain.SourceKinds()...)
	if errFrom != nil {
		errFrom = fmt.Errorf("SRC: %w", errFrom)
	}
	to, errTo := explain.ParseRef(namespace, args[1], explain.DestinationKinds()...)
	if errTo != nil {
		errTo = fmt.Errorf("DST: %w", errTo)
	}
	var errProto error
	if len(args) > 2 {
		proto, errProto = explain.ParseProtocol(args[2])
	}
	if err := errors.Join(errFrom, errTo, errProto); err != nil {
		return from, to, proto, usageError(cmd, err)
	}
	return from, to, proto, nil
}

// ask asks and returns the answer.
func (q *question) ask(cmd *cobra.Command, args []string) (*explain.Answer, v1alpha1.TraceStatus, error) {
	var status v1alpha1.TraceStatus
	// Before the cluster is there, what does not depend on it.
	if _, _, _, err := q.parse(cmd, "default", args); err != nil {
		return nil, status, err
	}
	c, namespace, err := q.env.Connect(*q.cluster)
	if err != nil {
		return nil, status, err
	}
	from, to, proto, err := q.parse(cmd, namespace, args)
	if err != nil {
		return nil, status, err
	}
	ctx := cmd.Context()
	ask := explain.Question{Protocol: proto}
	var errFrom, errTo error
	ask.From, errFrom = explain.Resolve(ctx, c, from)
	ask.To, errTo = explain.Resolve(ctx, c, to)
	if err := errors.Join(errFrom, errTo); err != nil {
		return nil, status, err
	}
	if proto.Name == "" {
		ask.Protocol = ask.To.DefaultProtocol()
	}
	note, stop := startProgress(q.env.Stderr, "waiting for the trace")
	status, err = explain.Ask(ctx, c, ask.Trace(namespace), q.timeout, note)
	stop()
	if err != nil {
		return nil, status, err
	}
	return explain.Explain(ask, status, q.origins(ctx, c, ask)), status, nil
}

// origins finds who made policies. Who may not look gets what the paths say.
func (q *question) origins(ctx context.Context, c client.Client, ask explain.Question) func(string) explain.Origin {
	return func(policy string) explain.Origin {
		o, err := explain.FindOrigin(ctx, c, policy, ask.Namespaces()...)
		if err != nil {
			fmt.Fprintf(q.env.Stderr, "warning: %v\n", err)
		}
		return o
	}
}

// end returns the error that says by the exit code what became of the packet.
func end(a *explain.Answer, err error) error {
	if err == nil && !a.Delivered {
		return &exitError{code: exitNotDelivered}
	}
	return err
}
