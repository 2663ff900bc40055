package explain

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Suggestion is a NetworkPolicy that would let a connection pass.
type Suggestion struct {
	Policy *netv1.NetworkPolicy
	Notes  []string // what to know before it is applied
}

// Suggest returns the NetworkPolicy that allows the connection at its
// destination or, of egress, at its source; nil: whom it would be about has no
// labels to select it by, or is no pod. A peer of another namespace is named by
// both selectors in one element: an AND.
func Suggest(q Question, egress bool) *Suggestion {
	subject, peer, word := q.To, q.From, "from"
	if egress {
		subject, peer, word = q.From, q.To, "to"
	}
	if subject.Namespace == "" || subject.Service != nil && len(subject.Labels) == 0 {
		return nil
	}
	s := &Suggestion{Policy: &netv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: netv1.SchemeGroupVersion.String(), Kind: NetworkPolicy},
		ObjectMeta: metav1.ObjectMeta{Namespace: subject.Namespace, Name: "allow-" + word + "-" + peer.called(subject.Namespace)},
		Spec:       netv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: subject.Labels}},
	}}
	if len(subject.Labels) == 0 {
		s.note("%s has no labels: this is about all pods of namespace %s", subject, subject.Namespace)
	}
	peers := []netv1.NetworkPolicyPeer{s.peer(peer, subject.Namespace)}
	ports := s.ports(q)
	if egress {
		s.Policy.Spec.PolicyTypes = []netv1.PolicyType{netv1.PolicyTypeEgress}
		s.Policy.Spec.Egress = []netv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}
		return s
	}
	s.Policy.Spec.PolicyTypes = []netv1.PolicyType{netv1.PolicyTypeIngress}
	s.Policy.Spec.Ingress = []netv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	return s
}

func (s *Suggestion) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// called returns a part of a policy's name for e.
func (e *End) called(namespace string) string {
	name := e.Name
	switch {
	case e.Kind == Address:
		name = strings.ReplaceAll(e.Address.String(), ":", "-")
	case e.Namespace != namespace:
		name = e.Namespace + "-" + e.Name
	}
	const most = 200 // of the 253 that a name may have
	return strings.Trim(name[:min(len(name), most)], "-.")
}

// peer returns e as a policy in namespace names it.
func (s *Suggestion) peer(e *End, namespace string) netv1.NetworkPolicyPeer {
	if e.Kind == Address {
		return netv1.NetworkPolicyPeer{IPBlock: &netv1.IPBlock{CIDR: netip.PrefixFrom(e.Address, e.Address.BitLen()).String()}}
	}
	p := netv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{MatchLabels: e.Labels}}
	if len(e.Labels) == 0 {
		s.note("%s has no labels: this is about all pods of namespace %s", e, e.Namespace)
	}
	if e.Namespace != namespace {
		p.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: e.Namespace}}
	}
	return p
}

func (s *Suggestion) ports(q Question) []netv1.NetworkPolicyPort {
	if q.Protocol.Port == 0 {
		s.note("a NetworkPolicy has no word for ICMP: this allows all protocols and ports")
		return nil
	}
	proto, port := corev1.Protocol(q.Protocol.Name), q.To.podPort(q.Protocol)
	return []netv1.NetworkPolicyPort{{Protocol: &proto, Port: &port}}
}

// YAML returns the policy as kubectl takes it, the notes as comments before it.
func (s *Suggestion) YAML() string {
	var b strings.Builder
	for _, n := range s.Notes {
		b.WriteString("# " + n + "\n")
	}
	data, err := yaml.Marshal(s.Policy)
	if err != nil {
		panic(err) // it is a plain struct
	}
	b.Write(data)
	return b.String()
}
