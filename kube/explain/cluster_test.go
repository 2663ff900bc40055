package explain

import (
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	podcontroller "github.com/weft-net/weft/kube/pod"
	"github.com/weft-net/weft/kube/policy"
	"github.com/weft-net/weft/kube/service"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/tracing"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
	tables "github.com/weft-net/weft/table"
)

// compiled is the tables of the one node that a store is compiled for.
type compiled struct {
	store *store.Store

	mu      sync.Mutex
	version store.Version
	set     *tables.Set
}

// Set implements tracing.Tables.
func (c *compiled) Set(string) (*tables.Set, store.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.Read(func(t *intent.Tree, v store.Version) {
		if c.set != nil && v == c.version {
			return
		}
		sets, _ := compile.New().Update(t, nil)
		for _, one := range sets {
			c.set = one
		}
		c.version = v
	})
	return c.set, c.version
}

// world is a cluster with all controllers.
type world struct {
	*kubetest.Env
	t     *testing.T
	watch client.WithWatch
	deps  writer.Deps
}

func startWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Env: kubetest.Start(t), t: t}
	w.deps, _ = kubetest.NewDeps(t)
	kubetest.Provider(t, w.deps.Store)
	net := &compiled{store: w.deps.Store}
	w.Manage(t, w.deps, tenant.Add, podcontroller.Add, service.Add, policy.Add, func(m manager.Manager, d writer.Deps) error { return tracing.Add(m, d, net) })
	var err error
	if w.watch, err = client.NewWithWatch(w.Config, client.Options{Scheme: w.Scheme}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if err := w.Client.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

// why asks as `kubectl weft why` does. Namespaces are always written.
func (w *world) why(from, to, proto string) (*Answer, v1alpha1.TraceStatus) {
	w.t.Helper()
	a, b := ends(w.t, w.watch, from, to)
	q := Question{From: a, To: b, Protocol: b.DefaultProtocol()}
	if proto != "" {
		var err error
		if q.Protocol, err = ParseProtocol(proto); err != nil {
			w.t.Fatal(err)
		}
	}
	status, err := Ask(w.t.Context(), w.watch, q.Trace("default"), time.Minute, func(string) {})
	if err != nil {
		w.t.Fatal(err)
	}
	return Explain(q, status, func(policy string) Origin {
		o, err := FindOrigin(w.t.Context(), w.Client, policy, q.Namespaces()...)
		if err != nil {
			w.t.Error(err)
		}
		return o
	}), status
}

// serve makes a pod the endpoint of a Service, as kube-controller-manager would.
func (w *world) serve(svc *corev1.Service, pod *corev1.Pod, port discoveryv1.EndpointPort) {
	w.t.Helper()
	var address string
	kubetest.Eventually(w.t, func() string {
		for _, o := range w.deps.Store.Owned(writer.Owner(writer.Pod, pod)) {
			address = o.(*intent.SegmentPort).AddressBindings[0].IPAddress
			return ""
		}
		return pod.Name + " has no port"
	})
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}}, Ports: []discoveryv1.EndpointPort{port},
	}
	w.create(slice)
}

// eventually asks until ok says yes of the answer.
func (w *world) eventually(from, to, proto string, ok func(*Answer) bool) (a *Answer, s v1alpha1.TraceStatus) {
	w.t.Helper()
	kubetest.Eventually(w.t, func() string {
		if a, s = w.why(from, to, proto); !ok(a) {
			return a.Text()
		}
		return ""
	})
	return a, s
}

func (a *Answer) last() Rule { return a.Rules[len(a.Rules)-1] }

// TestTheShopOpens asks why, does what the answer says, and asks again.
func TestTheShopOpens(t *testing.T) {
	w := startWorld(t)
	web := kubetest.Pod("shop", "web", map[string]string{"app": "web"})
	web.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	svc := &corev1.Service{ObjectMeta: metaOf("web"), Spec: corev1.ServiceSpec{Selector: web.Labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}
	w.create(
		kubetest.Supervisor(), kubetest.Namespace("shop", nil), kubetest.Namespace("edge", nil), web, svc,
		kubetest.Pod("edge", "envoy", map[string]string{"app": "envoy", "pod-template-hash": "1"}), kubetest.Pod("edge", "stranger", map[string]string{"app": "other"}),
	)
	port := int32(8080)
	w.serve(svc, web, discoveryv1.EndpointPort{Port: &port})

	closed, status := w.why("edge/pod/envoy", "shop/pod/web", "")
	if closed.Delivered || !strings.Contains(status.Text, "\ndropped at port shop/web, dfw_in: dfw_rule, rule ") || !strings.Contains(status.Text, " deny-all-ingress\n") {
		t.Fatalf("%+v\n%s", closed, status.Text)
	}
	if r := closed.last(); r.ID < 1000 || r.Name != "deny-all-ingress" || r.Category != "Application" || r.Origin.String() != "isolation of Namespace shop" {
		t.Errorf("dropped by %+v", r)
	}
	if r := closed.Rules[0]; !r.allows() || !r.Origin.Default || r.Stage != "dfw_out" {
		t.Errorf("allowed first by %+v", r)
	}
	closed, _ = w.eventually("edge/pod/envoy", "shop/svc/web", "", func(a *Answer) bool { return a.Suggestion != nil })
	np := &netv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(closed.Suggestion.YAML()), np); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(closed.NetworkPolicy, np); d != "" {
		t.Errorf("the YAML is another policy:\n%s", d)
	}
	w.create(np)
	open, _ := w.eventually("edge/pod/envoy", "shop/svc/web", "", func(a *Answer) bool { return a.Delivered })
	if r := open.last(); r.Origin != (Origin{Kind: "NetworkPolicy", Namespace: "shop", Name: np.Name, UID: string(np.UID)}) || r.Name != "TCP.http.8080-ingress-allow" {
		t.Errorf("allowed by %+v", r)
	}
	// The policy is an AND, and about one port.
	for _, tc := range [][3]string{{"edge/pod/stranger", "shop/pod/web", "tcp/8080"}, {"edge/pod/envoy", "shop/pod/web", "tcp/22"}} {
		a, _ := w.why(tc[0], tc[1], tc[2])
		if a.Delivered || a.last().Origin.Name != np.Name || !strings.Contains(a.ToDo, "allow it in NetworkPolicy shop/"+np.Name) {
			t.Errorf("%s:\n%s", tc, a.Text())
		}
	}
	w.behind(Ref{Kind: Pod, Namespace: "shop", Name: "web"}, Ref{Kind: Namespace, Name: "shop"}, Ref{Kind: Service, Namespace: "shop", Name: "web"},
		Ref{Kind: NetworkPolicy, Namespace: "shop", Name: np.Name})
	var left v1alpha1.TraceList
	if err := w.Client.List(t.Context(), &left); err != nil || len(left.Items) > 0 {
		t.Errorf("%d Traces are left (%v)", len(left.Items), err)
	}
}

// behind demands that something stands behind objects by their owner tags.
func (w *world) behind(refs ...Ref) {
	w.t.Helper()
	var all standingIntent
	w.deps.Store.Read(func(tree *intent.Tree, _ store.Version) { all = tree.All() })
	for _, ref := range refs {
		o, err := Object(w.t.Context(), w.Client, ref)
		if err != nil {
			w.t.Fatal(err)
		}
		if b, err := FindBehind(w.t.Context(), all, ref, o); err != nil || len(b.Own) == 0 {
			w.t.Errorf("%s: nothing stands behind it (%v)", ref, err)
		}
	}
}

// TestAskGivesUp says why there is no answer.
func TestAskGivesUp(t *testing.T) {
	c := cluster(t)
	trace := func() *v1alpha1.Trace {
		return &v1alpha1.Trace{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "t"}}
	}
	_, err := Ask(t.Context(), c, trace(), 50*time.Millisecond, func(string) {})
	if err == nil || err.Error() != "trace: nobody answered it within 50ms (weftd does, with --kubeconfig of this cluster)" {
		t.Errorf("nobody: %v", err)
	}
	var left v1alpha1.TraceList
	if err := c.List(t.Context(), &left); err != nil || len(left.Items) > 0 {
		t.Errorf("%d Traces are left (%v)", len(left.Items), err)
	}
	for _, tc := range []struct {
		phase v1alpha1.TracePhase
		want  string
	}{
		{v1alpha1.TracePending, "trace: after 2s: no node has tables yet"},
		{v1alpha1.TraceFailed, "trace: no node has tables yet"},
	} {
		ctx := t.Context()
		var wg sync.WaitGroup
		noted := make(chan string, 10)
		wg.Go(func() { // the controller
			for {
				got := &v1alpha1.Trace{}
				if c.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "t"}, got) == nil {
					got.Status = v1alpha1.TraceStatus{Phase: tc.phase, Message: "no node has tables yet"}
					if c.Status().Update(ctx, got) == nil {
						return
					}
				}
				time.Sleep(time.Millisecond)
			}
		})
		_, err := Ask(ctx, c, trace(), 2*time.Second, func(s string) { noted <- s })
		wg.Wait()
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: %v, want %s", tc.phase, err, tc.want)
		}
		if got := <-noted; got != "no node has tables yet" {
			t.Errorf("%s: noted %q", tc.phase, got)
		}
	}
}
