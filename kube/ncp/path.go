package ncp

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

// DefaultCluster is the id of a Supervisor cluster that names none.
const DefaultCluster = "domain-c8"

// DomainPath returns the domain of a cluster's groups and policies.
func DomainPath(cluster string) string { return "/infra/domains/" + cluster }

// Tier1ID returns the id of a namespace's Tier-1, which is also the value of
// AnnotationRouter.
func Tier1ID(uid string) string { return "t1_" + uid + "_rtr" }

// Tier1Path returns the Tier-1 of a namespace.
func Tier1Path(uid string) string { return "/infra/tier-1s/" + Tier1ID(uid) }

// SystemTier1ID returns the id of the Tier-1 that system namespaces share.
func SystemTier1ID(cluster string) string { return "t1_" + cluster + "_system_rtr" }

// SystemTier1Path returns the Tier-1 that system namespaces share.
func SystemTier1Path(cluster string) string { return "/infra/tier-1s/" + SystemTier1ID(cluster) }

// LocaleServicesPath returns where a gateway is placed.
func LocaleServicesPath(gateway string) string { return gateway + "/locale-services/default" }

// SegmentPath returns segment n of a namespace, from 0 on.
func SegmentPath(uid string, n int) string {
	return "/infra/segments/seg_" + uid + "_" + strconv.Itoa(n)
}

// SegmentName returns the display name of segment n of a namespace.
func SegmentName(namespace string, n int) string { return namespace + "-" + strconv.Itoa(n) }

// SegmentIndex returns n of SegmentPath(uid, n); false: it is no such path.
func SegmentIndex(uid, path string) (int, bool) {
	rest, ok := strings.CutPrefix(path, "/infra/segments/seg_"+uid+"_")
	n, err := strconv.Atoi(rest)
	return n, ok && err == nil && n >= 0
}

// SystemSegmentPath returns the segment of the control plane machines.
func SystemSegmentPath(cluster string) string { return "/infra/segments/seg_" + cluster + "_system_0" }

// PortPath returns the port of a pod on a segment.
func PortPath(segment, podUID string) string { return segment + "/ports/" + podUID }

// PortName returns the display name of a pod's port. NSX's names have 255
// bytes; a longer one ends after them.
func PortName(namespace, pod string) string { return Name(namespace + "/" + pod) }

// Name shortens a display name to the 255 bytes that one may have.
func Name(s string) string {
	const most = 255
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// Ids of a namespace's NAT rules; see NATRulePath.
const (
	NATIngress = "ingress-" // NO_SNAT towards ingress CIDR i
	NATInside  = "inside-"  // NO_SNAT towards namespace network i
	NATExempt  = "exempt-"  // NO_SNAT towards exempt CIDR i
	NATEgress  = "egress"   // SNAT of all else
)

// Sequence numbers of the rules of a Tier-1 that translate sources. They are
// behind those of what is exempt, which count from 1.
const (
	SequenceServiceSNAT = 100_000 // of Services that have a pool for their pods
	SequenceEgress      = 200_000 // of all else
)

// ServiceSNATID returns the id of the NAT rule of a Service that has a pool for
// its pods; see NATRulePath.
func ServiceSNATID(serviceUID string) string { return "svc_" + serviceUID }

// NATRulePath returns a NAT rule of a Tier-1 in its section USER.
func NATRulePath(tier1, id string) string { return tier1 + "/nat/USER/nat-rules/" + id }

// LBServicePath returns the load balancer of a namespace.
func LBServicePath(uid string) string { return "/infra/lb-services/lbs_" + uid }

// SystemLBServicePath returns the load balancer that system namespaces share.
func SystemLBServicePath(cluster string) string {
	return "/infra/lb-services/lbs_" + cluster + "_system"
}

// DLBPath returns the distributed load balancer of a cluster, which serves
// ClusterIPs.
func DLBPath(cluster string) string { return "/infra/lb-services/" + DLBName(cluster) }

// DLBName returns the id and display name of DLBPath.
func DLBName(cluster string) string { return "clusterip_" + cluster + "_dlb" }

// TCPProfilePath returns the application profile of TCP virtual servers.
func TCPProfilePath(cluster string) string {
	return "/infra/lb-app-profiles/ncp_" + cluster + "_LBFastTcpProfile"
}

// UDPProfilePath returns the application profile of UDP virtual servers.
func UDPProfilePath(cluster string) string {
	return "/infra/lb-app-profiles/ncp_" + cluster + "_LBFastUdpProfile"
}

// TCPMonitorPath returns the monitor profile for members of TCP pools.
func TCPMonitorPath(cluster string) string {
	return "/infra/lb-monitor-profiles/ncp_" + cluster + "_LBTcpMonitorProfile"
}

// AllSegmentsName returns the id and display name of AllSegmentsPath.
func AllSegmentsName(cluster string) string { return "clusterip_" + cluster + "_all_segments" }

// AllSegmentsPath returns the group of all segments of a cluster, where the
// distributed load balancer works.
func AllSegmentsPath(cluster string) string { return GroupPath(cluster, AllSegmentsName(cluster)) }

// GroupPath returns a group of a cluster by its id.
func GroupPath(cluster, id string) string { return DomainPath(cluster) + "/groups/" + id }

// NamespaceGroupPath returns the group of all pods of a namespace.
func NamespaceGroupPath(cluster, uid string) string { return GroupPath(cluster, "ns_"+uid) }

// ClusterGroupPath returns the group of a guest cluster's machines in a
// namespace. guest is the value of one of GuestClusterLabels.
func ClusterGroupPath(cluster, uid, guest string) string {
	return GroupPath(cluster, "ns_"+uid+"_cluster_"+guest)
}

// PolicyPath returns a security policy of a cluster by its id.
func PolicyPath(cluster, id string) string { return DomainPath(cluster) + "/security-policies/" + id }

// GatewayPolicyPath returns a gateway policy of a cluster by its id.
func GatewayPolicyPath(cluster, id string) string {
	return DomainPath(cluster) + "/gateway-policies/" + id
}

// RulePath returns a rule of a policy by its id.
func RulePath(policy, id string) string { return policy + "/rules/" + id }

// UplinkGuardPath returns the gateway policy that keeps inside addresses from
// leaving by a Tier-0's uplinks untranslated.
func UplinkGuardPath(cluster string) string {
	return GatewayPolicyPath(cluster, PrefixUplinkGuard.ID(cluster))
}

// IsolationPath returns the policy that isolates a namespace.
func IsolationPath(cluster, uid string) string { return PolicyPath(cluster, PrefixIsolation.ID(uid)) }

// Ids and names of rules.
const (
	RuleAllowSameNamespace  = "allow-same-namespace"
	RuleAllowVirtualServers = "allow-virtual-servers"
	RuleDenyAllIngress      = "deny-all-ingress"
	RuleDenyAllEgress       = "deny-all-egress"
)

// IsolationName returns the display name of a namespace's IsolationPath.
func IsolationName(namespace string) string { return namespace + "-isolation" }

// NetworkPolicyAllowPath returns the policy of what a NetworkPolicy allows.
func NetworkPolicyAllowPath(cluster, uid string) string {
	return PolicyPath(cluster, PrefixNetworkPolicy.ID(uid)+allowSuffix)
}

// NetworkPolicyIsolationPath returns the policy of what a NetworkPolicy
// isolates.
func NetworkPolicyIsolationPath(cluster, uid string) string {
	return PolicyPath(cluster, PrefixNetworkPolicy.ID(uid)+isolationSuffix)
}

// NetworkPolicyAllowName returns the display name of NetworkPolicyAllowPath.
func NetworkPolicyAllowName(namespace, policy string) string {
	return suffixed(namespace+"-"+policy, "-allowlist")
}

// NetworkPolicyIsolationName returns the display name of
// NetworkPolicyIsolationPath.
func NetworkPolicyIsolationName(namespace, policy string) string {
	return suffixed(namespace+"-"+policy, "-isolation")
}

// suffixed shortens s so that its suffix stays within a display name.
func suffixed(s, suffix string) string {
	const most = 255
	return s[:min(len(s), most-len(suffix))] + suffix
}

// AllowRuleName returns the id and name of a rule that allows: TCP.80-ingress-allow
// for ports [TCP.80] and direction ingress. Several ports are joined by _; none
// are all. More than a name can have end in a hash.
func AllowRuleName(ports []string, direction string) string {
	what := "all"
	if len(ports) > 0 {
		what = strings.Join(ports, "_")
	}
	tail := "-" + direction + "-allow"
	if most := 200; len(what) > most {
		what = what[:most] + "_" + Hash(what)
	}
	return what + tail
}

// Values of TagCreatedFor of virtual servers.
const (
	CreatedForDLB = "DLB" // a ClusterIP, on the distributed load balancer
	CreatedForSLB = "SLB" // an address of the ingress CIDRs, on a Tier-1's load balancer
)

// VirtualServerName returns the display name of a Service's virtual server for
// one port and of its pool: <svc>_<port>_<PROTO>.
func VirtualServerName(service string, port int32, proto string) string {
	return service + "_" + strconv.Itoa(int(port)) + "_" + proto
}

// VirtualServerID returns VirtualServerName and a hash of five characters that
// tells apart Services of the same name, the addresses of one Service, and what
// the server was created for (CreatedForDLB, CreatedForSLB).
func VirtualServerID(service, serviceUID, createdFor, address string, port int32, proto string) string {
	name := VirtualServerName(service, port, proto)
	return name + "_" + Hash(serviceUID, createdFor, address, name)
}

// VirtualServerPath returns a virtual server by its VirtualServerID.
func VirtualServerPath(id string) string { return "/infra/lb-virtual-servers/" + id }

// PoolPath returns a pool by the VirtualServerID of its server.
func PoolPath(id string) string { return "/infra/lb-pools/" + id }

// Hash returns five characters of a-z and 2-7 that stand for the parts.
func Hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:5])
}
