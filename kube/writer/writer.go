package writer

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// Writer writes for one controller. It is safe for concurrent use.
type Writer struct {
	deps     Deps
	recorder events.EventRecorder // nil: no Events
	waiting  *waiting

	mu   sync.Mutex
	told map[types.UID]string // what the newest Event of an object said
}

// New returns the Writer of one controller. Events are recorded by recorder,
// mgr.GetEventRecorder(name); nil: there are none. The controller must watch
// Source.
func New(deps Deps, recorder events.EventRecorder) *Writer {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Writer{deps: deps, recorder: recorder, waiting: newWaiting(deps), told: map[types.UID]string{}}
}

// Fault is why intent cannot be built: a mistake in a Kubernetes object, or
// something that it needs and is not there. A build function returns it as its
// error; what the owner has stays as it is, and the request comes back when the
// tree changed.
type Fault struct {
	Reason string // of the condition, such as SubnetsExhausted
	Field  string // such as spec.loadBalancerIP; empty: the object
	Msg    string // value: fact (allowed)
}

// Error returns field and message.
func (f *Fault) Error() string {
	if f.Field == "" {
		return f.Msg
	}
	return f.Field + ": " + f.Msg
}

// Build returns all that an owner shall have, each with the path that
// intent.Put gives. It must neither keep nor change the tree and its objects,
// must not use the Store, and may be called several times. What it allocates by
// looking at the tree nobody else has.
//
// An error that is a *Fault becomes an Outcome; any other is returned as it is.
type Build func(t *intent.Tree) ([]intent.Object, error)

// Write makes what build returns all that owner has. The error is for what only
// a retry can mend; mistakes are in the Outcome.
//
// Addresses that the owner had and has no more are held for a while, see Holds.
func (w *Writer) Write(ctx context.Context, owner store.Owner, build Build) (Outcome, error) {
	var seen store.Version
	w.deps.Store.Read(func(_ *intent.Tree, v store.Version) { seen = v })
	before := addressesOf(w.deps.Store.Owned(owner))
	version, problems, err := w.deps.Store.ReplaceWith(ctx, owner, build)
	out := Outcome{Version: version, Problems: problems, seen: seen}
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		out.Reason, out.Message, out.blocked = fault.Reason, fault.Error(), true
		return out, nil
	case err != nil:
		return Outcome{}, err
	case intent.HasErrors(problems):
		out.Reason, out.Message, out.blocked = reasonOf(problems), textOf(problems), true
		return out, nil
	}
	after := w.deps.Store.Owned(owner)
	w.release(owner, before, addressesOf(after))
	if len(after) == 0 {
		return Nothing(), nil // the version would be that of others
	}
	out.written = true
	return w.realization(out), nil
}

// Delete makes owner have nothing. It is blocked while others need or sit below
// what it has.
func (w *Writer) Delete(ctx context.Context, owner store.Owner) (Outcome, error) {
	if len(w.deps.Store.Owned(owner)) == 0 {
		return Nothing(), nil
	}
	return w.Write(ctx, owner, func(*intent.Tree) ([]intent.Object, error) { return nil, nil })
}

// DeleteGone makes objects of a kind and name that are gone have nothing. uid is
// of the one that is there, before of the one that was when the caller looked
// last; empty: none. What is left of one that the caller never saw, while there is
// another of its name, is for whoever sweeps owners. The Outcome is written if
// nothing is left to do.
func (w *Writer) DeleteGone(ctx context.Context, kind string, key types.NamespacedName, before, uid types.UID) (Outcome, error) {
	var gone []types.UID
	switch {
	case before != "" && before != uid:
		gone = append(gone, before)
	case before == "" && uid == "":
		for _, o := range w.deps.Store.Owners(Prefix(kind, key)) {
			if _, _, left, ok := ParseOwner(o); ok {
				gone = append(gone, left)
			}
		}
	}
	for _, u := range gone {
		if out, err := w.Delete(ctx, OwnerNamed(kind, key, u)); err != nil || !out.Written() {
			return out, err
		}
		w.Forget(u)
	}
	return Nothing(), nil
}

// Nothing returns the Outcome of having nothing to write.
func Nothing() Outcome { return Outcome{Reason: Realized.String(), State: Realized, written: true} }

// Blocked returns the Outcome of an object for which nothing can be built yet,
// without looking at the tree.
func (w *Writer) Blocked(f *Fault) Outcome {
	var seen store.Version
	w.deps.Store.Read(func(_ *intent.Tree, v store.Version) { seen = v })
	return Outcome{Reason: f.Reason, Message: f.Error(), blocked: true, seen: seen}
}

// Refresh returns the Outcome with what became of its version by now.
func (w *Writer) Refresh(o Outcome) Outcome {
	if o.blocked {
		return o
	}
	return w.realization(o)
}

// realization fills in the state of a version.
func (w *Writer) realization(o Outcome) Outcome {
	o.State, o.Message = w.deps.Realization.State(o.Version)
	o.Reason = o.State.String()
	switch {
	case o.State == Realized && len(o.Problems) > 0:
		o.Message = textOf(o.Problems)
	case o.State == Pending && o.Message == "":
		o.Message = "not all nodes have acknowledged it yet"
	}
	return o
}

// release holds the addresses of before, which owner had, that are not among
// after.
func (w *Writer) release(owner store.Owner, before, after map[netip.Addr]bool) {
	if w.deps.Holds == nil {
		return
	}
	for a := range before {
		if !after[a] {
			w.deps.Holds.Release(a, owner)
		}
	}
}

// reasonOf returns the reason of a condition that tells problems.
func reasonOf(problems []intent.Problem) string {
	for _, p := range problems {
		if p.Severity != intent.Error {
			continue
		}
		switch p.Kind {
		case intent.Duplicate, intent.Overlap, intent.IsGateway:
			return ReasonConflict
		case intent.Dangling, intent.BadParent, intent.NoEdge:
			return ReasonNotFound
		case intent.Referenced:
			return ReasonInUse
		}
		break
	}
	return ReasonInvalid
}

// textOf returns problems as one message, the first three in full.
func textOf(problems []intent.Problem) string {
	const most = 3
	var parts []string
	for i, p := range problems {
		if i == most {
			parts = append(parts, "and "+itoa(len(problems)-most)+" more")
			break
		}
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "; ")
}
