package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

const traceFile = `
resource_type: Infra
children:
- resource_type: ChildSegment
  Segment:
    id: red
    resource_type: Segment
    subnets: [{gateway_address: 10.244.0.17/28}]
    children:
    - resource_type: ChildSegmentPort
      SegmentPort:
        id: web
        display_name: red/web
        resource_type: SegmentPort
        address_bindings: [{ip_address: 10.244.0.18, mac_address: "04:50:56:00:00:12"}]
    - resource_type: ChildSegmentPort
      SegmentPort:
        id: db
        display_name: red/db
        resource_type: SegmentPort
        address_bindings: [{ip_address: 10.244.0.19, mac_address: "04:50:56:00:00:13"}]
---
resource_type: Lab
workloads:
- {name: red/web, port: /infra/segments/red/ports/web, http: [80]}
`

const denyFile = `
resource_type: Infra
children:
- resource_type: ChildDomain
  Domain:
    id: default
    resource_type: Domain
    children:
    - resource_type: ChildSecurityPolicy
      SecurityPolicy:
        id: no-ssh
        resource_type: SecurityPolicy
        category: Application
        rules:
        - {id: ssh, resource_type: Rule, rule_id: 1005, action: ACTION, source_groups: [ANY], destination_groups: [ANY],
           services: [ANY], scope: [ANY], direction: IN_OUT}
`

// inFiles writes texts to files and returns the -f flags for them.
func inFiles(t *testing.T, texts ...string) []string {
	t.Helper()
	var flags []string
	for i, text := range texts {
		name := filepath.Join(t.TempDir(), string(rune('a'+i))+".yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-f", name)
	}
	return flags
}

func TestTraceOfFiles(t *testing.T) {
	drop, reject := strings.ReplaceAll(denyFile, "ACTION", "DROP"), strings.ReplaceAll(denyFile, "ACTION", "REJECT")
	for _, tc := range []struct {
		name  string
		files []string
		args  string
		code  int
		want  []string // in what is printed, in this order
	}{
		{
			"delivered", []string{traceFile}, "red/web red/db tcp/80", 0,
			[]string{"10.244.0.18:49152 → 10.244.0.19:80 tcp", "STAGE ", "rule 2 ", "source seen by the destination: 10.244.0.18:49152", "reply: delivered", "delivered to port red/db\n"},
		},
		{"icmp is the default", []string{traceFile}, "red/web 10.244.0.19", 0, []string{"10.244.0.18 → 10.244.0.19 icmp", "hops: 10.244.0.19 (port red/db)"}},
		{"source port", []string{traceFile}, "red/web red/db udp/53 --sport 5353", 0, []string{"10.244.0.18:5353 → 10.244.0.19:53 udp"}},
		{
			"dropped", []string{traceFile, drop}, "red/web red/db tcp/22", exitNotDelivered,
			[]string{"dfw_rule: rule 1005", "dropped at port red/web, dfw_out: dfw_rule, rule 1005", "advice: rule 1005 ssh of policy /infra/domains/default/security-policies/no-ssh (category Application) drops it; an ALLOW above it"},
		},
		{"rejected", []string{traceFile, reject}, "red/web red/db tcp/22", exitNotDelivered, []string{"rejected at port red/web", "TCP reset from 10.244.0.19", "advice: "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, code := runArgs(t, append(append([]string{"trace"}, inFiles(t, tc.files...)...), strings.Fields(tc.args)...)...)
			if code != tc.code || stderr != "" {
				t.Errorf("exit %d, want %d: %q", code, tc.code, stderr)
			}
			rest := stdout
			for _, want := range tc.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("no %q in its place in:\n%s", want, stdout)
				}
				rest = after
			}
			if strings.Contains(stdout, "\x1b") {
				t.Errorf("colours without a terminal: %q", stdout)
			}
		})
	}
}

func TestTraceAsJSON(t *testing.T) {
	stdout, stderr, code := runArgs(t, append([]string{"trace", "-o", "json", "red/web", "red/db"}, inFiles(t, traceFile)...)...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %q", code, stderr)
	}
	var got trace.Result
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Disposition != trace.Delivered || got.SourceSeen.String() != "10.244.0.18" || !got.Arrives() {
		t.Errorf("got %s", stdout)
	}
}

func TestTraceErrors(t *testing.T) {
	two := strings.ReplaceAll(traceFile, "display_name: red/db", "display_name: red/web")
	for _, tc := range []struct {
		name  string
		files []string
		args  string
		code  int
		want  []string // in standard error
	}{
		{"no protocol", []string{traceFile}, "red/web red/db tcp", exitUsage, []string{"PROTOCOL: \"tcp\": is no protocol (tcp/PORT, udp/PORT, sctp/PORT, icmp)\nsee 'weft trace --help'\n"}},
		{"port 0", []string{traceFile}, "red/web red/db tcp/0", exitUsage, []string{"\"tcp/0\""}},
		{"big port", []string{traceFile}, "red/web red/db udp/65536", exitUsage, []string{"\"udp/65536\""}},
		{"unknown protocol", []string{traceFile}, "red/web red/db gre/1", exitUsage, []string{"\"gre/1\""}},
		{"no destination", []string{traceFile}, "red/web", exitUsage, []string{"accepts between 2 and 3 arg(s)"}},
		{"output", []string{traceFile}, "red/web red/db -o table", exitUsage, []string{"-o: \"table\": is not an output (text, json)"}},
		{"names", []string{traceFile}, "red/nobody nowhere", exitFailed, []string{"source red/nobody: is no port", "destination nowhere: is no port"}},
		{"ambiguous", []string{two}, "red/web 10.244.0.19", exitFailed, []string{"source red/web: is the name of several ports (/infra/segments/red/ports/db, /infra/segments/red/ports/web)\n"}},
		{"no file", nil, "-f /no/such/file red/web red/db", exitFailed, []string{"/no/such/file"}},
		{
			"all problems", []string{strings.ReplaceAll(traceFile, "10.244.0.17/28", "10.244.0.17/99"), strings.ReplaceAll(denyFile, "ACTION", "MAYBE")},
			"red/web red/db", exitFailed, []string{"10.244.0.17/99", "MAYBE"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, code := runArgs(t, append(append([]string{"trace"}, inFiles(t, tc.files...)...), strings.Fields(tc.args)...)...)
			if code != tc.code || stdout != "" {
				t.Errorf("exit %d, want %d; printed %q", code, tc.code, stdout)
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in %q", want, stderr)
				}
			}
		})
	}
}

// TestTraceOfTheRunningLab takes the tables from a source.
func TestTraceOfTheRunningLab(t *testing.T) {
	asked := ""
	running := func(_ context.Context, lab string) (*table.Set, map[string]string, error) {
		asked = lab
		if lab == "gone" {
			return nil, nil, errors.New("lab gone: is not up")
		}
		return testset.New(), map[string]string{"store": "/infra/segments/db/ports/db1"}, nil
	}
	for _, tc := range []struct {
		args           string
		code           int
		stdout, stderr string // what they contain
	}{
		{"--lab red web1 db1 tcp/3306", 0, "delivered to port db1\n", ""},
		{"--lab red web1 store tcp/3306", 0, "delivered to port db1\n", ""},
		{"--lab red web1 10.1.1.99", exitNotDelivered, "arp_unknown", ""},
		{"--lab gone web1 db1", exitFailed, "", "lab gone: is not up\n"},
	} {
		var stdout, stderr bytes.Buffer
		env := &Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr}
		cmd := newTraceCommand(env, running, nil)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		args := strings.Fields(tc.args)
		code := execute(t.Context(), env, cmd, args)
		if code != tc.code || asked != args[1] || !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) {
			t.Errorf("%s: exit %d of lab %q: %s%s", tc.args, code, asked, stdout.String(), stderr.String())
		}
	}
}

func TestTraceWarns(t *testing.T) {
	file := strings.Replace(traceFile, "subnets:", "subnet: []\n    subnets:", 1)
	stdout, stderr, code := runArgs(t, append([]string{"trace", "red/web", "red/db"}, inFiles(t, file)...)...)
	if code != 0 || !strings.HasPrefix(stderr, "warning: ") || !strings.Contains(stderr, "did you mean subnets") || !strings.Contains(stdout, "delivered to port red/db") {
		t.Errorf("exit %d: %q\n%s", code, stderr, stdout)
	}
}

// TestTraceOfASavedSet traces in a lab that is up, through its state.
func TestTraceOfASavedSet(t *testing.T) {
	need.Root(t)
	dir, name := t.TempDir(), fmt.Sprintf("t%dtrace", os.Getpid())
	t.Cleanup(func() {
		weft(t, dir, "", "lab", "down", "--lab", name)
		if left, err := netns.List("weft-" + name + "-"); err != nil || len(left) > 0 {
			t.Errorf("namespaces left: %v, %v", left, err)
		}
	})
	if _, stderr, code := weft(t, dir, "", "trace", "red/web", "10.244.0.17"); code != exitFailed || stderr != errNoLab.Error()+"\n" {
		t.Errorf("without a lab: exit %d: %q", code, stderr)
	}
	if _, stderr, code := weft(t, dir, strings.ReplaceAll(labFile, "LABNAME", name), "lab", "up", "-"); code != 0 {
		t.Fatalf("up: exit %d: %s", code, stderr)
	}
	stdout, stderr, code := weft(t, dir, "", "trace", "red/web", "10.244.0.17")
	if code != exitNotDelivered || stderr != "" || !strings.Contains(stdout, "dropped at port red/web, dfw_out: dfw_default_deny\n") {
		t.Errorf("exit %d: %q\n%s", code, stderr, stdout)
	}
}
