package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	netv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/network-policy-api/apis/v1alpha1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// bench is an API server, a store and the controllers of this package between
// them.
type bench struct {
	t    *testing.T
	env  *kubetest.Env
	deps writer.Deps
	real *kubetest.Realization
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) create(objects ...client.Object) {
	b.t.Helper()
	for _, o := range objects {
		check(b.t, b.env.Client.Create(b.t.Context(), o))
	}
}

// rules waits until the rules of an owner of a kind are these: policy and rule by
// their ids without UIDs.
func (b *bench) rules(kind string, want ...string) {
	b.t.Helper()
	kubetest.Eventually(b.t, func() string {
		var got []string
		for _, o := range b.deps.Store.Owners(kind + "/") {
			_, _, uid, _ := writer.ParseOwner(o)
			for _, o := range b.deps.Store.Owned(o) {
				if r, ok := o.(*intent.Rule); ok {
					got = append(got, strings.Replace(intent.IDOf(r.PolicyPath()), string(uid), "U", 1)+" "+r.ID+" "+r.Name())
				}
			}
		}
		slices.Sort(got)
		return cmp.Diff(want, got)
	})
}

// annotations waits until the policy says this of itself.
func (b *bench) annotations(np *netv1.NetworkPolicy, realized, lint string) {
	b.t.Helper()
	kubetest.Eventually(b.t, func() string {
		check(b.t, b.env.Client.Get(b.t.Context(), client.ObjectKeyFromObject(np), np))
		return cmp.Diff([]string{realized, lint}, []string{np.Annotations[AnnotationRealized], np.Annotations[AnnotationLint]})
	})
}

// events returns the notes of Events of a reason about an object, each once.
func (b *bench) events(o client.Object, reason string) []string {
	var list eventsv1.EventList
	check(b.t, b.env.Client.List(b.t.Context(), &list))
	var out []string
	for _, e := range list.Items {
		if e.Regarding.UID == o.GetUID() && e.Reason == reason {
			out = append(out, e.Note)
		}
	}
	return out
}

// version returns that of the whole store.
func (b *bench) version() (v store.Version) {
	b.deps.Store.Read(func(_ *intent.Tree, now store.Version) { v = now })
	return v
}

func (b *bench) domain() {
	_, problems, err := b.deps.Store.Update(b.t.Context(), func(*intent.Tree) ([]intent.Change, error) {
		return []intent.Change{intent.Put(ncp.DomainPath(clusterID), &intent.Domain{})}, nil
	})
	check(b.t, err)
	if problems != nil {
		b.t.Fatal(problems)
	}
}

func TestControllers(t *testing.T) {
	env := kubetest.Start(t, v1alpha1.Install, v1alpha2.Install, v1beta1.Install)
	deps, real := kubetest.NewDeps(t)
	b := &bench{t, env, deps, real}
	stop := env.Manage(t, deps, Add)

	shop := read(t, `
metadata: {name: hackazon-app-network-policy}
spec:
  podSelector: {matchLabels: {app: hackazon-shop}}
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: svc-contour-domain-c8}}
    - podSelector: {matchLabels: {app: contour}}
    ports: [{port: 80}]
`)
	shop.UID = ""
	b.create(kubetest.Namespace("ns-hackazon-app", nil), kubetest.Namespace("svc-contour-domain-c8", nil), shop)
	or := "spec.ingress[0].from: elements 0 and 1 are an OR: all pods of namespaces with kubernetes.io/metadata.name=svc-contour-domain-c8, or pods with app=contour of namespace ns-hackazon-app (to mean pods with app=contour of namespaces with kubernetes.io/metadata.name=svc-contour-domain-c8, write both selectors in one element, without the dash before the second)"
	nobody := "spec.podSelector: pods with app=hackazon-shop of namespace ns-hackazon-app: selects no pod of namespace ns-hackazon-app now; " + or +
		"; spec.ingress[0].from[0]: all pods of namespaces with kubernetes.io/metadata.name=svc-contour-domain-c8: nobody is one now; spec.ingress[0].from[1].podSelector: pods with app=contour of namespace ns-hackazon-app: nobody is one now"
	b.annotations(shop, "generation 1: false: NotFound: there is no Supervisor default (make one)", "generation 1: "+nobody)

	t.Log("a Supervisor and its domain")
	b.create(kubetest.Supervisor())
	b.domain()
	b.rules(writer.NetworkPolicy, "np_U_allow TCP.80-ingress-allow TCP.80-ingress-allow", "np_U_isolation deny-all-ingress deny-all-ingress")
	b.annotations(shop, "generation 1: true", "generation 1: "+nobody)
	kubetest.Eventually(t, func() string { return cmp.Diff([]string{nobody}, b.events(shop, ReasonLint)) })

	t.Log("its pods come: less to say, and no Event for it")
	pods := []*corev1.Pod{
		kubetest.Pod("ns-hackazon-app", "shop", map[string]string{"app": "hackazon-shop"}),
		kubetest.Pod("ns-hackazon-app", "contour", map[string]string{"app": "contour"}), kubetest.Pod("svc-contour-domain-c8", "envoy", nil),
	}
	b.create(pods[2], pods[1], pods[0])
	b.annotations(shop, "generation 1: true", "generation 1: "+or)
	b.namedPorts()
	b.refused(shop, or)
	id := b.ruleID("deny-all-ingress")

	t.Log("written anew with the AND, after a restart")
	stop()
	before := b.version()
	env.Manage(t, deps, Add)
	shop.Spec.Ingress[0].From[0].PodSelector = &metav1.LabelSelector{}
	shop.Spec.Ingress[0].From = shop.Spec.Ingress[0].From[:1]
	check(t, env.Client.Update(t.Context(), shop))
	b.annotations(shop, "generation 2: true", "")
	if got := b.version(); got != before+1 {
		t.Errorf("version %d, want %d: one commit, for the change", got, before+1)
	}
	if got := b.ruleID("deny-all-ingress"); got != id {
		t.Errorf("rule %d, want %d as before", got, id)
	}

	t.Run("cluster policies", func(t *testing.T) { (&bench{t, env, deps, real}).clusterPolicies() })

	check(t, env.Client.Delete(t.Context(), shop))
	b.rules(writer.NetworkPolicy)
	if left := deps.Store.Owners(""); left != nil {
		t.Errorf("left: %v", left)
	}
}

// ruleID returns the number of the rule of a name.
func (b *bench) ruleID(name string) (id int64) {
	b.deps.Store.Read(func(t *intent.Tree, _ store.Version) {
		for _, o := range t.OfType("Rule") {
			if r := o.(*intent.Rule); r.ID == name {
				id = r.RuleID
			}
		}
	})
	if id < 1001 {
		b.t.Errorf("%s: rule id %d", name, id)
	}
	return id
}

// namedPorts is a policy with a named port while pods that have it come and go.
func (b *bench) namedPorts() {
	b.t.Log("named ports follow pods")
	np := read(b.t, "{metadata: {name: named}, spec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}}")
	np.UID = ""
	shop := []string{"np_U_allow TCP.80-ingress-allow TCP.80-ingress-allow", "np_U_isolation deny-all-ingress deny-all-ingress", "np_U_isolation deny-all-ingress deny-all-ingress"}
	with := func(rules ...string) []string {
		return append(slices.Sorted(slices.Values(append(rules, shop...))), []string{}...)
	}
	b.create(np)
	b.rules(writer.NetworkPolicy, with()...)
	b.annotations(np, "generation 1: true", "generation 1: spec.ingress[0].ports[0].port: http: no pod that the policy selects has a TCP port of that name now")
	pod := kubetest.Pod("ns-hackazon-app", "named", nil)
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	other := kubetest.Pod("svc-contour-domain-c8", "named", nil)
	other.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 81}}
	second := other.Spec.Containers[0].DeepCopy()
	second.Name, second.Ports[0].ContainerPort = "second", 82
	other.Spec.Containers = append(other.Spec.Containers, *second)
	more := kubetest.Pod("ns-hackazon-app", "more", nil)
	more.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 81}}
	b.create(other, pod, more) // 81 is news in the namespace alone, 82 is none there
	b.rules(writer.NetworkPolicy, with("np_U_allow TCP.http.81-ingress-allow TCP.http.81-ingress-allow", "np_U_allow TCP.http.8080-ingress-allow TCP.http.8080-ingress-allow")...)
	b.annotations(np, "generation 1: true", "")
	check(b.t, b.env.Client.Delete(b.t.Context(), other, client.GracePeriodSeconds(0)))
	check(b.t, b.env.Client.Delete(b.t.Context(), more, client.GracePeriodSeconds(0)))
	b.rules(writer.NetworkPolicy, with("np_U_allow TCP.http.8080-ingress-allow TCP.http.8080-ingress-allow")...)
	check(b.t, b.env.Client.Delete(b.t.Context(), np))
	b.rules(writer.NetworkPolicy, shop[:2]...)
}

// refused is a node that does not take what was written.
func (b *bench) refused(np *netv1.NetworkPolicy, lint string) {
	b.t.Log("a node refuses")
	b.real.Set(writer.Refused, "node n1: no room")
	np.Spec.Ingress[0].Ports[0].Port.IntVal = 8080
	np.Annotations["mine"] = "stays"
	check(b.t, b.env.Client.Update(b.t.Context(), np))
	b.annotations(np, "generation 2: false: Refused: node n1: no room", "generation 2: "+lint)
	np.Spec.Ingress[0].Ports[0].Port.IntVal = 80
	b.real.Set(writer.Realized, "")
	check(b.t, b.env.Client.Delete(b.t.Context(), np))
	np.ResourceVersion, np.UID, np.Annotations = "", "", nil
	b.create(np)
	b.annotations(np, "generation 1: true", "generation 1: "+lint)
}

// clusterPolicies is definitions that come to a cluster, and policies of them.
func (b *bench) clusterPolicies() {
	t, ctx := b.t, b.t.Context()
	crd(b, "ClusterNetworkPolicy", "v1alpha2", "v1beta1")
	crd(b, "AdminNetworkPolicy", "v1alpha1")
	crd(b, "BaselineAdminNetworkPolicy", "v1alpha1")
	everyone := v1beta1.ClusterNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}}
	from := []v1beta1.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}
	cnp := &v1beta1.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cnp"}, Spec: v1beta1.ClusterNetworkPolicySpec{
		Tier: v1beta1.BaselineTier, Priority: 7, Subject: everyone,
		Ingress: []v1beta1.ClusterNetworkPolicyIngressRule{{Name: "closed", Action: deny, From: from}},
		Egress: []v1beta1.ClusterNetworkPolicyEgressRule{
			{Action: accept, To: []v1beta1.ClusterNetworkPolicyEgressPeer{{DomainNames: []v1beta1.DomainName{"example.com"}}}},
			{Action: accept, To: []v1beta1.ClusterNetworkPolicyEgressPeer{{Nodes: &metav1.LabelSelector{}}}},
		},
	}}
	anp := &v1alpha1.AdminNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "anp"}, Spec: v1alpha1.AdminNetworkPolicySpec{
		Subject: v1alpha1.AdminNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
		Ingress: []v1alpha1.AdminNetworkPolicyIngressRule{{
			Action: "Pass", From: []v1alpha1.AdminNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}},
			Ports: &[]v1alpha1.AdminNetworkPolicyPort{{PortNumber: &v1alpha1.Port{Port: 80}}, {NamedPort: new("http")}},
		}},
	}}
	banp := &v1alpha1.BaselineAdminNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.BaselineAdminNetworkPolicySpec{
		Subject: v1alpha1.AdminNetworkPolicySubject{Namespaces: &metav1.LabelSelector{}},
		Egress:  []v1alpha1.BaselineAdminNetworkPolicyEgressRule{{Action: "Deny", To: []v1alpha1.BaselineAdminNetworkPolicyEgressPeer{{Networks: []v1alpha1.CIDR{"0.0.0.0/0"}}}}},
	}}
	for _, o := range []client.Object{cnp, anp, banp} {
		kubetest.Eventually(t, func() string { return why(b.env.Client.Create(ctx, o)) })
	}
	b.rules(writer.ClusterNetworkPolicy, "cnp_0007_U ingress-0 closed")
	b.rules(writer.AdminNetworkPolicy, "anp_U ingress-0 TCP.80-ingress-pass", "anp_U ingress-0-TCP.http.8080 TCP.http.8080-ingress-pass")
	b.rules(writer.BaselineAdminPolicy, "banp_U egress-0 all-egress-deny")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	b.create(node)
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.9"}}
	check(t, b.env.Client.Status().Update(ctx, node))
	b.rules(writer.ClusterNetworkPolicy, "cnp_0007_U egress-1 all-egress-allow", "cnp_0007_U ingress-0 closed")
	kubetest.Eventually(t, func() string {
		check(t, b.env.Client.Get(ctx, client.ObjectKeyFromObject(cnp), cnp))
		check(t, b.env.Client.Get(ctx, client.ObjectKeyFromObject(anp), anp))
		return cmp.Diff([]string{
			"Accepted False Unsupported spec.egress[0].to[0].domainNames: example.com: is not supported (namespaces, pods, nodes, networks)",
			"Realized True Realized ", "Accepted True Accepted ", "Realized True Realized ",
		}, append(said(cnp.Status.Conditions), said(anp.Status.Conditions)...))
	})
	for _, o := range []client.Object{cnp, anp, banp, node} {
		check(t, b.env.Client.Delete(ctx, o))
	}
	b.rules(writer.ClusterNetworkPolicy)
	b.rules(writer.AdminNetworkPolicy)
	b.rules(writer.BaselineAdminPolicy)
}

func said(conditions []metav1.Condition) []string {
	var out []string
	for _, kind := range []string{ConditionAccepted, ConditionRealized} {
		if c := apimeta.FindStatusCondition(conditions, kind); c != nil {
			out = append(out, fmt.Sprintf("%s %s %s %s", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	return out
}

func why(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// crd makes the API server serve versions of a kind, of any form.
func crd(b *bench, kind string, versions ...string) {
	lower := strings.ToLower(kind)
	plural := strings.TrimSuffix(lower, "y") + "ies"
	keep := true
	out := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group, Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, a test"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group, Scope: apiextensionsv1.ClusterScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, ListKind: kind + "List", Plural: plural, Singular: lower},
		},
	}
	for i, v := range versions {
		out.Spec.Versions = append(out.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
			Name: v, Served: true, Storage: i == len(versions)-1,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", XPreserveUnknownFields: &keep,
			}},
			Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
		})
	}
	check(b.t, b.env.Client.Create(context.Background(), out))
}
