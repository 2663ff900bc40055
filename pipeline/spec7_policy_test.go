package pipeline

import (
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func TestSpec7_Firewall(t *testing.T) {
	const syn = packet.SYN
	rows := []struct {
		name  string
		from  table.PortID
		in    packet.Spec
		stage Stage
		rule  uint32
		want  Reason
	}{
		{"drop, any realm", testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "192.0.2.66", 2), StageDFWOut, testset.RuleQuarantine, ReasonDFWRule},
		{"drop, in the realm", testset.Web1, to(udp(testset.Web1, "10.1.1.10", 1, "10.1.1.11", 2), testset.Web2), StageDFWOut, testset.RuleQuarantine, ReasonDFWRule},
		{"reject", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 25, syn), StageDFWOut, testset.RuleNoMail, ReasonDFWRule},
		{"second service", testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 25), StageDFWOut, testset.RuleNoMail, ReasonDFWRule},
		{"service ±1", testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 26), StageDFWOut, testset.RuleWebOut, ReasonNone},
		{"continue", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "10.1.2.10", 3306, syn), StageDFWOut, testset.RuleWebOut, ReasonNone},
		{"no continue for others", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 3306, syn), StageDFWOut, testset.RuleNoProtocol, ReasonDFWRule},
		{"strict range, first", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 1000, syn), StageDFWOut, testset.RuleStrict, ReasonNone},
		{"strict range, last", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 1999, syn), StageDFWOut, testset.RuleStrict, ReasonNone},
		{"strict range, before", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 999, syn), StageDFWOut, testset.RuleWebOut, ReasonNone},
		{"negated, outside of all", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "192.0.2.9", 22, syn), StageDFWOut, testset.RuleNoSSHOut, ReasonDFWRule},
		{"negated, in one", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "10.1.2.11", 22, syn), StageDFWOut, testset.RuleWebOut, ReasonNone},
		{"ping", testset.DB1, echo(testset.DB1, "10.1.2.10", "10.1.1.10", 9), StageDFWIn, testset.RulePing, ReasonNone},
		{"default deny", testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.1.10", 9), StageDFWIn, 0, ReasonDFWDefaultDeny},
		{"service range in", testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.1.10", 5010), StageDFWIn, testset.RuleWebIn, ReasonNone},
		{"set of the own realm", testset.Web1, tcp(testset.Web1, "10.1.1.10", 1, "10.1.2.10", 3306, syn), StageDFWIn, testset.RuleDB, ReasonNone},
		{"set of another realm", testset.App1, tcp(testset.App1, "10.1.1.10", 1, "172.16.3.10", 443, syn), StageDFWIn, 0, ReasonDFWDefaultDeny},
		{"the same by a rule for any", testset.App1, tcp(testset.App1, "10.1.1.10", 1, "172.16.3.10", 80, syn), StageDFWIn, testset.RuleWebIn, ReasonNone},
		{"reject in", testset.DB2, tcp(testset.DB2, "10.1.2.11", 1, "10.1.2.10", 3307, syn), StageDFWIn, testset.RuleNoAdmin, ReasonDFWRule},
		{"protocol without ports", testset.Web1, raw(testset.Web1, "10.1.1.10", "10.1.2.11", 47), StageDFWOut, testset.RuleWebOut, ReasonNone},
		{"protocol 0 is any", testset.DB1, raw(testset.DB1, "10.1.2.10", "10.1.2.11", 47), StageDFWOut, testset.RuleAny, ReasonNone},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			res := newFabric(t).send(r.from, r.in)
			if res.Reason != r.want || r.want != ReasonNone && res.Rule != r.rule {
				t.Errorf("%s #%d, want %s #%d", res.Reason, res.Rule, r.want, r.rule)
			}
			found := false
			for _, s := range res.Steps {
				found = found || s.Stage == r.stage && s.Rule == r.rule && s.Reason == r.want &&
					(r.rule == 0 || s.FWRule != nil && s.FWRule.ID == r.rule)
			}
			if !found {
				t.Errorf("want %s #%d: %s", r.stage, r.rule, path(res))
			}
		})
	}
}

func TestSpec7_RejectIsAnsweredFromTheDestinationAsWritten(t *testing.T) {
	f := newFabric(t)
	res := f.drop(testset.Web1, tcp(testset.Web1, "10.1.1.10", 7, "192.0.2.9", 25, packet.SYN), ReasonDFWRule)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.Flags != packet.RST|packet.ACK || p.Src != addr("192.0.2.9") || p.DstPort != 7 || p.Ack != 101 {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	res = f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 7, "192.0.2.9", 25), ReasonDFWRule)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.ICMPType != 3 || p.ICMPCode != 13 || p.Src != addr("192.0.2.9") {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	// A translated destination does not show.
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesWebIn).Rules[0].Action = table.Reject })
	res = f.drop(testset.UplinkEast, tcp(outside, "198.18.0.9", 7, "192.0.2.100", 80, packet.SYN), ReasonDFWRule)
	if p := f.decode(res.Frame); res.Verdict != Answer || res.Out != testset.UplinkEast || p.Src != addr("192.0.2.100") || p.SrcPort != 80 {
		t.Errorf("%s %+v", res.Verdict, p)
	}
}

func TestSpec7_Translations(t *testing.T) {
	rows := []struct {
		name string
		from table.PortID
		in   packet.Spec
		want string
	}{
		{"one address", testset.Web2, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53), "203.0.113.16:1024 > 192.0.2.9:53/udp"},
		{"twice out", testset.Web1, udp(testset.Web1, "10.1.1.10", 1025, "192.0.2.9", 53), "198.51.100.16:1025 > 192.0.2.9:53/udp"},
		{"one to one by offset, out", testset.App1, udp(testset.App1, "10.1.1.10", 5, "10.1.2.11", 53), "203.0.113.58:5 > 10.1.2.11:53/udp"},
		{"reflexive, in", testset.UplinkEast, tcp(outside, "198.18.0.9", 7, "203.0.113.18", 80, packet.SYN), "198.18.0.9:7 > 10.1.1.30:80/tcp"},
		{"twice in, with a port", testset.UplinkEast, tcp(outside, "198.18.0.9", 7, "192.0.2.100", 80, packet.SYN), "198.18.0.9:7 > 10.1.1.10:8080/tcp"},
		{"egress", testset.Pod2, udp(testset.Pod2, "10.200.1.11", 40000, "10.1.2.11", 53), "10.1.1.21:40000 > 10.1.2.11:53/udp"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			res := newFabric(t).send(r.from, r.in)
			if res.Verdict != Forward || res.Translated.String() != r.want {
				t.Errorf("%s %s, want %s: %s", res.Verdict, res.Translated, r.want, path(res))
			}
		})
	}
}

func TestSpec7_PoolByHashOfTheAddressBefore(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		for last := range byte(40) {
			a := [4]byte{10, 1, 1, 100 + last}
			k := table.EndpointKey{Segment: testset.App, Addr: addr4(a)}
			e := *s.Endpoints.Get(table.EndpointKey{Segment: testset.App, Addr: addr("10.1.1.40")})
			e.Addr = k.Addr
			s.Endpoints.Put(k, &e)
		}
	})
	used := map[string]bool{}
	for last := range byte(40) {
		in := udp(testset.App2, "10.1.1.40", 1000+uint16(last), "10.1.2.11", 53)
		in.Src = addr4([4]byte{10, 1, 1, 100 + last})
		res := f.send(testset.App2, in)
		want := addr4([4]byte{203, 0, 113, 32 + byte(HashAddr(in.Src)%4)})
		if res.Translated.Src != want {
			t.Fatalf("%s became %s, want %s: %s", in.Src, res.Translated.Src, want, path(res))
		}
		used[want.String()] = true
	}
	if len(used) != 4 {
		t.Errorf("pool addresses used: %v", used)
	}
}

func TestSpec7_ToPortOnlyForTCPAndUDP(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		r := &s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0]
		r.Service = table.Service{}
	})
	in := tcp(outside, "198.18.0.9", 7, "203.0.113.17", 90, 0)
	in.Proto = packet.SCTP
	res := f.send(testset.UplinkEast, in)
	if got, want := res.Steps[2].Dst.String(), "10.1.1.10"; got != want || res.Reason != ReasonDFWDefaultDeny {
		t.Errorf("to %s, want %s: %s", got, want, path(res))
	}
	udpIn := udp(outside, "198.18.0.9", 7, "203.0.113.17", 90)
	f.apply(func(s *table.Set) {
		r := &s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn}).Rules[0]
		r.Service, r.ToPort = table.Service{}, 5000
	})
	if p := f.forward(testset.UplinkEast, udpIn, testset.Web1); p.DstPort != 5000 {
		t.Errorf("port %d", p.DstPort)
	}
}

func TestSpec7_ThirdTranslationIsNATDepth(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) {
		k := table.NATKey{VRF: testset.T0, Dir: table.NATOut}
		rules := s.NAT.Get(k).Rules
		rules[0].Iface = 0
	})
	res := f.drop(testset.Pod1, udp(testset.Pod1, "10.200.1.10", 40000, "192.0.2.10", 53), ReasonNATDepth)
	s := res.Steps[len(res.Steps)-1]
	if s.Stage != StageSNAT || s.ID != uint32(testset.T0) || s.Rule != testset.NATWest || res.Rule != testset.NATWest {
		t.Errorf("#%d %s", res.Rule, path(res))
	}
	f.apply(func(s *table.Set) {
		in := s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATIn})
		in.Rules[0].To = prefix("10.1.1.20/32")
		in.Rules[0].ToPort = 30080
	})
	res = f.drop(testset.UplinkEast, tcp(outside, "198.18.0.9", 7, "192.0.2.100", 80, packet.SYN), ReasonNATDepth)
	if s := res.Steps[len(res.Steps)-1]; s.Stage != StageDNAT || s.ID != uint32(testset.Node) || s.Rule != testset.NATNodePort {
		t.Error(path(res))
	}
}

func TestSpec7_MissesInTheSetDrop(t *testing.T) {
	f := newFabric(t)
	f.apply(func(s *table.Set) { s.NextHops.Delete(testset.East); s.NextHops.Delete(testset.West) })
	f.drop(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "192.0.2.9", 2), ReasonNoRoute)
	f.apply(func(s *table.Set) { s.Ports.Delete(testset.DB2) })
	f.drop(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), ReasonNoEndpoint)
	f.apply(func(s *table.Set) { s.Ports.Delete(testset.NodeUp) })
	f.drop(testset.Pod1, udp(testset.Pod1, "10.200.1.10", 1, "10.1.2.11", 2), ReasonNoRoute)
	f.apply(func(s *table.Set) { s.VRFs.Clear(); s.Routes.Clear(); s.Segments.Clear() })
	f.drop(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), ReasonNoGateway)
	f.apply(func(s *table.Set) { s.Rulesets.Clear() })
	f.drop(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), ReasonDFWDefaultDeny)
}
