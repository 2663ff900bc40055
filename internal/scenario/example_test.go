package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/scenario"
)

// exampleFile is what make lab builds.
const exampleFile = "../../examples/seeds/lab.yaml"

// example returns the world of the example and its Lab document.
func example(t *testing.T) (*scenario.World, []scenario.File, string) {
	t.Helper()
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	body, around, ok := strings.Cut(string(data), "\n---\n")
	if !ok {
		t.Fatalf("%s: has one document (the intent, then the lab)", exampleFile)
	}
	files := []scenario.File{{Name: exampleFile, Data: []byte(body)}}
	w := scenario.NewWorld()
	if problems := w.Apply(files); len(problems) > 0 {
		t.Fatal(problems)
	}
	return w, files, around
}

// exampleFlows is what the example's comments and scripts/demo-seeds.sh promise.
var exampleFlows = []struct{ flow, outcome, hops string }{
	{"cormac-ns/busybox1 192.168.178.222 tcp/443", "delivered, source seen 10.223.136.18",
		"192.168.1.1 10.244.0.33 100.64.252.178 192.168.105.253 192.168.178.222"},
	{"cormac-ns/busybox1 10.244.0.18", "delivered, source seen 10.244.0.35", "192.168.1.1 10.244.0.33 10.244.0.18"},
	{"cormac-ns/busybox1 10.203.182.134", "answered", "192.168.1.1 10.244.0.33 100.64.252.178 10.203.182.134"},
	{"cormac-ns/podvm registry/harbor", "dropped", "10.244.0.17 100.64.252.178 100.64.45.233 *"},
}

func TestExample(t *testing.T) {
	w, _, _ := example(t)
	for _, tc := range exampleFlows {
		f, err := w.Flow(strings.Fields(tc.flow))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Outcome(); got != tc.outcome {
			t.Errorf("%s: %s, want %s", tc.flow, got, tc.outcome)
		}
		if got := strings.Join(f.Hops(), " "); got != tc.hops {
			t.Errorf("%s: hops %s, want %s", tc.flow, got, tc.hops)
		}
	}
}

func TestExampleInNamespaces(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	need.Tool(t, "ping", "traceroute", "curl")
	if err := ebpf.MountFS(); err != nil {
		t.Fatal(err)
	}
	w, files, around := example(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, labFile), []byte(around), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newLived(t, dir)
	if err := p.Changed(w, files); err != nil {
		t.Fatal(err)
	}
	for _, tc := range exampleFlows {
		f, err := w.Flow(strings.Fields(tc.flow))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Traced(w, f); err != nil {
			t.Error(err)
		}
	}
	for url, want := range map[string]string{
		"http://192.168.178.222:88/": "Requester IP: 10.223.136.18\n",
		"http://10.203.182.134/":     "Requester IP: 10.244.0.35\n",
	} {
		got, err := p.Inside("cormac-ns/busybox1", []string{"curl", "--silent", "--show-error", "--max-time", "5", url})
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
}
