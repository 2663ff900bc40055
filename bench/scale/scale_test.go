package scale

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// TestWorld makes a small size of everything and looks for it in the tables:
// what is made later, a change at a time, is what is made at once.
func TestWorld(t *testing.T) {
	w := newWorld(t, Size{Namespaces: 5, Pods: 50, Services: 10, Policies: 25})
	w.load()
	w.policy(26)
	w.realize("policy")
	w.pod(53)
	w.realize("pod")
	got := Tables{
		Ports: w.set.Ports.Len(), Segments: w.set.Segments.Len(), Routers: w.set.VRFs.Len(), NAT: w.set.NAT.Len(), VirtualServers: w.set.VIPs.Len(), Pools: w.set.Pools.Len(),
	}
	// A segment and router of the system, too, and the Tier-0.
	want := Tables{Ports: 51, Segments: 6, Routers: 7, NAT: 6, VirtualServers: 11, Pools: 14}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	var sets map[string]*table.Set
	w.store.Read(func(tree *intent.Tree, _ store.Version) { sets, _ = compile.New().Update(tree, nil) })
	if d := table.Diff(w.set, sets[node]); d.Len() > 0 {
		t.Errorf("objects differ from those that are compiled at once: %+v", d)
	}
	all, err := bpf.Encode(sets[node], nil)
	if err != nil || len(all["weft_rules"]) == 0 {
		t.Errorf("%d rows of rules, %v", len(all["weft_rules"]), err)
	}
}

// TestObjects looks at what has to fit together.
func TestObjects(t *testing.T) {
	s := Size{Namespaces: 10, Pods: 200, Services: 50, Policies: 100}
	addrs := make([]netip.Addr, s.Pods)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	slice := s.endpoints(13, addrs) // of the second part in namespace 3
	var got []string
	for _, e := range slice.Endpoints {
		got = append(got, e.Addresses[0])
	}
	if diff := cmp.Diff([]string{"10.0.0.13", "10.0.0.63", "10.0.0.113", "10.0.0.163"}, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	selected := map[string]bool{}
	for i := range s.Policies {
		p := s.policy(i)
		for key, value := range p.Spec.PodSelector.MatchLabels {
			selected[key+"="+value] = true
		}
		if p.Namespace != namespaceName(i%s.Namespaces) {
			t.Errorf("policy %d is in %s", i, p.Namespace)
		}
	}
	for i := range s.Pods {
		p := s.pod(i)
		is := slices.ContainsFunc([]string{appLabel, tierLabel}, func(k string) bool { return selected[k+"="+p.Labels[k]] })
		if !is || p.Namespace != namespaceName(i%s.Namespaces) {
			t.Errorf("pod %d: %s, labels %v", i, p.Namespace, p.Labels)
		}
	}
	sup := &unstructured.Unstructured{}
	if err := sup.UnmarshalJSON([]byte(supervisor)); err != nil {
		t.Error(err)
	}
	var typed v1alpha1.Supervisor
	if err := json.Unmarshal([]byte(supervisor), &typed); err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	var r Report
	for i := range 200 {
		r.add("x", time.Duration(200-i)*time.Millisecond)
	}
	l := r.Latencies[0]
	for p, want := range map[float64]float64{50: 100, 90: 180, 99: 198, 100: 200, 0: 1} {
		if got := l.Percentile(p); got != want {
			t.Errorf("percentile %v: %v, want %v", p, got, want)
		}
	}
	if got := (Latency{}).Percentile(50); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	r.Phases = []Phase{{Name: "pods", Objects: 10, Loaded: 1, InForce: 2}}
	var out strings.Builder
	if err := r.WriteText(&out); err != nil || !strings.Contains(out.String(), "100.0  180.0  198.0  200.0") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// TestFirst looks for the first of the newest packets of one fate.
func TestFirst(t *testing.T) {
	start := time.Unix(1000, 0)
	p := &probes{came: map[uint32]bool{}}
	for i := range 1000 { // one a millisecond; those from 300 on are lost
		p.sent = append(p.sent, start.Add(time.Duration(i)*time.Millisecond))
		p.came[uint32(i)] = i < 300
	}
	now := start.Add(time.Second)
	if at, ok := p.first(now, false); !ok || !at.Equal(start.Add(300*time.Millisecond)) {
		t.Errorf("lost from %v on, %v", at.Sub(start), ok)
	}
	if _, ok := p.first(now, true); ok {
		t.Error("the newest came")
	}
	p.came[970] = true // too new to count
	if at, ok := p.first(now.Add(-10*time.Millisecond), false); !ok || !at.Equal(start.Add(300*time.Millisecond)) {
		t.Errorf("with one on its way: %v, %v", at.Sub(start), ok)
	}
	p.came[800] = true // one in between is a new beginning
	if at, ok := p.first(now, false); !ok || !at.Equal(start.Add(801*time.Millisecond)) {
		t.Errorf("behind one that came: %v, %v", at.Sub(start), ok)
	}
}

func TestConfigsThatAreWrong(t *testing.T) {
	good := Config{Size: Size{1, 1, 1, 1}, Samples: 1, Rate: 1, Parallel: 1, Bin: t.TempDir(), Kubernetes: "/nowhere"}
	for _, name := range []string{"weftd", "weft-agent", "weft-cni"} {
		if err := os.WriteFile(good.program(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Pods = 0 }, "pods: 0: is out of range (1 to 100000)"},
		{func(c *Config) { c.Pods = 2000 }, "pods: 2000: are too many for 1 namespaces (1000 each)"},
		{func(c *Config) { c.Bin = "/nowhere" }, "/nowhere/weftd: is not there (make build kube)"},
		{func(*Config) {}, "/nowhere/etcd: is not there (make build kube)"},
	} {
		c := good
		row.change(&c)
		if err := c.check(); err == nil || err.Error() != row.want {
			t.Errorf("got %v, want %s", err, row.want)
		}
	}
}
