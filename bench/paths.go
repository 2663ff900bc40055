package bench

import (
	"fmt"
	"strings"

	"github.com/weft-net/weft/bench/load"
)

// Paths returns all paths: those that need nothing but the kernel and nft, then Weft's.
func Paths() []Entry {
	return append([]Entry{
		{Name: "raw", Group: GroupRaw, Build: build("raw", wireRaw)},
		{Name: "bridge", Group: GroupBridge, Build: build("bridge", wireBridge)},
		{Name: "host", Group: GroupKernel, Build: build("host", wireHost)},
		{Name: "segment", Group: GroupKernel, Build: build("segment", wireSegment)},
		{Name: "t1", Group: GroupKernel, Build: build("t1", wireT1)},
		{Name: "t0", Group: GroupKernel, Build: build("t0", wireT0)},
		{Name: "snat", Group: GroupKernel, Build: build("snat", wireSNAT)},
		{Name: "dnat", Group: GroupKernel, Build: build("dnat", wireDNAT)},
		{Name: "linear-10000", Group: GroupKernel, Build: build("linear-10000", wireRules(linearRules(10000)))},
		{Name: "linear-100000", Group: GroupKernel, Build: build("linear-100000", wireRules(linearRules(100000)))},
		{Name: "set-10000", Group: GroupKernel, Build: build("set-10000", wireRules(setRules(10000)))},
		{Name: "set-100000", Group: GroupKernel, Build: build("set-100000", wireRules(setRules(100000)))},
	}, weftPaths()...)
}

// anywhere is the default route.
const anywhere = "0.0.0.0/0"

// filter is the stateful filter of a router: established connections, a few rules, nothing else.
var filter = fmt.Sprintf(`
table inet filter {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		icmp type echo-request accept
		ip saddr 10.0.9.0/24 tcp dport { 443, 8443 } accept
		ip saddr 10.0.1.0/24 tcp dport %[1]d-%[2]d accept
		ip saddr 100.64.0.0/16 tcp dport %[1]d-%[2]d accept
		udp dport %[1]d-%[2]d accept
	}
}`, load.FirstPort, load.LastPort)

// masquerade is what a Tier-1 adds to hide its segments behind its uplink.
const masquerade = `
table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "up" masquerade
	}
}`

// client ── server
func wireRaw(t *topology) (client, server *node, addr string) {
	client, server = t.node("client"), t.node("server")
	t.link(client, "eth0", "10.0.1.2/24", server, "eth0", "10.0.1.3/24")
	return client, server, "10.0.1.3"
}

// client ── bridge ── server
func wireBridge(t *topology) (client, server *node, addr string) {
	return bridged(t, t.node("bridge", bridgeHooksOff()...))
}

// client ── bridge with the filter ── server
//
// The bridge hands its packets to the IPv4 hooks, as Kubernetes demands of a node (br_netfilter).
func wireSegment(t *topology) (client, server *node, addr string) {
	br := t.node("bridge", "net/bridge/bridge-nf-call-iptables=1")
	br.nft(filter)
	return bridged(t, br)
}

func bridged(t *topology, br *node) (client, server *node, addr string) {
	client, server = t.node("client"), t.node("server")
	t.link(client, "eth0", "10.0.1.2/24", br, "p1", "")
	t.link(server, "eth0", "10.0.1.3/24", br, "p2", "")
	br.bridge("br0", "", "p1", "p2")
	return client, server, "10.0.1.3"
}

// client ── router ── server
func wireHost(t *topology) (client, server *node, addr string) {
	client, _, server = routed(t)
	return client, server, "10.0.2.2"
}

// routed is one routing namespace with the filter between two machines.
func routed(t *topology) (client, r, server *node) {
	client, r, server = t.node("client"), t.router("router"), t.node("server")
	t.link(client, "eth0", "10.0.1.2/24", r, "p1", "10.0.1.1/24")
	t.link(server, "eth0", "10.0.2.2/24", r, "p2", "10.0.2.1/24")
	client.route(anywhere, "10.0.1.1")
	server.route(anywhere, "10.0.2.1")
	r.nft(filter)
	return client, r, server
}

// client ── router that sends what is asked of 203.0.113.20 to the server ── server
func wireDNAT(t *topology) (client, server *node, addr string) {
	client, r, server := routed(t)
	r.nft(`
table ip lb {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 203.0.113.20 dnat to 10.0.2.2
	}
}`)
	return client, server, "203.0.113.20"
}

// wireRules is client ── router ── server, where the router has other rules, of which none matches, ahead of the filter's own.
func wireRules(other string) func(t *topology) (client, server *node, addr string) {
	return func(t *topology) (client, server *node, addr string) {
		client, r, server := routed(t)
		r.nft(other)
		return client, server, "10.0.2.2"
	}
}

// otherAddr is the address that rule i, which matches nothing, asks for.
func otherAddr(i int) string { return fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255) }

// linearRules are n rules one after another, each for new connections from an address of its own to a port of its own.
func linearRules(n int) string {
	var b strings.Builder
	b.WriteString("table ip other {\n chain forward {\n  type filter hook forward priority filter - 1; policy accept;\n  ct state established,related accept\n")
	for i := range n {
		fmt.Fprintf(&b, "  ip saddr %s tcp dport %d drop\n", otherAddr(i), 1024+i%otherPorts)
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// setRules are the same as one rule over a set of n elements.
func setRules(n int) string {
	var b strings.Builder
	b.WriteString("table ip other {\n set blocked {\n  type ipv4_addr . inet_service\n  elements = {\n")
	for i := range n {
		fmt.Fprintf(&b, "   %s . %d,\n", otherAddr(i), 1024+i%otherPorts)
	}
	b.WriteString("  }\n }\n chain forward {\n  type filter hook forward priority filter - 1; policy accept;\n" +
		"  ct state established,related accept\n  ip saddr . tcp dport @blocked drop\n }\n}\n")
	return b.String()
}

// client ── segment, Tier-1, segment ── server; a segment is a bridge in the namespace of its Tier-1
func wireT1(t *topology) (client, server *node, addr string) {
	client, r, server := t.node("client"), t.tier1("tier1"), t.node("server")
	t.attach(client, r, 1)
	t.attach(server, r, 2)
	return client, server, "10.0.2.2"
}

// client ── segment, Tier-1 ── Tier-0 ── Tier-1, segment ── server
func wireT0(t *topology) (client, server *node, addr string) {
	client, red, tier0, blue, server := t.node("client"), t.tier1("red"), t.tier0(), t.tier1("blue"), t.node("server")
	t.attach(client, red, 1)
	t.attach(server, blue, 2)
	t.uplink(red, tier0, 1)
	t.uplink(blue, tier0, 2)
	tier0.route("10.0.1.0/24", "100.64.1.1")
	tier0.route("10.0.2.0/24", "100.64.2.1")
	return client, server, "10.0.2.2"
}

// client ── segment, Tier-1 with masquerade ── Tier-0 ── server outside, which knows nothing of the segment
func wireSNAT(t *topology) (client, server *node, addr string) {
	client, red, tier0, server := t.node("client"), t.tier1("red"), t.tier0(), t.node("server")
	t.attach(client, red, 1)
	t.uplink(red, tier0, 1)
	red.nft(masquerade)
	t.link(server, "eth0", "192.0.2.2/24", tier0, "ext", "192.0.2.1/24")
	server.route("100.64.0.0/16", "192.0.2.1")
	return client, server, "192.0.2.2"
}

// tier1 filters what it routes; what its segments switch runs free.
func (t *topology) tier1(name string) *node {
	r := t.router(name, bridgeHooksOff()...)
	r.nft(filter)
	return r
}

func (t *topology) tier0() *node { return t.tier1("tier0") }

// attach joins a workload to segment i, 10.0.i.0/24, of a Tier-1.
func (t *topology) attach(workload, tier1 *node, i int) {
	port := fmt.Sprintf("p%d", i)
	gateway := fmt.Sprintf("10.0.%d.1", i)
	t.link(workload, "eth0", fmt.Sprintf("10.0.%d.2/24", i), tier1, port, "")
	tier1.bridge(fmt.Sprintf("seg%d", i), gateway+"/24", port)
	workload.route(anywhere, gateway)
}

// uplink joins a Tier-1 to the Tier-0 by router link i, 100.64.i.0/31.
func (t *topology) uplink(tier1, tier0 *node, i int) {
	t.link(tier1, "up", fmt.Sprintf("100.64.%d.1/31", i), tier0, fmt.Sprintf("down%d", i), fmt.Sprintf("100.64.%d.0/31", i))
	tier1.route(anywhere, fmt.Sprintf("100.64.%d.0", i))
}
