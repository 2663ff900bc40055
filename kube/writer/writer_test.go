package writer_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

func same[T any](t *testing.T, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// group returns what Write is given: a group that names others.
func group(id string, names ...string) writer.Build {
	return func(*intent.Tree) ([]intent.Object, error) {
		g := &intent.Group{}
		if len(names) > 0 {
			g.Expression = []intent.Expression{&intent.PathExpression{Paths: names}}
		}
		return []intent.Object{intent.Put("/infra/domains/default/groups/"+id, g).Object}, nil
	}
}

func write(t *testing.T, w *writer.Writer, owner store.Owner, b writer.Build) writer.Outcome {
	t.Helper()
	out, err := w.Write(t.Context(), owner, b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// told returns an outcome's condition in one line.
func told(o writer.Outcome) string {
	c := o.Condition("Ready", 7)
	return strings.TrimSpace(fmt.Sprintf("%s %s %d %s", c.Status, c.Reason, c.ObservedGeneration, c.Message))
}

func TestWrite(t *testing.T) {
	deps, realization := kubetest.NewDeps(t)
	w := writer.New(deps, nil)

	same(t, "True Realized 7", told(write(t, w, "A/a/1", group("a"))))
	same(t, "False NotFound 7 /infra/domains/default/groups/b: expression[0].paths[0]: /infra/domains/default/groups/c: does not exist",
		told(write(t, w, "B/b/1", group("b", "/infra/domains/default/groups/c"))))
	same(t, "False Conflict 7 /infra/domains/default/groups/a: belongs to A/a/1 (only B/b/1 could be here)", told(write(t, w, "B/b/1", group("a"))))
	same(t, "True Realized 7", told(write(t, w, "B/b/1", group("b", "/infra/domains/default/groups/a"))))

	gone, err := w.Delete(t.Context(), "A/a/1")
	if err != nil || gone.Written() || gone.Reason != writer.ReasonInUse {
		t.Errorf("%v %+v", err, gone)
	}
	// A fault leaves what there is.
	out := write(t, w, "A/a/1", func(*intent.Tree) ([]intent.Object, error) {
		return nil, &writer.Fault{Reason: "Full", Field: "spec.x", Msg: "9: is too much (8)"}
	})
	same(t, "False Full 7 spec.x: 9: is too much (8)", told(out))
	same(t, 1, len(deps.Store.Owned("A/a/1")))
	// Another error is one.
	boom := errors.New("boom")
	if _, err := w.Write(t.Context(), "A/a/1", func(*intent.Tree) ([]intent.Object, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}

	realization.Set(writer.Pending, "")
	out = write(t, w, "A/a/1", group("a"))
	same(t, "False Pending 7 not all nodes have acknowledged it yet", told(out))
	same(t, "False Lacks 7 something", told(out.Lacking(&writer.Fault{Reason: "Lacks", Msg: "something"})))
	same(t, out.Reason, out.Lacking(nil).Reason)
	realization.Set(writer.Refused, "node n1: no")
	same(t, "False Refused 7 node n1: no", told(w.Refresh(out)))
	realization.Set(writer.Realized, "")
	same(t, "True Realized 7", told(w.Refresh(out)))
}

func TestOwners(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "web", UID: "u"}}
	same(t, store.Owner("Pod/red/web/u"), writer.Owner(writer.Pod, pod))
	same(t, store.Owner("Namespace/red/u"), writer.Owner(writer.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "red", UID: "u"}}))
	for _, tc := range []struct {
		owner store.Owner
		kind  string
		key   types.NamespacedName
		uid   types.UID
		ok    bool
	}{
		{"Pod/red/web/u", "Pod", types.NamespacedName{Namespace: "red", Name: "web"}, "u", true},
		{"Namespace/red/u", "Namespace", types.NamespacedName{Name: "red"}, "u", true},
		{"Supervisor/default", "Supervisor", types.NamespacedName{Name: "default"}, "", true},
		{"", "", types.NamespacedName{}, "", false},
		{"x/y", "", types.NamespacedName{}, "", false},
	} {
		kind, key, uid, ok := writer.ParseOwner(tc.owner)
		if kind != tc.kind || key != tc.key || uid != tc.uid || ok != tc.ok {
			t.Errorf("%s: %s %v %s %v", tc.owner, kind, key, uid, ok)
		}
	}
	same(t, "Pod/red/web/", writer.Prefix(writer.Pod, types.NamespacedName{Namespace: "red", Name: "web"}))
	same(t, "Namespace/red/", writer.Prefix(writer.Namespace, types.NamespacedName{Name: "red"}))
	same(t, "Pod/", writer.Prefix(writer.Pod, types.NamespacedName{}))
}

func TestRuleIDs(t *testing.T) {
	const policy = "/infra/domains/default/security-policies/p"
	tree := intent.NewTree()
	rule := func(id string, number int64) *intent.Rule {
		r := &intent.Rule{Action: "ALLOW", RuleID: number}
		intent.Put(policy+"/rules/"+id, r)
		return r
	}
	changes := []intent.Change{intent.Put(policy, &intent.SecurityPolicy{Category: "Application"})}
	for id, number := range map[string]int64{"a": 1001, "b": 1003, "c": 0} {
		r := rule(id, number)
		changes = append(changes, intent.Change{Path: r.Path, Object: r})
	}
	if _, problems := tree.Apply(changes); len(problems) > 0 {
		t.Fatal(problems)
	}
	rules := []*intent.Rule{rule("x", 0), rule("b", 0), rule("y", 1004), rule("c", 0), rule("z", 0)}
	writer.AssignRuleIDs(tree, rules...)
	var got []int64
	for _, r := range rules {
		got = append(got, r.RuleID)
	}
	same(t, []int64{1002, 1003, 1004, 1005, 1006}, got)
}

// queue is where requests come back; it says when.
func queue(t *testing.T, w *writer.Writer) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	t.Helper()
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		q.ShutDown()
	})
	if err := w.Source().Start(ctx, q); err != nil {
		t.Fatal(err)
	}
	return q
}

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: name}}
}

// next returns the request that comes back.
func next(t *testing.T, q workqueue.TypedRateLimitingInterface[reconcile.Request]) string {
	t.Helper()
	got := make(chan string)
	go func() {
		r, _ := q.Get()
		q.Done(r)
		got <- r.Name
	}()
	select {
	case name := <-got:
		return name
	case <-time.After(10 * time.Second):
		t.Fatal("no request came back")
	}
	return ""
}

func TestAwait(t *testing.T) {
	deps, realization := kubetest.NewDeps(t)
	w := writer.New(deps, nil)
	q := queue(t, w)

	// What is blocked comes back with the next commit, also one that was made
	// before it waited.
	blocked := write(t, w, "B/b/1", group("b", "/infra/domains/default/groups/a"))
	if r := w.Await(request("blocked"), blocked); r.RequeueAfter == 0 {
		t.Error("it comes back only with a commit")
	}
	write(t, w, "A/a/1", group("a"))
	same(t, "blocked", next(t, q))
	w.Await(request("late"), blocked)
	same(t, "late", next(t, q))
	same(t, reconcile.Result{}, w.Await(request("blocked"), write(t, w, "B/b/1", group("b", "/infra/domains/default/groups/a"))))

	// What is pending comes back when it is not, and what is refused when it is
	// not any more.
	realization.Set(writer.Pending, "")
	w.Await(request("pending"), write(t, w, "A/a/1", group("a")))
	realization.Set(writer.Refused, "no")
	same(t, "pending", next(t, q))
	w.Await(request("refused"), write(t, w, "A/a/1", group("a")))
	realization.Set(writer.Refused, "still no")
	realization.Set(writer.Realized, "")
	same(t, "refused", next(t, q))
	w.Await(request("refused"), write(t, w, "A/a/1", group("a")))
	realization.Set(writer.Realized, "")
	if n := q.Len(); n != 0 {
		t.Errorf("%d requests come back for nothing", n)
	}
}

func TestChanges(t *testing.T) {
	deps, _ := kubetest.NewDeps(t)
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	source := writer.Changes(deps, 0, func(paths []string) []reconcile.Request {
		return []reconcile.Request{request(strings.Join(paths, " "))}
	})
	if err := source.Start(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	write(t, writer.New(deps, nil), "A/a/1", group("a"))
	same(t, "/infra/domains/default/groups/a", next(t, q))
}

func TestTell(t *testing.T) {
	deps, realization := kubetest.NewDeps(t)
	recorder := events.NewFakeRecorder(20)
	w := writer.New(deps, recorder)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u"}}
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "q", UID: "v"}}
	good := func() writer.Outcome { return write(t, w, "A/a/1", group("a")) }
	full := w.Blocked(&writer.Fault{Reason: "Full", Msg: "is full"})

	w.Tell(pod, good()) // the first that is heard of it, and it is well: nothing
	w.Tell(pod, full)
	w.Tell(pod, full)
	w.Tell(pod, good())
	w.Tell(pod, good())
	realization.Set(writer.Pending, "")
	w.Tell(other, good())
	realization.Set(writer.Realized, "")
	w.Tell(other, good())
	w.Event(other, corev1.EventTypeWarning, "Odd", strings.Repeat("x", 2000))
	w.Event(other, corev1.EventTypeWarning, "Odd", strings.Repeat("x", 2000))
	w.Forget("u")
	w.Tell(pod, full)
	close(recorder.Events)
	var got []string
	for e := range recorder.Events {
		got = append(got, e[:min(len(e), 50)])
		if len(e) > 1100 {
			t.Errorf("%d bytes", len(e))
		}
	}
	same(t, []string{
		"Warning Full is full", "Normal Realized every node has it in force", "Normal Realized every node has it in force",
		"Warning Odd " + strings.Repeat("x", 38), "Warning Full is full",
	}, got)
}

func TestHosts(t *testing.T) {
	for _, tc := range []struct {
		prefix, first, last string
		n                   int64
	}{
		{"172.16.2.0/24", "172.16.2.1", "172.16.2.254", 254},
		{"10.114.19.160/27", "10.114.19.161", "10.114.19.190", 30},
		{"10.0.0.4/30", "10.0.0.5", "10.0.0.6", 2},
		{"10.0.0.4/31", "10.0.0.4", "10.0.0.5", 2},
		{"10.0.0.4/32", "10.0.0.4", "10.0.0.4", 1},
		{"255.255.255.252/30", "255.255.255.253", "255.255.255.254", 2},
		{"fd00::/126", "fd00::1", "fd00::2", 2},
		{"fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:fffe", 1 << 62},
	} {
		p := netip.MustParsePrefix(tc.prefix)
		first, last := writer.Hosts(p)
		same(t, fmt.Sprint(tc.first, " ", tc.last, " ", tc.n), fmt.Sprint(first, " ", last, " ", writer.CountHosts([]netip.Prefix{p})))
	}
}

func TestLowest(t *testing.T) {
	taken := map[netip.Addr]bool{}
	ranges := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("255.255.255.254/31")}
	var got []string
	for {
		a, ok := writer.Lowest(ranges, func(a netip.Addr) (netip.Addr, bool) { return a, taken[a] })
		if !ok {
			break
		}
		taken[a] = true
		got = append(got, a.String())
	}
	same(t, []string{"10.0.0.1", "10.0.0.2", "255.255.255.254", "255.255.255.255"}, got)
}

func TestLowestSubnet(t *testing.T) {
	for _, tc := range []struct {
		networks, taken, want string
		bits                  int
	}{
		{"10.0.0.0/24", "", "10.0.0.0/28", 28},
		{"10.0.0.0/24", "10.0.0.0/28 10.0.0.32/28", "10.0.0.16/28", 28},
		{"10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/28", 28},             // larger ones are left behind at once
		{"10.0.0.0/24", "10.0.0.5/32 10.0.0.20/32", "10.0.0.32/28", 28}, // smaller ones too
		{"10.0.0.0/24 10.1.0.0/24", "10.0.0.0/8", "none", 28},
		{"10.0.0.0/24 11.0.0.0/24", "10.0.0.0/8", "11.0.0.0/28", 28},
		{"255.255.255.0/24", "255.255.255.0/24", "none", 28},
		{"fd00::/64", "fd00::/124", "fd00::10/124", 124},
	} {
		got, ok := writer.LowestSubnet(parse(tc.networks), tc.bits, func(p netip.Prefix) netip.Prefix {
			for _, q := range parse(tc.taken) {
				if p.Overlaps(q) {
					return q
				}
			}
			return netip.Prefix{}
		})
		if ok != (tc.want != "none") || ok && got.String() != tc.want {
			t.Errorf("%s without %s: got %v %v, want %s", tc.networks, tc.taken, got, ok, tc.want)
		}
	}
}

func parse(list string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range strings.Fields(list) {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestHolds(t *testing.T) {
	now := time.Unix(0, 0)
	h := writer.NewHolds(time.Minute, func() time.Time { return now })
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	h.Release(a, "A/a")
	now = now.Add(59 * time.Second)
	h.Release(b, "B/b")
	same(t, []bool{true, true}, []bool{h.Held(a), h.Held(b)})
	now = now.Add(time.Second)
	same(t, []bool{false, true}, []bool{h.Held(a), h.Held(b)})
	same(t, []bool{false, true}, []bool{h.HeldFrom("B/b")(b), h.HeldFrom("A/a")(b)})
	h.Keep(0)
	h.Release(a, "A/a")
	same(t, false, h.Held(a))
	same(t, false, (*writer.Holds)(nil).Held(a))
}

// What an owner gives up is held, by itself.
func TestWriteHolds(t *testing.T) {
	deps, _ := kubetest.NewDeps(t)
	deps.Holds = writer.NewHolds(time.Hour, nil)
	w := writer.New(deps, nil)
	port := func(address string) writer.Build {
		return func(*intent.Tree) ([]intent.Object, error) {
			return []intent.Object{
				intent.Put("/infra/segments/s", &intent.Segment{}).Object,
				intent.Put("/infra/segments/s/ports/p", &intent.SegmentPort{
					AddressBindings: []intent.AddressBinding{{IPAddress: address, MACAddress: "04:50:56:00:00:01"}},
				}).Object,
			}, nil
		}
	}
	held := func() []bool {
		return []bool{deps.Holds.Held(netip.MustParseAddr("10.0.0.1")), deps.Holds.Held(netip.MustParseAddr("10.0.0.2"))}
	}
	write(t, w, "A/a/1", port("10.0.0.1"))
	write(t, w, "A/a/1", port("10.0.0.1"))
	same(t, []bool{false, false}, held())
	write(t, w, "A/a/1", port("10.0.0.2"))
	same(t, []bool{true, false}, held())
	if _, err := w.Delete(t.Context(), "A/a/1"); err != nil {
		t.Fatal(err)
	}
	same(t, []bool{true, true}, held())
}

// What objects of a name had goes with them, but not what another kind or name
// has.
func TestDeleteGone(t *testing.T) {
	for _, tc := range []struct{ name, before, uid, want string }{
		{"the same one", "1", "1", "A/n/x/1 A/n/x/2"},
		{"made anew", "1", "2", "A/n/x/2"},
		{"gone", "2", "", "A/n/x/1"},
		{"never seen, gone", "", "", ""},
		{"never seen, there", "", "2", "A/n/x/1 A/n/x/2"},
	} {
		deps, _ := kubetest.NewDeps(t)
		w := writer.New(deps, nil)
		for i, owner := range []store.Owner{"A/n/x/1", "A/n/x/2", "A/n/xx/1", "B/n/x/1"} {
			write(t, w, owner, group(fmt.Sprint("g", i)))
		}
		out, err := w.DeleteGone(t.Context(), "A", types.NamespacedName{Namespace: "n", Name: "x"}, types.UID(tc.before), types.UID(tc.uid))
		if err != nil || !out.Written() {
			t.Errorf("%s: %+v, %v", tc.name, out, err)
		}
		want := strings.TrimSpace(tc.want + " A/n/xx/1 B/n/x/1")
		if got := strings.Trim(fmt.Sprint(deps.Store.Owners("")), "[]"); got != want {
			t.Errorf("%s: left %s, want %s", tc.name, got, want)
		}
	}
}
