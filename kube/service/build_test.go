package service

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// surroundings is what the tenant's objects are for the tests of this package:
// namespace red, and the address pools that people made.
const surroundings = `
resource_type: Infra
children:
- resource_type: ChildTier0
  Tier0: {id: provider}
- resource_type: ChildTier1
  Tier1:
    id: t1_u1_rtr
    tier0_path: /infra/tier-0s/provider
    route_advertisement_types: [TIER1_CONNECTED, TIER1_LB_VIP]
    children:
    - resource_type: ChildLocaleServices
      LocaleServices: {id: default, edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec}
- resource_type: ChildSegment
  Segment:
    id: seg_u1_0
    connectivity_path: /infra/tier-1s/t1_u1_rtr
    subnets: [{gateway_address: 10.244.0.1/28}, {gateway_address: "fd00:1::1/64"}]
    tags: [{scope: ncp/cluster, tag: c8}]
- resource_type: ChildDomain
  Domain:
    id: c8
    children:
    - resource_type: ChildGroup
      Group:
        id: clusterip_c8_all_segments
        expression: [{resource_type: Condition, member_type: Segment, key: Tag, operator: EQUALS, value: ncp/cluster|c8}]
- resource_type: ChildLBService
  LBService: {id: clusterip_c8_dlb, connectivity_path: /infra/domains/c8/groups/clusterip_c8_all_segments, size: DLB}
- resource_type: ChildLBService
  LBService: {id: lbs_u1, connectivity_path: /infra/tier-1s/t1_u1_rtr, size: SMALL}
- resource_type: ChildLBAppProfile
  LBAppProfile: {id: ncp_c8_LBFastTcpProfile, resource_type: LBFastTcpProfile}
- resource_type: ChildLBAppProfile
  LBAppProfile: {id: ncp_c8_LBFastUdpProfile, resource_type: LBFastUdpProfile}
- resource_type: ChildLBMonitorProfile
  LBMonitorProfile: {id: ncp_c8_LBTcpMonitorProfile, resource_type: LBTcpMonitorProfile}
- resource_type: ChildIpAddressPool
  IpAddressPool:
    id: gold-1
    display_name: gold
    tags: [{scope: ncp/owner, tag: "cluster:c8"}]
    children:
    - resource_type: ChildIpAddressPoolStaticSubnet
      IpAddressPoolStaticSubnet: {id: a, cidr: 203.0.113.0/24, allocation_ranges: [{start: 203.0.113.10, end: 203.0.113.11}]}
- resource_type: ChildIpAddressPool
  IpAddressPool: {id: others, tags: [{scope: ncp/owner, tag: "cluster:c9"}]}
- resource_type: ChildIpAddressPool
  IpAddressPool: {id: twice}
- resource_type: ChildIpAddressPool
  IpAddressPool: {id: second, display_name: twice}
- resource_type: ChildIpAddressPool
  IpAddressPool: {id: mine, tags: [{scope: ncp/owner, tag: "ns:u1"}]}
`

// place is namespace red.
func place() Place {
	return Place{
		Cluster: "c8", Namespace: "red", UID: "u1", LBService: ncp.LBServicePath("u1"),
		Ingress: []netip.Prefix{netip.MustParsePrefix("10.203.182.128/30"), netip.MustParsePrefix("10.203.183.7/32")},
	}
}

// tree returns the surroundings.
func tree(t *testing.T) *intent.Tree {
	t.Helper()
	changes, problems := intent.Parse("surroundings", []byte(surroundings))
	if intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	out := intent.NewTree()
	if _, problems = out.Apply(changes); intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	return out
}

// add makes objects of a Service part of a tree, as a store does, and compiles it.
func add(t *testing.T, to *intent.Tree, s *corev1.Service, objects ...intent.Object) {
	t.Helper()
	var changes []intent.Change
	for _, o := range objects {
		o = intent.Clone(o)
		o.Meta().Tags = append(o.Meta().Tags, intent.Tag{Scope: store.OwnerScope, Tag: string(writer.Owner(writer.Service, s))})
		changes = append(changes, intent.Put(o.Meta().Path, o))
	}
	if _, problems := to.Apply(changes); len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, problems := compile.New().Update(to, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
}

// object parses a Kubernetes object.
func object[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return out
}

// svc returns a Service called web in namespace red with a spec.
func svc(t *testing.T, spec string) *corev1.Service {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "web", UID: "s1", Annotations: map[string]string{}},
		Spec:       *object[corev1.ServiceSpec](t, spec),
	}
	return s
}

// slice returns an EndpointSlice of web. Each endpoint is an address and words
// among ready, serving, terminating, or none of them for conditions that are nil.
func slice(ports string, endpoints ...string) discoveryv1.EndpointSlice {
	out := discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	if strings.Contains(endpoints[0], ":") {
		out.AddressType = discoveryv1.AddressTypeIPv6
	}
	if err := yaml.Unmarshal([]byte(ports), &out.Ports); err != nil {
		panic(err)
	}
	for _, e := range endpoints {
		f := strings.Fields(e)
		ep := discoveryv1.Endpoint{Addresses: f[:1], TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "pod-" + f[0]}}
		if len(f) > 1 {
			has := func(w string) *bool { v := slices.Contains(f, w); return &v }
			ep.Conditions = discoveryv1.EndpointConditions{Ready: has("ready"), Serving: has("serving"), Terminating: has("terminating")}
		}
		out.Endpoints = append(out.Endpoints, ep)
	}
	return out
}

// shown returns what people look at in a result: a line an object, without
// hashes.
func shown(r Result) []string {
	pools := map[string]*intent.LBPool{}
	for _, o := range r.Objects {
		if p, ok := o.(*intent.LBPool); ok {
			pools[p.Path] = p
		}
	}
	var out []string
	for _, o := range r.Objects {
		switch v := o.(type) {
		case *intent.LBVirtualServer:
			pool := pools[v.PoolPath]
			line := []string{intent.IDOf(v.LBServicePath), v.Name(), v.IPAddress, strings.TrimPrefix(pool.SNATType(), "LBSnat"), "→"}
			for _, m := range pool.Members {
				line = append(line, m.IPAddress+":"+m.Port)
			}
			if v.LBPersistenceProfilePath != "" {
				line = append(line, "affinity")
			}
			if v.AccessListControl != nil {
				line = append(line, "access")
			}
			if len(pool.ActiveMonitorPaths) > 0 {
				line = append(line, "monitor")
			}
			out = append(out, strings.Join(line, " "))
		case *intent.LBSourceIpPersistenceProfile:
			out = append(out, fmt.Sprintf("affinity %d s", v.Timeout))
		case *intent.Group:
			out = append(out, "sources "+strings.Join(v.Expression[0].(*intent.IPAddressExpression).IPAddresses, " "))
		}
	}
	slices.Sort(out)
	for _, f := range r.Faults {
		out = append(out, f.Reason+": "+f.Error())
	}
	return append(out, r.Notes...)
}

// whole compares results with all that is in them.
var whole = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmp.AllowUnexported(intent.IPAddressExpression{})}

const (
	http    = "[{name: '', port: 8080, protocol: TCP}]"
	cluster = "clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10]"
)

func TestBuild(t *testing.T) {
	other := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "first", UID: "s0"}, Spec: *object[corev1.ServiceSpec](t, "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.182.129}")}
	for _, tc := range []struct {
		name        string
		spec        string
		annotations map[string]string
		slices      []discoveryv1.EndpointSlice
		had, has    string
		hasPool     string
		want        []string
	}{
		{name: "cluster IP", spec: "{" + cluster + ", ports: [{port: 80, targetPort: 8080}]}",
			slices: []discoveryv1.EndpointSlice{slice(http, "10.244.0.3", "10.244.0.2")},
			want:   []string{"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled → 10.244.0.2:8080 10.244.0.3:8080"}},
		{name: "no endpoints", spec: "{" + cluster + ", ports: [{port: 80}]}",
			want: []string{"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →"}},
		{name: "several ports, by name, and a named target that differs from pod to pod",
			spec: "{" + cluster + ", ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns}, {name: dns-tcp, port: 53, targetPort: dns-tcp}, {name: metrics, port: 9153}]}",
			slices: []discoveryv1.EndpointSlice{
				slice("[{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}, {name: metrics, port: 9153, protocol: TCP}]", "10.244.0.2"),
				slice("[{name: dns, port: 1053, protocol: UDP}]", "10.244.0.3"),
			},
			want: []string{
				"clusterip_c8_dlb web_53_TCP 10.96.0.10 Disabled → 10.244.0.2:53",
				"clusterip_c8_dlb web_53_UDP 10.96.0.10 Disabled → 10.244.0.2:53 10.244.0.3:1053",
				"clusterip_c8_dlb web_9153_TCP 10.96.0.10 Disabled → 10.244.0.2:9153",
			}},
		{name: "headless", spec: "{clusterIP: None, clusterIPs: [None], ports: [{port: 80}]}", slices: []discoveryv1.EndpointSlice{slice(http, "10.244.0.2")}},
		{name: "ExternalName", spec: "{type: ExternalName, externalName: a.example}"},
		{name: "no address yet", spec: "{ports: [{port: 80}]}"},
		{name: "two families", spec: "{clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, 'fd96::a'], ports: [{port: 80}]}",
			slices: []discoveryv1.EndpointSlice{slice(http, "10.244.0.2"), slice(http, "fd00:1::2")},
			want: []string{
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled → 10.244.0.2:8080",
				"clusterip_c8_dlb web_80_TCP fd96::a Disabled → fd00:1::2:8080",
			}},
		{name: "affinity", spec: "{" + cluster + ", sessionAffinity: ClientIP, ports: [{port: 80}]}",
			want: []string{"affinity 10800 s", "clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled → affinity"}},
		{name: "affinity with a timeout", spec: "{" + cluster + ", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 20}}, ports: [{port: 80}]}",
			want: []string{"affinity 20 s", "clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled → affinity"}},
		{name: "SCTP", spec: "{" + cluster + ", ports: [{name: a, port: 80, protocol: SCTP}, {name: b, port: 81}]}",
			want: []string{"clusterip_c8_dlb web_81_TCP 10.96.0.10 Disabled →", "ProtocolNotSupported: spec.ports[0].protocol: SCTP: has no virtual server (TCP, UDP)"}},
		{name: "node port", spec: "{type: NodePort, " + cluster + ", ports: [{port: 80, nodePort: 30080}], externalIPs: [192.0.2.1]}",
			want: []string{
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →",
				"node ports are not opened: the Service has its cluster address alone",
				"spec.externalIPs are not served (want type LoadBalancer)",
			}},

		{name: "load balancer", spec: "{type: LoadBalancer, " + cluster + ", ports: [{name: a, port: 80}, {name: b, port: 443, protocol: UDP}]}",
			slices: []discoveryv1.EndpointSlice{slice("[{name: a, port: 8080}]", "10.244.0.2")},
			want: []string{
				"clusterip_c8_dlb web_443_UDP 10.96.0.10 Disabled →",
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled → 10.244.0.2:8080",
				"lbs_u1 web_443_UDP 10.203.182.130 AutoMap →",
				"lbs_u1 web_80_TCP 10.203.182.130 AutoMap → 10.244.0.2:8080",
			}},
		{name: "load balancer alone", spec: "{type: LoadBalancer, ports: [{port: 80}], allocateLoadBalancerNodePorts: false}",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
		{name: "its address stays", spec: "{type: LoadBalancer, ports: [{port: 80}]}", has: "10.203.183.7",
			want: []string{"lbs_u1 web_80_TCP 10.203.183.7 AutoMap →"}},
		{name: "its address comes back", spec: "{type: LoadBalancer, ports: [{port: 80}]}", had: "10.203.183.7",
			want: []string{"lbs_u1 web_80_TCP 10.203.183.7 AutoMap →"}},
		{name: "its address has gone to another", spec: "{type: LoadBalancer, ports: [{port: 80}]}", had: "10.203.182.129",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
		{name: "its address is no longer of the range", spec: "{type: LoadBalancer, ports: [{port: 80}]}", has: "10.1.2.3", had: "10.1.2.3",
			want: []string{"lbs_u1 web_80_TCP 10.1.2.3 AutoMap →", "10.1.2.3 stays in use, though it is not of the ingress CIDRs of namespace red (10.203.182.128/30, 10.203.183.7/32) any more"}},
		{name: "its address is no longer of the range, and is asked for", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.1.2.3}", has: "10.1.2.3",
			want: []string{"lbs_u1 web_80_TCP 10.1.2.3 AutoMap →", "10.1.2.3 stays in use, though it is not of the ingress CIDRs of namespace red (10.203.182.128/30, 10.203.183.7/32) any more"}},
		{name: "its address is no longer of the range, and another is asked for", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.183.7}", has: "10.1.2.3",
			want: []string{"lbs_u1 web_80_TCP 10.203.183.7 AutoMap →"}},
		{name: "what it had is no longer of the range", spec: "{type: LoadBalancer, ports: [{port: 80}]}", had: "10.1.2.3",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
		{name: "an address is asked for", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.183.7}", has: "10.203.182.130",
			want: []string{"lbs_u1 web_80_TCP 10.203.183.7 AutoMap →"}},
		{name: "by annotation", spec: "{type: LoadBalancer, ports: [{port: 80}]}", annotations: map[string]string{AnnotationAddress: "10.203.183.7"},
			want: []string{"lbs_u1 web_80_TCP 10.203.183.7 AutoMap →"}},
		{name: "two wishes", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.183.7}", annotations: map[string]string{AnnotationAddress: "10.203.183.8"},
			want: []string{"INVALID_IP_ADDRESS: metadata.annotations[weft.dev/ip-address]: 10.203.183.8: is not spec.loadBalancerIP, which is 10.203.183.7 (want one of them)"}},
		{name: "an address of another", spec: "{type: LoadBalancer, " + cluster + ", ports: [{port: 80}], loadBalancerIP: 10.203.182.129}", has: "10.203.182.130",
			want: []string{
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →",
				"IP_ALREADY_ALLOCATED: spec.loadBalancerIP: 10.203.182.129: is already used by Service red/first (want a free address, or none to get one)",
			}},
		{name: "an address outside", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.182.131}",
			want: []string{"IP_NOT_IN_POOL: spec.loadBalancerIP: 10.203.182.131: is not an address for hosts of the ingress CIDRs of namespace red (10.203.182.128/30, 10.203.183.7/32)"}},
		{name: "no address", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 10.203.182.1310}",
			want: []string{"INVALID_IP_ADDRESS: spec.loadBalancerIP: 10.203.182.1310: is neither an address nor the name of an IpAddressPool (such as 10.203.182.131)"}},
		{name: "a pool by name", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", has: "10.203.182.130",
			want: []string{"lbs_u1 web_80_TCP 203.0.113.10 AutoMap →"}},
		{name: "a pool by id", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold-1}", has: "203.0.113.11",
			want: []string{"lbs_u1 web_80_TCP 203.0.113.11 AutoMap →"}},
		{name: "no longer of the pool", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", has: "203.0.113.99", hasPool: "gold-1",
			want: []string{"lbs_u1 web_80_TCP 203.0.113.99 AutoMap →", "203.0.113.99 stays in use, though it is not of IpAddressPool /infra/ip-pools/gold-1 any more"}},
		{name: "another pool", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: gold}", has: "203.0.113.99", hasPool: "silver",
			want: []string{"lbs_u1 web_80_TCP 203.0.113.10 AutoMap →"}},
		{name: "no pool any more", spec: "{type: LoadBalancer, ports: [{port: 80}]}", has: "203.0.113.10", hasPool: "gold",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
		{name: "the pool is gone", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: silver}", has: "203.0.113.99", hasPool: "silver",
			want: []string{
				"lbs_u1 web_80_TCP 203.0.113.99 AutoMap →",
				"IP_POOL_NOT_FOUND: spec.loadBalancerIP: silver: is neither an address nor the id or display name of an IpAddressPool",
				"203.0.113.99 stays in use",
			}},
		{name: "no such pool", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: silver}",
			want: []string{"IP_POOL_NOT_FOUND: spec.loadBalancerIP: silver: is neither an address nor the id or display name of an IpAddressPool"}},
		{name: "somebody else's pool", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: others}",
			want: []string{"POOL_ACCESS_DENIED: spec.loadBalancerIP: others: /infra/ip-pools/others has no tag ncp/owner that lets this namespace use it (cluster:c8, ns:u1)"}},
		{name: "two pools", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: twice}",
			want: []string{"IP_POOL_NOT_UNIQUE: spec.loadBalancerIP: twice: is the id or display name of 2 pools: /infra/ip-pools/second and /infra/ip-pools/twice (want one)"}},
		{name: "an empty pool", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: mine}",
			want: []string{"IP_POOL_EXHAUSTED: spec.loadBalancerIP: mine: /infra/ip-pools/mine has no addresses (want an IpAddressPoolStaticSubnet with allocation_ranges)"}},

		{name: "source ranges", spec: "{type: LoadBalancer, " + cluster + ", ports: [{port: 80}], loadBalancerSourceRanges: [192.0.2.0/24, ' 10.1.2.3/8']}",
			want: []string{
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →",
				"lbs_u1 web_80_TCP 10.203.182.130 AutoMap → access",
				"sources 10.0.0.0/8 192.0.2.0/24",
			}},
		{name: "source ranges by annotation", spec: "{type: LoadBalancer, ports: [{port: 80}]}", annotations: map[string]string{AnnotationSources: "192.0.2.7, 10.0.0.0/8"},
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap → access", "sources 10.0.0.0/8 192.0.2.7/32"}},
		{name: "source ranges of another family", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerSourceRanges: ['::/0']}",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap → access", "sources ::/0"}},
		{name: "everybody", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerSourceRanges: [0.0.0.0/0, 192.0.2.0/24]}",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
		{name: "a wrong source range closes it", spec: "{type: LoadBalancer, " + cluster + ", ports: [{port: 80}]}", annotations: map[string]string{AnnotationSources: "192.0.2.0/33"},
			want: []string{
				"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →",
				`InvalidSourceRange: metadata.annotations[ncp/whitelist-source-ranges]: "192.0.2.0/33": is neither a CIDR nor an address (such as 10.1.0.0/16); until it is, nobody may connect`,
			}},
		{name: "local", spec: "{type: LoadBalancer, ports: [{port: 80}], externalTrafficPolicy: Local}",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 Disabled →"}},
		{name: "transparent, monitored", spec: "{type: LoadBalancer, ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}]}",
			annotations: map[string]string{AnnotationTransparent: "true", AnnotationHealth: "tcp"},
			want:        []string{"lbs_u1 web_53_UDP 10.203.182.130 Disabled →", "lbs_u1 web_80_TCP 10.203.182.130 Disabled → monitor"}},
		{name: "unknown values", spec: "{type: LoadBalancer, ports: [{port: 80}]}", annotations: map[string]string{AnnotationTransparent: "yes", AnnotationHealth: "http"},
			want: []string{
				`InvalidAnnotation: metadata.annotations[ncp/transparent-lb]: "yes": is not allowed (true, false)`,
				`InvalidAnnotation: metadata.annotations[weft.dev/health-check]: "http": is not allowed (tcp, none)`,
			}},
		{name: "another's class", spec: "{type: LoadBalancer, " + cluster + ", ports: [{port: 80}], loadBalancerClass: example.com/lb}",
			want: []string{"clusterip_c8_dlb web_80_TCP 10.96.0.10 Disabled →"}},
		{name: "our class", spec: "{type: LoadBalancer, ports: [{port: 80}], loadBalancerClass: weft.dev/any}",
			want: []string{"lbs_u1 web_80_TCP 10.203.182.130 AutoMap →"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := tree(t)
			add(t, at, other, Build(Request{Service: other, Place: place()}, at).Objects...)
			r := Request{Service: svc(t, tc.spec), Slices: tc.slices, Place: place()}
			r.Service.Annotations = tc.annotations
			r.Has, _ = netip.ParseAddr(tc.has)
			r.HasPool = tc.hasPool
			r.Had, _ = netip.ParseAddr(tc.had)
			got := Build(r, at)
			if diff := cmp.Diff(tc.want, shown(got), cmp.Transformer("empty", func(l []string) string { return strings.Join(l, "\n") })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			add(t, at, r.Service, got.Objects...)
			if diff := cmp.Diff(got, Build(r, at), whole); diff != "" {
				t.Errorf("the second time (-first +second):\n%s", diff)
			}
		})
	}
}

// Which endpoints take connections: see members.
func TestMembers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		slices []discoveryv1.EndpointSlice
		want   string
	}{
		{"nil conditions are ready", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2")}, "10.244.0.2:8080"},
		{"ready before the rest", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 ready serving", "10.244.0.3 serving terminating", "10.244.0.4 x")}, "10.244.0.2:8080"},
		{"none ready: who serves while it ends", []discoveryv1.EndpointSlice{slice(http, "10.244.0.3 serving terminating", "10.244.0.4 terminating", "10.244.0.5 x", "10.244.0.6 serving")}, "10.244.0.3:8080"},
		{"none at all", []discoveryv1.EndpointSlice{slice(http, "10.244.0.4 terminating", "10.244.0.5 x")}, ""},
		{"ready though not serving, by publishNotReadyAddresses", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 ready", "10.244.0.3 ready terminating")}, "10.244.0.2:8080 10.244.0.3:8080"},
		{"in two slices for a moment", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 ready serving"), slice(http, "10.244.0.2 ready serving")}, "10.244.0.2:8080"},
		{"who ended and who has the address now", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 terminating serving"), slice(http, "10.244.0.2 ready serving")}, "10.244.0.2:8080"},
		{"the new one is not ready", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 terminating serving"), slice(http, "10.244.0.2 x")}, ""},
		{"another port", []discoveryv1.EndpointSlice{slice("[{name: b, port: 8080}]", "10.244.0.2")}, ""},
		{"another protocol", []discoveryv1.EndpointSlice{slice("[{name: '', port: 8080, protocol: UDP}]", "10.244.0.2")}, ""},
		{"no port", []discoveryv1.EndpointSlice{slice("[{name: ''}]", "10.244.0.2")}, ""},
		{"another family", []discoveryv1.EndpointSlice{slice(http, "fd00:1::2")}, ""},
		{"a name", []discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"a.example"}}}}}, ""},
	} {
		list, more := members(tc.slices, &corev1.ServicePort{Port: 80}, netip.MustParseAddr("10.96.0.10"), false)
		var got []string
		for _, m := range list {
			got = append(got, m.IPAddress+":"+m.Port)
		}
		if s := strings.Join(got, " "); s != tc.want || more != 0 {
			t.Errorf("%s: got %q and %d more, want %q", tc.name, s, more, tc.want)
		}
	}
}

// Who takes no new connections keeps those that it has, until it leaves the
// slice.
func TestDrainingMembers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		slices []discoveryv1.EndpointSlice
		want   string
	}{
		{"one ends, one is not ready", []discoveryv1.EndpointSlice{slice(http, "10.244.0.4 x", "10.244.0.2 ready serving", "10.244.0.3 serving terminating")},
			"10.244.0.2: 10.244.0.3:GRACEFUL_DISABLED 10.244.0.4:GRACEFUL_DISABLED"},
		{"none ready: who serves while it ends", []discoveryv1.EndpointSlice{slice(http, "10.244.0.2 x", "10.244.0.3 serving terminating")}, "10.244.0.2:GRACEFUL_DISABLED 10.244.0.3:"},
		{"none at all", []discoveryv1.EndpointSlice{slice(http, "10.244.0.4 terminating")}, "10.244.0.4:GRACEFUL_DISABLED"},
	} {
		list, _ := members(tc.slices, &corev1.ServicePort{Port: 80}, netip.MustParseAddr("10.96.0.10"), true)
		var got []string
		for _, m := range list {
			got = append(got, m.IPAddress+":"+m.AdminState)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, s, tc.want)
		}
	}
}

// A pool takes what it can; the rest is told.
func TestTooManyEndpoints(t *testing.T) {
	var list []string
	for i := range intent.MaxLBMembers + 3 {
		list = append(list, fmt.Sprintf("10.244.%d.%d", 1+i/200, 1+i%200))
	}
	at := tree(t)
	r := Request{Service: svc(t, "{"+cluster+", ports: [{port: 80}]}"), Slices: []discoveryv1.EndpointSlice{slice(http, list...)}, Place: place()}
	got := Build(r, at)
	add(t, at, r.Service, got.Objects...)
	want := []writer.Fault{{Reason: TooManyEndpoints, Msg: "10.96.0.10: has 2051 endpoints, of which 3 are left out (at most 2048)"}}
	if diff := cmp.Diff(want, got.Faults); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// The order of slices, and of what is in them, leaves no mark.
func TestOrderOfEndpointsDoesNotMatter(t *testing.T) {
	list := []discoveryv1.EndpointSlice{
		slice("[{name: a, port: 1}, {name: b, port: 2}]", "10.244.0.2 ready serving", "10.244.0.3 serving terminating", "10.244.0.4 x"),
		slice("[{name: b, port: 2}, {name: a, port: 7}]", "10.244.0.2 ready", "10.244.0.5 ready serving", "10.244.0.3 ready"),
		slice("[{name: a, port: 1}]", "10.244.0.3 terminating", "10.244.0.6"),
	}
	for i := range list[1].Endpoints {
		list[1].Endpoints[i].TargetRef.Name = "later"
	}
	r := Request{Service: svc(t, "{type: LoadBalancer, "+cluster+", ports: [{name: a, port: 80}, {name: b, port: 81}]}"), Slices: list, Place: place()}
	at := tree(t)
	want := Build(r, at)
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r.Slices = slices.Clone(list)
		rnd.Shuffle(len(r.Slices), func(i, j int) { r.Slices[i], r.Slices[j] = r.Slices[j], r.Slices[i] })
		for i := range r.Slices {
			s := r.Slices[i].DeepCopy()
			rnd.Shuffle(len(s.Endpoints), func(i, j int) { s.Endpoints[i], s.Endpoints[j] = s.Endpoints[j], s.Endpoints[i] })
			rnd.Shuffle(len(s.Ports), func(i, j int) { s.Ports[i], s.Ports[j] = s.Ports[j], s.Ports[i] })
			r.Slices[i] = *s
		}
		if diff := cmp.Diff(want, Build(r, at), whole); diff != "" {
			t.Fatalf("seed %d (-in order +shuffled):\n%s", seed, diff)
		}
	}
}

// One object of each kind, whole.
func TestObjectsAreWhole(t *testing.T) {
	at := tree(t)
	s := svc(t, "{type: LoadBalancer, ports: [{port: 80}], loadBalancerSourceRanges: [192.0.2.0/24], sessionAffinity: ClientIP}")
	got := Build(Request{Service: s, Slices: []discoveryv1.EndpointSlice{slice(http, "10.244.0.2")}, Place: place()}, at)
	id := ncp.VirtualServerID("web", "s1", ncp.CreatedForSLB, "10.203.182.129", 80, "TCP")
	tags := func(more ...intent.Tag) []intent.Tag {
		out := append([]intent.Tag{{Scope: "ncp/cluster", Tag: "c8"}, {Scope: "ncp/project", Tag: "red"}, {Scope: "ncp/project_uid", Tag: "u1"}}, more...)
		return append(out, intent.Tag{Scope: "external_id", Tag: "s1"}, intent.Tag{Scope: "ncp/service", Tag: "web"}, intent.Tag{Scope: "ncp/service_uid", Tag: "s1"})
	}
	port := []intent.Tag{{Scope: "ncp/created_for", Tag: "SLB"}, {Scope: "ncp/service_port", Tag: "80"}, {Scope: "ncp/service_port_protocol", Tag: "TCP"}}
	want := []intent.Object{
		intent.Put("/infra/domains/c8/groups/svc_s1_sources", &intent.Group{
			Resource:   intent.Resource{DisplayName: "red/web sources", Tags: tags()},
			Expression: []intent.Expression{&intent.IPAddressExpression{IPAddresses: []string{"192.0.2.0/24"}}},
		}).Object,
		intent.Put("/infra/lb-persistence-profiles/web_s1", &intent.LBSourceIpPersistenceProfile{Resource: intent.Resource{Tags: tags()}, Timeout: 10800}).Object,
		intent.Put("/infra/lb-pools/"+id, &intent.LBPool{
			Resource: intent.Resource{DisplayName: "web_80_TCP", Tags: tags(port...)}, Algorithm: "ROUND_ROBIN", MinActiveMembers: 1,
			Members:         []intent.LBPoolMember{{DisplayName: "pod-10.244.0.2", IPAddress: "10.244.0.2", Port: "8080"}},
			SNATTranslation: &intent.LBSnatTranslation{Type: "LBSnatAutoMap"},
		}).Object,
		intent.Put("/infra/lb-virtual-servers/"+id, &intent.LBVirtualServer{
			Resource:  intent.Resource{DisplayName: "web_80_TCP", Tags: tags(append(port, intent.Tag{Scope: "ncp/lb_vs_type", Tag: "layer_4"})...)},
			IPAddress: "10.203.182.129", Ports: []string{"80"}, PoolPath: "/infra/lb-pools/" + id, LBServicePath: "/infra/lb-services/lbs_u1",
			ApplicationProfilePath:   "/infra/lb-app-profiles/ncp_c8_LBFastTcpProfile",
			LBPersistenceProfilePath: "/infra/lb-persistence-profiles/web_s1",
			AccessListControl:        &intent.LBAccessListControl{Action: "ALLOW", GroupPath: "/infra/domains/c8/groups/svc_s1_sources"},
		}).Object,
	}
	if diff := cmp.Diff(want, got.Objects, whole); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Address.String() != "10.203.182.129" {
		t.Errorf("address: got %s", got.Address)
	}
}

// Services take the lowest free addresses until there is none.
func TestAddressesRunOut(t *testing.T) {
	at := tree(t)
	var got []string
	for i := range 4 {
		s := svc(t, "{type: LoadBalancer, ports: [{port: 80}]}")
		s.Name = fmt.Sprintf("s%d", i)
		s.UID = types.UID("uid-" + s.Name)
		r := Build(Request{Service: s, Place: place()}, at)
		add(t, at, s, r.Objects...)
		if r.Address.IsValid() {
			got = append(got, r.Address.String())
		}
		for _, f := range r.Faults {
			got = append(got, f.Reason+": "+f.Error())
		}
	}
	want := []string{
		"10.203.182.129", "10.203.182.130", "10.203.183.7",
		"IP_POOL_EXHAUSTED: status.loadBalancer: no address is free in the ingress CIDRs of namespace red (10.203.182.128/30, 10.203.183.7/32) (delete a Service of type LoadBalancer, or extend it)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Where another Service has the five characters of the hash, others are taken.
func TestHashIsTaken(t *testing.T) {
	at := tree(t)
	r := Request{Service: svc(t, "{"+cluster+", ports: [{port: 80}]}"), Place: place()}
	theirs := Build(r, at).Objects
	for _, o := range theirs {
		if v, ok := o.(*intent.LBVirtualServer); ok {
			v.IPAddress = "10.96.0.11"
		}
	}
	another := r.Service.DeepCopy()
	another.UID = "another"
	add(t, at, another, theirs...)
	got := Build(r, at).Objects
	if len(got) != 2 || got[1].Meta().Path == theirs[1].Meta().Path {
		t.Errorf("path: got %s, which another Service has", got[1].Meta().Path)
	}
	add(t, at, r.Service, got...)
}
