package writer

import (
	"log/slog"
	"time"

	"github.com/weft-net/weft/store"
)

// Deps is what all controllers have in common. One of them is shared by all of
// a process.
type Deps struct {
	Store       *store.Store
	Realization Realization
	Holds       *Holds
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// State is what became of a version of intent.
type State int

// States of a version.
const (
	Pending  State = iota // a node that is concerned has not acknowledged it yet
	Realized              // every node that is concerned has it in force
	Refused               // a node that is concerned does not take it
)

// String returns the state as conditions spell it.
func (s State) String() string {
	switch s {
	case Realized:
		return "Realized"
	case Refused:
		return "Refused"
	}
	return "Pending"
}

// Realization says what became of versions of intent.
type Realization interface {
	// State says what became of version v on every node that is concerned,
	// and if it was refused, by whom and why.
	State(v store.Version) (State, string)
	// Changed is closed and made anew whenever State may answer otherwise.
	Changed() <-chan struct{}
}
