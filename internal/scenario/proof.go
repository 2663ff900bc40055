package scenario

import (
	"errors"
	"fmt"

	"github.com/weft-net/weft/trace"
)

// Proof is what a run of the scripts proves beyond their goldens. An error
// fails the script. One Proof serves one script.
type Proof interface {
	// Changed is told that files led to the tables of w.
	Changed(w *World, files []File) error
	// Traced is told each flow that is traced.
	Traced(w *World, f *Flow) error
	// Connect makes a connection and says what became of it, as
	// Flow.Outcome words it.
	Connect(w *World, f *Flow) (string, error)
	// Traceroute finds the hops, as Flow.Hops has them.
	Traceroute(w *World, f *Flow) ([]string, error)
	// Hold makes a connection, as Connect does, and keeps it if it was made.
	Hold(w *World, name string, f *Flow) (string, error)
	// Release closes a kept connection.
	Release(w *World, name string) error
	// Held sends bytes of data there and back on a kept connection and
	// returns Passes or what became of the data.
	Held(w *World, name string, bytes int) (string, error)
	// Inside runs a program in a machine's namespace and returns its output.
	Inside(machine string, argv []string) (string, error)
	// Empty is told that the tables of w must be empty.
	Empty(w *World) error
}

// Predicted is a Proof that checks nothing: live commands get the answers that
// the trace and the pipeline predict.
type Predicted struct {
	local *Local
	held  map[string]*Talk
	holds uint16 // calls of Hold
}

// NewPredicted returns a Predicted for one script.
func NewPredicted() *Predicted { return &Predicted{local: NewLocal(), held: map[string]*Talk{}} }

// Changed implements Proof.
func (p *Predicted) Changed(w *World, _ []File) error {
	p.local.Apply(w.Index)
	return nil
}

// Traced implements Proof.
func (*Predicted) Traced(*World, *Flow) error { return nil }

// Connect implements Proof.
func (*Predicted) Connect(_ *World, f *Flow) (string, error) { return f.Outcome(), nil }

// Traceroute implements Proof.
func (*Predicted) Traceroute(_ *World, f *Flow) ([]string, error) { return f.Hops(), nil }

// Hold implements Proof. What became of a connection that was not made is what
// the connections of the script so far make of it, which Flow.Outcome does not
// know.
func (p *Predicted) Hold(w *World, name string, f *Flow) (string, error) {
	if p.held[name] != nil {
		return "", fmt.Errorf("hold %s: is held already", name)
	}
	k := NewTalk(p.Own(f), p.local.Forward)
	p.holds++
	if got := k.Exchange(w.Set); got != Passes {
		return got, nil
	}
	p.held[name] = k
	return f.Outcome(), nil
}

// heldPort is the source port of the first kept connection.
const heldPort = 57344

// Own is f with the source port of the next kept connection.
func (p *Predicted) Own(f *Flow) trace.Question {
	q := f.Question
	q.SrcPort = heldPort + p.holds
	return q
}

// Holds reports whether a connection is kept.
func (p *Predicted) Holds(name string) bool { return p.held[name] != nil }

// Release implements Proof.
func (p *Predicted) Release(w *World, name string) error {
	k := p.held[name]
	if k == nil {
		return fmt.Errorf("release %s: is not held", name)
	}
	k.Close(w.Set)
	delete(p.held, name)
	return nil
}

// Held implements Proof. A few bytes stand for many: machines find the size of
// packets that passes.
func (p *Predicted) Held(w *World, name string, _ int) (string, error) {
	k := p.held[name]
	if k == nil {
		return "", fmt.Errorf("held %s: is not held", name)
	}
	return k.Exchange(w.Set), nil
}

// Inside implements Proof.
func (*Predicted) Inside(string, []string) (string, error) {
	return "", errors.New("inside: there are no machines here (write [netns] before it)")
}

// Empty implements Proof.
func (*Predicted) Empty(*World) error { return nil }
