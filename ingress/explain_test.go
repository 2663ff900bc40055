package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// traceServer is an API server that has Traces and answers them.
type traceServer struct {
	client.WithWatch // the rest: not asked
	answer           func(*v1alpha1.Trace) v1alpha1.TraceStatus

	mu      sync.Mutex
	made    int
	most    int
	present map[string]*v1alpha1.Trace
}

// Create implements client.Client.
func (s *traceServer) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := o.(*v1alpha1.Trace)
	s.made++
	t.Name = fmt.Sprintf("%s%d", t.GenerateName, s.made)
	s.present[t.Name] = t.DeepCopy()
	s.most = max(s.most, len(s.present))
	return nil
}

// Delete implements client.Client.
func (s *traceServer) Delete(_ context.Context, o client.Object, _ ...client.DeleteOption) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.present, o.GetName())
	return nil
}

// Watch implements client.WithWatch: what is there comes first.
func (s *traceServer) Watch(_ context.Context, _ client.ObjectList, opts ...client.ListOption) (watch.Interface, error) {
	var o client.ListOptions
	o.ApplyOptions(opts)
	name, _ := o.FieldSelector.RequiresExactMatch("metadata.name")
	s.mu.Lock()
	t := s.present[name].DeepCopy()
	s.mu.Unlock()
	w, answer := watch.NewRaceFreeFake(), s.answer
	go func() {
		t.Status = v1alpha1.TraceStatus{Phase: v1alpha1.TracePending, Message: "soon"}
		w.Add(t.DeepCopy())
		if answer != nil {
			t.Status = answer(t)
			w.Modify(t)
		}
	}()
	return w, nil
}

func newTracer(s *traceServer) *Tracer {
	s.present = map[string]*v1alpha1.Trace{}
	return NewTracer(s, types.NamespacedName{Namespace: "svc-contour-domain-c8", Name: "envoy-1"}, quiet())
}

func drops(*v1alpha1.Trace) v1alpha1.TraceStatus {
	return v1alpha1.TraceStatus{
		Phase: v1alpha1.TraceDone, Disposition: "dropped", Reason: "dfw_rule",
		Rule: &v1alpha1.TraceRule{ID: 1005, Name: "deny-all-ingress", Policy: "/infra/domains/domain-c8/security-policies/is_1", Category: "Application"},
		At:   "port ns-hackazon-app/shop-1", Stage: "dfw_in",
	}
}

func TestTracerAsksFromItsPod(t *testing.T) {
	var asked v1alpha1.TraceSpec
	s := &traceServer{answer: func(tr *v1alpha1.Trace) v1alpha1.TraceStatus {
		asked = tr.Spec
		return drops(tr)
	}}
	got := newTracer(s).Explain(t.Context(), netip.MustParseAddrPort("10.244.0.34:80"))
	if want := "dropped by rule 1005 deny-all-ingress of /infra/domains/domain-c8/security-policies/is_1 at port ns-hackazon-app/shop-1"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	want := v1alpha1.TraceSpec{
		Source: v1alpha1.TraceSource{Pod: "envoy-1"}, Destination: v1alpha1.TraceDestination{Address: "10.244.0.34"}, Protocol: "TCP", Port: 80,
	}
	if diff := gocmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if len(s.present) != 0 {
		t.Errorf("left behind: %v", s.present)
	}
}

// Many who ask cause few Traces: one an endpoint, some at a time, and an answer
// holds for a while.
func TestTracerAsksLittle(t *testing.T) {
	release := make(chan struct{})
	s := &traceServer{answer: func(tr *v1alpha1.Trace) v1alpha1.TraceStatus {
		<-release
		return drops(tr)
	}}
	tr := newTracer(s)
	now := time.Now()
	tr.now = func() time.Time { return now }
	endpoint := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
	}
	const endpoints = 2 * traceAtOne
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if tr.Explain(t.Context(), endpoint(i%endpoints)) == "" {
				t.Error("no explanation")
			}
		})
	}
	for { // all that may be asked at a time are
		s.mu.Lock()
		n := len(s.present)
		s.mu.Unlock()
		if n == traceAtOne {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if s.made != endpoints || s.most != traceAtOne || len(s.present) != 0 {
		t.Errorf("made %d (%d), at one time %d (%d), left %d", s.made, endpoints, s.most, traceAtOne, len(s.present))
	}
	tr.Explain(t.Context(), endpoint(0))
	if s.made != endpoints {
		t.Error("asked again at once")
	}
	now = now.Add(traceKeep + time.Second)
	tr.Explain(t.Context(), endpoint(0))
	if s.made != endpoints+1 {
		t.Errorf("made %d after the answer was old", s.made)
	}
}

func TestTracerGivesUp(t *testing.T) {
	s := &traceServer{}
	tr := newTracer(s)
	tr.wait = 50 * time.Millisecond
	if got := tr.Explain(t.Context(), netip.MustParseAddrPort("10.0.0.1:80")); got != "" || len(s.present) != 0 {
		t.Errorf("got %q, left %d", got, len(s.present))
	}
	if _, err := tr.trace(shortly(t), netip.MustParseAddrPort("10.0.0.1:80")); err == nil || err.Error() != "trace ingress-2: is not answered in time: soon" {
		t.Errorf("got %v", err)
	}
	s.answer = func(*v1alpha1.Trace) v1alpha1.TraceStatus {
		return v1alpha1.TraceStatus{Phase: v1alpha1.TraceFailed, Message: "spec.source.pod: has no port"}
	}
	if _, err := tr.trace(t.Context(), netip.MustParseAddrPort("10.0.0.1:80")); err == nil || err.Error() != "trace ingress-3: spec.source.pod: has no port" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("client left"))
	tr.wait = time.Minute
	s.answer = nil
	if got := tr.Explain(ctx, netip.MustParseAddrPort("10.0.0.9:80")); got != "" {
		t.Errorf("got %q", got)
	}
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestExplanation(t *testing.T) {
	to := netip.MustParseAddrPort("10.0.0.1:80")
	for _, tc := range []struct {
		s    v1alpha1.TraceStatus
		want string
	}{
		{v1alpha1.TraceStatus{Delivered: true, Disposition: "delivered"}, "the network delivers to 10.0.0.1:80: nothing there takes connections"},
		{v1alpha1.TraceStatus{Disposition: "dropped", Reason: "no_route", At: "tier-0 t0", Advice: "advertise it"}, "dropped: no_route at tier-0 t0\nadvice: advertise it"},
		{v1alpha1.TraceStatus{Disposition: "rejected", Rule: &v1alpha1.TraceRule{ID: 7, Name: "no"}, At: "port x"}, "rejected by rule 7 no at port x"},
		{v1alpha1.TraceStatus{Disposition: "delivered", Reason: "no_route", At: "tier-1 x"}, "the reply is dropped: no_route at tier-1 x"},
	} {
		if got := explanation(&tc.s, to); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
