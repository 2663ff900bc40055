// Package service turns Services with their EndpointSlices into virtual servers
// and pools: a cluster IP at the distributed load balancer, the address of a
// LoadBalancer at the load balancer of the namespace's Tier-1.
//
// What Kubernetes leaves to whoever implements a Service:
//
//   - A cluster IP is translated where the packet begins, so members see the
//     client. internalTrafficPolicy Local, topology hints and trafficDistribution
//     have no effect: members are those of the cluster, as one host has all of
//     them.
//   - externalTrafficPolicy Cluster lets members see the load balancer's address,
//     as NCP does; Local, or the annotation ncp/transparent-lb, the client.
//   - Node ports are not opened and spec.externalIPs are not served.
//   - SCTP has no virtual server.
//
// With the annotation ncp/snat_pool a Service is also a NAT rule of that Tier-1,
// for what its pods send to outside.
package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Annotations that people write on a Service.
const (
	// AnnotationAddress stands for spec.loadBalancerIP, which Kubernetes
	// deprecates.
	AnnotationAddress = "weft.dev/ip-address"
	// AnnotationHealth has the value tcp: the load balancer opens connections
	// to its members to see whether they are up.
	AnnotationHealth = "weft.dev/health-check"
	// AnnotationTransparent has the value true: members see the client.
	AnnotationTransparent = "ncp/transparent-lb"
	// AnnotationSources stands for spec.loadBalancerSourceRanges: CIDRs,
	// separated by commas.
	AnnotationSources = "ncp/whitelist-source-ranges"

	tagOwner = "ncp/owner" // of an IpAddressPool: cluster:C or ns:U
)

// Reasons of a Fault that are no value of ncp.AnnotationErrorLB.
const (
	NoNetwork            = "NoNetwork" // cluster or namespace has no load balancer
	ProtocolNotSupported = "ProtocolNotSupported"
	InvalidAnnotation    = "InvalidAnnotation"
	InvalidSourceRange   = "InvalidSourceRange"
	TooManyEndpoints     = "TooManyEndpoints"
)

// Place is what a translation needs to know of the Service's namespace.
type Place struct {
	Cluster   string         // C
	Namespace string         // name
	UID       string         // U
	LBService string         // path of the load balancer for addresses of Ingress
	Tier1     string         // path of the gateway of its pods
	Routed    bool           // that translates nothing
	Ingress   []netip.Prefix // where addresses come from, in this order
	Conflict  string         // why Ingress gives no new addresses; empty: it does
}

// Request is a Service with all that its translation depends on, but the tree.
type Request struct {
	Service *corev1.Service
	Slices  []discoveryv1.EndpointSlice // all of the Service, in any order
	Older   []Claim                     // of the namespace, made before the Service; only asked for if it has AnnotationSNATPool
	Place   Place
	Held    func(netip.Addr) bool // addresses that only who asks for them gets; nil: none
	Has     netip.Addr            // what the load balancer's virtual servers in the tree have; invalid: there are none
	HasPool string                // the pool that was asked for when it got that; empty: none
	Had     netip.Addr            // what the load balancer had when it was last seen, and gets again if it is free; invalid: unknown
	HadSNAT netip.Addr            // what the pods had of their pool, in the same way
}

// Result is what a Service becomes.
type Result struct {
	Objects []intent.Object
	Address netip.Addr     // of the load balancer; invalid: it has none
	SNAT    netip.Addr     // of the pods, by AnnotationSNATPool; invalid: the namespace's
	Faults  []writer.Fault // why it has less than the Service asks for
	Notes   []string       // what has no effect though it is no mistake
}

// translation is one Build.
type translation struct {
	Request
	t       *intent.Tree
	sources []netip.Prefix // who may connect from outside; none: all

	addressPool string // that Address is asked of; empty: none
	Result
}

// Build translates a Service. It reads of the tree the virtual servers, NAT
// rules, address pools and segments, and changes nothing.
func Build(r Request, t *intent.Tree) Result {
	b := &translation{Request: r, t: t}
	spec := &r.Service.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return b.Result
	}
	if spec.ClusterIP != corev1.ClusterIPNone {
		b.servers()
	}
	b.snat()
	slices.SortFunc(b.Objects, func(x, y intent.Object) int { return strings.Compare(x.Meta().Path, y.Meta().Path) })
	return b.Result
}

// servers makes all virtual servers.
func (b *translation) servers() {
	spec := &b.Service.Spec
	if b.t.Get(ncp.DLBPath(b.Place.Cluster)) == nil {
		b.fault(NoNetwork, "", "cluster %s has no distributed load balancer (see the conditions of its Supervisor)", b.Place.Cluster)
		return
	}
	b.notes()
	if spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		b.put(b.persistencePath(), &intent.LBSourceIpPersistenceProfile{Timeout: b.affinityTimeout()})
	}
	ports := b.ports()
	for _, ip := range clusterIPs(spec) {
		for _, p := range ports {
			b.server(ncp.CreatedForDLB, ip, p)
		}
	}
	if IsOurs(b.Service) {
		b.loadBalancer(ports)
	}
}

// IsOurs reports whether a Service asks for a load balancer and leaves it to
// Weft.
func IsOurs(s *corev1.Service) bool {
	class := deref(s.Spec.LoadBalancerClass, "")
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (class == "" || strings.HasPrefix(class, "weft.dev/"))
}

// clusterIPs returns the cluster IPs, none if they are not there yet.
func clusterIPs(spec *corev1.ServiceSpec) []netip.Addr {
	var out []netip.Addr
	list := spec.ClusterIPs
	if len(list) == 0 {
		list = []string{spec.ClusterIP}
	}
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func (b *translation) fault(reason, field, format string, args ...any) {
	b.Faults = append(b.Faults, writer.Fault{Reason: reason, Field: field, Msg: fmt.Sprintf(format, args...)})
}

// annotation returns the field that an annotation is.
func annotation(key string) string { return "metadata.annotations[" + key + "]" }

// notes says what of the Service has no effect.
func (b *translation) notes() {
	spec := &b.Service.Spec
	if spec.Type == corev1.ServiceTypeNodePort {
		b.Notes = append(b.Notes, "node ports are not opened: the Service has its cluster address alone")
	}
	if len(spec.ExternalIPs) > 0 {
		b.Notes = append(b.Notes, "spec.externalIPs are not served (want type LoadBalancer)")
	}
}

// ports returns the ports that can have a virtual server.
func (b *translation) ports() []*corev1.ServicePort {
	var out []*corev1.ServicePort
	for i := range b.Service.Spec.Ports {
		p := &b.Service.Spec.Ports[i]
		if proto := protocol(p); proto != corev1.ProtocolTCP && proto != corev1.ProtocolUDP {
			b.fault(ProtocolNotSupported, fmt.Sprintf("spec.ports[%d].protocol", i), "%s: has no virtual server (TCP, UDP)", proto)
			continue
		}
		out = append(out, p)
	}
	return out
}

// put makes an object at path part of the result.
func (b *translation) put(path string, o intent.Object) {
	m := o.Meta()
	m.Tags = append(ncp.NamespaceTags(b.Place.Cluster, b.Place.Namespace, b.Place.UID), m.Tags...)
	m.Tags = append(m.Tags,
		intent.Tag{Scope: ncp.TagExternalID, Tag: string(b.Service.UID)},
		intent.Tag{Scope: ncp.TagService, Tag: b.Service.Name},
		intent.Tag{Scope: ncp.TagServiceUID, Tag: string(b.Service.UID)},
	)
	b.Objects = append(b.Objects, intent.Put(path, o).Object)
}

// owner returns who owns the result.
func (b *translation) owner() store.Owner { return writer.Owner(writer.Service, b.Service) }

// id returns the id of a virtual server and its pool. Five characters of a hash
// are few for many Services of one name: where another has them, the next are
// taken.
func (b *translation) id(createdFor string, vip netip.Addr, p *corev1.ServicePort) string {
	for uid := string(b.Service.UID); ; uid += "'" {
		id := ncp.VirtualServerID(b.Service.Name, uid, createdFor, vip.String(), p.Port, string(protocol(p)))
		o := b.t.Get(ncp.VirtualServerPath(id))
		if o == nil || store.OwnerOf(o) == b.owner() {
			return id
		}
	}
}

// server makes the virtual server and the pool of one port at one address.
func (b *translation) server(createdFor string, vip netip.Addr, p *corev1.ServicePort) {
	name := ncp.VirtualServerName(b.Service.Name, p.Port, string(protocol(p)))
	id := b.id(createdFor, vip, p)
	resource := func() intent.Resource {
		return intent.Resource{DisplayName: name, Tags: []intent.Tag{
			{Scope: ncp.TagCreatedFor, Tag: createdFor},
			{Scope: ncp.TagServicePort, Tag: strconv.Itoa(int(p.Port))},
			{Scope: ncp.TagServicePortProtocol, Tag: string(protocol(p))},
		}}
	}
	sticky := b.Service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	// A draining member would keep its persistent clients' new connections too.
	list, more := members(b.Slices, p, vip, !sticky)
	if more > 0 {
		b.fault(TooManyEndpoints, "", "%s: has %d endpoints, of which %d are left out (at most %d)", vip, len(list)+more, more, intent.MaxLBMembers)
	}
	pool := &intent.LBPool{
		Resource: resource(), Algorithm: "ROUND_ROBIN", MinActiveMembers: 1, Members: list,
		SNATTranslation: &intent.LBSnatTranslation{Type: "LBSnatDisabled"},
	}
	v := &intent.LBVirtualServer{
		Resource: resource(), IPAddress: vip.String(), Ports: []string{strconv.Itoa(int(p.Port))}, PoolPath: ncp.PoolPath(id),
		LBServicePath: ncp.DLBPath(b.Place.Cluster), ApplicationProfilePath: ncp.TCPProfilePath(b.Place.Cluster),
	}
	v.Tags = append(v.Tags, intent.Tag{Scope: ncp.TagLBVSType, Tag: "layer_4"})
	if protocol(p) == corev1.ProtocolUDP {
		v.ApplicationProfilePath = ncp.UDPProfilePath(b.Place.Cluster)
	}
	if sticky {
		v.LBPersistenceProfilePath = b.persistencePath()
	}
	if createdFor == ncp.CreatedForSLB {
		b.outside(v, pool, p)
	}
	b.put(ncp.PoolPath(id), pool)
	b.put(ncp.VirtualServerPath(id), v)
}

// persistencePath returns the profile of the Service's session affinity. Its
// virtual servers do not share what they know of clients, as kube-proxy's ports
// do not.
func (b *translation) persistencePath() string {
	return "/infra/lb-persistence-profiles/" + b.Service.Name + "_" + string(b.Service.UID)
}

// affinityTimeout returns seconds.
func (b *translation) affinityTimeout() int64 {
	c := b.Service.Spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil {
		return int64(corev1.DefaultClientIPServiceAffinitySeconds)
	}
	return int64(deref(c.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds))
}
