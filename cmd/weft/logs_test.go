package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// lines are an allowed connection behind a translation, and a drop at a gateway.
func lines() []dataplane.LogLine {
	at := time.Date(2026, 5, 4, 3, 2, 1, 7e6, time.Local)
	return []dataplane.LogLine{
		{
			Time: at, Rule: 8001, Stage: pipeline.StageDFWIn, ID: uint32(testset.Srv1), Action: table.Allow,
			Asked: tcp("198.51.100.9:50000", "203.0.113.24:80"), Src: netip.MustParseAddr("198.51.100.9"), Dst: netip.MustParseAddr("10.1.3.11"), DstPort: 8080,
		},
		{
			Time: at, Rule: 4711, Stage: pipeline.StageGatewayOut, ID: uint32(testset.Red), Action: table.Reject, Again: true,
			Asked: tcp("10.1.1.10:40000", "198.51.100.7:443"), Src: netip.MustParseAddr("10.1.1.10"), Dst: netip.MustParseAddr("198.51.100.7"), DstPort: 443,
		},
	}
}

func TestLogs(t *testing.T) {
	s := &shown{lines: lines(), lost: 12}
	stdout, stderr, code := spy(t.Context(), s, "logs")
	want := `2026-05-04T03:02:01.007 ALLOW rule web (8001) of /infra/domains/default/security-policies/p tag audit in at srv1: tcp 198.51.100.9:50000 → 203.0.113.24:80, here 198.51.100.9:50000 → 10.1.3.11:8080
2026-05-04T03:02:01.007 REJECT rule 4711 out at red: tcp 10.1.1.10:40000 → 198.51.100.7:443, open already
`
	if d := cmp.Diff(want, stdout); d != "" || code != 0 || s.closed != 1 {
		t.Errorf("exit %d, %d closed, lines (-want +got):\n%s", code, s.closed, d)
	}
	if stderr != "host1: lines lost: 12 (more than a CPU may write in a second, or nobody read them)\n" {
		t.Errorf("lost: %q", stderr)
	}
	forged := lines()[:1]
	forged[0].Rule = 8003
	if stdout, _, _ := spy(t.Context(), &shown{lines: forged}, "logs"); strings.Count(stdout, "\n") != 1 || !strings.Contains(stdout, "two lines (8003)") {
		t.Errorf("a name of two lines: %q", stdout)
	}
	s = &shown{taken: dataplane.ErrLogsTaken}
	if _, stderr, code := spy(t.Context(), s, "logs"); code != 1 || stderr != "host1: log: another process reads it\n" {
		t.Errorf("a second reader: exit %d: %q", code, stderr)
	}
}

func TestLogsFollowAsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shown{lines: lines()[:1]}
		ctx, cancel := context.WithCancel(t.Context())
		var stdout, stderr string
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			stdout, stderr, _ = spy(ctx, s, "logs --follow -o json")
		}()
		time.Sleep(time.Second + logWait/2)
		s.change(func() { s.lines, s.lost = lines()[1:], 5 })
		time.Sleep(time.Second)
		cancel()
		<-ended
		at := lines()[0].Time.UTC().Format(time.RFC3339Nano)
		want := fmt.Sprintf(`{"time":"%s","host":"host1","action":"ALLOW","rule_id":8001,"rule":"/infra/domains/default/security-policies/p/rules/web","rule_name":"web","policy":"/infra/domains/default/security-policies/p","tag":"audit","direction":"in","at":"/infra/segments/srv/ports/srv1","at_name":"srv1","protocol":"tcp","source":"198.51.100.9:50000","destination":"203.0.113.24:80","destination_translated":"10.1.3.11:8080"}
{"time":"%s","host":"host1","action":"REJECT","rule_id":4711,"direction":"out","at":"/infra/tier-1s/red","at_name":"red","protocol":"tcp","source":"10.1.1.10:40000","destination":"198.51.100.7:443","open":true}
{"host":"host1","lost":5}
`, at, at)
		if d := cmp.Diff(want, stdout); d != "" || stderr != "" {
			t.Errorf("%q, lines (-want +got):\n%s", stderr, d)
		}
	})
}
