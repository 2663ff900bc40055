package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Annotations of NetworkPolicies, which have no status. Both begin with the
// generation that was looked at.
const (
	// AnnotationRealized is `generation 3: true`, or `generation 3: false: ` and
	// why not.
	AnnotationRealized = "weft.dev/realized"
	// AnnotationLint is `generation 3: ` and what Lint found; none: nothing.
	AnnotationLint = "weft.dev/lint"
)

// ReasonLint is the reason of Events that tell what Lint found.
const ReasonLint = "PolicyLint"

// byNamedPort is the index of NetworkPolicies by the named ports that they use.
const byNamedPort = "weft.dev/named-port"

// workers is how many policies are looked at at a time: a commit waits for the
// store, a patch for the API server.
const workers = 8

// networks makes intent of NetworkPolicies.
type networks struct {
	client.Client
	*memory
	book  *book
	rules atomic.Pointer[[]Above] // AboveOf the tree; nil: to be found again
}

// addNetworks makes the controller of NetworkPolicies part of a manager.
func addNetworks(mgr manager.Manager, deps writer.Deps) error {
	w := writer.New(deps, mgr.GetEventRecorder("weft-networkpolicy"))
	r := &networks{Client: mgr.GetClient(), memory: newMemory(writer.NetworkPolicy, deps, w)}
	r.book = newBook(func(ctx context.Context, n portName) []reconcile.Request {
		return r.list(ctx, client.MatchingFields{byNamedPort: n.String()})
	})
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &netv1.NetworkPolicy{}, byNamedPort, func(o client.Object) []string {
		return namedPortsOf(o.(*netv1.NetworkPolicy))
	})
	if err != nil {
		return fmt.Errorf("network policy controller: %w", err)
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("networkpolicy").
		For(&netv1.NetworkPolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Pod{}, r.book.handler()).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.linted), builder.WithPredicates(labelsOrLife())).
		Watches(&v1alpha1.Supervisor{}, handler.EnqueueRequestsFromMapFunc(r.all), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(w.Source()).
		WatchesRawSource(writer.Changes(deps, 0, r.follow)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("network policy controller: %w", err)
	}
	return nil
}

// labelsOrLife lets pods through that come, go or have other labels.
func labelsOrLife() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return predicate.LabelChangedPredicate{}.Update(e) }}
}

// linted returns the policies of a pod's namespace, as Lint may say something
// else: of a pod that is there, only those that it says something of.
func (r *networks) linted(ctx context.Context, o client.Object) []reconcile.Request {
	var list netv1.NetworkPolicyList
	if err := r.List(ctx, &list, client.InNamespace(o.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache is closing
	}
	var out []reconcile.Request
	for i := range list.Items {
		if _, has := list.Items[i].Annotations[AnnotationLint]; has || !o.GetDeletionTimestamp().IsZero() {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// all returns all policies.
func (r *networks) all(ctx context.Context, _ client.Object) []reconcile.Request { return r.list(ctx) }

func (r *networks) list(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	var list netv1.NetworkPolicyList
	if err := r.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil // the cache is closing
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// namedPortsOf returns the named ports that a policy uses, as the index has them:
// for ingress those of its namespace, for egress those of all.
func namedPortsOf(np *netv1.NetworkPolicy) []string {
	var out []string
	add := func(namespace string, list []netv1.NetworkPolicyPort) {
		for _, p := range list {
			if p.Port != nil && p.Port.StrVal != "" {
				out = append(out, portName{namespace, protoOf(p), p.Port.StrVal}.String())
			}
		}
	}
	for _, r := range np.Spec.Ingress {
		add(np.Namespace, r.Ports)
	}
	for _, r := range np.Spec.Egress {
		add("", r.Ports)
	}
	return out
}

// follow notes when rules above may be others. NetworkPolicies' own and those
// that isolate namespaces are not above.
func (r *networks) follow(changed []string) []reconcile.Request {
	const section = "/security-policies/"
	for _, p := range changed {
		_, rest, ok := strings.Cut(p, section)
		id, _, _ := strings.Cut(rest, "/")
		by, _ := ncp.PolicyOf(id)
		if ok && by != ncp.PrefixNetworkPolicy && by != ncp.PrefixIsolation {
			r.rules.Store(nil)
			break
		}
	}
	if changed == nil {
		r.rules.Store(nil)
	}
	return nil
}

// above returns AboveOf the tree.
func (r *networks) above() []Above {
	if known := r.rules.Load(); known != nil {
		return *known
	}
	var out []Above
	r.deps.Store.Read(func(t *intent.Tree, _ store.Version) { out = AboveOf(t) })
	r.rules.Store(&out)
	return out
}

// Reconcile makes the intent of one NetworkPolicy what it says.
func (r *networks) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var np netv1.NetworkPolicy
	if err := r.Get(ctx, req.NamespacedName, &np); err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	if out, err := r.forget(ctx, req.NamespacedName, np.UID); err != nil {
		return ctrl.Result{}, err
	} else if !out.Written() || np.UID == "" {
		return r.await(req, out, 0), nil
	}
	out, findings, err := r.write(ctx, &np)
	if err != nil {
		return ctrl.Result{}, err
	}
	wait, settled := r.settled(req.NamespacedName, out)
	if settled {
		if err := r.tell(ctx, &np, out, findings); err != nil {
			return ctrl.Result{}, err
		}
	}
	return r.await(req, out, wait), nil
}

// write translates a policy and writes the result.
func (r *networks) write(ctx context.Context, np *netv1.NetworkPolicy) (writer.Outcome, []Finding, error) {
	at, fault, err := placeOf(ctx, r.Client)
	if err != nil || fault != nil {
		return r.blocked(fault), nil, err
	}
	var ns corev1.Namespace
	if err := r.Get(ctx, types.NamespacedName{Name: np.Namespace}, &ns); err != nil {
		return writer.Outcome{}, nil, err
	}
	at.NamespaceUID, at.Ports = string(ns.UID), r.book.numbers
	var findings []Finding
	out, err := r.w.Write(ctx, writer.Owner(r.kind, np), func(t *intent.Tree) ([]intent.Object, error) {
		var objects []intent.Object
		objects, findings = NetworkPolicy(np, at)
		return numbered(t, objects), nil
	})
	return out, findings, err
}

// blocked returns the outcome of a fault, if there is one.
func (m *memory) blocked(f *writer.Fault) writer.Outcome {
	if f == nil {
		return writer.Outcome{}
	}
	return m.w.Blocked(f)
}

// placeOf returns what is the same for all policies, or why there is none.
func placeOf(ctx context.Context, c client.Client) (Place, *writer.Fault, error) {
	var sup v1alpha1.Supervisor
	err := c.Get(ctx, types.NamespacedName{Name: v1alpha1.DefaultSupervisor}, &sup)
	if apierrors.IsNotFound(err) {
		return Place{}, &writer.Fault{Reason: writer.ReasonNotFound, Msg: "there is no Supervisor " + v1alpha1.DefaultSupervisor + " (make one)"}, nil
	}
	return Place{Cluster: sup.ClusterID()}, nil, err
}

// tell says in annotations what became of a policy and what Lint found, and in
// Events what is news of that.
func (r *networks) tell(ctx context.Context, np *netv1.NetworkPolicy, out writer.Outcome, findings []Finding) error {
	generation := "generation " + strconv.FormatInt(np.Generation, 10) + ": "
	realized := generation + "true"
	switch {
	case !out.OK():
		realized = generation + "false: " + out.Reason + ": " + out.Message
	case len(findings) > 0:
		realized = generation + "false: " + writer.ReasonInvalid + ": " + text(findings)
	}
	r.w.Tell(np, out)
	lint := any(nil)
	before := np.Annotations[AnnotationLint]
	if found := Lint(np, r.view(ctx, np)); len(found) > 0 {
		lint = generation + text(found)
		if !strings.HasPrefix(before, generation) {
			r.w.Event(np, corev1.EventTypeWarning, ReasonLint, text(found))
		}
	}
	return annotate(ctx, r.Client, np, map[string]any{AnnotationRealized: realized, AnnotationLint: lint})
}

// view returns what Lint looks at.
func (r *networks) view(ctx context.Context, np *netv1.NetworkPolicy) View {
	v := View{Above: r.above(), Ports: r.book.numbers}
	v.Namespaces = func(s labels.Selector) (out []*corev1.Namespace) {
		var namespaces corev1.NamespaceList
		if err := r.List(ctx, &namespaces, client.MatchingLabelsSelector{Selector: s}, client.UnsafeDisableDeepCopy); err != nil {
			return nil // the cache is closing
		}
		for i := range namespaces.Items {
			out = append(out, &namespaces.Items[i])
		}
		return out
	}
	var policies netv1.NetworkPolicyList
	if err := r.List(ctx, &policies, client.InNamespace(np.Namespace), client.UnsafeDisableDeepCopy); err == nil {
		for i := range policies.Items {
			v.Policies = append(v.Policies, &policies.Items[i])
		}
	}
	v.Pods = func(namespace string) []*corev1.Pod {
		var pods corev1.PodList
		if err := r.List(ctx, &pods, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil
		}
		var out []*corev1.Pod
		for i := range pods.Items {
			out = append(out, &pods.Items[i])
		}
		return out
	}
	return v
}

// annotate sets annotations, nil takes one away, if any of them is another. A
// policy that is gone, or is another by now, needs nothing.
func annotate(ctx context.Context, c client.Client, np *netv1.NetworkPolicy, want map[string]any) error {
	changed := map[string]any{}
	for key, value := range want {
		have, is := np.Annotations[key]
		if value == nil && is || value != nil && (!is || have != value) {
			changed[key] = value
		}
	}
	if len(changed) == 0 {
		return nil
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": np.UID, "annotations": changed}})
	if err != nil {
		return fmt.Errorf("%s: %w", path.Join(np.Namespace, np.Name), err)
	}
	o := &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: np.Namespace, Name: np.Name}}
	err = c.Patch(ctx, o, client.RawPatch(types.MergePatchType, data))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
