package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"

	"github.com/weft-net/weft/kube/ncp"
)

// OfClusterNetworkPolicy reads a ClusterNetworkPolicy.
func OfClusterNetworkPolicy(p *v1beta1.ClusterNetworkPolicy) *Cluster {
	out := &Cluster{
		kind: ncp.PrefixClusterPolicy, name: p.Name, uid: string(p.UID),
		admin: p.Spec.Tier != v1beta1.BaselineTier, priority: p.Spec.Priority,
		subject: subject(p.Spec.Subject.Namespaces, (*namespacedPod)(p.Spec.Subject.Pods)),
	}
	for i, r := range p.Spec.Ingress {
		field := "spec.ingress[" + strconv.Itoa(i) + "]"
		c := clusterRule{index: i, field: field, name: r.Name, action: string(r.Action), ports: protocolsOf(field, r.Protocols)}
		for j, q := range r.From {
			at := field + ".from[" + strconv.Itoa(j) + "]"
			c.peers = append(c.peers, clusterPeer{field: at, pods: peerPods(at, q.Namespaces, (*namespacedPod)(q.Pods))})
		}
		out.rules = append(out.rules, c)
	}
	for i, r := range p.Spec.Egress {
		field := "spec.egress[" + strconv.Itoa(i) + "]"
		c := clusterRule{index: i, out: true, field: field, name: r.Name, action: string(r.Action), ports: protocolsOf(field, r.Protocols)}
		for j, q := range r.To {
			at := field + ".to[" + strconv.Itoa(j) + "]"
			c.peers = append(c.peers, clusterPeer{
				field: at, pods: peerPods(at, q.Namespaces, (*namespacedPod)(q.Pods)),
				nodes: q.Nodes, networks: texts(q.Networks), domains: texts(q.DomainNames),
			})
		}
		out.rules = append(out.rules, c)
	}
	return out
}

// OfAlphaClusterNetworkPolicy reads a ClusterNetworkPolicy of the older version,
// which has the same form.
func OfAlphaClusterNetworkPolicy(p *v1alpha2.ClusterNetworkPolicy) (*Cluster, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("cluster network policy: %w", err)
	}
	var out v1beta1.ClusterNetworkPolicy
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("cluster network policy: %w", err)
	}
	return OfClusterNetworkPolicy(&out), nil
}

// OfAdminNetworkPolicy reads an AdminNetworkPolicy.
func OfAdminNetworkPolicy(p *v1alpha1.AdminNetworkPolicy) *Cluster {
	out := &Cluster{
		kind: ncp.PrefixAdminPolicy, name: p.Name, uid: string(p.UID), admin: true, priority: p.Spec.Priority,
		subject: adminSubject(&p.Spec.Subject),
	}
	for i, r := range p.Spec.Ingress {
		out.rules = append(out.rules, adminIngress(i, r.Name, string(r.Action), r.From, r.Ports))
	}
	for i, r := range p.Spec.Egress {
		c := adminEgress(i, r.Name, string(r.Action), r.Ports)
		for j, q := range r.To {
			at := c.field + ".to[" + strconv.Itoa(j) + "]"
			c.peers = append(c.peers, clusterPeer{
				field: at, pods: peerPods(at, q.Namespaces, (*namespacedPod)(adminPod(q.Pods))),
				nodes: q.Nodes, networks: texts(q.Networks), domains: texts(q.DomainNames),
			})
		}
		out.rules = append(out.rules, c)
	}
	return out
}

// OfBaselineAdminNetworkPolicy reads the BaselineAdminNetworkPolicy.
func OfBaselineAdminNetworkPolicy(p *v1alpha1.BaselineAdminNetworkPolicy) *Cluster {
	out := &Cluster{kind: ncp.PrefixBaselinePolicy, name: p.Name, uid: string(p.UID), subject: adminSubject(&p.Spec.Subject)}
	for i, r := range p.Spec.Ingress {
		out.rules = append(out.rules, adminIngress(i, r.Name, string(r.Action), r.From, r.Ports))
	}
	for i, r := range p.Spec.Egress {
		c := adminEgress(i, r.Name, string(r.Action), r.Ports)
		for j, q := range r.To {
			at := c.field + ".to[" + strconv.Itoa(j) + "]"
			c.peers = append(c.peers, clusterPeer{
				field: at, pods: peerPods(at, q.Namespaces, (*namespacedPod)(adminPod(q.Pods))),
				nodes: q.Nodes, networks: texts(q.Networks),
			})
		}
		out.rules = append(out.rules, c)
	}
	return out
}

func adminIngress(i int, name, action string, from []v1alpha1.AdminNetworkPolicyIngressPeer, ports *[]v1alpha1.AdminNetworkPolicyPort) clusterRule {
	field := "spec.ingress[" + strconv.Itoa(i) + "]"
	c := clusterRule{index: i, field: field, name: name, action: adminAction(action), ports: adminPorts(field, ports)}
	for j, q := range from {
		at := field + ".from[" + strconv.Itoa(j) + "]"
		c.peers = append(c.peers, clusterPeer{field: at, pods: peerPods(at, q.Namespaces, (*namespacedPod)(adminPod(q.Pods)))})
	}
	return c
}

func adminEgress(i int, name, action string, ports *[]v1alpha1.AdminNetworkPolicyPort) clusterRule {
	field := "spec.egress[" + strconv.Itoa(i) + "]"
	return clusterRule{index: i, out: true, field: field, name: name, action: adminAction(action), ports: adminPorts(field, ports)}
}

// adminAction returns the action in today's word.
func adminAction(action string) string {
	if action == string(v1alpha1.AdminNetworkPolicyRuleActionAllow) {
		return accept
	}
	return action
}

// namespacedPod is the type of all versions.
type namespacedPod v1beta1.NamespacedPod

func adminPod(p *v1alpha1.NamespacedPod) *v1beta1.NamespacedPod { return (*v1beta1.NamespacedPod)(p) }

func adminSubject(s *v1alpha1.AdminNetworkPolicySubject) pods {
	return subject(s.Namespaces, (*namespacedPod)(adminPod(s.Pods)))
}

func subject(namespaces *metav1.LabelSelector, p *namespacedPod) pods {
	if got := peerPods("spec.subject", namespaces, p); got != nil {
		return *got
	}
	return pods{fields: [2]string{"spec.subject"}}
}

// peerPods returns the selection of a subject or peer; nil: there is none.
func peerPods(field string, namespaces *metav1.LabelSelector, p *namespacedPod) *pods {
	switch {
	case p != nil:
		return &pods{&p.NamespaceSelector, &p.PodSelector, [2]string{field + ".pods.namespaceSelector", field + ".pods.podSelector"}}
	case namespaces != nil:
		return &pods{namespaces, nil, [2]string{field + ".namespaces"}}
	}
	return nil
}

func protocolsOf(field string, list []v1beta1.ClusterNetworkPolicyProtocol) []clusterPort {
	var out []clusterPort
	for i, p := range list {
		c := clusterPort{field: field + ".protocols[" + strconv.Itoa(i) + "]"}
		switch {
		case p.TCP != nil:
			c.ports = []port{portOf("TCP", p.TCP.DestinationPort)}
		case p.UDP != nil:
			c.ports = []port{portOf("UDP", p.UDP.DestinationPort)}
		case p.SCTP != nil:
			c.ports = []port{portOf("SCTP", p.SCTP.DestinationPort)}
		case p.DestinationNamedPort != "":
			c.ports = anyProtocol(p.DestinationNamedPort)
		}
		out = append(out, c)
	}
	return out
}

func portOf(proto string, p *v1beta1.Port) port {
	switch {
	case p == nil:
		return port{proto: proto}
	case p.Range != nil:
		return port{proto: proto, first: p.Range.Start, last: p.Range.End}
	case p.Number == 0:
		return port{proto: proto, first: -1} // neither was given
	}
	return port{proto: proto, first: p.Number, last: p.Number}
}

// anyProtocol returns a named port that is told without its protocol.
func anyProtocol(name string) []port {
	var out []port
	for _, proto := range protocols {
		out = append(out, port{proto: proto, name: name})
	}
	return out
}

func adminPorts(field string, list *[]v1alpha1.AdminNetworkPolicyPort) []clusterPort {
	if list == nil {
		return nil
	}
	var out []clusterPort
	for i, p := range *list {
		c := clusterPort{field: field + ".ports[" + strconv.Itoa(i) + "]"}
		switch {
		case p.PortNumber != nil:
			n := p.PortNumber
			c.ports = []port{{proto: cmp.Or(string(n.Protocol), "TCP"), first: n.Port, last: n.Port}}
		case p.PortRange != nil:
			r := p.PortRange
			c.ports = []port{{proto: cmp.Or(string(r.Protocol), "TCP"), first: r.Start, last: r.End}}
		case p.NamedPort != nil:
			c.ports = anyProtocol(*p.NamedPort)
		}
		out = append(out, c)
	}
	return out
}

// texts returns the elements of a list of another kind of string.
func texts[S ~string](list []S) []string {
	var out []string
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}
