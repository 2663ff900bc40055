package tenant

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/store"
)

// Namespaces come, go, grow and shrink in any order while ranges change: no two
// ever have the same address or overlapping subnets, each has room for its pods
// or says that it lacks some, and in the end nothing is left.
func TestRandom(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { random(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func random(t *testing.T, r *rand.Rand) {
	w := newWorld(t)
	before, _ := version(w)
	w.sup.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.244.0.0/23"}
	w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.16.2.0/29", "172.16.9.0/30"}
	w.supervisor()
	pods := map[string]int{}
	for range 60 {
		name := fmt.Sprintf("n%d", r.IntN(12))
		switch r.IntN(10) {
		case 0:
			if pods[name] == 0 {
				w.remove(name)
			}
		case 1:
			ranges := []v1alpha1.CIDR{"10.244.0.0/23", "10.250.0.0/23"}
			i := r.IntN(2)
			w.sup.Spec.NamespaceNetworkCIDRs = ranges[i : i+1+r.IntN(2-i)]
			w.supervisor()
		default:
			n := w.named(name)
			n.Pods = pods[name] + r.IntN(30)
			out, report := w.write(n)
			if !out.Written() {
				continue
			}
			room := int64(0)
			for _, s := range w.segments(name) {
				room += Capacity(subnetOf(s))
			}
			if room < int64(n.Pods) && report.Lacks == nil {
				t.Fatalf("%s: room for %d of %d, and lacks nothing", name, room, n.Pods)
			}
			if s := w.segments(name); pods[name] == 0 && r.IntN(3) == 0 {
				pods[name] = 1
				w.port(store.Owner(fmt.Sprintf("Pod/%s/p/x", name)), s[0].Path+"/ports/p", subnetOf(s[0]).Addr().Next().Next().String())
			}
		}
		w.unique()
	}
	for name := range pods {
		w.port(store.Owner(fmt.Sprintf("Pod/%s/p/x", name)), "", "")
	}
	for i := range 12 {
		if out := w.remove(fmt.Sprintf("n%d", i)); !out.OK() {
			t.Fatal(out)
		}
	}
	if _, err := w.w.Delete(t.Context(), "Supervisor/default"); err != nil {
		t.Fatal(err)
	}
	if after, _ := version(w); after != before {
		t.Errorf("%d objects, before there were %d", after, before)
	}
}

func (w *world) segments(name string) []*intent.Segment {
	var out []*intent.Segment
	for _, o := range w.store.Owned(store.Owner("Namespace/" + name + "/u-" + name)) {
		if s, ok := o.(*intent.Segment); ok {
			out = append(out, s)
		}
	}
	return out
}

// unique checks that nothing is given out twice.
func (w *world) unique() {
	w.t.Helper()
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		var taken []netip.Prefix
		for _, o := range t.OfType("Segment") {
			p := subnetOf(o.(*intent.Segment))
			for _, q := range taken {
				if p.Overlaps(q) {
					w.t.Fatalf("%s overlaps %s", p, q)
				}
			}
			taken = append(taken, p)
		}
		egress := map[string]string{}
		for _, o := range t.OfType("PolicyNatRule") {
			if r := o.(*intent.PolicyNatRule); r.Action == "SNAT" {
				if other := egress[r.TranslatedNetwork]; other != "" {
					w.t.Fatalf("%s: has %s of %s", r.Path, r.TranslatedNetwork, other)
				}
				egress[r.TranslatedNetwork] = r.Path
			}
		}
	})
}

// BenchmarkNamespaces makes a thousand namespaces, and then one more.
func BenchmarkNamespaces(b *testing.B) {
	for b.Loop() {
		w := newWorldOf(b)
		w.sup.Spec.NamespaceNetworkCIDRs = []v1alpha1.CIDR{"10.128.0.0/12"}
		w.sup.Spec.EgressCIDRs = []v1alpha1.CIDR{"172.17.0.0/20"}
		w.supervisor()
		for i := range 1000 {
			w.ready(w.named(fmt.Sprintf("n%d", i)))
		}
	}
}
