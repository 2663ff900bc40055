package explain

import (
	"cmp"
	"fmt"
	"strings"

	netv1 "k8s.io/api/networking/v1"

	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// Answer is what becomes of a connection, and by whose will. Its JSON names are
// stable.
type Answer struct {
	Connection  string `json:"connection"`
	Delivered   bool   `json:"delivered"`   // packet and reply
	Disposition string `json:"disposition"` // of the packet: delivered, dropped or rejected
	Reason      string `json:"reason,omitempty"`
	SourceSeen  string `json:"sourceSeen,omitempty"`
	Rules       []Rule `json:"rules"` // firewall rules that the packet met; the last one stops it, unless it is Delivered
	ToDo        string `json:"toDo,omitempty"`

	NetworkPolicy *netv1.NetworkPolicy `json:"networkPolicy,omitempty"` // one that would let it pass
	Suggestion    *Suggestion          `json:"-"`                       // the same with notes
}

// Explain returns the answer to q from what a Trace found. origin says who made
// the policy at a path: FindOrigin, or OriginOf.
func Explain(q Question, s v1alpha1.TraceStatus, origin func(policy string) Origin) *Answer {
	a := &Answer{
		Connection: q.String(), Delivered: s.Delivered, Disposition: s.Disposition, Reason: s.Reason, SourceSeen: s.SourceSeen,
		Rules: rulesOf(s),
	}
	for i := range a.Rules {
		r := &a.Rules[i]
		if r.Policy != "" {
			r.Origin = origin(r.Policy)
		}
	}
	if a.Delivered {
		return a
	}
	a.ToDo = s.Advice
	if r := a.stop(); r != nil && r.Policy != "" {
		a.advise(q, r, ofReply(s))
	}
	return a
}

// stop returns the rule that stopped the packet or its reply; nil: none did.
func (a *Answer) stop() *Rule {
	if n := len(a.Rules); n > 0 && !a.Delivered && !a.Rules[n-1].allows() {
		return &a.Rules[n-1]
	}
	return nil
}

// advise says what to do about the rule r, which a packet or its reply met, in
// words of who made it.
func (a *Answer) advise(q Question, r *Rule, reply bool) {
	egress := r.Stage == "dfw_out"
	end := q.To
	if egress != reply {
		end = q.From
	}
	namespace := cmp.Or(r.Origin.Namespace, end.Namespace)
	if !reply && r.Category == "Application" && r.Origin.Kind != "" {
		if a.Suggestion = Suggest(q, egress); a.Suggestion != nil {
			a.NetworkPolicy = a.Suggestion.Policy
		}
	}
	switch o := r.Origin; o.Kind {
	case writer.Namespace:
		namespace = cmp.Or(o.Name, end.Namespace)
		a.ToDo = "a NetworkPolicy in namespace " + namespace + " that allows it"
		if a.Suggestion != nil {
			a.Suggestion.note("pods that a NetworkPolicy selects take only what NetworkPolicies allow, also from their own namespace")
		}
	case writer.NetworkPolicy:
		a.ToDo = "allow it in " + o.String() + ", or in another NetworkPolicy of namespace " + namespace
	case writer.BaselineAdminPolicy:
		a.ToDo = "change " + o.String() + ", or allow it by a NetworkPolicy in namespace " + namespace + ", which comes before"
	case writer.ClusterNetworkPolicy, writer.AdminNetworkPolicy:
		a.ToDo = "change " + o.String() + ": it decides before all NetworkPolicies"
		if r.Category == "Application" {
			a.ToDo = "change " + o.String() + ", or allow it by a NetworkPolicy in namespace " + namespace + ", which comes before"
		}
	case writer.Supervisor: // the network's own advice holds
	default:
		a.ToDo = "change the rule by weft apply ('weft get " + r.Policy + " --below' prints it): Kubernetes knows nothing of it"
	}
}

// Verdict returns what stopped the packet, one fact a line: the rule, its policy,
// who made that, and what to do. Nothing if it is delivered.
func (a *Answer) Verdict() []string {
	if a.Delivered {
		return nil
	}
	var lines []string
	fact := func(name, text string) { lines = append(lines, fmt.Sprintf("%-9s %s", name+":", text)) }
	if r := a.stop(); r != nil {
		text := fmt.Sprintf("%d %s", r.ID, r.Name)
		if r.Category != "" {
			text += ", category " + r.Category
		}
		if r.At != "" {
			text += ", at " + r.At + " (" + r.Stage + ")"
		}
		fact("rule", text)
		if r.Policy != "" {
			fact("policy", r.Policy)
			fact("made by", r.Origin.String())
		}
	} else {
		fact("reason", a.Reason)
	}
	if a.ToDo != "" {
		fact("to do", a.ToDo)
	}
	return lines
}

// Text returns the answer in short: what becomes of it, by which rules, whose
// they are, what to do.
func (a *Answer) Text() string {
	var b strings.Builder
	switch {
	case a.Delivered:
		b.WriteString("allowed: " + a.Connection + "\n")
		if len(a.Rules) == 0 {
			b.WriteString("no firewall rule is on the way\n")
			break
		}
		_ = columns.Print(&b, a.Rules) // a Builder takes everything
	case a.Disposition == "delivered":
		b.WriteString("the reply is dropped: " + a.Connection + "\n")
	default:
		b.WriteString(a.Disposition + ": " + a.Connection + "\n")
	}
	for _, line := range a.Verdict() {
		b.WriteString(line + "\n")
	}
	if a.Suggestion != nil {
		b.WriteString("\nsuch as this, with 'kubectl apply -f -':\n\n" + a.Suggestion.YAML())
	}
	return b.String()
}
