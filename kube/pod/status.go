package pod

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/writer"
)

// Condition is the type of the condition of Pods, which says whether the port is
// in force.
const Condition = "weft.dev/NetworkReady"

// patience is how long a port may take to be in force before a condition says
// that it is not: mostly it is there sooner.
const patience = 2 * time.Second

// remember keeps what became of a Pod. If its port is not in force yet it returns
// when to look at it again, and whether it is too early to say so.
func (r *reconciler) remember(p *corev1.Pod, a answer) (again time.Duration, early bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(p)
	was := r.seen[key]
	if a.out.State != writer.Pending || !a.out.Written() {
		r.seen[key] = seen{uid: was.uid}
		return 0, false
	}
	now := r.now()
	if was.pending.IsZero() {
		was.pending = now
		r.seen[key] = was
	}
	if d := patience - now.Sub(was.pending); d > 0 {
		return d, true
	}
	return 0, false
}

// tell says what became of a Pod: in its condition, and in an Event if something
// is wrong or was.
func (r *reconciler) tell(ctx context.Context, p *corev1.Pod, a answer, early bool) error {
	var before corev1.PodCondition
	if i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == Condition }); i >= 0 {
		before = p.Status.Conditions[i]
	}
	said := a.out
	if a.out.Written() {
		said = a.out.Lacking(a.fault)
	}
	bad := a.fault != nil || !said.Written() || said.State == writer.Refused
	if bad || said.OK() && before.Status == corev1.ConditionFalse {
		r.w.Tell(p, said)
	}
	pending := !bad && said.State == writer.Pending
	if early || pending && before.Status == corev1.ConditionTrue { // what was asked for before is in force
		return nil
	}
	after := condition(before, said.Condition(Condition, p.Generation), r.now())
	if after == before {
		return nil
	}
	return r.patch(ctx, p, after)
}

// condition returns c as a condition of a Pod.
func condition(before corev1.PodCondition, c metav1.Condition, now time.Time) corev1.PodCondition {
	after := corev1.PodCondition{
		Type: Condition, Status: corev1.ConditionStatus(c.Status), ObservedGeneration: c.ObservedGeneration,
		LastProbeTime: before.LastProbeTime, LastTransitionTime: before.LastTransitionTime, Reason: c.Reason, Message: c.Message,
	}
	if after.Status != before.Status {
		after.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	}
	return after
}

// patch puts the condition into a Pod's status, beside those of others. A Pod
// that is gone, or is another by now, needs none.
func (r *reconciler) patch(ctx context.Context, p *corev1.Pod, c corev1.PodCondition) error {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID},
		"status": map[string]any{"conditions": []any{struct {
			corev1.PodCondition
			Message string `json:"message"` // an empty one too, or that of before stays
		}{c, c.Message}}},
	})
	if err != nil {
		return err
	}
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
	err = r.Status().Patch(ctx, o, client.RawPatch(types.StrategicMergePatchType, data))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
