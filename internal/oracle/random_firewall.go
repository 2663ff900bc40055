package oracle

import "github.com/weft-net/weft/intent"

const domain = "/infra/domains/default/"

// group makes a group of one kind of expression; kinds other than conditions
// are joined by OR only, as in NSX.
func (b *builder) group(i int) {
	g := &intent.Group{}
	for n := range b.IntN(3) + 1 {
		if n > 0 {
			g.Expression = append(g.Expression, &intent.ConjunctionOperator{ConjunctionOperator: "OR"})
		}
		g.Expression = append(g.Expression, b.operand())
		if _, ok := g.Expression[len(g.Expression)-1].(*intent.Condition); ok && b.chance(30) {
			g.Expression = append(g.Expression, &intent.ConjunctionOperator{ConjunctionOperator: "AND"}, b.condition())
		}
	}
	if b.chance(5) {
		g.Expression = nil
	}
	if path := b.text(domain+"groups/g%d", i); b.put(path, g) {
		b.groups = append(b.groups, path)
	}
}

func (b *builder) operand() intent.Expression {
	switch b.IntN(6) {
	case 0:
		return &intent.NestedExpression{Expressions: []intent.Expression{
			b.condition(), &intent.ConjunctionOperator{ConjunctionOperator: "AND"}, b.condition(),
		}}
	case 1:
		return &intent.IPAddressExpression{IPAddresses: some(b.Rand, b.literal(), b.literal(), b.literal())}
	case 2:
		return &intent.MACAddressExpression{MACAddresses: []string{b.text("02:00:00:00:00:%02x", 1+b.IntN(max(1, b.macs)))}}
	case 3:
		paths := append([]string{b.portPath(), b.segmentPath()}, b.groups...)
		return &intent.PathExpression{Paths: some(b.Rand, paths...)}
	}
	return b.condition()
}

func (b *builder) condition() *intent.Condition {
	c := &intent.Condition{
		MemberType: one(b.Rand, "SegmentPort", "SegmentPort", "Segment"), Key: one(b.Rand, "Tag", "Tag", "Name", "ALL"),
		Operator: one(b.Rand, "EQUALS", "EQUALS", "CONTAINS", "STARTSWITH", "ENDSWITH", "NOTEQUALS", "IN", "NOTIN"),
	}
	c.Value = one(b.Rand, "web", "db", "web,db", "web-1")
	if c.Key == "Tag" {
		c.Value = one(b.Rand, "app|web", "env|db", "app|", "|web", "db", "app|web,db")
		if b.chance(15) {
			c.ScopeOperator = "NOTEQUALS"
		}
	}
	return c
}

// literal returns addresses as rules and groups write them.
func (b *builder) literal() string {
	return one(b.Rand, "10.0.0.0/24", "10.0.0.2", "10.1.0.2-10.1.0.20", "10.0.0.0/8", "198.51.100.9", "198.51.100.0/24", "192.168.0.0/16", "10.222.0.0/16", "0.0.0.0/0")
}

func (b *builder) portPath() string {
	return one(b.Rand, every[*intent.SegmentPort](b.t, "SegmentPort")...).Path
}

func (b *builder) segmentPath() string {
	return one(b.Rand, every[*intent.Segment](b.t, "Segment")...).Path
}

// appliedTo returns a scope: mostly everywhere. Groups with written addresses
// are left out, NSX refuses them there.
func (b *builder) appliedTo() []string {
	if b.chance(60) {
		return one(b.Rand, nil, []string{"ANY"}, []string{"DFW"})
	}
	scope := []string{one(b.Rand, b.portPath(), b.segmentPath())}
	for _, path := range b.groups {
		if b.chance(15) && !b.written(path) {
			scope = append(scope, path)
		}
	}
	return scope
}

// written reports whether a group has written addresses.
func (b *builder) written(path string) bool {
	g, ok := intent.Find[*intent.Group](b.t, path)
	if !ok {
		return false
	}
	for _, e := range g.Expression {
		switch v := e.(type) {
		case *intent.IPAddressExpression, *intent.MACAddressExpression:
			return true
		case *intent.PathExpression:
			for _, p := range v.Paths {
				if b.written(p) {
					return true
				}
			}
		}
	}
	return false
}

// policy makes a policy and its rules. Two of three rules allow, so that
// packets come to the later ones.
func (b *builder) policy(i int) {
	path := b.text(domain+"security-policies/p%d", i)
	p := &intent.SecurityPolicy{
		Category:       one(b.Rand, "Ethernet", "Emergency", "Infrastructure", "Environment", "Environment", "Application", "Application", ""),
		SequenceNumber: b.IntN(3), Scope: b.appliedTo(),
	}
	if b.size.Servers > 0 && b.chance(60) {
		off := false
		p.TCPStrict = &off
	}
	b.put(path, p)
	for j := range b.IntN(b.size.Rules + 1) {
		r := &intent.Rule{
			SequenceNumber: b.IntN(3), SourceGroups: b.peers(), DestinationGroups: b.peers(), Scope: b.appliedTo(),
			Action:    one(b.Rand, "ALLOW", "ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"),
			Direction: one(b.Rand, "", "IN_OUT", "IN", "OUT"), Disabled: b.chance(10),
			IPProtocol: one(b.Rand, "", "IPV4", "IPV4_IPV6", "IPV4_IPV6", "IPV6"),
		}
		if p.Category == "Environment" && b.chance(30) {
			r.Action = "JUMP_TO_APPLICATION"
		}
		r.SourcesExcluded = r.SourceGroups[0] != "ANY" && b.chance(15)
		r.DestinationsExcluded = r.DestinationGroups[0] != "ANY" && b.chance(15)
		b.ruleServices(r)
		if b.chance(30) {
			r.RuleID = int64(1000 + 10*i + j)
		}
		if b.size.Servers > 0 {
			r.ViaVirtualServer = b.chance(15)
		}
		b.put(b.text("%s/rules/r%d", path, j), r)
	}
}

func (b *builder) ruleServices(r *intent.Rule) {
	switch b.IntN(4) {
	case 0:
		r.Services = []string{"ANY"}
	case 1:
		r.Services = []string{b.service(), b.service()}
	case 2:
		r.ServiceEntries = []intent.ServiceEntry{&intent.L4PortSetServiceEntry{
			L4Protocol: one(b.Rand, "TCP", "UDP"), DestinationPorts: []string{one(b.Rand, "443", "1000-2000", "65535")},
		}}
	}
}

// peers returns one side of a rule.
func (b *builder) peers() []string {
	if b.chance(40) || len(b.groups) == 0 {
		return []string{"ANY"}
	}
	return append([]string{one(b.Rand, b.literal(), one(b.Rand, b.groups...))}, some(b.Rand, one(b.Rand, b.groups...))...)
}

// rest sets the exclude list and the default rule.
func (b *builder) rest() {
	if b.chance(30) {
		members := []string{b.portPath()}
		for _, path := range b.groups {
			if b.chance(10) && !b.written(path) {
				members = append(members, path)
			}
		}
		b.put(intent.ExcludeListPath, &intent.PolicyExcludeList{Members: members})
	}
	if b.chance(30) {
		b.put(intent.DefaultRulePath, &intent.Rule{RuleID: 2, Action: one(b.Rand, "DROP", "REJECT"), IsDefault: true})
	}
}
