package explain

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// tagRow is one tag.
type tagRow intent.Tag

// tagRows returns the tags but the one that names the owner.
func tagRows(tags []intent.Tag) []tagRow {
	var out []tagRow
	for _, t := range tags {
		if t.Scope != store.OwnerScope {
			out = append(out, tagRow(t))
		}
	}
	return out
}

func (tagRow) Columns() []string { return []string{"TAG", "VALUE"} }
func (r tagRow) Row() []string   { return []string{r.Scope, r.Tag} }

// segmentRow is one segment.
type segmentRow struct{ s *intent.Segment }

func (segmentRow) Columns() []string { return []string{"SEGMENT", "SUBNET", "GATEWAY", "PATH"} }
func (r segmentRow) Row() []string {
	var subnets, gateways []string
	for _, g := range r.s.Gateways() {
		subnets, gateways = append(subnets, g.Masked().String()), append(gateways, g.Addr().String())
	}
	return []string{r.s.Name(), strings.Join(subnets, ", "), strings.Join(gateways, ", "), r.s.Path}
}

// natRow is one NAT rule.
type natRow struct{ r *intent.PolicyNatRule }

func (natRow) Columns() []string {
	return []string{"NAT RULE", "ACTION", "SOURCES", "DESTINATIONS", "BECOMES"}
}
func (r natRow) Row() []string {
	any := func(s string) string { return strings.ReplaceAll(cmp.Or(s, "any"), ",", ", ") }
	return []string{r.r.Name(), r.r.Action, any(r.r.SourceNetwork), any(r.r.DestinationNetwork), r.r.TranslatedNetwork}
}

// serverRow is one virtual server.
type serverRow struct {
	v           *intent.LBVirtualServer
	at, clients string
}

func (serverRow) Columns() []string {
	return []string{"VIRTUAL SERVER", "ADDRESS", "PORTS", "AT", "CLIENTS", "PATH"}
}
func (r serverRow) Row() []string {
	return []string{r.v.Name(), r.v.IPAddress, strings.Join(r.v.Ports, ","), r.at, r.clients, r.v.Path}
}

// memberRow is one member of a pool, or a pool without members.
type memberRow struct {
	pool *intent.LBPool
	m    intent.LBPoolMember
}

func (memberRow) Columns() []string {
	return []string{"POOL", "ALGORITHM", "SOURCE", "MEMBER", "ADDRESS", "PORT", "STATE"}
}
func (r memberRow) Row() []string {
	source := "the load balancer's"
	if t := r.pool.SNATTranslation; t != nil && t.Type == "LBSnatDisabled" {
		source = "the client's"
	}
	row := []string{intent.IDOf(r.pool.Path), r.pool.Algorithm, source, "none", "", "", ""}
	if r.m.IPAddress != "" {
		row = append(row[:3], r.m.DisplayName, r.m.IPAddress, r.m.Port, strings.ToLower(cmp.Or(r.m.AdminState, "ENABLED")))
	}
	return row
}

// objectRow is any object.
type objectRow struct{ intent.Object }

func (objectRow) Columns() []string { return []string{"TYPE", "NAME", "PATH"} }
func (r objectRow) Row() []string {
	m := r.Meta()
	return []string{m.ResourceType, m.Name(), m.Path}
}

// policyRow is one security policy.
type policyRow struct {
	p     *intent.SecurityPolicy
	scope string
}

func (policyRow) Columns() []string {
	return []string{"POLICY", "CATEGORY", "SEQUENCE", "APPLIED TO", "PATH"}
}
func (r policyRow) Row() []string {
	return []string{r.p.Name(), r.p.Category, strconv.Itoa(r.p.SequenceNumber), r.scope, r.p.Path}
}

// ruleRow is one rule.
type ruleRow struct {
	policy             string
	r                  *intent.Rule
	from, to, services string
}

func (ruleRow) Columns() []string {
	return []string{"RULE", "NAME", "POLICY", "ACTION", "DIRECTION", "FROM", "TO", "SERVICES"}
}
func (r ruleRow) Row() []string {
	return []string{
		strconv.FormatInt(r.r.RuleID, 10), r.r.Name(), r.policy, r.r.Action, cmp.Or(r.r.Direction, "IN_OUT"), r.from, r.to, r.services,
	}
}

// groupRow is one group.
type groupRow struct{ g *intent.Group }

func (groupRow) Columns() []string { return []string{"GROUP", "MEMBERS", "PATH"} }
func (r groupRow) Row() []string {
	return []string{r.g.Name(), expressionText(r.g.Expression), r.g.Path}
}

// expressionText says in one line whom an expression selects.
func expressionText(list []intent.Expression) string {
	var out []string
	for _, e := range list {
		switch e := e.(type) {
		case *intent.Condition:
			out = append(out, conditionText(e))
		case *intent.ConjunctionOperator:
			out = append(out, strings.ToLower(e.ConjunctionOperator))
		case *intent.NestedExpression:
			out = append(out, "("+expressionText(e.Expressions)+")")
		case *intent.IPAddressExpression:
			out = append(out, strings.Join(e.IPAddresses, ", "))
		case *intent.MACAddressExpression:
			out = append(out, strings.Join(e.MACAddresses, ", "))
		case *intent.PathExpression:
			out = append(out, strings.Join(e.Paths, ", "))
		default:
			out = append(out, "…")
		}
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, " ")
}

// conditionText words a condition: SegmentPort app=web.
func conditionText(c *intent.Condition) string {
	scope, tag, scoped := strings.Cut(c.Value, "|")
	sign := map[string]string{"EQUALS": "=", "NOTEQUALS": "≠"}[c.Operator]
	switch {
	case c.Key == "ALL":
		return "every " + c.MemberType
	case c.Key != "Tag" || !scoped || sign == "":
		return strings.Join([]string{c.MemberType, c.Key, strings.ToLower(c.Operator), c.Value}, " ")
	case tag == "" && c.Operator == "EQUALS":
		return c.MemberType + " with " + scope
	case tag == "":
		return c.MemberType + " without " + scope
	}
	return c.MemberType + " " + scope + sign + tag
}
