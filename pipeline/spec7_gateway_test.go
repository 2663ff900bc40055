package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Address sets and rulesets of gateways, and their rules.
const (
	setClients table.AddrSetID = iota + 551
	setServers
	setBlueApp // of blue's realm
)

const rulesGate table.RulesetID = 651

const (
	ruleDeny uint32 = iota + 1655
	ruleReject
	ruleWeb
	ruleRest
)

// gate gives s the ruleset rulesGate and lets hang hang it somewhere.
func gate(hang func(*table.Set), rules ...table.Rule) func(*table.Set) {
	return func(s *table.Set) {
		rs := &table.Ruleset{ID: rulesGate, Gateway: true}
		for _, r := range rules {
			rs.Rules = append(rs.Rules, &r)
		}
		s.Rulesets.Put(rulesGate, rs)
		hang(s)
	}
}

func redIn(s *table.Set)   { s.VRFs.Get(testset.Red).In = rulesGate }
func redOut(s *table.Set)  { s.VRFs.Get(testset.Red).Out = rulesGate }
func blueOut(s *table.Set) { s.VRFs.Get(testset.Blue).Out = rulesGate }
func eastIn(s *table.Set)  { s.Uplinks.Get(testset.UplinkEast).In = rulesGate }
func eastOut(s *table.Set) { s.Uplinks.Get(testset.UplinkEast).Out = rulesGate }
func westOut(s *table.Set) { s.Uplinks.Get(testset.UplinkWest).Out = rulesGate }

// addrs gives s an address set.
func addrs(s *table.Set, id table.AddrSetID, realm table.RealmID, p string) {
	s.AddrSets.Put(id, &table.AddrSet{ID: id, Addrs: []table.RealmPrefix{{Realm: realm, Prefix: prefix(p)}}})
}

// gateway returns a rule between two address sets; 0: any.
func gateway(id uint32, action table.RuleAction, src, dst table.AddrSetID, ss ...table.Service) table.Rule {
	r := table.Rule{ID: id, Action: action, AnyRemote: src == 0, Services: ss}
	if src != 0 {
		r.Remote = []table.AddrSetID{src}
	}
	if dst != 0 {
		r.Dst = []table.AddrSetID{dst}
	}
	return r
}

func TestSpec7_GatewayFirewall(t *testing.T) {
	port := func(p uint16) table.Service { return table.Service{Proto: 6, First: p, Last: p} }
	anyone := gateway(ruleRest, table.Allow, 0, 0)
	in := tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn) // becomes 203.0.113.17:80, then 10.1.1.10:8080
	out := udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53)
	rows := []struct {
		name string
		set  func(*table.Set)
		from table.PortID
		in   packet.Spec
		want string
	}{
		{"no ruleset", func(*table.Set) {}, testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, at the Tier-1, allowed", gate(redIn, anyone), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1658) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, at the uplink, allowed", gate(eastIn, anyone), testset.UplinkEast, in,
			"dnat(1 #2010) gateway_in(1 #1658) route(1) ttl(1) dnat(2 #2005) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, another uplink's is not asked", gate(func(s *table.Set) { s.Uplinks.Get(testset.UplinkWest).In = rulesGate }), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, without a NAT row", gate(redIn, anyone), testset.UplinkEast, udp(outside, "192.0.2.9", 5, "10.1.2.11", 53),
			"route(1) ttl(1) gateway_in(2 #1658) route(2) ttl(2) endpoint(102) connect(0) deliver(206)"},
		{"in, from another Tier-1", gate(redIn, anyone), testset.App2, tcp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 9, syn),
			"spoofguard(208) dfw_out(208 #1013) route(3) ttl(3) snat(3 #2008) route(1) ttl(1) gateway_in(2 #1658) route(2) ttl(2) endpoint(102) connect(0) deliver(206)"},
		{"in, default deny", gate(redIn), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 gateway_default_deny)"},
		{"missing ruleset", redIn, testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 gateway_default_deny)"},
		{"in, dropped", gate(redIn, gateway(ruleDeny, table.Drop, 0, 0), anyone), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1655 gateway_rule)"},
		{"in, continue is no match", gate(redIn, gateway(ruleDeny, table.Continue, 0, 0), anyone), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 gateway_default_deny)"},
		{"in, the destination and port inside", gate(redIn, gateway(ruleWeb, table.Allow, setClients, setServers, port(8080))), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1657) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, not the port outside", gate(redIn, gateway(ruleWeb, table.Allow, setClients, setServers, port(80))), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 gateway_default_deny)"},
		{"in, another source", gate(redIn, gateway(ruleWeb, table.Allow, setServers, setServers)), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 gateway_default_deny)"},
		{"in, negated destination", gate(redIn, func() table.Rule {
			r := gateway(ruleDeny, table.Drop, 0, setServers)
			r.NotDst = true
			return r
		}(), anyone), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1658) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, a set of another realm", gate(redIn, gateway(ruleDeny, table.Drop, 0, setBlueApp), anyone), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1658) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, external", gate(func(s *table.Set) {
			redIn(s)
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0].Match = table.MatchExternal
			addrs(s, setServers, table.AnyRealm, "203.0.113.17/32")
		}, gateway(ruleWeb, table.Allow, setClients, setServers, port(80))), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) gateway_in(2 #1657) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, bypass", gate(func(s *table.Set) {
			redIn(s)
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0].Match = table.MatchBypass
		}), testset.UplinkEast, in,
			"dnat(1 #2010) route(1) ttl(1) dnat(2 #2005) route(2) ttl(2) endpoint(101) dfw_in(201 #1008) connect(0) deliver(201)"},
		{"in, bypass by an exempting row", gate(func(s *table.Set) {
			redIn(s)
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[2].Match = table.MatchBypass
			s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: prefix("203.0.113.16/28")})
		}), testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "203.0.113.19", 80, syn),
			"route(1) ttl(1) dnat(2 #2006) route(2) ttl(2) route(2 no_route)"},
		{"out, at the Tier-1, before SNAT", gate(redOut, anyone), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) gateway_out(2 #1658) snat(2 #2004) route(1) ttl(1) connect(0) deliver(214)"},
		{"out, at the uplink", gate(eastOut, anyone), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) gateway_out(1 #1658) connect(0) deliver(214)"},
		{"out, another uplink's is not asked", gate(westOut), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) connect(0) deliver(214)"},
		{"out, the inner source", gate(func(s *table.Set) {
			redOut(s)
			s.AddrSets.Get(setClients).Addrs[0] = table.RealmPrefix{Realm: testset.RealmRed, Prefix: prefix("10.1.1.11/32")}
		}, gateway(ruleReject, table.Reject, setClients, 0), anyone), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) gateway_out(2 #1656 gateway_rule)"},
		{"out, external: the translated source", gate(func(s *table.Set) {
			redOut(s)
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules[3].Match = table.MatchExternal
			s.AddrSets.Get(setClients).Addrs[0].Prefix = prefix("203.0.113.16/32")
		}, gateway(ruleDeny, table.Drop, setClients, 0), anyone), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) gateway_out(2 #1655 gateway_rule)"},
		{"out, external and exempt: the inner source", gate(func(s *table.Set) {
			redOut(s)
			r := &s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules[1]
			r.Match = table.MatchExternal
			s.AddrSets.Get(setClients).Addrs[0] = table.RealmPrefix{Realm: testset.RealmRed, Prefix: prefix("10.1.2.11/32")}
		}, gateway(ruleDeny, table.Drop, setClients, 0), anyone), testset.DB2, udp(testset.DB2, "10.1.2.11", 1, "192.0.2.9", 53),
			"spoofguard(206) route(2) ttl(2) gateway_out(2 #1655 gateway_rule)"},
		{"out, bypass", gate(func(s *table.Set) {
			redOut(s)
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules[3].Match = table.MatchBypass
		}), testset.Web2, out,
			"spoofguard(202) dfw_out(202 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) connect(0) deliver(214)"},
		{"never between two segments of one Tier-1", gate(func(s *table.Set) { redIn(s); redOut(s) }), testset.Web1, tcp(testset.Web1, "10.1.1.10", 5, "10.1.2.10", 3306, syn),
			"spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) endpoint(102) dfw_in(205 #1011) connect(0) deliver(205)"},
		{"the Tier-0's are not asked between Tier-1s", gate(func(s *table.Set) { eastIn(s); eastOut(s); westOut(s) }), testset.App2, tcp(testset.App2, "10.1.1.40", 5, "10.1.2.11", 9, syn),
			"spoofguard(208) dfw_out(208 #1013) route(3) ttl(3) snat(3 #2008) route(1) ttl(1) route(2) ttl(2) endpoint(102) connect(0) deliver(206)"},
		{"not of a Node", gate(func(s *table.Set) { s.VRFs.Get(testset.Node).In, s.VRFs.Get(testset.Node).Out = rulesGate, rulesGate }),
			testset.DB1, tcp(testset.DB1, "10.1.2.10", 5, "10.200.1.10", 80, syn),
			"spoofguard(205) dfw_out(205 #1013) route(2) ttl(2) endpoint(101) dfw_in(204 #1013) route(4) ttl(4) endpoint(105) dfw_in(210 #1013) connect(0) deliver(210)"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			f.apply(func(s *table.Set) {
				s.VRFs.Get(testset.Red).Realm, s.VRFs.Get(testset.Blue).Realm = testset.RealmRed, testset.RealmBlue
				addrs(s, setClients, table.AnyRealm, "192.0.2.9/32")
				addrs(s, setServers, testset.RealmRed, "10.1.1.10/32")
				addrs(s, setBlueApp, testset.RealmBlue, "10.1.1.10/32")
				r.set(s)
			})
			res := f.send(r.from, r.in)
			if d := cmp.Diff(r.want, path(res)); d != "" {
				t.Error(d)
			}
			last := res.Steps[len(res.Steps)-1]
			if res.Rule != last.Rule || last.Reason == ReasonGatewayRule && (last.FWRule == nil || last.FWRule.ID != res.Rule) {
				t.Errorf("rule %d, step's %d", res.Rule, last.Rule)
			}
		})
	}
}

// The one to one row of the Tier-0's uplink sees what the Tier-1 made.
func TestSpec7_GatewayOutAtAnUplinkSeesTheTierOnesSource(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		addrs(s, setClients, table.AnyRealm, "203.0.113.16/32")
		gate(westOut, gateway(ruleWeb, table.Allow, setClients, 0))(s)
	})
	res := f.send(testset.Web1, udp(testset.Web1, "10.1.1.10", 1025, "192.0.2.9", 53))
	want := "spoofguard(201) dfw_out(201 #1007) route(2) ttl(2) snat(2 #2004) route(1) ttl(1) gateway_out(1 #1657) snat(1 #2009) connect(0) deliver(215)"
	if path(res) != want {
		t.Errorf("%s, want %s", path(res), want)
	}
}

func TestSpec7_GatewayRejectIsAnswered(t *testing.T) {
	f := newFabric(t)
	f.apply(gate(redIn, gateway(ruleReject, table.Reject, 0, 0)))
	res := f.drop(testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn), ReasonGatewayRule)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.Flags != packet.RST|packet.ACK || p.Src != addr("192.0.2.100") || p.SrcPort != 80 {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	res = f.drop(testset.UplinkEast, udp(outside, "192.0.2.9", 5, "10.1.2.11", 53), ReasonGatewayRule)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.ICMPType != 3 || p.ICMPCode != 13 || p.Src != addr("10.1.2.11") {
		t.Errorf("%s %+v", res.Verdict, p)
	}
}

// A gateway's firewall is stateful: replies are not asked, a change of it cuts
// what it no longer allows, and tcp_strict counts.
func TestSpec7_GatewayFirewallIsStateful(t *testing.T) {
	allow, deny := gateway(ruleWeb, table.Allow, 0, 0), gateway(ruleDeny, table.Drop, 0, 0)
	f := newFabric(t)
	f.apply(gate(func(s *table.Set) { redIn(s); s.VRFs.Get(testset.Red).Out = 652 }, allow)) // 652 is missing: it denies
	in := tcp(outside, "192.0.2.9", 5, "10.1.2.11", 80, syn)
	res := f.send(testset.UplinkEast, in)
	if res.Verdict != Forward {
		t.Fatal(path(res))
	}
	f.forward(testset.DB2, answerTo(res, synAck), testset.UplinkWest)
	f.drop(testset.DB2, udp(testset.DB2, "10.1.2.11", 1, "192.0.2.9", 53), ReasonGatewayDefaultDeny)
	f.apply(gate(redIn, deny))
	if res := f.drop(testset.DB2, answerTo(res, ack), ReasonGatewayRule); res.Rule != ruleDeny {
		t.Errorf("rule %d", res.Rule)
	}
	f.drop(testset.UplinkEast, in, ReasonGatewayRule)
	allow.Strict = true
	f.apply(gate(redIn, allow))
	f.drop(testset.UplinkEast, tcp(outside, "192.0.2.9", 6, "10.1.2.11", 80, ack), ReasonTCPState)
}

// A virtual server's router asks about what comes in, and not about what its
// virtual server sends up.
func TestSpec7_GatewayFirewallAndVirtualServers(t *testing.T) {
	f := newLBFabric(t)
	f.apply(gate(func(s *table.Set) { redOut(s); blueOut(s) }))
	in := tcp(outside, "198.18.0.9", 5000, "203.0.113.24", 443, syn)
	f.forward(testset.UplinkEast, in, testset.Far1)
	f.drop(testset.DB1, udp(testset.DB1, "10.1.2.10", 5, "192.0.2.9", 53), ReasonGatewayDefaultDeny)
	f.apply(gate(redIn, gateway(ruleDeny, table.Drop, 0, 0)))
	res := f.drop(testset.UplinkEast, in, ReasonGatewayRule)
	if last := res.Steps[len(res.Steps)-1]; last.Stage != StageGatewayIn || last.Dst != testset.VIPRed {
		t.Error(path(res))
	}
	// The other Tier-1 asks about what it gets.
	f.apply(gate(func(s *table.Set) { s.VRFs.Get(testset.Blue).In = rulesGate }))
	res = f.drop(testset.UplinkEast, in, ReasonGatewayDefaultDeny)
	if last := res.Steps[len(res.Steps)-1]; last.ID != uint32(testset.Blue) {
		t.Error(path(res))
	}
}
