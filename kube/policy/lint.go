package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// View is what Lint looks at beside the policy. What is nil is not looked at.
type View struct {
	Namespaces func(labels.Selector) []*corev1.Namespace
	Pods       func(namespace string) []*corev1.Pod
	Ports      NamedPorts
	Policies   []*netv1.NetworkPolicy // of the policy's namespace
	Above      []Above                // see AboveOf
}

// Lint returns what a NetworkPolicy says that its author may not mean. It is
// about valid policies: the findings of NetworkPolicy are about others.
func Lint(np *netv1.NetworkPolicy, v View) []Finding {
	l := &linter{np: np, view: v}
	in, out := directions(&np.Spec)
	if pods, known := l.pods(np.Namespace, &np.Spec.PodSelector); known && len(pods) == 0 {
		l.find("spec.podSelector", l.described(nil, &np.Spec.PodSelector)+": selects no pod of namespace "+np.Namespace+" now")
	}
	if len(np.Spec.Ingress) > 0 && !in {
		l.find("spec.policyTypes", "has no Ingress: the rules of spec.ingress have no effect (add Ingress)")
	}
	if len(np.Spec.Egress) > 0 && !out {
		l.find("spec.policyTypes", "has no Egress: the rules of spec.egress have no effect (add Egress)")
	}
	for i, r := range np.Spec.Ingress {
		if in {
			field := "spec.ingress[" + strconv.Itoa(i) + "]"
			l.peers(field+".from", r.From)
			l.ports(field+".ports", r.Ports, false)
		}
	}
	for i, r := range np.Spec.Egress {
		if out {
			field := "spec.egress[" + strconv.Itoa(i) + "]"
			l.peers(field+".to", r.To)
			l.ports(field+".ports", r.Ports, true)
		}
	}
	l.dns(out)
	l.above(in, out)
	return l.findings
}

// linter is one Lint.
type linter struct {
	np       *netv1.NetworkPolicy
	view     View
	findings []Finding
}

func (l *linter) find(field, fact string) { l.findings = append(l.findings, Finding{field, fact}) }

// peers looks at one list of from or to.
func (l *linter) peers(field string, list []netv1.NetworkPolicyPeer) {
	l.or(field, list)
	for i, p := range list {
		at := field + "[" + strconv.Itoa(i) + "]"
		if p.IPBlock != nil {
			l.block(at+".ipBlock", p.IPBlock)
			continue
		}
		l.selects(at, &p)
	}
}

// or finds a namespaceSelector and a podSelector that stand in two elements: a
// dash too much makes an OR of what was to be an AND.
func (l *linter) or(field string, list []netv1.NetworkPolicyPeer) {
	namespaces := slices.IndexFunc(list, func(p netv1.NetworkPolicyPeer) bool { return p.NamespaceSelector != nil && p.PodSelector == nil })
	pods := slices.IndexFunc(list, func(p netv1.NetworkPolicyPeer) bool { return p.NamespaceSelector == nil && p.PodSelector != nil })
	if namespaces < 0 || pods < 0 {
		return
	}
	ns, pod := list[namespaces].NamespaceSelector, list[pods].PodSelector
	l.find(field, fmt.Sprintf("elements %d and %d are an OR: %s, or %s (to mean %s, write both selectors in one element, without the dash before the second)",
		namespaces, pods, l.described(ns, nil), l.described(nil, pod), l.described(ns, pod)))
}

// described returns whom selectors select in words.
func (l *linter) described(namespaces, pods *metav1.LabelSelector) string {
	what := "all pods"
	if !selectsAll(pods) {
		what = "pods with " + metav1.FormatLabelSelector(pods)
	}
	switch {
	case namespaces == nil:
		return what + " of namespace " + l.np.Namespace
	case selectsAll(namespaces):
		return what + " of all namespaces"
	}
	return what + " of namespaces with " + metav1.FormatLabelSelector(namespaces)
}

func (l *linter) block(field string, b *netv1.IPBlock) {
	whole, err := parseCIDR(b.CIDR)
	if err != nil {
		return
	}
	for i, s := range b.Except {
		p, err := parseCIDR(s)
		at := field + ".except[" + strconv.Itoa(i) + "]"
		switch {
		case err != nil:
		case !p.Overlaps(whole):
			l.find(at, s+": is outside of "+b.CIDR+", so it takes nothing away")
		case p.Bits() <= whole.Bits():
			l.find(at, s+": takes all of "+b.CIDR+" away, so that nothing is left")
		}
	}
}

// selects looks whether a peer selects anybody now.
func (l *linter) selects(field string, p *netv1.NetworkPolicyPeer) {
	if p.NamespaceSelector == nil {
		if pods, known := l.pods(l.np.Namespace, p.PodSelector); known && p.PodSelector != nil && len(pods) == 0 {
			l.find(field+".podSelector", l.described(nil, p.PodSelector)+": nobody is one now")
		}
		return
	}
	s, err := metav1.LabelSelectorAsSelector(p.NamespaceSelector)
	if err != nil || l.view.Namespaces == nil {
		return
	}
	selected := l.view.Namespaces(s)
	if len(selected) == 0 {
		l.find(field+".namespaceSelector", metav1.FormatLabelSelector(p.NamespaceSelector)+": no namespace has these labels now")
		return
	}
	for _, n := range selected {
		if pods, known := l.pods(n.Name, p.PodSelector); !known || len(pods) > 0 {
			return
		}
	}
	l.find(field, l.described(p.NamespaceSelector, p.PodSelector)+": nobody is one now")
}

// pods returns the pods of a namespace that a selector selects; nil selects all.
// known is false if they are not told.
func (l *linter) pods(namespace string, selector *metav1.LabelSelector) (out []*corev1.Pod, known bool) {
	if l.view.Pods == nil {
		return nil, false
	}
	s := labels.Everything()
	if selector != nil {
		var err error
		if s, err = metav1.LabelSelectorAsSelector(selector); err != nil {
			return nil, false
		}
	}
	for _, p := range l.view.Pods(namespace) {
		if s.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out, true
}

// ports looks for named ports that no destination has.
func (l *linter) ports(field string, list []netv1.NetworkPolicyPort, out bool) {
	for i, p := range list {
		if p.Port == nil || p.Port.StrVal == "" {
			continue
		}
		proto := protoOf(p)
		at := field + "[" + strconv.Itoa(i) + "].port"
		if out {
			if l.view.Ports != nil && len(l.view.Ports("", proto, p.Port.StrVal)) == 0 {
				l.find(at, fmt.Sprintf("%s: no pod has a %s port of that name now", p.Port.StrVal, proto))
			}
			continue
		}
		pods, known := l.pods(l.np.Namespace, &l.np.Spec.PodSelector)
		if known && len(pods) > 0 && !slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return namesPort(pod, proto, p.Port.StrVal) }) {
			l.find(at, fmt.Sprintf("%s: no pod that the policy selects has a %s port of that name now", p.Port.StrVal, proto))
		}
	}
}

// protoOf returns the protocol of a port, TCP if it says none.
func protoOf(p netv1.NetworkPolicyPort) corev1.Protocol {
	if p.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *p.Protocol
}

// namesPort reports whether a pod has a port of the name.
func namesPort(pod *corev1.Pod, proto corev1.Protocol, name string) bool {
	_, ok := portNames(pod)[portName{proto: proto, name: name}]
	return ok
}

// dns finds that pods cannot ask for names any more: the policy isolates their
// egress, and neither it nor another that selects them for sure lets DNS out.
func (l *linter) dns(out bool) {
	if !out || letsDNSOut(l.np) {
		return
	}
	for _, other := range l.view.Policies {
		same := metav1.FormatLabelSelector(&other.Spec.PodSelector) == metav1.FormatLabelSelector(&l.np.Spec.PodSelector)
		if other.Name != l.np.Name && (same || selectsAll(&other.Spec.PodSelector)) && letsDNSOut(other) {
			return
		}
	}
	l.find("spec.egress", "lets no DNS out: the pods cannot look names up (add a rule with ports UDP 53 and TCP 53)")
}

// letsDNSOut reports whether a policy lets UDP port 53 out to somebody.
func letsDNSOut(np *netv1.NetworkPolicy) bool {
	if _, out := directions(&np.Spec); !out {
		return false
	}
	return slices.ContainsFunc(np.Spec.Egress, func(r netv1.NetworkPolicyEgressRule) bool {
		return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p netv1.NetworkPolicyPort) bool {
			switch {
			case protoOf(p) != corev1.ProtocolUDP:
				return false
			case p.Port == nil || p.Port.StrVal != "":
				return true
			case p.EndPort != nil:
				return p.Port.IntVal <= 53 && 53 <= *p.EndPort
			}
			return p.Port.IntVal == 53
		})
	})
}

// above tells of rules in higher categories that decide before the policy does.
func (l *linter) above(in, out bool) {
	var rules []string
	for _, a := range l.view.Above {
		if in && a.In || out && a.Out {
			rules = append(rules, a.Text)
		}
	}
	if len(rules) == 0 {
		return
	}
	const most = 3
	if n := len(rules) - most; n > 0 {
		rules = append(rules[:most], "and "+strconv.Itoa(n)+" more")
	}
	l.find("", "comes after rules of higher categories, which decide first: "+strings.Join(rules, "; "))
}
