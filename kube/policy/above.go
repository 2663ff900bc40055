package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// Above is a rule that decides before all NetworkPolicies, for every pod and
// every service.
type Above struct {
	In, Out bool
	Text    string // `rule X of policy Y (category Z) allows A to B`
}

// AboveOf returns the rules in categories before Application that are about
// every port, or every pod, and every service, and whose peers are everybody,
// every pod or written addresses: what a NetworkPolicy says counts only for what
// they leave. Rules for other groups are left out. Cost O(policies of the tree).
func AboveOf(t *intent.Tree) []Above {
	var out []Above
	for _, o := range t.OfType("SecurityPolicy") {
		p := o.(*intent.SecurityPolicy)
		if !slices.Contains([]string{"Emergency", "Infrastructure", "Environment"}, p.Category) {
			continue
		}
		for _, r := range intent.List[*intent.Rule](t, p.Path) {
			if a, ok := aboveOf(t, p, r); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

func aboveOf(t *intent.Tree, p *intent.SecurityPolicy, r *intent.Rule) (Above, bool) {
	word := map[string]string{"ALLOW": "allows", "DROP": "drops", "REJECT": "rejects"}[r.Action]
	anyService := len(r.ServiceEntries) == 0 && (len(r.Services) == 0 || slices.Contains(r.Services, "ANY"))
	from, to := r.Sources(), r.Destinations()
	some := slices.Concat(intent.AppliedTo(p, r), from.Groups, to.Groups)
	if word == "" || r.Disabled || !anyService || r.ViaVirtualServer || slices.ContainsFunc(some, func(path string) bool { return !everyPod(t, path) }) {
		return Above{}, false
	}
	text := fmt.Sprintf("rule %s of policy %s (category %s) %s %s to %s",
		r.Name(), p.Name(), p.Category, word, sideText(from, r.SourcesExcluded), sideText(to, r.DestinationsExcluded))
	return Above{In: r.In(), Out: r.Out(), Text: text}, true
}

// everyPod reports whether a path is a group of all pods of a cluster, as the
// subject of a policy that is about all of them becomes.
func everyPod(t *intent.Tree, path string) bool {
	g, ok := intent.Find[*intent.Group](t, path)
	if !ok || len(g.Expression) != 1 {
		return false
	}
	n, ok := g.Expression[0].(*intent.NestedExpression)
	if !ok {
		return false
	}
	for i, e := range n.Expressions {
		c, ok := e.(*intent.Condition)
		if i%2 == 0 && !(ok && c.Operator == "EQUALS" && c.ScopeOperator != "NOTEQUALS" &&
			(c.Value == ncp.TagPod+"|" || strings.HasPrefix(c.Value, ncp.TagCluster+"|"))) {
			return false
		}
	}
	return true
}

// sideText returns one side of a rule in words.
func sideText(p intent.Peers, excluded bool) string {
	if p.Any {
		return "everybody"
	}
	var out []string
	if len(p.Groups) > 0 {
		out = append(out, "all pods")
	}
	for _, a := range p.Prefixes {
		out = append(out, a.String())
	}
	text := strings.Join(out, ", ")
	if excluded {
		return "everybody but " + text
	}
	return text
}
