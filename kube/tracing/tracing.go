// Package tracing answers Trace objects: it runs package trace over the tables
// that nodes have.
//
//	tracing.go  the controller
//	question.go a Trace's spec to a trace.Question
//	answer.go   a trace.Result to a Trace's status
//	sweep.go    Traces go by their age
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// Host is the node whose tables are read if a Kubernetes node has none of its
// own: several of them may be on one host, and an address is of none.
const Host = "host1"

// How long a Trace waits for what it names.
const (
	patience = 30 * time.Second // then it failed
	again    = 500 * time.Millisecond
)

// Tables tells what nodes do.
type Tables interface {
	// Set returns what a node shall do, and since which version; nil: it is
	// unknown. The Set is not changed.
	Set(node string) (*table.Set, store.Version)
}

// Add makes a manager answer Traces by tables, and take away old ones.
func Add(mgr manager.Manager, deps writer.Deps, tables Tables) error {
	r := &reconciler{client: mgr.GetClient(), log: deps.Log, now: deps.Now, tables: tables, indexes: map[string]*indexed{}}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if err := mgr.Add(manager.RunnableFunc(r.sweeps)); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("trace").
		For(&v1alpha1.Trace{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}

type reconciler struct {
	client client.Client
	log    *slog.Logger
	now    func() time.Time
	tables Tables

	mu      sync.Mutex
	indexes map[string]*indexed // by node
}

// indexed is a Set made ready for traces, which costs much more than one of
// them.
type indexed struct {
	set         *table.Set
	index       *pipeline.Index
	attachments map[string]*table.Port // ports by what they are attached to
}

// indexOf returns a node's tables, or those of Host; nil: neither is known.
func (r *reconciler) indexOf(node string) *indexed {
	set, _ := r.tables.Set(node)
	if set == nil {
		node = Host
		set, _ = r.tables.Set(node)
	}
	if set == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.indexes[node]; x != nil && x.set == set {
		return x
	}
	x := &indexed{set, pipeline.NewIndex(set), make(map[string]*table.Port, set.Ports.Len())}
	for _, p := range set.Ports.All() {
		if p.Attachment != "" {
			x.attachments[p.Attachment] = p
		}
	}
	r.indexes[node] = x
	return x
}

// Reconcile answers a Trace once. What it names may come a moment later than
// the Trace itself: it waits for that.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	t := &v1alpha1.Trace{}
	if err := r.client.Get(ctx, req.NamespacedName, t); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if t.DeletionTimestamp != nil || finished(t) {
		return reconcile.Result{}, nil
	}
	var out reconcile.Result
	status, err := r.answer(ctx, t)
	switch f := (*unresolved)(nil); {
	case err == nil:
	case asUnresolved(err, &f):
		status = v1alpha1.TraceStatus{Phase: v1alpha1.TraceFailed, Message: f.Error()}
		if f.maybeLater && r.now().Sub(t.CreationTimestamp.Time) < patience {
			status.Phase, out.RequeueAfter = v1alpha1.TracePending, again
		}
	default:
		return out, err
	}
	if status.Phase == t.Status.Phase && status.Message == t.Status.Message {
		return out, nil // still pending for the same reason
	}
	t.Status = status
	return out, client.IgnoreNotFound(r.client.Status().Update(ctx, t))
}

func finished(t *v1alpha1.Trace) bool {
	return t.Status.Phase == v1alpha1.TraceDone || t.Status.Phase == v1alpha1.TraceFailed
}

// answer runs a trace.
// Errors: *unresolved if the spec names what is not there; those of the API
// server.
func (r *reconciler) answer(ctx context.Context, t *v1alpha1.Trace) (v1alpha1.TraceStatus, error) {
	x, q, err := r.question(ctx, t)
	if err != nil {
		return v1alpha1.TraceStatus{}, err
	}
	res, err := trace.Run(x.index, q)
	if err != nil {
		return v1alpha1.TraceStatus{}, &unresolved{"spec", err.Error(), false}
	}
	return Status(res), nil
}

// unresolved is that a Trace can not be answered.
type unresolved struct {
	field, fact string
	maybeLater  bool // what it names may come
}

func (u *unresolved) Error() string { return fmt.Sprintf("%s: %s", u.field, u.fact) }
