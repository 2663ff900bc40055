package agent

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Condition is something about the node that needs somebody's attention, or did
// until a short time ago.
type Condition struct {
	Type    string    `json:"type"`             // one of the constants below
	Object  string    `json:"object,omitempty"` // policy path or kernel map; empty: the node
	Status  bool      `json:"status"`           // whether it holds now
	Reason  string    `json:"reason"`           // one word
	Message string    `json:"message"`          // for people
	Since   time.Time `json:"since"`            // of Status
}

// Types of conditions. The names are stable.
const (
	NotRealized      = "NotRealized"      // the accepted tables are not in force as they should be
	DeviceMissing    = "DeviceMissing"    // a port has no device
	NotConnected     = "NotConnected"     // weftd, where tables come from, can not be reached
	NoPort           = "NoPort"           // an attached pod's port is in the tables no more, or that of a device is not
	InterfaceDiffers = "InterfaceDiffers" // an attached pod's interface is not as its port says
	NoActiveMember   = "NoActiveMember"   // a pool takes no connections
	MemberDown       = "MemberDown"       // a member of a pool does not answer
	PortsExhausted   = "PortsExhausted"   // SNAT found no free source port since the last look
	TableFull        = "TableFull"        // a kernel map is nearly full, or took no new entry since the last look
	Displaced        = "Displaced"        // connections gave way to new ones since the last look
)

// remembered is how long a condition that has ended is still told.
const remembered = 5 * time.Minute

// subject is what a Condition is about.
type subject struct{ kind, object string }

// ledger is all that is told of conditions, each subject once.
type ledger map[subject]Condition

// observe brings l up to date with what holds at now, and returns what began or
// ended, in order.
func (l ledger) observe(found []Condition, now time.Time) (news []Condition) {
	holds := map[subject]bool{}
	for _, c := range found {
		key := subject{c.Type, c.Object}
		was, known := l[key]
		c.Status, c.Since = true, now
		if known && was.Status {
			c.Since = was.Since
		} else if !holds[key] {
			news = append(news, c)
		}
		holds[key], l[key] = true, c
	}
	for key, c := range l {
		switch {
		case holds[key]:
		case c.Status:
			c.Status, c.Since = false, now
			l[key] = c
			news = append(news, c)
		case now.Sub(c.Since) > remembered:
			delete(l, key)
		}
	}
	slices.SortFunc(news, compareConditions)
	return news
}

// list returns all conditions, those that hold first.
func (l ledger) list() []Condition {
	out := slices.AppendSeq(make([]Condition, 0, len(l)), maps.Values(l))
	slices.SortFunc(out, compareConditions)
	return out
}

func compareConditions(a, b Condition) int {
	if a.Status != b.Status {
		if a.Status {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Object, b.Object))
}

// lacking returns the conditions of ports whose devices are not there. The
// caller has a.mu; there are tables.
func (a *Agent) lacking() (out []Condition) {
	if len(a.missing) == 0 {
		return nil
	}
	devices := a.devices(a.tables)
	for _, path := range a.missing {
		if name := devices[path]; name != "" { // else it was given up since
			out = append(out, Condition{Type: DeviceMissing, Object: path, Reason: "NoSuchDevice", Message: "device " + name + " is not there"})
		}
	}
	return out
}

// unwell is what unhealthyOf found, and where.
type unwell struct {
	set    *table.Set // has nothing but what it looks at
	health map[table.MemberID]table.Health
	found  []Condition
}

// unhealthy is unhealthyOf the tables in force, which there are; it looks again
// only if there is something else to see. The caller has a.mu.
func (a *Agent) unhealthy() []Condition {
	set, h := a.tables.Set, a.monitors.Health()
	if u := a.unwell; u == nil || !u.set.VIPs.Same(set.VIPs) || !u.set.Pools.Same(set.Pools) || !maps.Equal(u.health, h) {
		a.unwell = &unwell{&table.Set{VIPs: set.VIPs, Pools: set.Pools}, h, unhealthyOf(set, h)}
	}
	return a.unwell.found
}

// unhealthyOf returns the conditions of pools and members, as h has them. Pools
// that no virtual server uses have none.
func unhealthyOf(set *table.Set, h map[table.MemberID]table.Health) (out []Condition) {
	used := map[table.PoolID]bool{}
	for _, v := range set.VIPs.All() {
		for _, s := range v.Servers {
			used[s.Pool] = true
		}
	}
	for id, p := range set.Pools.All() {
		if !used[id] {
			continue
		}
		if len(p.Active(h)) == 0 {
			out = append(out, idle(p, h))
		}
		for i := range p.Members {
			if m := &p.Members[i]; h[m.ID].Down {
				out = append(out, Condition{
					Type: MemberDown, Object: p.Path + " " + address(m), Reason: "DoesNotAnswer", Message: h[m.ID].Why,
				})
			}
		}
	}
	return out
}

// idle is the condition of a pool without an active member.
func idle(p *table.Pool, h map[table.MemberID]table.Health) Condition {
	c := Condition{Type: NoActiveMember, Object: p.Path, Reason: "NoMembers", Message: "the pool has no members"}
	if len(p.Members) == 0 {
		return c
	}
	down := 0
	for i := range p.Members {
		if h[p.Members[i].ID].Down {
			down++
		}
	}
	c.Reason = "MembersDown"
	if down == 0 {
		c.Reason = "MembersDisabled"
	}
	c.Message = fmt.Sprintf("none of %d members takes connections: %d down, %d not enabled", len(p.Members), down, len(p.Members)-down)
	return c
}

// address is how a member is called within its pool.
func address(m *table.Member) string {
	if m.Port == 0 {
		return m.Addr.String()
	}
	return netip.AddrPortFrom(m.Addr, m.Port).String()
}

// nearlyFull is how full a map of fixed rows may be, in percent.
const nearlyFull = 90

// rising returns the conditions that counters tell: what grew between two
// looks, and maps that are nearly full now.
func rising(before, now dataplane.Status) (out []Condition) {
	grown := func(r pipeline.Reason) uint64 {
		name := r.String()
		if now.Drops[name] < before.Drops[name] {
			return now.Drops[name] // the data plane began anew
		}
		return now.Drops[name] - before.Drops[name]
	}
	if n := grown(pipeline.ReasonSNATExhausted); n > 0 {
		out = append(out, Condition{Type: PortsExhausted, Reason: "SourcePortsInUse", Message: fmt.Sprintf("%d packets dropped: %s", n, pipeline.ReasonSNATExhausted.Info().Doc)})
	}
	if n := grown(pipeline.ReasonFlowTableFull); n > 0 {
		out = append(out, Condition{Type: TableFull, Object: flowTable, Reason: "NoRoom", Message: fmt.Sprintf("%d packets dropped: %s", n, pipeline.ReasonFlowTableFull.Info().Doc)})
	}
	evicted := map[string]uint64{}
	for _, m := range before.Maps {
		evicted[m.Name] = m.Evicted
	}
	for _, m := range now.Maps {
		// a flow table that is full of old connections is as it should be
		if m.Name != flowTable && m.Max > 0 && m.Entries*100 >= m.Max*nearlyFull {
			out = append(out, Condition{Type: TableFull, Object: m.Name, Reason: "NearlyFull", Message: fmt.Sprintf("%d entries (of %d)", m.Entries, m.Max)})
		}
		if m.Evicted > evicted[m.Name] {
			out = append(out, Condition{Type: Displaced, Object: m.Name, Reason: "Full", Message: fmt.Sprintf("%d entries gave way to newer ones (%d fit)", m.Evicted-evicted[m.Name], m.Max)})
		}
	}
	return out
}

// flowTable is the map of connections, which is full of old ones by and by.
const flowTable = "weft_flows"
