package pipeline

import (
	"maps"

	"github.com/weft-net/weft/table"
)

// The rules and NAT rows that one connection is counted for (§10).
const (
	maxFlowRules = 6
	maxFlowNATs  = 4
)

// TallyKind says what counts.
type TallyKind uint8

// The kinds.
const (
	TallyRule   TallyKind = iota + 1 // firewall rules, by rule id
	TallyNAT                         // NAT rules, by rule id
	TallyServer                      // virtual servers
)

// TallyKey names what counts.
type TallyKey struct {
	Kind TallyKind
	ID   uint32
}

// Tally is what a rule or virtual server had to do with: connections that it
// let pass or took and packets that it dropped, and the traffic of those
// connections, both directions. Source: docs/pipeline.md §10, Counts.
type Tally struct {
	Hits    uint64
	Packets uint64 // as of each connection's end, or of the last Sweep
	Bytes   uint64 // IP total lengths, likewise
}

// Tally returns the counts of k.
func (s *State) Tally(k TallyKey) Tally { return s.tallies[k] }

// Tallies returns a copy of all counts that are not zero.
func (s *State) Tallies() map[TallyKey]Tally {
	return maps.Clone(s.tallies)
}

// note enters id at the first free place of a flow's list, if there is one.
func note(list []uint32, id uint32) {
	for i := range list {
		if list[i] == 0 {
			list[i] = id
			return
		}
	}
}

// counted calls add for all that o, an original, is counted for.
func counted(o *Flow, add func(TallyKey)) {
	for _, id := range o.Rules {
		if id != 0 {
			add(TallyKey{TallyRule, id})
		}
	}
	for _, id := range o.NATs {
		if id != 0 {
			add(TallyKey{TallyNAT, id})
		}
	}
	if o.Server != 0 {
		add(TallyKey{TallyServer, uint32(o.Server)})
	}
}

func (s *State) add(k TallyKey, t Tally) {
	sum := s.tallies[k]
	sum.Hits += t.Hits
	sum.Packets += t.Packets
	sum.Bytes += t.Bytes
	s.tallies[k] = sum
}

// hit counts a connection that o, its original, begins.
func (s *State) hit(o *Flow) {
	counted(o, func(k TallyKey) { s.add(k, Tally{Hits: 1}) })
}

// refused counts a packet that a rule or virtual server dropped.
func (s *State) refused(why Reason, id uint32) {
	switch why {
	case ReasonDFWRule, ReasonGatewayRule:
		s.add(TallyKey{TallyRule, id}, Tally{Hits: 1})
	case ReasonLBAccess, ReasonLBLimit, ReasonLBNoMember:
		s.add(TallyKey{TallyServer, id}, Tally{Hits: 1})
	}
}

// settle counts the traffic of a pair that was not counted yet.
func (s *State) settle(e, peer *entry) {
	o := &e.val
	if o.Reply {
		o = &peer.val
	}
	t := Tally{
		Packets: e.val.Packets + peer.val.Packets - o.TalliedPackets,
		Bytes:   e.val.Bytes + peer.val.Bytes - o.TalliedBytes,
	}
	if t.Packets == 0 {
		return
	}
	counted(o, func(k TallyKey) { s.add(k, t) })
	o.TalliedPackets += t.Packets
	o.TalliedBytes += t.Bytes
}

// inUse returns the keys of all that a Set can count.
func inUse(set *table.Set) map[TallyKey]bool {
	out := map[TallyKey]bool{}
	for _, rs := range set.Rulesets.All() {
		for _, r := range rs.Rules {
			out[TallyKey{TallyRule, r.ID}] = true
		}
	}
	for _, l := range set.NAT.All() {
		for i := range l.Rules {
			out[TallyKey{TallyNAT, l.Rules[i].ID}] = true
		}
	}
	for _, v := range set.VIPs.All() {
		for _, srv := range v.Servers {
			out[TallyKey{TallyServer, uint32(srv.ID)}] = true
		}
	}
	return out
}
