package scenario

import (
	"errors"
	"fmt"
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
	// Hold makes a connection, as Connect does, and keeps it.
	Hold(w *World, name string, f *Flow) (string, error)
	// Held sends data there and back on a kept connection and returns
	// Passes or what became of the data.
	Held(w *World, name string) (string, error)
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
}

// NewPredicted returns a Predicted for one script.
func NewPredicted() *Predicted { return &Predicted{NewLocal(), map[string]*Talk{}} }

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

// Hold implements Proof.
func (p *Predicted) Hold(w *World, name string, f *Flow) (string, error) {
	return f.Outcome(), p.keep(w, name, NewTalk(f.Question, p.local.Forward))
}

// keep begins a connection under a name.
func (p *Predicted) keep(w *World, name string, k *Talk) error {
	if p.held[name] != nil {
		return fmt.Errorf("hold %s: is held already", name)
	}
	if got := k.Exchange(w.Set); got != Passes {
		return fmt.Errorf("hold %s: the connection is %s", name, got)
	}
	p.held[name] = k
	return nil
}

// Held implements Proof.
func (p *Predicted) Held(w *World, name string) (string, error) {
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
