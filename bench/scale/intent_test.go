package scale

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/pod"
	"github.com/weft-net/weft/kube/policy"
	"github.com/weft-net/weft/kube/service"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// world is the loaded size without processes: what objects become, stored,
// compiled and encoded, each with what it took.
type world struct {
	tb       testing.TB
	size     Size
	store    *store.Store
	network  v1alpha1.Network
	compiler *compile.Compiler
	encoder  *bpf.Encoder
	set      *table.Set
	seen     store.Version
	took     Report
	addrs    []netip.Addr
}

func newWorld(tb testing.TB, size Size) *world {
	tb.Helper()
	s, err := store.New(tb.Context(), store.NewMemory(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	w := &world{tb: tb, size: size, store: s, compiler: compile.New(), encoder: bpf.NewEncoder(), addrs: make([]netip.Addr, size.Pods)}
	var sup v1alpha1.Supervisor
	if err := json.Unmarshal([]byte(supervisor), &sup); err != nil {
		tb.Fatal(err)
	}
	var problems []intent.Problem
	if w.network, problems = v1alpha1.Effective(&sup, nil); len(problems) > 0 {
		tb.Fatal(problems)
	}
	_, problems, err = s.Update(tb.Context(), func(*intent.Tree) ([]intent.Change, error) {
		changes, problems := intent.Parse("provider", []byte(provider))
		if intent.HasErrors(problems) {
			return nil, fmt.Errorf("%v", problems)
		}
		return changes, nil
	})
	if err != nil || intent.HasErrors(problems) {
		tb.Fatal(err, problems)
	}
	w.write("Supervisor/default", func(t *intent.Tree) ([]intent.Object, error) {
		return tenant.Supervisor{Network: w.network, Translated: tenant.Translated(&sup, nil)}.Objects(t, nobody)
	})
	return w
}

func nobody(netip.Addr) bool { return false }

// write is what a controller does.
func (w *world) write(owner store.Owner, build writer.Build) store.Version {
	w.tb.Helper()
	v, problems, err := w.store.ReplaceWith(w.tb.Context(), owner, build)
	if err != nil || intent.HasErrors(problems) {
		w.tb.Fatal(owner, err, problems)
	}
	return v
}

func uid(kind string, i int) string { return fmt.Sprintf("%s-0000-4000-8000-%012d", kind, i) }

func (w *world) namespace(i, pods int) {
	n := tenant.Namespace{
		Name: namespaceName(i), UID: uid("00000001", i), Network: w.network, Pods: pods,
		Labels: map[string]string{teamLabel: teamOf(i), corev1.LabelMetadataName: namespaceName(i), ncp.LabelClusterID: clusterID},
	}
	w.write(store.Owner("Namespace/"+n.Name+"/"+n.UID), func(t *intent.Tree) ([]intent.Object, error) {
		objects, _, err := n.Objects(t, nobody)
		return objects, err
	})
}

func (w *world) pod(i int) {
	p := w.size.pod(i)
	p.UID = types.UID(uid("00000002", i))
	namespace := uid("00000001", i%w.size.Namespaces)
	place := pod.Place{Cluster: clusterID, UID: namespace, Router: ncp.Tier1Path(namespace)}
	w.write(writer.Owner(writer.Pod, p), func(t *intent.Tree) ([]intent.Object, error) {
		port, fault := pod.Build(pod.Request{Pod: p, Place: place}, t)
		if port == nil {
			return nil, fault
		}
		if i < len(w.addrs) {
			w.addrs[i] = port.Bindings()[0].Addr
		}
		return []intent.Object{port}, nil
	})
}

func (w *world) service(i int) {
	s := w.size.service(i)
	s.UID = types.UID(uid("00000003", i))
	a := netip.MustParsePrefix(serviceCIDR).Addr().As4()
	a[2], a[3] = byte(i>>8)+1, byte(i)
	s.Spec.ClusterIP = netip.AddrFrom4(a).String()
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	namespace := uid("00000001", i%w.size.Namespaces)
	request := service.Request{
		Service: s, Slices: []discoveryv1.EndpointSlice{*w.size.endpoints(i, w.addrs)},
		Place: service.Place{Cluster: clusterID, Namespace: s.Namespace, UID: namespace, LBService: ncp.LBServicePath(namespace), Ingress: w.network.Ingress},
	}
	w.write(writer.Owner(writer.Service, s), func(t *intent.Tree) ([]intent.Object, error) {
		out := service.Build(request, t)
		if len(out.Faults) > 0 {
			return nil, &out.Faults[0]
		}
		return out.Objects, nil
	})
}

func (w *world) policy(i int) {
	np := w.size.policy(i)
	np.UID = types.UID(uid("00000004", i))
	w.write(writer.Owner(writer.NetworkPolicy, np), w.policyObjects(np, i))
}

func (w *world) policyObjects(np *netv1.NetworkPolicy, i int) writer.Build {
	return func(t *intent.Tree) ([]intent.Object, error) {
		objects, findings := policy.NetworkPolicy(np, policy.Place{Cluster: clusterID, NamespaceUID: uid("00000001", i%w.size.Namespaces)})
		if len(findings) > 0 {
			return nil, fmt.Errorf("%v", findings)
		}
		var rules []*intent.Rule
		for _, o := range objects {
			if r, ok := o.(*intent.Rule); ok {
				rules = append(rules, r)
			}
		}
		writer.AssignRuleIDs(t, rules...)
		return objects, nil
	}
}

// load makes everything, a kind after another.
func (w *world) load() {
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	pods := (w.size.Pods + w.size.Namespaces - 1) / w.size.Namespaces
	for _, kind := range []struct {
		name string
		n    int
		make func(int)
	}{
		{"namespace", w.size.Namespaces, func(i int) { w.namespace(i, pods) }}, {"pod", w.size.Pods, w.pod},
		{"service", w.size.Services, w.service}, {"policy", w.size.Policies, w.policy},
	} {
		start := clock()
		for i := range kind.n {
			kind.make(i)
		}
		w.tb.Logf("%d × %s: %.2f ms each", kind.n, kind.name, (clock()-start).Seconds()*1000/float64(kind.n))
	}
	start := clock()
	w.realize("all")
	took := clock() - start
	var m runtime.MemStats
	for range 2 { // the first one leaves pools
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	w.tb.Logf("all compiled and encoded in %.1f s; %d MiB are kept", took.Seconds(), m.HeapAlloc/mib)
}

// realize compiles and encodes what changed.
func (w *world) realize(what string) {
	w.tb.Helper()
	var changed []string // nil: everything
	before := w.set
	for e := range w.store.Watch(w.tb.Context(), w.seen) {
		if w.seen = e.Version; before != nil {
			changed = e.Changed
		}
		break
	}
	start := clock()
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		sets, problems := w.compiler.Update(t, changed)
		if w.set = sets[node]; len(problems) > 0 {
			w.tb.Fatal(problems[0])
		}
	})
	w.took.add(what+": compile", clock()-start)
	start = clock()
	patch := table.MakePatch(before, w.set)
	data, err := table.EncodePatch(patch)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.took.add(what+": patch", clock()-start)
	start = clock()
	if patch, err = table.DecodePatch(data); err == nil {
		_, err = patch.Apply(before)
	}
	if err != nil {
		w.tb.Fatal(err)
	}
	w.took.add(what+": apply patch", clock()-start)
	start = clock()
	changes, err := w.encoder.Update(w.set, nil)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.took.add(what+": encode", clock()-start)
	rows := 0
	for _, c := range changes {
		rows += c.Len()
	}
	w.took.add(what+": map rows (thousands)", time.Duration(rows)*time.Microsecond)
	w.took.add(what+": patch KiB", time.Duration(len(data))*time.Millisecond/1024)
}

// clock is the CPU time of this thread, as others may want the CPU too.
func clock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // there is no other error than a wrong argument
	}
	return time.Duration(t.Nano())
}

// BenchmarkChanges is one object more in a world of a given part of the goal,
// from the controller's write to rows of the kernel's maps, in ms of CPU.
func BenchmarkChanges(b *testing.B) {
	for _, part := range []int{50, 20, 4, 1} {
		b.Run(fmt.Sprintf("part=%d", part), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			size := Goal()
			w := newWorld(b, Size{size.Namespaces / part, size.Pods / part, size.Services / part, size.Policies / part})
			w.load()
			w.took = Report{}
			n := 0
			for b.Loop() {
				n++
				for _, kind := range []struct {
					name string
					do   func()
				}{{"policy", func() { w.policy(size.Policies + n*7) }}, {"pod", func() { w.pod(size.Pods + n*7) }}} {
					start := clock()
					kind.do()
					w.took.add(kind.name+": store", clock()-start)
					w.realize(kind.name)
				}
			}
			for _, l := range w.took.Latencies {
				b.Logf("%-30s p50 %8.2f  p90 %8.2f  p99 %8.2f  most %8.2f", l.Name, l.Percentile(50), l.Percentile(90), l.Percentile(99), l.Percentile(100))
			}
		})
	}
}
