package oracle_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/packet"
)

// step is what happens in a case: a packet with its end, or another event.
type step struct {
	packet string // see sent
	by     string // the interface, if it is not that of packet
	flags  packet.Flags
	size   int
	want   string // see ended; how that begins
	load   string // open and failed connections of the first member afterwards; empty: not asked
	event  oracle.Event
}

// TestSequences is sequences that random stories rarely tell: both judges see
// them as the rows say.
func TestSequences(t *testing.T) {
	const lb, pool, server = "/infra/lb-services/lb", "/infra/lb-pools/pool", "/infra/lb-virtual-servers/vip"
	const syn, ack, vip = packet.SYN, packet.ACK, "10.9.0.9"
	balanced := objects{
		"/infra/lb-app-profiles/tcp": &intent.LBFastTcpProfile{},
		lb:                           &intent.LBService{ConnectivityPath: red},
		pool:                         &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}}},
		server: &intent.LBVirtualServer{
			IPAddress: vip, Ports: []string{"443"}, PoolPath: pool, LBServicePath: lb, ApplicationProfilePath: "/infra/lb-app-profiles/tcp",
		},
		"/infra/lb-pools/outside": &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "203.0.113.9"}}},
		"/infra/lb-virtual-servers/outside": &intent.LBVirtualServer{
			IPAddress: "10.9.0.10", Ports: []string{"443"}, PoolPath: "/infra/lb-pools/outside", LBServicePath: lb, ApplicationProfilePath: "/infra/lb-app-profiles/tcp",
		},
		red:                           tier1("TIER1_CONNECTED", "TIER1_LB_VIP"),
		"/infra/segments/red":         segment(red, "10.1.0.1/24"),
		"/infra/segments/red/ports/a": port("red", "10.1.0.5"),
		"/infra/segments/red/ports/b": port("red", "10.1.0.6"),
		"/infra/segments/red/ports/c": port("red", "10.1.0.7"),
		up1:                           small("192.168.2.2"),
		up0:                           small("192.168.1.2"),
		"/infra/domains/default/gateway-policies/g": &intent.GatewayPolicy{Category: "Default"},
		"/infra/domains/default/gateway-policies/g/rules/up1": &intent.Rule{
			Action: "ALLOW", Scope: []string{up1}, Direction: "IN",
		},
		"/infra/domains/default/gateway-policies/g/rules/up0": &intent.Rule{
			Action: "DROP", Scope: []string{up0}, Direction: "IN", SourceGroups: []string{"198.51.100.9"},
		},
	}
	limited := *balanced[server].(*intent.LBVirtualServer)
	limited.MaxConcurrentConnections = 1
	listed := *balanced[server].(*intent.LBVirtualServer)
	listed.AccessListControl = &intent.LBAccessListControl{Action: "DROP", GroupPath: groups + "b"}
	snat := func(kind string, addresses ...string) oracle.Event {
		p := &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "172.16.3.5"}}, SNATTranslation: &intent.LBSnatTranslation{Type: kind}}
		for _, a := range addresses {
			p.SNATTranslation.IPAddresses = append(p.SNATTranslation.IPAddresses, intent.LBSnatIPElement{IPAddress: a})
		}
		return changed(objects{pool: p})
	}
	tenant := changed(objects{
		"/infra/segments/blue": segment(blue, "172.16.3.1/24"), "/infra/segments/blue/ports/e": port("blue", "172.16.3.5"),
		"/infra/segments/blue/ports/f": port("blue", "172.16.3.10"),
	})
	names := changed(objects{
		"/infra/lb-app-profiles/udp": &intent.LBFastUdpProfile{},
		"/infra/lb-pools/names":      &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5"}, {IPAddress: "10.1.0.6"}}},
		"/infra/lb-virtual-servers/names": &intent.LBVirtualServer{
			IPAddress: vip, Ports: []string{"53"}, PoolPath: "/infra/lb-pools/names", LBServicePath: lb, ApplicationProfilePath: "/infra/lb-app-profiles/udp",
		},
	})
	down := func(addresses ...string) oracle.Event {
		e := oracle.Event{Monitor: true}
		for _, a := range addresses {
			e.Health = append(e.Health, oracle.Member{Pool: "/infra/lb-pools/names", Addr: netip.MustParseAddr(a)})
		}
		return e
	}
	watched := changed(objects{
		"/infra/lb-monitor-profiles/tcp": &intent.LBTcpMonitorProfile{},
		pool: &intent.LBPool{
			Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}}, ActiveMonitorPaths: []string{"/infra/lb-monitor-profiles/tcp"},
		},
	})
	// The servers of one load balancer share a profile, and another one has it too.
	shared := objects{
		"/infra/lb-persistence-profiles/ip": &intent.LBSourceIpPersistenceProfile{PersistenceShared: true},
		"/infra/lb-services/other":          &intent.LBService{ConnectivityPath: t0},
		pool:                                &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}, {IPAddress: "10.1.0.6", Port: "80"}}},
	}
	for address, service := range map[string]string{"10.9.0.9": lb, "10.9.0.11": lb, "10.9.0.12": "/infra/lb-services/other"} {
		v := *balanced[server].(*intent.LBVirtualServer)
		v.IPAddress, v.LBServicePath, v.LBPersistenceProfilePath = address, service, "/infra/lb-persistence-profiles/ip"
		shared["/infra/lb-virtual-servers/"+address] = &v
	}
	sharing := changed(shared)
	sharing.Changes = append(sharing.Changes, intent.Delete(server))
	// Nobody gets in at red's ports; two of them have a cluster address.
	isolated := changed(objects{
		"/infra/segments/red/ports/m": port("red", "10.1.0.8", "10.1.0.9"),
		groups + "red":                tagged("red"),
		policies + "isolation":        &intent.SecurityPolicy{Category: "Application"},
		policies + "isolation/rules/deny-all-ingress": &intent.Rule{
			Action: "DROP", Direction: "IN", Scope: []string{groups + "red"},
		},
	})
	cluster := changed(objects{
		groups + "red":            tagged("red"),
		"/infra/lb-services/own":  &intent.LBService{ConnectivityPath: groups + "red", Size: "DLB"},
		"/infra/lb-pools/cluster": &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.8", Port: "80"}}},
		"/infra/lb-virtual-servers/cluster": &intent.LBVirtualServer{
			IPAddress: "10.96.0.10", Ports: []string{"443"}, PoolPath: "/infra/lb-pools/cluster", LBServicePath: "/infra/lb-services/own", ApplicationProfilePath: "/infra/lb-app-profiles/tcp",
		},
		"/infra/segments/red/ports/m": port("red", "10.1.0.8", "10.1.0.9"),
	})
	const asker = lb + "/monitor/ports/monitor"
	two := intent.Put(pool, &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}, {IPAddress: "10.1.0.6", Port: "80"}}})
	for name, steps := range map[string][]step{
		"a sweep forgets how members fared that are none any more": {
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Ticks: 200}},
			{event: oracle.Event{Sweep: true}},
			{event: oracle.Event{Changes: []intent.Change{intent.Put(pool, &intent.LBPool{})}}},
			{event: oracle.Event{Sweep: true}},
			{event: oracle.Event{Changes: []intent.Change{intent.Put(pool, &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}}})}}},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
		},
		"a sweep forgets whose turn it is in a pool that is gone": {
			{event: oracle.Event{Changes: []intent.Change{two}}},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Changes: []intent.Change{intent.Delete(server), intent.Delete(pool)}}},
			{event: oracle.Event{Sweep: true}},
			{event: oracle.Event{Changes: []intent.Change{two, intent.Put(server, balanced[server])}}},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: ack, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.FIN, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: packet.FIN, want: "a 10.9.0.9>10.1.0.5:80"},
		},
		"simultaneous open": {
			{packet: "red/b 10.1.0.6 10.1.0.5 tcp/40000 l2", flags: syn, want: "a 10.1.0.6>10.1.0.5:40000"},
			{packet: "red/a 10.1.0.5 10.1.0.6 tcp/40000 l2", flags: syn, want: "b 10.1.0.5>10.1.0.6:40000"},
			{packet: "red/a 10.1.0.5 10.1.0.6 tcp/40000 l2", flags: syn | ack, want: "b 10.1.0.5>10.1.0.6:40000"},
			{packet: "red/b 10.1.0.6 10.1.0.5 tcp/40000 l2", flags: ack, want: "a 10.1.0.6>10.1.0.5:40000"},
			{event: oracle.Event{Ticks: 40000}},
			{packet: "red/a 10.1.0.5 10.1.0.6 tcp/40000 l2", flags: ack, want: "b 10.1.0.5>10.1.0.6:40000"},
		},
		"a member that is disabled loses its connections, one that drains keeps them": {
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Changes: []intent.Change{intent.Put(pool, &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80", AdminState: "GRACEFUL_DISABLED"}}})}}},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: ack, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Changes: []intent.Change{intent.Put(pool, &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80", AdminState: "DISABLED"}}})}}},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: ack, want: "tcp_state, rst 10.9.0.9"},
		},
		"a connection of a Tier-0 does not care for the uplink, but who looks for its end does": {
			{packet: "up0 198.51.100.9 10.9.0.10 tcp/443", by: up1, flags: syn, want: "up0 10.9.0.10>203.0.113.9:443"},
			{packet: "up0 198.51.100.9 10.9.0.10 tcp/443", flags: ack, want: "up0 10.9.0.10>203.0.113.9:443"},
			{packet: "up0 198.51.100.9 10.9.0.10 tcp/443", by: up1, flags: ack, size: 577, want: "too_big, icmp 3/4 mtu 576 "},
			{packet: "up0 198.51.100.9 10.9.0.10 tcp/443", flags: ack, size: 577, want: "gateway_rule"},
		},
		"a FIN that only the client believes in frees nothing": {
			{event: changed(objects{server: &limited})},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.FIN, want: "a 10.9.0.9>10.1.0.5:80", load: "0 open, 0 failed"},
			{event: oracle.Event{Ticks: 2}},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.FIN, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Sweep: true}, load: "0 open, 0 failed"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: packet.RST, want: "a 10.9.0.9>10.1.0.5:80", load: "0 open, 0 failed"},
			{event: oracle.Event{Ticks: 1}},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: ack, want: "a 10.9.0.9>10.1.0.5:80", load: "0 open, 0 failed"},
			{event: oracle.Event{Sweep: true}, load: "1 open, 0 failed"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "lb_limit$"},
			{event: oracle.Event{Ticks: 112}},
			{event: oracle.Event{Sweep: true}, load: "1 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.RST, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{event: oracle.Event{Ticks: 113}},
			{event: oracle.Event{Sweep: true}, load: "0 open, 0 failed"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
		},
		"so it is with a member that goes on after the client's reset": {
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.RST, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: oracle.Event{Ticks: 3}},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: ack, want: "b 10.9.0.9>10.1.0.6:40000"},
			{event: oracle.Event{Sweep: true}, load: "1 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "2 open, 0 failed"},
			{event: oracle.Event{Sweep: true}, load: "1 open, 0 failed"},
		},
		"only what answers a SYN is a failure": {
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: ack, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: packet.RST, want: "b 10.9.0.9>10.1.0.6:40000", load: "0 open, 0 failed"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: packet.RST | ack, want: "b 10.9.0.9>10.1.0.6:40000", load: "0 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: packet.RST | ack, want: "b 10.9.0.9>10.1.0.6:40000", load: "0 open, 1 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 1 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: packet.RST | ack, want: "a 10.9.0.9>10.1.0.5:80", load: "0 open, 1 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 1 failed"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: syn | ack, want: "b 10.9.0.9>10.1.0.6:40000", load: "1 open, 0 failed"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: packet.RST | ack, want: "b 10.9.0.9>10.1.0.6:40000", load: "0 open, 0 failed"},
		},
		"a connection that nobody answered leaves a member that is down, others stay": {
			{event: names},
			{packet: "red/c 10.1.0.7 10.9.0.9 udp/53", want: "a 10.9.0.9>10.1.0.5:53"},
			{event: down("10.1.0.5")},
			{packet: "red/a 10.1.0.5 10.9.0.9 udp/40000 from=53", want: "stale_connection$"},
			{packet: "red/c 10.1.0.7 10.9.0.9 udp/53", want: "b 10.9.0.9>10.1.0.6:53"},
			{packet: "red/b 10.1.0.6 10.9.0.9 udp/40000 from=53", want: "c 10.9.0.9>10.1.0.7:40000"},
			{event: down("10.1.0.5", "10.1.0.6")},
			{packet: "red/c 10.1.0.7 10.9.0.9 udp/53", want: "b 10.9.0.9>10.1.0.6:53"},
			{packet: "red/b 10.1.0.6 10.9.0.9 udp/40000 from=53", want: "c 10.9.0.9>10.1.0.7:40000"},
			{packet: "red/c 10.1.0.7 10.9.0.9 udp/53 from=40001", want: "lb_no_member, icmp 3/13 10.9.0.9$"},
		},
		"a SYN that nobody answered leaves a member that is down, too": {
			{event: changed(objects{pool: &intent.LBPool{Members: []intent.LBPoolMember{{IPAddress: "10.1.0.5", Port: "80"}, {IPAddress: "10.1.0.6", Port: "80"}}}})},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{event: oracle.Event{Monitor: true, Health: []oracle.Member{{Pool: pool, Addr: netip.MustParseAddr("10.1.0.5"), Port: 80}}}},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "b 10.9.0.9>10.1.0.6:80", load: "0 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/40000 from=80", flags: syn | ack, want: "c 10.9.0.9>10.1.0.7:40000"},
			{event: oracle.Event{Monitor: true, Health: []oracle.Member{{Pool: pool, Addr: netip.MustParseAddr("10.1.0.6"), Port: 80}}}},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: ack, want: "b 10.9.0.9>10.1.0.6:80"},
		},
		"a virtual server vouches for nobody but its client": {
			{event: tenant},
			{event: snat("LBSnatDisabled")},
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443", by: up1, flags: syn, want: "e 198.51.100.9>172.16.3.5:443"},
			{event: snat("LBSnatIpPool", "172.16.3.10")}, // another tenant's workload
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443 from=40001", by: up1, flags: syn, want: "urpf$"},
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443", by: up1, flags: ack, want: "urpf$"},
			{event: changed(objects{red: tier1("TIER1_CONNECTED", "TIER1_LB_VIP", "TIER1_LB_SNAT")})}, // so says only red
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443 from=40001", by: up1, flags: syn, want: "urpf$"},
			{event: snat("LBSnatIpPool", "198.18.0.77")},
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443 from=40001", by: up1, flags: syn, want: "e 198.18.0.77>172.16.3.5:443"},
			{event: changed(objects{red: tier1("TIER1_CONNECTED", "TIER1_LB_VIP")})}, // an address outside
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443 from=40001", by: up1, flags: syn, want: "urpf$"},
			{packet: "blue/e 172.16.3.5 198.18.0.77 tcp/40001 from=443", flags: syn | ack, want: "urpf$"},
			{event: snat("LBSnatAutoMap")},
			{packet: "up0 198.51.100.9 10.9.0.9 tcp/443 from=40002", by: up1, flags: syn, want: "e 10.9.0.9>172.16.3.5:443"},
		},
		"an access list that changes cuts connections": {
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{event: changed(objects{
				groups + "b": &intent.Group{Expression: []intent.Expression{&intent.IPAddressExpression{IPAddresses: []string{"10.1.0.6"}}}},
				server:       &listed,
			})},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: ack, want: "lb_access, rst 10.9.0.9$", load: "2 open, 0 failed"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/40000 from=80", flags: ack, want: "lb_access, rst 10.9.0.9$"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: ack, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443 from=40001", flags: ack, want: "tcp_state, rst 10.9.0.9$"},
		},
		"a shared table of clients is one load balancer's": {
			{event: sharing},
			{packet: "red/c 10.1.0.7 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80"},
			{packet: "red/c 10.1.0.7 10.9.0.11 tcp/443", flags: syn, want: "a 10.9.0.11>10.1.0.5:80"},
			{packet: "red/c 10.1.0.7 10.9.0.12 tcp/443", flags: syn, want: "b 10.9.0.12>10.1.0.6:80"},
			{packet: "red/c 10.1.0.7 10.9.0.12 tcp/443 from=40001", flags: syn, want: "b 10.9.0.12>10.1.0.6:80"},
			{packet: "red/c 10.1.0.7 10.9.0.11 tcp/443 from=40001", flags: syn, want: "a 10.9.0.11>10.1.0.5:80"},
		},
		"a reply has to find the way back to its client": {
			{event: changed(objects{
				red:                           tier1("TIER1_CONNECTED", "TIER1_NAT", "TIER1_STATIC_ROUTES"),
				red + "/nat/USER/nat-rules/n": &intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: "172.16.0.1"},
			})},
			{packet: "red/b 10.1.0.6 198.51.100.7 tcp/80", flags: syn, want: "up0 172.16.0.1>198.51.100.7:80"},
			{packet: "up0 198.51.100.7 172.16.0.1 tcp/40000 from=80", by: up1, flags: syn | ack, want: "b 198.51.100.7>10.1.0.6:40000"},
			// It comes to its port, as somebody else's.
			{event: changed(objects{red + "/static-routes/s": static("172.16.0.1/32", "10.1.0.6")})},
			{packet: "up0 198.51.100.7 172.16.0.1 tcp/40000 from=80", by: up1, flags: ack, want: "no_route$"},
			{packet: "red/b 10.1.0.6 198.51.100.7 tcp/80", flags: ack, want: "up0 172.16.0.1>198.51.100.7:80"},
		},
		"isolation keeps nobody from itself": {
			{event: cluster},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/443", flags: syn, want: "m 10.96.0.10>10.1.0.8:80"},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/40000 from=80", flags: syn | ack, want: "m 10.96.0.10>10.1.0.8:40000"},
			{packet: "red/c 10.1.0.7 10.96.0.10 tcp/443", flags: syn, want: "m 10.1.0.7>10.1.0.8:80"},
			{event: isolated},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/443", flags: ack, want: "m 10.96.0.10>10.1.0.8:80"},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/40000 from=80", flags: ack, want: "m 10.96.0.10>10.1.0.8:40000"},
			{packet: "red/c 10.1.0.7 10.96.0.10 tcp/443", flags: ack, want: "dfw_rule$"},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/443 from=40001", flags: syn, want: "m 10.96.0.10>10.1.0.8:80"},
			{packet: "red/m 10.1.0.9 10.96.0.10 tcp/443", flags: syn, want: "m 10.1.0.9>10.1.0.8:80"}, // by its other address
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/443", flags: syn, want: "a 10.9.0.9>10.1.0.5:80", load: "1 open, 0 failed"},
			{packet: "red/b 10.1.0.6 10.9.0.9 tcp/443", flags: syn, want: "dfw_rule$", load: "1 open, 0 failed"},
			// Out of a port only to its own address: to the VIP it is judged.
			{event: changed(objects{policies + "isolation/rules/deny-all-egress": &intent.Rule{
				Action: "REJECT", Direction: "OUT", Scope: []string{groups + "red"},
			}})},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/443", flags: ack, want: "m 10.96.0.10>10.1.0.8:80"},
			{packet: "red/m 10.1.0.8 10.96.0.10 tcp/443 from=40002", flags: syn, want: "m 10.96.0.10>10.1.0.8:80"},
			{packet: "red/m 10.1.0.9 10.96.0.10 tcp/443 from=40002", flags: syn, want: "dfw_rule, rst 10.96.0.10$"},
			{packet: "red/a 10.1.0.5 10.9.0.9 tcp/443", flags: ack, want: "dfw_rule, rst 10.9.0.9$"},
		},
		"a monitor takes answers only": {
			{event: watched},
			{packet: "red/b 10.1.0.6 169.254.255.2 tcp/80", flags: syn, want: "no_endpoint$"},
			{packet: "red/b 10.1.0.6 169.254.255.2 udp/80", want: "no_endpoint$"},
			{packet: "red/b 10.1.0.6 169.254.255.2 tcp/80 ttl=1", flags: syn, want: "ttl_exceeded, icmp 11/0 10.1.0.1$"},
			{packet: "red/b 169.254.255.2 10.1.0.5 tcp/80", flags: syn, want: "spoofguard$"},
			{packet: "red/b 169.254.255.2 10.1.0.5 tcp/80", by: asker, flags: syn, want: "a 169.254.255.2>10.1.0.5:80"},
			{packet: "red/a 10.1.0.5 169.254.255.2 tcp/40001 from=80", flags: syn, want: "no_endpoint$"},
			{packet: "red/a 10.1.0.5 169.254.255.2 tcp/40000 from=80", flags: syn | ack, want: "monitor 10.1.0.5>169.254.255.2:40000"},
			{event: changed(objects{lb: &intent.LBService{ConnectivityPath: t0}})},
			{packet: "up0 198.51.100.9 169.254.255.2 tcp/80", by: up1, flags: syn, want: "no_endpoint$"},
			{packet: "up0 169.254.255.2 10.1.0.5 tcp/80", by: up1, flags: syn, want: "urpf$"},
			{packet: "red/b 10.1.0.6 169.254.255.2 tcp/80", flags: syn, want: "no_endpoint$"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := trialOf(t, plant(t, balanced))
			for i, s := range steps {
				if s.packet != "" {
					p := sent(s.packet)
					p.Flags, p.Size, p.Port = s.flags, s.size, cmp.Or(s.by, p.Port)
					s.event.Packet = &p
				}
				v, differs := x.happen(s.event)
				if differs != "" {
					t.Fatalf("step %d: %s: %s", i, text(s.event), differs)
				}
				open, failed := x.past.OpenAt(oracle.Member{Pool: pool, Addr: netip.MustParseAddr("10.1.0.5"), Port: 80})
				if load := fmt.Sprintf("%d open, %d failed", open, failed); s.load != "" && load != s.load {
					t.Errorf("step %d: %s: %s, want %s", i, text(s.event), load, s.load)
				}
				if s.packet != "" && (s.want == "" || !strings.HasPrefix(ended(v)+"$", s.want)) {
					t.Errorf("step %d: %s: got %q, want %q", i, s.packet, ended(v), s.want)
				}
			}
		})
	}
}

// changed is the event that objects are put.
func changed(list objects) oracle.Event {
	var e oracle.Event
	for path, o := range list {
		e.Changes = append(e.Changes, intent.Put(path, o))
	}
	return e
}

// small is an uplink with a small MTU.
func small(address string) *intent.Tier0Interface {
	out := uplink(address)
	out.MTU = 576
	return out
}
