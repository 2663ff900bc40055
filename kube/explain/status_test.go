package explain

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What an object says of itself, where weftd is not asked.
func TestPrintStatus(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: uid, Annotations: map[string]string{
		"ncp/router_id": "t1_" + uid + "_rtr", "ncp/snat_ip": "172.16.2.1", "ncp/subnet-0": "10.244.0.16/28", "example.com/other": "x",
	}}}
	namespace.Status.Conditions = []corev1.NamespaceCondition{
		{Type: "NetworkReady", Status: "True", Reason: "Realized"}, {Type: "NamespaceContentRemaining", Status: "False"},
	}
	web := pod("web-1", "True")
	web.UID, web.Spec.NodeName = other, "node1"
	web.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.18"}}
	web.Status.Conditions = append(web.Status.Conditions, corev1.PodCondition{Type: "weft.dev/NetworkReady", Status: "False", Reason: "Pending", Message: "waits for node1"})
	svc := &corev1.Service{ObjectMeta: metaOf("web"), Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.9"}}}
	svc.UID, svc.Annotations = other, map[string]string{"ncp/error.loadbalancer": "IP_POOL_EXHAUSTED"}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "172.16.1.4"}}
	db := &netv1.NetworkPolicy{ObjectMeta: metaOf("db")}
	db.UID = other
	var b strings.Builder
	for _, tc := range []struct {
		kind   string
		object client.Object
	}{{Namespace, namespace}, {Pod, web}, {Service, svc}, {NetworkPolicy, db}} {
		if err := PrintStatus(&b, Ref{Kind: tc.kind, Namespace: tc.object.GetNamespace(), Name: tc.object.GetName()}, tc.object); err != nil {
			t.Fatal(err)
		}
		b.WriteString("--\n")
	}
	golden(t, "status", b.String())
}
