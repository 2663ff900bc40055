package service

import (
	"cmp"
	"fmt"
	"net/netip"
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
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/trace"
)

// tenantTree returns what the tenant's controller makes of namespaces red and blue
// of a Supervisor, 10.244.0.16/28 and 10.244.0.32/28 behind 172.16.2.2 and
// 172.16.2.3, with two pods each, and the address pools of surroundings.
func tenantTree(t *testing.T, change func(*v1alpha1.SupervisorSpec)) *intent.Tree {
	t.Helper()
	sup := kubetest.Supervisor()
	sup.Spec.ClusterID = "c8"
	change(&sup.Spec)
	network, problems := v1alpha1.Effective(sup, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	out := intent.NewTree()
	own := func(owner string, objects []intent.Object, err error) {
		t.Helper()
		var changes []intent.Change
		for _, o := range objects {
			store.SetOwner(o, store.Owner(owner))
			changes = append(changes, intent.Put(o.Meta().Path, o))
		}
		if _, problems := out.Apply(changes); err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
	}
	if _, problems := out.Apply(kubetest.ProviderChanges()); len(problems) > 0 {
		t.Fatal(problems)
	}
	free := func(netip.Addr) bool { return false }
	objects, err := tenant.Supervisor{Network: network, Translated: tenant.Translated(sup, nil)}.Objects(out, free)
	own("Supervisor/default", objects, err)
	for i, name := range []string{"red", "blue"} {
		uid := fmt.Sprintf("u%d", i+1)
		objects, _, err := tenant.Namespace{Name: name, UID: uid, Network: network, Pods: 2}.Objects(out, free)
		own("Namespace/"+name+"/"+uid, objects, err)
		var ports []intent.Object
		for j := range 2 {
			last := 18 + 16*i + j
			ports = append(ports, intent.Put(ncp.PortPath(ncp.SegmentPath(uid, 0), fmt.Sprint(name, j)), &intent.SegmentPort{
				Resource:        intent.Resource{Tags: ncp.NamespaceTags("c8", name, uid)},
				AddressBindings: []intent.AddressBinding{{IPAddress: fmt.Sprint("10.244.0.", last), MACAddress: fmt.Sprintf("04:50:56:00:00:%02x", last)}},
			}).Object)
		}
		own("Pod/"+name+"/all/p", ports, nil)
	}
	changes, _ := intent.Parse("surroundings", []byte(surroundings))
	changes = slices.DeleteFunc(changes, func(c intent.Change) bool { return !strings.HasPrefix(c.Path, "/infra/ip-pools/") })
	if _, problems := out.Apply(changes); intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	return out
}

// red is namespace red of tenantTree.
func red() Place {
	return Place{
		Cluster: "c8", Namespace: "red", UID: "u1", LBService: ncp.LBServicePath("u1"), Tier1: ncp.Tier1Path("u1"),
		Ingress: []netip.Prefix{netip.MustParsePrefix("172.16.1.0/24")},
	}
}

// claim returns a Service of namespace red without cluster IP, made so many
// seconds after the first, with a pool for its pods. Endpoints are as those of
// slice.
func claim(t *testing.T, name string, second int64, pool string, endpoints ...string) Claim {
	t.Helper()
	s := svc(t, "{clusterIP: None, ports: [{port: 80}]}")
	s.Name, s.UID, s.CreationTimestamp = name, types.UID(name), metav1.Unix(second, 0)
	s.Annotations = map[string]string{AnnotationSNATPool: pool}
	c := Claim{Service: s}
	if len(endpoints) > 0 {
		c.Slices = []discoveryv1.EndpointSlice{slice(http, endpoints...)}
	}
	return c
}

// pods returns what a result says of pods' sources: rules, faults and notes.
func pods(r Result) string {
	var out []string
	for _, o := range r.Objects {
		if v, ok := o.(*intent.PolicyNatRule); ok {
			line := v.SourceNetwork + " > " + v.TranslatedNetwork
			if !v.IsEnabled() {
				line += " disabled"
			}
			out = append(out, line)
		}
	}
	for _, f := range r.Faults {
		out = append(out, f.Reason+": "+f.Error())
	}
	return strings.Join(append(out, r.Notes...), "\n")
}

func TestSNATPool(t *testing.T) {
	const note = "\nwhat its pods send to outside comes from 203.0.113.10"
	for _, tc := range []struct {
		name  string
		older []Claim
		self  Claim
		want  string
	}{
		{name: "no pool", self: claim(t, "web", 9, " ", "10.244.0.18")},
		{name: "all pods, ready or not", self: claim(t, "web", 9, "gold", "10.244.0.19 serving terminating", "10.244.0.18 x", "10.244.0.18 ready"),
			want: "10.244.0.18,10.244.0.19 > 203.0.113.10" + note},
		{name: "by id", self: claim(t, "web", 9, "gold-1", "10.244.0.18"), want: "10.244.0.18 > 203.0.113.10" + note},
		{name: "what is elsewhere", self: claim(t, "web", 9, "gold", "10.244.0.18", "10.244.0.34", "192.168.7.7"),
			want: "10.244.0.18 > 203.0.113.10" + note},
		{name: "without pods the address stays", self: claim(t, "web", 9, "gold"),
			want: " > 203.0.113.10 disabled" + note + ": there are none of its own now"},
		{name: "no such pool", self: claim(t, "web", 9, "silver", "10.244.0.18"),
			want: "IP_POOL_NOT_FOUND: metadata.annotations[ncp/snat_pool]: silver: is not the id or display name of an IpAddressPool"},
		{name: "somebody else's pool", self: claim(t, "web", 9, "others", "10.244.0.18"),
			want: "POOL_ACCESS_DENIED: metadata.annotations[ncp/snat_pool]: others: /infra/ip-pools/others has no tag ncp/owner that lets this namespace use it (cluster:c8, ns:u1)"},
		{name: "two pools", self: claim(t, "web", 9, "twice", "10.244.0.18"),
			want: "IP_POOL_NOT_UNIQUE: metadata.annotations[ncp/snat_pool]: twice: is the id or display name of 2 pools: /infra/ip-pools/second and /infra/ip-pools/twice (want one)"},
		{name: "an empty pool", self: claim(t, "web", 9, "mine", "10.244.0.18"),
			want: "IP_POOL_EXHAUSTED: metadata.annotations[ncp/snat_pool]: mine: /infra/ip-pools/mine has no addresses (want an IpAddressPoolStaticSubnet with allocation_ranges)"},
		{name: "an older one has another pool", older: []Claim{claim(t, "zz", 8, "mine", "10.244.0.19")},
			self: claim(t, "web", 9, "gold", "10.244.0.18", "10.244.0.19"),
			want: "SNAT_RULE_OVERLAPPED: metadata.annotations[ncp/snat_pool]: gold: pod 10.244.0.19 is of Service red/zz too, which is older and has pool mine (want one pool for a pod)"},
		{name: "other pods", older: []Claim{claim(t, "zz", 8, "mine", "10.244.0.19")}, self: claim(t, "web", 9, "gold", "10.244.0.18"),
			want: "10.244.0.18 > 203.0.113.10" + note},
		{name: "the same pool by another name", older: []Claim{claim(t, "zz", 8, "gold-1", "10.244.0.19")},
			self: claim(t, "web", 9, "gold", "10.244.0.18", "10.244.0.19"), want: "10.244.0.18 > 203.0.113.10" + note},
		{name: "the one that is in the way gets none itself",
			older: []Claim{claim(t, "second", 8, "mine", "10.244.0.18", "10.244.0.19"), claim(t, "first", 7, "gold", "10.244.0.19")},
			self:  claim(t, "web", 9, "gold", "10.244.0.18"), want: "10.244.0.18 > 203.0.113.10" + note},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
			r := Request{Service: tc.self.Service, Slices: tc.self.Slices, Older: tc.older, Place: red()}
			got := Build(r, at)
			if diff := gocmp.Diff(tc.want, pods(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			add(t, at, r.Service, got.Objects...)
			if diff := gocmp.Diff(got, Build(r, at), whole); diff != "" {
				t.Errorf("the second time (-first +second):\n%s", diff)
			}
		})
	}
}

// Where nothing translates sources, no Service does.
func TestSNATPoolWithoutNAT(t *testing.T) {
	c := claim(t, "web", 9, "gold", "10.244.0.18")
	at := tenantTree(t, func(s *v1alpha1.SupervisorSpec) { s.RoutedMode, s.EgressCIDRs = true, nil })
	r := Request{Service: c.Service, Slices: c.Slices, Place: red()}
	want := "NoNetwork: metadata.annotations[ncp/snat_pool]: gold: namespace red has no egress address yet (see the conditions of the Namespace)"
	if diff := gocmp.Diff(want, pods(Build(r, at))); diff != "" {
		t.Errorf("not there yet (-want +got):\n%s", diff)
	}
	r.Place.Routed = true
	want = "InvalidAnnotation: metadata.annotations[ncp/snat_pool]: gold: has no effect, as namespace red is routed: nothing translates what its pods send"
	got := Build(r, at)
	if diff := gocmp.Diff(want, pods(got)); diff != "" {
		t.Errorf("routed (-want +got):\n%s", diff)
	}
	if IsSNATFault(got.Faults[0]) || IsAddressFault(got.Faults[0]) {
		t.Errorf("%s: is taken for a value of an annotation", got.Faults[0].Reason)
	}
}

// One address is for one thing: another Service's, an egress address, the
// Service's own load balancer.
func TestSNATPoolIsUsed(t *testing.T) {
	at := tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
	build := func(name, spec, pool string) (Request, Result) {
		c := claim(t, name, 1, pool, "10.244.0.18")
		r := Request{Service: c.Service, Slices: c.Slices, Place: red()}
		r.Service.Spec = *object[corev1.ServiceSpec](t, spec)
		return r, Build(r, at)
	}
	// The load balancer and the pods of one Service, both of one pool.
	both, got := build("both", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", "gold")
	if a := got.Address.String() + "\n" + pods(got); a != "203.0.113.10\n10.244.0.18 > 203.0.113.11\nwhat its pods send to outside comes from 203.0.113.11" {
		t.Errorf("load balancer and pods: got %s", a)
	}
	add(t, at, both.Service, got.Objects...)
	if diff := gocmp.Diff(got.Objects, Build(both, at).Objects, whole); diff != "" {
		t.Errorf("the second time, not knowing the load balancer's (-first +second):\n%s", diff)
	}
	_, got = build("late", "{clusterIP: None, ports: [{port: 80}]}", "gold")
	want := "IP_POOL_EXHAUSTED: metadata.annotations[ncp/snat_pool]: gold: no address is free in IpAddressPool /infra/ip-pools/gold-1 (extend it, or take the annotation off another Service)"
	if diff := gocmp.Diff(want, pods(got)); diff != "" {
		t.Errorf("nothing is left (-want +got):\n%s", diff)
	}
	// The allocator of egress addresses sees it.
	if by := writer.Used(at)[netip.MustParseAddr("203.0.113.11")]; by != "Service/red/both/both" {
		t.Errorf("203.0.113.11: got owner %q", by)
	}
	// What the pods had is theirs again, though it was released just now.
	at = tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
	again, _ := build("again", "{clusterIP: None, ports: [{port: 80}]}", "gold")
	again.Held = func(netip.Addr) bool { return true }
	if got := Build(again, at); len(got.Faults) != 1 || got.Faults[0].Reason != PoolExhausted {
		t.Errorf("all are held: got %s", pods(got))
	}
	again.HadSNAT = netip.MustParseAddr("203.0.113.11")
	if got := Build(again, at); got.SNAT != again.HadSNAT {
		t.Errorf("what it had: got %s", pods(got))
	}
	// The load balancer comes later: it cannot have what its pods have.
	at = tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
	pod, got := build("both", "{clusterIP: 10.96.0.10, ports: [{port: 80}]}", "gold")
	add(t, at, pod.Service, got.Objects...)
	_, got = build("both", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", "gold")
	if a := got.Address.String() + "\n" + pods(got); a != "203.0.113.11\n10.244.0.18 > 203.0.113.10\nwhat its pods send to outside comes from 203.0.113.10" {
		t.Errorf("pods, then load balancer: got %s", a)
	}
}

// The pods' address stays while the same pool is asked for, whatever becomes of
// that.
func TestSNATPoolShrinks(t *testing.T) {
	at := tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
	c := claim(t, "web", 9, "gold", "10.244.0.18")
	r := Request{Service: c.Service, Slices: c.Slices, Place: red()}
	add(t, at, r.Service, Build(r, at).Objects...)
	const rule = "10.244.0.18 > 203.0.113.10\n"
	want := func(when, want string) {
		t.Helper()
		if diff := gocmp.Diff(want, pods(Build(r, at))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	apply := func(changes ...intent.Change) {
		t.Helper()
		if _, problems := at.Apply(changes); intent.HasErrors(problems) {
			t.Fatal(problems)
		}
	}
	subnet := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPoolStaticSubnet"}}
	subnet.Extra = intent.Extra{"allocation_ranges": []any{map[string]any{"start": "203.0.113.50", "end": "203.0.113.50"}}}
	subnetPath := at.Children("/infra/ip-pools/gold-1", "")[0].Meta().Path
	apply(intent.Put(subnetPath, subnet))
	want("shrunk", rule+"203.0.113.10 stays in use, though it is not of IpAddressPool /infra/ip-pools/gold-1 any more\nwhat its pods send to outside comes from 203.0.113.10")
	r.Service.Annotations[AnnotationSNATPool] = "gold-1"
	want("the same pool by its id", rule+"203.0.113.10 stays in use, though it is not of IpAddressPool /infra/ip-pools/gold-1 any more\nwhat its pods send to outside comes from 203.0.113.10")
	r.Service.Annotations[AnnotationSNATPool] = "gold"
	apply(intent.Delete(subnetPath), intent.Delete("/infra/ip-pools/gold-1"))
	want("gone", rule+"IP_POOL_NOT_FOUND: metadata.annotations[ncp/snat_pool]: gold: is not the id or display name of an IpAddressPool\n203.0.113.10 stays in use\nwhat its pods send to outside comes from 203.0.113.10")
	r.Service.Annotations[AnnotationSNATPool] = "mine"
	want("another", "IP_POOL_EXHAUSTED: metadata.annotations[ncp/snat_pool]: mine: /infra/ip-pools/mine has no addresses (want an IpAddressPoolStaticSubnet with allocation_ranges)")
}

// What is in use outside of a Supervisor's ranges: not what is of a pool.
func TestOutside(t *testing.T) {
	at := tenantTree(t, func(*v1alpha1.SupervisorSpec) {})
	sup := kubetest.Supervisor()
	sup.Spec.ClusterID = "c8"
	create := func(name, spec, pool string) {
		t.Helper()
		s := svc(t, spec)
		s.Name, s.UID, s.Annotations = name, types.UID(name), map[string]string{AnnotationSNATPool: pool}
		r := Build(Request{Service: s, Place: red(), Slices: []discoveryv1.EndpointSlice{slice(http, "10.244.0.18")}}, at)
		if len(r.Faults) > 0 {
			t.Fatal(r.Faults)
		}
		add(t, at, s, r.Objects...)
	}
	want := func(when, want string) {
		t.Helper()
		got := ""
		if f := tenant.Outside(at, sup, nil); f != nil {
			got = f.Reason + " " + f.Error()
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	create("pool", "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", "gold")
	want("an IpAddressPool", "")
	create("plain", "{type: LoadBalancer, clusterIP: 10.96.0.10, ports: [{name: a, port: 80}, {name: b, port: 81}]}", "")
	want("within", "")
	sup.Spec.IngressCIDRs = []v1alpha1.CIDR{"172.16.5.0/24"}
	want("shrunk", "InUse ingressCIDRs: does not contain 172.16.1.1 of Service red/plain (still in use)")
	sup.Spec.IngressCIDRs, sup.Spec.ServiceCIDR = []v1alpha1.CIDR{"172.16.1.0/24"}, "10.96.1.0/24"
	want("another service CIDR", "InUse serviceCIDR: does not contain 10.96.0.10 of Service red/plain (still in use)")
}

// What a server outside sees, and that its answer comes back.
func TestSNATPoolFlow(t *testing.T) {
	at := tenantTree(t, func(s *v1alpha1.SupervisorSpec) { s.SNATExemptCIDRs = []v1alpha1.CIDR{"198.51.100.0/24"} })
	tells := &intent.LocaleServices{EdgeClusterPath: kubetest.EdgeClusterPath, RouteRedistributionConfig: &intent.RouteRedistributionConfig{
		RedistributionRules: []intent.RouteRedistributionRule{{Name: "nat", RouteRedistributionTypes: []string{"TIER1_NAT"}}},
	}}
	if _, problems := at.Apply([]intent.Change{intent.Put(kubetest.Tier0Path+"/locale-services/default", tells)}); len(problems) > 0 {
		t.Fatal(problems)
	}
	c := claim(t, "web", 9, "gold", "10.244.0.18")
	add(t, at, c.Service, Build(Request{Service: c.Service, Slices: c.Slices, Place: red()}, at).Objects...)
	compiler := compile.New()
	sets, problems := compiler.Update(at, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if told := compiler.Redistributed(kubetest.Tier0Path); !slices.Contains(told, netip.MustParsePrefix("203.0.113.10/32")) {
		t.Errorf("told to routers outside: got %v, want 203.0.113.10 among them", told)
	}
	for _, tc := range []struct{ from, to, want string }{
		{"red0", "192.168.178.222", "203.0.113.10 answered"}, // before the namespace's
		{"red1", "192.168.178.222", "172.16.2.2 answered"},   // not of the Service
		{"blue0", "192.168.178.222", "172.16.2.3 answered"},
		{"red0", "10.244.0.19", "10.244.0.18 answered"},
		{"red0", "198.51.100.7", "10.244.0.18 answered"}, // behind what is exempt
	} {
		for _, set := range sets {
			if got := seenBy(t, pipeline.NewIndex(set), tc.from, tc.to); got != tc.want {
				t.Errorf("%s to %s: got %s, want %s", tc.from, tc.to, got, tc.want)
			}
		}
	}
}

// seenBy returns the source that the other end of a TCP connection sees, and
// whether the answer comes back.
func seenBy(t *testing.T, ix *pipeline.Index, from, to string) string {
	t.Helper()
	src, err := trace.ResolveSource(ix, from)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := trace.ResolveDestination(ix, to)
	if err != nil {
		t.Fatal(err)
	}
	res, err := trace.Run(ix, trace.Question{From: src.Port, To: dst.Port, Src: src.Addr, Dst: dst.Addr, Proto: packet.TCP, SrcPort: 49152, DstPort: 80})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Arrives() {
		return fmt.Sprint(res.Disposition, " ", res.SourceSeen)
	}
	return fmt.Sprint(res.SourceSeen, " answered")
}

// podsLine returns what people see of a Service's pool: its condition and error,
// and its NAT rule.
func (w *world) podsLine(s *corev1.Service) string {
	w.Helper()
	var now corev1.Service
	w.check(w.Client.Get(w.Context(), client.ObjectKeyFromObject(s), &now))
	out := []string{cmp.Or(apimeta.FindStatusCondition(now.Status.Conditions, Condition), &metav1.Condition{}).Reason}
	if e := now.Annotations["ncp/error.snat"]; e != "" {
		out = append(out, "error "+e)
	}
	for _, o := range w.deps.Store.Owned(writer.Owner(writer.Service, s)) {
		if r, ok := o.(*intent.PolicyNatRule); ok {
			out = append(out, r.SourceNetwork+" > "+r.TranslatedNetwork)
		}
	}
	return strings.Join(out, ", ")
}

// wantPods waits for a podsLine.
func (w *world) wantPods(s *corev1.Service, want string) {
	w.Helper()
	kubetest.Eventually(w, func() string {
		if got := w.podsLine(s); got != want {
			return fmt.Sprintf("Service %s/%s: got %q, want %q: %s", s.Namespace, s.Name, got, want, w.message(s))
		}
		return ""
	})
}

// Whatever is wrong with a pool, who mends it mends the Service.
func TestReconcileSNATPool(t *testing.T) {
	e := kubetest.Start(t)
	w := &world{T: t, Env: e}
	w.deps, w.real = kubetest.NewDeps(t)
	w.deps.Holds = writer.NewHolds(time.Hour, nil)
	kubetest.Provider(t, w.deps.Store)
	e.Manage(t, w.deps, tenant.Add, Add)
	w.check(e.Client.Create(t.Context(), supervisor()))
	w.check(e.Client.Create(t.Context(), kubetest.Namespace("blue", nil)))
	w.check(e.Client.Create(t.Context(), &v1alpha1.NamespaceNetwork{
		ObjectMeta: metav1.ObjectMeta{Name: "blue"},
		Spec:       v1alpha1.NamespaceNetworkSpec{NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.250.0.0/20"}},
	}))
	pool := func(name, owner string, ranges ...any) {
		p := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPool", Tags: []intent.Tag{{Scope: "ncp/owner", Tag: owner}}}}
		changes := []intent.Change{intent.Put("/infra/ip-pools/"+name, p)}
		if len(ranges) > 0 {
			s := &intent.Opaque{Resource: intent.Resource{ResourceType: "IpAddressPoolStaticSubnet", Extra: intent.Extra{"allocation_ranges": ranges}}}
			changes = append(changes, intent.Put("/infra/ip-pools/"+name+"/ip-address-pool-static-subnets/a", s))
		}
		w.update(changes...)
	}
	const headless = "{clusterIP: None, ports: [{port: 80}]}"
	first := w.service("blue", "first", headless, AnnotationSNATPool+"=gold")
	w.slice(first, "first-1", "[{port: 8080}]", "10.250.0.2", "10.250.0.3")
	w.wantPods(first, "IP_POOL_NOT_FOUND, error IP_POOL_NOT_FOUND")
	pool("gold", "cluster:another")
	w.wantPods(first, "POOL_ACCESS_DENIED, error POOL_ACCESS_DENIED")
	pool("gold", "cluster:domain-c8")
	w.wantPods(first, "IP_POOL_EXHAUSTED, error IP_POOL_EXHAUSTED")
	pool("gold", "cluster:domain-c8", map[string]any{"start": "203.0.113.10", "end": "203.0.113.10"})
	w.wantPods(first, "Realized, 10.250.0.2,10.250.0.3 > 203.0.113.10")
	w.says(first, "comes from 203.0.113.10")

	// The older of two has the pod; the other follows when that lets it go.
	pool("silver", "cluster:domain-c8", map[string]any{"start": "203.0.113.20", "end": "203.0.113.20"})
	second := w.service("blue", "second", headless, AnnotationSNATPool+"=silver")
	slice2 := w.slice(second, "second-1", "[{port: 8080}]", "10.250.0.3")
	w.wantPods(second, "SNAT_RULE_OVERLAPPED, error SNAT_RULE_OVERLAPPED")
	w.says(second, "pod 10.250.0.3 is of Service blue/first too")
	w.change(first, func(s *corev1.Service) { delete(s.Annotations, AnnotationSNATPool) })
	w.wantPods(first, "Realized")
	w.wantPods(second, "Realized, 10.250.0.3 > 203.0.113.20")
	w.change(first, func(s *corev1.Service) { s.Annotations = map[string]string{AnnotationSNATPool: "gold"} })
	w.wantPods(second, "SNAT_RULE_OVERLAPPED, error SNAT_RULE_OVERLAPPED")
	slice2.Endpoints[0].Addresses[0] = "10.250.0.4"
	slice2.Endpoints[0].TargetRef = nil
	w.check(e.Client.Update(t.Context(), slice2))
	w.wantPods(second, "Realized, 10.250.0.4 > 203.0.113.20")

	// A namespace that becomes routed has no rule at all.
	var nn v1alpha1.NamespaceNetwork
	w.check(e.Client.Get(t.Context(), types.NamespacedName{Name: "blue"}, &nn))
	before, routed := nn.DeepCopy(), true
	nn.Spec.RoutedMode = &routed
	w.check(e.Client.Patch(t.Context(), &nn, client.MergeFrom(before)))
	w.wantPods(second, "InvalidAnnotation")
	kubetest.Eventually(t, func() string {
		var left string
		w.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
			for _, r := range t.OfType("PolicyNatRule") {
				if !strings.Contains(r.Meta().Path, "_system_rtr/") {
					left += " " + r.Meta().Path
				}
			}
		})
		return left
	})
}
