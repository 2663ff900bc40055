package dataplane

import (
	"net/netip"

	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Names says what people call what a data plane knows by number. It knows the
// objects of one Set; what a Set had before has no name.
type Names struct {
	set     *table.Set
	rules   map[uint32]RuleName
	nats    map[uint32]RuleName
	servers map[table.VirtualServerID]*table.VirtualServer
	members map[table.MemberID]*MemberName
}

// RuleName is a firewall or NAT rule. The zero value: nobody knows it.
type RuleName struct {
	ID     uint32
	Name   string
	Path   string // policy path
	Policy string // of the policy or, for NAT, empty
	Type   string // NAT's word, such as SNAT, or the firewall's action
	Tag    string
}

// MemberName is a member and the pool that it is in.
type MemberName struct {
	Pool *table.Pool
	table.Member
}

// Address returns the member's address, with its port if it has one of its own.
func (m *MemberName) Address() string {
	if m.Port == 0 {
		return m.Addr.String()
	}
	return netip.AddrPortFrom(m.Addr, m.Port).String()
}

// NamesOf returns the names of set's objects. Cost O(rules + members).
func NamesOf(set *table.Set) *Names {
	n := &Names{
		set: set, rules: map[uint32]RuleName{}, nats: map[uint32]RuleName{},
		servers: map[table.VirtualServerID]*table.VirtualServer{}, members: map[table.MemberID]*MemberName{},
	}
	for _, rs := range set.Rulesets.All() {
		for _, r := range rs.Rules {
			n.rules[r.ID] = RuleName{ID: r.ID, Name: r.Name, Path: r.Path, Policy: r.Policy, Type: r.Action.String(), Tag: r.Tag}
		}
	}
	for _, l := range set.NAT.All() {
		for i := range l.Rules {
			r := &l.Rules[i]
			n.nats[r.ID] = RuleName{ID: r.ID, Name: r.Name, Path: r.Path, Type: r.Type}
		}
	}
	for _, v := range set.VIPs.All() {
		for _, s := range v.Servers {
			n.servers[s.ID] = s
		}
	}
	for _, p := range set.Pools.All() {
		for _, m := range p.Members {
			n.members[m.ID] = &MemberName{p, m}
		}
	}
	return n
}

// Rule returns a firewall rule; of one that is gone only the id.
func (n *Names) Rule(id uint32) RuleName { return known(n.rules, id) }

// NAT returns a NAT rule; of one that is gone only the id.
func (n *Names) NAT(id uint32) RuleName { return known(n.nats, id) }

func known(rules map[uint32]RuleName, id uint32) RuleName {
	r := rules[id]
	r.ID = id
	return r
}

// Server returns a virtual server; nil if the Set has none of this number.
func (n *Names) Server(id table.VirtualServerID) *table.VirtualServer { return n.servers[id] }

// Member returns a member; nil if the Set has none of this number.
func (n *Names) Member(id table.MemberID) *MemberName { return n.members[id] }

// Port returns the name and policy path of a port or uplink; both are empty if
// the Set has none of this number.
func (n *Names) Port(id table.PortID) (name, path string) {
	if p := n.set.Ports.Get(id); p != nil {
		return p.Name, p.Path
	}
	if u := n.set.Uplinks.Get(id); u != nil {
		return u.Name, u.Path
	}
	return "", ""
}

// Router returns the name and policy path of a router, likewise.
func (n *Names) Router(id table.VRFID) (name, path string) {
	if v := n.set.VRFs.Get(id); v != nil {
		return v.Name, v.Path
	}
	return "", ""
}

// Tallied returns the name of what is counted, as a rule; a virtual server has
// no id for people.
func (n *Names) Tallied(k pipeline.TallyKey) RuleName {
	switch k.Kind {
	case pipeline.TallyRule:
		return n.Rule(k.ID)
	case pipeline.TallyNAT:
		return n.NAT(k.ID)
	}
	if s := n.Server(table.VirtualServerID(k.ID)); s != nil {
		return RuleName{Name: s.Name, Path: s.Path}
	}
	return RuleName{}
}

// Countable calls fn with all that can be counted, in no order.
func (n *Names) Countable(fn func(pipeline.TallyKey)) {
	for id := range n.rules {
		fn(pipeline.TallyKey{Kind: pipeline.TallyRule, ID: id})
	}
	for id := range n.nats {
		fn(pipeline.TallyKey{Kind: pipeline.TallyNAT, ID: id})
	}
	for id := range n.servers {
		fn(pipeline.TallyKey{Kind: pipeline.TallyServer, ID: uint32(id)})
	}
}
