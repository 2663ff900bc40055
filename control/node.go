package control

import (
	"time"

	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// version is what a node does at a version of the store.
type version struct {
	number store.Version
	set    *table.Set // nil: nothing
}

// node is a node whose agent was heard of. Its Server's mu guards it.
type node struct {
	name    string
	session *session  // nil: no agent is connected
	since   time.Time // that there is a session, or none
	acked   version   // in force there; the set is nil if that is not known
	offered version   // sent last; it may be in force there although nobody heard so
	refused version   // valid iff reason is not empty
	reason  string    // why it was refused
	trouble string    // why there is no session; for people
}

// carry takes over a new version: a node whose Set stays as it is need not be
// asked.
func (n *node) carry(v store.Version, set *table.Set) {
	if n.acked.set != nil && n.acked.set == set {
		n.acked.number = v
	}
	if n.reason != "" && n.refused.set == set {
		n.refused.number = v
	}
}

// ack says that v is in force.
func (n *node) ack(v version) {
	n.acked, n.offered = v, version{}
	n.refused, n.reason = version{}, ""
}
