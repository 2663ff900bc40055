package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// State is what became of a version.
type State int

// States.
const (
	Pending  State = iota // some node does not have it in force yet
	Realized              // all nodes have it, or a later one, in force
	Refused               // some node refused it, or a later one, and has none since
)

// String returns the state as people write it.
func (s State) String() string {
	switch s {
	case Pending:
		return "Pending"
	case Realized:
		return "Realized"
	case Refused:
		return "Refused"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// State says what became of version v on every node that is concerned, and why
// it is not Realized.
//
// Nodes are those whose agents were heard of since the Server began, and for
// which there are tables. One that is gone is waited for, and after ten minutes
// not any more; see Nodes.
func (s *Server) State(v store.Version) (State, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.compiled || v > s.version {
		return Pending, "it is not compiled yet"
	}
	waits, concerned := "", 0
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		n := s.nodes[name]
		if s.sets[name] == nil {
			continue
		}
		concerned++
		switch {
		case n.acked.set != nil && n.acked.number >= v:
		case n.reason != "" && n.refused.number >= v:
			return Refused, fmt.Sprintf("node %s: %s", name, n.reason)
		case waits != "":
		case n.session == nil:
			waits = fmt.Sprintf("node %s: its agent is not connected since %s", name, n.since.UTC().Format(time.RFC3339))
		default:
			waits = fmt.Sprintf("node %s: has not answered yet", name)
		}
	}
	switch {
	case concerned == 0:
		return Pending, "no agent is connected"
	case waits != "":
		return Pending, waits
	}
	return Realized, ""
}

// Changed returns what is closed as soon as State may answer otherwise.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Set returns what a node shall do now, and since which version of the store it
// is known; nil: the node is unknown.
func (s *Server) Set(node string) (*table.Set, store.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[node], s.version
}

// Node is how far a node is.
type Node struct {
	Name      string        `json:"name"`
	Connected bool          `json:"connected"`
	Since     time.Time     `json:"since,omitzero"`    // of Connected
	Version   store.Version `json:"version"`           // in force there, as far as it is known; 0: none
	Refused   store.Version `json:"refused,omitempty"` // the latest one, unless a later one is in force
	Error     string        `json:"error,omitempty"`   // why it was refused, or why there is no connection or no tables
}

// Nodes returns the nodes that State waits for, those that get no tables, and
// those that have tables and no agent, by name.
func (s *Server) Nodes() []Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Node
	names := maps.Clone(s.sets)
	for name := range s.nodes {
		names[name] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := s.nodes[name]
		if n == nil {
			out = append(out, Node{Name: name, Error: "no agent was connected"})
			continue
		}
		row := Node{Name: name, Connected: n.session != nil, Since: n.since, Error: n.trouble}
		if n.acked.set != nil {
			row.Version = n.acked.number
		}
		if n.reason != "" {
			row.Refused, row.Error = n.refused.number, n.reason
		}
		if s.compiled && s.sets[name] == nil {
			row.Error = fmt.Sprintf("there are no tables for this node (%s)", strings.Join(slices.Sorted(maps.Keys(s.sets)), ", "))
		}
		out = append(out, row)
	}
	return out
}

// Version returns the version of the store that was compiled last.
func (s *Server) Version() store.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Problems returns what the compiler has to say about the intent, by path.
func (s *Server) Problems() []intent.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems
}

// forgetGone drops nodes that have had no agent for too long.
func (s *Server) forgetGone(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range s.nodes {
		if n.session == nil && now.Sub(n.since) > s.forget {
			s.log.Warn("node is gone; nothing waits for it any more", "node", name, "since", n.since)
			delete(s.nodes, name)
			s.tell()
		}
	}
}
