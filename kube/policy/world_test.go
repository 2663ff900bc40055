package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

const (
	clusterID = "domain-c8"
	outside   = "192.0.2.7"
	node      = "192.0.2.9"
)

// place returns what translations in c need to know.
func (c *cluster) place(namespace string) Place {
	at := Place{Cluster: clusterID, Ports: c.namedPorts, Nodes: c.nodeAddresses}
	for _, n := range c.namespaces {
		if n.Name == namespace {
			at.NamespaceUID = string(n.UID)
		}
	}
	return at
}

func (c *cluster) namedPorts(namespace string, proto corev1.Protocol, name string) []int32 {
	var out []int32
	for _, p := range c.pods {
		if namespace != "" && p.Namespace != namespace {
			continue
		}
		for _, k := range p.Spec.Containers {
			for _, q := range k.Ports {
				if q.Protocol == proto && q.Name == name {
					out = append(out, q.ContainerPort)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *cluster) nodeAddresses(s labels.Selector) []netip.Addr {
	var out []netip.Addr
	for _, n := range c.nodes {
		if s.Matches(labels.Set(n.Labels)) {
			out = append(out, netip.MustParseAddr(n.Status.Addresses[0].Address))
		}
	}
	return out
}

// network returns the cluster's network without policies: a Tier-1 and a segment
// a namespace, a port a pod, and a machine in the first namespace that is no
// pod and has the labels of its first pod.
func (c *cluster) network() []intent.Change {
	const t0 = "/infra/tier-0s/provider"
	out := []intent.Change{
		intent.Put(t0, &intent.Tier0{}),
		intent.Put(t0+"/locale-services/default", &intent.LocaleServices{}),
		intent.Put(t0+"/locale-services/default/interfaces/up", &intent.Tier0Interface{
			Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.0.2.1"}, PrefixLen: 24}},
		}),
		intent.Put(t0+"/static-routes/default", &intent.StaticRoutes{
			Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{{IPAddress: "192.0.2.254"}},
		}),
		intent.Put(ncp.DomainPath(clusterID), &intent.Domain{}),
	}
	for i, n := range c.namespaces {
		uid := string(n.UID)
		out = append(out,
			intent.Put(ncp.Tier1Path(uid), &intent.Tier1{Tier0Path: t0, RouteAdvertisementTypes: []string{"TIER1_CONNECTED"}}),
			intent.Put(ncp.SegmentPath(uid, 0), &intent.Segment{
				Resource:         intent.Resource{Tags: ncp.SegmentTags(clusterID, n.Name, uid, n.Labels)},
				ConnectivityPath: ncp.Tier1Path(uid), OverlayID: int64(5000 + i),
				Subnets: []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.244.%d.1/24", i)}},
			}))
	}
	for i, p := range c.pods {
		uid := c.place(p.Namespace).NamespaceUID
		out = append(out, intent.Put(ncp.PortPath(ncp.SegmentPath(uid, 0), string(p.UID)), &intent.SegmentPort{
			Resource:        intent.Resource{Tags: ncp.PortTags(clusterID, uid, p)},
			AddressBindings: []intent.AddressBinding{{IPAddress: p.Status.PodIP, MACAddress: fmt.Sprintf("04:50:56:00:00:%02x", i)}},
		}))
	}
	first := c.namespaces[0]
	tags := append(ncp.NamespaceTags(clusterID, first.Name, string(first.UID)), ncp.LabelTags(c.pods[0].Labels)...)
	return append(out, intent.Put(ncp.PortPath(ncp.SegmentPath(string(first.UID), 0), "machine"), &intent.SegmentPort{
		Resource:        intent.Resource{Tags: tags},
		AddressBindings: []intent.AddressBinding{{IPAddress: machine, MACAddress: "04:50:56:00:01:00"}},
	}))
}

// machine is the address of what is no pod.
const machine = "10.244.0.200"

// translate returns what all policies become.
func (c *cluster) translate(t testing.TB) []intent.Object {
	var out []intent.Object
	for _, np := range c.policies {
		objects, findings := NetworkPolicy(np, c.place(np.Namespace))
		if findings != nil {
			t.Fatalf("%s: %v", np.Name, findings)
		}
		out = append(out, objects...)
	}
	for _, p := range c.admin {
		objects, findings := OfClusterNetworkPolicy(p).Objects(c.place(""))
		for _, f := range findings {
			t.Logf("%s: %v", p.Name, f)
		}
		out = append(out, objects...)
	}
	return out
}

// court is the cluster in the tables that its policies become.
type court struct {
	index *pipeline.Index
	ports map[string]table.PortID // by address
	out   table.PortID            // the uplink
}

func newCourt(t testing.TB, c *cluster, objects []intent.Object) *court {
	tree := intent.NewTree()
	var rules []*intent.Rule
	changes := c.network()
	for _, o := range objects {
		changes = append(changes, intent.Change{Path: o.Meta().Path, Object: o})
		if r, ok := o.(*intent.Rule); ok {
			rules = append(rules, r)
		}
	}
	writer.AssignRuleIDs(tree, rules...)
	if _, problems := tree.Apply(changes); problems != nil {
		t.Fatal(problems)
	}
	sets, problems := compile.New().Update(tree, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	j := &court{ports: map[string]table.PortID{}}
	for _, set := range sets {
		j.index = pipeline.NewIndex(set)
		for k, e := range set.Endpoints.All() {
			j.ports[k.Addr.String()] = e.Port
		}
		for id := range set.Uplinks.All() {
			j.out = id
		}
	}
	return j
}

// numbers of the protocols of flows.
func number(p corev1.Protocol) packet.Proto {
	switch p {
	case corev1.ProtocolTCP:
		return packet.TCP
	case corev1.ProtocolUDP:
		return packet.UDP
	case corev1.ProtocolSCTP:
		return packet.SCTP
	case "ICMP":
		return packet.ICMP
	}
	return 47
}

// delivers sends the first packet of a flow.
func (j *court) delivers(t testing.TB, f flow) bool {
	from, ok := j.ports[f.src.String()]
	if !ok {
		from = j.out
	}
	q := trace.Question{From: from, Src: f.src, Dst: f.dst, Proto: number(f.proto), SrcPort: 40000, DstPort: uint16(f.port)}
	switch q.Proto {
	case packet.ICMP:
		q.SrcPort, q.DstPort = 7, 0
	case 47:
		q.SrcPort, q.DstPort = 0, 0
	}
	frame, ok := trace.Frame(j.index, q)
	if !ok {
		t.Fatalf("%v: no neighbour", q)
	}
	res := pipeline.Run(j.index, pipeline.NewState(4), pipeline.Input{Port: from, Frame: frame}, 1, 1)
	if res.Verdict != pipeline.Forward && (res.Verdict != pipeline.Drop || res.Rule == 0) {
		t.Fatalf("%v: %v, %v: the network, not a policy", q, res.Verdict, res.Reason)
	}
	return res.Verdict == pipeline.Forward
}

// flows returns every pair of ends with every service that policies tell apart.
func (c *cluster) flows() []flow {
	type end struct {
		pod  *corev1.Pod
		addr netip.Addr
	}
	ends := []end{{nil, netip.MustParseAddr(outside)}, {nil, netip.MustParseAddr(node)}, {nil, netip.MustParseAddr(machine)}}
	for _, p := range c.pods {
		ends = append(ends, end{p, netip.MustParseAddr(p.Status.PodIP)})
	}
	var out []flow
	for _, a := range ends {
		for _, b := range ends {
			if a.addr == b.addr || a.addr.String()[:4] == "192." && b.addr.String()[:4] == "192." {
				continue
			}
			for _, s := range []struct {
				proto corev1.Protocol
				port  int32
			}{{"TCP", 80}, {"TCP", 8080}, {"TCP", 8085}, {"TCP", 53}, {"UDP", 53}, {"UDP", 80}, {"SCTP", 80}, {"SCTP", 9000}, {"ICMP", 0}, {"GRE", 0}} {
				out = append(out, flow{a.pod, b.pod, a.addr, b.addr, s.proto, s.port})
			}
		}
	}
	return out
}

// dice makes clusters.
type dice struct{ *rand.Rand }

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d dice, list ...T) T { return list[d.IntN(len(list))] }

func some[T any](d dice, most int, make func() T) []T {
	var out []T
	for range d.IntN(most + 1) {
		out = append(out, make())
	}
	return out
}

// keys of labels: the second to last is a tag of NCP's own and means nothing as
// a label, the last as long as a label's key can be.
func (d dice) key() string {
	return pick(d, "a", "b", "example.com/tier", "ncp/project_uid", long)
}

var long = func() string {
	s := ""
	for len(s) < 240 {
		s += "long-prefix."
	}
	return s + "example.org/" + "key-of-sixty-three-bytes-which-is-as-much-as-a-name-can-have-xx"
}()

func (d dice) value() string { return pick(d, "", "x", "y", "uid-0") }

func (d dice) labels() map[string]string {
	out := map[string]string{}
	for range d.IntN(4) {
		out[d.key()] = d.value()
	}
	return out
}

func name(prefix string, i int) string { return prefix + strconv.Itoa(i) }
