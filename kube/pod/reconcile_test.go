package pod

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// world is an API server and a store in which tenants and pods are controlled.
type world struct {
	*testing.T
	*kubetest.Env
	deps writer.Deps
	real *kubetest.Realization
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// pod makes a Pod.
func (w *world) pod(ns, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	p := kubetest.Pod(ns, name, map[string]string{"app": "web"})
	for _, fn := range change {
		fn(p)
	}
	w.check(w.Client.Create(w.Context(), p))
	return p
}

// status changes a Pod's status.
func (w *world) status(p *corev1.Pod, fn func(*corev1.PodStatus)) {
	w.Helper()
	before := p.DeepCopy()
	fn(&p.Status)
	w.check(w.Client.Status().Patch(w.Context(), p, client.MergeFrom(before)))
}

// delete deletes a Pod at once.
func (w *world) delete(p *corev1.Pod) {
	w.Helper()
	w.check(w.Client.Delete(w.Context(), p, client.GracePeriodSeconds(0)))
}

// port returns a Pod's port, or nil.
func (w *world) port(uid types.UID) (out *intent.SegmentPort) {
	w.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
		for _, o := range t.OfType("SegmentPort") {
			if intent.IDOf(o.Meta().Path) == string(uid) {
				out = o.(*intent.SegmentPort)
			}
		}
	})
	return out
}

// line returns what people see of a Pod: its condition and address.
func (w *world) line(p *corev1.Pod) string {
	w.Helper()
	var now corev1.Pod
	var out []string
	if err := w.Client.Get(w.Context(), client.ObjectKeyFromObject(p), &now); client.IgnoreNotFound(err) != nil {
		w.Fatal(err)
	}
	for _, c := range now.Status.Conditions {
		if c.Type == Condition {
			said := string(c.Status) + " " + c.Reason
			if c.Status == corev1.ConditionTrue && c.Message != "" {
				said += ": " + c.Message // of before
			}
			out = append(out, said)
		}
	}
	if port := w.port(p.UID); port != nil {
		out = append(out, port.AddressBindings[0].IPAddress)
	}
	return strings.Join(out, ", ")
}

func (w *world) want(p *corev1.Pod, want string) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		if got := w.line(p); got != want {
			return fmt.Sprintf("Pod %s/%s: got %q, want %q", p.Namespace, p.Name, got, want)
		}
		return ""
	})
}

// ready waits until a Pod's port is in force, and returns its address.
func (w *world) ready(p *corev1.Pod) string {
	w.Helper()
	var addr string
	kubetest.Eventually(w, func() string {
		var ok bool
		if addr, ok = strings.CutPrefix(w.line(p), "True Realized, "); !ok {
			return fmt.Sprintf("Pod %s/%s: got %q, want it realized", p.Namespace, p.Name, w.line(p))
		}
		return ""
	})
	return addr
}

// gone waits until a Pod has no port.
func (w *world) gone(p *corev1.Pod) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		if port := w.port(p.UID); port != nil {
			return port.Path + ": is there still"
		}
		return ""
	})
}

// event waits for a warning about a Pod.
func (w *world) event(p *corev1.Pod, reason string) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		var list eventsv1.EventList
		w.check(w.Client.List(w.Context(), &list, client.InNamespace(p.Namespace)))
		for _, e := range list.Items {
			if e.Regarding.UID == p.UID && e.Reason == reason && e.Type == corev1.EventTypeWarning {
				return ""
			}
		}
		return "Pod " + p.Name + ": no Event " + reason
	})
}

func (w *world) namespace(name string) {
	w.Helper()
	w.check(w.Client.Create(w.Context(), kubetest.Namespace(name, nil)))
}

func TestReconcile(t *testing.T) {
	w := &world{T: t, Env: kubetest.Start(t)}
	w.deps, w.real = kubetest.NewDeps(t)
	kubetest.Provider(t, w.deps.Store)
	stop := w.Manage(t, w.deps, tenant.Add, Add)
	w.namespace("red")

	// Before there is a network a Pod is told so, and not stuck.
	first := w.pod("red", "first")
	w.want(first, "False NoNetwork")
	w.event(first, NoNetwork)
	sup := kubetest.Supervisor()
	w.check(w.Client.Create(t.Context(), sup))
	w.want(first, "True Realized, 10.244.0.18")

	// One that uses its node's network has no port, nor has one that is finished.
	w.pod("red", "host", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	done := w.pod("red", "done")
	w.ready(done)
	w.status(done, func(s *corev1.PodStatus) { s.Phase = corev1.PodSucceeded })
	w.gone(done)

	// A label becomes a tag.
	before := first.DeepCopy()
	first.Labels["tier"] = "front"
	w.check(w.Client.Patch(t.Context(), first, client.MergeFrom(before)))
	kubetest.Eventually(t, func() string {
		if p := w.port(first.UID); ncp.TagValue(p.Tags, "tier") == "front" {
			return ""
		}
		return "no tag tier"
	})

	w.Run("Static", w.static)
	w.Run("Hold", w.hold)
	w.Run("Full", w.full)
	w.Run("Pending", w.pending)
	w.Run("Terminating", w.terminating)

	// A restart changes nothing, and sees what went meanwhile.
	second := w.pod("red", "second")
	w.ready(second)
	stop()
	w.status(second, func(s *corev1.PodStatus) { s.Phase = corev1.PodFailed })
	var version store.Version
	w.deps.Store.Read(func(_ *intent.Tree, v store.Version) { version = v })
	w.Manage(t, w.deps, Add)
	w.gone(second)
	w.want(first, "True Realized, 10.244.0.18")
	var changed []string
	for e := range w.deps.Store.Watch(t.Context(), version) {
		changed = e.Changed
		break
	}
	if len(changed) != 1 || !strings.HasSuffix(changed[0], string(second.UID)) {
		t.Errorf("changed by the restart: got %v, want the port of %s", changed, second.UID)
	}

	// What is deleted leaves nothing.
	w.delete(first)
	w.gone(first)
	if left := w.deps.Store.Owners("Pod/"); len(left) > 0 {
		t.Errorf("owners: got %v", left)
	}
	w.deps.Store.Read(func(tree *intent.Tree, _ store.Version) {
		if _, problems := compile.New().Update(tree, nil); len(problems) > 0 {
			t.Error(problems)
		}
	})
}

// An address on request, and why there is none.
func (w *world) static(*testing.T) {
	asks := func(a string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Annotations = map[string]string{AnnotationAddress: a} }
	}
	one := w.pod("red", "one", asks("10.244.0.25"))
	w.want(one, "True Realized, 10.244.0.25")
	two := w.pod("red", "two", asks("10.244.0.25"))
	w.want(two, "False AddressInUse")
	w.event(two, AddressInUse)
	w.delete(one)
	w.want(two, "True Realized, 10.244.0.25")
	w.delete(two)
	w.gone(two)
	bad := w.pod("red", "bad", asks("10.244.7.9"))
	w.want(bad, "False AddressOutside")
	w.delete(bad)
}

// Another segment comes when one is full.
func (w *world) full(*testing.T) {
	w.namespace("many")
	var pods []*corev1.Pod
	for i := range 20 {
		pods = append(pods, w.pod("many", fmt.Sprintf("p%02d", i)))
	}
	addrs := map[string]bool{}
	for _, p := range pods {
		addrs[w.ready(p)] = true
	}
	if len(addrs) != len(pods) {
		w.Errorf("addresses: got %d, want %d", len(addrs), len(pods))
	}
	for _, p := range pods {
		w.delete(p)
	}
	for _, p := range pods {
		w.gone(p)
	}
}

// A released address rests, as the Supervisor says.
func (w *world) hold(*testing.T) {
	w.namespace("rest")
	one := w.pod("rest", "one")
	had := w.ready(one)
	w.delete(one)
	w.gone(one)
	two := w.pod("rest", "one")
	if got := w.ready(two); got == had {
		w.Errorf("address: got %s, which rests", got)
	}
	w.delete(two)
	w.gone(two)
}

// A port that is not in force says so after a while.
func (w *world) pending(*testing.T) {
	w.real.Set(writer.Pending, "host1 has not answered")
	p := w.pod("red", "slow")
	is := func(want string) {
		w.Helper()
		kubetest.Eventually(w, func() string {
			if got, _, _ := strings.Cut(w.line(p), ", "); got != want {
				return fmt.Sprintf("got %q, want %q", got, want)
			}
			return ""
		})
	}
	is("False Pending")
	w.real.Set(writer.Refused, "host1: no room")
	is("False Refused")
	w.event(p, "Refused")
	w.real.Set(writer.Realized, "")
	is("True Realized")
	w.delete(p)
	w.gone(p)
}

// A Pod that is being deleted keeps its address until it is gone, and the next of
// its name has another.
func (w *world) terminating(*testing.T) {
	p := w.pod("red", "ends", func(p *corev1.Pod) { p.Finalizers = []string{"weft.dev/test"} })
	had := w.ready(p)
	w.delete(p)
	other := w.pod("red", "other")
	if got := w.ready(other); got == had || w.ready(p) != had {
		w.Errorf("addresses: got %s and %s, want the first to stay %s", w.ready(p), got, had)
	}
	before := p.DeepCopy()
	before.Finalizers, p.Finalizers = []string{"weft.dev/test"}, nil
	w.check(w.Client.Patch(w.Context(), p, client.MergeFrom(before)))
	w.gone(p)
	w.delete(other)
	w.gone(other)
}
