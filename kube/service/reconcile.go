package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// byService is the index of EndpointSlices by the Service that they belong to.
const byService = "weft.dev/service"

// workers is how many Services are looked at at a time: a commit waits for the
// store, a patch for the API server.
const workers = 8

// Add makes the controller of Services part of a manager. Its scheme must know
// the types of Kubernetes and of package v1alpha1.
func Add(mgr manager.Manager, deps writer.Deps) error {
	r := &reconciler{
		Client: mgr.GetClient(), deps: deps, w: writer.New(deps, mgr.GetEventRecorder("weft-service")),
		seen: map[types.NamespacedName]seen{}, now: deps.Now,
	}
	if r.now == nil {
		r.now = time.Now
	}
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &discoveryv1.EndpointSlice{}, byService, func(o client.Object) []string {
		return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
	})
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	claimChanged := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[AnnotationSNATPool] != e.ObjectNew.GetAnnotations()[AnnotationSNATPool]
	}}
	return builder.ControllerManagedBy(mgr).Named("service").For(&corev1.Service{}).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(r.claims), builder.WithPredicates(claimChanged)).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(r.serviceOf)).
		Watches(&v1alpha1.Supervisor{}, handler.EnqueueRequestsFromMapFunc(r.all), changed).
		Watches(&v1alpha1.NamespaceNetwork{}, handler.EnqueueRequestsFromMapFunc(r.networked), changed).
		WatchesRawSource(r.w.Source()).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(r)
}

// serviceOf returns the Service of an EndpointSlice, and the others that its pods
// concern.
func (r *reconciler) serviceOf(ctx context.Context, o client.Object) []reconcile.Request {
	key := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]}
	if key.Name == "" {
		return nil
	}
	out := []reconcile.Request{{NamespacedName: key}}
	var s corev1.Service
	if err := r.Get(ctx, key, &s, client.UnsafeDisableDeepCopy); err != nil {
		return out // it is gone, which is an event of its own
	}
	return append(out, r.claims(ctx, &s)...)
}

// claims returns the Services with a pool for their pods in the namespace of one
// that has a pool: which of them gets a pod depends on all.
func (r *reconciler) claims(ctx context.Context, o client.Object) []reconcile.Request {
	if s, ok := o.(*corev1.Service); !ok || snatPool(s) == "" {
		return nil
	}
	return r.list(ctx, func(s *corev1.Service) bool { return snatPool(s) != "" }, client.InNamespace(o.GetNamespace()))
}

// all returns all Services.
func (r *reconciler) all(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.list(ctx, every)
}

// inNamespace returns the Services of the namespace that o is called by.
func (r *reconciler) inNamespace(ctx context.Context, o client.Object) []reconcile.Request {
	return r.list(ctx, every, client.InNamespace(o.GetName()))
}

// networked returns the Services of the namespace that a NamespaceNetwork is of,
// and of those whose ranges it may contest.
func (r *reconciler) networked(ctx context.Context, o client.Object) []reconcile.Request {
	out := r.inNamespace(ctx, o)
	var list v1alpha1.NamespaceNetworkList
	if err := r.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return out // the cache is closing
	}
	for i := range list.Items {
		if nn := &list.Items[i]; nn.Name != o.GetName() && v1alpha1.MayContest(o.(*v1alpha1.NamespaceNetwork), nn) {
			out = append(out, r.inNamespace(ctx, nn)...)
		}
	}
	return out
}

func every(*corev1.Service) bool { return true }

func (r *reconciler) list(ctx context.Context, wanted func(*corev1.Service) bool, options ...client.ListOption) []reconcile.Request {
	var list corev1.ServiceList
	if err := r.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		return nil // the cache is closing
	}
	var out []reconcile.Request
	for i := range list.Items {
		if s := &list.Items[i]; wanted(s) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(s)})
		}
	}
	return out
}

// reconciler makes intent of Services.
type reconciler struct {
	client.Client
	deps writer.Deps
	w    *writer.Writer
	now  func() time.Time

	mu   sync.Mutex
	seen map[types.NamespacedName]seen
}

// seen is what is remembered of a Service.
type seen struct {
	uid     types.UID
	pending time.Time  // since when its intent is not in force; zero: it is
	had     netip.Addr // what its load balancer had last
	snat    netip.Addr // what its pods had last
}

// Reconcile makes the intent of one Service what it asks for.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var s corev1.Service
	if err := r.Get(ctx, req.NamespacedName, &s); err != nil && !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	if out, err := r.forget(ctx, req.NamespacedName, s.UID); err != nil {
		return ctrl.Result{}, err
	} else if !out.Written() {
		return r.w.Await(req, out), nil
	}
	if s.UID == "" {
		return r.w.Await(req, writer.Nothing()), nil
	}
	a, err := r.write(ctx, &s)
	if err != nil {
		return ctrl.Result{}, err
	}
	wait, early := r.remember(&s, a)
	if err := r.tell(ctx, &s, a, early); err != nil {
		return ctrl.Result{}, err
	}
	result := r.w.Await(req, a.waits)
	if wait > 0 {
		result.RequeueAfter = wait
	}
	return result, nil
}

// forget makes Services of the name that are gone have nothing, and remembers uid,
// which is of the one that is there; empty: there is none. See
// writer.DeleteGone.
func (r *reconciler) forget(ctx context.Context, key types.NamespacedName, uid types.UID) (writer.Outcome, error) {
	r.mu.Lock()
	before := r.seen[key]
	r.mu.Unlock()
	if out, err := r.w.DeleteGone(ctx, writer.Service, key, before.uid, uid); err != nil || !out.Written() {
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

// answer is what became of a Service.
type answer struct {
	Result
	has   netip.Addr     // what the load balancer has in the store; invalid: nothing
	out   writer.Outcome // what the condition says
	waits writer.Outcome // what a better answer depends on
}

// write translates a Service and writes the result.
func (r *reconciler) write(ctx context.Context, s *corev1.Service) (answer, error) {
	owner := writer.Owner(writer.Service, s)
	req := Request{Service: s, Held: r.deps.Holds.Held, Had: r.had(s), HadSNAT: r.hadSNAT(s)}
	req.Has, req.HasPool = r.has(owner)
	var f *writer.Fault
	var err error
	if req.Place, f, err = r.place(ctx, s.Namespace); err != nil {
		return answer{}, err
	}
	if f != nil {
		out := r.w.Blocked(f)
		return answer{Result: Result{Faults: []writer.Fault{*f}}, has: req.Has, out: out, waits: out}, nil
	}
	if req.Slices, err = r.endpointSlices(ctx, s); err != nil {
		return answer{}, err
	}
	if req.Older, err = r.older(ctx, s); err != nil {
		return answer{}, err
	}
	var a answer
	a.out, err = r.w.Write(ctx, owner, func(t *intent.Tree) ([]intent.Object, error) {
		a.Result = Build(req, t)
		return a.Objects, nil
	})
	if err != nil {
		return answer{}, err
	}
	if a.out.Written() && len(a.Objects) == 0 {
		a.out = writer.Nothing() // the version is others'
	}
	a.waits = a.out
	a.has, _ = r.has(owner)
	if a.out.Written() && len(a.Faults) > 0 {
		a.out = a.out.Lacking(join(a.Faults))
		if a.out.State != writer.Pending && slices.ContainsFunc(a.Faults, mayMend) {
			a.waits = a.out
		}
	}
	return a, nil
}

// endpointSlices returns the EndpointSlices of a Service, which nobody may change.
func (r *reconciler) endpointSlices(ctx context.Context, s *corev1.Service) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.List(ctx, &list, client.InNamespace(s.Namespace), client.MatchingFields{byService: s.Name}, client.UnsafeDisableDeepCopy)
	return list.Items, err
}

// older returns the claims before that of a Service; without one of its own,
// none.
func (r *reconciler) older(ctx context.Context, s *corev1.Service) ([]Claim, error) {
	if snatPool(s) == "" {
		return nil, nil
	}
	var list corev1.ServiceList
	if err := r.List(ctx, &list, client.InNamespace(s.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	var out []Claim
	for i := range list.Items {
		o := &list.Items[i]
		if snatPool(o) == "" || compareAge(o, s) >= 0 {
			continue
		}
		slicesOf, err := r.endpointSlices(ctx, o)
		if err != nil {
			return nil, err
		}
		out = append(out, Claim{o, slicesOf})
	}
	return out, nil
}

// join returns faults as one that has the reason of the first.
func join(faults []writer.Fault) *writer.Fault {
	var text []string
	for _, f := range faults {
		text = append(text, f.Error())
	}
	return &writer.Fault{Reason: faults[0].Reason, Msg: strings.Join(text, "; ")}
}

// mayMend reports whether a fault may be gone when the tree is another.
func mayMend(f writer.Fault) bool {
	return f.Reason == NoNetwork || IsAddressFault(f) || IsSNATFault(f)
}

// has returns the address of the load balancer's virtual servers in the store,
// and the pool that was asked for when it got that.
func (r *reconciler) has(owner store.Owner) (a netip.Addr, pool string) {
	for _, o := range r.deps.Store.Owned(owner) {
		v, ok := o.(*intent.LBVirtualServer)
		if ok && ncp.TagValue(v.Tags, ncp.TagCreatedFor) == ncp.CreatedForSLB {
			return v.Address(), ncp.TagValue(v.Tags, ncp.TagIPPool)
		}
	}
	return netip.Addr{}, ""
}

// had returns the address that a load balancer had when its status was written,
// or that this process gave it last.
func (r *reconciler) had(s *corev1.Service) netip.Addr {
	for _, i := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(i.IP); err == nil && IsOurs(s) {
			return a
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[client.ObjectKeyFromObject(s)].had
}

// hadSNAT returns the address that this process gave a Service's pods last.
func (r *reconciler) hadSNAT(s *corev1.Service) netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[client.ObjectKeyFromObject(s)].snat
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
	nn, conflict, err := r.network(ctx, &sup, namespace)
	if err != nil {
		return Place{}, nil, err
	}
	n, problems := v1alpha1.Effective(&sup, nn)
	for _, p := range problems {
		if p.Severity == intent.Error {
			return Place{}, &writer.Fault{Reason: NoNetwork, Msg: "namespace " + namespace + " has no network: " + p.String()}, nil
		}
	}
	uid := string(ns.UID)
	p := Place{
		Cluster: n.Cluster, Namespace: namespace, UID: uid, LBService: ncp.LBServicePath(uid), Ingress: n.Ingress,
		Tier1: ncp.Tier1Path(uid), Routed: n.Routed, Conflict: conflict,
	}
	if sup.IsSystem(namespace) {
		p.LBService, p.Tier1, p.Routed = ncp.SystemLBServicePath(n.Cluster), ncp.SystemTier1Path(n.Cluster), sup.Spec.RoutedMode
	}
	return p, nil, nil
}

// network returns the NamespaceNetwork of a namespace, nil if it has none, and
// what is wrong with its ranges because of others.
func (r *reconciler) network(ctx context.Context, sup *v1alpha1.Supervisor, namespace string) (nn *v1alpha1.NamespaceNetwork, conflict string, err error) {
	if sup.IsSystem(namespace) {
		return nil, "", nil // it would have no effect
	}
	nn = &v1alpha1.NamespaceNetwork{}
	if err := r.Get(ctx, types.NamespacedName{Name: namespace}, nn); err != nil {
		return nil, "", client.IgnoreNotFound(err)
	}
	var nns v1alpha1.NamespaceNetworkList
	if err := r.List(ctx, &nns, client.UnsafeDisableDeepCopy); err != nil {
		return nil, "", err
	}
	for _, p := range v1alpha1.NewContest(sup, nns.Items).Problems(nn) {
		return nn, p.String(), nil
	}
	return nn, "", nil
}
