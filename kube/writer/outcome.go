package writer

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// Reasons of conditions and Events besides the States' names.
const (
	ReasonInvalid  = "Invalid"  // a field has a value that is not allowed
	ReasonConflict = "Conflict" // somebody else has what it wants
	ReasonNotFound = "NotFound" // something that it names is not there
	ReasonInUse    = "InUse"    // others need what shall go
)

// Outcome is what became of a Write.
type Outcome struct {
	Version  store.Version // of the owner; 0 if nothing could be written
	State    State         // of Version; Pending if nothing could be written
	Reason   string        // the State's name, or why nothing could be written
	Message  string
	Problems []intent.Problem // warnings too

	blocked bool          // nothing could be written, or not all that was asked for
	written bool          // something was
	seen    store.Version // what the tree was before
}

// OK reports whether the intent is in force.
func (o Outcome) OK() bool { return !o.blocked && o.State == Realized }

// Written reports whether the intent is in the store, if not all of it.
func (o Outcome) Written() bool { return o.written }

// Lacking returns the outcome of a Write that could do all but what f says; of
// a nil f, o itself. It is not OK, and the request comes back as if it were
// blocked.
func (o Outcome) Lacking(f *Fault) Outcome {
	if f == nil || o.blocked {
		return o
	}
	o.Reason, o.Message, o.blocked = f.Reason, f.Error(), true
	return o
}

// Condition returns the outcome as a condition of an object whose generation
// was looked at.
func (o Outcome) Condition(kind string, generation int64) metav1.Condition {
	status := metav1.ConditionFalse
	if o.OK() {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{
		Type: kind, Status: status, ObservedGeneration: generation, Reason: o.Reason, Message: shorten(o.Message, 32768),
	}
}

// Invalid returns the Outcome of problems that were found before anything was
// written.
func (w *Writer) Invalid(problems []intent.Problem) Outcome {
	o := w.Blocked(&Fault{Reason: reasonOf(problems), Msg: textOf(problems)})
	o.Problems = problems
	return o
}

// shorten cuts s to at most n bytes.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}

func itoa(n int) string { return strconv.Itoa(n) }
