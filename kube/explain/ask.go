package explain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// Question is a connection.
type Question struct {
	From, To *End
	Protocol Protocol
}

// String names the connection: pod shop/web → svc shop/db, tcp/3306.
func (q Question) String() string {
	return q.From.String() + " → " + q.To.String() + ", " + q.Protocol.String()
}

// Trace returns the object that asks, which has no name yet. fallback is its
// namespace if neither end has one.
func (q Question) Trace(fallback string) *v1alpha1.Trace {
	t := &v1alpha1.Trace{ObjectMeta: metav1.ObjectMeta{GenerateName: "kubectl-weft-", Namespace: fallback}}
	t.Spec.Protocol, t.Spec.Port = q.Protocol.Name, q.Protocol.Port
	from, to := &t.Spec.Source, &t.Spec.Destination
	switch {
	case q.To.Pod != nil:
		t.Namespace, to.Pod = q.To.Pod.Namespace, q.To.Pod.Name
	case q.To.Service != nil:
		t.Namespace, to.Service = q.To.Service.Namespace, q.To.Service.Name
	default:
		to.Address = v1alpha1.IP(q.To.Address.String())
	}
	if q.From.Pod == nil {
		from.Address = v1alpha1.IP(q.From.Address.String())
		return t
	}
	if to.Address == "" && q.From.Pod.Namespace != t.Namespace {
		to.Namespace = t.Namespace
	}
	t.Namespace, from.Pod = q.From.Pod.Namespace, q.From.Pod.Name
	return t
}

// UnansweredError is that a Trace was not answered.
type UnansweredError struct {
	Failed  bool   // it can not be, whenever it is asked
	Message string // what the Trace's status says; empty: nobody looked at it
	Waited  time.Duration
}

// Error implements error.
func (e *UnansweredError) Error() string {
	switch {
	case e.Failed:
		return "trace: " + e.Message
	case e.Message != "":
		return fmt.Sprintf("trace: after %s: %s", e.Waited, e.Message)
	}
	return fmt.Sprintf("trace: nobody answered it within %s (weftd does, with --kubeconfig of this cluster)", e.Waited)
}

// Ask makes the Trace t, waits until it is answered but not longer than patience,
// and deletes it. note is told what it waits for whenever that changes.
// Errors: *UnansweredError; those of the API server.
func Ask(ctx context.Context, c client.WithWatch, t *v1alpha1.Trace, patience time.Duration, note func(string)) (v1alpha1.TraceStatus, error) {
	switch err := c.Create(ctx, t); {
	case meta.IsNoMatchError(err):
		return v1alpha1.TraceStatus{}, errors.New("trace: the cluster has no Traces of weft.dev/v1alpha1 (weftd makes them known, with --kubeconfig of this cluster)")
	case err != nil:
		return v1alpha1.TraceStatus{}, fmt.Errorf("trace: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = c.Delete(ctx, t) // weftd takes old ones away too
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unanswered := &UnansweredError{Waited: patience}
	for {
		s, err := answered(ctx, c, t, func(s v1alpha1.TraceStatus) {
			if s.Message != unanswered.Message {
				unanswered.Message = s.Message
				note(s.Message)
			}
		})
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return s, unanswered
		case err != nil:
			return s, fmt.Errorf("trace: %w", err)
		case s.Phase == v1alpha1.TraceFailed:
			unanswered.Failed = true
			return s, unanswered
		case s.Phase == v1alpha1.TraceDone:
			return s, nil
		}
	}
}

// answered follows t until it is answered, or the API server ends the watch.
func answered(ctx context.Context, c client.WithWatch, t *v1alpha1.Trace, seen func(v1alpha1.TraceStatus)) (v1alpha1.TraceStatus, error) {
	key := client.ObjectKeyFromObject(t)
	w, err := c.Watch(ctx, &v1alpha1.TraceList{}, client.InNamespace(t.Namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", t.Name)})
	if err != nil {
		return v1alpha1.TraceStatus{}, err
	}
	defer w.Stop()
	now := &v1alpha1.Trace{} // what came before the watch
	if err := c.Get(ctx, key, now); err != nil {
		return now.Status, err
	}
	for {
		seen(now.Status)
		if now.Status.Phase == v1alpha1.TraceDone || now.Status.Phase == v1alpha1.TraceFailed {
			return now.Status, nil
		}
		select {
		case <-ctx.Done():
			return now.Status, ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok {
				return now.Status, nil
			}
			next, isTrace := event.Object.(*v1alpha1.Trace)
			switch {
			case event.Type == watch.Deleted:
				return now.Status, errors.New("somebody deleted it")
			case event.Type == watch.Error:
				return now.Status, nil
			case isTrace && next.Name == t.Name:
				now = next
			}
		}
	}
}

// Namespaces returns those of the question's ends.
func (q Question) Namespaces() []string {
	var out []string
	for _, e := range []*End{q.To, q.From} {
		if e.Namespace != "" {
			out = append(out, e.Namespace)
		}
	}
	return out
}
