package scale

import (
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Where addresses come from. They have room for the most that check allows.
const (
	clusterID   = "domain-c8"
	podCIDR     = "10.128.0.0/12"
	serviceCIDR = "10.96.0.0/18"
	ingressCIDR = "10.15.0.0/18"
	egressCIDR  = "10.223.0.0/18"
	edgeCluster = "/infra/sites/default/enforcement-points/default/edge-clusters/ec"
	mostPods    = 1000 // of a namespace
)

// provider is what stands around the tenants.
const provider = `{"resource_type":"Infra","children":[{"resource_type":"ChildTier0","Tier0":{"id":"provider","children":[
{"resource_type":"ChildLocaleServices","LocaleServices":{"id":"default","edge_cluster_path":"` + edgeCluster + `","children":[
{"resource_type":"ChildTier0Interface","Tier0Interface":{"id":"uplink","subnets":[{"ip_addresses":["192.168.105.1"],"prefix_len":24}]}}]}},
{"resource_type":"ChildStaticRoutes","StaticRoutes":{"id":"default","network":"0.0.0.0/0","next_hops":[{"ip_address":"192.168.105.253"}]}}]}}]}`

// supervisor is the body of the Supervisor.
const supervisor = `{"apiVersion":"weft.dev/v1alpha1","kind":"Supervisor","metadata":{"name":"default"},"spec":{"clusterID":"` + clusterID + `",
"tier0Path":"/infra/tier-0s/provider","edgeClusterPath":"` + edgeCluster + `","namespaceNetworkCIDRs":["` + podCIDR + `"],
"namespaceSubnetPrefix":28,"serviceCIDR":"` + serviceCIDR + `","ingressCIDRs":["` + ingressCIDR + `"],"egressCIDRs":["` + egressCIDR + `"]}}`

// The labels of pods are those of an application of five parts.
const (
	appLabel  = "app"
	tierLabel = "tier"
	teamLabel = "team" // of namespaces
	apps      = 5
	teams     = 50
)

func namespaceName(i int) string { return fmt.Sprintf("ns-%04d", i) }
func teamOf(i int) string        { return "team-" + strconv.Itoa(i%teams) }
func appOf(i int) string         { return "app-" + strconv.Itoa(i%apps) }

// tierOf returns the tier of a part: one in front, three behind, one database.
func tierOf(app int) string {
	switch app % apps {
	case 0:
		return "frontend"
	case apps - 1:
		return "db"
	}
	return "backend"
}

// namespace is the i-th one.
func namespace(i int) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(i), Labels: map[string]string{teamLabel: teamOf(i)}}}
}

// account is what the API server wants before it takes pods.
func account(i int) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(i), Name: "default"}}
}

// pod is the i-th one, bound to a node: pods go round the namespaces.
func (s Size) pod(i int) *corev1.Pod {
	no, k := false, i/s.Namespaces
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceName(i % s.Namespaces), Name: fmt.Sprintf("%s-%05d", appOf(k), i),
			Labels: map[string]string{appLabel: appOf(k), tierLabel: tierOf(k), "pod-template-hash": "5d8f7c"},
		},
		Spec: corev1.PodSpec{
			NodeName: "worker-" + strconv.Itoa(i%200), AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{Name: "main", Image: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
	}
}

// service is the i-th one: every tenth is a load balancer, every fifth has two
// ports.
func (s Size) service(i int) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(i % s.Namespaces), Name: fmt.Sprintf("svc-%05d", i)},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{appLabel: appOf(i / s.Namespaces)},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if i%10 == 0 {
		out.Spec.Type = corev1.ServiceTypeLoadBalancer
	}
	if i%5 == 0 {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 9090, TargetPort: intstr.FromInt32(9090)})
	}
	return out
}

// endpoints is the EndpointSlice of the i-th Service. addrs are those of pods, by
// their number.
func (s Size) endpoints(i int, addrs []netip.Addr) *discoveryv1.EndpointSlice {
	svc := s.service(i)
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: svc.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range svc.Spec.Ports {
		port := p.TargetPort.IntVal
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &port})
	}
	for n := i % s.Namespaces; n < len(addrs); n += s.Namespaces {
		if appOf(n/s.Namespaces) == svc.Spec.Selector[appLabel] && addrs[n].IsValid() {
			ready := true
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{addrs[n].String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
	}
	return out
}

// policy is the i-th NetworkPolicy: they go round the namespaces, and there are
// five kinds of them.
func (s Size) policy(i int) *netv1.NetworkPolicy {
	n, k := i%s.Namespaces, i/s.Namespaces
	out := &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceName(n), Name: fmt.Sprintf("policy-%05d", i)}}
	tcp, udp := corev1.ProtocolTCP, corev1.ProtocolUDP
	port := func(proto *corev1.Protocol, first, last int32) netv1.NetworkPolicyPort {
		number := intstr.FromInt32(first)
		p := netv1.NetworkPolicyPort{Protocol: proto, Port: &number}
		if last > first {
			p.EndPort = &last
		}
		return p
	}
	selects := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	from := func(ports []netv1.NetworkPolicyPort, peers ...netv1.NetworkPolicyPeer) {
		out.Spec.Ingress = []netv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	}
	switch i % 5 {
	case 0: // one part is asked by its neighbour
		out.Spec.PodSelector = *selects(appLabel, appOf(k))
		from([]netv1.NetworkPolicyPort{port(&tcp, 8080, 0)}, netv1.NetworkPolicyPeer{PodSelector: selects(appLabel, appOf(k+1))})
	case 1: // the team's front ends
		out.Spec.PodSelector = *selects(tierLabel, "backend")
		from([]netv1.NetworkPolicyPort{port(&tcp, 8080, 0), port(&tcp, 9090, 0)},
			netv1.NetworkPolicyPeer{NamespaceSelector: selects(teamLabel, teamOf(n)), PodSelector: selects(tierLabel, "frontend")})
	case 2: // what may be asked outside
		out.Spec.PodSelector = *selects(appLabel, appOf(k))
		out.Spec.PolicyTypes = []netv1.PolicyType{netv1.PolicyTypeEgress}
		block := &netv1.IPBlock{CIDR: fmt.Sprintf("172.%d.0.0/16", 16+i%16), Except: []string{fmt.Sprintf("172.%d.7.0/24", 16+i%16)}}
		out.Spec.Egress = []netv1.NetworkPolicyEgressRule{
			{To: []netv1.NetworkPolicyPeer{{IPBlock: block}}, Ports: []netv1.NetworkPolicyPort{port(&tcp, 443, 0)}},
			{Ports: []netv1.NetworkPolicyPort{port(&udp, 53, 0), port(&tcp, 53, 0)}},
		}
	case 3: // the database
		out.Spec.PodSelector = *selects(tierLabel, "db")
		from([]netv1.NetworkPolicyPort{port(&tcp, 5432, 0)}, netv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: appLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{appOf(k), appOf(k + 2)}}},
		}})
	default: // another namespace, and a range of ports
		out.Spec.PodSelector = *selects(tierLabel, "frontend")
		from([]netv1.NetworkPolicyPort{port(&tcp, 8000, 8099)},
			netv1.NetworkPolicyPeer{NamespaceSelector: selects(corev1.LabelMetadataName, namespaceName((n+1)%s.Namespaces))})
	}
	return out
}

// isolated is a policy that closes the pods with a label.
func isolated(namespace, name, key, value string) *netv1.NetworkPolicy {
	return &netv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: netv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{key: value}}, PolicyTypes: []netv1.PolicyType{netv1.PolicyTypeIngress},
		},
	}
}

// known is a pod that the API server has.
type known struct {
	name types.NamespacedName
	uid  types.UID
}
