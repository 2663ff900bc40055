package bpftest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// past is what pipeline's State does not keep.
type past struct {
	born     map[pipeline.FlowKey]uint32 // ticks
	nextHops map[table.NextHopID]netip.Addr
	servers  map[table.VirtualServerID]bool // of all Sets so far
	members  map[table.MemberID]bool
	swept    bool // and no packet since
}

func newPast() past {
	return past{map[pipeline.FlowKey]uint32{}, map[table.NextHopID]netip.Addr{}, map[table.VirtualServerID]bool{}, map[table.MemberID]bool{}, false}
}

// learn notes what a Set that was applied has.
func (p *past) learn(set *table.Set) {
	for id, n := range set.NextHops.All() {
		p.nextHops[id] = n.Addr
	}
	for _, v := range set.VIPs.All() {
		for _, s := range v.Servers {
			p.servers[s.ID] = true
		}
	}
	for _, pool := range set.Pools.All() {
		for i := range pool.Members {
			p.members[pool.Members[i].ID] = true
		}
	}
}

// compareValues lets cmp look into addresses.
var compareValues = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// Compare fails the test if what the kernel keeps differs from what pipeline
// does: connections, loads, tallies, fragments and persistence rows.
func (j *Judge) Compare() {
	j.t.Helper()
	want, got := j.connections(), j.kernelConnections()
	for key, c := range got { // what reached the other side is the same, so one of them tells more
		if w, ok := want[key]; ok && cmp.Equal(w, c, compareValues) {
			delete(want, key)
			delete(got, key)
		}
	}
	j.equal("connections", want, got)
	loads, err := j.d.Loads(context.Background())
	if err != nil {
		j.fatal(err)
	}
	j.equal("loads", j.loads(), loads)
	tallies, err := j.d.Tallies(context.Background())
	if err != nil {
		j.fatal(err)
	}
	j.equal("tallies", j.state.Tallies(), tallies)
	rows, err := j.d.Rows()
	if err != nil {
		j.fatal(err)
	}
	if !j.swept { // which of the held fragments that are too old are still there is nobody's business
		rows.Held = j.state.Held()
	}
	j.equal("rows", ebpf.Rows{Flows: j.state.Len(), Fragments: j.state.Fragments(), Held: j.state.Held(), Clients: j.state.Clients()}, rows)
}

func (j *Judge) equal(what string, want, got any) {
	j.t.Helper()
	if d := cmp.Diff(want, got, compareValues); d != "" {
		j.fatal(fmt.Sprintf("%s at tick %d (-pipeline +kernel):\n%s", what, j.now, d))
	}
}

// Fails returns how many connections to a member in a row failed; both say so
// if Compare does.
func (j *Judge) Fails(m table.MemberID) uint32 { return j.state.Fails(m) }

// Sweep sweeps both.
func (j *Judge) Sweep() {
	j.t.Helper()
	j.in(func() error { return j.d.Sweep(context.Background()) })
	j.state.Sweep(pipeline.Tick(j.now), j.set)
	j.swept = true
	maps.DeleteFunc(j.born, func(k pipeline.FlowKey, _ uint32) bool { _, ok := j.state.Flow(k); return !ok })
}

// place is where packets enter, as both know it: a device, or a Tier-0.
type place struct {
	device int
	vrf    table.VRFID
	tuple  packet.Tuple
}

func (j *Judge) kernelConnections() map[place]dataplane.Connection {
	j.t.Helper()
	out := map[place]dataplane.Connection{}
	err := j.d.Connections(context.Background(), func(c *dataplane.Connection) bool {
		key := place{device: c.InDev, tuple: c.Tuple}
		if c.Zone.VRF != 0 {
			key = place{vrf: c.Zone.VRF, tuple: c.Tuple}
		}
		if _, twice := out[key]; twice {
			j.fatal(fmt.Sprintf("connection %v is there twice", key))
		}
		kept := *c
		kept.Rules, kept.NATs = append([]uint32{}, c.Rules...), append([]uint32{}, c.NATs...)
		out[key] = kept
		return true
	})
	if err != nil {
		j.fatal(err)
	}
	return out
}

// connections returns pipeline's, as the kernel's tables know their devices.
func (j *Judge) connections() map[place]dataplane.Connection {
	j.t.Helper()
	out := map[place]dataplane.Connection{}
	for k, o := range j.state.Flows() {
		reply, ok := j.state.Flow(pipeline.FlowKey{Zone: o.Peer, Tuple: o.To.Reversed()})
		if o.Reply || !ok || !reply.Reply || reply.Peer != k.Zone || reply.To.Reversed() != k.Tuple {
			continue
		}
		c := dataplane.Connection{
			Zone: k.Zone, In: j.known(o.In), InDev: j.binding[o.In].IfIndex, Tuple: k.Tuple, To: o.To, Mid: o.Mid,
			State: o.State, Age: j.since(pipeline.Tick(j.born[k])), Original: j.direction(&o), Reply: j.direction(&reply),
			Out: o.Out, OutDev: j.binding[o.Out].IfIndex, Hops: o.Hops,
			Rules: without0(o.Rules[:]), NATs: without0(o.NATs[:]), Server: o.Server, Member: o.Member,
		}
		c.Zone.Port = j.known(c.Zone.Port)
		c.Over = j.over(&c)
		if o.NextHop != 0 {
			if c.NextHop = j.nextHops[o.NextHop]; !c.NextHop.IsValid() {
				c.NextHop = o.To.Dst
			}
		}
		out[place{device: j.binding[k.Zone.Port].IfIndex, vrf: k.Zone.VRF, tuple: k.Tuple}] = c
	}
	return out
}

// known returns a port or uplink if the tables in force bind it to a device,
// else 0.
func (j *Judge) known(id table.PortID) table.PortID {
	if p := j.set.Ports.Get(id); p != nil && p.Node == 0 || j.set.Uplinks.Get(id) != nil {
		return id
	}
	return 0
}

// over says that both halves of c are past their time-out.
func (j *Judge) over(c *dataplane.Connection) bool {
	t := &j.set.Timeouts
	seconds := t.Other
	switch c.Tuple.Proto {
	case packet.TCP:
		seconds = map[pipeline.ConnState]uint32{pipeline.ConnEstablished: t.TCPEstablished, pipeline.ConnClosing: t.TCPClosing}[c.State]
		if seconds == 0 {
			seconds = t.TCPOpening
		}
	case packet.UDP:
		if seconds = t.UDPMultiple; c.State == pipeline.ConnNew {
			seconds = t.UDPSingle
		}
	case packet.ICMP:
		seconds = t.ICMP
	}
	ticks := (int64(seconds)*1e9 + 1<<30 - 1) >> 30
	return int64(c.Idle()>>30) > ticks
}

// since returns the time since a tick.
func (j *Judge) since(t pipeline.Tick) time.Duration { return time.Duration(j.now-uint32(t)) << 30 }

func (j *Judge) direction(f *pipeline.Flow) dataplane.Direction {
	return dataplane.Direction{Idle: j.since(f.Seen), Packets: f.Packets, Bytes: f.Bytes}
}

// without0 returns the ids of a list before the first 0.
func without0(ids []uint32) []uint32 {
	out := []uint32{}
	for _, id := range ids {
		if id == 0 {
			break
		}
		out = append(out, id)
	}
	return out
}

// loads returns pipeline's loads of all that there ever was.
func (j *Judge) loads() dataplane.Loads {
	l := dataplane.Loads{Servers: map[table.VirtualServerID]uint32{}, Members: map[table.MemberID]dataplane.Load{}}
	for id := range j.servers {
		if n := j.state.Open(pipeline.LoadServer, uint32(id)); n > 0 {
			l.Servers[id] = n
		}
	}
	for id := range j.members {
		load := dataplane.Load{Open: j.state.Open(pipeline.LoadMember, uint32(id)), Fails: j.state.Fails(id)}
		if load != (dataplane.Load{}) {
			l.Members[id] = load
		}
	}
	return l
}
