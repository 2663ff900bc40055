package oracle

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
)

// Size bounds what RandomTree makes. Tier1s is at least 2, Segments and Ports
// are at least 1.
type Size struct {
	Uplinks  int // of the Tier-0
	Tier1s   int
	Segments int // of each Tier-1
	Ports    int // of each segment
	Nodes    int
	Groups   int
	Policies int
	Rules    int // of each policy
	NATRules int // of each router
	Gateway  int // policies of the gateway firewall
	Servers  int // virtual servers
	Pools    int // at least 1 if there are Servers
}

// Small is a Size whose trees a person can read.
func Small() Size {
	return Size{Uplinks: 2, Tier1s: 5, Segments: 3, Ports: 3, Nodes: 3, Groups: 8, Policies: 6, Rules: 5, NATRules: 4}
}

// Full returns a Size like Small, with load balancers and a gateway firewall.
func Full() Size {
	s := Small()
	s.Tier1s, s.Policies, s.Rules, s.Gateway, s.Servers, s.Pools = 3, 3, 3, 2, 14, 6
	return s
}

// RandomTree returns a valid tree: one Tier-0 with its uplinks, Tier-1s whose
// subnets sometimes overlap, Nodes with pods, NAT, static routes and a
// distributed firewall. The same state of r gives the same tree. What turns
// out invalid is left out.
func RandomTree(r *rand.Rand, size Size) *intent.Tree {
	b := &builder{Rand: r, t: intent.NewTree(), size: size}
	b.services()
	b.provider()
	for i := range 2 + r.IntN(max(1, size.Tier1s-1)) {
		b.tenant(i)
	}
	b.nat(provider, "172.30.0", "10.0")
	for i := range r.IntN(2) {
		b.segment(fmt.Sprintf("/infra/segments/alone%d", i), "", fmt.Sprintf("10.%d.%d.1/24", r.IntN(2), i))
	}
	b.nodes()
	for i := range size.Groups {
		b.group(i)
	}
	for i := range size.Policies {
		b.policy(i)
	}
	b.rest()
	b.balancers()
	for i := range b.size.Gateway {
		b.gatewayPolicy(i)
	}
	return b.t
}

// builder makes one tree, or changes of it.
type builder struct {
	*rand.Rand
	t      *intent.Tree
	later  []intent.Change // what put would have done; see changing
	whole  bool            // t is whole: put changes nothing
	size   Size
	macs   int
	groups []string
}

const provider = "/infra/tier-0s/provider"

// put applies one object if it is valid.
func (b *builder) put(path string, o intent.Object) bool {
	if b.whole {
		b.later = append(b.later, intent.Put(path, o))
		return true
	}
	_, problems := b.t.Apply([]intent.Change{intent.Put(path, o)})
	return !intent.HasErrors(problems)
}

// one returns one of the values.
func one[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

// some returns each of the values in one of two cases.
func some[T any](r *rand.Rand, values ...T) []T {
	var out []T
	for _, v := range values {
		if r.IntN(2) == 0 {
			out = append(out, v)
		}
	}
	return out
}

// chance is true in n of 100 cases.
func (b *builder) chance(n int) bool { return b.IntN(100) < n }

func (b *builder) text(format string, values ...any) string { return fmt.Sprintf(format, values...) }

// provider makes the Tier-0. Its transit subnet is small, so that random
// addresses in it meet the links.
func (b *builder) provider() {
	b.put(provider, &intent.Tier0{TransitSubnets: []string{"100.64.0.0/27"}})
	b.put(provider+"/locale-services/default", &intent.LocaleServices{EdgeClusterPath: edges})
	uplinks := min(b.size.Uplinks, one(b.Rand, 0, 1, 1, 2, 2))
	var hops []intent.RouterNexthop
	for i := range uplinks {
		net := one(b.Rand, 0, i, i, i)
		up := &intent.Tier0Interface{
			Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{b.text("172.20.%d.%d", net, 2+i)}, PrefixLen: 24}},
		}
		if b.size.Gateway > 0 {
			up.MTU = one(b.Rand, 0, 0, 576, 1500)
		}
		b.put(b.text(uplinkN, i), up)
		hop := intent.RouterNexthop{IPAddress: b.text("172.20.%d.1", net), AdminDistance: 1 + b.IntN(2)}
		if b.chance(20) {
			hop.Scope = []string{b.text(uplinkN, b.IntN(uplinks))}
		}
		hops = append(hops, hop)
	}
	if uplinks > 0 && b.chance(90) {
		b.put(provider+"/static-routes/default", &intent.StaticRoutes{Network: "0.0.0.0/0", NextHops: hops})
	}
	if uplinks > 0 && b.chance(20) {
		b.put(provider+"/static-routes/another", &intent.StaticRoutes{Network: "0.0.0.0/0", NextHops: []intent.RouterNexthop{{IPAddress: "172.20.0.9"}}})
	}
	if b.chance(30) {
		b.put(provider+"/static-routes/hole", &intent.StaticRoutes{Network: one(b.Rand, "203.0.113.0/25", "172.20.0.0/24", "0.0.0.0/0", "10.0.0.0/24"), NextHops: []intent.RouterNexthop{{}}})
	}
	if b.chance(30) {
		b.segment("/infra/segments/shared", provider, one(b.Rand, "10.200.0.1/24", "10.0.0.1/24", "10.1.0.1/25"))
	}
}

// uplinkN is the path of an uplink by number.
const uplinkN = provider + "/locale-services/default/interfaces/up%d"

const edges = "/infra/sites/default/enforcement-points/default/edge-clusters/edges"

// tenant makes a Tier-1 and what hangs on it. One in three uses the addresses
// of the first.
func (b *builder) tenant(i int) {
	path := b.text("/infra/tier-1s/t%d", i)
	t := &intent.Tier1{RouteAdvertisementTypes: some(b.Rand, "TIER1_CONNECTED", "TIER1_NAT", "TIER1_CONNECTED", "TIER1_NAT", "TIER1_CONNECTED", "TIER1_NAT", "TIER1_STATIC_ROUTES")}
	if b.chance(90) {
		t.Tier0Path = provider
	}
	net := i
	if b.chance(33) {
		net = 0
	}
	for range b.IntN(3) {
		t.RouteAdvertisementRules = append(t.RouteAdvertisementRules, intent.RouteAdvertisementRule{
			Name: "filter", Action: one(b.Rand, "PERMIT", "DENY", "DENY"), PrefixOperator: one(b.Rand, "GE", "EQ"),
			Subnets:                 []string{one(b.Rand, b.text("10.%d.0.0/16", net), b.text("10.%d.0.0/24", net), b.text("10.222.%d.0/24", i))},
			RouteAdvertisementTypes: some(b.Rand, "TIER1_CONNECTED", "TIER1_NAT"),
		})
	}
	if b.size.Servers > 0 {
		t.RouteAdvertisementTypes = append(t.RouteAdvertisementTypes, some(b.Rand, "TIER1_LB_VIP", "TIER1_LB_SNAT")...)
		t.DisableFirewall = b.chance(10)
	}
	b.put(path, t)
	b.put(path+"/locale-services/default", &intent.LocaleServices{EdgeClusterPath: edges})
	for j := range 1 + b.IntN(b.size.Segments) {
		gateway := one(b.Rand, "10.%d.%d.1/24", "10.%d.%d.1/26", "10.%d.%d.17/28", "10.%d.%d.5/30")
		at, router := b.text("/infra/segments/t%ds%d", i, j), path
		if b.chance(25) {
			at = b.text("%s/segments/s%d", path, j)
		}
		b.segment(at, router, b.text(gateway, net, j))
	}
	b.nat(path, b.text("10.222.%d", i), b.text("10.%d", net))
	for j := range b.IntN(3) {
		b.put(b.text("%s/static-routes/via%d", path, j), &intent.StaticRoutes{
			Network:  one(b.Rand, b.text("172.16.%d.0/24", i), b.text("172.16.%d.0/24", i), b.text("10.%d.1.0/24", net), b.text("10.222.%d.128/28", i), "0.0.0.0/0"),
			NextHops: b.hops(path),
		})
	}
}

// hops returns next hops on the segments of a router, or a null route.
func (b *builder) hops(router string) []intent.RouterNexthop {
	var out []intent.RouterNexthop
	for range 1 + b.IntN(2) {
		out = append(out, intent.RouterNexthop{IPAddress: b.binding(router), AdminDistance: b.IntN(3)})
	}
	if b.chance(10) {
		return []intent.RouterNexthop{{}}
	}
	return out
}

// segment makes a segment with a gateway and its ports; an empty router leaves
// it unconnected.
func (b *builder) segment(path, router, gateway string) {
	s := &intent.Segment{Subnets: []intent.SegmentSubnet{{GatewayAddress: gateway}}, ConnectivityPath: router}
	s.Tags, s.DisplayName = b.tags(), one(b.Rand, "web", "db", "web-db", "")
	if router != "" && b.chance(8) {
		s.AdvancedConfig = &intent.SegmentAdvancedConfig{Connectivity: "OFF"}
	}
	if b.chance(10) {
		s.Subnets = append(s.Subnets, intent.SegmentSubnet{GatewayAddress: b.text("10.%d.250.1/29", b.IntN(3))})
	}
	if b.chance(5) {
		s.Subnets = nil
	}
	if !b.put(path, s) {
		return
	}
	first := netip.MustParsePrefix(gateway).Addr().Next()
	for i := range 1 + b.IntN(b.size.Ports) {
		p := &intent.SegmentPort{}
		p.Tags, p.DisplayName = b.tags(), one(b.Rand, "web", "web-1", "db-1", "")
		for range 1 + b.IntN(2) {
			p.AddressBindings = append(p.AddressBindings, intent.AddressBinding{IPAddress: first.String(), MACAddress: b.mac()})
			first = first.Next()
		}
		if len(s.Subnets) > 1 {
			b.second(p, s.Subnets[1].GatewayAddress, i)
		}
		if b.chance(5) {
			p.AdminState = "DOWN"
		}
		if at := b.text("%s/ports/p%d", path, i); !b.put(at, p) {
			p.AddressBindings = p.AddressBindings[:1] // what a /30 has room for
			b.put(at, p)
		}
	}
}

// second gives a port an address in its segment's second subnet, too or first.
func (b *builder) second(p *intent.SegmentPort, gateway string, i int) {
	a := plus(netip.MustParsePrefix(gateway).Addr(), uint64(1+i))
	p.AddressBindings = append(p.AddressBindings, intent.AddressBinding{IPAddress: a.String(), MACAddress: b.mac()})
	if b.chance(50) {
		slices.Reverse(p.AddressBindings)
	}
}

func (b *builder) mac() string {
	b.macs++
	return b.text("02:00:00:00:%02x:%02x", b.macs>>8, b.macs&255)
}

func (b *builder) tags() []intent.Tag {
	var out []intent.Tag
	for range b.IntN(3) {
		out = append(out, intent.Tag{Scope: one(b.Rand, "app", "env", ""), Tag: one(b.Rand, "web", "db", "webdb")})
	}
	return out
}

// nodes makes Nodes on random ports, pods behind them, which several clusters
// number alike, and sometimes the masquerade and a route to the pods.
func (b *builder) nodes() {
	for i := range b.IntN(b.size.Nodes + 1) {
		port := one(b.Rand, every[*intent.SegmentPort](b.t, "SegmentPort")...)
		s, _ := intent.Find[*intent.Segment](b.t, port.SegmentPath())
		path, own := b.text("/infra/nodes/n%d", i), port.AddressBindings[0].IPAddress
		if s.RouterPath() == "" || !port.IsUp() || !b.put(path, &intent.Node{PortPath: port.Path}) {
			continue
		}
		pods := 1 + b.IntN(2)
		b.segment(b.text("/infra/segments/pods%d", i), path, b.text("192.168.%d.1/24", pods))
		if b.chance(70) {
			b.put(path+"/nat/USER/nat-rules/masquerade", &intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "192.168.0.0/16", TranslatedNetwork: own, SequenceNumber: 10})
		}
		if b.chance(50) {
			b.put(path+"/nat/USER/nat-rules/node-port", &intent.PolicyNatRule{
				Action: "DNAT", DestinationNetwork: own, TranslatedNetwork: b.binding(path), Service: b.service(), TranslatedPorts: one(b.Rand, "", "8080"),
			})
		}
		if b.chance(50) {
			b.put(b.text("%s/static-routes/pods%d", s.RouterPath(), i), &intent.StaticRoutes{
				Network: b.text("192.168.%d.0/24", pods), NextHops: []intent.RouterNexthop{{IPAddress: own}},
			})
		}
	}
}

// services makes one service of each kind.
func (b *builder) services() {
	echo, code := 8, 0
	entries := map[string]intent.ServiceEntry{
		"web":   &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"80", "8000-8080"}},
		"ports": &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"8443", "443", "80"}},
		"dns":   &intent.L4PortSetServiceEntry{L4Protocol: "UDP", DestinationPorts: []string{"53"}},
		"tcp":   &intent.L4PortSetServiceEntry{L4Protocol: "TCP"},
		"ping":  &intent.ICMPTypeServiceEntry{Protocol: "ICMPv4", ICMPType: &echo, ICMPCode: &code},
		"icmp":  &intent.ICMPTypeServiceEntry{Protocol: "ICMPv4"},
		"gre":   &intent.IPProtocolServiceEntry{ProtocolNumber: 47},
		"sctp":  &intent.L4PortSetServiceEntry{L4Protocol: "SCTP", DestinationPorts: []string{"80", "1000-2000"}},
		"mixed": &intent.NestedServiceServiceEntry{NestedServicePath: "/infra/services/web"},
	}
	for _, name := range []string{"web", "ports", "dns", "tcp", "ping", "icmp", "gre", "sctp", "mixed"} {
		b.put("/infra/services/"+name, &intent.Service{})
		b.put("/infra/services/"+name+"/service-entries/e", entries[name])
	}
	b.put("/infra/services/mixed/service-entries/f", &intent.L4PortSetServiceEntry{L4Protocol: "UDP", DestinationPorts: []string{"0-1023", "65535"}})
}

// service returns the path of a random service.
func (b *builder) service() string {
	return "/infra/services/" + one(b.Rand, "web", "ports", "dns", "tcp", "ping", "icmp", "gre", "sctp", "mixed")
}

// binding returns an address behind a router, or one of anywhere.
func (b *builder) binding(router string) string {
	var own, all []string
	for _, p := range every[*intent.SegmentPort](b.t, "SegmentPort") {
		s, _ := intent.Find[*intent.Segment](b.t, p.SegmentPath())
		for _, a := range p.AddressBindings {
			all = append(all, a.IPAddress)
			if s.RouterPath() == router {
				own = append(own, a.IPAddress)
			}
		}
	}
	if len(own) > 0 {
		return one(b.Rand, own...)
	}
	return one(b.Rand, all...)
}

// nat makes NAT rules of a gateway; net is the first three octets of addresses
// that it has for NAT, in the first two of those it translates.
func (b *builder) nat(router, net, in string) {
	for i := range b.IntN(b.size.NATRules + 1) {
		net := net
		if b.chance(10) {
			net = one(b.Rand, "10.222.0", "10.0.0", "10.1.0", "172.30.0")
		}
		inside := one(b.Rand, in+".0.0/16", in+".0.0/24", in+".0.2", in+".1.0/28", in+".0.2, "+in+".1.2", "10.222.0.0/16")
		outside := one(b.Rand, "198.51.100.0/24", "198.51.100.9", "ANY", "ANY", "", "10.0.0.0/8")
		r := &intent.PolicyNatRule{Action: one(b.Rand, "SNAT", "SNAT", "DNAT", "DNAT", "NO_SNAT", "NO_DNAT", "REFLEXIVE"), SequenceNumber: b.IntN(4)}
		switch r.Action {
		case "SNAT", "NO_SNAT":
			r.SourceNetwork, r.DestinationNetwork = one(b.Rand, inside, "ANY", ""), outside
			r.TranslatedNetwork = one(b.Rand, b.text("%s.%d", net, 10+i), net+".64/30", net+".64/28")
		case "DNAT", "NO_DNAT":
			r.SourceNetwork, r.DestinationNetwork = outside, one(b.Rand, b.text("%s.%d", net, 100+i), net+".128/28")
			r.TranslatedNetwork = one(b.Rand, b.binding(router), b.binding(router), "10.222.0.100", in+".0.0/30", in+".0.0/28")
		case "REFLEXIVE":
			r.SourceNetwork, r.TranslatedNetwork = in+".0.0/28", net+".32/28"
		}
		if r.Action[:2] == "NO" {
			r.TranslatedNetwork = ""
		}
		if b.chance(30) {
			r.Service = one(b.Rand, "/infra/services/web", "/infra/services/ports", "/infra/services/dns", b.service())
		}
		if r.Action == "DNAT" && b.chance(50) {
			r.TranslatedPorts = "8080"
		}
		if router == provider && b.chance(30) {
			r.Scope = []string{b.text(uplinkN, 0)}
		}
		off := false
		if b.chance(10) {
			r.Enabled = &off
		}
		if b.size.Gateway > 0 {
			r.FirewallMatch = one(b.Rand, "", "", "BYPASS", "MATCH_INTERNAL_ADDRESS", "MATCH_EXTERNAL_ADDRESS")
			if r.Action[:2] == "NO" && r.FirewallMatch != "BYPASS" {
				r.FirewallMatch = ""
			}
		}
		b.put(b.text("%s/nat/%s/nat-rules/r%d", router, one(b.Rand, "INTERNAL", "USER", "USER", "DEFAULT"), i), r)
	}
}
