package policy

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/writer"
)

// patience is how long intent may take to be in force before a policy says that
// it is not: mostly it is there sooner, and that spares a write.
const patience = 2 * time.Second

// memory is what a controller knows of the objects of its kind.
type memory struct {
	kind string
	deps writer.Deps
	w    *writer.Writer
	now  func() time.Time

	mu   sync.Mutex
	seen map[types.NamespacedName]seen
}

type seen struct {
	uid     types.UID
	pending time.Time // since when its intent is not in force; zero: it is
}

func newMemory(kind string, deps writer.Deps, w *writer.Writer) *memory {
	m := &memory{kind: kind, deps: deps, w: w, now: deps.Now, seen: map[types.NamespacedName]seen{}}
	if m.now == nil {
		m.now = time.Now
	}
	return m
}

// forget makes objects of the name that are gone have nothing, and remembers uid,
// which is of the one that is there; empty: there is none. See
// writer.DeleteGone.
func (m *memory) forget(ctx context.Context, key types.NamespacedName, uid types.UID) (writer.Outcome, error) {
	m.mu.Lock()
	before := m.seen[key]
	m.mu.Unlock()
	if out, err := m.w.DeleteGone(ctx, m.kind, key, before.uid, uid); err != nil || !out.Written() {
		return out, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case uid == "":
		delete(m.seen, key)
	case before.uid != uid:
		m.seen[key] = seen{uid: uid}
	}
	return writer.Nothing(), nil
}

// settled reports whether an outcome can be told: it is not pending, or has been
// for long. Else wait is when to look again.
func (m *memory) settled(key types.NamespacedName, out writer.Outcome) (wait time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.seen[key]
	if out.State != writer.Pending || !out.Written() {
		m.seen[key] = seen{uid: was.uid}
		return 0, true
	}
	now := m.now()
	if was.pending.IsZero() {
		was.pending = now
		m.seen[key] = was
	}
	wait = patience - now.Sub(was.pending)
	return max(wait, 0), wait <= 0
}

// await returns what a reconciler returns: the request comes back when its
// outcome may be another, and no later than wait, if that is not 0.
func (m *memory) await(r reconcile.Request, out writer.Outcome, wait time.Duration) reconcile.Result {
	result := m.w.Await(r, out)
	if wait > 0 && (result.RequeueAfter == 0 || wait < result.RequeueAfter) {
		result.RequeueAfter = wait
	}
	return result
}

// numbered gives the rules among objects their numeric ids.
func numbered(t *intent.Tree, objects []intent.Object) []intent.Object {
	var rules []*intent.Rule
	for _, o := range objects {
		if r, ok := o.(*intent.Rule); ok {
			rules = append(rules, r)
		}
	}
	writer.AssignRuleIDs(t, rules...)
	return objects
}
