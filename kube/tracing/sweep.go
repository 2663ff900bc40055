package tracing

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

const (
	most     = 2000 // finished Traces that are kept
	sweeping = 30 * time.Second
)

// sweeps takes old Traces away, time and again, until ctx ends.
func (r *reconciler) sweeps(ctx context.Context) error {
	tick := time.NewTicker(sweeping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("old traces stay", "error", err)
			}
		}
	}
}

func (r *reconciler) sweep(ctx context.Context) error {
	var list v1alpha1.TraceList
	if err := r.client.List(ctx, &list); err != nil {
		return err
	}
	for _, t := range old(list.Items, r.now(), most) {
		if err := client.IgnoreNotFound(r.client.Delete(ctx, &t)); err != nil {
			return err
		}
	}
	return nil
}

// old returns the finished Traces whose time is over, and the oldest of what is
// more than most.
func old(all []v1alpha1.Trace, now time.Time, most int) []v1alpha1.Trace {
	done := slices.DeleteFunc(slices.Clone(all), func(t v1alpha1.Trace) bool { return !finished(&t) || t.DeletionTimestamp != nil })
	slices.SortFunc(done, func(x, y v1alpha1.Trace) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.UID, y.UID))
	})
	var out []v1alpha1.Trace
	for i, t := range done {
		ttl := time.Duration(cmp.Or(t.Spec.TTLSeconds, v1alpha1.DefaultTraceTTL)) * time.Second
		if len(done)-i > most || now.Sub(t.CreationTimestamp.Time) >= ttl {
			out = append(out, t)
		}
	}
	return out
}
