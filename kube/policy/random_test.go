package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"

	"github.com/weft-net/weft/intent"
)

func (d dice) selector() metav1.LabelSelector {
	var out metav1.LabelSelector
	for range d.IntN(2) {
		out.MatchLabels = map[string]string{d.key(): d.value()}
	}
	for range d.IntN(3) {
		e := metav1.LabelSelectorRequirement{Key: d.key(), Operator: pick(d, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = append([]string{d.value()}, some(d, 2, d.value)...)
		}
		out.MatchExpressions = append(out.MatchExpressions, e)
	}
	return out
}

func (d dice) maybe(percent int) *metav1.LabelSelector {
	if !d.chance(percent) {
		return nil
	}
	s := d.selector()
	return &s
}

// cidr returns a network that holds some of the ends.
func (d dice) cidr() string {
	return pick(d, "0.0.0.0/0", "10.244.0.0/16", "10.244.0.0/24", "10.244.1.0/24", "10.244.0.2/31", "10.244.0.3/32", "192.0.2.0/24", "192.0.2.8/29", "2001:db8::/32", "::/0")
}

func (d dice) peer() netv1.NetworkPolicyPeer {
	if d.chance(25) {
		b := &netv1.IPBlock{CIDR: d.cidr()}
		b.Except = some(d, 3, d.cidr)
		return netv1.NetworkPolicyPeer{IPBlock: b}
	}
	p := netv1.NetworkPolicyPeer{PodSelector: d.maybe(70), NamespaceSelector: d.maybe(60)}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		p.PodSelector = &metav1.LabelSelector{}
	}
	return p
}

func (d dice) port() netv1.NetworkPolicyPort {
	var p netv1.NetworkPolicyPort
	if d.chance(70) {
		p.Protocol = new(pick(d, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP))
	}
	switch d.IntN(4) {
	case 0:
	case 1:
		p.Port = new(intstr.FromString(pick(d, "http", "dns", "nobody")))
	case 2:
		p.Port = new(intstr.FromInt32(pick[int32](d, 53, 80, 8080)))
	case 3:
		p.Port = new(intstr.FromInt32(pick[int32](d, 1, 80, 8080)))
		p.EndPort = new(pick[int32](d, 8080, 8085, 65535))
	}
	return p
}

func (d dice) networkPolicy(i int, namespace string) *netv1.NetworkPolicy {
	np := &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name("np", i), UID: types.UID(name("np-uid-", i))}}
	np.Spec.PodSelector = d.selector()
	if d.chance(60) {
		np.Spec.PodSelector = metav1.LabelSelector{}
	}
	np.Spec.Ingress = some(d, 2, func() netv1.NetworkPolicyIngressRule {
		return netv1.NetworkPolicyIngressRule{From: some(d, 3, d.peer), Ports: some(d, 3, d.port)}
	})
	np.Spec.Egress = some(d, 2, func() netv1.NetworkPolicyEgressRule {
		return netv1.NetworkPolicyEgressRule{To: some(d, 3, d.peer), Ports: some(d, 3, d.port)}
	})
	np.Spec.PolicyTypes = pick(d, nil, []netv1.PolicyType{"Ingress"}, []netv1.PolicyType{"Egress"}, []netv1.PolicyType{"Ingress", "Egress"})
	return np
}

func (d dice) protocol() v1beta1.ClusterNetworkPolicyProtocol {
	number := func() *v1beta1.Port {
		switch d.IntN(3) {
		case 0:
			return nil
		case 1:
			return &v1beta1.Port{Number: pick[int32](d, 53, 80, 8080)}
		}
		return &v1beta1.Port{Range: &v1beta1.PortRange{Start: pick[int32](d, 1, 80), End: 8080}}
	}
	switch d.IntN(4) {
	case 0:
		return v1beta1.ClusterNetworkPolicyProtocol{TCP: &v1beta1.ClusterNetworkPolicyProtocolTCP{DestinationPort: number()}}
	case 1:
		return v1beta1.ClusterNetworkPolicyProtocol{UDP: &v1beta1.ClusterNetworkPolicyProtocolUDP{DestinationPort: number()}}
	case 2:
		return v1beta1.ClusterNetworkPolicyProtocol{SCTP: &v1beta1.ClusterNetworkPolicyProtocolSCTP{DestinationPort: number()}}
	}
	return v1beta1.ClusterNetworkPolicyProtocol{DestinationNamedPort: pick(d, "http", "dns")}
}

// clusterPolicy makes a policy of either tier. Baseline rules for ingress do not
// pass, see Objects.
func (d dice) clusterPolicy(i int) *v1beta1.ClusterNetworkPolicy {
	p := &v1beta1.ClusterNetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name("cnp", i), UID: types.UID(name("cnp-uid-", 9-i))}}
	p.Spec.Tier, p.Spec.Priority = pick(d, v1beta1.AdminTier, v1beta1.BaselineTier), int32(i*100)
	both := func() (*metav1.LabelSelector, *v1beta1.NamespacedPod) {
		if d.chance(50) {
			s := d.selector()
			return &s, nil
		}
		return nil, &v1beta1.NamespacedPod{NamespaceSelector: d.selector(), PodSelector: d.selector()}
	}
	action := func(out bool) v1beta1.ClusterNetworkPolicyRuleAction {
		if out || p.Spec.Tier == v1beta1.AdminTier {
			return pick[v1beta1.ClusterNetworkPolicyRuleAction](d, accept, deny, pass)
		}
		return pick[v1beta1.ClusterNetworkPolicyRuleAction](d, accept, deny)
	}
	p.Spec.Subject.Namespaces, p.Spec.Subject.Pods = both()
	p.Spec.Ingress = some(d, 3, func() v1beta1.ClusterNetworkPolicyIngressRule {
		r := v1beta1.ClusterNetworkPolicyIngressRule{Action: action(false), Protocols: some(d, 2, d.protocol)}
		for range 1 + d.IntN(2) {
			var q v1beta1.ClusterNetworkPolicyIngressPeer
			q.Namespaces, q.Pods = both()
			r.From = append(r.From, q)
		}
		return r
	})
	p.Spec.Egress = some(d, 3, func() v1beta1.ClusterNetworkPolicyEgressRule {
		r := v1beta1.ClusterNetworkPolicyEgressRule{Action: action(true), Protocols: some(d, 2, d.protocol)}
		for range 1 + d.IntN(2) {
			var q v1beta1.ClusterNetworkPolicyEgressPeer
			switch d.IntN(4) {
			case 0:
				q.Networks = []v1beta1.CIDR{v1beta1.CIDR(d.cidr())}
				r.Protocols = slices.DeleteFunc(r.Protocols, func(p v1beta1.ClusterNetworkPolicyProtocol) bool { return p.DestinationNamedPort != "" })
			case 1:
				q.Nodes = d.maybe(100)
				r.Protocols = slices.DeleteFunc(r.Protocols, func(p v1beta1.ClusterNetworkPolicyProtocol) bool { return p.DestinationNamedPort != "" })
			default:
				q.Namespaces, q.Pods = both()
			}
			r.To = append(r.To, q)
		}
		return r
	})
	return p
}

func (d dice) cluster() *cluster {
	c := &cluster{}
	for i := range 3 {
		c.namespaces = append(c.namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name("ns", i), UID: types.UID(name("uid-", i)), Labels: d.labels()}})
	}
	for i := range 3 + d.IntN(4) {
		ns := d.IntN(3)
		if i == 0 {
			ns = 0
		}
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: name("ns", ns), Name: name("pod", i), UID: types.UID(name("pod-uid-", i)), Labels: d.labels()}}
		p.Status.PodIP = fmt.Sprintf("10.244.%d.%d", ns, i+2)
		p.Spec.Containers = []corev1.Container{{Ports: some(d, 3, func() corev1.ContainerPort {
			return corev1.ContainerPort{
				Name: pick(d, "", "http", "dns"), ContainerPort: pick[int32](d, 53, 80, 8080),
				Protocol: pick(d, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP),
			}
		})}}
		c.pods = append(c.pods, p)
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: d.labels()}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: node}}
	c.nodes = append(c.nodes, n)
	for i := range d.IntN(4) {
		c.policies = append(c.policies, d.networkPolicy(i, name("ns", d.IntN(3))))
	}
	for i := range d.IntN(4) {
		c.admin = append(c.admin, d.clusterPolicy(i))
	}
	return c
}

// TestTablesDoWhatPoliciesSay sends every flow of random clusters through the
// tables that their policies become.
func TestTablesDoWhatPoliciesSay(t *testing.T) {
	worlds := 60
	if testing.Short() {
		worlds = 10
	}
	seen := map[bool]int{}
	for seed := range uint64(worlds) {
		judge(t, seed, seen)
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("one-sided: %v", seen)
	}
}

func judge(t *testing.T, seed uint64, seen map[bool]int) {
	c := dice{rand.New(rand.NewPCG(seed, 0))}.cluster()
	j := newCourt(t, c, c.translate(t))
	for _, f := range c.flows() {
		want := c.allows(f)
		seen[want]++
		if got := j.delivers(t, f); got != want {
			t.Errorf("seed %d: %s → %s %s/%d: delivered %v, want %v", seed, f.src, f.dst, f.proto, f.port, got, want)
			return
		}
	}
}

// FuzzTablesDoWhatPoliciesSay is the test with more clusters.
func FuzzTablesDoWhatPoliciesSay(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { judge(t, seed, map[bool]int{}) })
}

// TestOrderLeavesNoMark translates in another order, twice: the objects are the
// same.
func TestOrderLeavesNoMark(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(7, 7))}
	for range 20 {
		c := d.cluster()
		want := byPath(c.translate(t))
		d.Shuffle(len(c.policies), func(i, j int) { c.policies[i], c.policies[j] = c.policies[j], c.policies[i] })
		d.Shuffle(len(c.admin), func(i, j int) { c.admin[i], c.admin[j] = c.admin[j], c.admin[i] })
		d.Shuffle(len(c.pods), func(i, j int) { c.pods[i], c.pods[j] = c.pods[j], c.pods[i] })
		if diff := cmp.Diff(want, byPath(append(c.translate(t), c.translate(t)...)), exported); diff != "" {
			t.Fatal(diff)
		}
	}
}

func byPath(objects []intent.Object) map[string]intent.Object {
	out := map[string]intent.Object{}
	for _, o := range objects {
		out[o.Meta().Path] = o
	}
	return out
}
