package main

import (
	"context"
	"fmt"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-net/weft/control"
	"github.com/weft-net/weft/kube"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// realization is control's answers in the words of package writer, which does
// not know control.
type realization struct{ *control.Server }

// State implements writer.Realization.
func (r realization) State(v store.Version) (writer.State, string) {
	state, why := r.Server.State(v)
	switch state {
	case control.Realized:
		return writer.Realized, why
	case control.Refused:
		return writer.Refused, why
	}
	return writer.Pending, why
}

// kubeParts follow a Kubernetes, if there is one.
func (d *daemon) kubeParts(context.Context) ([]part, error) {
	if d.c.kubeconfig == "" {
		return nil, nil
	}
	cluster, err := clientcmd.BuildConfigFromFlags("", d.c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	o := kube.Options{
		Store: d.store, Realization: realization{d.control}, Tables: d.control, Log: d.log, LeaderElection: true,
	}
	return []part{{"kubernetes", func(ctx context.Context) error { return kube.Run(ctx, cluster, o) }}}, nil
}
