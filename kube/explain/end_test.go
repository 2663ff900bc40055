package explain

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// cluster returns an API server that is none, with objects.
func cluster(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, netv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Trace{}).Build()
}

// metaOf returns the metadata of an object of namespace shop.
func metaOf(name string, labels ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "shop", Name: name}
	for i := 0; i < len(labels); i += 2 {
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		m.Labels[labels[i]] = labels[i+1]
	}
	return m
}

func selector(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

// pod returns a running pod, which is ready or not.
func pod(name string, ready corev1.ConditionStatus, labels ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metaOf(name, labels...),
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{ContainerPort: 9, Protocol: "SCTP"}, {ContainerPort: 8080}}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func TestResolve(t *testing.T) {
	hosted, done, bare := pod("hosted", "True"), pod("done", "False"), pod("bare", "True")
	hosted.Spec.HostNetwork, done.Status.Phase, bare.Spec.Containers[0].Ports = true, corev1.PodSucceeded, nil
	leaving := pod("web-0", "True", "app", "web")
	leaving.Finalizers, leaving.DeletionTimestamp = []string{"a/b"}, &metav1.Time{}
	leaving.DeletionTimestamp.Time = metav1.Now().Time
	c := cluster(t,
		pod("web-2", "True", "app", "web", "pod-template-hash", "1"), pod("web-1", "False", "app", "web"), pod("web-3", "True", "app", "web"), leaving,
		pod("db-0", "False", "app", "db", "statefulset.kubernetes.io/pod-name", "db-0"), hosted, done, bare,
		&appsv1.Deployment{ObjectMeta: metaOf("web"), Spec: appsv1.DeploymentSpec{Selector: selector("app", "web")}},
		&appsv1.StatefulSet{ObjectMeta: metaOf("db"), Spec: appsv1.StatefulSetSpec{Selector: selector("app", "db")}},
		&appsv1.DaemonSet{ObjectMeta: metaOf("none"), Spec: appsv1.DaemonSetSpec{Selector: selector("app", "none")}},
		&appsv1.ReplicaSet{ObjectMeta: metaOf("expr"), Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{"web", "other"}}},
		}}},
		&corev1.Service{ObjectMeta: metaOf("web"), Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.9", Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}, {Port: 443, Protocol: "TCP"}},
		}},
		&corev1.Service{ObjectMeta: metaOf("headless"), Spec: corev1.ServiceSpec{ClusterIP: "None"}},
	)
	web := map[string]string{"app": "web"}
	for _, tc := range []struct {
		text, want string
		labels     map[string]string
		proto      string
	}{
		{"pod/web-2", "pod shop/web-2", web, "tcp/8080"},
		{"pod/db-0", "pod shop/db-0", map[string]string{"app": "db"}, "tcp/8080"}, // it is named: ready or not
		{"pod/bare", "pod shop/bare", nil, "icmp"},
		{"deployment/web", "pod shop/web-2", web, "tcp/8080"},
		{"rs/expr", "pod shop/web-2", web, "tcp/8080"},
		{"svc/web", "svc shop/web", web, "tcp/80"},
		{"192.0.2.1", "192.0.2.1", nil, "icmp"},
		{text: "pod/hosted", want: "pod shop/hosted: has the network of its node (want a pod with an address of its own)"},
		{text: "pod/done", want: "pod shop/done: is finished (Succeeded)"},
		{text: "pod/gone", want: "pod shop/gone: does not exist"},
		{text: "blue/deploy/web", want: "deployment blue/web: does not exist"},
		{text: "svc/headless", want: "svc shop/headless: has no ClusterIP (want a pod or an address)"},
		{text: "sts/db", want: "statefulset shop/db: has no ready pod (db-0 is Running; or name one)"},
		{text: "ds/none", want: "daemonset shop/none: has no pods"},
	} {
		r, err := ParseRef("shop", tc.text, DestinationKinds()...)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Resolve(t.Context(), c, r)
		if err != nil {
			if tc.proto != "" || err.Error() != tc.want {
				t.Errorf("%s: error %q, want %q", tc.text, err, tc.want)
			}
			continue
		}
		if got := e.String(); got != tc.want || tc.proto != e.DefaultProtocol().String() {
			t.Errorf("%s: %s, %s; want %s, %s", tc.text, got, e.DefaultProtocol(), tc.want, tc.proto)
		}
		if d := gocmp.Diff(tc.labels, e.Labels); d != "" {
			t.Errorf("%s: labels (-want +got):\n%s", tc.text, d)
		}
	}
}

// ends returns the ends that texts name, in namespace shop.
func ends(t *testing.T, c client.Client, from, to string) (*End, *End) {
	t.Helper()
	var out [2]*End
	for i, text := range []string{from, to} {
		r, err := ParseRef("shop", text, DestinationKinds()...)
		if err == nil {
			out[i], err = Resolve(t.Context(), c, r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}

func TestQuestionAsksByATrace(t *testing.T) {
	far := pod("envoy", "True", "app", "envoy")
	far.Namespace = "edge"
	service := &corev1.Service{ObjectMeta: metaOf("web"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 80}}}}
	c := cluster(t, pod("a", "True"), pod("b", "True"), far, service)
	for _, tc := range []struct {
		from, to  string
		namespace string
		want      v1alpha1.TraceSpec
	}{
		{"pod/a", "pod/b", "shop", v1alpha1.TraceSpec{Source: v1alpha1.TraceSource{Pod: "a"}, Destination: v1alpha1.TraceDestination{Pod: "b"}}},
		{"edge/pod/envoy", "svc/web", "edge", v1alpha1.TraceSpec{Source: v1alpha1.TraceSource{Pod: "envoy"}, Destination: v1alpha1.TraceDestination{Service: "web", Namespace: "shop"}}},
		{"pod/a", "192.0.2.1", "shop", v1alpha1.TraceSpec{Source: v1alpha1.TraceSource{Pod: "a"}, Destination: v1alpha1.TraceDestination{Address: "192.0.2.1"}}},
		{"192.0.2.1", "edge/pod/envoy", "edge", v1alpha1.TraceSpec{Source: v1alpha1.TraceSource{Address: "192.0.2.1"}, Destination: v1alpha1.TraceDestination{Pod: "envoy"}}},
		{"192.0.2.1", "192.0.2.2", "mine", v1alpha1.TraceSpec{Source: v1alpha1.TraceSource{Address: "192.0.2.1"}, Destination: v1alpha1.TraceDestination{Address: "192.0.2.2"}}},
	} {
		from, to := ends(t, c, tc.from, tc.to)
		got := Question{from, to, Protocol{"TCP", 80}}.Trace("mine")
		tc.want.Protocol, tc.want.Port = "TCP", 80
		if d := gocmp.Diff(tc.want, got.Spec); d != "" || got.Namespace != tc.namespace || !strings.HasPrefix(got.GenerateName, "kubectl-weft-") {
			t.Errorf("%s → %s: in %s (-want +got):\n%s", tc.from, tc.to, got.Namespace, d)
		}
	}
}
