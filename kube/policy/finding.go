package policy

import "strings"

// Finding is something about a policy that its author should know.
type Finding struct {
	Field string // such as spec.ingress[0].ports[1].port; empty: the policy
	Fact  string // value: fact (what to write instead)
}

// String returns `field: fact`.
func (f Finding) String() string {
	if f.Field == "" {
		return f.Fact
	}
	return f.Field + ": " + f.Fact
}

// text joins findings for an annotation or a condition.
func text(findings []Finding) string {
	out := make([]string, 0, len(findings))
	for _, f := range findings {
		out = append(out, f.String())
	}
	return strings.Join(out, "; ")
}
