package pod

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
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

// byAddress is the index of Pods by the addresses in their status.
const byAddress = "weft.dev/address"

// workers is how many Pods are looked at at a time: a commit waits for the store,
// a patch for the API server.
const workers = 8

// Add makes the controller of Pods part of a manager. Its scheme must know the
// types of Kubernetes and of package v1alpha1.
func Add(mgr manager.Manager, deps writer.Deps) error {
	r := &reconciler{
		Client: mgr.GetClient(), deps: deps, w: writer.New(deps, mgr.GetEventRecorder("weft-pod")), now: deps.Now,
		seen: map[types.NamespacedName]seen{}, waiting: map[reconcile.Request]string{},
	}
	if r.now == nil {
		r.now = time.Now
	}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Pod{}, byAddress, func(o client.Object) []string {
		var out []string
		for _, ip := range o.(*corev1.Pod).Status.PodIPs {
			out = append(out, ip.IP)
		}
		return out
	})
	if err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	return builder.ControllerManagedBy(mgr).Named("pod").For(&corev1.Pod{}).
		Watches(&v1alpha1.Supervisor{}, handler.EnqueueRequestsFromMapFunc(r.all), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(r.w.Source()).
		WatchesRawSource(writer.Changes(deps, 0, r.roomIn)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// all returns all Pods.
func (r *reconciler) all(ctx context.Context, _ client.Object) []reconcile.Request {
	var list corev1.PodList
	if err := r.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil // the cache is closing
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// reconciler makes intent of Pods.
type reconciler struct {
	client.Client
	deps writer.Deps
	w    *writer.Writer
	now  func() time.Time

	mu      sync.Mutex
	seen    map[types.NamespacedName]seen
	waiting map[reconcile.Request]string // for room in the segments of the namespace that has this UID
}

// seen is what is remembered of a Pod.
type seen struct {
	uid     types.UID
	pending time.Time // since when its port is not in force; zero: it is
}

// Reconcile makes the port of one Pod what it asks for.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p corev1.Pod
	if err := r.Get(ctx, req.NamespacedName, &p); err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	if out, err := r.forget(ctx, req.NamespacedName, p.UID); err != nil {
		return ctrl.Result{}, err
	} else if !out.Written() {
		return r.w.Await(req, out), nil
	}
	if p.UID == "" || !ncp.WantsAddress(&p) {
		r.wait(req, "", nil)
		out, err := r.w.Delete(ctx, writer.Owner(writer.Pod, &p)) // of a Pod that is gone: nothing
		if err != nil {
			return ctrl.Result{}, err
		}
		if out.Written() {
			out = writer.Nothing()
		}
		return r.w.Await(req, out), nil
	}
	a, err := r.write(ctx, &p)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.wait(req, a.namespace, a.fault)
	again, early := r.remember(&p, a)
	if err := r.tell(ctx, &p, a, early); err != nil {
		return ctrl.Result{}, err
	}
	result := r.w.Await(req, a.out)
	if again > 0 {
		result.RequeueAfter = again
	}
	return result, nil
}

// forget makes Pods of the name that are gone have nothing, and remembers uid,
// which is of the one that is there; empty: there is none. See
// writer.DeleteGone.
func (r *reconciler) forget(ctx context.Context, key types.NamespacedName, uid types.UID) (writer.Outcome, error) {
	r.mu.Lock()
	before := r.seen[key]
	r.mu.Unlock()
	if out, err := r.w.DeleteGone(ctx, writer.Pod, key, before.uid, uid); err != nil || !out.Written() {
		return out, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case uid == "":
		delete(r.seen, key)
	case before.uid != uid:
		r.seen[key] = seen{uid: uid}
	}
	return writer.Nothing(), nil
}

// answer is what became of a Pod.
type answer struct {
	namespace string         // its UID; empty: unknown
	out       writer.Outcome // what the condition says
	fault     *writer.Fault  // why it has no port, or not the one that it asks for
}

// write translates a Pod and writes the result.
func (r *reconciler) write(ctx context.Context, p *corev1.Pod) (answer, error) {
	req := Request{Pod: p, Held: r.deps.Holds.Held, Claimed: func(a netip.Addr) bool { return r.claimed(ctx, p, a) }}
	place, fault, err := r.place(ctx, p.Namespace)
	if err != nil {
		return answer{}, err
	}
	if fault != nil {
		return answer{fault: fault, out: r.w.Blocked(fault)}, nil
	}
	req.Place = place
	a := answer{namespace: place.UID}
	a.out, err = r.w.Write(ctx, writer.Owner(writer.Pod, p), func(t *intent.Tree) ([]intent.Object, error) {
		port, fault := Build(req, t)
		a.fault = fault
		if port == nil {
			return nil, fault
		}
		return []intent.Object{port}, nil
	})
	if err != nil {
		return answer{}, err
	}
	return a, nil
}

// place returns what the translation needs of a namespace, or why it cannot be
// told.
func (r *reconciler) place(ctx context.Context, namespace string) (Place, *writer.Fault, error) {
	var sup v1alpha1.Supervisor
	err := r.Get(ctx, types.NamespacedName{Name: v1alpha1.DefaultSupervisor}, &sup)
	if apierrors.IsNotFound(err) {
		return Place{}, &writer.Fault{Reason: NoNetwork, Msg: "there is no Supervisor " + v1alpha1.DefaultSupervisor + ", which says where addresses come from (make one)"}, nil
	}
	if err != nil {
		return Place{}, nil, err
	}
	var ns corev1.Namespace
	if err := r.Get(ctx, types.NamespacedName{Name: namespace}, &ns); err != nil {
		return Place{}, nil, err
	}
	p := Place{Cluster: sup.ClusterID(), UID: string(ns.UID), Router: ncp.Tier1Path(string(ns.UID))}
	if sup.IsSystem(namespace) {
		p.Router = ncp.SystemTier1Path(p.Cluster)
	}
	return p, nil, nil
}

// claimed reports whether another Pod of the namespace has an address by its
// status.
func (r *reconciler) claimed(ctx context.Context, p *corev1.Pod, a netip.Addr) bool {
	var list corev1.PodList
	err := r.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingFields{byAddress: a.String()}, client.UnsafeDisableDeepCopy)
	for i := range list.Items {
		if o := &list.Items[i]; o.UID != p.UID && ncp.WantsAddress(o) {
			return true
		}
	}
	return err != nil // the cache is closing
}

// wait notes whether a request waits for room in the segments of a namespace.
func (r *reconciler) wait(req reconcile.Request, namespace string, f *writer.Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil || namespace == "" || f.Reason != Exhausted && f.Reason != NoNetwork {
		delete(r.waiting, req)
		return
	}
	r.waiting[req] = namespace
}

// roomIn returns the requests that wait for room in a namespace whose segments
// changed, or lost a port.
func (r *reconciler) roomIn(paths []string) []reconcile.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return nil
	}
	segments := map[string]bool{}
	r.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
		for _, path := range paths {
			segment, _, isPort := strings.Cut(path, "/ports/")
			if strings.HasPrefix(segment, "/infra/segments/seg_") && (!isPort || t.Get(path) == nil) {
				segments[segment] = true
			}
		}
	})
	var out []reconcile.Request
	for req, uid := range r.waiting {
		room := paths == nil
		for s := range segments {
			_, is := ncp.SegmentIndex(uid, s)
			room = room || is
		}
		if room {
			out = append(out, req)
		}
	}
	return out
}
