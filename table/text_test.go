package table

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/columns"
)

// printed returns rows as people see them.
func printed[R columns.Row](t *testing.T, rows []R) string {
	t.Helper()
	var b strings.Builder
	if err := columns.Print(&b, rows); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRows(t *testing.T) {
	s := full()
	for _, tt := range []struct{ name, got, want string }{
		{"ports", printed(t, s.PortRows()), `
PORT                                     KIND    ON            MAC                ADDRESS           ATTACHMENT
lb-services/red/monitor/ports/monitor    monitor    lb-services/red/monitor  02:00:00:00:00:06  -      monitor:/infra/lb-services/red
segments/web/ports/a                     port    segments/web  02:00:00:00:00:01  -                 vif-a
segments/web/ports/n                     node    segments/web  02:00:00:00:00:02  -                 nodes/n
tier-0s/t/locale-services/d/interfaces/u uplink  tier-0s/t     -                  192.168.100.2/24  eth1
`},
		{"segments", printed(t, s.SegmentRows()), `
SEGMENT       VNI   ROUTER       GATEWAYS     REALM
lb-services/red/monitor  0  tier-1s/red  169.254.255.1/30  tier-1s/red
segments/web  5000  tier-1s/red  10.1.0.1/24  tier-1s/red
`},
		{"routers", printed(t, s.RouterRows()), `
ROUTER       KIND    NAME  LEAVES BY
nodes/n      node    n     segments/web/ports/n
tier-0s/t    tier-0  t     -
tier-1s/red  tier-1  red   -
`},
		{"routes", printed(t, s.RouteRows()), `
ROUTER       PREFIX       KIND       TARGET                         FROM
tier-0s/t    0.0.0.0/0    uplink     on u via 192.168.100.1 on u    tier-0s/t/static-routes/d
tier-1s/red  0.0.0.0/0    up         tier-0s/t via 100.64.0.0       tier-1s/red
tier-1s/red  10.1.0.0/24  connected  segments/web                   segments/web
tier-1s/red  172.16.1.1/32  vip      -                              lb-virtual-servers/web
`},
		{"nat", printed(t, s.NATRows()), `
ROUTER       DIR  ID    NAME  TYPE     MATCH                    TRANSLATED                         FIREWALL
tier-1s/red  out  1001  no    NO_SNAT  any → 10.0.0.0/8 udp/53  unchanged                          MATCH_INTERNAL_ADDRESS
tier-1s/red  out  1002  out   SNAT     any → any on u           172.16.0.1 ports 1024-65535        BYPASS
tier-1s/red  in   1003  in    DNAT     any → 172.16.0.0/28      10.1.0.0/28 port 8080 one to one   MATCH_EXTERNAL_ADDRESS
`},
		{"endpoints", printed(t, s.EndpointRows()), `
SEGMENT       ADDRESS   PORT                  MAC                RULES OUT   RULES IN
segments/web  10.1.0.5  segments/web/ports/a  02:00:00:00:00:01  21,22       22
segments/web  10.1.0.6  segments/web/ports/n  02:00:00:00:00:02  unfiltered  unfiltered
`},
		{"rules", printed(t, s.RuleRows()), `
RULESET  NAME             ID    RULE  ACTION  REMOTE                         SERVICES  FLAGS                   POLICY
23       gateway: g       1006  via   REJECT  any → not domains/default/groups/db  any  via-vip                Default domains/default/gateway-policies/g
21       out: shop        1005  web   ALLOW   not domains/default/groups/db  tcp/80    strict,logged,tag=shop  Application domains/default/security-policies/shop
22       out: shop, last  1005  web   ALLOW   not domains/default/groups/db  tcp/80    strict,logged,tag=shop  Application domains/default/security-policies/shop
22       out: shop, last  2     last  DROP    any                            any       -                       -
`},
		{"gates", printed(t, s.GateRows()), `
GATE                                      RULES IN  RULES OUT  MTU
tier-0s/t/locale-services/d/interfaces/u  23        23         1500
tier-1s/red                               23        -          -
`},
		{"services", printed(t, s.ServiceRows()), `
LB SERVICE       AT           MONITORS FROM
lb-services/dlb  1 endpoints  -
lb-services/red  tier-1s/red  lb-services/red/monitor/ports/monitor
`},
		{"virtual servers", printed(t, s.VIPRows()), `
AT               VIP         SERVICES              VIRTUAL SERVER          POOL          FLAGS
lb-services/dlb  10.96.0.1   tcp/443               lb-virtual-servers/api  lb-pools/api  -
tier-1s/red      172.16.1.1  udp/53                lb-virtual-servers/dns  -             -
tier-1s/red      172.16.1.1  tcp/80,tcp/8000-8080  lb-virtual-servers/web  lb-pools/web  port=8080,access=21,max=100,persist=70/300s
`},
		{"pools", printed(t, s.PoolRows()), `
POOL          ALGORITHM          SNAT                   MIN  MONITORS
lb-pools/api  ip_hash            disabled               1    -
lb-pools/web  least_connections  172.16.1.8,172.16.1.9  2    http lb-monitor-profiles/http,passive lb-monitor-profiles/passive
`},
		{"members", printed(t, s.WithHealth(map[MemberID]Health{81: {Down: true, Why: "refused"}}).MemberRows()), `
POOL          ADDRESS   PORT  NAME  WEIGHT  STATE              FLAGS
lb-pools/web  10.1.0.5  80    a     2       GRACEFUL_DISABLED  -
lb-pools/web  10.1.0.6  -     -     1       ENABLED            backup,max=9,down: refused
`},
		{"sets", printed(t, s.SetRows()), `
SET                        KIND   REALM        ADDRESSES
domains/default/groups/db  set    any          10.9.0.0/16
domains/default/groups/db  set    tier-1s/red  10.1.0.5
tier-1s/red                realm  -            10.1.0.0/24
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(cells(tt.want), cells(tt.got)); diff != "" {
				t.Errorf("rows differ (-want +got):\n%s", diff)
			}
		})
	}
}

// cells returns the words of each line, so that a test need not count spaces.
func cells(text string) [][]string {
	var out [][]string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		out = append(out, strings.Fields(line))
	}
	return out
}

// Rows of a Set whose objects name others that are not there show ids.
func TestRowsOfDanglingIDs(t *testing.T) {
	s := NewSet("host1")
	s.Ports.Put(1, &Port{ID: 1, Path: "/infra/segments/x/ports/y", Segment: 77, Node: 78})
	s.Routes.Put(RouteKey{VRF: 5}, &Route{VRF: 5, Kind: RouteUplink, NextHops: []NextHopID{79}})
	s.Rulesets.Put(2, &Ruleset{ID: 2, Rules: []*Rule{{Remote: []AddrSetID{80}, Action: 9}}})
	got := printed(t, s.PortRows()) + printed(t, s.RouteRows()) + printed(t, s.RuleRows())
	for _, want := range []string{"77", "78", "79", "80", " 5 ", " 9 "} {
		if !strings.Contains(" "+strings.ReplaceAll(got, "\n", " ")+" ", want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

func TestServiceString(t *testing.T) {
	for _, tt := range []struct {
		in   Service
		want string
	}{
		{Service{}, "any"},
		{Service{6, 80, 80}, "tcp/80"},
		{Service{17, 53, 54}, "udp/53-54"},
		{Service{132, 0, 65535}, "sctp"},
		{Service{1, 8 << 8, 8 << 8}, "icmp/8/0"},
		{Service{1, 3 << 8, 3<<8 | 255}, "icmp/3"},
		{Service{58, 0, 65535}, "icmpv6"},
		{Service{47, 0, 65535}, "proto/47"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.in, got, tt.want)
		}
	}
}
