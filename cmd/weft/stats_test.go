package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/pipeline"
)

func TestStats(t *testing.T) {
	s := some()
	s.tallies = map[pipeline.TallyKey]pipeline.Tally{
		{Kind: pipeline.TallyRule, ID: 8001}:                    {Hits: 2, Packets: 19, Bytes: 10060},
		{Kind: pipeline.TallyRule, ID: 8002}:                    {Hits: 7},
		{Kind: pipeline.TallyNAT, ID: 3001}:                     {Hits: 1, Packets: 18, Bytes: 10000},
		{Kind: pipeline.TallyServer, ID: uint32(testset.VSWeb)}: {Hits: 1, Packets: 1, Bytes: 60},
	}
	s.drops = []dataplane.PortDrop{
		{Port: testset.Web1, Reason: pipeline.ReasonDFWRule, Packets: 5}, {Port: testset.UplinkEast, Reason: pipeline.ReasonDFWRule, Packets: 2},
		{Reason: pipeline.ReasonNoPort, Packets: 1}, {Port: testset.Web1, Reason: pipeline.ReasonURPF},
	}
	stdout, stderr, code := spy(t.Context(), s, "stats")
	want := `RULE  ID    ACTION  POLICY                                      HITS  PACKETS  BYTES  SESSIONS
-     8002  DROP    /infra/domains/default/security-policies/p  7     0        0      0
web   8001  ALLOW   /infra/domains/default/security-policies/p  2     19       10060  2
-     4711  -       (gone)                                      0     0        0      1

NAT RULE  ID    ACTION  PATH                                          HITS  PACKETS  BYTES  SESSIONS
egress    3001  SNAT    /infra/tier-1s/red/nat/USER/nat-rules/egress  1     18       10000  1

VIRTUAL SERVER  PATH                           HITS  PACKETS  BYTES  SESSIONS
web             /infra/lb-virtual-servers/web  1     1        60     1
-               (gone)                         0     0        0      1

packets dropped: 8

dfw_rule: 7: a distributed firewall rule drops or rejects it
  advice: change that rule, or put an ALLOW rule before it in the same or an earlier category
  5 from web1
  2 from east

no_port: 1: the device is not bound to a port of the tables
  advice: wait until the port is realized, or see its status
  1 from a device without a port
`
	if d := cmp.Diff(want, stdout); d != "" || stderr != "" || code != 0 {
		t.Errorf("exit %d: %s (-want +got):\n%s", code, stderr, d)
	}
	stdout, _, _ = spy(t.Context(), s, "stats --all -o json")
	var got stats
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Servers) != 6 || got.Rules[0] != (statsRow{ID: 8002, Path: "/infra/domains/default/security-policies/p/rules/unnamed", Policy: "/infra/domains/default/security-policies/p", Action: "DROP", Hits: 7}) ||
		len(got.Drops) != 2 || got.Drops[0].Ports[0].Path != "/infra/segments/web/ports/web1" {
		t.Errorf("json: %s", stdout)
	}
}
