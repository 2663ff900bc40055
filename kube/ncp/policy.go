package ncp

import (
	"fmt"
	"strings"
)

// PolicyPrefix begins the ids of the policies that one kind of object makes.
type PolicyPrefix string

// The prefixes, by who makes the policy.
const (
	PrefixUplinkGuard    PolicyPrefix = "uplink_guard" // Supervisor, by the cluster's id
	PrefixIsolation      PolicyPrefix = "is"           // Namespace
	PrefixNetworkPolicy  PolicyPrefix = "np"           // NetworkPolicy
	PrefixClusterPolicy  PolicyPrefix = "cnp"          // ClusterNetworkPolicy
	PrefixAdminPolicy    PolicyPrefix = "anp"          // AdminNetworkPolicy
	PrefixBaselinePolicy PolicyPrefix = "banp"         // BaselineAdminNetworkPolicy
)

// What the ids of a NetworkPolicy's two policies end in.
const (
	allowSuffix     = "_allow"
	isolationSuffix = "_isolation"
)

// ID returns the id of what an object with the UID makes.
func (p PolicyPrefix) ID(uid string) string { return string(p) + "_" + uid }

// OrderedID is ID for policies that share a sequence number: their paths are in
// the order of their priorities, which are below 10,000.
func (p PolicyPrefix) OrderedID(priority int32, uid string) string {
	return fmt.Sprintf("%s_%04d_%s", p, priority, uid)
}

// PolicyOf returns from a policy's id what kind of object made it, and the
// object's UID; empty: none did. A Supervisor's policies have no UID.
func PolicyOf(id string) (prefix PolicyPrefix, uid string) {
	if strings.HasPrefix(id, string(PrefixUplinkGuard)+"_") {
		return PrefixUplinkGuard, ""
	}
	first, rest, _ := strings.Cut(id, "_")
	switch prefix = PolicyPrefix(first); prefix {
	case PrefixNetworkPolicy:
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, allowSuffix), isolationSuffix)
	case PrefixClusterPolicy:
		rest = rest[strings.LastIndexByte(rest, '_')+1:] // behind the priority
	case PrefixIsolation, PrefixAdminPolicy, PrefixBaselinePolicy:
	default:
		return "", ""
	}
	if !isUID(rest) {
		return "", ""
	}
	return prefix, rest
}

// isUID tells a UID of Kubernetes from what people may call a policy.
func isUID(s string) bool {
	return len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(s, "0123456789abcdef-") == ""
}
