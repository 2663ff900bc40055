package tenant

import (
	"fmt"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/trace"
)

// flow returns what becomes of a TCP connection from a port, named
// <namespace>/<pod>, to an address.
func (w *world) flow(from, to string) string {
	w.t.Helper()
	var out string
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		sets, problems := compile.New().Update(t, nil)
		if len(problems) > 0 {
			w.t.Fatal(problems)
		}
		for _, set := range sets {
			ix := pipeline.NewIndex(set)
			src, err := trace.ResolveSource(ix, from)
			if err != nil {
				w.t.Fatal(err)
			}
			dst, err := trace.ResolveDestination(ix, to)
			if err != nil {
				w.t.Fatal(err)
			}
			res, err := trace.Run(ix, trace.Question{From: src.Port, To: dst.Port, Src: src.Addr, Dst: dst.Addr, Proto: packet.TCP, SrcPort: 49152, DstPort: 80})
			if err != nil {
				w.t.Fatal(err)
			}
			out = fmt.Sprint(res.Disposition, " ", res.SourceSeen)
			if d := res.Dropped; d != nil {
				out = fmt.Sprint(res.Disposition, " ", d.RuleName, " ", d.RuleID, " ", d.Category)
			}
		}
	})
	return out
}

// pod gives a namespace's pod a port, as kube/pod does.
func (w *world) pod(namespace, name, address string) {
	w.t.Helper()
	a := ncp.SegmentPath("u-"+namespace, 0)
	owner := store.Owner("Pod/" + namespace + "/" + name + "/x")
	w.port(owner, a+"/ports/"+namespace+"-"+name, address, ncp.NamespaceTags("domain-c8", namespace, "u-"+namespace)...)
}

// What the stories of the seeds expect of a namespace that nobody configured.
func TestFlows(t *testing.T) {
	w := newWorld(t)
	w.sup.Spec.ControlPlane = &v1alpha1.ControlPlane{MACAddress: "04:50:56:00:00:01", Attachment: "control-plane"}
	w.sup.Spec.SNATExemptCIDRs = []v1alpha1.CIDR{"198.51.100.0/24"}
	w.supervisor()
	for _, name := range []string{"red", "blue", "kube-system"} {
		n := w.named(name)
		n.Pods = 2
		w.ready(n)
	}
	w.pod("red", "a", "10.244.0.18")
	w.pod("red", "b", "10.244.0.19")
	w.pod("blue", "a", "10.244.0.34")
	w.pod("kube-system", "dns", "10.244.0.50")
	id := get[*intent.Rule](w, "/infra/domains/domain-c8/security-policies/is_u-blue/rules/deny-all-ingress").RuleID
	for _, tc := range []struct{ from, to, want string }{
		{"red-a", "10.244.0.19", "delivered 10.244.0.18"},
		{"red-a", "10.244.0.34", fmt.Sprintf("dropped deny-all-ingress %d Application", id)},
		{"red-a", "10.244.0.50", "delivered 10.244.0.18"},
		{"kube-system-dns", "10.244.0.34", fmt.Sprintf("dropped deny-all-ingress %d Application", id)},
		{"red-a", "192.168.178.222", "delivered 172.16.2.2"},
		{"blue-a", "192.168.178.222", "delivered 172.16.2.3"},
		{"kube-system-dns", "192.168.178.222", "delivered 172.16.2.1"},
		{"control-plane", "192.168.178.222", "delivered 172.16.2.1"},
		{"control-plane", "10.244.0.50", "delivered 10.244.0.2"},
		{"red-a", "198.51.100.7", "delivered 10.244.0.18"},
	} {
		if got := w.flow(tc.from, tc.to); got != tc.want {
			t.Errorf("%s to %s: got %s, want %s", tc.from, tc.to, got, tc.want)
		}
	}

	// Should a NAT rule be lost, the inside address still does not get out.
	guard := get[*intent.Rule](w, ncp.RulePath(ncp.UplinkGuardPath("domain-c8"), "drop-untranslated-provider")).RuleID
	_, problems, err := w.store.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) {
		return []intent.Change{intent.Delete(ncp.NATRulePath(ncp.Tier1Path("u-red"), ncp.NATEgress))}, nil
	})
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	same(t, fmt.Sprintf("dropped drop-untranslated %d SharedPreRules", guard), w.flow("red-a", "192.168.178.222"))
	w.ready(w.named("red"))
	same(t, "delivered 172.16.2.2", w.flow("red-a", "192.168.178.222"))

	// A routed namespace is not guarded.
	yes := true
	w.nns = []v1alpha1.NamespaceNetwork{{Spec: v1alpha1.NamespaceNetworkSpec{NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.77.0.0/22"}, RoutedMode: &yes}}}
	w.nns[0].Name = "green"
	w.supervisor()
	w.ready(w.named("green"))
	w.pod("green", "a", "10.77.0.2")
	same(t, "delivered 10.77.0.2", w.flow("green-a", "192.168.178.222"))
}
