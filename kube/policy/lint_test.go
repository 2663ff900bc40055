package policy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}}}
}

func podWith(label string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: label, Labels: map[string]string{"app": label}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}}}
}

func TestLint(t *testing.T) {
	pods := map[string][]*corev1.Pod{
		"ns-hackazon-app":       {podWith("hackazon-shop", corev1.ContainerPort{Name: "http", ContainerPort: 80}), podWith("contour")},
		"svc-contour-domain-c8": {podWith("envoy")},
	}
	view := View{
		Namespaces: func(s labels.Selector) []*corev1.Namespace {
			all := []*corev1.Namespace{namespace("ns-hackazon-app"), namespace("svc-contour-domain-c8"), namespace("empty")}
			return slices.DeleteFunc(all, func(n *corev1.Namespace) bool { return !s.Matches(labels.Set(n.Labels)) })
		},
		Pods:     func(n string) []*corev1.Pod { return pods[n] },
		Ports:    hackazon.Ports,
		Policies: []*netv1.NetworkPolicy{read(t, "{metadata: {name: dns}, spec: {podSelector: {matchLabels: {app: contour}}, policyTypes: [Egress], egress: [{ports: [{protocol: UDP, port: 1, endPort: 99}]}]}}")},
	}
	for _, tc := range []struct {
		name, spec string
		want       []string
	}{
		{"the web shop's OR", `{podSelector: {matchLabels: {app: hackazon-shop}}, ingress: [{ports: [{port: http}], from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: svc-contour-domain-c8}}}, {podSelector: {matchLabels: {app: contour}}}]}]}`, []string{
			"spec.ingress[0].from: elements 0 and 1 are an OR: all pods of namespaces with kubernetes.io/metadata.name=svc-contour-domain-c8, or pods with app=contour of namespace ns-hackazon-app (to mean pods with app=contour of namespaces with kubernetes.io/metadata.name=svc-contour-domain-c8, write both selectors in one element, without the dash before the second)",
		}},
		{"its AND", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: svc-contour-domain-c8}}, podSelector: {matchLabels: {app: envoy}}}]}]}`, nil},
		{"nobody", `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: x}}}]}, {from: [{namespaceSelector: {matchLabels: {team: x}}}]}, {from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: q}}}]}, {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: empty}}}]}]}`, []string{
			"spec.podSelector: pods with app=web of namespace ns-hackazon-app: selects no pod of namespace ns-hackazon-app now",
			"spec.ingress[0].from[0].podSelector: pods with app=x of namespace ns-hackazon-app: nobody is one now",
			"spec.ingress[1].from[0].namespaceSelector: team=x: no namespace has these labels now",
			"spec.ingress[2].from[0]: pods with app=q of all namespaces: nobody is one now",
			"spec.ingress[3].from[0]: all pods of namespaces with kubernetes.io/metadata.name=empty: nobody is one now",
		}},
		{"types", `{podSelector: {}, policyTypes: [Ingress], egress: [{}]}`, []string{
			"spec.policyTypes: has no Egress: the rules of spec.egress have no effect (add Egress)",
		}},
		{"types the other way", `{podSelector: {}, policyTypes: [Egress], egress: [{}], ingress: [{}]}`, []string{
			"spec.policyTypes: has no Ingress: the rules of spec.ingress have no effect (add Ingress)",
		}},
		{"named ports", `{podSelector: {}, ingress: [{ports: [{port: http}, {port: http, protocol: UDP}]}], egress: [{ports: [{protocol: UDP, port: dns}, {port: dns}]}]}`, []string{
			"spec.ingress[0].ports[1].port: http: no pod that the policy selects has a UDP port of that name now",
			"spec.egress[0].ports[1].port: dns: no pod has a TCP port of that name now",
		}},
		{"names", `{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}, {ports: [{protocol: UDP, port: 54}]}]}`, []string{
			"spec.egress: lets no DNS out: the pods cannot look names up (add a rule with ports UDP 53 and TCP 53)",
		}},
		{"names by another policy", `{podSelector: {matchLabels: {app: contour}}, policyTypes: [Egress]}`, nil},
		{"blocks", `{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.1.0/24, 10.0.0.0/8, 10.0.0.0/25]}}]}]}`, []string{
			"spec.ingress[0].from[0].ipBlock.except[0]: 10.0.1.0/24: is outside of 10.0.0.0/24, so it takes nothing away",
			"spec.ingress[0].from[0].ipBlock.except[1]: 10.0.0.0/8: takes all of 10.0.0.0/24 away, so that nothing is left",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, f := range Lint(read(t, "{metadata: {name: p}, spec: "+tc.spec+"}"), view) {
				got = append(got, f.String())
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestAbove is the override of everything, two categories above, and rules that
// are for some only.
func TestAbove(t *testing.T) {
	tree := intent.NewTree()
	put := func(path string, o intent.Object) intent.Change { return intent.Put("/infra/domains/default/"+path, o) }
	all := []string{"10.244.0.0/19"}
	everyone, _ := (&draft{at: hackazon}).podsIn(nil, nil, [2]string{})
	_, problems := tree.Apply([]intent.Change{
		put("groups/g", &intent.Group{}),
		put("security-policies/p", &intent.SecurityPolicy{Resource: intent.Resource{DisplayName: "OverwriteEverything"}, Category: "Infrastructure"}),
		put("security-policies/p/rules/AnyAnyAny", &intent.Rule{Action: "ALLOW", SourceGroups: all, DestinationGroups: all}),
		put("security-policies/p/rules/in", &intent.Rule{Action: "REJECT", Direction: "IN", SourceGroups: all, SourcesExcluded: true}),
		put("security-policies/p/rules/off", &intent.Rule{Action: "DROP", Disabled: true}),
		put("security-policies/p/rules/group", &intent.Rule{Action: "DROP", SourceGroups: []string{"/infra/domains/default/groups/g"}}),
		put("security-policies/p/rules/scope", &intent.Rule{Action: "DROP", Scope: []string{"/infra/domains/default/groups/g"}}),
		put("security-policies/p/rules/service", &intent.Rule{Action: "DROP", ServiceEntries: []intent.ServiceEntry{&intent.IGMPTypeServiceEntry{}}}),
		put("groups/all", &intent.Group{Expression: expression([]term{everyone}, nil)}),
		put("security-policies/e", &intent.SecurityPolicy{Resource: intent.Resource{DisplayName: "cnp"}, Category: "Environment", Scope: []string{"/infra/domains/default/groups/all"}}),
		put("security-policies/e/rules/deny", &intent.Rule{Action: "DROP", Direction: "IN", SourceGroups: []string{"/infra/domains/default/groups/all"}}),
		put("security-policies/e/rules/group", &intent.Rule{Action: "DROP", SourceGroups: []string{"/infra/domains/default/groups/g"}}),
		put("security-policies/e/rules/jump", &intent.Rule{Action: "JUMP_TO_APPLICATION"}),
		put("security-policies/a", &intent.SecurityPolicy{Category: "Application"}),
		put("security-policies/a/rules/r", &intent.Rule{Action: "DROP"}),
	})
	if problems != nil {
		t.Fatal(problems)
	}
	want := []Above{
		{true, false, "rule deny of policy cnp (category Environment) drops all pods to everybody"},
		{true, true, "rule AnyAnyAny of policy OverwriteEverything (category Infrastructure) allows 10.244.0.0/19 to 10.244.0.0/19"},
		{true, false, "rule in of policy OverwriteEverything (category Infrastructure) rejects everybody but 10.244.0.0/19 to everybody"},
	}
	above := AboveOf(tree)
	if d := cmp.Diff(want, above); d != "" {
		t.Error(d)
	}
	got := Lint(read(t, "{metadata: {name: p}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}}"), View{Above: above})
	if d := cmp.Diff([]Finding{{"", "comes after rules of higher categories, which decide first: " + want[1].Text}}, got); d != "" {
		t.Error(d)
	}
}

// TestPortNamesAreTags compares what the book counts with the tags that groups
// look for.
func TestPortNamesAreTags(t *testing.T) {
	pod := podWith("a",
		corev1.ContainerPort{Name: "http", ContainerPort: 80}, corev1.ContainerPort{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolUDP},
		corev1.ContainerPort{ContainerPort: 81}, corev1.ContainerPort{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP})
	pod.UID, pod.Namespace = "a", "x"
	pod.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "init", ContainerPort: 1}}}}
	b := newBook(nil)
	if got := len(b.set(pod, false)); got != 2*3 {
		t.Errorf("%d names changed, want 3 of the namespace and 3 of all", got)
	}
	if got := b.set(pod, false); got != nil {
		t.Errorf("the same again: %v changed", got)
	}
	for _, tag := range ncp.PortTags(clusterID, "uid", pod)[5:] {
		found := false
		for name, numbers := range portNames(pod) {
			for _, n := range numbers {
				found = found || tag.Scope == ncp.PortScope(string(name.proto), name.name) && tag.Tag == itoa(n)
			}
		}
		if !found {
			t.Errorf("%v is not in the book", tag)
		}
	}
	other := pod.DeepCopy()
	other.UID, other.Spec.Containers[0].Ports = "b", other.Spec.Containers[0].Ports[:1]
	if got := b.set(other, false); got != nil {
		t.Errorf("a second pod with the same numbers: %v changed", got)
	}
	elsewhere := podWith("c", corev1.ContainerPort{Name: "http", ContainerPort: 80}, corev1.ContainerPort{Name: "http", ContainerPort: 81})
	elsewhere.UID, elsewhere.Namespace = "c", "y"
	if got := len(b.set(elsewhere, false)); got != 2 {
		t.Errorf("a pod of another namespace: %d names changed, want that of its namespace and that of all", got)
	}
	numbers := func() map[string][]int32 {
		return map[string][]int32{"": b.numbers("", "TCP", "http"), "x": b.numbers("x", "TCP", "http"), "y": b.numbers("y", "TCP", "http")}
	}
	if d := cmp.Diff(map[string][]int32{"": {80, 81, 8080}, "x": {80, 8080}, "y": {80, 81}}, numbers()); d != "" {
		t.Error(d)
	}
	b.set(pod, true)
	b.set(elsewhere, true)
	if d := cmp.Diff(map[string][]int32{"": {80}, "x": {80}, "y": nil}, numbers()); d != "" {
		t.Error(d)
	}
	b.set(other, true)
	if len(b.pods) != 0 {
		t.Errorf("left: %v", b.pods)
	}
}
