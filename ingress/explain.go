package ingress

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// How much a Tracer asks.
const (
	traceWait  = 2 * time.Second
	traceKeep  = 5 * time.Second // an answer holds
	traceAgain = 1 * time.Second // that there was none holds
	traceAtOne = 4               // Traces at one time
	traceMost  = 1000            // answers that are kept
)

// Tracer explains by Trace objects: it asks what becomes of a connection from
// its own pod.
type Tracer struct {
	client client.WithWatch
	self   types.NamespacedName // this pod
	log    *slog.Logger
	wait   time.Duration
	now    func() time.Time
	slots  chan struct{}
	traced func(answered bool)

	mu      sync.Mutex
	answers map[netip.AddrPort]*answer
}

// answer is one Trace, in work or done.
type answer struct {
	done  chan struct{} // closed when text holds
	text  string
	until time.Time // valid once done is closed
}

// NewTracer returns a Tracer for a proxy that runs in the pod self.
func NewTracer(c client.WithWatch, self types.NamespacedName, log *slog.Logger) *Tracer {
	return &Tracer{
		client: c, self: self, log: log, wait: traceWait, now: time.Now,
		slots: make(chan struct{}, traceAtOne), traced: func(bool) {}, answers: map[netip.AddrPort]*answer{},
	}
}

// Explain says what drops the packets to an endpoint. All who ask for one at
// the same time wait for one Trace, and its answer holds for some seconds. It
// is empty if too many Traces are under way, or none was answered in time.
func (t *Tracer) Explain(ctx context.Context, to netip.AddrPort) string {
	a, mine := t.answer(to)
	if mine {
		go t.ask(to, a)
	}
	select {
	case <-a.done:
		return a.text
	case <-ctx.Done():
		return ""
	}
}

// answer returns the answer for an endpoint, and whether the caller has to
// find it.
func (t *Tracer) answer(to netip.AddrPort) (a *answer, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.answers[to]; a != nil && !t.stale(a) {
		return a, false
	}
	if len(t.answers) >= traceMost {
		for k, a := range t.answers {
			if t.stale(a) {
				delete(t.answers, k)
			}
		}
	}
	a = &answer{done: make(chan struct{})}
	if len(t.answers) >= traceMost {
		close(a.done) // nobody can want so many explanations
		return a, false
	}
	t.answers[to] = a
	return a, true
}

// stale reports whether an answer does not hold any more.
func (t *Tracer) stale(a *answer) bool {
	select {
	case <-a.done:
		return t.now().After(a.until)
	default:
		return false
	}
}

// ask finds an answer. Whoever asked may leave: others wait too.
func (t *Tracer) ask(to netip.AddrPort, a *answer) {
	keep := traceAgain
	defer func() {
		a.until = t.now().Add(keep)
		close(a.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), t.wait)
	defer cancel()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return
	}
	s, err := t.trace(ctx, to)
	t.traced(err == nil)
	if err != nil {
		t.log.Info("no explanation", "endpoint", to, "error", err)
		return
	}
	a.text, keep = explanation(s, to), traceKeep
	t.log.Info("endpoint is not reached", "endpoint", to, "explanation", a.text)
}

// trace makes a Trace, waits for its answer and takes it away.
// Errors: those of the API server; the Trace failed; ctx ended.
func (t *Tracer) trace(ctx context.Context, to netip.AddrPort) (*v1alpha1.TraceStatus, error) {
	tr := &v1alpha1.Trace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "ingress-", Namespace: t.self.Namespace},
		Spec: v1alpha1.TraceSpec{
			Source:      v1alpha1.TraceSource{Pod: t.self.Name},
			Destination: v1alpha1.TraceDestination{Address: v1alpha1.IP(to.Addr().String())},
			Protocol:    "TCP",
			Port:        int32(to.Port()),
		},
	}
	if err := t.client.Create(ctx, tr); err != nil {
		return nil, err
	}
	defer t.remove(tr)
	w, err := t.client.Watch(ctx, &v1alpha1.TraceList{}, client.InNamespace(tr.Namespace), client.MatchingFields{"metadata.name": tr.Name})
	if err != nil {
		return nil, err
	}
	defer w.Stop()
	pending := "nobody looked at it"
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("trace %s: is not answered in time: %s", tr.Name, pending)
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil, fmt.Errorf("trace %s: the watch ended", tr.Name)
			}
			got, ok := e.Object.(*v1alpha1.Trace)
			if !ok || got.Name != tr.Name {
				continue
			}
			switch got.Status.Phase {
			case v1alpha1.TraceDone:
				return &got.Status, nil
			case v1alpha1.TraceFailed:
				return nil, fmt.Errorf("trace %s: %s", tr.Name, got.Status.Message)
			case v1alpha1.TracePending:
				pending = got.Status.Message
			}
		}
	}
}

// remove takes a Trace away; one that stays goes by its age.
func (t *Tracer) remove(tr *v1alpha1.Trace) {
	ctx, cancel := context.WithTimeout(context.Background(), t.wait)
	defer cancel()
	if err := client.IgnoreNotFound(t.client.Delete(ctx, tr)); err != nil {
		t.log.Info("trace stays", "trace", tr.Name, "error", err)
	}
}

// explanation words the answer of a Trace.
func explanation(s *v1alpha1.TraceStatus, to netip.AddrPort) string {
	if s.Delivered {
		return "the network delivers to " + to.String() + ": nothing there takes connections"
	}
	text := s.Disposition
	if text == "delivered" {
		text = "the reply is dropped"
	}
	if s.Rule != nil {
		text += fmt.Sprintf(" by rule %d %s", s.Rule.ID, s.Rule.Name)
		if s.Rule.Policy != "" {
			text += " of " + s.Rule.Policy
		}
	} else if s.Reason != "" {
		text += ": " + s.Reason
	}
	if s.At != "" {
		text += " at " + s.At
	}
	if s.Advice != "" {
		text += "\nadvice: " + s.Advice
	}
	return text
}
