package ncp

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-net/weft/intent"
)

// Scopes of tags.
const (
	TagCluster             = "ncp/cluster"
	TagClusterDomain       = "ncp/cluster_domain"
	TagProject             = "ncp/project"     // name of the namespace
	TagProjectUID          = "ncp/project_uid" // UID of the namespace
	TagPod                 = "ncp/pod"
	TagCreatedFor          = "ncp/created_for"
	TagNetworkPolicy       = "ncp/network_policy"
	TagService             = "ncp/service"
	TagServiceUID          = "ncp/service_uid"
	TagServicePort         = "ncp/service_port"
	TagServicePortProtocol = "ncp/service_port_protocol"
	TagLBVSType            = "ncp/lb_vs_type" // value layer_4
	TagExternalID          = "external_id"    // UID of the Kubernetes object

	// TagKubernetes is the scope of the domain's tag that says which cluster all
	// objects are of: the UID of its namespace kube-system.
	TagKubernetes = "weft/kubernetes"

	// TagIPPool is the scope of the tag of a virtual server or NAT rule that says
	// which IpAddressPool its Service asked for when it got its address, by the
	// id or display name that the Service has.
	TagIPPool = "weft/ip_pool"

	// namedPort is the scope of a named container port, followed by
	// <PROTO>/<name>; its tag is the number.
	namedPort = "weft/port/"
)

// EmptyValue is the tag of a label whose value is empty: an empty tag in a
// group's condition means any. No label can have this value.
const EmptyValue = "(empty)"

// LabelScope returns the scope of a label's tag: its key. Keys that would be
// taken for a tag of NCP's or Weft's own are set apart, so that nobody joins
// another namespace's groups by a label.
func LabelScope(key string) string {
	if key == TagExternalID || strings.HasPrefix(key, "ncp/") || strings.HasPrefix(key, "weft/") {
		return "label:" + key
	}
	return key
}

// LabelTag returns the tag of a label's value.
func LabelTag(value string) string { return cmp.Or(value, EmptyValue) }

// LabelTags returns a tag for each label, ordered by key.
func LabelTags(labels map[string]string) []intent.Tag {
	out := make([]intent.Tag, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, intent.Tag{Scope: LabelScope(key), Tag: LabelTag(labels[key])})
	}
	return out
}

// LabelCondition returns the value of a group's condition of key Tag that holds
// for a label with the value.
func LabelCondition(key, value string) string { return LabelScope(key) + "|" + LabelTag(value) }

// LabelExists returns the value of a group's condition of key Tag that holds
// for a label with any value.
func LabelExists(key string) string { return LabelScope(key) + "|" }

// PortScope returns the scope of a named container port's tag. proto is TCP,
// UDP or SCTP.
func PortScope(proto, name string) string { return namedPort + proto + "/" + name }

// NamespaceTags returns the tags that all objects made for a namespace have.
func NamespaceTags(cluster, namespace, uid string) []intent.Tag {
	return []intent.Tag{{Scope: TagCluster, Tag: cluster}, {Scope: TagProject, Tag: namespace}, {Scope: TagProjectUID, Tag: uid}}
}

// SegmentTags returns the tags of a namespace's segments; namespaceSelectors
// become conditions on them.
func SegmentTags(cluster, namespace, uid string, labels map[string]string) []intent.Tag {
	return append(NamespaceTags(cluster, namespace, uid), LabelTags(labels)...)
}

// PortTags returns the tags of a pod's port: whose it is, its labels and its
// named container ports. uid is that of the pod's namespace.
func PortTags(cluster, uid string, pod *corev1.Pod) []intent.Tag {
	out := append(NamespaceTags(cluster, pod.Namespace, uid), intent.Tag{Scope: TagPod, Tag: pod.Name})
	out = append(out, LabelTags(pod.Labels)...)
	var ports []intent.Tag
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, p := range c.Ports {
				if p.Name != "" {
					proto := cmp.Or(string(p.Protocol), string(corev1.ProtocolTCP))
					ports = append(ports, intent.Tag{Scope: PortScope(proto, p.Name), Tag: strconv.Itoa(int(p.ContainerPort))})
				}
			}
		}
	}
	slices.SortFunc(ports, func(a, b intent.Tag) int { return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Tag, b.Tag)) })
	ports = slices.CompactFunc(ports, func(a, b intent.Tag) bool { return a.Scope == b.Scope && a.Tag == b.Tag })
	return append(out, ports...)
}

// TagValue returns the tag of the first of tags with the scope; empty: none.
func TagValue(tags []intent.Tag, scope string) string {
	for _, t := range tags {
		if t.Scope == scope {
			return t.Tag
		}
	}
	return ""
}

// GuestClusterLabels are the labels of a guest cluster's machines whose value is
// its name. The first that is given counts.
func GuestClusterLabels() []string {
	return []string{"cluster.x-k8s.io/cluster-name", "capw.vmware.com/cluster.name"}
}
