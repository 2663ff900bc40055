package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// world is an API server with a Supervisor, and a store that has what the
// tenant's controller makes.
type world struct {
	*testing.T
	*kubetest.Env
	deps writer.Deps
	real *kubetest.Realization
	stop func()
}

// start returns a world in which the controller runs.
func start(t *testing.T, e *kubetest.Env) *world {
	w := &world{T: t, Env: e}
	w.deps, w.real = kubetest.NewDeps(t)
	w.deps.Holds = writer.NewHolds(time.Hour, nil)
	w.stop = e.Manage(t, w.deps, Add)
	return w
}

// network makes what a namespace has by its tenant's controller, and the pools.
func (w *world) network(ns string) {
	w.Helper()
	var o corev1.Namespace
	w.check(w.Client.Get(w.Context(), types.NamespacedName{Name: ns}, &o))
	text := strings.NewReplacer("c8", "domain-c8", "u1", string(o.UID)).Replace(surroundings)
	changes, problems := intent.Parse("surroundings", []byte(text))
	if intent.HasErrors(problems) {
		w.Fatal(problems)
	}
	w.update(changes...)
}

func (w *world) update(changes ...intent.Change) {
	w.Helper()
	_, problems, err := w.deps.Store.Update(w.Context(), func(*intent.Tree) ([]intent.Change, error) { return changes, nil })
	w.check(err)
	if intent.HasErrors(problems) {
		w.Fatal(problems)
	}
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// service makes a Service.
func (w *world) service(ns, name, spec string, annotations ...string) *corev1.Service {
	w.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Annotations: map[string]string{}}, Spec: *object[corev1.ServiceSpec](w.T, spec)}
	for _, a := range annotations {
		k, v, _ := strings.Cut(a, "=")
		s.Annotations[k] = v
	}
	w.check(w.Client.Create(w.Context(), s))
	return s
}

// change changes a Service.
func (w *world) change(s *corev1.Service, fn func(*corev1.Service)) {
	w.Helper()
	for {
		w.check(w.Client.Get(w.Context(), client.ObjectKeyFromObject(s), s))
		fn(s)
		err := w.Client.Update(w.Context(), s)
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "has been modified") {
			w.Fatal(err)
		}
	}
}

// slice makes an EndpointSlice of a Service.
func (w *world) slice(s *corev1.Service, name, ports string, endpoints ...string) *discoveryv1.EndpointSlice {
	w.Helper()
	o := slice(ports, endpoints...)
	o.Namespace, o.Name, o.Labels = s.Namespace, name, map[string]string{discoveryv1.LabelServiceName: s.Name}
	w.check(w.Client.Create(w.Context(), &o))
	return &o
}

// line returns what people see of a Service: its condition, address and error,
// and its virtual servers.
func (w *world) line(s *corev1.Service) string {
	w.Helper()
	var now corev1.Service
	w.check(w.Client.Get(w.Context(), client.ObjectKeyFromObject(s), &now))
	var out []string
	if c := apimeta.FindStatusCondition(now.Status.Conditions, Condition); c != nil {
		out = append(out, string(c.Status)+" "+c.Reason)
	}
	for _, i := range now.Status.LoadBalancer.Ingress {
		out = append(out, "ip "+i.IP)
	}
	if e := now.Annotations["ncp/error.loadbalancer"]; e != "" {
		out = append(out, "error "+e)
	}
	return strings.Join(append(out, w.servers(s.UID)...), ", ")
}

// servers returns the virtual servers of a Service.
func (w *world) servers(uid types.UID) []string {
	var out []string
	w.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
		for _, o := range t.OfType("LBVirtualServer") {
			v := o.(*intent.LBVirtualServer)
			if !strings.HasSuffix(string(store.OwnerOf(v)), "/"+string(uid)) {
				continue
			}
			pool, _ := intent.Find[*intent.LBPool](t, v.PoolPath)
			where := "dlb"
			if !strings.Contains(v.LBServicePath, "dlb") {
				where = v.IPAddress
			}
			line := where + ":" + v.Ports[0] + " →"
			for _, m := range pool.Members {
				line += " " + m.IPAddress
				if m.AdminState != "" {
					line += "(draining)"
				}
			}
			out = append(out, line)
		}
	})
	slices.Sort(out)
	return out
}

// want waits for a line.
func (w *world) want(s *corev1.Service, want string) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		if got := w.line(s); got != want {
			return fmt.Sprintf("Service %s/%s: got %q, want %q: %s", s.Namespace, s.Name, got, want, w.message(s))
		}
		return ""
	})
}

// message returns the message of a Service's condition.
func (w *world) message(s *corev1.Service) string {
	w.Helper()
	w.check(w.Client.Get(w.Context(), client.ObjectKeyFromObject(s), s))
	return cmp.Or(apimeta.FindStatusCondition(s.Status.Conditions, Condition), &metav1.Condition{}).Message
}

// says waits for a part of that message.
func (w *world) says(s *corev1.Service, part string) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		if got := w.message(s); !strings.Contains(got, part) {
			return fmt.Sprintf("Service %s/%s: message %q, want %q in it", s.Namespace, s.Name, got, part)
		}
		return ""
	})
}

// compiles checks that the tree is one that nobody warns of, and that what is
// left of Services is as many virtual servers.
func (w *world) compiles(servers int) {
	w.Helper()
	w.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
		if _, problems := compile.New().Update(t, nil); len(problems) > 0 {
			w.Error(problems)
		}
		var got []string
		for _, kind := range []string{"LBVirtualServer", "LBPool"} {
			for _, o := range t.OfType(kind) {
				got = append(got, o.Meta().Path)
			}
		}
		if len(got) != 2*servers {
			w.Errorf("virtual servers and pools: got %d, want %d:\n%s", len(got), 2*servers, strings.Join(got, "\n"))
		}
	})
}

func TestReconcile(t *testing.T) {
	e := kubetest.Start(t)
	if err := e.Client.Create(t.Context(), kubetest.Namespace("red", nil)); err != nil {
		t.Fatal(err)
	}
	w := start(t, e)

	// A Service that comes before its network is told so, and is not stuck.
	web := w.service("red", "web", "{type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}")
	w.want(web, "False NoNetwork")
	w.check(e.Client.Create(t.Context(), supervisor()))
	w.network("red")
	w.want(web, "True Realized, ip 10.203.182.129, 10.203.182.129:80 →, dlb:80 →")

	// Endpoints come and go.
	s := w.slice(web, "web-1", "[{port: 8080}]", "10.244.0.2", "10.244.0.3 serving terminating")
	w.want(web, "True Realized, ip 10.203.182.129, 10.203.182.129:80 → 10.244.0.2 10.244.0.3(draining), dlb:80 → 10.244.0.2 10.244.0.3(draining)")
	s.Endpoints = s.Endpoints[1:]
	w.check(e.Client.Update(t.Context(), s))
	w.want(web, "True Realized, ip 10.203.182.129, 10.203.182.129:80 → 10.244.0.3, dlb:80 → 10.244.0.3")

	// The port changes, the address does not.
	w.change(web, func(s *corev1.Service) { s.Spec.Ports[0].Port = 8000 })
	w.want(web, "True Realized, ip 10.203.182.129, 10.203.182.129:8000 → 10.244.0.3, dlb:8000 → 10.244.0.3")

	// One address is one Service's. Who wants another's is told whose it is, and
	// gets it as soon as it is free.
	second := w.service("red", "second", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.182.129}")
	w.want(second, "False IP_ALREADY_ALLOCATED, error IP_ALREADY_ALLOCATED, dlb:80 →")
	w.says(second, "already used by Service red/web")
	w.change(web, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.want(web, "True Realized, dlb:8000 → 10.244.0.3")
	w.want(second, "True Realized, ip 10.203.182.129, 10.203.182.129:80 →, dlb:80 →")

	// Errors of pools are mended by whoever mends the pool.
	third := w.service("red", "third", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: silver}")
	w.want(third, "False IP_POOL_NOT_FOUND, error IP_POOL_NOT_FOUND, dlb:80 →")
	pool := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPool"}}
	w.update(intent.Put("/infra/ip-pools/silver", pool))
	w.want(third, "False POOL_ACCESS_DENIED, error POOL_ACCESS_DENIED, dlb:80 →")
	pool = intent.Clone(pool).(*intent.Opaque)
	pool.Tags = []intent.Tag{{Scope: "ncp/owner", Tag: "cluster:domain-c8"}}
	w.update(intent.Put("/infra/ip-pools/silver", pool))
	w.want(third, "False IP_POOL_EXHAUSTED, error IP_POOL_EXHAUSTED, dlb:80 →")
	subnet := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPoolStaticSubnet"}}
	subnet.Extra = intent.Extra{"allocation_ranges": []any{map[string]any{"start": "203.0.113.100", "end": "203.0.113.100"}}}
	w.update(intent.Put("/infra/ip-pools/silver/ip-address-pool-static-subnets/a", subnet))
	w.want(third, "True Realized, ip 203.0.113.100, 203.0.113.100:80 →, dlb:80 →")

	// A mistake closes the load balancer and nothing else.
	w.change(third, func(s *corev1.Service) { s.Annotations = map[string]string{AnnotationSources: "10.0.0.0/33"} })
	w.want(third, "False InvalidSourceRange, dlb:80 →")
	w.change(third, func(s *corev1.Service) { s.Annotations = nil; s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8"} })
	w.want(third, "True Realized, ip 203.0.113.100, 203.0.113.100:80 →, dlb:80 →")

	w.Run("Realized", w.realized)
	w.Run("Recreated", w.recreated)

	// What is deleted leaves nothing.
	w.compiles(6) // of which one is of default/kubernetes
	for _, s := range []*corev1.Service{web, second, third} {
		w.check(e.Client.Delete(t.Context(), s))
	}
	kubetest.Eventually(t, func() string {
		if left := w.deps.Store.Owners("Service/red/"); len(left) > 0 {
			return fmt.Sprintf("owners: got %v", left)
		}
		return ""
	})
	w.compiles(1)
	w.stop()
	t.Run("Tenants", func(t *testing.T) { tenants(t, e) })
}

// Addresses are of the network that the namespace has by its tenant's controller.
func tenants(t *testing.T, e *kubetest.Env) {
	w := &world{T: t, Env: e}
	w.deps, w.real = kubetest.NewDeps(t)
	kubetest.Provider(t, w.deps.Store)
	e.Manage(t, w.deps, tenant.Add, Add)
	w.check(e.Client.Create(t.Context(), kubetest.Namespace("blue", nil)))
	w.check(e.Client.Create(t.Context(), &v1alpha1.NamespaceNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "blue"},
		Spec: v1alpha1.NamespaceNetworkSpec{
			NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.250.0.0/20"}, IngressCIDRs: []v1alpha1.CIDR{"198.51.100.0/24"}, EgressCIDRs: []v1alpha1.CIDR{"198.51.101.0/24"},
		},
	}))
	const spec = "{type: LoadBalancer, ports: [{port: 80}]}"
	for _, tc := range []struct{ namespace, addr string }{{"blue", "198.51.100.1"}, {"red", "10.203.182.129"}, {"kube-system", "10.203.182.130"}} {
		s := w.service(tc.namespace, "plain", spec)
		w.want(s, "True Realized, ip "+tc.addr+", "+tc.addr+":80 →, dlb:80 →")
	}

	// A pool's address is not the Supervisor's matter.
	pool := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPool", Tags: []intent.Tag{{Scope: "ncp/owner", Tag: "cluster:domain-c8"}}}}
	ranges := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPoolStaticSubnet"}}
	ranges.Extra = intent.Extra{"allocation_ranges": []any{map[string]any{"start": "203.0.113.100", "end": "203.0.113.109"}}}
	w.update(intent.Put("/infra/ip-pools/gold", pool), intent.Put("/infra/ip-pools/gold/ip-address-pool-static-subnets/a", ranges))
	gold := w.service("red", "gold", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}")
	w.want(gold, "True Realized, ip 203.0.113.100, 203.0.113.100:80 →, dlb:80 →")
	supervisorSays := func(want string) {
		t.Helper()
		kubetest.Eventually(t, func() string {
			var sup v1alpha1.Supervisor
			w.check(e.Client.Get(t.Context(), types.NamespacedName{Name: v1alpha1.DefaultSupervisor}, &sup))
			c := cmp.Or(apimeta.FindStatusCondition(sup.Status.Conditions, "Ready"), &metav1.Condition{})
			if got := strings.TrimSpace(c.Reason + " " + c.Message); got != want {
				return fmt.Sprintf("Supervisor: got %q, want %q", got, want)
			}
			return ""
		})
	}

	// The range of the namespace's addresses is another now: who has one keeps it,
	// until the Service asks for another.
	var nn v1alpha1.NamespaceNetwork
	w.check(e.Client.Get(t.Context(), types.NamespacedName{Name: "blue"}, &nn))
	before := nn.DeepCopy()
	nn.Spec.IngressCIDRs = []v1alpha1.CIDR{"198.51.102.0/24"}
	w.check(e.Client.Patch(t.Context(), &nn, client.MergeFrom(before)))
	var s corev1.Service
	w.check(e.Client.Get(t.Context(), types.NamespacedName{Namespace: "blue", Name: "plain"}, &s))
	w.says(&s, "198.51.100.1 stays in use, though it is not of the ingress CIDRs of namespace blue (198.51.102.0/24) any more")
	supervisorSays("InUse ingressCIDRs: does not contain 198.51.100.1 of Service blue/plain (still in use)")
	w.want(&s, "True Realized, ip 198.51.100.1, 198.51.100.1:80 →, dlb:80 →")
	next := w.service("blue", "next", spec)
	w.want(next, "True Realized, ip 198.51.102.1, 198.51.102.1:80 →, dlb:80 →")
	w.change(&s, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "198.51.102.7" })
	w.want(&s, "True Realized, ip 198.51.102.7, 198.51.102.7:80 →, dlb:80 →")
	supervisorSays("Realized")

	// So it is with a pool, which the Service itself tells of.
	ranges = intent.Clone(ranges).(*intent.Opaque)
	ranges.Extra = intent.Extra{"allocation_ranges": []any{map[string]any{"start": "203.0.113.105", "end": "203.0.113.109"}}}
	w.update(intent.Put("/infra/ip-pools/gold/ip-address-pool-static-subnets/a", ranges))
	w.change(gold, func(s *corev1.Service) { s.Annotations = map[string]string{"touched": "true"} })
	w.says(gold, "203.0.113.100 stays in use, though it is not of IpAddressPool /infra/ip-pools/gold any more")
	w.want(gold, "True Realized, ip 203.0.113.100, 203.0.113.100:80 →, dlb:80 →")
	w.compiles(11)
}

// The status has an address only when it is in force.
func (w *world) realized(t *testing.T) {
	w.real.Set(writer.Pending, "host1 has not answered")
	s := w.service("red", "slow", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.183.7}")
	w.want(s, "False Pending, 10.203.183.7:80 →, dlb:80 →")
	w.says(s, "host1 has not answered")
	w.real.Set(writer.Refused, "host1: no room")
	w.want(s, "False Refused, 10.203.183.7:80 →, dlb:80 →")
	w.real.Set(writer.Realized, "")
	w.want(s, "True Realized, ip 10.203.183.7, 10.203.183.7:80 →, dlb:80 →")
	w.change(s, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	w.want(s, "True Realized, dlb:80 →")
	w.says(s, "node ports are not opened")
	w.check(w.Client.Delete(t.Context(), s))
	kubetest.Eventually(t, func() string { return strings.Join(w.servers(s.UID), ", ") })
}

// A Service of the name of one that is gone has nothing of it, and gets the
// address that it asks for though it was released just now.
func (w *world) recreated(t *testing.T) {
	const spec = "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.183.7}"
	s := w.service("red", "again", spec)
	w.want(s, "True Realized, ip 10.203.183.7, 10.203.183.7:80 →, dlb:80 →")
	w.check(w.Client.Delete(t.Context(), s))
	later := w.service("red", "again", spec)
	w.want(later, "True Realized, ip 10.203.183.7, 10.203.183.7:80 →, dlb:80 →")
	if diff := gocmp.Diff([]string(nil), w.servers(s.UID)); diff != "" {
		t.Errorf("of the one that is gone (-want +got):\n%s", diff)
	}
	w.check(w.Client.Delete(t.Context(), later))
	kubetest.Eventually(t, func() string { return strings.Join(w.servers(later.UID), ", ") })
}

// supervisor has the ingress CIDRs of place, and the cluster IPs of the API
// server of kubetest.
func supervisor() client.Object {
	s := kubetest.Supervisor()
	s.Spec.ServiceCIDR = "10.0.0.0/24"
	s.Spec.IngressCIDRs = []v1alpha1.CIDR{"10.203.182.128/30", "10.203.183.7/32"}
	return s
}
