package oracle_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
)

const (
	t0   = "/infra/tier-0s/t0"
	up0  = t0 + "/locale-services/default/interfaces/up0"
	up1  = t0 + "/locale-services/default/interfaces/up1"
	red  = "/infra/tier-1s/red"
	blue = "/infra/tier-1s/blue"
	gold = "/infra/tier-1s/gold"
)

// objects is an intent by path.
type objects map[string]intent.Object

// plant makes a tree of a Tier-0 with an uplink and a default route, three
// Tier-1s that advertise all they have, and the given objects, which replace
// those.
func plant(t *testing.T, more objects) *intent.Tree {
	t.Helper()
	all := objects{
		t0:                                      &intent.Tier0{},
		t0 + "/locale-services/default":         &intent.LocaleServices{EdgeClusterPath: edges},
		up0:                                     uplink("192.168.1.2"),
		t0 + "/static-routes/default":           static("0.0.0.0/0", "192.168.1.1"),
		"/infra/services/web":                   &intent.Service{},
		"/infra/services/web/service-entries/e": &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{"80"}},
	}
	for _, t1 := range []string{red, blue, gold} {
		all[t1] = tier1("TIER1_CONNECTED", "TIER1_NAT", "TIER1_STATIC_ROUTES")
		all[t1+"/locale-services/default"] = &intent.LocaleServices{EdgeClusterPath: edges}
	}
	for path, o := range more {
		all[path] = o
	}
	var changes []intent.Change
	for path, o := range all {
		changes = append(changes, intent.Put(path, o))
	}
	tree := intent.NewTree()
	if _, problems := tree.Apply(changes); intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	return tree
}

const edges = "/infra/sites/default/enforcement-points/default/edge-clusters/edges"

func tier1(types ...string) *intent.Tier1 {
	return &intent.Tier1{Tier0Path: t0, RouteAdvertisementTypes: types}
}

func uplink(address string) *intent.Tier0Interface {
	return &intent.Tier0Interface{Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{address}, PrefixLen: 24}}}
}

func static(network string, hops ...string) *intent.StaticRoutes {
	out := &intent.StaticRoutes{Network: network}
	for _, h := range hops {
		out.NextHops = append(out.NextHops, intent.RouterNexthop{IPAddress: h})
	}
	return out
}

func segment(router string, gateways ...string) *intent.Segment {
	s := &intent.Segment{ConnectivityPath: router}
	for _, g := range gateways {
		s.Subnets = append(s.Subnets, intent.SegmentSubnet{GatewayAddress: g})
	}
	return s
}

// port makes a port with a tag of scope app; the last byte of a MAC address is
// that of its address.
func port(tag string, addresses ...string) *intent.SegmentPort {
	p := &intent.SegmentPort{}
	p.Tags = []intent.Tag{{Scope: "app", Tag: tag}}
	for _, a := range addresses {
		mac := fmt.Sprintf("02:00:00:00:00:%02x", netip.MustParseAddr(a).As4()[3])
		p.AddressBindings = append(p.AddressBindings, intent.AddressBinding{IPAddress: a, MACAddress: mac})
	}
	return p
}

const (
	groups   = "/infra/domains/default/groups/"
	policies = "/infra/domains/default/security-policies/"
)

// tagged is the group of the ports with a tag of scope app.
func tagged(tag string) *intent.Group {
	return &intent.Group{Expression: []intent.Expression{
		&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: "app|" + tag},
	}}
}

// sent reads `port source destination protocol/port`; a port is segment/id, or
// up0. A fifth word l2 sends it to the neighbour, ttl=n sets the TTL, from=n the
// source port, which is 40000 without.
func sent(text string) oracle.Packet {
	f := strings.Fields(text)
	p := oracle.Packet{Port: up0, Src: netip.MustParseAddr(f[1]), Dst: netip.MustParseAddr(f[2]), Proto: 6, SrcPort: 40000, TTL: 64, ToGateway: true}
	if s, id, ok := strings.Cut(f[0], "/"); ok {
		p.Port = "/infra/segments/" + s + "/ports/" + id
	}
	proto, to, _ := strings.Cut(f[3], "/")
	if proto == "udp" {
		p.Proto = 17
	}
	n, _ := strconv.Atoi(to)
	p.DstPort = uint16(n)
	for _, word := range f[4:] {
		name, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "ttl":
			p.TTL = n
		case "from":
			p.SrcPort = uint16(n)
		case "l2":
			p.ToGateway = false
		}
	}
	return p
}

// ended writes a verdict: port source>destination:port, or the reason and what
// is answered.
func ended(v oracle.Verdict) string {
	if v.Disposition == oracle.Delivered {
		return fmt.Sprintf("%s %s>%s:%d", intent.IDOf(v.To), v.SrcSeen, v.DstSeen, v.DstPortSeen)
	}
	out := v.Reason
	if v.Answer != "" {
		out += ", " + v.Answer + " " + v.AnswerFrom.String()
	}
	return out
}

// TestCases is what the judges, or a judge and the page, once saw in two ways.
// Both must see it as the row says.
func TestCases(t *testing.T) {
	type row struct{ packet, want string }
	twins := objects{
		"/infra/segments/red":         segment(red, "10.1.0.1/24"),
		"/infra/segments/red/ports/a": port("red", "10.1.0.5"),
		"/infra/segments/own":         segment(red, "10.5.0.1/24"),
		"/infra/segments/own/ports/b": port("red", "10.5.0.5"),

		"/infra/segments/blue":         segment(blue, "10.1.0.1/25"),
		"/infra/segments/blue/ports/c": port("blue", "10.1.0.5"),
		"/infra/segments/blue/ports/d": port("blue", "10.1.0.6"),
		"/infra/segments/gold":         segment(gold, "10.6.0.1/24"),
		"/infra/segments/gold/ports/e": port("gold", "10.6.0.5"),

		groups + "red":          tagged("red"),
		policies + "p":          &intent.SecurityPolicy{Category: "Application"},
		policies + "p/rules/to": &intent.Rule{Action: "DROP", DestinationGroups: []string{groups + "red"}, Direction: "OUT"},
	}
	nat := func(r intent.PolicyNatRule) *intent.PolicyNatRule { return &r }
	for _, c := range []struct {
		name string
		base objects
		more objects
		rows []row
	}{
		{"of overlapping subnets the one that the Tier-0 has is known to all", twins, objects{blue: tier1()}, []row{
			{"gold/e 10.6.0.5 10.5.0.5 tcp/80", "dfw_rule"}, // no other has it
			{"gold/e 10.6.0.5 10.1.0.5 tcp/80", "dfw_rule"}, // red's
			{"blue/d 10.1.0.6 10.5.0.5 tcp/80", "dfw_rule"},
			{"blue/d 10.1.0.6 10.1.0.5 tcp/80 l2", "c 10.1.0.6>10.1.0.5:80"}, // blue's own
		}},
		{"the longer advertisement has the address", twins, nil, []row{
			{"gold/e 10.6.0.5 10.5.0.5 tcp/80", "dfw_rule"},
			{"gold/e 10.6.0.5 10.1.0.5 tcp/80", "c 10.6.0.5>10.1.0.5:80"},
			{"own/b 10.5.0.5 10.1.0.5 tcp/80", "dfw_rule"},
		}},
		{"equal advertisements: the lowest path", twins, objects{"/infra/segments/blue": segment(blue, "10.1.0.1/24")}, []row{
			{"gold/e 10.6.0.5 10.1.0.5 tcp/80", "c 10.6.0.5>10.1.0.5:80"},
			{"gold/e 10.6.0.5 10.1.0.77 tcp/80", "no_endpoint, icmp 3/1 BLUE"},
			{"red/a 10.1.0.5 198.51.100.9 tcp/80", "urpf"},
		}},
		{"who is translated to another's address is not the other", twins, objects{
			policies + "p/rules/to":        &intent.Rule{Action: "ALLOW", SourceGroups: []string{groups + "red"}},
			policies + "p/rules/to2":       &intent.Rule{Action: "DROP", Direction: "IN", SequenceNumber: 1},
			blue + "/nat/USER/nat-rules/n": nat(intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: "10.5.0.5"}),
		}, []row{
			{"blue/d 10.1.0.6 10.6.0.5 tcp/80", "dfw_rule"},
			{"own/b 10.5.0.5 10.6.0.5 tcp/80", "urpf"},
			{"own/b 10.5.0.5 10.1.0.5 tcp/80", "a 10.5.0.5>10.1.0.5:80"},
		}},
		{"an address on a segment without subnets is nobody else's", twins, objects{
			"/infra/segments/bare":         segment(""),
			"/infra/segments/bare/ports/f": port("red", "10.6.0.5"),
		}, []row{
			{"own/b 10.5.0.5 10.6.0.5 tcp/80", "e 10.5.0.5>10.6.0.5:80"},
		}},
		{"nor is one beside the segment that the router reaches it by", twins, objects{
			blue:                           tier1(),
			"/infra/segments/bare":         segment(red),
			"/infra/segments/bare/ports/f": port("red", "10.1.0.6"),
		}, []row{
			{"gold/e 10.6.0.5 10.1.0.6 tcp/80", "no_endpoint, icmp 3/1 RED"},
		}},
		{"a segment without a gateway has no router", nil, objects{
			"/infra/segments/bare":         segment(red),
			"/infra/segments/bare/ports/a": port("", "10.6.0.5"),
		}, []row{{"bare/a 10.6.0.5 198.51.100.9 tcp/80", "no_gateway"}}},
		{"a Tier-0 takes only sources that it routes back", twins, objects{
			red:                                 tier1("TIER1_CONNECTED"),
			gold:                                tier1("TIER1_NAT"),
			red + "/nat/USER/nat-rules/egress":  nat(intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: "172.16.0.1", DestinationNetwork: "198.51.100.0/24"}),
			gold + "/nat/USER/nat-rules/egress": nat(intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: "172.16.0.2", DestinationNetwork: "198.51.100.0/24"}),
		}, []row{
			{"own/b 10.5.0.5 198.51.100.9 tcp/80", "urpf"}, // translated, not advertised
			{"own/b 10.5.0.5 203.0.113.9 tcp/80", "up0 10.5.0.5>203.0.113.9:80"},
			{"gold/e 10.6.0.5 198.51.100.9 tcp/80", "up0 172.16.0.2>198.51.100.9:80"},
			{"gold/e 10.6.0.5 203.0.113.9 tcp/80", "urpf"}, // not translated, not advertised
		}},
		{"a MAC address is a port's, all of it", nil, objects{
			"/infra/segments/web":         segment(red, "10.1.0.1/24"),
			"/infra/segments/web/ports/a": port("", "10.1.0.5", "10.1.0.6"),
			"/infra/segments/web/ports/b": port("", "10.1.0.7"),
			groups + "mac":                &intent.Group{Expression: []intent.Expression{&intent.MACAddressExpression{MACAddresses: []string{"02:00:00:00:00:06"}}}},
			policies + "p":                &intent.SecurityPolicy{Category: "Application"},
			policies + "p/rules/r":        &intent.Rule{Action: "DROP", SourceGroups: []string{groups + "mac"}},
		}, []row{
			{"web/a 10.1.0.5 10.1.0.7 tcp/80 l2", "dfw_rule"},
			{"web/b 10.1.0.7 10.1.0.5 tcp/80 l2", "a 10.1.0.7>10.1.0.5:80"},
		}},
		{"translated_ports is what is matched, the service's port what it becomes", twins, objects{
			policies + "p/rules/to":          &intent.Rule{Action: "ALLOW"},
			red + "/nat/USER/nat-rules/web":  nat(intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "172.16.0.1", TranslatedNetwork: "10.5.0.5", Service: "/infra/services/web", TranslatedPorts: "8080"}),
			red + "/nat/USER/nat-rules/same": nat(intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "172.16.0.2", TranslatedNetwork: "10.5.0.5", Service: "/infra/services/web"}),
			red + "/nat/USER/nat-rules/any":  nat(intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "172.16.0.3", TranslatedNetwork: "10.5.0.5", TranslatedPorts: "8080"}),
		}, []row{
			{"up0 198.51.100.9 172.16.0.1 tcp/8080", "b 198.51.100.9>10.5.0.5:80"},
			{"up0 198.51.100.9 172.16.0.1 tcp/80", "no_listener"},
			{"up0 198.51.100.9 172.16.0.2 tcp/80", "b 198.51.100.9>10.5.0.5:80"},
			{"up0 198.51.100.9 172.16.0.2 tcp/8080", "no_listener"},
			{"up0 198.51.100.9 172.16.0.3 tcp/22", "b 198.51.100.9>10.5.0.5:22"},
		}},
		{"a rule that can match nothing has no address", twins, objects{
			"/infra/services/all":                   &intent.Service{},
			"/infra/services/all/service-entries/e": &intent.L4PortSetServiceEntry{L4Protocol: "TCP"},
			red + "/nat/USER/nat-rules/web":         nat(intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "172.16.0.1", TranslatedNetwork: "10.5.0.5", Service: "/infra/services/all", TranslatedPorts: "8080"}),
		}, []row{{"gold/e 10.6.0.5 172.16.0.1 tcp/8080", "up0 10.6.0.5>172.16.0.1:8080"}}},
		{"networks of equal size are translated one to one", twins, objects{
			red + "/nat/USER/nat-rules/out": nat(intent.PolicyNatRule{Action: "SNAT", SourceNetwork: "10.5.0.4/30", TranslatedNetwork: "172.16.0.8/30"}),
		}, []row{{"own/b 10.5.0.5 198.51.100.9 tcp/80", "up0 172.16.0.9>198.51.100.9:80"}}},
		{"static before NAT, and by distance, then path", twins, objects{
			gold + "/static-routes/b":      static("172.16.0.0/24", "10.6.0.5"),
			gold + "/static-routes/a":      &intent.StaticRoutes{Network: "172.16.0.0/24", NextHops: []intent.RouterNexthop{{IPAddress: "10.6.0.9", AdminDistance: 2}}},
			gold + "/nat/USER/nat-rules/n": nat(intent.PolicyNatRule{Action: "DNAT", DestinationNetwork: "172.16.0.0/24", TranslatedNetwork: "10.6.0.5", Service: "/infra/services/web"}),
		}, []row{{"up0 198.51.100.9 172.16.0.7 tcp/81", "e 198.51.100.9>172.16.0.7:81"}}},
		{"a next hop on a segment is before those on uplinks", twins, objects{
			"/infra/segments/lan":         segment(t0, "192.168.9.1/24"),
			"/infra/segments/lan/ports/f": port("", "192.168.9.5"),
			t0 + "/static-routes/default": static("0.0.0.0/0", "192.168.1.1", "192.168.9.5"),
		}, []row{{"gold/e 10.6.0.5 198.51.100.9 tcp/80", "f 10.6.0.5>198.51.100.9:80"}}},
		{"a Node uses the gateway of its port's first address", nil, objects{
			"/infra/segments/web":                 segment(red, "10.1.0.1/24", "10.2.0.1/24"),
			"/infra/segments/web/ports/n":         port("", "10.2.0.9", "10.1.0.9"),
			"/infra/nodes/n":                      &intent.Node{PortPath: "/infra/segments/web/ports/n"},
			"/infra/segments/pods":                segment("/infra/nodes/n", "192.168.8.1/24"),
			"/infra/segments/pods/ports/p":        port("", "192.168.8.5"),
			"/infra/nodes/n/nat/USER/nat-rules/m": nat(intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: "10.2.0.9"}),
		}, []row{
			{"pods/p 192.168.8.5 198.51.100.9 tcp/80", "up0 10.2.0.9>198.51.100.9:80"},
			{"pods/p 192.168.8.5 198.51.100.9 tcp/80 ttl=2", "ttl_exceeded, icmp 11/0 10.2.0.1"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := objects{}
			for _, list := range []objects{c.base, c.more} {
				for path, o := range list {
					all[path] = o
				}
			}
			court := newCourt(t, plant(t, all))
			_, redEnd := court.facts.Transit(red)
			_, blueEnd := court.facts.Transit(blue)
			ends := strings.NewReplacer("RED", redEnd.String(), "BLUE", blueEnd.String())
			for _, r := range c.rows {
				v, differs := court.hear(t, sent(r.packet))
				if differs != "" {
					t.Errorf("%s: %s", r.packet, differs)
				}
				if got, want := ended(v), ends.Replace(r.want); got != want {
					t.Errorf("%s: got %q, want %q", r.packet, got, want)
				}
			}
		})
	}
}

// TestEqualCost: two routes to one prefix by uplinks are one with the next hops
// of both, and so are two uplinks in one subnet.
func TestEqualCost(t *testing.T) {
	for name, more := range map[string]objects{
		"two routes":             {up1: uplink("192.168.2.2"), t0 + "/static-routes/other": static("0.0.0.0/0", "192.168.2.1")},
		"two uplinks of one hop": {up1: uplink("192.168.1.3")},
	} {
		t.Run(name, func(t *testing.T) {
			more["/infra/segments/web"] = segment(red, "10.1.0.1/24")
			more["/infra/segments/web/ports/a"] = port("", "10.1.0.5")
			court := newCourt(t, plant(t, more))
			used := map[string]int{}
			for n := range uint16(64) {
				for _, to := range []string{"198.51.100.9", "192.168.1.77"} {
					p := sent("web/a 10.1.0.5 " + to + " tcp/80")
					p.SrcPort += n
					v, differs := court.hear(t, p)
					if differs != "" {
						t.Fatalf("source port %d: %s", p.SrcPort, differs)
					}
					used[v.To]++
				}
			}
			if used[up0] == 0 || used[up1] == 0 || used[up0]+used[up1] != 128 {
				t.Errorf("uplinks used: %v", used)
			}
		})
	}
}
