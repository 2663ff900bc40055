package explain

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
)

const (
	uid   = "6a54b5f4-71b0-4b5d-a8a0-06b1d2b14c4e"
	other = "00000000-71b0-4b5d-a8a0-06b1d2b14c4e"
)

func TestOriginOf(t *testing.T) {
	for policy, want := range map[string]Origin{
		ncp.IsolationPath("c", uid):                                       {Kind: "Namespace", UID: uid},
		ncp.NetworkPolicyAllowPath("c", uid):                              {Kind: "NetworkPolicy", UID: uid},
		ncp.NetworkPolicyIsolationPath("c", uid):                          {Kind: "NetworkPolicy", UID: uid},
		ncp.PolicyPath("c", ncp.PrefixClusterPolicy.ID(uid)):              {Kind: "ClusterNetworkPolicy", UID: uid},
		ncp.PolicyPath("c", ncp.PrefixClusterPolicy.OrderedID(10, uid)):   {Kind: "ClusterNetworkPolicy", UID: uid},
		ncp.PolicyPath("c", ncp.PrefixAdminPolicy.ID(uid)):                {Kind: "AdminNetworkPolicy", UID: uid},
		ncp.PolicyPath("c", ncp.PrefixBaselinePolicy.ID(uid)):             {Kind: "BaselineAdminNetworkPolicy", UID: uid},
		ncp.UplinkGuardPath("c"):                                          {Kind: "Supervisor"},
		"/infra/domains/default/security-policies/default-layer3-section": {Default: true},
		"/infra/domains/default/security-policies/OverwriteEverything":    {},
		"": {},
	} {
		if d := gocmp.Diff(want, OriginOf(policy)); d != "" {
			t.Errorf("%s: (-want +got):\n%s", policy, d)
		}
	}
}

func TestFindOrigin(t *testing.T) {
	np := &netv1.NetworkPolicy{ObjectMeta: metaOf("db")}
	np.UID = other
	c := cluster(t, np, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: uid}})
	for _, tc := range []struct{ policy, want string }{
		{ncp.IsolationPath("c", uid), "isolation of Namespace shop"},
		{ncp.NetworkPolicyAllowPath("c", other), "NetworkPolicy shop/db"},
		{ncp.NetworkPolicyAllowPath("c", uid), "NetworkPolicy with UID " + uid + ", which is gone or not to be seen"},
		{ncp.PolicyPath("c", ncp.PrefixAdminPolicy.ID(uid)), "AdminNetworkPolicy with UID " + uid + ", which is gone or not to be seen"},
		{ncp.UplinkGuardPath("c"), "the Supervisor, which keeps inside addresses inside"},
		{"/infra/domains/default/security-policies/mine", "people, by weft apply"},
		{"/infra/domains/default/security-policies/default-layer3-section", "nobody: the default rule"},
	} {
		for _, first := range [][]string{nil, {"blue"}, {"shop"}} {
			o, err := FindOrigin(t.Context(), c, tc.policy, first...)
			if err != nil || o.String() != tc.want {
				t.Errorf("%s: %s (%v), want %s", tc.policy, o, err, tc.want)
			}
		}
	}
}

// story is two pods of two namespaces, and the way from one to the other.
func story(t *testing.T) Question {
	t.Helper()
	envoy, web := pod("envoy-1", "True", "app", "envoy", "pod-template-hash", "5"), pod("web-1", "True", "app", "web")
	envoy.Namespace = "edge"
	from, to := ends(t, cluster(t, envoy, web), "edge/pod/envoy-1", "pod/web-1")
	return Question{from, to, Protocol{"TCP", 80}}
}

// found returns who made policies: shop, its NetworkPolicy db, by path alone else.
func found(policy string) Origin {
	o := OriginOf(policy)
	switch o.Kind {
	case "Namespace":
		o.Name = "shop"
	case "NetworkPolicy":
		o.Namespace, o.Name = "shop", "db"
	case "ClusterNetworkPolicy":
		o.Name = "strict"
	}
	return o
}

// allowed is the status of a packet that three rules allowed.
func allowed() v1alpha1.TraceStatus {
	return v1alpha1.TraceStatus{Phase: v1alpha1.TraceDone, Delivered: true, Disposition: "delivered", Rules: []v1alpha1.TraceRule{
		{Stage: "dfw_out", At: "port edge/envoy-1", ID: 2, Policy: intent.DefaultPolicyPath, Category: "Application", Action: v1alpha1.TraceAllow},
		{Stage: "gateway_in", At: "tier-1 shop", ID: 1009, Name: "two words", Policy: "/infra/domains/default/gateway-policies/mine", Category: "LocalGatewayRules", Action: v1alpha1.TraceAllow},
		{Stage: "dfw_in", At: "port shop/web-1", ID: 1007, Name: "TCP.80-ingress-allow", Policy: ncp.NetworkPolicyAllowPath("c", uid), Category: "Application", Action: v1alpha1.TraceAllow},
	}}
}

func TestExplainAllowed(t *testing.T) {
	a := Explain(story(t), allowed(), found)
	const want = `allowed: pod edge/envoy-1 → pod shop/web-1, tcp/80
STAGE       AT                 RULE  NAME                  ACTION  CATEGORY           MADE BY
dfw_out     port edge/envoy-1  2     -                     allows  Application        nobody: the default rule
gateway_in  tier-1 shop        1009  two words             allows  LocalGatewayRules  people, by weft apply
dfw_in      port shop/web-1    1007  TCP.80-ingress-allow  allows  Application        NetworkPolicy shop/db
`
	if d := gocmp.Diff(want, a.Text()); d != "" {
		t.Error(d)
	}
	if a.Verdict() != nil || a.NetworkPolicy != nil {
		t.Errorf("a verdict of what is delivered: %q", a.Verdict())
	}
}

// drop is the status of a packet that a rule dropped at a port.
func drop(stage, policy, name, category string) v1alpha1.TraceStatus {
	r := v1alpha1.TraceRule{Stage: stage, At: "port shop/web-1", ID: 1005, Name: name, Policy: policy, Category: category, Action: v1alpha1.TraceDrop}
	return v1alpha1.TraceStatus{
		Phase: v1alpha1.TraceDone, Disposition: "dropped", Reason: "dfw_rule", Advice: "an ALLOW above it would let it pass",
		At: r.At, Stage: r.Stage, Rule: &r, Rules: []v1alpha1.TraceRule{r},
	}
}

func TestExplainDropped(t *testing.T) {
	mine := "/infra/domains/default/security-policies/mine"
	for _, tc := range []struct {
		name   string
		status v1alpha1.TraceStatus
		want   string // Verdict
		policy string // Namespace and name of the suggestion
	}{
		{
			"isolation", drop("dfw_in", ncp.IsolationPath("c", uid), "deny-all-ingress", "Application"), `
rule:     1005 deny-all-ingress, category Application, at port shop/web-1 (dfw_in)
policy:   /infra/domains/c/security-policies/is_` + uid + `
made by:  isolation of Namespace shop
to do:    a NetworkPolicy in namespace shop that allows it
`, "shop/allow-from-edge-envoy-1",
		},
		{
			"network policy", drop("dfw_in", ncp.NetworkPolicyIsolationPath("c", uid), "deny-all-ingress", "Application"), `
rule:     1005 deny-all-ingress, category Application, at port shop/web-1 (dfw_in)
policy:   /infra/domains/c/security-policies/np_` + uid + `_isolation
made by:  NetworkPolicy shop/db
to do:    allow it in NetworkPolicy shop/db, or in another NetworkPolicy of namespace shop
`, "shop/allow-from-edge-envoy-1",
		},
		{
			"egress", drop("dfw_out", ncp.NetworkPolicyIsolationPath("c", uid), "deny-all-egress", "Application"), `
rule:     1005 deny-all-egress, category Application, at port shop/web-1 (dfw_out)
policy:   /infra/domains/c/security-policies/np_` + uid + `_isolation
made by:  NetworkPolicy shop/db
to do:    allow it in NetworkPolicy shop/db, or in another NetworkPolicy of namespace shop
`, "edge/allow-to-shop-web-1",
		},
		{
			"cluster policy before", drop("dfw_in", ncp.PolicyPath("c", ncp.PrefixClusterPolicy.ID(uid)), "no-web", "Environment"), `
rule:     1005 no-web, category Environment, at port shop/web-1 (dfw_in)
policy:   /infra/domains/c/security-policies/cnp_` + uid + `
made by:  ClusterNetworkPolicy strict
to do:    change ClusterNetworkPolicy strict: it decides before all NetworkPolicies
`, "",
		},
		{
			"cluster policy behind", drop("dfw_in", ncp.PolicyPath("c", ncp.PrefixClusterPolicy.OrderedID(3, uid)), "no-web", "Application"), `
rule:     1005 no-web, category Application, at port shop/web-1 (dfw_in)
policy:   /infra/domains/c/security-policies/cnp_0003_` + uid + `
made by:  ClusterNetworkPolicy strict
to do:    change ClusterNetworkPolicy strict, or allow it by a NetworkPolicy in namespace shop, which comes before
`, "shop/allow-from-edge-envoy-1",
		},
		{
			"people", drop("dfw_in", mine, "no-ssh", "Infrastructure"), `
rule:     1005 no-ssh, category Infrastructure, at port shop/web-1 (dfw_in)
policy:   ` + mine + `
made by:  people, by weft apply
to do:    change the rule by weft apply ('weft get ` + mine + ` --below' prints it): Kubernetes knows nothing of it
`, "",
		},
		{
			"no rule", v1alpha1.TraceStatus{Disposition: "dropped", Reason: "no_route", Advice: "add a route", At: "tier-1 x", Stage: "route"}, `
reason:   no_route
to do:    add a route
`, "",
		},
		{
			"reply", v1alpha1.TraceStatus{Disposition: "delivered", Reason: "dfw_rule", Advice: "x", Rule: &v1alpha1.TraceRule{ID: 1005, Name: "deny-all-ingress", Policy: ncp.IsolationPath("c", uid), Category: "Application"}}, `
rule:     1005 deny-all-ingress, category Application
policy:   /infra/domains/c/security-policies/is_` + uid + `
made by:  isolation of Namespace shop
to do:    a NetworkPolicy in namespace shop that allows it
`, "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := Explain(story(t), tc.status, found)
			got := "\n" + strings.Join(a.Verdict(), "\n") + "\n"
			if d := gocmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
			policy := ""
			if a.NetworkPolicy != nil {
				policy = a.NetworkPolicy.Namespace + "/" + a.NetworkPolicy.Name
			}
			if policy != tc.policy {
				t.Errorf("suggests %q, want %q", policy, tc.policy)
			}
		})
	}
}

func TestTextOfIsolation(t *testing.T) {
	const want = `dropped: pod edge/envoy-1 → pod shop/web-1, tcp/80
rule:     1005 deny-all-ingress, category Application, at port shop/web-1 (dfw_in)
policy:   /infra/domains/c/security-policies/is_` + uid + `
made by:  isolation of Namespace shop
to do:    a NetworkPolicy in namespace shop that allows it

such as this, with 'kubectl apply -f -':

# pods that a NetworkPolicy selects take only what NetworkPolicies allow, also from their own namespace
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: allow-from-edge-envoy-1
  namespace: shop
spec:
  ingress:
  - from:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: edge
      podSelector:
        matchLabels:
          app: envoy
    ports:
    - port: 80
      protocol: TCP
  podSelector:
    matchLabels:
      app: web
  policyTypes:
  - Ingress
`
	a := Explain(story(t), drop("dfw_in", ncp.IsolationPath("c", uid), "deny-all-ingress", "Application"), found)
	if d := gocmp.Diff(want, a.Text()); d != "" {
		t.Error(d)
	}
}

func TestSuggest(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metaOf("web"), Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.9", Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}},
	}}
	bare := service.DeepCopy()
	bare.Name, bare.Spec.Selector = "bare", nil
	c := cluster(t, pod("a", "True", "app", "a"), pod("b", "True"), service, bare)
	for _, tc := range []struct {
		name, from, to, proto string
		egress                bool
		want                  string // lines that the YAML has, in order
	}{
		{name: "service", from: "pod/a", to: "svc/web", proto: "tcp/80", want: "name: allow-from-a;- podSelector:;app: a;port: http;app: web;- Ingress"},
		{name: "outside", from: "192.0.2.1", to: "pod/a", proto: "udp/53", want: "name: allow-from-192.0.2.1;cidr: 192.0.2.1/32;port: 53;protocol: UDP;app: a"},
		{name: "outside, IPv6", from: "2001:db8::1", to: "pod/a", proto: "udp/53", want: "name: allow-from-2001-db8--1;cidr: 2001:db8::1/128"},
		{name: "icmp", from: "pod/a", to: "pod/b", proto: "icmp", want: "# pod shop/b has no labels;# a NetworkPolicy has no word for ICMP;- from:;podSelector: {}"},
		{name: "egress", from: "pod/a", to: "192.0.2.1", proto: "tcp/443", egress: true, want: "name: allow-to-192.0.2.1;egress:;port: 443;to:;cidr: 192.0.2.1/32;app: a;- Egress"},
		{name: "no selector", from: "pod/a", to: "svc/bare", proto: "tcp/80"},
		{name: "an address", from: "pod/a", to: "192.0.2.1", proto: "tcp/80"},
	} {
		from, to := ends(t, c, tc.from, tc.to)
		proto, err := ParseProtocol(tc.proto)
		if err != nil {
			t.Fatal(err)
		}
		s := Suggest(Question{from, to, proto}, tc.egress)
		if (s == nil) != (tc.want == "") {
			t.Errorf("%s: suggests %+v", tc.name, s)
		}
		if s == nil {
			continue
		}
		rest := s.YAML()
		for part := range strings.SplitSeq(tc.want, ";") {
			_, after, ok := strings.Cut(rest, part)
			if !ok {
				t.Errorf("%s: no %q in order:\n%s", tc.name, part, s.YAML())
				break
			}
			rest = after
		}
		if tc.proto == "icmp" && strings.Contains(s.YAML(), "ports:") {
			t.Errorf("%s: names ports:\n%s", tc.name, s.YAML())
		}
	}
}
