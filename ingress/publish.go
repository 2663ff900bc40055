package ingress

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/ncp"
)

// What is written is bounded, in bytes.
const (
	mostAnnotation = 4096
	mostNote       = 1024 // source: events.k8s.io/v1
)

// told is what an Ingress of this class was told last.
type told struct {
	name     types.NamespacedName
	problems []Problem
}

// tell publishes addresses and problems on the Ingresses that are served, and
// takes both away from those that are not any more.
func (f *follower) tell(ctx context.Context, o Objects, problems []Problem, addresses []networkingv1.IngressLoadBalancerIngress) error {
	of := map[types.NamespacedName][]Problem{}
	for _, p := range problems {
		of[p.Ingress] = append(of[p.Ingress], p)
	}
	for _, p := range of[types.NamespacedName{}] {
		f.log.Warn("problem", "field", p.Field, "fact", p.Text)
	}
	var errs []error
	seen := map[types.UID]told{}
	for _, in := range Served(f.class, o.Classes, o.Ingresses) {
		ps := of[name(in)]
		f.events(in, ps, f.told[in.UID].problems)
		seen[in.UID] = told{name(in), ps}
		errs = append(errs, f.annotate(ctx, in, ps), f.status(ctx, in, addresses))
	}
	for _, in := range o.Ingresses {
		if _, was := f.told[in.UID]; was && seen[in.UID].name.Name == "" {
			errs = append(errs, f.leave(ctx, in, addresses))
		}
	}
	f.told = seen
	maps.DeleteFunc(f.pairs, func(k types.NamespacedName, _ parsedPair) bool {
		return !(*f.wanted.Load())[object{"Secret", k}]
	})
	return errors.Join(errs...)
}

// events tells of problems that are new.
func (f *follower) events(in *networkingv1.Ingress, now, before []Problem) {
	for _, p := range now {
		if !slices.Contains(before, p) {
			f.recorder.Eventf(in, nil, corev1.EventTypeWarning, p.Reason, "Serve", "%s", shorten(p.Field+": "+p.Text, mostNote))
		}
	}
	if len(now) == 0 && len(before) > 0 {
		f.recorder.Eventf(in, nil, corev1.EventTypeNormal, "Served", "Serve", "all of it is served")
	}
}

// annotate sets or removes ncp.AnnotationErrorIngress.
func (f *follower) annotate(ctx context.Context, in *networkingv1.Ingress, ps []Problem) error {
	var lines []string
	for _, p := range ps {
		lines = append(lines, p.Reason+": "+p.Field+": "+p.Text)
	}
	want := shorten(strings.Join(lines, "; "), mostAnnotation)
	if in.Annotations[ncp.AnnotationErrorIngress] == want {
		return nil
	}
	changed := in.DeepCopy()
	if want == "" {
		delete(changed.Annotations, ncp.AnnotationErrorIngress)
	} else {
		if changed.Annotations == nil {
			changed.Annotations = map[string]string{}
		}
		changed.Annotations[ncp.AnnotationErrorIngress] = want
	}
	return client.IgnoreNotFound(f.client.Patch(ctx, changed, client.MergeFrom(in)))
}

// shorten returns text with at most most bytes.
func shorten(text string, most int) string {
	const more = "…"
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}

// status makes the addresses of an Ingress those that are wanted.
func (f *follower) status(ctx context.Context, in *networkingv1.Ingress, want []networkingv1.IngressLoadBalancerIngress) error {
	have := in.Status.LoadBalancer.Ingress
	if len(have) == 0 && len(want) == 0 || equality.Semantic.DeepEqual(have, want) {
		return nil
	}
	changed := in.DeepCopy()
	changed.Status.LoadBalancer.Ingress = want
	return client.IgnoreNotFound(f.client.Status().Patch(ctx, changed, client.MergeFrom(in)))
}

// leave takes away what an Ingress got while it was served; another
// controller's addresses stay.
func (f *follower) leave(ctx context.Context, in *networkingv1.Ingress, ours []networkingv1.IngressLoadBalancerIngress) error {
	err := f.annotate(ctx, in, nil)
	if equality.Semantic.DeepEqual(in.Status.LoadBalancer.Ingress, ours) {
		err = errors.Join(err, f.status(ctx, in, nil))
	}
	return err
}
