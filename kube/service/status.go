package service

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
)

// Condition is the type of the condition of Services, which says whether all
// that they ask for is in force.
const Condition = "weft.dev/NetworkReady"

// patience is how long intent may take to be in force before a condition says
// that it is not: mostly it is there sooner.
const patience = 2 * time.Second

// retry is how soon what may be mended is looked at again while something else
// is awaited.
const retry = 5 * time.Second

// remember keeps what became of a Service. If its intent is not in force yet it
// returns when to look at it again, and whether it is too early to say so.
func (r *reconciler) remember(s *corev1.Service, a answer) (wait time.Duration, early bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(s)
	was := r.seen[key]
	if a.has.IsValid() {
		was.had = a.has
	}
	if a.SNAT.IsValid() && a.out.Written() {
		was.snat = a.SNAT
	}
	if a.waits.State != writer.Pending || !a.waits.Written() {
		was.pending = time.Time{}
		r.seen[key] = was
		return 0, false
	}
	now := r.now()
	if was.pending.IsZero() {
		was.pending = now
	}
	r.seen[key] = was
	if d := patience - now.Sub(was.pending); d > 0 {
		return d, len(a.Faults) == 0
	}
	if slices.ContainsFunc(a.Faults, mayMend) {
		return retry, false
	}
	return 0, false
}

// tell says what became of a Service: in its condition, the status of its load
// balancer, the annotations of NCP, and an Event if something is wrong or was.
func (r *reconciler) tell(ctx context.Context, s *corev1.Service, a answer, early bool) error {
	before := apimeta.FindStatusCondition(s.Status.Conditions, Condition)
	bad := len(a.Faults) > 0 || !a.out.Written() || a.out.State == writer.Refused
	if bad || a.out.OK() && before != nil && before.Status == metav1.ConditionFalse {
		r.w.Tell(s, a.out)
	}
	status := map[string]any{}
	conditions := slices.Clone(s.Status.Conditions)
	if c, ok := condition(s, a); ok && !early && apimeta.SetStatusCondition(&conditions, c) {
		status["conditions"] = []metav1.Condition{*apimeta.FindStatusCondition(conditions, Condition)}
	}
	if ingress, ok := ingress(s, a); ok {
		status["loadBalancer"] = map[string]any{"ingress": ingress}
	}
	if len(status) > 0 {
		if err := patch(ctx, r.Status(), s, map[string]any{"metadata": map[string]any{"uid": s.UID}, "status": status}); err != nil {
			return err
		}
	}
	return r.annotate(ctx, s, a)
}

// condition returns the condition; false: it stays as it is. One that was true
// stays so while a change is on its way, as what was asked for before is in
// force.
func condition(s *corev1.Service, a answer) (metav1.Condition, bool) {
	before := apimeta.FindStatusCondition(s.Status.Conditions, Condition)
	if len(a.Faults) == 0 && a.out.Written() && a.out.State == writer.Pending && before != nil && before.Status == metav1.ConditionTrue {
		return metav1.Condition{}, false
	}
	if before == nil && a.out.OK() && len(a.Objects) == 0 {
		return metav1.Condition{}, false // it asks for nothing
	}
	c := a.out.Condition(Condition, s.Generation)
	if len(a.Notes) > 0 {
		c.Message = strings.TrimPrefix(c.Message+"; "+strings.Join(a.Notes, "; "), "; ")
	}
	return c, true
}

// ingress returns what status.loadBalancer.ingress shall be; false: what it is.
// It has an address only when that is in force, and loses it as soon as it is
// another's.
func ingress(s *corev1.Service, a answer) ([]corev1.LoadBalancerIngress, bool) {
	have := s.Status.LoadBalancer.Ingress
	if !IsOurs(s) {
		// of another class: theirs; of another type: of nobody
		return nil, s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(have) > 0
	}
	isThere := len(have) == 1 && a.has.IsValid() && have[0].IP == a.has.String()
	switch {
	case isThere || len(have) == 0 && !a.has.IsValid():
		return nil, false
	case a.has.IsValid() && a.has == a.Address && a.waits.State == writer.Realized:
		mode := corev1.LoadBalancerIPModeVIP
		return []corev1.LoadBalancerIngress{{IP: a.has.String(), IPMode: &mode}}, true
	}
	return nil, len(have) > 0
}

// annotate keeps ncp.AnnotationErrorLB and ncp.AnnotationErrorSNAT.
func (r *reconciler) annotate(ctx context.Context, s *corev1.Service, a answer) error {
	changed := map[string]any{}
	for key, about := range map[string]func(writer.Fault) bool{ncp.AnnotationErrorLB: IsAddressFault, ncp.AnnotationErrorSNAT: IsSNATFault} {
		i := slices.IndexFunc(a.Faults, about)
		have, is := s.Annotations[key]
		switch {
		case i >= 0 && (!is || have != a.Faults[i].Reason):
			changed[key] = a.Faults[i].Reason
		case i < 0 && is:
			changed[key] = nil
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return patch(ctx, r.Client, s, map[string]any{"metadata": map[string]any{"uid": s.UID, "annotations": changed}})
}

// patcher is client.Client and its Status.
type patcher[O any] interface {
	Patch(ctx context.Context, obj client.Object, p client.Patch, opts ...O) error
}

// patch merges a body into a Service. One that is gone, or is another by now,
// needs nothing.
func patch[O any](ctx context.Context, c patcher[O], s *corev1.Service, body map[string]any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	err = c.Patch(ctx, o, client.RawPatch(types.StrategicMergePatchType, data))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
