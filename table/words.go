package table

import (
	"fmt"
	"strconv"
)

// String returns aa:bb:cc:dd:ee:ff.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// String returns tier-0, tier-1 or node.
func (k VRFKind) String() string {
	return word(int(k), "", "tier-0", "tier-1", "node")
}

// String returns the kind as tables print it, such as connected.
func (k RouteKind) String() string {
	return word(int(k), "", "connected", "local", "nat", "up", "down", "node", "uplink", "via", "discard", "vip")
}

// String returns out or in.
func (d NATDir) String() string { return word(int(d), "", "out", "in") }

// String returns the intent's word: MATCH_INTERNAL_ADDRESS,
// MATCH_EXTERNAL_ADDRESS or BYPASS.
func (m FirewallMatch) String() string {
	return word(int(m), "MATCH_INTERNAL_ADDRESS", "MATCH_EXTERNAL_ADDRESS", "BYPASS")
}

// String returns ALLOW, DROP, REJECT or CONTINUE.
func (a RuleAction) String() string {
	return word(int(a), "", "ALLOW", "DROP", "REJECT", "CONTINUE")
}

// String returns round_robin, least_connections or ip_hash.
func (a Algorithm) String() string {
	return word(int(a), "", "round_robin", "least_connections", "ip_hash")
}

// String returns the intent's word: ENABLED, GRACEFUL_DISABLED or DISABLED.
func (a AdminState) String() string {
	return word(int(a), "", "ENABLED", "GRACEFUL_DISABLED", "DISABLED")
}

// String returns disabled, automap or pool.
func (m SNATMode) String() string { return word(int(m), "disabled", "automap", "pool") }

// String returns tcp, http, https, icmp or udp.
func (k MonitorKind) String() string {
	return word(int(k), "", "tcp", "http", "https", "icmp", "udp")
}

// String returns any, or protocol and range such as tcp/80, udp/53-54,
// icmp/8/0 (type and code) or proto/47.
func (s Service) String() string {
	if s.Proto == 0 {
		return "any"
	}
	name := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}[s.Proto]
	if name == "" {
		name = "proto/" + strconv.Itoa(int(s.Proto))
	}
	switch {
	case s.First == 0 && s.Last == 65535:
		return name
	case s.Proto == 1 || s.Proto == 58:
		kind := name + "/" + strconv.Itoa(int(s.First>>8))
		if s.First == s.Last {
			return kind + "/" + strconv.Itoa(int(s.First&255))
		}
		return kind
	case s.First == s.Last:
		return name + "/" + strconv.Itoa(int(s.First))
	}
	return name + "/" + strconv.Itoa(int(s.First)) + "-" + strconv.Itoa(int(s.Last))
}

// word returns the i-th word; a number for a value that has none.
func word(i int, words ...string) string {
	if i < len(words) {
		return words[i]
	}
	return strconv.Itoa(i)
}
