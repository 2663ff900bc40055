package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// gather is how long changes are waited for that belong together.
const gather = 50 * time.Millisecond

// serviceIndex finds the slices of a Service.
const serviceIndex = "service"

// everything is the one thing that is reconciled: a Table is made of all
// objects.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "table"}}

// follower makes a Proxy go by what the API server has, and tells it what
// became of it.
type follower struct {
	client   client.Client
	recorder events.EventRecorder
	log      *slog.Logger
	proxy    *Proxy
	class    string
	publish  types.NamespacedName // Service whose addresses Ingresses get
	cert     types.NamespacedName // Secret of the default certificate; zero: none
	timeout  time.Duration        // of routes

	wanted atomic.Pointer[map[object]bool] // what the last Table was made of

	// Only Reconcile uses these.

	pairs   map[types.NamespacedName]parsedPair
	told    map[types.UID]told
	missing bool // the published Service
}

// object names a Service or a Secret.
type object struct {
	kind string
	types.NamespacedName
}

// add makes a manager run f.
func (f *follower) add(mgr manager.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &discoveryv1.EndpointSlice{}, serviceIndex, func(o client.Object) []string {
		return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
	})
	if err != nil {
		return err
	}
	soon := f.when(func(client.Object) bool { return true })
	return ctrl.NewControllerManagedBy(mgr).Named("ingress").
		Watches(&networkingv1.Ingress{}, soon).
		Watches(&networkingv1.IngressClass{}, soon).
		Watches(&corev1.Service{}, f.when(f.wants)).
		Watches(&corev1.Secret{}, f.when(f.wants)).
		Watches(&discoveryv1.EndpointSlice{}, f.when(f.wants)).
		WatchesRawSource(source.Func(func(_ context.Context, q queue) error {
			q.Add(everything) // there may be no object at all
			return nil
		})).
		WithOptions(controller.Options{NeedLeaderElection: new(false), SkipNameValidation: new(true)}).
		Complete(f)
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// when asks for a new Table when an object that counts changes.
func (f *follower) when(counts func(client.Object) bool) handler.EventHandler {
	ask := func(q queue, objects ...client.Object) {
		for _, o := range objects {
			if counts(o) {
				q.AddAfter(everything, gather)
				return
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { ask(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { ask(q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { ask(q, e.Object) },
	}
}

// wants reports whether the last Table was made of an object. What the next
// one is made of is known before it is read, so no change is missed.
func (f *follower) wants(o client.Object) bool {
	w := f.wanted.Load()
	if w == nil {
		return true
	}
	name := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
	kind := "Service"
	switch o.(type) {
	case *corev1.Secret:
		kind = "Secret"
	case *discoveryv1.EndpointSlice:
		name.Name = o.GetLabels()[discoveryv1.LabelServiceName]
	}
	return (*w)[object{kind, name}]
}

// Reconcile makes a Table, hands it to the proxy and publishes what became of
// each Ingress. An Ingress that can not be told stops no other one.
func (f *follower) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	o, err := f.read(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	t, problems := Build(o)
	f.proxy.SetTable(t)
	f.proxy.counts.problems.Set(float64(len(problems)))
	addresses, err := f.addresses(ctx)
	return reconcile.Result{}, errors.Join(err, f.tell(ctx, o, problems, addresses))
}

// read returns the objects that a Table is made of.
func (f *follower) read(ctx context.Context) (Objects, error) {
	o := Objects{Class: f.class, Default: f.cert, Timeout: f.timeout, KeyPair: f.keyPair}
	var ingresses networkingv1.IngressList
	var classes networkingv1.IngressClassList
	shared := client.UnsafeDisableDeepCopy // nothing here changes an object
	if err := errors.Join(f.client.List(ctx, &ingresses, shared), f.client.List(ctx, &classes, shared)); err != nil {
		return o, err
	}
	for i := range ingresses.Items {
		o.Ingresses = append(o.Ingresses, &ingresses.Items[i])
	}
	for i := range classes.Items {
		o.Classes = append(o.Classes, &classes.Items[i])
	}
	wanted := map[object]bool{{"Service", f.publish}: true}
	if f.cert != (types.NamespacedName{}) {
		wanted[object{"Secret", f.cert}] = true
	}
	for _, in := range Served(f.class, o.Classes, o.Ingresses) {
		names(in, wanted)
	}
	f.wanted.Store(&wanted)
	var errs []error
	for what := range wanted {
		errs = append(errs, f.readOne(ctx, &o, what))
	}
	return o, errors.Join(errs...)
}

// readOne adds one object, and of a Service its slices, if it is there.
func (f *follower) readOne(ctx context.Context, o *Objects, what object) error {
	shared := client.UnsafeDisableDeepCopy
	if what.kind == "Secret" {
		s := &corev1.Secret{}
		err := f.client.Get(ctx, what.NamespacedName, s, shared)
		if err == nil {
			o.Secrets = append(o.Secrets, s)
		}
		return client.IgnoreNotFound(err)
	}
	s := &corev1.Service{}
	if err := f.client.Get(ctx, what.NamespacedName, s, shared); err != nil {
		return client.IgnoreNotFound(err)
	}
	o.Services = append(o.Services, s)
	var list discoveryv1.EndpointSliceList
	err := f.client.List(ctx, &list, shared, client.InNamespace(what.Namespace), client.MatchingFields{serviceIndex: what.Name})
	for i := range list.Items {
		o.Slices = append(o.Slices, &list.Items[i])
	}
	return err
}

// names adds the objects that an Ingress names.
func names(in *networkingv1.Ingress, to map[object]bool) {
	backend := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			to[object{"Service", types.NamespacedName{Namespace: in.Namespace, Name: b.Service.Name}}] = true
		}
	}
	backend(in.Spec.DefaultBackend)
	for _, r := range in.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for i := range r.HTTP.Paths {
			backend(&r.HTTP.Paths[i].Backend)
		}
	}
	for _, t := range in.Spec.TLS {
		if t.SecretName != "" {
			to[object{"Secret", types.NamespacedName{Namespace: in.Namespace, Name: t.SecretName}}] = true
		}
	}
}

// parsedPair is what a version of a Secret holds.
type parsedPair struct {
	uid     types.UID
	version string
	pair    *tls.Certificate
	err     error
}

// keyPair is KeyPair that remembers.
func (f *follower) keyPair(s *corev1.Secret) (*tls.Certificate, error) {
	key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
	if p, ok := f.pairs[key]; ok && p.uid == s.UID && p.version == s.ResourceVersion {
		return p.pair, p.err
	}
	pair, err := KeyPair(s)
	f.pairs[key] = parsedPair{s.UID, s.ResourceVersion, pair, err}
	return pair, err
}

// addresses returns what the published Service is reached by.
func (f *follower) addresses(ctx context.Context) ([]networkingv1.IngressLoadBalancerIngress, error) {
	s := &corev1.Service{}
	if err := f.client.Get(ctx, f.publish, s); err != nil {
		if client.IgnoreNotFound(err) == nil {
			if !f.missing {
				f.log.Warn("published service is not there: ingresses get no address", "service", f.publish)
			}
			f.missing = true
			return nil, nil
		}
		return nil, fmt.Errorf("service %s: %w", f.publish, err)
	}
	f.missing = false
	var out []networkingv1.IngressLoadBalancerIngress
	for _, a := range s.Status.LoadBalancer.Ingress {
		out = append(out, networkingv1.IngressLoadBalancerIngress{IP: a.IP, Hostname: a.Hostname})
	}
	return out, nil
}
