package tenant

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

type storeVersion = store.Version

// NetworkReady is the condition of a Namespace.
const NetworkReady corev1.NamespaceConditionType = "NetworkReady"

// namespaces reconciles Namespaces and their NamespaceNetworks.
type namespaces struct {
	client client.Client
	deps   writer.Deps
	w      *writer.Writer
}

// situation is what a namespace's network depends on in Kubernetes.
type situation struct {
	ns  *corev1.Namespace          // nil: it is gone
	nn  *v1alpha1.NamespaceNetwork // nil: there is none
	sup *v1alpha1.Supervisor       // nil: there is none

	contested []intent.Problem // what nn has of older NamespaceNetworks
}

// Reconcile implements reconcile.Reconciler.
func (r *namespaces) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	s, err := r.look(ctx, req.Name)
	if err != nil {
		return reconcile.Result{}, err
	}
	gone, err := r.clear(ctx, req.Name, s.ns)
	if err != nil {
		return reconcile.Result{}, err
	}
	if s.ns == nil {
		out := r.w.Blocked(&writer.Fault{Reason: writer.ReasonNotFound, Msg: "namespace " + req.Name + ": does not exist"})
		if err := r.tellNetwork(ctx, s.nn, out); err != nil {
			return reconcile.Result{}, err
		}
		return r.w.Await(req, gone), nil
	}
	out, report, err := r.write(ctx, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.w.Tell(s.ns, out)
	if err := r.tellNamespace(ctx, s, out, report); err != nil {
		return reconcile.Result{}, err
	}
	about := out
	if s.sup != nil && s.sup.IsSystem(req.Name) {
		about = r.w.Blocked(&writer.Fault{Reason: writer.ReasonInvalid, Field: "metadata.name", Msg: req.Name + ": is a system namespace, which has no network of its own"})
	}
	if err := r.tellNetwork(ctx, s.nn, about); err != nil {
		return reconcile.Result{}, err
	}
	if !gone.Written() && out.OK() {
		out = gone // what is left of another namespace of the name
	}
	return r.w.Await(req, out), nil
}

// look reads the situation.
func (r *namespaces) look(ctx context.Context, name string) (situation, error) {
	s := situation{ns: &corev1.Namespace{}, nn: &v1alpha1.NamespaceNetwork{}, sup: &v1alpha1.Supervisor{}}
	key := types.NamespacedName{Name: name}
	switch err := r.client.Get(ctx, key, s.ns); {
	case apierrors.IsNotFound(err):
		s.ns = nil
	case err != nil:
		return s, fmt.Errorf("namespace: %w", err)
	}
	switch err := r.client.Get(ctx, key, s.nn); {
	case apierrors.IsNotFound(err):
		s.nn = nil
	case err != nil:
		return s, fmt.Errorf("namespace network: %w", err)
	}
	switch err := r.client.Get(ctx, types.NamespacedName{Name: v1alpha1.DefaultSupervisor}, s.sup); {
	case apierrors.IsNotFound(err):
		s.sup = nil
	case err != nil:
		return s, fmt.Errorf("supervisor: %w", err)
	}
	if s.nn == nil || s.sup == nil {
		return s, nil
	}
	var nns v1alpha1.NamespaceNetworkList
	if err := r.client.List(ctx, &nns, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("namespace networks: %w", err)
	}
	s.contested = v1alpha1.NewContest(s.sup, nns.Items).Problems(s.nn)
	return s, nil
}

// clear takes away what namespaces of the name have that are not ns. The
// outcome is that of the first that is blocked, if one is.
func (r *namespaces) clear(ctx context.Context, name string, ns *corev1.Namespace) (writer.Outcome, error) {
	last := writer.Nothing()
	for _, owner := range r.deps.Store.Owners(writer.Prefix(writer.Namespace, types.NamespacedName{Name: name})) {
		_, _, uid, _ := writer.ParseOwner(owner)
		if ns != nil && ns.UID == uid {
			continue
		}
		out, err := r.w.Delete(ctx, owner)
		if err != nil {
			return out, err
		}
		r.w.Forget(uid)
		if !out.Written() {
			return out, nil
		}
		last = out
	}
	return last, nil
}

// write writes the namespace's network. Without a Supervisor it stays as it is,
// see supervisors.clear.
func (r *namespaces) write(ctx context.Context, s situation) (writer.Outcome, Report, error) {
	owner := writer.Owner(writer.Namespace, s.ns)
	if s.sup == nil {
		return r.w.Blocked(&writer.Fault{Reason: ReasonNoSupervisor, Msg: "there is no Supervisor " + v1alpha1.DefaultSupervisor}), Report{}, nil
	}
	nn, system := s.nn, s.sup.IsSystem(s.ns.Name)
	if system {
		nn = nil
	}
	net, problems := v1alpha1.Effective(s.sup, nn)
	if !system {
		problems = append(problems, s.contested...)
	}
	if intent.HasErrors(problems) {
		return r.w.Invalid(problems), Report{}, nil
	}
	n := Namespace{
		Name: s.ns.Name, UID: string(s.ns.UID), Network: net, System: system, StaticSNAT: strings.TrimSpace(s.ns.Annotations[ncp.AnnotationStaticSNAT]),
		Labels: labelsOf(s.ns, net.Cluster),
	}
	if err := r.pods(ctx, &n); err != nil {
		return writer.Outcome{}, Report{}, err
	}
	var report Report
	out, err := r.w.Write(ctx, owner, func(t *intent.Tree) (objects []intent.Object, err error) {
		objects, report, err = n.Objects(t, r.deps.Holds.Held)
		return objects, err
	})
	return out.Lacking(report.Lacks), report, err
}

// pods fills in what a namespace's pods say.
func (r *namespaces) pods(ctx context.Context, n *Namespace) error {
	var pods corev1.PodList
	if err := r.client.List(ctx, &pods, client.InNamespace(n.Name), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	for i := range pods.Items {
		if ncp.WantsAddress(&pods.Items[i]) {
			n.Pods++
			if g := ncp.GuestCluster(pods.Items[i].Labels); g != "" && !slices.Contains(n.Guests, g) {
				n.Guests = append(n.Guests, g)
			}
		}
	}
	return nil
}

// labelsOf returns the labels that a namespace has, or will have.
func labelsOf(ns *corev1.Namespace, cluster string) map[string]string {
	out := maps.Clone(ns.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[ncp.LabelClusterID] = cluster
	return out
}

// tellNamespace writes condition, annotations and label of a namespace.
func (r *namespaces) tellNamespace(ctx context.Context, s situation, out writer.Outcome, report Report) error {
	before := s.ns.DeepCopy()
	r.annotate(s, out, report)
	if !maps.Equal(before.Annotations, s.ns.Annotations) || !maps.Equal(before.Labels, s.ns.Labels) {
		if err := r.client.Patch(ctx, s.ns.DeepCopy(), client.MergeFrom(before)); err != nil {
			return client.IgnoreNotFound(err)
		}
		before.Annotations, before.Labels = s.ns.Annotations, s.ns.Labels
	}
	if !setCondition(s.ns, out.Condition(string(NetworkReady), 0)) {
		return nil
	}
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, s.ns, client.StrategicMergeFrom(before)))
}

// setCondition puts c into a namespace's status; whether that changed it.
func setCondition(ns *corev1.Namespace, c metav1.Condition) bool {
	want := corev1.NamespaceCondition{
		Type: corev1.NamespaceConditionType(c.Type), Status: corev1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message,
		LastTransitionTime: metav1.Now(),
	}
	for i := range ns.Status.Conditions {
		have := &ns.Status.Conditions[i]
		if have.Type != want.Type {
			continue
		}
		if have.Status == want.Status {
			want.LastTransitionTime = have.LastTransitionTime
		}
		changed := *have != want
		*have = want
		return changed
	}
	ns.Status.Conditions = append(ns.Status.Conditions, want)
	return true
}

// annotate gives a namespace the annotations and the label that say what the
// store has of it.
func (r *namespaces) annotate(s situation, out writer.Outcome, report Report) {
	if s.sup == nil && len(r.deps.Store.Owned(writer.Owner(writer.Namespace, s.ns))) > 0 {
		return // as it was
	}
	want := map[string]string{}
	if s.sup != nil {
		r.deps.Store.Read(func(t *intent.Tree, _ storeVersion) { want = annotations(t, s) })
		if s.ns.Labels == nil {
			s.ns.Labels = map[string]string{}
		}
		s.ns.Labels[ncp.LabelClusterID] = s.sup.ClusterID()
	}
	if status := report.SNATStatus; status != "" {
		want[ncp.AnnotationSNATStatus] = status
		if status == ncp.SNATAllocated && out.Reason == writer.Refused.String() {
			want[ncp.AnnotationSNATStatus] = ncp.SNATNotRealized
		}
	}
	switch out.Reason {
	case writer.Realized.String(), writer.Pending.String(), ReasonNoSupervisor:
	case ReasonEgressExhausted:
		want[ncp.AnnotationErrorSNAT] = out.Message
	default:
		key := ncp.AnnotationErrorNetwork
		if report.SNATStatus != "" && report.SNATStatus != ncp.SNATAllocated {
			key = ncp.AnnotationErrorSNAT
		}
		want[key] = out.Message
	}
	for key := range s.ns.Annotations {
		if isOurs(key) && want[key] == "" {
			delete(s.ns.Annotations, key)
		}
	}
	if s.ns.Annotations == nil {
		s.ns.Annotations = map[string]string{}
	}
	maps.Copy(s.ns.Annotations, want)
}

// isOurs reports whether an annotation of a namespace is one that annotate
// writes.
func isOurs(key string) bool {
	return ncp.IsAnnotationSubnet(key) || slices.Contains([]string{
		ncp.AnnotationRouter, ncp.AnnotationSNAT, ncp.AnnotationPool, ncp.AnnotationSNATStatus, ncp.AnnotationErrorSNAT,
		ncp.AnnotationErrorNetwork, ncp.AnnotationSharedTier1,
	}, key)
}

// annotations returns those that say what the tree has of a namespace.
func annotations(t *intent.Tree, s situation) map[string]string {
	out := map[string]string{}
	n := Namespace{UID: string(s.ns.UID), System: s.sup.IsSystem(s.ns.Name)}
	n.Network.Cluster = s.sup.ClusterID()
	tier1 := ncp.Tier1Path(n.UID)
	if n.System {
		tier1 = ncp.SystemTier1Path(n.Network.Cluster)
	}
	if t.Get(tier1) == nil {
		return out
	}
	out[ncp.AnnotationRouter] = intent.IDOf(tier1)
	if n.System {
		out[ncp.AnnotationSharedTier1] = "true"
	}
	for _, segment := range n.segmentsIn(t) {
		i, _ := ncp.SegmentIndex(n.UID, segment.Path)
		out[ncp.AnnotationSubnet(i)] = subnetOf(segment).String()
	}
	if r, ok := intent.Find[*intent.PolicyNatRule](t, ncp.NATRulePath(tier1, ncp.NATEgress)); ok {
		a := r.Translated().Addr()
		out[ncp.AnnotationSNAT] = a.String()
		if pool := poolOf(s, a); pool.IsValid() {
			first, last := writer.Hosts(pool)
			out[ncp.AnnotationPool] = ncp.PoolID(n.Network.Cluster, string(s.sup.UID), first, last)
		}
	}
	return out
}

// poolOf returns the egress CIDR that an address is from; invalid: none.
func poolOf(s situation, a netip.Addr) netip.Prefix {
	nn := s.nn
	if s.sup.IsSystem(s.ns.Name) {
		nn = nil
	}
	net, _ := v1alpha1.Effective(s.sup, nn)
	for _, p := range net.Egress {
		if p.Contains(a) {
			return p
		}
	}
	return netip.Prefix{}
}

// tellNetwork writes the condition of a NamespaceNetwork, if there is one.
func (r *namespaces) tellNetwork(ctx context.Context, nn *v1alpha1.NamespaceNetwork, out writer.Outcome) error {
	if nn == nil {
		return nil
	}
	before := nn.DeepCopy()
	apimeta.SetStatusCondition(&nn.Status.Conditions, out.Condition("Ready", nn.Generation))
	if equality.Semantic.DeepEqual(before.Status, nn.Status) {
		return nil
	}
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, nn, client.MergeFrom(before)))
}

// concerned returns the namespace of a NamespaceNetwork, and those whose own
// networks can have ranges or lose them by what it has.
func (r *namespaces) concerned(ctx context.Context, o client.Object) []reconcile.Request {
	out := sameName(ctx, o)
	var list v1alpha1.NamespaceNetworkList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		r.deps.Log.Error("namespace networks cannot be listed", "err", err)
		return out
	}
	for i := range list.Items {
		if nn := &list.Items[i]; nn.Name != o.GetName() && v1alpha1.MayContest(o.(*v1alpha1.NamespaceNetwork), nn) {
			out = append(out, sameName(ctx, nn)...)
		}
	}
	return out
}

// all returns every namespace.
func (r *namespaces) all(ctx context.Context, _ client.Object) []reconcile.Request {
	var list corev1.NamespaceList
	if err := r.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		r.deps.Log.Error("namespaces cannot be listed", "err", err)
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return out
}

// portChanges returns the namespaces on whose segments a port is gone, or
// changed that is no pod's.
func (r *namespaces) portChanges(paths []string) []reconcile.Request {
	if paths == nil {
		return r.all(context.Background(), nil)
	}
	names := map[string]bool{}
	r.deps.Store.Read(func(t *intent.Tree, _ storeVersion) {
		for _, path := range paths {
			segment := intent.ParentOf(path)
			if !strings.HasPrefix(segment, "/infra/segments/seg_") {
				continue
			}
			if o := t.Get(path); o != nil {
				if kind, _, _, _ := writer.ParseOwner(store.OwnerOf(o)); kind == writer.Pod {
					continue
				}
			}
			if s := t.Get(segment); s != nil {
				names[ncp.TagValue(s.Meta().Tags, ncp.TagProject)] = true
			}
		}
	})
	delete(names, "")
	var out []reconcile.Request
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
	}
	return out
}
