package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// cluster is a real API server with the controllers of this package.
type cluster struct {
	*kubetest.Env
	t     *testing.T
	store *store.Store
}

func (c *cluster) create(objects ...client.Object) {
	c.t.Helper()
	for _, o := range objects {
		if err := c.Client.Create(c.t.Context(), o); err != nil {
			c.t.Fatal(err)
		}
	}
}

// change changes an object until nobody changes it at the same time.
func change[T client.Object](c *cluster, o T, fn func(T)) {
	c.t.Helper()
	kubetest.Eventually(c.t, func() string {
		if err := c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err.Error()
		}
		fn(o)
		if err := c.Client.Update(c.t.Context(), o); err != nil {
			return err.Error()
		}
		return ""
	})
}

// namespace returns condition and annotations of a namespace.
func (c *cluster) namespace(name string) string {
	var ns corev1.Namespace
	if err := c.Client.Get(c.t.Context(), types.NamespacedName{Name: name}, &ns); err != nil {
		return err.Error()
	}
	var lines []string
	for _, cond := range ns.Status.Conditions {
		if cond.Type == NetworkReady {
			lines = append(lines, strings.TrimSpace(string(cond.Status)+" "+cond.Reason+" "+cond.Message))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(ns.Annotations)) {
		lines = append(lines, key+": "+strings.ReplaceAll(ns.Annotations[key], string(ns.UID), "<uid>"))
	}
	return strings.Join(lines, "\n")
}

func (c *cluster) supervisor() (v1alpha1.Supervisor, string) {
	var sup v1alpha1.Supervisor
	if err := c.Client.Get(c.t.Context(), types.NamespacedName{Name: "default"}, &sup); err != nil {
		return sup, err.Error()
	}
	cond := apimeta.FindStatusCondition(sup.Status.Conditions, "Ready")
	if cond == nil {
		return sup, "no condition"
	}
	return sup, strings.TrimSpace(fmt.Sprintf("%s %s %d %s", cond.Status, cond.Reason, cond.ObservedGeneration, cond.Message))
}

// eventually waits until got returns want.
func (c *cluster) eventually(want string, got func() string) {
	c.t.Helper()
	kubetest.Eventually(c.t, func() string {
		if g := got(); g != want {
			return fmt.Sprintf("got:\n%s\nwant:\n%s", g, want)
		}
		return ""
	})
}

// owned returns how many objects owners of a prefix have.
func (c *cluster) owned(prefix string) string {
	n := 0
	for _, o := range c.store.Owners(prefix) {
		n += len(c.store.Owned(o))
	}
	return fmt.Sprint(n)
}

func TestCluster(t *testing.T) {
	env := kubetest.Start(t)
	t.Run("life of a namespace", func(t *testing.T) { lifeOfANamespace(t, env) })
	t.Run("exhausted", func(t *testing.T) { exhausted(t, env) })
	t.Run("refused", func(t *testing.T) { refused(t, env) })
	t.Run("contested", func(t *testing.T) { contested(t, env) })
	t.Run("admission", func(t *testing.T) { admission(t, env) })
	t.Run("another cluster", func(t *testing.T) { anotherCluster(t, env) })
}

// A store of another cluster stays as it is, with a Supervisor and without.
func anotherCluster(t *testing.T, env *kubetest.Env) {
	deps, _ := kubetest.NewDeps(t)
	c := &cluster{Env: env, t: t, store: deps.Store}
	kubetest.Provider(t, deps.Store)
	uid, err := ClusterUID(t.Context(), env.Client)
	if err != nil {
		t.Fatal(err)
	}
	owner := writer.SupervisorOwner(v1alpha1.DefaultSupervisor)
	_, _, err = deps.Store.Replace(t.Context(), owner, put("/infra/domains/theirs", &intent.Domain{Resource: intent.Resource{Tags: []intent.Tag{{Scope: ncp.TagKubernetes, Tag: "their-uid"}}}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := Guard(t.Context(), env.Client, deps); err == nil || !strings.Contains(err.Error(), "their-uid") {
		t.Errorf("guard without a Supervisor: %v", err)
	}
	r := &supervisors{client: env.Client, live: env.Client, deps: deps, w: writer.New(deps, nil)}
	req := theSupervisor()[0]
	reconciled := func(want string) {
		t.Helper()
		if _, err := r.Reconcile(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if got := c.owned(string(owner)); got != want {
			t.Errorf("the Supervisor owns %s objects, want %s", got, want)
		}
	}
	reconciled("1")
	sup := kubetest.Supervisor()
	c.create(sup)
	defer env.Client.Delete(t.Context(), sup)
	told := func(want string) {
		t.Helper()
		if _, got := c.supervisor(); !strings.HasPrefix(got, want) {
			t.Errorf("condition: %s, want %s", got, want)
		}
	}
	if err := Guard(t.Context(), env.Client, deps); err == nil || !strings.Contains(err.Error(), uid) {
		t.Errorf("guard: %v", err)
	}
	told("False AnotherCluster 1 cluster " + uid + ": the stored objects are of cluster their-uid")
	reconciled("1")
	told("False AnotherCluster")

	// Emptied, the store is this cluster's.
	if _, _, err := deps.Store.Replace(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reconcile(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got := clusterOf(deps.Store); got != uid {
		t.Errorf("the store is of cluster %q, want %q", got, uid)
	}
	if err := Guard(t.Context(), env.Client, deps); err != nil {
		t.Error(err)
	}
}

func lifeOfANamespace(t *testing.T, env *kubetest.Env) {
	deps, _ := kubetest.NewDeps(t)
	c := &cluster{Env: env, t: t, store: deps.Store}
	stop := env.Manage(t, deps, Add)

	// Nothing is there, then one thing after the other.
	c.create(kubetest.Namespace("red", nil))
	c.eventually("False NoSupervisor there is no Supervisor default", func() string { return c.namespace("red") })
	sup := kubetest.Supervisor()
	sup.Spec.ControlPlane = &v1alpha1.ControlPlane{MACAddress: "04:50:56:00:00:01", Attachment: "control-plane"}
	sup.Spec.AddressHoldTime = &metav1.Duration{} // else another address is next
	c.create(sup)
	c.eventually("False NotFound 1 tier0Path: /infra/tier-0s/provider: does not exist (weft apply makes a Tier-0)", func() string {
		_, s := c.supervisor()
		return s
	})
	kubetest.Provider(t, deps.Store)
	c.eventually("True Realized 1", func() string {
		_, s := c.supervisor()
		return s
	})
	want := `True Realized
ncp/extpoolid: domain-c8:` + string(uidOf(c)) + `-ippool-172-16-2-1-172-16-2-254
ncp/router_id: t1_<uid>_rtr
ncp/snat_ip: 172.16.2.2
ncp/subnet-0: 10.244.0.16/28`
	c.eventually(want, func() string { return c.namespace("red") })
	c.eventually(`True Realized
ncp/extpoolid: domain-c8:`+string(uidOf(c))+`-ippool-172-16-2-1-172-16-2-254
ncp/router_id: t1_domain-c8_system_rtr
ncp/snat_ip: 172.16.2.1
vmware-system-shared-t1: true`, func() string { return c.namespace("kube-system") })
	c.eventually("10.244.0.2 2/256 2/254 0/254", func() string {
		sup, _ := c.supervisor()
		u := sup.Status.Usage
		return fmt.Sprint(sup.Status.ControlPlaneAddress, " ", u.Subnets.Text, " ", u.Egress.Text, " ", u.Ingress.Text)
	})

	for _, name := range []string{"default", "kube-public", "kube-node-lease"} {
		c.eventually("True Realized", func() string {
			first, _, _ := strings.Cut(c.namespace(name), "\n")
			return first
		})
	}

	// A restart changes nothing.
	stop()
	_, before := contents(deps.Store)
	stop = env.Manage(t, deps, Add)
	change(c, &corev1.Namespace{ObjectMeta: kubetest.Namespace("red", nil).ObjectMeta}, func(ns *corev1.Namespace) { ns.Labels["team"] = "x" })
	c.eventually("x", func() string {
		var out string
		deps.Store.Read(func(tree *intent.Tree, _ store.Version) {
			for _, o := range tree.OfType("Segment") {
				for _, tag := range o.Meta().Tags {
					if tag.Scope == "team" {
						out = tag.Tag
					}
				}
			}
		})
		return out
	})
	_, after := contents(deps.Store)
	same(t, before, after)

	// Pods make segments, and a NamespaceNetwork another network.
	for i := range 14 {
		c.create(kubetest.Pod("red", fmt.Sprintf("p%d", i), nil))
	}
	c.eventually(want+"\nncp/subnet-1: 10.244.0.32/28", func() string { return c.namespace("red") })
	if err := env.Client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace("red"), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	c.eventually(want, func() string { return c.namespace("red") })
	nn := &v1alpha1.NamespaceNetwork{ObjectMeta: kubetest.Namespace("red", nil).ObjectMeta}
	nn.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.96.0.0/22"}
	c.create(nn)
	c.eventually("False Conflict NamespaceNetwork/red: namespaceNetworkCIDRs[0]: 10.96.0.0/22: overlaps 10.96.0.0/23 of Supervisor/default, serviceCIDR", func() string {
		return first(c.namespace("red"))
	})
	change(c, nn, func(nn *v1alpha1.NamespaceNetwork) { nn.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.100.0.0/22"} })
	c.eventually("True Realized, true, 10.100.0.0/28", func() string {
		var have v1alpha1.NamespaceNetwork
		if err := env.Client.Get(t.Context(), client.ObjectKeyFromObject(nn), &have); err != nil {
			return err.Error()
		}
		ready := apimeta.IsStatusConditionTrue(have.Status.Conditions, "Ready")
		return fmt.Sprint(first(c.namespace("red")), ", ", ready, ", ", last(c.namespace("red")))
	})
	if err := env.Client.Delete(t.Context(), nn); err != nil {
		t.Fatal(err)
	}
	c.eventually(want, func() string { return c.namespace("red") })

	// It goes, also while nobody looks, and comes again.
	env.DeleteNamespace(t, "red")
	c.eventually("0", func() string { return c.owned("Namespace/red/") })
	c.create(kubetest.Namespace("red", nil))
	c.eventually(want, func() string { return c.namespace("red") })
	stop()
	env.DeleteNamespace(t, "red")
	c.create(kubetest.Namespace("red", nil))
	stop = env.Manage(t, deps, Add)
	c.eventually(want, func() string { return c.namespace("red") })
	c.eventually("1", func() string { return fmt.Sprint(len(deps.Store.Owners("Namespace/red/"))) })

	// Without a Supervisor nothing is left.
	env.DeleteNamespace(t, "red")
	sup, _ = ptr(c.supervisor())
	if err := env.Client.Delete(t.Context(), sup); err != nil {
		t.Fatal(err)
	}
	c.eventually("0 0", func() string { return c.owned("Namespace/") + " " + c.owned("Supervisor/") })
	stop()
}

func ptr(s v1alpha1.Supervisor, text string) (*v1alpha1.Supervisor, string) { return &s, text }

func uidOf(c *cluster) types.UID {
	sup, _ := c.supervisor()
	return sup.UID
}

func first(s string) string { before, _, _ := strings.Cut(s, "\n"); return before }

func last(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }

func contents(s *store.Store) (n int, paths []string) {
	s.Read(func(t *intent.Tree, _ store.Version) {
		for _, o := range t.All() {
			paths = append(paths, o.Meta().Path)
		}
		n = t.Len()
	})
	return n, paths
}

// clear ends a case: no Supervisor, no namespaces of its own.
func (c *cluster) clear(names ...string) {
	c.t.Helper()
	for _, name := range names {
		c.DeleteNamespace(c.t, name)
	}
	if err := c.Client.DeleteAllOf(c.t.Context(), &v1alpha1.Supervisor{}); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("0", func() string { return c.owned("Namespace/") })
	c.eventually("0", func() string { return c.owned("Supervisor/") })
}

func exhausted(t *testing.T, env *kubetest.Env) {
	deps, _ := kubetest.NewDeps(t)
	kubetest.Provider(t, deps.Store)
	c := &cluster{Env: env, t: t, store: deps.Store}
	sup := kubetest.Supervisor()
	sup.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.244.0.0/23"}
	sup.Spec.NamespaceSubnetPrefix = 24
	c.create(sup, kubetest.Namespace("e1", nil))
	env.Manage(t, deps, Add)
	c.eventually("True Realized", func() string { return first(c.namespace("e1")) })
	c.create(kubetest.Namespace("e2", nil))
	const message = "namespaceNetworkCIDRs: 10.244.0.0/23: has no free /24 (extend it, or delete namespaces)"
	c.eventually("False SubnetsExhausted "+message+"\nncp/error.network: "+message, func() string { return c.namespace("e2") })
	kubetest.Eventually(t, func() string {
		var events corev1.EventList
		if err := env.Client.List(t.Context(), &events); err != nil {
			return err.Error()
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == "e2" && e.Reason == "SubnetsExhausted" && e.Message == message && e.Type == "Warning" {
				return ""
			}
		}
		return fmt.Sprintf("no Event among %d", len(events.Items))
	})
	// What is freed is given to the one who waits.
	env.DeleteNamespace(t, "e1")
	c.eventually("True Realized", func() string { return first(c.namespace("e2")) })
	c.create(kubetest.Namespace("e3", nil))
	c.eventually("False SubnetsExhausted "+message, func() string { return first(c.namespace("e3")) })
	change(c, sup, func(s *v1alpha1.Supervisor) {
		s.Spec.NamespaceNetworkCIDRs = append(s.Spec.NamespaceNetworkCIDRs, "10.250.0.0/22")
	})
	c.eventually("True Realized", func() string { return first(c.namespace("e3")) })
	c.eventually("10.250.0.0/24", func() string { return last(c.namespace("e3")) })
	c.clear("e2", "e3")
}

func refused(t *testing.T, env *kubetest.Env) {
	deps, realization := kubetest.NewDeps(t)
	kubetest.Provider(t, deps.Store)
	c := &cluster{Env: env, t: t, store: deps.Store}
	realization.Set(writer.Pending, "")
	c.create(kubetest.Supervisor(), kubetest.Namespace("r1", map[string]string{"a": ""}))
	env.Manage(t, deps, Add)
	c.eventually("False Pending not all nodes have acknowledged it yet", func() string { return first(c.namespace("r1")) })
	realization.Set(writer.Refused, "node edge-1: too many rules")
	c.eventually("False Refused node edge-1: too many rules", func() string { return first(c.namespace("r1")) })
	realization.Set(writer.Realized, "")
	c.eventually("True Realized", func() string { return first(c.namespace("r1")) })
	c.eventually("True Realized 1", func() string {
		_, s := c.supervisor()
		return s
	})
	c.clear("r1")
}

// contested has two NamespaceNetworks that want the same addresses for different
// things: the older one has them, and mending either mends the other.
func contested(t *testing.T, env *kubetest.Env) {
	deps, _ := kubetest.NewDeps(t)
	kubetest.Provider(t, deps.Store)
	c := &cluster{Env: env, t: t, store: deps.Store}
	sup := kubetest.Supervisor()
	sup.Spec.AddressHoldTime = &metav1.Duration{}
	red, blue := network("c1", 0, "n:10.77.0.0/22"), network("c2", 0, "n:10.78.0.0/22", "e:10.77.0.0/29")
	c.create(sup, kubetest.Namespace("c1", nil), kubetest.Namespace("c2", nil), &red, &blue)
	env.Manage(t, deps, Add)
	ready := func(name string) func() string {
		return func() string {
			var nn v1alpha1.NamespaceNetwork
			if err := env.Client.Get(t.Context(), types.NamespacedName{Name: name}, &nn); err != nil {
				return err.Error()
			}
			cond := apimeta.FindStatusCondition(nn.Status.Conditions, "Ready")
			if cond == nil {
				return "no condition"
			}
			return strings.TrimSpace(fmt.Sprint(cond.Status, " ", cond.Reason, " ", cond.Message))
		}
	}
	set := func(nn *v1alpha1.NamespaceNetwork, field string, cidr v1alpha1.CIDR) {
		change(c, nn, func(nn *v1alpha1.NamespaceNetwork) {
			*map[string]*[]v1alpha1.CIDR{v1alpha1.FieldNetworks: &nn.Spec.NamespaceNetworkCIDRs, v1alpha1.FieldEgress: &nn.Spec.EgressCIDRs}[field] = []v1alpha1.CIDR{cidr}
		})
	}
	const message = "NamespaceNetwork/c2: egressCIDRs[0]: 10.77.0.0/29: overlaps 10.77.0.0/22 of NamespaceNetwork/c1, namespaceNetworkCIDRs[0] (the older one has it, want another range)"
	c.eventually("True Realized", ready("c1"))
	c.eventually("False Conflict "+message, ready("c2"))
	c.eventually("False Conflict "+message+"\nncp/error.network: "+message, func() string { return c.namespace("c2") })

	// The older one is mended.
	set(&red, v1alpha1.FieldNetworks, "10.79.0.0/22")
	c.eventually("True Realized", ready("c2"))
	c.eventually("10.79.0.0/28", func() string { return last(c.namespace("c1")) })
	snat := func() string {
		for line := range strings.Lines(c.namespace("c2")) {
			if a, ok := strings.CutPrefix(line, "ncp/snat_ip: "); ok {
				return strings.TrimSpace(a)
			}
		}
		return ""
	}
	c.eventually("10.77.0.1", snat)
	// It takes them back: what the younger one has in force stays its own.
	set(&red, v1alpha1.FieldNetworks, "10.77.0.0/22")
	c.eventually("False Conflict "+message, ready("c2"))
	c.eventually("10.77.0.16/28", func() string { return last(c.namespace("c1")) })
	same(t, "10.77.0.1", snat())
	// The younger one is mended.
	set(&blue, v1alpha1.FieldEgress, "10.81.0.0/29")
	c.eventually("True Realized", ready("c2"))
	c.eventually("10.81.0.1", snat)

	set(&blue, v1alpha1.FieldNetworks, "100.64.0.0/20")
	c.eventually("False Conflict namespaceNetworkCIDRs: 100.64.0.0/20: overlaps 100.64.0.0/16 of /infra/tier-0s/provider, transit_subnets, which its links to Tier-1s have (want another range, or other transit_subnets)", ready("c2"))
	// Without the older one nothing is contested.
	set(&blue, v1alpha1.FieldNetworks, "10.78.0.0/22")
	set(&blue, v1alpha1.FieldEgress, "10.77.0.0/29")
	c.eventually("False Conflict "+message, ready("c2"))
	if err := env.Client.Delete(t.Context(), &red); err != nil {
		t.Fatal(err)
	}
	c.eventually("True Realized", ready("c2"))
	if err := env.Client.Delete(t.Context(), &blue); err != nil {
		t.Fatal(err)
	}
	c.clear("c1", "c2")
}

// admission has what the API server refuses, and why.
func admission(t *testing.T, env *kubetest.Env) {
	type spec = v1alpha1.SupervisorSpec
	for _, tc := range []struct {
		name   string
		change func(*spec)
		want   string
	}{
		{"no CIDR", func(s *spec) { s.IngressCIDRs = []v1alpha1.CIDR{"172.16.1.0"} }, "spec.ingressCIDRs[0]: Invalid value: \"172.16.1.0\": is not a CIDR (such as 10.244.0.0/20)"},
		{"host bits in the length", func(s *spec) { s.ServiceCIDR = "10.96.0.0/33" }, "spec.serviceCIDR: Invalid value: \"10.96.0.0/33\": is not a CIDR (such as 10.244.0.0/20)"},
		{"no egress", func(s *spec) { s.EgressCIDRs = nil }, "spec: Invalid value: egressCIDRs: is missing (want a CIDR, or routedMode)"},
		{"routed with egress", func(s *spec) { s.RoutedMode = true }, "spec: Invalid value: egressCIDRs: is given in routed mode (want it empty)"},
		{"no Tier-0", func(s *spec) { s.Tier0Path = "/infra/tier-1s/x" }, "spec.tier0Path: Invalid value: \"/infra/tier-1s/x\": is not the path of a Tier-0 (such as /infra/tier-0s/provider)"},
		{"DNS", func(s *spec) { s.WorkloadDNS = []v1alpha1.IP{"dns"} }, "spec.workloadDNS[0]: Invalid value: \"dns\": is not an address (such as 10.0.0.53)"},
		{"cluster", func(s *spec) { s.ClusterID = "a/b" }, "spec.clusterID: Invalid value"},
		{"MAC", func(s *spec) {
			s.ControlPlane = &v1alpha1.ControlPlane{MACAddress: "1", Attachment: "x"}
		}, "spec.controlPlane.macAddress: Invalid value"},
	} {
		sup := kubetest.Supervisor()
		tc.change(&sup.Spec)
		refuses(t, env, tc.name, sup, tc.want)
	}
	other := kubetest.Supervisor()
	other.Name = "other"
	refuses(t, env, "name", other, "metadata.name: there is one Supervisor (default)")

	nn := &v1alpha1.NamespaceNetwork{ObjectMeta: kubetest.Namespace("x", nil).ObjectMeta}
	nn.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.16.2.0/24"}
	refuses(t, env, "egress alone", nn, "namespaceNetworkCIDRs: is missing (tier0Path, ingressCIDRs and egressCIDRs want it)")
	nn.Name = "a.b"
	refuses(t, env, "name of a namespace", nn, "metadata.name: is not the name of a namespace")

	trace := &v1alpha1.Trace{ObjectMeta: kubetest.Namespace("x", nil).ObjectMeta}
	trace.Namespace = "default"
	trace.Spec.Destination.Address = "10.0.0.1"
	refuses(t, env, "no source", trace, "spec.source: Invalid value: want one of pod and address")
	trace.Spec.Source.Pod = "a"
	refuses(t, env, "no port", trace, "port: is missing (1 to 65535)")
	trace.Spec.Destination.Pod = "b"
	trace.Spec.Port = 80
	refuses(t, env, "two destinations", trace, "spec.destination: Invalid value: want one of pod, service and address")
	trace.Spec.Destination.Pod = ""
	c := &cluster{Env: env, t: t}
	c.create(trace)
	trace.Spec.Port = 81
	if err := env.Client.Update(t.Context(), trace); err == nil || !strings.Contains(err.Error(), "cannot be changed (make another Trace)") {
		t.Errorf("changed: %v", err)
	}
}

func refuses(t *testing.T, env *kubetest.Env, name string, o client.Object, want string) {
	t.Helper()
	if err := env.Client.Create(t.Context(), o, client.DryRunAll); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %s", name, err, want)
	}
}
