package tenant

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// world is a store with a Tier-0, written to as the controllers do.
type world struct {
	t     testing.TB
	fast  bool // it is not compiled
	store *store.Store
	w     *writer.Writer
	held  map[netip.Addr]bool
	sup   *v1alpha1.Supervisor
	nns   []v1alpha1.NamespaceNetwork
}

func newWorld(t *testing.T) *world { return newWorldOf(t) }

func newWorldOf(t testing.TB) *world {
	t.Helper()
	deps, _ := kubetest.NewDeps(t)
	kubetest.Provider(t, deps.Store)
	_, bench := t.(*testing.B)
	return &world{t: t, fast: bench, store: deps.Store, w: writer.New(deps, nil), held: map[netip.Addr]bool{}, sup: kubetest.Supervisor()}
}

func (w *world) isHeld(a netip.Addr) bool { return w.held[a] }

// supervisor writes the Supervisor.
func (w *world) supervisor() writer.Outcome {
	w.t.Helper()
	net, problems := v1alpha1.Effective(w.sup, nil)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	s := Supervisor{Network: net, ControlPlane: w.sup.Spec.ControlPlane, Translated: Translated(w.sup, w.nns)}
	out, err := w.w.Write(w.t.Context(), writer.SupervisorOwner("default"), func(t *intent.Tree) ([]intent.Object, error) {
		return s.Objects(t, w.isHeld)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.compiles()
	return out
}

// named returns a namespace with the effective network; its UID is u-<name>.
func (w *world) named(name string) Namespace {
	w.t.Helper()
	var nn *v1alpha1.NamespaceNetwork
	for i := range w.nns {
		if w.nns[i].Name == name {
			nn = &w.nns[i]
		}
	}
	net, problems := v1alpha1.Effective(w.sup, nn)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	return Namespace{Name: name, UID: "u-" + name, Network: net, System: w.sup.IsSystem(name), Labels: map[string]string{"kubernetes.io/metadata.name": name}}
}

// write writes a namespace.
func (w *world) write(n Namespace) (writer.Outcome, Report) {
	w.t.Helper()
	var report Report
	out, err := w.w.Write(w.t.Context(), store.Owner("Namespace/"+n.Name+"/"+n.UID), func(t *intent.Tree) (objects []intent.Object, err error) {
		objects, report, err = n.Objects(t, w.isHeld)
		return objects, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.compiles()
	return out.Lacking(report.Lacks), report
}

// ready writes a namespace that nothing lacks.
func (w *world) ready(n Namespace) {
	w.t.Helper()
	if out, _ := w.write(n); !out.OK() {
		w.t.Fatalf("%s: %s: %s", n.Name, out.Reason, out.Message)
	}
}

// remove takes away what a namespace has.
func (w *world) remove(name string) writer.Outcome {
	w.t.Helper()
	out, err := w.w.Delete(w.t.Context(), store.Owner("Namespace/"+name+"/u-"+name))
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// port puts or, without an address, deletes a port, as the owner would.
func (w *world) port(owner store.Owner, path, address string, tags ...intent.Tag) {
	w.t.Helper()
	var objects []intent.Object
	if address != "" {
		a := netip.MustParseAddr(address).As4()
		objects = append(objects, put(path, &intent.SegmentPort{
			Resource:        intent.Resource{Tags: tags},
			AddressBindings: []intent.AddressBinding{{IPAddress: address, MACAddress: mac(a[2], a[3])}},
		}))
	}
	_, problems, err := w.store.Replace(w.t.Context(), owner, objects...)
	if err != nil || len(problems) > 0 {
		w.t.Fatal(err, problems)
	}
}

func mac(a, b byte) string {
	const hex = "0123456789abcdef"
	return "04:50:56:00:" + string([]byte{hex[a>>4], hex[a&15], ':', hex[b>>4], hex[b&15]})
}

// compiles checks that the tree compiles without a problem.
func (w *world) compiles() {
	w.t.Helper()
	if w.fast {
		return
	}
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		if _, problems := compile.New().Update(t, nil); len(problems) > 0 {
			w.t.Errorf("compile: %v", problems)
		}
	})
}

// get returns the object at a path.
func get[T intent.Object](w *world, path string) T {
	w.t.Helper()
	var out T
	w.store.Read(func(t *intent.Tree, _ store.Version) {
		var ok bool
		if out, ok = intent.Find[T](t, path); !ok {
			w.t.Fatalf("%s: is %T", path, t.Get(path))
		}
	})
	return out
}

// paths returns the paths that the store has of an owner prefix.
func (w *world) paths(prefix string) []string {
	var out []string
	for _, o := range w.store.Owners(prefix) {
		for _, x := range w.store.Owned(o) {
			out = append(out, x.Meta().Path)
		}
	}
	slices.Sort(out)
	return out
}

// subnets returns the segments of a namespace with their gateways.
func (w *world) subnets(name string) string {
	var out []string
	for _, o := range w.store.Owned(store.Owner("Namespace/" + name + "/u-" + name)) {
		if s, ok := o.(*intent.Segment); ok {
			out = append(out, s.DisplayName+" "+s.Subnets[0].GatewayAddress)
		}
	}
	return strings.Join(out, ", ")
}

func (w *world) egress(name string) string {
	w.t.Helper()
	return get[*intent.PolicyNatRule](w, "/infra/tier-1s/t1_u-"+name+"_rtr/nat/USER/nat-rules/egress").TranslatedNetwork
}

func same[T any](t *testing.T, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
