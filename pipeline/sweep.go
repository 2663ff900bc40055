package pipeline

import "github.com/weft-net/weft/table"

// Sweep makes room and counts anew: it deletes entries without a peer, pairs
// that are not alive, and held and fragment rows that are too old; it adds the
// traffic of the others to the tallies, and sets open connections to what it
// finds. What is known of ids that set does not have goes too.
//
// Run never uses what is too old: a Sweep changes no verdict but by what LRU
// replacement lost of the open connections, and by fails. Cost O(entries + set).
// Source: docs/pipeline.md §6, Loads.
func (s *State) Sweep(now Tick, set *table.Set) {
	s.sweepFlows(now, &set.Timeouts)
	for _, n := range s.fragments.nodes {
		if now-n.val.seen > fragmentTimeout {
			s.fragments.remove(n)
		}
	}
	for _, n := range s.held.nodes {
		if now-n.val.seen > heldTimeout {
			s.held.remove(n)
		}
	}
	s.forget(set)
}

// sweepFlows deletes pairs that are dead, and counts the others.
func (s *State) sweepFlows(now Tick, t *table.Timeouts) {
	for _, n := range s.flows.nodes {
		peer := s.peer(n)
		switch {
		case peer == nil:
			s.flows.remove(n)
		case !alive(n, peer, t, now):
			s.expire(n, peer)
		}
	}
	clear(s.servers)
	for id, l := range s.members {
		l.open = 0
		s.members[id] = l
	}
	for _, n := range s.flows.nodes {
		if n.val.Reply {
			continue
		}
		s.settle(n, s.peer(n))
		if n.val.Server != 0 && isOpen(&n.val, &s.peer(n).val) {
			s.servers[n.val.Server]++
			l := s.members[n.val.Member]
			l.open++
			s.members[n.val.Member] = l
		}
	}
}

// closingTicks is how long honest ends go on after a FIN or RST.
const closingTicks = 2

// isOpen reports whether a live pair counts as open: a FIN that only one side
// believes in does not close it.
func isOpen(f, peer *Flow) bool {
	return f.State != ConnClosing || f.Seen > f.Closed+closingTicks || peer.Seen > f.Closed+closingTicks
}

// forget drops loads and tallies of what set does not have.
func (s *State) forget(set *table.Set) {
	members := map[table.MemberID]bool{}
	for _, p := range set.Pools.All() {
		for i := range p.Members {
			members[p.Members[i].ID] = true
		}
	}
	for id, l := range s.members {
		if l.open == 0 && !members[id] {
			delete(s.members, id)
		}
	}
	for id := range s.turns {
		if set.Pools.Get(id) == nil {
			delete(s.turns, id)
		}
	}
	known := inUse(set)
	for k := range s.tallies {
		if !known[k] {
			delete(s.tallies, k)
		}
	}
}
