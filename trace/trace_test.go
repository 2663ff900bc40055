package trace

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// named gives the rules of testset what people call them by.
func named(set *table.Set) *table.Set {
	const domain = "/infra/domains/default/security-policies/"
	for id, name := range map[uint32]string{
		testset.RuleQuarantine: "quarantine", testset.RuleNoMail: "no-mail", testset.RuleJump: "to-application",
		testset.RuleNoProtocol: "no-mysql", testset.RuleStrict: "strict", testset.RuleNoSSHOut: "no-ssh-out",
		testset.RuleWebOut: "web-out", testset.RuleWebIn: "web-in", testset.RulePing: "ping",
		testset.RuleFromRed: "from-red-web", testset.RuleDB: "mysql", testset.RuleNoAdmin: "no-admin", testset.RuleAny: "any",
	} {
		for _, rs := range set.Rulesets.All() {
			for _, r := range rs.Rules {
				if r.ID == id {
					r.Name, r.Policy = name, domain+strings.ToLower(r.Category)
					r.Path = r.Policy + "/rules/" + name
				}
			}
		}
	}
	return set
}

// ask traces between two names; service is as on the command line, with the
// source port behind a comma if it matters.
func ask(t *testing.T, set *table.Set, src, dst, service string) *Result {
	t.Helper()
	ix := pipeline.NewIndex(set)
	from, err := ResolveSource(ix, src)
	if err != nil {
		t.Fatal(err)
	}
	to, err := ResolveDestination(ix, dst)
	if err != nil {
		t.Fatal(err)
	}
	q := Question{From: from.Port, To: to.Port, Src: from.Addr, Dst: to.Addr, Proto: packet.ICMP, SrcPort: 49152}
	service, sport, ok := strings.Cut(service, ",")
	if ok {
		q.SrcPort = number(t, sport)
	}
	if name, port, ok := strings.Cut(service, "/"); ok {
		q.Proto = map[string]packet.Proto{"tcp": packet.TCP, "udp": packet.UDP, "sctp": packet.SCTP}[name]
		q.DstPort = number(t, port)
	}
	res, err := Run(ix, q)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func number(t *testing.T, text string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// text is a whole result for people.
func text(t *testing.T, r *Result) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(r.Heading() + "\n\n")
	if err := columns.Print(&b, r.Steps); err != nil {
		t.Fatal(err)
	}
	b.WriteString("\n" + strings.Join(r.Summary(), "\n") + "\n")
	return b.String()
}

func TestTraces(t *testing.T) {
	for _, tc := range []struct {
		name              string
		src, dst, service string
		lb                bool // with load balancers
		change            func(*table.Set)
		want              Disposition
		reason            pipeline.Reason // of the packet, or of its reply
		hops              string
	}{
		{name: "bridged", src: "web1", dst: "web3", service: "tcp/80", want: Delivered, hops: "10.1.1.30"},
		{name: "routed", src: "web1", dst: "db/db2", service: "udp/53", want: Delivered, hops: "10.1.1.1 10.1.2.11"},
		{name: "other-tenant", src: "db1", dst: "dmz1", service: "tcp/80", want: Delivered, hops: "10.1.2.1 100.64.0.0 100.64.0.3 172.16.3.10"},
		{name: "snat", src: "web1", dst: "192.0.2.77", service: "tcp/80,49153", want: Delivered, hops: "10.1.1.1 100.64.0.0 192.0.2.1 192.0.2.77"},
		{name: "snat-twice", src: "web1", dst: "192.0.2.77", service: "tcp/80", want: Delivered, hops: "10.1.1.1 100.64.0.0 198.51.100.1 192.0.2.77"},
		{name: "next-hop", src: "web1", dst: "192.0.2.1", service: "udp/53,49151", want: Delivered, hops: "10.1.1.1 100.64.0.0 192.0.2.1"},
		{name: "dnat", src: "192.0.2.77@east", dst: "203.0.113.17", service: "tcp/80", want: Delivered, hops: "192.0.2.2 100.64.0.1 203.0.113.17"},
		{name: "pod", src: "pod1", dst: "172.16.3.10", service: "tcp/80", want: Delivered, hops: "10.200.1.1 10.1.1.1 100.64.0.0 100.64.0.3 172.16.3.10"},
		{name: "node-port", src: "web1", dst: "node-up", service: "tcp/30080", want: Delivered, hops: "10.1.1.20 10.1.1.20"},
		{name: "gateway", src: "web1", dst: "10.1.2.1", service: "icmp", want: Delivered, hops: "10.1.2.1"},
		{name: "no-subnet", src: "lan1", dst: "lan2", service: "sctp/5000", want: Delivered, hops: "10.9.0.2"},

		{name: "dfw-emergency", src: "web1", dst: "web2", service: "tcp/80", want: Dropped, reason: pipeline.ReasonDFWRule},
		{name: "dfw-environment", src: "web1", dst: "web3", service: "tcp/3306", want: Dropped, reason: pipeline.ReasonDFWRule},
		{name: "dfw-application", src: "web1", dst: "192.0.2.77", service: "tcp/22", want: Dropped, reason: pipeline.ReasonDFWRule},
		{name: "rejected-tcp", src: "web1", dst: "db1", service: "tcp/3307", want: Rejected, reason: pipeline.ReasonDFWRule, hops: "10.1.1.1 10.1.2.10"},
		{name: "rejected-udp", src: "web1", dst: "db1", service: "udp/25", want: Rejected, reason: pipeline.ReasonDFWRule, hops: "10.1.2.10"},
		{name: "default-deny", src: "db1", dst: "web1", service: "tcp/443", want: Dropped, reason: pipeline.ReasonDFWDefaultDeny, hops: "10.1.2.1"},
		{name: "spoofguard", src: "10.1.7.7@web1", dst: "db1", service: "icmp", want: Dropped, reason: pipeline.ReasonSpoofguard},
		{name: "arp-unknown", src: "web1", dst: "10.1.1.99", service: "icmp", want: Dropped, reason: pipeline.ReasonARPUnknown},
		{name: "no-gateway", src: "lan1", dst: "192.0.2.77", service: "icmp", want: Dropped, reason: pipeline.ReasonNoGateway},
		{name: "discarded", src: "db1", dst: "10.50.0.1", service: "icmp", want: Dropped, reason: pipeline.ReasonNoRoute, hops: "10.1.2.1 100.64.0.0 100.64.0.0"},
		{name: "not-advertised", src: "web1", dst: "10.50.0.1", service: "icmp", want: Dropped, reason: pipeline.ReasonURPF, hops: "10.1.1.1", change: func(s *table.Set) {
			s.Routes.Delete(table.RouteKey{VRF: testset.T0, Prefix: netip.MustParsePrefix("203.0.113.16/28")})
		}},
		{name: "no-route", src: "web1", dst: "10.50.0.1", service: "icmp", want: Dropped, reason: pipeline.ReasonNoRoute, hops: "10.1.1.1 10.1.1.1", change: func(s *table.Set) {
			s.Routes.Delete(table.RouteKey{VRF: testset.Red, Prefix: netip.MustParsePrefix("0.0.0.0/0")})
		}},
		{name: "back-up", src: "192.0.2.77@east", dst: "172.16.4.4", service: "icmp", want: Dropped, reason: pipeline.ReasonNoRoute, hops: "192.0.2.2 100.64.0.3 100.64.0.3", change: func(s *table.Set) {
			k := table.RouteKey{VRF: testset.T0, Prefix: netip.MustParsePrefix("172.16.4.0/24")}
			down := *s.Routes.Get(table.RouteKey{VRF: testset.T0, Prefix: netip.MustParsePrefix("172.16.3.0/24")})
			down.Prefix = k.Prefix
			s.Routes.Put(k, &down)
		}},
		{name: "no-endpoint", src: "web1", dst: "10.1.2.99", service: "icmp", want: Dropped, reason: pipeline.ReasonNoEndpoint, hops: "10.1.1.1 10.1.1.1"},
		{name: "no-endpoint-via", src: "web1", dst: "10.201.0.1", service: "icmp", want: Dropped, reason: pipeline.ReasonNoEndpoint, hops: "10.1.1.1 10.1.1.1"},
		{name: "no-listener", src: "web1", dst: "10.1.2.1", service: "udp/53", want: Dropped, reason: pipeline.ReasonNoListener, hops: "10.1.2.1"},
		{name: "no-dnat", src: "192.0.2.77@east", dst: "203.0.113.17", service: "tcp/22", want: Dropped, reason: pipeline.ReasonNoListener, hops: "192.0.2.2"},
		{name: "urpf", src: "10.1.2.10@east", dst: "172.16.3.10", service: "tcp/80", want: Dropped, reason: pipeline.ReasonURPF},
		{name: "nat-depth", src: "pod1", dst: "192.0.2.77", service: "tcp/80,49152", want: Dropped, reason: pipeline.ReasonNATDepth, hops: "10.200.1.1 10.1.1.1 100.64.0.0"},
		{name: "martian", src: "web1", dst: "web1", service: "icmp", want: Dropped, reason: pipeline.ReasonMartian},
		{name: "reply-dropped", src: "web1", dst: "dmz1", service: "tcp/80", want: Delivered, reason: pipeline.ReasonNoRoute, hops: "10.1.1.1 100.64.0.0 100.64.0.3", change: func(s *table.Set) {
			s.Routes.Delete(table.RouteKey{VRF: testset.Blue, Prefix: netip.MustParsePrefix("0.0.0.0/0")})
		}},
		{name: "vip", lb: true, src: "web1", dst: "203.0.113.24", service: "tcp/80", want: Delivered, hops: "203.0.113.24 203.0.113.24"},
		{name: "vip-far", lb: true, src: "192.0.2.77@east", dst: "203.0.113.24", service: "tcp/443", want: Delivered, hops: "192.0.2.2 203.0.113.24 100.64.0.0 100.64.0.3 203.0.113.24", change: func(s *table.Set) {
			s.Pools.Get(testset.PoolFar).SNAT = table.SNATAutoMap
			s.Health = map[table.MemberID]table.Health{testset.MemberFar: {Why: "tcp-8443: connected"}}
		}},
		{name: "vip-own-member", lb: true, src: "srv1", dst: "203.0.113.24", service: "udp/53", want: Delivered, hops: "203.0.113.24 203.0.113.24"},
		{name: "vip-echo", lb: true, src: "web1", dst: "203.0.113.24", service: "icmp", want: Delivered, hops: "203.0.113.24"},
		{name: "vip-no-server", lb: true, src: "web1", dst: "203.0.113.24", service: "tcp/81", want: Dropped, reason: pipeline.ReasonNoListener},
		{name: "vip-no-member", lb: true, src: "web1", dst: "203.0.113.24", service: "tcp/80", want: Dropped, reason: pipeline.ReasonLBNoMember, hops: "203.0.113.24", change: withoutMembers},
		{name: "vip-no-pool", lb: true, src: "web1", dst: "203.0.113.24", service: "tcp/80", want: Dropped, reason: pipeline.ReasonLBNoMember, hops: "203.0.113.24", change: func(s *table.Set) {
			s.Pools.Delete(testset.PoolSrv)
		}},
		{name: "vip-access", lb: true, src: "web1", dst: "203.0.113.24", service: "tcp/80", want: Dropped, reason: pipeline.ReasonLBAccess, hops: "203.0.113.24", change: func(s *table.Set) {
			s.VIPs.Get(table.VIPKey{VRF: testset.Red, Addr: testset.VIPRed}).Servers[2].Access = 699
		}},
		{name: "vip-twice", lb: true, src: "srv1", dst: "10.96.0.10", service: "tcp/80", want: Dropped, reason: pipeline.ReasonNATDepth, change: func(s *table.Set) {
			m := &s.Pools.Get(testset.PoolCluster).Members[0]
			m.Addr, m.Port = testset.VIPRed, 80
		}},
		{name: "dlb", lb: true, src: "web2", dst: "10.96.0.10", service: "tcp/80", want: Delivered, hops: "10.1.1.1 10.96.0.10"},
		{name: "dlb-no-server", lb: true, src: "web2", dst: "10.96.0.10", service: "udp/80", want: Dropped, reason: pipeline.ReasonNoListener, hops: "10.96.0.10"},
		{name: "gateway-allowed", src: "web1", dst: "192.0.2.77", service: "tcp/80", want: Delivered, hops: "10.1.1.1 100.64.0.0 198.51.100.1 192.0.2.77", change: gatewayRule(table.Allow)},
		{name: "gateway-rejected", src: "web1", dst: "192.0.2.77", service: "tcp/80", want: Rejected, reason: pipeline.ReasonGatewayRule, hops: "10.1.1.1 192.0.2.77", change: gatewayRule(table.Reject)},
		{name: "gateway-default-deny", src: "192.0.2.77@east", dst: "203.0.113.17", service: "tcp/80", want: Dropped, reason: pipeline.ReasonGatewayDefaultDeny, hops: "192.0.2.2", change: func(s *table.Set) {
			s.VRFs.Get(testset.Red).In = 699
		}},
		{name: "meant-another", src: "app2", dst: "web1", service: "icmp", want: Delivered, hops: "10.1.1.10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set := testset.New()
			if tc.lb {
				set = testset.WithLB()
			}
			named(set)
			if tc.change != nil {
				tc.change(set)
			}
			res := ask(t, set, tc.src, tc.dst, tc.service)
			var hops []string
			for _, h := range res.Hops {
				hops = append(hops, h.Address.String())
			}
			dropped := res.Dropped
			if dropped == nil && res.Reply != nil {
				dropped = res.Reply.Dropped
			}
			if dropped == nil {
				dropped = &Drop{Reason: pipeline.ReasonNone.String()}
			}
			got := []string{string(res.Disposition), dropped.Reason, strings.Join(hops, " ")}
			if diff := cmp.Diff([]string{string(tc.want), tc.reason.String(), tc.hops}, got); diff != "" {
				t.Errorf("disposition, reason, hops (-want +got):\n%s", diff)
			}
			golden(t, tc.name+".txt", []byte(text(t, res)))
		})
	}
}

// gatewayRule gives the outer side of red one rule for everything.
func gatewayRule(a table.RuleAction) func(*table.Set) {
	return func(s *table.Set) {
		const policy = "/infra/domains/default/gateway-policies/tenants"
		s.Rulesets.Put(698, &table.Ruleset{ID: 698, Gateway: true, Rules: []*table.Rule{{
			ID: 1698, Name: "outwards", Path: policy + "/rules/outwards", Policy: policy, Category: "LocalGatewayRules", Action: a, AnyRemote: true,
		}}})
		s.VRFs.Get(testset.Red).Out = 698
	}
}

// withoutMembers leaves PoolSrv with nobody who takes connections.
func withoutMembers(s *table.Set) {
	ms := s.Pools.Get(testset.PoolSrv).Members
	ms[0].Admin, ms[1].Admin, ms[2].Backup = table.MemberDisabled, table.MemberDraining, true
	s.Health = map[table.MemberID]table.Health{testset.MemberSrv3: {Down: true, Why: "http-8080: 503 instead of 200"}}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestJSONNamesAreStable pins the form that programs read.
func TestJSONNamesAreStable(t *testing.T) {
	withLB := func(change func(*table.Set)) *table.Set {
		set := named(testset.WithLB())
		change(set)
		return set
	}
	for name, q := range map[string]struct {
		set               *table.Set
		src, dst, service string
	}{
		"delivered.json": {named(testset.New()), "192.0.2.77@east", "203.0.113.17", "tcp/80"},
		"rejected.json":  {named(testset.New()), "web1", "db1", "tcp/3307"},
		"balanced.json":  {withLB(func(*table.Set) {}), "web1", "203.0.113.24", "tcp/80"},
		"no-member.json": {withLB(withoutMembers), "web1", "203.0.113.24", "tcp/80"},
	} {
		res := ask(t, q.set, q.src, q.dst, q.service)
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		if err := e.Encode(res); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
}

// TestAllPairs asks for every pair of ports and some services, and compares
// what a Result says in several places.
func TestAllPairs(t *testing.T) {
	set := named(testset.WithLB())
	ix := pipeline.NewIndex(set)
	arrived, lost := 0, 0
	for from := range set.Ports.All() {
		for to := range set.Ports.All() {
			for _, service := range []string{"icmp", "tcp/80", "tcp/25", "tcp/3306", "udp/5000"} {
				src, dst := set.Ports.Get(from).Path, set.Ports.Get(to).Path
				res := ask(t, set, src, dst, service)
				if res.Arrives() {
					arrived++
				} else {
					lost++
				}
				checkResult(t, src+" "+dst+" "+service, res)
			}
		}
	}
	if arrived == 0 || lost == 0 {
		t.Errorf("%d flows arrive and %d do not: nothing was compared", arrived, lost)
	}
	gre := Question{From: testset.DB1, Src: netip.MustParseAddr("10.1.2.10"), Dst: netip.MustParseAddr("172.16.3.10"), Proto: 47}
	if res, err := Run(ix, gre); err != nil || res.Protocol != "proto 47" || res.Disposition != Dropped {
		t.Errorf("protocol 47: %v, %+v", err, res)
	}
	if _, err := Run(ix, Question{From: 9999}); err == nil {
		t.Error("no error for an unknown port")
	}
	if _, err := Run(ix, Question{From: testset.Web1, Src: netip.MustParseAddr("::1"), Dst: netip.MustParseAddr("10.1.1.1")}); err == nil {
		t.Error("no error for IPv6")
	}
}

// checkResult compares the parts of a Result with each other.
func checkResult(t *testing.T, what string, r *Result) {
	t.Helper()
	if (r.Disposition == Delivered) != (r.Dropped == nil) || (r.Reply != nil) != (r.Disposition == Delivered) || len(r.Steps) == 0 {
		t.Errorf("%s: %s with drop %v, reply %v, %d steps", what, r.Disposition, r.Dropped, r.Reply, len(r.Steps))
	}
	last := netip.Addr{}
	if n := len(r.Hops); n > 0 {
		last = r.Hops[n-1].Address
	}
	if r.Arrives() && (last != r.Destination || r.Reply.SourceSeen != r.Destination || r.Reply.DestinationSeen != r.Source) {
		t.Errorf("%s: arrives, last hop %s, reply from %s to %s", what, last, r.Reply.SourceSeen, r.Reply.DestinationSeen)
	}
	if d := r.Dropped; d != nil && (d.Advice == "" || strings.Contains(d.Advice, "\n") || d.Reason == pipeline.ReasonNone.String()) {
		t.Errorf("%s: drop %+v", what, d)
	}
	steps := r.Steps
	if r.Reply != nil {
		steps = append(steps, r.Reply.Steps...)
	}
	for _, s := range steps {
		if s.Text == "" || s.Component == "" || strings.Contains(s.Text, "\n") {
			t.Errorf("%s: step %+v says nothing", what, s)
		}
	}
}
