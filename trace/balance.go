package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Balance is what a virtual server did with a packet.
type Balance struct {
	Server Object  `json:"virtual_server"`
	Pool   Object  `json:"pool,omitzero"`    // zero: it has none
	Member *Member `json:"member,omitempty"` // who gets the connection; nil: nobody
	// Why is what made the member the one: kept, persistence, round_robin,
	// least_connections, ip_hash. Which one's turn it is, a trace does not know:
	// it begins with a pool that nobody used.
	Why string `json:"why,omitempty"`
	// Members is the whole pool, if it has nobody who takes connections.
	Members []Member `json:"members,omitempty"`
}

// Member is a member of a pool as it is now.
type Member struct {
	Name       string     `json:"name,omitempty"`
	Address    netip.Addr `json:"address"`
	Port       uint16     `json:"port"` // that a connection of this kind gets to
	AdminState string     `json:"admin_state"`
	Backup     bool       `json:"backup,omitempty"`
	Health     string     `json:"health"`               // up or down, as monitors found
	HealthWhy  string     `json:"health_why,omitempty"` // what they found
}

// balance words the virtual server of s; nil if it is no step of one.
func (w *wording) balance(s pipeline.Step, port uint16) *Balance {
	if s.Server == nil || s.Stage != pipeline.StageLB && s.Stage != pipeline.StageDLB {
		return nil
	}
	b := &Balance{Server: virtualServer(s.Server)}
	if s.Pool != nil {
		b.Pool = object("pool", s.Pool.Name, s.Pool.Path)
	}
	if s.Member != nil {
		m := w.member(s.Server, s.Member, port)
		b.Member, b.Why = &m, s.Why.String()
	}
	if s.Reason == pipeline.ReasonLBNoMember && s.Pool != nil {
		for i := range s.Pool.Members {
			b.Members = append(b.Members, w.member(s.Server, &s.Pool.Members[i], port))
		}
	}
	return b
}

func virtualServer(v *table.VirtualServer) Object { return object("virtual server", v.Name, v.Path) }

// member words m for who asked v for a port.
func (n names) member(v *table.VirtualServer, m *table.Member, port uint16) Member {
	out := Member{
		Name: m.Name, Address: m.Addr, Port: memberPort(v, m, port), Backup: m.Backup,
		AdminState: adminState(m.Admin), Health: "up", HealthWhy: n.set.Health[m.ID].Why,
	}
	if !n.set.Up(m.ID) {
		out.Health = "down"
	}
	return out
}

// memberPort returns the port that m gets a connection on.
// Source: docs/pipeline.md §8.
func memberPort(v *table.VirtualServer, m *table.Member, asked uint16) uint16 {
	return cmp.Or(m.Port, v.MemberPort, asked)
}

// adminState returns NSX's word. Source: Policy API schema LBPoolMember.
func adminState(a table.AdminState) string {
	switch a {
	case table.MemberDraining:
		return "GRACEFUL_DISABLED"
	case table.MemberDisabled:
		return "DISABLED"
	}
	return "ENABLED"
}

// text says who m is and whether it takes connections.
func (m Member) text() string {
	text := netip.AddrPortFrom(m.Address, m.Port).String() + " " + m.AdminState
	if m.Backup {
		text += ", backup"
	}
	return text + ", " + m.health()
}

func (m Member) health() string {
	if m.HealthWhy == "" {
		return m.Health
	}
	return m.Health + " (" + m.HealthWhy + ")"
}

// text says what the virtual server did. Dropped packets have no member.
func (b *Balance) text() string {
	if b.Member == nil {
		if b.Pool.Component == "" {
			return b.Server.Component + ", which has no pool"
		}
		return b.Server.Component + ", " + b.Pool.Component
	}
	return fmt.Sprintf("%s, %s: %s by %s", b.Server.Component, b.Pool.Component, b.Member.text(), b.Why)
}

// maxMembersInAdvice bounds a line; JSON has all.
const maxMembersInAdvice = 16

// balanceAdvice says why a virtual server did not take the packet.
func balanceAdvice(s pipeline.Step, b *Balance, where string) string {
	server := b.Server.Component + " (" + b.Server.Path + ")"
	switch s.Reason {
	case pipeline.ReasonNATDepth:
		return fmt.Sprintf("%s of %s would be the second virtual server, or a third translation of one address, on this way: use the member's own address, or exempt the packet from NAT before", server, where)
	case pipeline.ReasonLBAccess:
		return fmt.Sprintf("the access list of %s does not let %s in: change the group of its access_list_control", server, s.Src)
	case pipeline.ReasonLBLimit:
		return fmt.Sprintf("%s, or every member of %s, has as many connections as it may: raise max_concurrent_connections, or add members", server, b.Pool.Component)
	case pipeline.ReasonLBNoMember:
		return server + ": " + noMember(b)
	}
	return s.Reason.Info().Advice
}

// noMember says what keeps each member of a pool from taking connections.
func noMember(b *Balance) string {
	switch {
	case b.Pool.Component == "":
		return "it has no pool: set pool_path"
	case len(b.Members) == 0:
		return b.Pool.Component + " (" + b.Pool.Path + ") has no members: add some"
	}
	var all []string
	for i, m := range b.Members {
		if i == maxMembersInAdvice {
			all = append(all, fmt.Sprintf("and %d more", len(b.Members)-i))
			break
		}
		all = append(all, m.text())
	}
	return "no member of " + b.Pool.Component + " (" + b.Pool.Path + ") takes connections: " + strings.Join(all, "; ")
}

// balanced is the tuple behind a virtual server's step.
func balanced(t packet.Tuple, s pipeline.Step) packet.Tuple {
	t.Src, t.Dst = s.Src, s.Dst
	if s.Member != nil {
		t.DstPort = memberPort(s.Server, s.Member, t.DstPort)
	}
	return t
}
