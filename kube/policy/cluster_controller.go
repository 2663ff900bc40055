package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// Conditions of cluster policies.
const (
	// ConditionAccepted says that all parts of the policy have a meaning here;
	// those that have none are closed.
	ConditionAccepted = "Accepted"
	// ConditionRealized says that every node has it in force.
	ConditionRealized = "Realized"

	reasonAccepted    = "Accepted"
	reasonUnsupported = "Unsupported"
)

// clusters makes intent of cluster policies of one kind.
type clusters struct {
	client.Client
	*memory
	api  api
	book *book
}

// addClusters makes the controller of one kind of cluster policies part of a
// manager, which may run already. The API server must serve the kind.
func addClusters(mgr manager.Manager, deps writer.Deps, a api) error {
	w := writer.New(deps, mgr.GetEventRecorder("weft-"+a.controller))
	r := &clusters{Client: mgr.GetClient(), memory: newMemory(a.owner, deps, w), api: a}
	r.book = newBook(func(ctx context.Context, n portName) []reconcile.Request {
		if n.namespace != "" {
			return nil // cluster policies count those of all namespaces
		}
		return r.all(ctx, nil)
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(a.controller).
		For(a.object(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Pod{}, r.book.handler()).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.all), builder.WithPredicates(nodeChanges())).
		Watches(&v1alpha1.Supervisor{}, handler.EnqueueRequestsFromMapFunc(r.all), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(w.Source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("%s controller: %w", a.controller, err)
	}
	return nil
}

// nodeChanges lets nodes through whose labels or addresses changed.
func nodeChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*corev1.Node)
		after, ok2 := e.ObjectNew.(*corev1.Node)
		return !ok1 || !ok2 || !equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
			!slices.Equal(before.Status.Addresses, after.Status.Addresses)
	}}
}

// all returns all policies of the kind.
func (r *clusters) all(ctx context.Context, _ client.Object) []reconcile.Request {
	list := r.api.list()
	if err := r.List(ctx, list); err != nil {
		return nil // the cache is closing
	}
	objects, err := apimeta.ExtractList(list)
	if err != nil {
		return nil
	}
	var out []reconcile.Request
	for _, o := range objects {
		if o, ok := o.(client.Object); ok {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		}
	}
	return out
}

// Reconcile makes the intent of one cluster policy what it says.
func (r *clusters) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := r.api.object()
	if err := r.Get(ctx, req.NamespacedName, o); err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	if out, err := r.forget(ctx, req.NamespacedName, o.GetUID()); err != nil {
		return ctrl.Result{}, err
	} else if !out.Written() || o.GetUID() == "" {
		return r.await(req, out, 0), nil
	}
	policy, conditions, err := r.api.read(o)
	if err != nil {
		return ctrl.Result{}, err
	}
	out, findings, err := r.write(ctx, o, policy)
	if err != nil {
		return ctrl.Result{}, err
	}
	wait, settled := r.settled(req.NamespacedName, out)
	if settled {
		r.w.Tell(o, out)
		accepted := metav1.Condition{
			Type: ConditionAccepted, Status: metav1.ConditionTrue, Reason: reasonAccepted, ObservedGeneration: o.GetGeneration(),
		}
		if len(findings) > 0 {
			accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reasonUnsupported, text(findings)
			r.w.Event(o, corev1.EventTypeWarning, reasonUnsupported, text(findings))
		}
		if err := r.tell(ctx, o, conditions, accepted, out.Condition(ConditionRealized, o.GetGeneration())); err != nil {
			return ctrl.Result{}, err
		}
	}
	return r.await(req, out, wait), nil
}

// write translates a policy and writes the result.
func (r *clusters) write(ctx context.Context, o client.Object, policy *Cluster) (writer.Outcome, []Finding, error) {
	at, fault, err := placeOf(ctx, r.Client)
	if err != nil || fault != nil {
		return r.blocked(fault), nil, err
	}
	var nodes corev1.NodeList
	if err := r.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return writer.Outcome{}, nil, err
	}
	at.Ports, at.Nodes = r.book.numbers, func(s labels.Selector) []netip.Addr { return addressesOf(nodes.Items, s) }
	var findings []Finding
	out, err := r.w.Write(ctx, writer.Owner(r.kind, o), func(t *intent.Tree) ([]intent.Object, error) {
		var objects []intent.Object
		objects, findings = policy.Objects(at)
		return numbered(t, objects), nil
	})
	return out, findings, err
}

// addressesOf returns the addresses of the nodes that a selector selects, each
// once, in order.
func addressesOf(nodes []corev1.Node, s labels.Selector) []netip.Addr {
	var out []netip.Addr
	for i := range nodes {
		if !s.Matches(labels.Set(nodes[i].Labels)) {
			continue
		}
		for _, a := range nodes[i].Status.Addresses {
			if p, err := netip.ParseAddr(a.Address); err == nil && p.Zone() == "" {
				out = append(out, p.Unmap())
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// tell sets conditions, if any of them is another. Those of others stay.
func (r *clusters) tell(ctx context.Context, o client.Object, before []metav1.Condition, want ...metav1.Condition) error {
	now, changed := slices.Clone(before), false
	for _, c := range want {
		changed = apimeta.SetStatusCondition(&now, c) || changed
	}
	if !changed {
		return nil
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": o.GetUID(), "resourceVersion": o.GetResourceVersion()},
		"status":   map[string]any{"conditions": now},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", o.GetName(), err)
	}
	to := r.api.object()
	to.SetName(o.GetName())
	err = r.Status().Patch(ctx, to, client.RawPatch(types.MergePatchType, data))
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
