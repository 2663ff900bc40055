package explain

import (
	"strconv"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// Rule is a firewall rule that a packet met, and who made it.
type Rule struct {
	v1alpha1.TraceRule
	Origin Origin `json:"origin"`
}

func (r *Rule) allows() bool { return r.Action == v1alpha1.TraceAllow }

// rulesOf returns the firewall rules of a Trace's status in the order in which
// the packet met them. Behind them comes the one that dropped its reply.
func rulesOf(s v1alpha1.TraceStatus) []Rule {
	var out []Rule
	for _, r := range s.Rules {
		out = append(out, Rule{TraceRule: r})
	}
	if ofReply(s) && s.Rule != nil {
		out = append(out, Rule{TraceRule: *s.Rule})
	}
	return out
}

// ofReply reports whether the packet arrives and its reply does not.
func ofReply(s v1alpha1.TraceStatus) bool { return s.Disposition == "delivered" && !s.Delivered }

// Columns implements columns.Row.
func (Rule) Columns() []string {
	return []string{"STAGE", "AT", "RULE", "NAME", "ACTION", "CATEGORY", "MADE BY"}
}

// Row implements columns.Row.
func (r Rule) Row() []string {
	action := map[string]string{v1alpha1.TraceAllow: "allows", v1alpha1.TraceDrop: "drops", v1alpha1.TraceReject: "rejects"}[r.Action]
	madeBy := ""
	if r.Policy != "" {
		madeBy = r.Origin.String()
	}
	return []string{r.Stage, r.At, strconv.FormatInt(r.ID, 10), r.Name, action, r.Category, madeBy}
}
