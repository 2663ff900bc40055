package intent

import (
	"strconv"
	"strings"
)

func (c *checker) group(g *Group) {
	c.expressions("expression", g.Expression, false)
	next := func(path string) []string {
		var out []string
		if g, ok := Find[*Group](c.t, path); ok {
			pathsIn("", g.Expression, func(_ string, paths []string) { out = append(out, paths...) })
		}
		return out
	}
	if way := cycle(g.Path, next); way != nil {
		c.add("expression", Cycle, "contains itself: "+strings.Join(way, " > "))
	}
}

// expressions checks the shape of a list: operands at even indexes,
// conjunctions between them.
func (c *checker) expressions(field string, list []Expression, nested bool) {
	if len(list) > 0 && len(list)%2 == 0 {
		c.add(field, BadExpression, "has "+strconv.Itoa(len(list))+" elements (want an odd number: operands joined by AND or OR)")
	}
	if nested && len(list) == 0 {
		c.add(field, BadExpression, "is empty (want conditions)")
	}
	for i, e := range list {
		at := indexed(field, i)
		v, conjunction := e.(*ConjunctionOperator)
		switch {
		case conjunction && i%2 == 0:
			c.add(at, BadExpression, "is a conjunction (want an operand at even indexes)")
		case conjunction && nested:
			c.needWord(at+".conjunction_operator", v.ConjunctionOperator, "AND")
		case conjunction:
			c.needWord(at+".conjunction_operator", v.ConjunctionOperator, "AND", "OR")
		case i%2 == 1:
			c.add(at, BadExpression, "is an operand (want a conjunction at odd indexes)")
		default:
			c.operand(at, e, nested)
		}
	}
}

func (c *checker) operand(field string, e Expression, nested bool) {
	if _, ok := e.(*Condition); nested && !ok {
		c.add(field, BadExpression, "is not a condition (a nested expression has conditions only)")
		return
	}
	switch v := e.(type) {
	case *Condition:
		c.condition(field, v)
	case *NestedExpression:
		c.expressions(field+".expressions", v.Expressions, true)
	case *PathExpression:
		c.needPaths(field+".paths", v.Paths)
	case *IPAddressExpression:
		for i, s := range v.IPAddresses {
			_, f := parseAddresses(s)
			c.fault(indexed(field+".ip_addresses", i), f)
		}
	case *MACAddressExpression:
		for i, s := range v.MACAddresses {
			_, f := parseMAC(s)
			c.fault(indexed(field+".mac_addresses", i), f)
		}
	case *OpaqueExpression:
		c.value(field+".resource_type", Unsupported, v.ResourceType, "is not supported yet (Condition, NestedExpression, IPAddressExpression, MACAddressExpression, PathExpression)")
	}
}

// operators is the words of Condition.operator that Matches knows.
var operators = []string{"EQUALS", "CONTAINS", "STARTSWITH", "ENDSWITH", "NOTEQUALS", "NOTIN", "IN"}

func (c *checker) condition(field string, v *Condition) {
	switch v.MemberType {
	case "Segment", "SegmentPort":
	case "":
		c.add(field+".member_type", Required, "is missing (Segment, SegmentPort)")
	default:
		c.value(field+".member_type", Unsupported, v.MemberType, "is not supported yet (Segment, SegmentPort)")
	}
	switch v.Key {
	case "ALL":
		return
	case "Tag", "Name":
	case "":
		c.add(field+".key", Required, "is missing (Tag, Name, ALL)")
	default:
		c.value(field+".key", Unsupported, v.Key, "is not supported yet (Tag, Name, ALL)")
	}
	if v.Operator == "MATCHES" {
		c.value(field+".operator", Unsupported, v.Operator, "is not supported yet ("+strings.Join(operators, ", ")+")")
	} else {
		c.needWord(field+".operator", v.Operator, operators...)
	}
	c.word(field+".scope_operator", v.ScopeOperator, "EQUALS", "NOTEQUALS")
	if v.Value == "" || v.Key == "Tag" && v.Value == "|" {
		c.value(field+".value", Required, v.Value, "selects nothing (want a name, or for a tag scope|tag)")
	}
}

// entry checks a service entry; field is empty if it is an object of its own.
func (c *checker) entry(field string, e ServiceEntry) {
	switch v := e.(type) {
	case *L4PortSetServiceEntry:
		if len(v.SourcePorts) > 0 {
			c.value(join(field, "source_ports"), Unsupported, strings.Join(v.SourcePorts, ","), "is not supported yet (want it empty)")
		}
		c.needWord(join(field, "l4_protocol"), v.L4Protocol, "TCP", "UDP", "SCTP")
		for i, s := range v.DestinationPorts {
			_, _, f := parsePorts(s)
			c.fault(indexed(join(field, "destination_ports"), i), f)
		}
	case *ICMPTypeServiceEntry:
		c.icmp(field, v)
	case *IPProtocolServiceEntry:
		c.number(join(field, "protocol_number"), int64(v.ProtocolNumber), 0, 255)
	case *EtherTypeServiceEntry:
		c.number(join(field, "ether_type"), int64(v.EtherType), 0, 65535)
	case *NestedServiceServiceEntry:
		if !isPath(v.NestedServicePath) {
			c.value(join(field, "nested_service_path"), Required, v.NestedServicePath, "is not a policy path (such as /infra/services/web)")
		}
		if field == "" {
			c.serviceCycle(v.ParentPath)
		}
	}
}

func (c *checker) icmp(field string, e *ICMPTypeServiceEntry) {
	c.needWord(join(field, "protocol"), e.Protocol, "ICMPv4", "ICMPv6")
	if e.ICMPType != nil {
		c.number(join(field, "icmp_type"), int64(*e.ICMPType), 0, 255)
	}
	if e.ICMPCode == nil {
		return
	}
	c.number(join(field, "icmp_code"), int64(*e.ICMPCode), 0, 255)
	if e.ICMPType == nil {
		c.add(join(field, "icmp_code"), Conflict, "is given without a type (give icmp_type too)")
	}
}

// nested returns the services that a service includes.
func (c *checker) nested(path string) []string {
	var out []string
	for _, e := range List[*NestedServiceServiceEntry](c.t, path) {
		out = append(out, e.NestedServicePath)
	}
	return out
}

func (c *checker) serviceCycle(path string) {
	if way := cycle(path, c.nested); way != nil {
		c.add("service_entries", Cycle, "contains itself: "+strings.Join(way, " > "))
	}
}

func (c *checker) policy(p *SecurityPolicy) {
	c.word("category", p.Category, Categories()...)
	c.number("sequence_number", int64(p.SequenceNumber), 0, 1<<31-1)
	c.scope(p.Scope)
	if !p.IsStateful() && p.Category != "Ethernet" {
		c.value("stateful", Unsupported, "false", "is not supported yet (true)")
	}
	if v := p.ConnectivityPreference; v != "" && v != "NONE" {
		c.value("connectivity_preference", Unsupported, v, "is not supported yet (NONE)")
	}
}

// scope checks Applied To.
func (c *checker) scope(list []string) {
	for i, s := range list {
		switch {
		case isPath(s):
		case s != "ANY" && s != "DFW":
			c.value(indexed("scope", i), BadValue, s, "is not a policy path, ANY or DFW")
		case len(list) > 1:
			c.value(indexed("scope", i), AnyNotAlone, s, "is not the only value")
		}
	}
}

func (c *checker) rule(r *Rule) {
	if r.IsGatewayRule() {
		c.gatewayRule(r)
	} else {
		c.distributedRule(r)
	}
	c.word("direction", r.Direction, "IN", "OUT", "IN_OUT")
	c.word("ip_protocol", r.IPProtocol, "IPV4", "IPV6", "IPV4_IPV6")
	c.number("sequence_number", int64(r.SequenceNumber), 0, 1<<31-1)
	c.number("rule_id", r.RuleID, 0, 1<<32-1)
	c.length("tag", r.Tag, 32)
	c.peers("source_groups", r.SourceGroups, r.SourcesExcluded)
	c.peers("destination_groups", r.DestinationGroups, r.DestinationsExcluded)
	c.services(r)
	for i, s := range r.Profiles {
		if s != "ANY" {
			c.value(indexed("profiles", i), Unsupported, s, "is not supported yet (ANY)")
		}
	}
	everything := isAny(r.SourceGroups) && isAny(r.DestinationGroups) && isAny(r.Services) && isEverywhere(r.Scope) &&
		len(r.ServiceEntries) == 0 && r.Direction != "IN" && r.Direction != "OUT" && r.IPv4() && r.IPv6() && !r.Disabled
	if r.Path == DefaultRulePath && !everything {
		c.add("", Protected, "is the last rule and matches everything (only action, logged, tag and names can change)")
	}
}

// distributedRule checks what only rules of the distributed firewall have.
func (c *checker) distributedRule(r *Rule) {
	c.needWord("action", r.Action, "ALLOW", "DROP", "REJECT", "JUMP_TO_APPLICATION")
	if p, ok := Find[*SecurityPolicy](c.t, r.ParentPath); ok && r.Action == "JUMP_TO_APPLICATION" && p.Category != "Environment" {
		c.value("action", Conflict, r.Action, "is in category "+shown(p.Category)+" (only in Environment)")
	}
	c.scope(r.Scope)
	if r.ViaVirtualServer && (r.Direction != "IN" || !isAny(r.SourceGroups)) {
		c.value("via_virtual_server", Conflict, "true", "is given for a rule that is not of direction IN and any source")
	}
}

// peers checks the sources or destinations of a rule.
func (c *checker) peers(field string, list []string, excluded bool) {
	if excluded && isAny(list) {
		c.add(field, Conflict, "is everything, and excluded (the rule would match nothing)")
	}
	for i, s := range list {
		switch {
		case isPath(s):
		case s == "ANY":
			if len(list) > 1 {
				c.value(indexed(field, i), AnyNotAlone, s, "is not the only value")
			}
		default:
			if _, f := parseAddresses(s); f != nil {
				c.value(indexed(field, i), BadAddress, s, "is no policy path, address, CIDR or range, and not ANY")
			}
		}
	}
}

func (c *checker) services(r *Rule) {
	for i, s := range r.Services {
		field := indexed("services", i)
		switch {
		case isPath(s):
			c.usable(field, s, map[string]bool{})
		case s != "ANY":
			c.value(field, BadValue, s, "is not a policy path or ANY")
		case len(r.Services) > 1 || len(r.ServiceEntries) > 0:
			c.value(field, AnyNotAlone, s, "is not the only value")
		}
	}
	for i, e := range r.ServiceEntries {
		field := indexed("service_entries", i)
		c.entry(field, e)
		switch v := e.(type) {
		case *EtherTypeServiceEntry:
			c.value(field, Unsupported, "EtherTypeServiceEntry", "is not supported in rules yet")
		case *NestedServiceServiceEntry:
			c.usable(field, v.NestedServicePath, map[string]bool{})
		}
	}
}

// usable checks that a rule can match by a service: one without entries, or
// with entries that are ignored, would silently mean something else.
func (c *checker) usable(field, path string, seen map[string]bool) {
	if _, ok := Find[*Service](c.t, path); !ok || seen[path] {
		return
	}
	seen[path] = true
	entries := List[ServiceEntry](c.t, path)
	if len(entries) == 0 {
		c.value(field, BadValue, path, "has no service entries")
	}
	for _, e := range entries {
		switch v := e.(type) {
		case *EtherTypeServiceEntry:
			c.value(field, Unsupported, v.Path, "is an Ethernet type, not supported in rules yet")
		case *NestedServiceServiceEntry:
			c.usable(field, v.NestedServicePath, seen)
		}
	}
}
