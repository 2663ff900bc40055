package oracle

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
)

const (
	up0  = provider + "/locale-services/default/interfaces/up0"
	next = "192.168.105.253"
)

// world is a tree that a test builds: a Tier-0 with an uplink and a default
// route.
type world struct {
	t    *testing.T
	tree *intent.Tree
	macs int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, tree: intent.NewTree()}
	w.put(provider, &intent.Tier0{})
	w.put(provider+"/locale-services/default", &intent.LocaleServices{EdgeClusterPath: edges})
	w.put(up0, &intent.Tier0Interface{Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.105.252"}, PrefixLen: 24}}})
	w.put(provider+"/static-routes/default", &intent.StaticRoutes{Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{{IPAddress: next}}})
	return w
}

func (w *world) put(path string, o intent.Object) {
	w.t.Helper()
	if _, problems := w.tree.Apply([]intent.Change{intent.Put(path, o)}); intent.HasErrors(problems) {
		w.t.Fatalf("%s: %v", path, problems)
	}
}

// tier1 makes a namespace's Tier-1; it advertises all that it has.
func (w *world) tier1(name string) string {
	path := "/infra/tier-1s/" + name
	w.put(path, &intent.Tier1{Tier0Path: provider, RouteAdvertisementTypes: []string{"TIER1_CONNECTED", "TIER1_NAT", "TIER1_STATIC_ROUTES"}})
	w.put(path+"/locale-services/default", &intent.LocaleServices{EdgeClusterPath: edges})
	return path
}

// segment makes a segment with ports `id address`, tagged app|id and ns|name.
func (w *world) segment(name, router, gateway string, ports ...string) {
	path := "/infra/segments/" + name
	w.put(path, &intent.Segment{ConnectivityPath: router, Subnets: []intent.SegmentSubnet{{GatewayAddress: gateway}}})
	for _, p := range ports {
		id, address, _ := strings.Cut(p, " ")
		w.macs++
		port := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{IPAddress: address, MACAddress: fmt.Sprintf("02:00:00:00:00:%02x", w.macs)}}}
		port.Tags = []intent.Tag{{Scope: "ns", Tag: name}, {Scope: "app", Tag: id}}
		w.put(path+"/ports/"+id, port)
	}
}

func (w *world) nat(router, id string, seq int, r intent.PolicyNatRule) {
	w.t.Helper()
	r.SequenceNumber = seq
	w.put(router+"/nat/USER/nat-rules/"+id, &r)
}

// tagged makes a group of ports by tag and returns its path.
func (w *world) tagged(name, tag string) string {
	return w.group(name, &intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: tag})
}

func (w *world) group(name string, e ...intent.Expression) string {
	w.t.Helper()
	path := domain + "groups/" + name
	w.put(path, &intent.Group{Expression: e})
	return path
}

func (w *world) policy(id, category string, scope ...string) string {
	path := domain + "security-policies/" + id
	w.put(path, &intent.SecurityPolicy{Category: category, Scope: scope})
	return path
}

// links gives each Tier-1 the link that its name asks for.
func links(tier1 string) (netip.Addr, netip.Addr) {
	third := map[string]int{"cormac": 144, "harbor": 200, "red": 8, "blue": 16}[intent.IDOf(tier1)]
	return netip.MustParseAddr(fmt.Sprintf("100.64.%d.0", third)), netip.MustParseAddr(fmt.Sprintf("100.64.%d.1", third))
}

// parsed reads `segment/port source destination protocol[/port]`, from the port
// up0 with `up0 …`; a fifth word l2 sends it to the neighbour.
func parsed(text string) Packet {
	f := strings.Fields(text)
	p := Packet{Port: up0, Src: netip.MustParseAddr(f[1]), Dst: netip.MustParseAddr(f[2]), TTL: 64, ToGateway: true}
	if f[0] != "up0" {
		segment, port, _ := strings.Cut(f[0], "/")
		p.Port = "/infra/segments/" + segment + "/ports/" + port
	}
	proto, port, _ := strings.Cut(f[3], "/")
	p.Proto = map[string]uint8{"icmp": protoICMP, "tcp": protoTCP, "udp": protoUDP}[proto]
	if p.Proto == protoICMP {
		p.ICMPType = 8
	} else {
		fmt.Sscan(port, &p.DstPort)
		p.SrcPort = 40000
	}
	if len(f) > 4 {
		p.ToGateway = false
	}
	return p
}

// summary is a verdict in one line: how it ends, the source and destination
// seen if it was delivered.
func summary(v Verdict) string {
	switch v.Disposition {
	case Delivered:
		return fmt.Sprintf("%s %s>%s:%d", intent.IDOf(v.To), v.SrcSeen, v.DstSeen, v.DstPortSeen)
	case Answered:
		return v.Answer + " " + v.AnswerFrom.String()
	}
	out := v.Reason
	if v.RulePath != "" {
		out += " " + intent.IDOf(v.RulePath)
	}
	if v.Answer != "" {
		out += ", " + v.Answer + " " + v.AnswerFrom.String()
	}
	return out
}

// row is one packet and the summary of its verdict.
type row struct{ packet, want string }

func (w *world) judge(rows ...row) {
	w.t.Helper()
	for _, r := range rows {
		if got := summary(New(w.tree, Facts{Transit: links}).Judge(parsed(r.packet))); got != r.want {
			w.t.Errorf("%s: got %q, want %q", r.packet, got, r.want)
		}
	}
}

// natMode gives a namespace the three rules of a namespace in NAT mode.
func (w *world) natMode(router, network, ingress, egress string) {
	w.nat(router, "to-ingress", 10, intent.PolicyNatRule{Action: "NO_SNAT", SourceNetwork: network, DestinationNetwork: ingress})
	w.nat(router, "inside", 10, intent.PolicyNatRule{Action: "NO_SNAT", SourceNetwork: network, DestinationNetwork: network})
	w.nat(router, "egress", 20, intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: egress})
}

// TestTraceroutes is the traces of a guest cluster's pod and a pod VM in the
// article "A closer look at vSphere with Tanzu networking with NSX-T".
func TestTraceroutes(t *testing.T) {
	w := newWorld(t)
	cormac, harbor := w.tier1("cormac"), w.tier1("harbor")
	w.segment("podvm", cormac, "10.244.0.17/28", "vm 10.244.0.18")
	w.segment("tkg", cormac, "10.244.0.33/28", "worker 10.244.0.35")
	w.segment("registry", harbor, "10.244.0.65/28", "core 10.244.0.67")
	w.put("/infra/nodes/worker", &intent.Node{PortPath: "/infra/segments/tkg/ports/worker"})
	w.segment("pods", "/infra/nodes/worker", "192.168.1.1/24", "busybox 192.168.1.3")
	w.nat("/infra/nodes/worker", "masquerade", 0, intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "192.168.0.0/16", TranslatedNetwork: "10.244.0.35"})
	w.natMode(cormac, "10.244.0.0/20", "10.203.182.0/24", "10.203.200.5")
	w.natMode(harbor, "10.244.0.0/20", "10.203.182.0/24", "10.203.200.6")
	w.put(w.policy("isolation", "Application")+"/rules/deny-all-ingress", &intent.Rule{Action: "DROP", Direction: "IN", Scope: []string{"/infra/segments/registry"}})

	rows := []struct {
		packet, want, hops string
	}{
		{"pods/busybox 192.168.1.3 142.250.189.238 udp/33434", "up0 10.203.200.5>142.250.189.238:33434", "192.168.1.1 10.244.0.33 100.64.144.0"},
		{"pods/busybox 192.168.1.3 10.244.0.18 udp/33434", "vm 10.244.0.35>10.244.0.18:33434", "192.168.1.1 10.244.0.33"},
		{"podvm/vm 10.244.0.18 10.244.0.67 udp/33434", "dfw_rule deny-all-ingress", "10.244.0.17 100.64.144.0 100.64.200.1"},
	}
	o := New(w.tree, Facts{Transit: links})
	for _, r := range rows {
		hops := strings.Fields(r.hops)
		for ttl := 1; ttl <= len(hops); ttl++ {
			p := parsed(r.packet)
			p.TTL = ttl
			if got, want := summary(o.Judge(p)), "ttl_exceeded, icmp 11/0 "+hops[ttl-1]; got != want {
				t.Errorf("%s: TTL %d: got %q, want %q", r.packet, ttl, got, want)
			}
		}
		v := o.Judge(parsed(r.packet))
		if diff := cmp.Diff(r.hops, strings.Trim(fmt.Sprint(v.Hops), "[]")); diff != "" || summary(v) != r.want {
			t.Errorf("%s: got %q, want %q; hops (-want +got):\n%s", r.packet, summary(v), r.want, diff)
		}
	}
	w.nat(provider, "again", 0, intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "10.203.200.5", TranslatedNetwork: "192.168.105.60"})
	w.judge(
		row{"podvm/vm 10.244.0.18 10.244.0.35 icmp", "echo 10.244.0.35"},
		row{"podvm/vm 10.244.0.18 198.51.100.9 udp/53", "up0 192.168.105.60>198.51.100.9:53"},
		row{"pods/busybox 192.168.1.3 198.51.100.9 udp/53", "nat_depth"},
	)
}

// TestNamespaceNAT is the matrix of the three default NAT rules: what source
// the other side sees. A DNAT stands for the load balancer's address.
func TestNamespaceNAT(t *testing.T) {
	w := newWorld(t)
	a, b := w.tier1("red"), w.tier1("blue")
	w.segment("a", a, "10.222.0.1/28", "node1 10.222.0.2", "node2 10.222.0.3")
	w.segment("b", b, "10.222.0.17/28", "node 10.222.0.18")
	w.segment("vms", provider, "10.50.0.1/24", "vm 10.50.0.5")
	w.natMode(a, "10.222.0.0/16", "10.223.112.0/20", "10.223.136.18")
	w.natMode(b, "10.222.0.0/16", "10.223.112.0/20", "10.223.136.19")
	w.nat(b, "vip", 0, intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "10.223.112.7", TranslatedNetwork: "10.222.0.18"})

	w.judge(
		row{"a/node1 10.222.0.2 10.223.112.7 tcp/443", "node 10.222.0.2>10.222.0.18:443"},
		row{"a/node1 10.222.0.2 10.222.0.18 tcp/443", "node 10.222.0.2>10.222.0.18:443"},
		row{"a/node1 10.222.0.2 10.222.0.3 tcp/443 l2", "node2 10.222.0.2>10.222.0.3:443"},
		row{"a/node1 10.222.0.2 198.51.100.9 tcp/443", "up0 10.223.136.18>198.51.100.9:443"},
		row{"a/node1 10.222.0.2 10.50.0.5 tcp/443", "vm 10.223.136.18>10.50.0.5:443"},
		row{"b/node 10.222.0.18 198.51.100.9 udp/53", "up0 10.223.136.19>198.51.100.9:53"},
		row{"up0 198.51.100.9 10.223.112.7 tcp/443", "node 198.51.100.9>10.222.0.18:443"},
		row{"up0 198.51.100.9 10.223.136.18 tcp/443", "no_listener"},
		row{"a/node1 10.222.0.2 10.223.112.8 tcp/443", "up0 10.222.0.2>10.223.112.8:443"},
	)
}

// TestNamespaceIsolation is the web shop of "vSphere with Tanzu Supervisor
// Services Part II": deny-all-ingress, an override in Infrastructure, and the
// NetworkPolicy that opens one port.
func TestNamespaceIsolation(t *testing.T) {
	w := newWorld(t)
	w.segment("contour", w.tier1("red"), "10.244.0.17/28", "envoy 10.244.0.18")
	w.segment("hackazon", w.tier1("blue"), "10.244.0.33/28", "shop 10.244.0.34")
	const there, back = "contour/envoy 10.244.0.18 10.244.0.34 tcp/80", "hackazon/shop 10.244.0.34 10.244.0.18 tcp/80"
	const opened, reversed = "shop 10.244.0.18>10.244.0.34:80", "envoy 10.244.0.34>10.244.0.18:80"

	deny := w.policy("isolation", "Application")
	for _, ns := range []string{"contour", "hackazon"} {
		all := w.tagged(ns, "ns|"+ns)
		w.put(deny+"/rules/"+ns+"-deny-all-ingress", &intent.Rule{Action: "DROP", Direction: "IN", SequenceNumber: 9, DestinationGroups: []string{all}, Scope: []string{all}})
	}
	w.judge(row{there, "dfw_rule hackazon-deny-all-ingress"}, row{back, "dfw_rule contour-deny-all-ingress"})

	w.group("all", &intent.IPAddressExpression{IPAddresses: []string{"10.244.0.0/19"}})
	override := w.policy("override", "Infrastructure")
	nets := []string{domain + "groups/all"}
	w.put(override+"/rules/any", &intent.Rule{Action: "ALLOW", SourceGroups: nets, DestinationGroups: nets})
	w.judge(row{there, opened}, row{back, reversed})

	w.tree.Apply([]intent.Change{intent.Delete(override)})
	allow := w.policy("shop-allowlist", "Application", w.tagged("shop", "app|shop"))
	w.put(allow, &intent.SecurityPolicy{Category: "Application", SequenceNumber: 1, Scope: []string{domain + "groups/shop"}})
	w.put(deny, &intent.SecurityPolicy{Category: "Application", SequenceNumber: 2})
	w.put(allow+"/rules/TCP.80-ingress-allow", &intent.Rule{
		Action: "ALLOW", Direction: "IN", SourceGroups: []string{w.tagged("envoy", "app|envoy")},
		ServiceEntries: []intent.ServiceEntry{&intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"80"}}},
	})
	w.judge(row{there, opened}, row{back, "dfw_rule contour-deny-all-ingress"},
		row{strings.Replace(there, "/80", "/81", 1), "dfw_rule hackazon-deny-all-ingress"})

	want := Verdict{
		Disposition: Delivered, To: "/infra/segments/hackazon/ports/shop", Allowed: []string{intent.DefaultRulePath, allow + "/rules/TCP.80-ingress-allow"},
		SrcSeen: netip.MustParseAddr("10.244.0.18"), DstSeen: netip.MustParseAddr("10.244.0.34"), DstPortSeen: 80,
		Hops: []netip.Addr{netip.MustParseAddr("10.244.0.17"), netip.MustParseAddr("100.64.8.0"), netip.MustParseAddr("100.64.16.1")},
		New:  true, TTL: 61, SrcMAC: routerMAC, DstMAC: intent.MAC{2, 0, 0, 0, 0, 2},
		Seen: packet.Tuple{Src: netip.MustParseAddr("10.244.0.18"), Dst: netip.MustParseAddr("10.244.0.34"), Proto: packet.TCP, SrcPort: 40000, DstPort: 80},
	}
	got := New(w.tree, Facts{Transit: links}).Judge(parsed(there))
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
	w.tree.Apply([]intent.Change{intent.Delete(allow)})
	w.judge(row{there, "dfw_rule hackazon-deny-all-ingress"})
}

// TestRouting is one packet for each way through routers that the stories do
// not have.
func TestRouting(t *testing.T) {
	w := newWorld(t)
	red, blue := w.tier1("red"), w.tier1("blue")
	w.segment("web", red, "10.1.0.1/24", "vm 10.1.0.5", "fw 10.1.0.6")
	w.segment("db", red, "10.1.1.1/24", "vm 10.1.1.5")
	w.segment("far", blue, "10.2.0.1/24", "vm 10.2.0.5")
	w.segment("alone", "", "10.3.0.1/24", "vm 10.3.0.5", "other 10.3.0.6")
	w.put(blue, &intent.Tier1{
		Tier0Path: provider, RouteAdvertisementTypes: []string{"TIER1_CONNECTED"},
		RouteAdvertisementRules: []intent.RouteAdvertisementRule{{Name: "hide", Action: "DENY", Subnets: []string{"10.2.0.0/16"}, PrefixOperator: "GE"}},
	})
	w.put(red+"/static-routes/via", &intent.StaticRoutes{Network: "172.16.0.0/16", NextHops: []intent.RouterNexthop{{IPAddress: "10.1.0.6"}}})
	w.put(red+"/static-routes/gone", &intent.StaticRoutes{Network: "172.17.0.0/16", NextHops: []intent.RouterNexthop{{IPAddress: "10.1.0.7"}}})
	w.put(red+"/static-routes/backup", &intent.StaticRoutes{
		Network: "172.18.0.0/16", NextHops: []intent.RouterNexthop{{IPAddress: "10.1.0.5", AdminDistance: 9}, {IPAddress: "10.1.0.6", AdminDistance: 2}},
	})
	w.put(red+"/static-routes/hole", &intent.StaticRoutes{Network: "172.16.9.0/24", NextHops: []intent.RouterNexthop{{}}})
	w.judge(
		row{"web/vm 10.1.0.6 10.1.1.5 tcp/80", "spoofguard"},
		row{"web/vm 10.1.0.5 10.1.0.5 tcp/80", "martian"},
		row{"web/vm 10.1.0.5 224.0.0.1 tcp/80", "multicast"},
		row{"web/no 10.1.0.5 10.1.0.6 tcp/80", "no_port"},
		row{"web/vm 10.1.0.5 10.1.0.6 tcp/80 l2", "fw 10.1.0.5>10.1.0.6:80"},
		row{"web/vm 10.1.0.5 10.1.0.9 tcp/80 l2", "mac_unknown"},
		row{"alone/vm 10.3.0.5 10.3.0.6 tcp/80 l2", "other 10.3.0.5>10.3.0.6:80"},
		row{"alone/vm 10.3.0.5 10.3.0.6 tcp/80", "no_gateway"},
		row{"web/vm 10.1.0.5 10.1.1.5 tcp/80", "vm 10.1.0.5>10.1.1.5:80"},
		row{"web/vm 10.1.0.5 10.1.1.9 tcp/80", "no_endpoint, icmp 3/1 10.1.0.1"},
		row{"web/vm 10.1.0.5 10.1.1.1 icmp", "echo 10.1.1.1"},
		row{"web/vm 10.1.0.5 10.1.1.1 udp/53", "no_listener, icmp 3/3 10.1.1.1"},
		row{"web/vm 10.1.0.5 10.1.1.1 tcp/53", "no_listener"},
		row{"web/vm 10.1.0.5 100.64.8.0 icmp", "echo 100.64.8.0"},
		row{"web/vm 10.1.0.5 100.64.16.1 icmp", "echo 100.64.16.1"},
		row{"web/vm 10.1.0.5 172.16.1.1 tcp/80", "fw 10.1.0.5>172.16.1.1:80"},
		row{"web/vm 10.1.0.5 172.17.1.1 tcp/80", "no_endpoint, icmp 3/1 10.1.0.1"},
		row{"db/vm 10.1.1.5 172.18.1.1 tcp/80", "fw 10.1.1.5>172.18.1.1:80"},
		row{"web/vm 10.1.0.5 172.16.9.1 tcp/80", "no_route, icmp 3/0 10.1.0.1"},
		row{"web/vm 10.1.0.5 10.2.0.5 tcp/80", "up0 10.1.0.5>10.2.0.5:80"},
		row{"up0 192.168.105.253 10.1.0.5 tcp/80", "vm 192.168.105.253>10.1.0.5:80"},
		row{"up0 192.168.105.253 10.2.0.5 tcp/80", "no_route, icmp 3/0 192.168.105.252"},
		row{"up0 10.1.0.5 10.1.1.5 tcp/80", "urpf"},
		row{"up0 10.1.0.5 100.64.16.1 icmp", "urpf"},
		row{"up0 192.168.105.253 192.168.105.252 icmp", "echo 192.168.105.252"},
	)
	// Red has a segment with blue's addresses: the Tier-0 knows them from red.
	w.segment("twin", red, "10.2.0.1/25", "vm 10.2.0.6")
	w.judge(row{"far/vm 10.2.0.5 198.51.100.9 tcp/80", "urpf"})
	// A static default route is before the one to the Tier-0.
	w.put(red+"/static-routes/default", &intent.StaticRoutes{Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{{IPAddress: "10.1.0.6"}}})
	w.judge(row{"db/vm 10.1.1.5 198.51.100.9 tcp/80", "fw 10.1.1.5>198.51.100.9:80"})
}

// TestTranslation is NAT beyond the rules of a namespace.
func TestTranslation(t *testing.T) {
	w := newWorld(t)
	red := w.tier1("red")
	w.segment("web", red, "10.1.0.1/24", "vm 10.1.0.5", "other 10.1.0.6", "third 10.1.0.7")
	w.put("/infra/services/web", &intent.Service{})
	w.put("/infra/services/web/service-entries/e", &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"80"}})
	w.nat(red, "one", 1, intent.PolicyNatRule{Action: "REFLEXIVE", SourceNetwork: "10.1.0.4/31", TranslatedNetwork: "10.9.0.8/31"})
	w.nat(red, "port", 1, intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "10.9.0.20", TranslatedNetwork: "10.1.0.6", Service: "/infra/services/web", TranslatedPorts: "8080"})
	w.nat(red, "rest", 2, intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "10.9.0.20", TranslatedNetwork: "10.1.0.7"})
	w.nat(red, "not-that", 2, intent.PolicyNatRule{Action: "NO_DNAT", SourceNetwork: "198.51.100.7", DestinationNetwork: "10.9.0.20"})
	w.nat(red, "pool", 3, intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "10.1.0.6", TranslatedNetwork: "10.9.1.0/30"})
	w.nat(provider, "scoped", 3, intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "10.1.0.7", TranslatedNetwork: "192.168.105.50", Scope: []string{up0}})
	off := false
	w.nat(red, "off", 0, intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "10.9.0.20", TranslatedNetwork: "10.1.0.5", Enabled: &off})
	w.put(red+"/nat/INTERNAL/nat-rules/first", &intent.PolicyNatRule{Action: "NO_SNAT", SourceNetwork: "10.1.0.6", DestinationNetwork: "198.51.100.1", SequenceNumber: 9})
	w.judge(
		row{"web/vm 10.1.0.5 198.51.100.9 tcp/80", "up0 10.9.0.9>198.51.100.9:80"},
		row{"up0 198.51.100.9 10.9.0.9 tcp/80", "vm 198.51.100.9>10.1.0.5:80"},
		row{"up0 198.51.100.9 10.9.0.20 tcp/8080", "other 198.51.100.9>10.1.0.6:80"},
		row{"up0 198.51.100.9 10.9.0.20 udp/8080", "third 198.51.100.9>10.1.0.7:8080"},
		row{"up0 198.51.100.9 10.9.0.20 tcp/80", "third 198.51.100.9>10.1.0.7:80"},
		row{"up0 198.51.100.9 10.9.0.20 tcp/81", "third 198.51.100.9>10.1.0.7:81"},
		row{"up0 198.51.100.7 10.9.0.20 tcp/81", "no_listener"},
		row{"web/other 10.1.0.6 198.51.100.1 tcp/80", "up0 10.1.0.6>198.51.100.1:80"},
		row{"web/third 10.1.0.7 198.51.100.1 tcp/80", "up0 192.168.105.50>198.51.100.1:80"},
		row{"web/vm 10.1.0.5 10.9.0.20 tcp/80", "no_listener"},
	)
	v := New(w.tree, Facts{Transit: links}).Judge(parsed("web/other 10.1.0.6 198.51.100.9 tcp/80"))
	if pool := netip.MustParsePrefix("10.9.1.0/30"); v.SrcSeenPool != pool || !pool.Contains(v.SrcSeen) {
		t.Errorf("pool: source %s of %s, want one of %s", v.SrcSeen, v.SrcSeenPool, pool)
	}
}

// TestUplinks: the default route uses the next hops of the smallest distance,
// all of them.
func TestUplinks(t *testing.T) {
	w := newWorld(t)
	w.segment("web", w.tier1("red"), "10.1.0.1/24", "vm 10.1.0.5")
	const up1, up2 = provider + "/locale-services/default/interfaces/up1", provider + "/locale-services/default/interfaces/up2"
	w.put(up1, &intent.Tier0Interface{Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.106.252"}, PrefixLen: 24}}})
	w.put(up2, &intent.Tier0Interface{Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.107.252"}, PrefixLen: 24}}})
	w.put(provider+"/static-routes/default", &intent.StaticRoutes{Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{
		{IPAddress: "192.168.106.253", AdminDistance: 9}, {IPAddress: "192.168.107.253"}, {IPAddress: next},
	}})
	used := map[string]bool{}
	for i := range 64 {
		p := parsed("web/vm 10.1.0.5 198.51.100.9 tcp/80")
		p.SrcPort = uint16(1024 + i)
		used[New(w.tree, Facts{Transit: links}).Judge(p).To] = true
	}
	if diff := cmp.Diff(map[string]bool{up0: true, up2: true}, used); diff != "" {
		t.Errorf("uplinks (-want +got):\n%s", diff)
	}
	w.judge(row{"web/vm 10.1.0.5 192.168.106.9 tcp/80", "up1 10.1.0.5>192.168.106.9:80"})
}
