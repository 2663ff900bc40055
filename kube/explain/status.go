package explain

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
)

// PrintStatus prints what an object itself says of its network: addresses,
// annotations, conditions, and the names of what stands behind it.
func PrintStatus(w io.Writer, r Ref, o client.Object) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, UID %s\n\n", r, o.GetUID())
	switch o := o.(type) {
	case *corev1.Pod:
		var addresses []string
		for _, a := range o.Status.PodIPs {
			addresses = append(addresses, a.IP)
		}
		facts(&out, [2]string{"address", strings.Join(addresses, ", ")}, [2]string{"node", o.Spec.NodeName})
	case *corev1.Service:
		var outside []string
		for _, i := range o.Status.LoadBalancer.Ingress {
			outside = append(outside, cmp.Or(i.IP, i.Hostname))
		}
		facts(&out, [2]string{"cluster IP", strings.Join(o.Spec.ClusterIPs, ", ")}, [2]string{"load balancer", strings.Join(outside, ", ")})
	case *corev1.Namespace:
		facts(&out, [2]string{"gateway", o.Annotations[ncp.AnnotationRouter]}, [2]string{"egress", o.Annotations[ncp.AnnotationSNAT]})
	case *netv1.NetworkPolicy:
		cluster, uid := ncp.DefaultCluster, string(o.UID)
		facts(&out,
			[2]string{"allows by", ncp.NetworkPolicyAllowName(o.Namespace, o.Name) + ", id " + tail(ncp.NetworkPolicyAllowPath(cluster, uid))},
			[2]string{"isolates by", ncp.NetworkPolicyIsolationName(o.Namespace, o.Name) + ", id " + tail(ncp.NetworkPolicyIsolationPath(cluster, uid))})
	}
	for _, key := range slices.Sorted(maps.Keys(o.GetAnnotations())) {
		if strings.HasPrefix(key, "ncp/") || strings.HasPrefix(key, "weft.dev/") {
			facts(&out, [2]string{key, o.GetAnnotations()[key]})
		}
	}
	table(&out, conditionsOf(o))
	_, err := io.WriteString(w, out.String())
	return err
}

func tail(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// conditionRow is one condition.
type conditionRow metav1.Condition

func (conditionRow) Columns() []string {
	return []string{"CONDITION", "STATUS", "REASON", "MESSAGE"}
}
func (r conditionRow) Row() []string {
	return []string{r.Type, string(r.Status), r.Reason, r.Message}
}

// conditionsOf returns the conditions that are about the network.
func conditionsOf(o client.Object) []conditionRow {
	var out []conditionRow
	add := func(kind string, status, reason, message string) {
		if strings.HasSuffix(kind, "NetworkReady") {
			out = append(out, conditionRow{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message})
		}
	}
	switch o := o.(type) {
	case *v1alpha1.Supervisor:
		for _, c := range o.Status.Conditions {
			out = append(out, conditionRow(c))
		}
	case *corev1.Pod:
		for _, c := range o.Status.Conditions {
			add(string(c.Type), string(c.Status), c.Reason, c.Message)
		}
	case *corev1.Service:
		for _, c := range o.Status.Conditions {
			add(c.Type, string(c.Status), c.Reason, c.Message)
		}
	case *corev1.Namespace:
		for _, c := range o.Status.Conditions {
			add(string(c.Type), string(c.Status), c.Reason, c.Message)
		}
	}
	return out
}
