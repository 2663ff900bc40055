package trace

import (
	"cmp"
	"path"
	"strings"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// names knows what people call the objects of a Set.
type names struct{ set *table.Set }

// object returns an Object of a kind; without a display name it is called by
// its id, the last part of its path.
func object(kind, name, policyPath string) Object {
	return Object{Component: kind + " " + cmp.Or(name, path.Base(policyPath)), Path: policyPath}
}

// entrance names a port or an uplink.
func (n names) entrance(id table.PortID) Object {
	if p := n.set.Ports.Get(id); p != nil {
		return object("port", p.Name, p.Path)
	}
	if u := n.set.Uplinks.Get(id); u != nil {
		return object("uplink", u.Name, u.Path)
	}
	return Object{}
}

func (n names) segment(id table.SegmentID) Object {
	if s := n.set.Segments.Get(id); s != nil {
		return object("segment", s.Name, s.Path)
	}
	return Object{}
}

func (n names) router(id table.VRFID) Object {
	v := n.set.VRFs.Get(id)
	if v == nil {
		return Object{}
	}
	kind := "node"
	switch v.Kind {
	case table.Tier0:
		kind = "tier-0"
	case table.Tier1:
		kind = "tier-1"
	}
	return object(kind, v.Name, v.Path)
}

// last names where a packet's way ended.
func (n names) last(res pipeline.Result) Object {
	for i := len(res.Steps) - 1; i >= 0; i-- {
		s := res.Steps[i]
		if s.Stage == pipeline.StageEndpoint && s.Reason != pipeline.ReasonNone {
			continue // it is the router before it that looked for an owner
		}
		return n.place(s, 0)
	}
	return Object{}
}

// place names where a step is; from is where the packet entered.
func (n names) place(s pipeline.Step, from table.PortID) Object {
	switch s.Stage {
	case pipeline.StageFlow:
		return n.entrance(from) // the step has its zone
	case pipeline.StageParse, pipeline.StageSpoofguard, pipeline.StageNeighbour,
		pipeline.StageDFWOut, pipeline.StageDFWIn, pipeline.StageDeliver:
		return n.entrance(table.PortID(s.ID))
	case pipeline.StageDLB:
		return n.entrance(table.PortID(s.ID))
	case pipeline.StageLocal:
		if s.Route == nil { // a distributed VIP
			return n.entrance(table.PortID(s.ID))
		}
	case pipeline.StageL2, pipeline.StageEndpoint:
		return n.segment(table.SegmentID(s.ID))
	case pipeline.StageConnect:
		return Object{Component: "connection table"}
	}
	return n.router(table.VRFID(s.ID))
}

// route words a route, its prefix first.
func (n names) route(r *table.Route) string {
	text := r.Prefix.String() + " "
	switch r.Kind {
	case table.RouteConnected:
		return text + "connected: " + n.segment(r.Segment).Component
	case table.RouteLocal:
		return text + "the router itself"
	case table.RouteNAT:
		return text + "for NAT only"
	case table.RouteVIP:
		return text + "virtual servers"
	case table.RouteUp:
		return text + "up to " + n.router(r.To).Component + " via " + r.Via.String()
	case table.RouteDown:
		return text + "down to " + n.router(r.To).Component + " via " + r.Via.String()
	case table.RouteVia:
		return text + "via " + r.Via.String() + " on " + n.segment(r.Segment).Component
	case table.RouteUplink:
		return text + "out to " + n.nextHops(r.NextHops)
	case table.RouteNode:
		out := "out of its port"
		if v := n.set.VRFs.Get(r.VRF); v != nil {
			out = "out of " + n.entrance(v.NodePort).Component
		}
		if r.Via.IsValid() {
			return text + out + " via " + r.Via.String()
		}
		return text + out + ", on the link"
	}
	return text + "discard"
}

func (n names) nextHops(ids []table.NextHopID) string {
	var all []string
	for _, id := range ids {
		all = append(all, n.nextHop(n.set.NextHops.Get(id)))
	}
	return strings.Join(all, " or ")
}

func (n names) nextHop(h *table.NextHop) string {
	switch {
	case h == nil:
		return "nowhere"
	case h.Addr.IsValid():
		return h.Addr.String() + " by " + n.entrance(h.Uplink).Component
	}
	return "the link of " + n.entrance(h.Uplink).Component
}

// service words the protocol and destination port of a tuple as the command
// line takes them.
func service(t packet.Tuple) string {
	if t.Proto.HasPorts() {
		return t.Proto.String() + "/" + portText(t.DstPort)
	}
	return t.Proto.String()
}
