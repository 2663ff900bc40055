package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
)

func TestFlows(t *testing.T) {
	stdout, stderr, code := spy(t.Context(), some(), "flows")
	want := `PROTO  SOURCE              DESTINATION       SEEN AS                               SERVER                RULES                      STATE        AGE    IDLE   PACKETS  BYTES
tcp    198.51.100.9:50000  203.0.113.24:80   198.51.100.9:50000 → 10.1.3.11:8080   web → 10.1.3.11:8080  web (8001)                 new          5s     4s     1        60
icmp   10.9.0.1            10.9.0.2          -                                     (gone) → 10.9.0.2     4711                       established  30h0m  9s     3        252
tcp    10.1.1.10:40000     198.51.100.7:443  203.0.113.5:40000 → 198.51.100.7:443  -                     web (8001), egress (3001)  established  3m20s  1m30s  18       10000
`
	if d := cmp.Diff(want, stdout); d != "" || stderr != "" || code != 0 {
		t.Errorf("exit %d: %s (-want +got):\n%s", code, stderr, d)
	}
}

func TestFlowsFilters(t *testing.T) {
	for _, tc := range []struct{ args, want string }{ // the protocols and source ports that are shown
		{"", "198.51.100.9:50000 10.9.0.1 10.1.1.10:40000"},
		{"--src 10.1.1.10", "10.1.1.10:40000"},
		{"--src 203.0.113.0/24", "10.1.1.10:40000"}, // as the other side sees it
		{"--src 10.0.0.0/8 --proto icmp", "10.9.0.1"},
		{"--proto 6", "198.51.100.9:50000 10.1.1.10:40000"},
		{"--dst 10.1.3.11", "198.51.100.9:50000"},
		{"--dst 203.0.113.24 --port 80", "198.51.100.9:50000"},
		{"--port 8080", "198.51.100.9:50000"},
		{"--port 22", ""},
		{"--state established", "10.9.0.1 10.1.1.10:40000"},
		{"--state closing", ""}, // its time-out has passed
		{"--rule 8001", "198.51.100.9:50000 10.1.1.10:40000"},
		{"--rule /infra/domains/default/security-policies/p/rules/web", "198.51.100.9:50000 10.1.1.10:40000"},
		{"--rule /infra/tier-1s/red/nat/USER/nat-rules/egress", "10.1.1.10:40000"},
		{"--rule egress", "10.1.1.10:40000"},
		{"--rule 4711", "10.9.0.1"},
		{"--server web", "198.51.100.9:50000"},
		{"--server dns", ""},
		{"--member 10.1.3.11", "198.51.100.9:50000"},
		{"--member 10.1.3.11:8080", "198.51.100.9:50000"},
		{"--member 10.1.3.1", ""},
		{"--limit 2", "198.51.100.9:50000 10.9.0.1"},
		{"--limit 0", "198.51.100.9:50000 10.9.0.1 10.1.1.10:40000"},
	} {
		stdout, stderr, code := spy(t.Context(), some(), "flows -o json "+tc.args)
		var rows []flowRow
		if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != 0 || stderr != "" {
			t.Fatalf("%s: exit %d: %s, %v", tc.args, code, stderr, err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.Source)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("flows %s: %v, want %s", tc.args, got, tc.want)
		}
	}
}

func TestFlowsAsJSON(t *testing.T) {
	stdout, _, _ := spy(t.Context(), some(), "flows -o json --server web")
	want := `[
  {
    "host": "host1",
    "protocol": "tcp",
    "source": "198.51.100.9:50000",
    "destination": "203.0.113.24:80",
    "source_seen": "198.51.100.9:50000",
    "destination_seen": "10.1.3.11:8080",
    "from": "/infra/tier-0s/t0/locale-services/default/interfaces/east",
    "to": "/infra/segments/srv/ports/srv1",
    "hops": 2,
    "rules": [
      {
        "id": 8001,
        "name": "web",
        "path": "/infra/domains/default/security-policies/p/rules/web",
        "policy": "/infra/domains/default/security-policies/p"
      }
    ],
    "nat_rules": [],
    "virtual_server": {
      "name": "web",
      "path": "/infra/lb-virtual-servers/web",
      "pool": "/infra/lb-pools/srv",
      "member": "10.1.3.11:8080"
    },
    "state": "new",
    "age_seconds": 5,
    "idle_seconds": 4,
    "original": {
      "packets": 1,
      "bytes": 60
    },
    "reply": {
      "packets": 0,
      "bytes": 0
    }
  }
]
`
	if d := cmp.Diff(want, stdout); d != "" {
		t.Errorf("json (-want +got):\n%s", d)
	}
}

func TestFlowsSayWhatIsMissing(t *testing.T) {
	for _, tc := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"flows", 0, "no connections\n", ""},
		{"flows -o json", 0, "[]\n", ""},
		{"flows --port 80", 0, "no connection that matches\n", ""},
		{"flows --server webb", 1, "", "--server: \"webb\": is no virtual server (cluster, dns, far, top, web)\n"},
		{"flows --watch --rule /infra/nothing", 1, "", "--rule: \"/infra/nothing\": is the id, policy path or name of no rule\n"},
		{"flows --rule 77", 0, "no connection that matches\n", ""},
		{"flows --lab blue", 1, "", "lab blue: is not up\n"},
		{"flows --src nobody", 2, "", "--src: \"nobody\": is neither an address nor a prefix\nsee 'weft flows --help'\n"},
		{"flows --proto gre --state open", 2, "", "--proto: \"gre\": is no protocol (tcp, udp, icmp, sctp, or a number)\n--state: \"open\": is no state (new, replied, established, closing)\nsee 'weft flows --help'\n"},
		{"flows --limit -1", 2, "", "--limit: -1: is negative\nsee 'weft flows --help'\n"},
		{"flows --watch --interval 1ms", 2, "", "--interval: 1ms: is too short (at least 100ms)\nsee 'weft flows --help'\n"},
		{"flows -o yaml", 2, "", "-o: \"yaml\": is not an output (table, json)\nsee 'weft flows --help'\n"},
		{"logs -o table", 2, "", "-o: \"table\": is not an output (text, json)\nsee 'weft logs --help'\n"},
		{"stats", 0, "no rule and no virtual server was hit\n\nno packet was dropped\n", ""},
		{"logs", 0, "", ""},
	} {
		stdout, stderr, code := spy(t.Context(), &shown{}, tc.args)
		if code != tc.code || stdout != tc.stdout || stderr != tc.stderr {
			t.Errorf("weft %s: exit %d: %q, %q; want %d: %q, %q", tc.args, code, stdout, stderr, tc.code, tc.stdout, tc.stderr)
		}
	}
	many := some()
	if _, stderr, _ := spy(t.Context(), many, "flows --limit 1"); stderr != "1 of 3 connections are shown (--limit)\n" {
		t.Errorf("beyond the limit: %q", stderr)
	}
}

func TestFlowsWatch(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := some()
			all := s.conns
			s.conns = all[:1]
			ctx, cancel := context.WithCancel(t.Context())
			var stdout, stderr string
			var code int
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				args := "flows --watch"
				if asJSON {
					args += " -o json"
				}
				stdout, stderr, code = spy(ctx, s, args)
			}()
			look := func() { time.Sleep(time.Second); synctest.Wait() }
			synctest.Wait()
			s.change(func() { s.conns = all[:2] }) // one begins
			look()
			s.change(func() { s.conns = []dataplane.Connection{all[1]} }) // the first is gone
			look()
			again := all[1]
			again.Age, again.State = time.Second, pipeline.ConnClosing // and the second is another one, over already
			s.change(func() { s.conns = []dataplane.Connection{again} })
			look()
			look() // it is told once
			cancel()
			<-ended
			if code != 0 {
				t.Errorf("exit %d", code)
			}
			if asJSON {
				checkEvents(t, stdout)
				return
			}
			web := "tcp 198.51.100.9:50000 → 203.0.113.24:80, seen as 198.51.100.9:50000 → 10.1.3.11:8080, by web → 10.1.3.11:8080, rules web (8001)"
			want := []string{
				"+ " + web,
				"- tcp 10.1.1.10:40000 → 198.51.100.7:443, seen as 203.0.113.5:40000 → 198.51.100.7:443, rules web (8001), egress (3001), established, 18 packets, 10000 bytes",
				"- " + web + ", new, 1 packets, 60 bytes",
				"+ " + web,
				"- " + web + ", closing, 1 packets, 60 bytes",
			}
			var got []string
			for line := range strings.Lines(stdout) {
				got = append(got, strings.TrimSpace(line[len("15:04:05 "):]))
			}
			if d := cmp.Diff(want, got); d != "" || stderr != "connections now: 1 (Ctrl-C ends)\n" {
				t.Errorf("%q, lines (-want +got):\n%s", stderr, d)
			}
		})
	}
}

func checkEvents(t *testing.T, stdout string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(stdout) {
		var e flowEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Event+" "+e.Source)
	}
	want := []string{"began 198.51.100.9:50000", "ended 10.1.1.10:40000", "ended 198.51.100.9:50000", "began 198.51.100.9:50000", "ended 198.51.100.9:50000"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestWatchEndsWithTheLab(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, args := range []string{"flows --watch", "logs --follow"} {
			s := some()
			ended := make(chan string)
			go func() {
				_, stderr, code := spy(t.Context(), s, args)
				ended <- fmt.Sprint(code, " ", stderr)
			}()
			synctest.Wait()
			s.change(func() { s.gone = true })
			if got := <-ended; !strings.HasPrefix(got, "1 ") || !strings.HasSuffix(got, errNotUp.Error()+"\n") {
				t.Errorf("%s: exit %s", args, got)
			}
		}
	})
}
