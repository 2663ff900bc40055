package policy

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"
)

// cluster is Kubernetes objects whose policies are judged by reading them: what
// their translation does must be the same.
// Source: documentation of networking.k8s.io/v1 and of
// policy.networking.k8s.io/v1beta1.
type cluster struct {
	namespaces []*corev1.Namespace
	pods       []*corev1.Pod // of phase Running, with an address
	nodes      []*corev1.Node
	policies   []*netv1.NetworkPolicy
	admin      []*v1beta1.ClusterNetworkPolicy // of both tiers
}

// flow is the first packet of a connection. A nil pod is somebody outside.
type flow struct {
	from, to *corev1.Pod
	src, dst netip.Addr
	proto    corev1.Protocol // or another protocol, which has no ports
	port     int32
}

// allows reports whether the flow gets out of its source and into its
// destination.
func (c *cluster) allows(f flow) bool {
	return (f.from == nil || c.side(f, true)) && (f.to == nil || c.side(f, false))
}

// side judges one direction: admin tier, NetworkPolicies, baseline tier, and
// then everything is allowed.
func (c *cluster) side(f flow, out bool) bool {
	if v := c.tier(f, out, v1beta1.AdminTier); v != "" && v != pass {
		return v == accept
	}
	if isolated, allowed := c.judged(f, out); isolated {
		return allowed
	}
	if v := c.tier(f, out, v1beta1.BaselineTier); v != "" && v != pass {
		return v == accept
	}
	return true
}

func (c *cluster) judged(f flow, out bool) (isolated, allowed bool) {
	own := f.to
	if out {
		own = f.from
	}
	for _, np := range c.policies {
		in, eg := slices.Contains(np.Spec.PolicyTypes, "Ingress"), slices.Contains(np.Spec.PolicyTypes, "Egress")
		if len(np.Spec.PolicyTypes) == 0 {
			in, eg = true, np.Spec.Egress != nil
		}
		if np.Namespace != own.Namespace || !matches(&np.Spec.PodSelector, own.Labels) || out && !eg || !out && !in {
			continue
		}
		isolated = true
		if out {
			for _, r := range np.Spec.Egress {
				allowed = allowed || c.peers(np, r.To, f.to, f.dst) && portsMatch(r.Ports, f)
			}
			continue
		}
		for _, r := range np.Spec.Ingress {
			allowed = allowed || c.peers(np, r.From, f.from, f.src) && portsMatch(r.Ports, f)
		}
	}
	return isolated, allowed
}

func (c *cluster) peers(np *netv1.NetworkPolicy, list []netv1.NetworkPolicyPeer, pod *corev1.Pod, addr netip.Addr) bool {
	if len(list) == 0 {
		return true
	}
	for _, p := range list {
		switch {
		case p.IPBlock != nil:
			in := netip.MustParsePrefix(p.IPBlock.CIDR).Contains(addr)
			for _, e := range p.IPBlock.Except {
				in = in && !netip.MustParsePrefix(e).Contains(addr)
			}
			if in {
				return true
			}
		case pod == nil:
		case p.NamespaceSelector != nil:
			if matches(p.NamespaceSelector, c.labelsOf(pod.Namespace)) && matches(p.PodSelector, pod.Labels) {
				return true
			}
		case pod.Namespace == np.Namespace && matches(p.PodSelector, pod.Labels):
			return true
		}
	}
	return false
}

func portsMatch(list []netv1.NetworkPolicyPort, f flow) bool {
	if len(list) == 0 {
		return true
	}
	for _, p := range list {
		proto := corev1.ProtocolTCP
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		switch {
		case proto != f.proto:
		case p.Port == nil:
			return true
		case p.Port.Type == intstr.String:
			if hasPort(f.to, proto, p.Port.StrVal, f.port) {
				return true
			}
		case p.EndPort != nil && p.Port.IntVal <= f.port && f.port <= *p.EndPort, p.Port.IntVal == f.port:
			return true
		}
	}
	return false
}

// hasPort reports whether the destination calls the number so.
func hasPort(pod *corev1.Pod, proto corev1.Protocol, name string, number int32) bool {
	if pod == nil {
		return false
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name && p.Protocol == proto && p.ContainerPort == number {
				return true
			}
		}
	}
	return false
}

// tier returns what a tier decides; empty: nothing.
func (c *cluster) tier(f flow, out bool, tier v1beta1.Tier) string {
	var list []*v1beta1.ClusterNetworkPolicy
	for _, p := range c.admin {
		if p.Spec.Tier == tier {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *v1beta1.ClusterNetworkPolicy) int { return int(a.Spec.Priority - b.Spec.Priority) })
	own := f.to
	if out {
		own = f.from
	}
	for _, p := range list {
		if !c.selects(p.Spec.Subject.Namespaces, p.Spec.Subject.Pods, own) {
			continue
		}
		if out {
			for _, r := range p.Spec.Egress {
				if c.egressTo(r.To, f) && protocolsMatch(r.Protocols, f) {
					return string(r.Action)
				}
			}
			continue
		}
		for _, r := range p.Spec.Ingress {
			for _, q := range r.From {
				if c.selects(q.Namespaces, q.Pods, f.from) && protocolsMatch(r.Protocols, f) {
					return string(r.Action)
				}
			}
		}
	}
	return ""
}

func (c *cluster) egressTo(list []v1beta1.ClusterNetworkPolicyEgressPeer, f flow) bool {
	for _, q := range list {
		if c.selects(q.Namespaces, q.Pods, f.to) {
			return true
		}
		for _, n := range q.Networks {
			if netip.MustParsePrefix(string(n)).Contains(f.dst) {
				return true
			}
		}
		for _, n := range c.nodes {
			if q.Nodes != nil && matches(q.Nodes, n.Labels) && n.Status.Addresses[0].Address == f.dst.String() {
				return true
			}
		}
	}
	return false
}

func (c *cluster) selects(namespaces *metav1.LabelSelector, p *v1beta1.NamespacedPod, pod *corev1.Pod) bool {
	switch {
	case pod == nil:
		return false
	case p != nil:
		return matches(&p.NamespaceSelector, c.labelsOf(pod.Namespace)) && matches(&p.PodSelector, pod.Labels)
	case namespaces != nil:
		return matches(namespaces, c.labelsOf(pod.Namespace))
	}
	return false
}

func protocolsMatch(list []v1beta1.ClusterNetworkPolicyProtocol, f flow) bool {
	if len(list) == 0 {
		return true
	}
	on := func(proto corev1.Protocol, p *v1beta1.Port) bool {
		return proto == f.proto && (p == nil || p.Number == f.port || p.Range != nil && p.Range.Start <= f.port && f.port <= p.Range.End)
	}
	for _, p := range list {
		switch {
		case p.TCP != nil && on("TCP", p.TCP.DestinationPort), p.UDP != nil && on("UDP", p.UDP.DestinationPort),
			p.SCTP != nil && on("SCTP", p.SCTP.DestinationPort),
			p.DestinationNamedPort != "" && hasPort(f.to, f.proto, p.DestinationNamedPort, f.port):
			return true
		}
	}
	return false
}

func (c *cluster) labelsOf(namespace string) map[string]string {
	for _, n := range c.namespaces {
		if n.Name == namespace {
			return n.Labels
		}
	}
	return nil
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	if s == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic(err)
	}
	return selector.Matches(labels.Set(set))
}
