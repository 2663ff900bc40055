package policy

import (
	"slices"
	"strconv"

	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// Places of policies in category Application. Isolation of namespaces is behind
// them all.
const (
	sequenceAllow     = 10 // what NetworkPolicies allow
	sequenceIsolation = 20 // what they isolate
	sequenceBaseline  = 50 // cluster policies of the baseline tier
	sequenceDefault   = 60 // the BaselineAdminNetworkPolicy
)

// NetworkPolicy returns what a NetworkPolicy becomes: the policy of what it
// allows, which is before the isolation of all NetworkPolicies, and its
// isolation. Rules have no numeric ids yet. The findings say what of it has no
// meaning and is closed.
func NetworkPolicy(np *netv1.NetworkPolicy, at Place) ([]intent.Object, []Finding) {
	uid := string(np.UID)
	d := &draft{
		at: at, id: ncp.PrefixNetworkPolicy.ID(uid), name: np.Namespace + "-" + np.Name, namespace: np.Namespace,
		tags: append(ncp.NamespaceTags(at.Cluster, np.Namespace, at.NamespaceUID), intent.Tag{Scope: ncp.TagNetworkPolicy, Tag: np.Name}),
	}
	subject, ok := d.podsOf(at.NamespaceUID, "spec.podSelector", &np.Spec.PodSelector)
	if !ok {
		// Whom it is about is not known: nobody in the namespace may be open.
		subject, _ = d.podsOf(at.NamespaceUID, "", nil)
	}
	d.subject = []term{subject}
	in, out := directions(&np.Spec)
	if rules := d.allowed(np, in, out); ok && len(rules) > 0 {
		path := d.policy(ncp.NetworkPolicyAllowPath(at.Cluster, uid), ncp.NetworkPolicyAllowName(np.Namespace, np.Name), "Application", sequenceAllow)
		s := &section{draft: d, path: path, naming: allowNaming}
		for i := range rules {
			s.add(&rules[i])
		}
	}
	path := d.policy(ncp.NetworkPolicyIsolationPath(at.Cluster, uid), ncp.NetworkPolicyIsolationName(np.Namespace, np.Name), "Application", sequenceIsolation)
	d.isolate(path, in, out)
	return d.objects, d.findings
}

// allowNaming names rules by ports and direction, as NCP does.
func allowNaming(r *rule, ports []string, _ *named) (id, name string) {
	name = ncp.AllowRuleName(ports, r.direction())
	return name, name
}

// directions returns what a policy is about: egress without policyTypes only if
// it has rules for it.
func directions(spec *netv1.NetworkPolicySpec) (in, out bool) {
	if len(spec.PolicyTypes) == 0 {
		return true, len(spec.Egress) > 0
	}
	return slices.Contains(spec.PolicyTypes, netv1.PolicyTypeIngress), slices.Contains(spec.PolicyTypes, netv1.PolicyTypeEgress)
}

// isolate makes the rules that drop what nothing allowed.
func (d *draft) isolate(policy string, in, out bool) {
	for i, side := range []struct {
		on       bool
		id, word string
	}{{in, ncp.RuleDenyAllIngress, "IN"}, {out, ncp.RuleDenyAllEgress, "OUT"}} {
		if side.on {
			d.put(ncp.RulePath(policy, side.id), &intent.Rule{
				Resource:       intent.Resource{DisplayName: side.id},
				SequenceNumber: i + 1, Action: "DROP", Direction: side.word,
				SourceGroups: []string{"ANY"}, DestinationGroups: []string{"ANY"},
			})
		}
	}
}

// allowed returns the rules of the directions that a policy is about.
func (d *draft) allowed(np *netv1.NetworkPolicy, in, out bool) []rule {
	var rules []rule
	for i, r := range np.Spec.Ingress {
		if in {
			rules = append(rules, d.networkRule(i, false, "spec.ingress["+strconv.Itoa(i)+"]", r.From, r.Ports))
		}
	}
	for i, r := range np.Spec.Egress {
		if out {
			rules = append(rules, d.networkRule(i, true, "spec.egress["+strconv.Itoa(i)+"]", r.To, r.Ports))
		}
	}
	return rules
}

func (d *draft) networkRule(index int, out bool, field string, peers []netv1.NetworkPolicyPeer, list []netv1.NetworkPolicyPort) rule {
	r := rule{index: index, out: out, action: "ALLOW", any: len(peers) == 0, ports: d.networkPorts(field+".ports", list)}
	side := ".from["
	if out {
		side = ".to["
	}
	for i, p := range peers {
		if t, ok := d.networkPeer(field+side+strconv.Itoa(i)+"]", &p); ok {
			r.peers = append(r.peers, t)
		}
	}
	return r
}

// networkPeer returns whom one element of from or to means.
func (d *draft) networkPeer(field string, p *netv1.NetworkPolicyPeer) (term, bool) {
	switch {
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		d.find(field, "has an ipBlock and a selector (want one of them)")
	case p.IPBlock != nil:
		addresses, ok := d.block(field+".ipBlock", p.IPBlock)
		return term{addresses: addresses}, ok
	case p.NamespaceSelector != nil:
		return d.podsIn(p.NamespaceSelector, p.PodSelector, [2]string{field + ".namespaceSelector", field + ".podSelector"})
	case p.PodSelector != nil:
		return d.podsOf(d.at.NamespaceUID, field+".podSelector", p.PodSelector)
	default:
		d.find(field, "is empty (want a podSelector, a namespaceSelector or an ipBlock)")
	}
	return term{}, false
}

// selectsAll reports whether a selector selects everything.
func selectsAll(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}
