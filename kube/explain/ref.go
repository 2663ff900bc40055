package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// Kinds of what people name. Address is not of Kubernetes.
const (
	Pod           = "Pod"
	Deployment    = "Deployment"
	StatefulSet   = "StatefulSet"
	DaemonSet     = "DaemonSet"
	ReplicaSet    = "ReplicaSet"
	Service       = "Service"
	Namespace     = "Namespace"
	NetworkPolicy = "NetworkPolicy"
	Supervisor    = "Supervisor"
	Address       = "Address"

	AdminNetworkPolicy         = "AdminNetworkPolicy"
	BaselineAdminNetworkPolicy = "BaselineAdminNetworkPolicy"
	ClusterNetworkPolicy       = "ClusterNetworkPolicy"
)

// isOfCluster reports whether objects of a kind are in no namespace.
func isOfCluster(kind string) bool {
	switch kind {
	case Namespace, Supervisor, AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy:
		return true
	}
	return false
}

// Versions returns the API group of a kind with its versions, of which a cluster
// has one at least, if it has the kind. Source of the policies':
// kubernetes-sigs/network-policy-api.
func Versions(kind string) []schema.GroupVersion {
	const policy = "policy.networking.k8s.io"
	switch kind {
	case NetworkPolicy:
		return []schema.GroupVersion{netv1.SchemeGroupVersion}
	case Deployment, StatefulSet, DaemonSet, ReplicaSet:
		return []schema.GroupVersion{appsv1.SchemeGroupVersion}
	case Supervisor:
		return []schema.GroupVersion{v1alpha1.GroupVersion()}
	case AdminNetworkPolicy, BaselineAdminNetworkPolicy:
		return []schema.GroupVersion{{Group: policy, Version: "v1alpha1"}}
	case ClusterNetworkPolicy:
		return []schema.GroupVersion{{Group: policy, Version: "v1beta1"}, {Group: policy, Version: "v1alpha2"}}
	}
	return []schema.GroupVersion{corev1.SchemeGroupVersion}
}

// SourceKinds returns the kinds that a connection can come from.
func SourceKinds() []string {
	return []string{Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Address}
}

// DestinationKinds returns the kinds that a connection can go to.
func DestinationKinds() []string {
	return []string{Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Service, Address}
}

// Word returns a kind as people type it: the first of its words.
func Word(kind string) string {
	if w := words(kind); len(w) > 0 {
		return w[0]
	}
	return strings.ToLower(kind)
}

// words returns what kubectl takes for a kind.
func words(kind string) []string {
	switch kind {
	case Pod:
		return []string{"pod", "pods", "po"}
	case Deployment:
		return []string{"deployment", "deployments", "deploy"}
	case StatefulSet:
		return []string{"statefulset", "statefulsets", "sts"}
	case DaemonSet:
		return []string{"daemonset", "daemonsets", "ds"}
	case ReplicaSet:
		return []string{"replicaset", "replicasets", "rs"}
	case Service:
		return []string{"svc", "service", "services"}
	case Namespace:
		return []string{"namespace", "namespaces", "ns"}
	case NetworkPolicy:
		return []string{"networkpolicy", "networkpolicies", "netpol"}
	case Supervisor:
		return []string{"supervisor", "supervisors"}
	case AdminNetworkPolicy:
		return []string{"adminnetworkpolicy", "adminnetworkpolicies", "anp"}
	case BaselineAdminNetworkPolicy:
		return []string{"baselineadminnetworkpolicy", "baselineadminnetworkpolicies", "banp"}
	case ClusterNetworkPolicy:
		return []string{"clusternetworkpolicy", "clusternetworkpolicies", "cnp"}
	}
	return nil
}

// Ref is what people name.
type Ref struct {
	Kind      string
	Namespace string     // valid iff objects of Kind are in one
	Name      string     // valid unless Kind is Address
	Address   netip.Addr // valid iff Kind is Address
}

// ParseRef reads KIND/NAME, NAMESPACE/KIND/NAME or an address. namespace is that
// of a KIND/NAME; kinds are those that are meant. The kind may have its group, as
// in deployment.apps/web.
func ParseRef(namespace, text string, kinds ...string) (Ref, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && slices.Contains(kinds, Address) {
		return Ref{Kind: Address, Address: a.Unmap()}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		namespace, parts = parts[0], parts[1:]
	}
	bad := func(fact string) (Ref, error) {
		return Ref{}, fmt.Errorf("%s: %s (%s)", strconv.Quote(text), fact, forms(kinds))
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" || namespace == "" {
		return bad("is not KIND/NAME")
	}
	word, _, _ := strings.Cut(strings.ToLower(parts[0]), ".")
	for _, kind := range kinds {
		if slices.Contains(words(kind), word) {
			r := Ref{Kind: kind, Namespace: namespace, Name: parts[1]}
			if isOfCluster(kind) {
				r.Namespace = ""
			}
			return r, nil
		}
	}
	return bad(parts[0] + " is no kind that is meant here")
}

// forms says what ParseRef takes.
func forms(kinds []string) string {
	var out []string
	for _, kind := range kinds {
		if kind != Address {
			out = append(out, Word(kind)+"/NAME")
		}
	}
	if slices.Contains(kinds, Address) {
		out = append(out, "an address")
	}
	return strings.Join(out, ", ") + "; of another namespace NAMESPACE/KIND/NAME"
}

// String returns the reference as messages name it: pod shop/web-1.
func (r Ref) String() string {
	switch {
	case r.Kind == Address:
		return r.Address.String()
	case r.Namespace == "":
		return Word(r.Kind) + " " + r.Name
	}
	return Word(r.Kind) + " " + r.Namespace + "/" + r.Name
}

// Protocol is a protocol and the destination's port.
type Protocol struct {
	Name string // TCP, UDP or ICMP
	Port int32  // 1 to 65535; 0 iff Name is ICMP
}

// ParseProtocol reads tcp/PORT, udp/PORT or icmp.
func ParseProtocol(text string) (Protocol, error) {
	name, number, _ := strings.Cut(strings.ToLower(text), "/")
	if name == "icmp" && number == "" && !strings.Contains(text, "/") {
		return Protocol{Name: "ICMP"}, nil
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if (name == "tcp" || name == "udp") && err == nil && port > 0 {
		return Protocol{Name: strings.ToUpper(name), Port: int32(port)}, nil
	}
	return Protocol{}, fmt.Errorf("PROTOCOL: %q: is no protocol (tcp/PORT, udp/PORT, icmp)", text)
}

// String is the inverse of ParseProtocol.
func (p Protocol) String() string {
	if p.Port == 0 {
		return strings.ToLower(cmp.Or(p.Name, "ICMP"))
	}
	return strings.ToLower(p.Name) + "/" + strconv.Itoa(int(p.Port))
}
