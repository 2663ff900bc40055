package tracing

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// fakeTables is Tables of Host, which may change.
type fakeTables struct {
	mu  sync.Mutex
	set *table.Set
}

// Set implements Tables.
func (f *fakeTables) Set(node string) (*table.Set, store.Version) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if node != Host {
		return nil, 0
	}
	return f.set, 1
}

// attach returns a Set in which pods have ports.
func attach(set *table.Set, pods map[table.PortID]*corev1.Pod) *table.Set {
	out := *set
	for id, pod := range pods {
		p := *out.Ports.Get(id)
		p.Attachment = string(pod.UID)
		out.Ports.Put(id, &p)
	}
	return &out
}

// inNamespace returns a Set in which a port's segment is a namespace's.
func inNamespace(set *table.Set, port table.PortID, ns *corev1.Namespace) *table.Set {
	out := *set
	id := set.Ports.Get(port).Segment
	s := *set.Segments.Get(id)
	s.Path = ncp.SegmentPath(string(ns.UID), 0)
	out.Segments.Put(id, &s)
	return &out
}

func newReconciler(tables Tables) *reconciler {
	return &reconciler{tables: tables, now: time.Now, indexes: map[string]*indexed{}}
}

// An index is made once for a Set, whichever node asks.
func TestIndexIsKept(t *testing.T) {
	tables := &fakeTables{}
	r := newReconciler(tables)
	if r.indexOf("n1") != nil {
		t.Error("an index of nothing")
	}
	tables.set = testset.New()
	first := r.indexOf("n1")
	if first == nil || r.indexOf(Host) != first || r.indexOf("") != first {
		t.Error("an index is made twice")
	}
	if p := first.attachments["web1"]; p == nil || p.ID != testset.Web1 {
		t.Errorf("web1 is attached to %+v", p)
	}
	tables.set = testset.New()
	if r.indexOf(Host) == first || len(r.indexes) != 1 {
		t.Error("the index of an old Set")
	}
}

func TestStatus(t *testing.T) {
	const west = "/infra/tier-0s/t0/locale-services/default/interfaces/west"
	ix := pipeline.NewIndex(testset.New())
	ask := func(from, to string, port uint16) v1alpha1.TraceStatus {
		t.Helper()
		src, err := trace.ResolveSource(ix, from)
		if err != nil {
			t.Fatal(err)
		}
		dst, err := trace.ResolveDestination(ix, to)
		if err != nil {
			t.Fatal(err)
		}
		res, err := trace.Run(ix, trace.Question{From: src.Port, To: dst.Port, Src: src.Addr, Dst: dst.Addr, Proto: packet.TCP, SrcPort: 49152, DstPort: port})
		if err != nil {
			t.Fatal(err)
		}
		return Status(res)
	}
	deny := v1alpha1.TraceRule{Stage: "dfw_out", At: "port web1", ID: 1006, Category: "Application", Action: "DROP"}
	for _, tc := range []struct {
		name, from, to string
		port           uint16
		want           v1alpha1.TraceStatus // without text and advice
		text           []string
	}{
		{
			name: "dropped", from: "web1", to: "192.0.2.77", port: 22,
			want: v1alpha1.TraceStatus{Phase: v1alpha1.TraceDone, Disposition: "dropped", Reason: "dfw_rule", At: "port web1", Stage: "dfw_out", Rule: &deny, Rules: []v1alpha1.TraceRule{deny}},
			text: []string{"port web1: 10.1.1.10:49152 → 192.0.2.77:22 tcp\n\nSTAGE ", "\ndropped at port web1, dfw_out: dfw_rule, rule 1006\n", "\nadvice: "},
		},
		{
			name: "delivered", from: "web1", to: "192.0.2.77", port: 443,
			want: v1alpha1.TraceStatus{
				Phase: v1alpha1.TraceDone, Delivered: true, Disposition: "delivered", SourceSeen: "198.51.100.16", At: "uplink west", Stage: "deliver",
				Rules: []v1alpha1.TraceRule{{Stage: "dfw_out", At: "port web1", ID: 1007, Category: "Application", Action: "ALLOW"}},
				Hops: []v1alpha1.TraceHop{
					{Address: "10.1.1.1", Component: "tier-1 red", Path: "/infra/tier-1s/red"},
					{Address: "100.64.0.0", Component: "tier-0 t0", Path: "/infra/tier-0s/t0"},
					{Address: "198.51.100.1", Component: "next hop of uplink west", Path: west},
					{Address: "192.0.2.77", Component: "outside, by uplink west", Path: west},
				},
			},
			text: []string{"source seen by the destination: 198.51.100.16:49152\n"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ask(tc.from, tc.to, tc.port)
			for _, part := range tc.text {
				if !strings.Contains(got.Text, part) {
					t.Errorf("text: no %q:\n%s", part, got.Text)
				}
			}
			if (got.Advice == "") != tc.want.Delivered {
				t.Errorf("advice: %q", got.Advice)
			}
			got.Text, got.Advice = "", ""
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Of a reply that is dropped the status has the place and the rule; its rules
// are those of the packet.
func TestStatusOfAReply(t *testing.T) {
	port := trace.Object{Component: "port shop/web", Path: "/infra/segments/s/ports/p"}
	allow := trace.Step{Stage: "dfw_in", Object: port, RuleID: 1, RuleName: "allow"}
	nat := trace.Step{Stage: "snat", Object: port, RuleID: 2}
	res := &trace.Result{
		Leg: trace.Leg{Disposition: trace.Delivered, To: port, Steps: []trace.Step{nat, allow, {Stage: "deliver", Object: port}}},
		Reply: &trace.Result{Leg: trace.Leg{
			Disposition: trace.Rejected, Steps: []trace.Step{{Stage: "dfw_out", Object: port, RuleID: 3}},
			Dropped: &trace.Drop{Stage: "dfw_out", Object: port, Reason: "dfw_rule", RuleID: 3, RuleName: "deny", Advice: "allow it"},
		}},
	}
	got := Status(res)
	got.Text = ""
	want := v1alpha1.TraceStatus{
		Phase: v1alpha1.TraceDone, Disposition: "delivered", Reason: "dfw_rule", Advice: "allow it", At: "port shop/web", Stage: "dfw_out",
		Rule:  &v1alpha1.TraceRule{Stage: "dfw_out", At: "port shop/web", ID: 3, Name: "deny", Action: "REJECT"},
		Rules: []v1alpha1.TraceRule{{Stage: "dfw_in", At: "port shop/web", ID: 1, Name: "allow", Action: "ALLOW"}},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOld(t *testing.T) {
	now := time.Unix(10000, 0)
	at := func(name string, age time.Duration, phase v1alpha1.TracePhase) v1alpha1.Trace {
		return v1alpha1.Trace{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(now.Add(-age))}, Status: v1alpha1.TraceStatus{Phase: phase},
		}
	}
	all := []v1alpha1.Trace{
		at("new", time.Second, v1alpha1.TraceDone), at("waits", time.Hour, v1alpha1.TracePending), at("old", time.Hour, v1alpha1.TraceDone),
		at("failed", 10*time.Minute, v1alpha1.TraceFailed), at("young", 9*time.Minute, v1alpha1.TraceDone),
		at("short", 2*time.Second, v1alpha1.TraceDone), at("long", 2*time.Hour, v1alpha1.TraceDone),
	}
	all[5].Spec.TTLSeconds, all[6].Spec.TTLSeconds = 2, 86400
	for most, want := range map[int]string{10: "old failed short", 2: "long old failed young short", 0: "long old failed young short new"} {
		var got []string
		for _, tr := range old(all, now, most) {
			got = append(got, tr.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at most %d: %v, want %s", most, got, want)
		}
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
}

func TestTracesAreAnswered(t *testing.T) {
	env := kubetest.Start(t)
	tables := &fakeTables{}
	deps, _ := kubetest.NewDeps(t)
	env.Manage(t, deps, func(m manager.Manager, d writer.Deps) error { return Add(m, d, tables) })
	ctx := t.Context()
	create := func(o client.Object) {
		t.Helper()
		if err := env.Client.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	web, db, none := pod("web"), pod("db"), pod("none")
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc", Namespace: "shop"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	headless := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "headless", Namespace: "shop"}, Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 80}}}}
	for _, o := range []client.Object{kubetest.Namespace("shop", nil), web, db, none, service, headless} {
		create(o)
	}
	ask := func(name string, from v1alpha1.TraceSource, to v1alpha1.TraceDestination, port int32) types.NamespacedName {
		t.Helper()
		create(&v1alpha1.Trace{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: v1alpha1.TraceSpec{Source: from, Destination: to, Port: port}})
		return types.NamespacedName{Namespace: "shop", Name: name}
	}
	is := func(key types.NamespacedName, want string) {
		t.Helper()
		kubetest.Eventually(t, func() string {
			tr := &v1alpha1.Trace{}
			if err := env.Client.Get(ctx, key, tr); err != nil {
				return err.Error()
			}
			s := tr.Status
			got := fmt.Sprintf("%s %s%s %s %s", s.Phase, s.Message, s.Disposition, s.Reason, s.SourceSeen)
			if s.Rule != nil {
				got += fmt.Sprintf(" rule %d", s.Rule.ID)
			}
			got = strings.Join(strings.Fields(got), " ")
			if got != want {
				return fmt.Sprintf("%s: got %q, want %q", key.Name, got, want)
			}
			return ""
		})
	}
	from := v1alpha1.TraceSource{Pod: "web"}
	first := ask("first", from, v1alpha1.TraceDestination{Address: "192.0.2.77"}, 22)
	is(first, "Pending spec.source.pod: no node has tables yet")
	tables.mu.Lock()
	tables.set = attach(testset.New(), map[table.PortID]*corev1.Pod{testset.Web1: web, testset.DB1: db})
	tables.mu.Unlock()
	is(first, "Done dropped dfw_rule rule 1006") // it waited for the tables

	is(ask("out", from, v1alpha1.TraceDestination{Address: "192.0.2.77"}, 443), "Done delivered 198.51.100.16")
	is(ask("pod", from, v1alpha1.TraceDestination{Pod: "db"}, 3306), "Done delivered 10.1.1.10")
	is(ask("from-outside", v1alpha1.TraceSource{Address: "192.0.2.77"}, v1alpha1.TraceDestination{Address: "10.1.1.10"}, 22), "Done dropped no_route")
	is(ask("service", from, v1alpha1.TraceDestination{Service: "svc"}, 0), "Done dropped urpf")
	is(ask("headless", from, v1alpha1.TraceDestination{Service: "headless"}, 80), "Failed spec.destination.service: service shop/headless has no ClusterIP (a pod or an address)")
	is(ask("none", v1alpha1.TraceSource{Pod: "none"}, v1alpha1.TraceDestination{Pod: "web"}, 80), "Pending spec.source.pod: pod shop/none has no port (a running pod of a namespace with a network)")

	// The address of a port is for its own namespace.
	foreign := "Failed spec.source.address: 10.1.1.10: is no pod's of namespace shop (a pod of the Trace's own namespace, or an address outside)"
	is(ask("foreign", v1alpha1.TraceSource{Address: "10.1.1.10"}, v1alpha1.TraceDestination{Address: "192.0.2.77"}, 443), foreign)
	shop := &corev1.Namespace{}
	if err := env.Client.Get(ctx, types.NamespacedName{Name: "shop"}, shop); err != nil {
		t.Fatal(err)
	}
	tables.mu.Lock()
	tables.set = inNamespace(tables.set, testset.Web1, shop)
	tables.mu.Unlock()
	is(ask("own", v1alpha1.TraceSource{Address: "10.1.1.10"}, v1alpha1.TraceDestination{Address: "192.0.2.77"}, 443), "Done delivered 198.51.100.16")

	later := ask("later", v1alpha1.TraceSource{Pod: "later"}, v1alpha1.TraceDestination{Address: "192.0.2.77"}, 443)
	is(later, "Pending spec.source.pod: pod shop/later does not exist")
	born := pod("later")
	create(born)
	tables.mu.Lock()
	tables.set = attach(tables.set, map[table.PortID]*corev1.Pod{testset.Web2: born})
	tables.mu.Unlock()
	is(later, "Done delivered 198.51.100.16")

	long := &v1alpha1.Trace{ObjectMeta: metav1.ObjectMeta{Name: "long", Namespace: "shop"}, Spec: v1alpha1.TraceSpec{Source: from, Destination: v1alpha1.TraceDestination{Pod: "db"}, Port: 80, TTLSeconds: 86401}}
	if err := env.Client.Create(ctx, long); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.ttlSeconds") {
		t.Errorf("a day and a second: %v", err)
	}
	long.Spec.TTLSeconds = 0
	if create(long); long.Spec.TTLSeconds != v1alpha1.DefaultTraceTTL {
		t.Errorf("ttlSeconds: are %d if they are left out", long.Spec.TTLSeconds)
	}
	bad := &v1alpha1.Trace{ObjectMeta: metav1.ObjectMeta{Name: "bad", Namespace: "shop"}, Spec: v1alpha1.TraceSpec{Source: from, Destination: v1alpha1.TraceDestination{Address: "10.0.0.300"}, Port: 80}}
	if err := env.Client.Create(ctx, bad); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.destination.address") {
		t.Errorf("a wrong address: %v", err)
	}
}
