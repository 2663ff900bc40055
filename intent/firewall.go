package intent

import (
	"net/netip"
	"slices"
)

// Categories returns the categories of the distributed firewall in the order
// in which they are evaluated. Source: NSX admin guide, "Distributed Firewall".
func Categories() []string {
	return []string{"Ethernet", "Emergency", "Infrastructure", "Environment", "Application"}
}

// CategoryRank returns the policy's place in Categories; an empty category
// comes after all.
func (p *SecurityPolicy) CategoryRank() int {
	c := Categories()
	if i := slices.Index(c, p.Category); i >= 0 {
		return i
	}
	return len(c)
}

// IsStateful reports whether replies are allowed without a rule.
func (p *SecurityPolicy) IsStateful() bool { return p.Stateful == nil || *p.Stateful }

// IsTCPStrict reports whether a new TCP connection must begin with SYN.
func (p *SecurityPolicy) IsTCPStrict() bool { return p.TCPStrict == nil || *p.TCPStrict }

// AppliedTo returns the paths that limit where the rule works: the policy's
// scope, else the rule's. Nil means every port.
func AppliedTo(p *SecurityPolicy, r *Rule) []string {
	for _, scope := range [][]string{p.Scope, r.Scope} {
		if !isEverywhere(scope) {
			return scope
		}
	}
	return nil
}

// isEverywhere reports whether a scope means every port.
func isEverywhere(scope []string) bool {
	return len(scope) == 0 || len(scope) == 1 && (scope[0] == "ANY" || scope[0] == "DFW")
}

// PolicyPath returns the policy that the rule is in.
func (r *Rule) PolicyPath() string { return ParentOf(r.Path) }

// In reports whether the rule looks at traffic towards a vNIC.
func (r *Rule) In() bool { return r.Direction != "OUT" }

// Out reports whether the rule looks at traffic from a vNIC.
func (r *Rule) Out() bool { return r.Direction != "IN" }

// IPv4 reports whether the rule matches IPv4.
func (r *Rule) IPv4() bool { return r.IPProtocol != "IPV6" }

// IPv6 reports whether the rule matches IPv6.
func (r *Rule) IPv6() bool { return r.IPProtocol != "IPV4" }

// Sources returns source_groups; SourcesExcluded negates it.
func (r *Rule) Sources() Peers { return peers(r.SourceGroups) }

// Destinations returns destination_groups; DestinationsExcluded negates it.
func (r *Rule) Destinations() Peers { return peers(r.DestinationGroups) }

func peers(list []string) Peers {
	if isAny(list) {
		return Peers{Any: true}
	}
	var out Peers
	for _, s := range list {
		if isPath(s) {
			out.Groups = append(out.Groups, s)
			continue
		}
		out.Prefixes = append(out.Prefixes, must(parseAddresses(s))...)
	}
	return out
}

// isAny reports whether a list of a rule means everything.
func isAny(list []string) bool { return len(list) == 0 || len(list) == 1 && list[0] == "ANY" }

// isPath reports whether an element of a rule's list is a policy path.
func isPath(s string) bool { return s != "" && s[0] == '/' }

// Prefixes returns the written addresses, ranges as the fewest prefixes.
func (e *IPAddressExpression) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range e.IPAddresses {
		out = append(out, must(parseAddresses(s))...)
	}
	return out
}

// MACs returns the written Ethernet addresses.
func (e *MACAddressExpression) MACs() []MAC {
	out := make([]MAC, 0, len(e.MACAddresses))
	for _, s := range e.MACAddresses {
		out = append(out, must(parseMAC(s)))
	}
	return out
}

// Terms returns the group's expression as alternatives (OR) of operands that
// must all hold (AND); AND binds closer than OR.
func (g *Group) Terms() [][]Expression { return terms(g.Expression) }

// Terms is Group.Terms of what is in the brackets.
func (n *NestedExpression) Terms() [][]Expression { return terms(n.Expressions) }

func terms(list []Expression) [][]Expression {
	var out [][]Expression
	and := false
	for i, e := range list {
		if i%2 == 1 {
			and = e.(*ConjunctionOperator).ConjunctionOperator == "AND"
			continue
		}
		if and {
			last := len(out) - 1
			out[last] = append(out[last], e)
			continue
		}
		out = append(out, []Expression{e})
	}
	return out
}

// Addresses returns all written addresses of the group, in its brackets too;
// it does not look at conjunctions.
func (g *Group) Addresses() []netip.Prefix {
	var out []netip.Prefix
	for e := range walk(g.Expression) {
		if ip, ok := e.(*IPAddressExpression); ok {
			out = append(out, ip.Prefixes()...)
		}
	}
	return out
}
