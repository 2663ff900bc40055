package tenant

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// Delays of reconciles that commits cause: of usage in a Supervisor's status,
// and of segments that became empty.
const (
	usageDelay = 2 * time.Second
	emptyDelay = 200 * time.Millisecond
)

// workers is how many namespaces are looked at at once: commits are serial, but
// what is written back to Kubernetes waits for the API server.
const workers = 4

// Add makes a manager run the controllers of Supervisors and Namespaces.
func Add(mgr manager.Manager, deps writer.Deps) error {
	s := &supervisors{client: mgr.GetClient(), live: mgr.GetAPIReader(), deps: deps, w: writer.New(deps, mgr.GetEventRecorder("weft-supervisor"))}
	err := ctrl.NewControllerManagedBy(mgr).Named("supervisor").
		For(&v1alpha1.Supervisor{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.NamespaceNetwork{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request { return theSupervisor() }), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(s.w.Source()).
		WatchesRawSource(onStart(theSupervisor())).
		WatchesRawSource(writer.Changes(deps, 0, providerChanges)).
		WatchesRawSource(writer.Changes(deps, usageDelay, func([]string) []reconcile.Request { return theSupervisor() })).
		Complete(s)
	if err != nil {
		return fmt.Errorf("supervisor controller: %w", err)
	}
	n := &namespaces{client: mgr.GetClient(), deps: deps, w: writer.New(deps, mgr.GetEventRecorder("weft-namespace"))}
	err = ctrl.NewControllerManagedBy(mgr).Named("namespace").
		For(&corev1.Namespace{}, builder.WithPredicates(predicate.Or(predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		Watches(&v1alpha1.NamespaceNetwork{}, handler.EnqueueRequestsFromMapFunc(n.concerned), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Supervisor{}, handler.EnqueueRequestsFromMapFunc(n.all), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(itsNamespace), builder.WithPredicates(podChanges())).
		WatchesRawSource(n.w.Source()).
		WatchesRawSource(writer.Changes(deps, emptyDelay, n.portChanges)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(n)
	if err != nil {
		return fmt.Errorf("namespace controller: %w", err)
	}
	return nil
}

func theSupervisor() []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: v1alpha1.DefaultSupervisor}}}
}

func sameName(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetName()}}}
}

func itsNamespace(_ context.Context, o client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetNamespace()}}}
}

// onStart brings requests once, as what went while no process ran brings none.
func onStart(requests []reconcile.Request) source.Source {
	return source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		for _, r := range requests {
			q.Add(r)
		}
		return nil
	})
}

// providerChanges returns the Supervisor if a Tier-0 changed.
func providerChanges(paths []string) []reconcile.Request {
	for _, p := range paths {
		if strings.HasPrefix(p, "/infra/tier-0s/") {
			return theSupervisor()
		}
	}
	if paths == nil {
		return theSupervisor()
	}
	return nil
}

// podChanges lets pass what changes how many addresses a namespace needs, or
// which guest clusters are in it.
func podChanges() predicate.Funcs {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*corev1.Pod)
		after, also := e.ObjectNew.(*corev1.Pod)
		return ok && also && (ncp.WantsAddress(before) != ncp.WantsAddress(after) || ncp.GuestCluster(before.Labels) != ncp.GuestCluster(after.Labels))
	}}
}

// supervisors reconciles the Supervisor.
type supervisors struct {
	client client.Client
	live   client.Reader // asks the server, no cache
	deps   writer.Deps
	w      *writer.Writer
}

// Reconcile implements reconcile.Reconciler.
func (r *supervisors) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	uid, err := ClusterUID(ctx, r.live)
	if err != nil {
		return reconcile.Result{}, err
	}
	var sup v1alpha1.Supervisor
	if err := r.client.Get(ctx, req.NamespacedName, &sup); apierrors.IsNotFound(err) {
		out, err := r.clear(ctx, uid)
		if err != nil {
			return reconcile.Result{}, err
		}
		return r.w.Await(req, out), nil
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("supervisor: %w", err)
	}
	var nns v1alpha1.NamespaceNetworkList
	if err := r.client.List(ctx, &nns); err != nil {
		return reconcile.Result{}, fmt.Errorf("namespace networks: %w", err)
	}
	status := *sup.Status.DeepCopy()
	out, err := r.write(ctx, &sup, uid, nns.Items, &status)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.w.Tell(&sup, out)
	apimeta.SetStatusCondition(&status.Conditions, out.Condition("Ready", sup.Generation))
	if !equality.Semantic.DeepEqual(status, sup.Status) {
		before := sup.DeepCopy()
		sup.Status = status
		if err := r.client.Status().Patch(ctx, &sup, client.MergeFrom(before)); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	return r.w.Await(req, out), nil
}

// clear takes away what there is without a Supervisor: nothing as long as pods
// have addresses, as one that is deleted by mistake should break nothing, and
// then all that Kubernetes objects own. A cluster with another UID than theirs
// takes away nothing.
func (r *supervisors) clear(ctx context.Context, uid string) (writer.Outcome, error) {
	if f := r.foreign(uid); f != nil {
		return r.w.Blocked(f), nil
	}
	if pods := r.deps.Store.Owners(writer.Prefix(writer.Pod, types.NamespacedName{})); len(pods) > 0 {
		return r.w.Blocked(&writer.Fault{Reason: writer.ReasonInUse, Msg: string(pods[0]) + ": has an address still"}), nil
	}
	last := writer.Nothing()
	for _, kind := range writer.Kinds() {
		for _, owner := range r.deps.Store.Owners(writer.Prefix(kind, types.NamespacedName{})) {
			out, err := r.w.Delete(ctx, owner)
			if err != nil || !out.Written() {
				return out, err
			}
			last = out
		}
	}
	return last, nil
}

// foreign is the function of that name, and tells the log.
func (r *supervisors) foreign(uid string) *writer.Fault {
	f := foreign(r.deps.Store, uid)
	if f != nil && r.deps.Log != nil {
		r.deps.Log.Error("the store is of another cluster", "err", f)
	}
	return f
}

// write writes what the Supervisor shares and fills in what the tree says of it.
func (r *supervisors) write(ctx context.Context, sup *v1alpha1.Supervisor, uid string, nns []v1alpha1.NamespaceNetwork, status *v1alpha1.SupervisorStatus) (writer.Outcome, error) {
	if f := r.foreign(uid); f != nil {
		return r.w.Blocked(f), nil
	}
	net, problems := v1alpha1.Effective(sup, nil)
	if intent.HasErrors(problems) {
		return r.w.Invalid(problems), nil
	}
	if r.deps.Holds != nil {
		r.deps.Holds.Keep(net.HoldTime)
	}
	s := Supervisor{ClusterUID: uid, Network: net, ControlPlane: sup.Spec.ControlPlane, Translated: Translated(sup, nns)}
	owner := writer.SupervisorOwner(sup.Name) // also of one before, whose addresses are its own
	out, err := r.w.Write(ctx, owner, func(t *intent.Tree) ([]intent.Object, error) {
		return s.Objects(t, r.deps.Holds.HeldFrom(owner))
	})
	if err != nil {
		return out, err
	}
	r.deps.Store.Read(func(t *intent.Tree, _ storeVersion) {
		status.Usage = Usage(t, net)
		status.ControlPlaneAddress = ""
		path := ncp.PortPath(ncp.SystemSegmentPath(net.Cluster), controlPlanePort)
		if p, ok := intent.Find[*intent.SegmentPort](t, path); ok {
			status.ControlPlaneAddress = p.AddressBindings[0].IPAddress
		}
		if out.Written() {
			out = out.Lacking(Outside(t, sup, nns))
		}
	})
	return out, nil
}
