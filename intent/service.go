package intent

import "strconv"

// Protocol numbers of service entries. Source: IANA, protocol numbers.
const (
	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

func (e *L4PortSetServiceEntry) matches() ([]ServiceMatch, *fault) {
	var proto uint8
	switch e.L4Protocol {
	case "TCP":
		proto = protoTCP
	case "UDP":
		proto = protoUDP
	case "SCTP":
		proto = protoSCTP
	default:
		return nil, &fault{BadValue, e.L4Protocol, "is not a protocol (TCP, UDP, SCTP)"}
	}
	if len(e.DestinationPorts) == 0 {
		return []ServiceMatch{{proto, 0, 65535}}, nil
	}
	var out []ServiceMatch
	for _, s := range e.DestinationPorts {
		first, last, f := parsePorts(s)
		if f != nil {
			return nil, f
		}
		out = append(out, ServiceMatch{proto, first, last})
	}
	return out, nil
}

func (e *ICMPTypeServiceEntry) matches() ([]ServiceMatch, *fault) {
	m := ServiceMatch{protoICMP, 0, 65535}
	switch e.Protocol {
	case "ICMPv4":
	case "ICMPv6":
		m.Proto = protoICMPv6
	default:
		return nil, &fault{BadValue, e.Protocol, "is not an ICMP protocol (ICMPv4, ICMPv6)"}
	}
	if e.ICMPType == nil {
		if e.ICMPCode != nil {
			return nil, &fault{Conflict, strconv.Itoa(*e.ICMPCode), "is an ICMP code without a type (give icmp_type too)"}
		}
		return []ServiceMatch{m}, nil
	}
	first, last := 0, 255
	if e.ICMPCode != nil {
		first, last = *e.ICMPCode, *e.ICMPCode
	}
	for _, v := range []int{*e.ICMPType, first} {
		if v < 0 || v > 255 {
			return nil, &fault{BadValue, strconv.Itoa(v), "is not an ICMP type or code (0 to 255)"}
		}
	}
	m.First, m.Last = uint16(*e.ICMPType<<8|first), uint16(*e.ICMPType<<8|last)
	return []ServiceMatch{m}, nil
}

func (*IGMPTypeServiceEntry) matches() ([]ServiceMatch, *fault) {
	return []ServiceMatch{{protoIGMP, 0, 65535}}, nil
}

func (e *IPProtocolServiceEntry) matches() ([]ServiceMatch, *fault) {
	if e.ProtocolNumber < 0 || e.ProtocolNumber > 255 {
		return nil, &fault{BadValue, strconv.Itoa(e.ProtocolNumber), "is not an IP protocol (0 to 255)"}
	}
	return []ServiceMatch{{uint8(e.ProtocolNumber), 0, 65535}}, nil
}

func (*EtherTypeServiceEntry) matches() ([]ServiceMatch, *fault) { return nil, nil }

func (*NestedServiceServiceEntry) matches() ([]ServiceMatch, *fault) { return nil, nil }

// ServiceMatches returns what the service at path matches, its nested services
// included, in the order of the entries' paths. It is never empty for a
// service that a rule of the Tree names.
func (t *Tree) ServiceMatches(path string) []ServiceMatch {
	var out []ServiceMatch
	for _, o := range t.Children(path, "") {
		e, ok := o.(ServiceEntry)
		if !ok {
			continue
		}
		if n, ok := e.(*NestedServiceServiceEntry); ok {
			out = append(out, t.ServiceMatches(n.NestedServicePath)...)
			continue
		}
		out = append(out, must(e.matches())...)
	}
	return out
}

// RuleServices returns what the rule's services and raw entries match; nil:
// any.
func (t *Tree) RuleServices(r *Rule) []ServiceMatch {
	var out []ServiceMatch
	if !isAny(r.Services) {
		for _, path := range r.Services {
			out = append(out, t.ServiceMatches(path)...)
		}
	}
	for _, e := range r.ServiceEntries {
		if n, ok := e.(*NestedServiceServiceEntry); ok {
			out = append(out, t.ServiceMatches(n.NestedServicePath)...)
			continue
		}
		out = append(out, must(e.matches())...)
	}
	return out
}
