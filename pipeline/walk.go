package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// maxRouters bounds the routers on one path (§9).
const maxRouters = 8

// mode says what a walk is for. Source: docs/pipeline.md §7.
type mode uint8

const (
	modeNew   mode = iota + 1 // the first packet of a connection
	modeAgain                 // an original entry, whether it still holds
	modeReply                 // a reply entry: policy does not apply, translations are undone
)

// walk takes a tuple through the Set. It changes no state but appends Steps.
type walk struct {
	ix  *Index
	res *Result // takes the steps

	// What is walked; set by whoever makes the walk.
	mode     mode
	original packet.Tuple // of the connection
	routed   bool         // the frame is addressed to RouterMAC
	exact    bool         // if bridged, the endpoint's MAC must be dstMAC
	dstMAC   table.MAC    // of the frame; valid iff exact
	limited  bool         // ttl counts
	ttl      uint8

	t packet.Tuple // as translated so far

	// Source addresses by number of translations: of this walk, or in mode
	// reply those of the original.
	sources     [maxTranslations + 1]netip.Addr
	snats       uint8
	dnats       uint8
	lastSNAT    *table.NATRule
	strict      *table.Rule // an allowing rule with tcp_strict
	rules       [2]uint32
	hops        uint8
	routers     uint8
	entered     bool // a segment
	inAddr      netip.Addr
	above       bool         // came from above
	uplink      table.PortID // came from this uplink
	lowerRouter table.VRFID  // came up from this router

	// The end: delivered to out, or dropped for reason, or answered.
	out     table.PortID
	outMAC  table.MAC
	nextHop table.NextHopID
	zone    Zone // that replies enter
	reason  Reason
	rule    uint32
	answer  answer
}

// start enters zone, which for a Tier-0 is entered by uplink in. It reports
// whether the packet was delivered; so do all methods that walk on.
func (w *walk) start(zone Zone, in table.PortID) bool {
	if w.mode != modeReply {
		w.sources[0] = w.t.Src
	}
	if zone.Port != 0 {
		p := w.ix.Set.Ports[zone.Port]
		if p == nil || p.Node != 0 {
			w.drop(StageParse, uint32(zone.Port), ReasonNoPort)
			return false
		}
		return w.segment(p)
	}
	u := w.ix.Set.Uplinks[in]
	if u == nil || u.VRF != zone.VRF {
		w.drop(StageParse, uint32(in), ReasonNoPort)
		return false
	}
	w.above, w.uplink, w.inAddr = true, in, u.Address.Addr()
	return w.router(zone.VRF)
}

// segment enters the segment of p from p.
func (w *walk) segment(p *table.Port) bool {
	first := !w.entered
	w.entered = true
	if w.mode != modeReply {
		e := w.ix.Endpoint(p.Segment, w.t.Src)
		if e == nil || e.Port != p.ID {
			w.drop(StageSpoofguard, uint32(p.ID), ReasonSpoofguard)
			return false
		}
		if !first || w.mode != modeNew { // else entry has said so
			w.step(StageSpoofguard, uint32(p.ID)).Endpoint = e
		}
		if !w.firewall(StageDFWOut, e, e.Out, w.t.Dst) {
			return false
		}
	}
	if !w.routed {
		return w.bridge(p.Segment)
	}
	s := w.ix.Set.Segments[p.Segment]
	if s == nil || s.VRF == 0 {
		w.drop(StageL2, uint32(p.Segment), ReasonNoGateway)
		return false
	}
	w.inAddr, w.above, w.uplink, w.lowerRouter = Gateway(s, w.t.Src), false, 0, 0
	return w.router(s.VRF)
}

func (w *walk) bridge(segment table.SegmentID) bool {
	d := w.ix.Endpoint(segment, w.t.Dst)
	if d == nil || w.exact && d.MAC != w.dstMAC {
		w.drop(StageL2, uint32(segment), ReasonMACUnknown)
		return false
	}
	w.step(StageL2, uint32(segment)).Endpoint = d
	return w.deliver(d)
}

// router walks from router to router, beginning with id.
func (w *walk) router(id table.VRFID) bool {
	for {
		if w.routers == maxRouters {
			w.drop(StageRoute, uint32(id), ReasonRouterLoop)
			return false
		}
		w.routers++
		if !w.admit(id) {
			return false
		}
		r := w.ix.Route(id, w.t.Dst)
		if r != nil {
			w.step(StageRoute, uint32(id)).Route = r
			if r.Kind == table.RouteLocal || r.Kind == table.RouteNAT {
				w.local(id, r)
				return false
			}
		}
		if !w.hop(id) {
			return false
		}
		if r == nil || r.Kind == table.RouteDiscard || w.above && upwards(r.Kind) {
			w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
			return false
		}
		switch r.Kind {
		case table.RouteUp:
			if !w.snat(id, 0) {
				return false
			}
			w.inAddr, w.above, w.uplink, w.lowerRouter = r.Via, false, 0, id
			id = r.To
		case table.RouteDown:
			w.inAddr, w.above, w.uplink, w.lowerRouter = r.Via, true, 0, 0
			id = r.To
		default:
			return w.leave(id, r)
		}
	}
}

func upwards(k table.RouteKind) bool {
	return k == table.RouteUp || k == table.RouteUplink || k == table.RouteNode
}

// leave goes where r says, out of the routers.
func (w *walk) leave(id table.VRFID, r *table.Route) bool {
	switch r.Kind {
	case table.RouteConnected:
		return w.endpoint(r.Segment, w.t.Dst)
	case table.RouteVia:
		return w.endpoint(r.Segment, r.Via)
	case table.RouteUplink:
		return w.leaveByUplink(id, r)
	case table.RouteNode:
		return w.leaveByNodePort(id, r)
	}
	w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
	return false
}

func (w *walk) leaveByUplink(id table.VRFID, r *table.Route) bool {
	var nh *table.NextHop
	if n := uint32(len(r.NextHops)); n > 0 {
		nh = w.ix.Set.NextHops[r.NextHops[Hash(w.original)%n]]
	}
	if nh == nil {
		w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
		return false
	}
	if !w.snat(id, nh.Uplink) {
		return false
	}
	w.out, w.nextHop, w.zone = nh.Uplink, nh.ID, Zone{VRF: id}
	return true
}

func (w *walk) leaveByNodePort(id table.VRFID, r *table.Route) bool {
	if !w.snat(id, 0) {
		return false
	}
	var p *table.Port
	if v := w.ix.Set.VRFs[id]; v != nil {
		p = w.ix.Set.Ports[v.NodePort]
	}
	if p == nil {
		w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
		return false
	}
	w.routed, w.exact = r.Via.IsValid(), false
	return w.segment(p)
}

// admit is what a packet meets where it enters router id, before the route.
func (w *walk) admit(id table.VRFID) bool {
	if w.mode == modeReply {
		if w.above {
			w.untranslate(id)
		}
		return true
	}
	if w.spoofed(id) {
		w.drop(StageURPF, uint32(id), ReasonURPF).Route = w.ix.Route(id, w.t.Src)
		return false
	}
	return !w.above || w.dnat(id)
}

// spoofed reports whether the source can not have come the way it did. What
// comes up to a Tier-0 must be routed back to the Tier-1 that it came from.
func (w *walk) spoofed(id table.VRFID) bool {
	fromTier1 := w.lowerRouter != 0 && w.kind(id) == table.Tier0 && w.kind(w.lowerRouter) == table.Tier1
	if !w.above && !fromTier1 {
		return false
	}
	r := w.ix.Route(id, w.t.Src)
	switch {
	case fromTier1:
		return r == nil || r.Kind != table.RouteDown || r.To != w.lowerRouter
	case r == nil:
		return false
	}
	switch r.Kind {
	case table.RouteConnected, table.RouteLocal, table.RouteNAT, table.RouteVia:
		return true
	case table.RouteDown:
		return w.uplink != 0 && w.kind(id) == table.Tier0
	}
	return false
}

func (w *walk) kind(id table.VRFID) table.VRFKind {
	if v := w.ix.Set.VRFs[id]; v != nil {
		return v.Kind
	}
	return 0
}

// mid returns the source between two translations, invalid if there were fewer.
func (w *walk) mid() netip.Addr {
	if w.snats < 2 {
		return netip.Addr{}
	}
	return w.sources[1]
}

// setSources takes over, for mode reply, what o's sources became.
func (w *walk) setSources(o *entry) {
	w.sources = [maxTranslations + 1]netip.Addr{o.key.Tuple.Src, o.val.To.Src}
	if o.val.Mid.IsValid() {
		w.sources[1], w.sources[2] = o.val.Mid, o.val.To.Src
	}
}

// untranslate undoes, in mode reply, the source translation that the original
// met when it left router id upwards.
func (w *walk) untranslate(id table.VRFID) {
	for i := len(w.sources) - 1; i > 0; i-- {
		if w.sources[i] != w.t.Dst {
			continue
		}
		if r := w.ix.Route(id, w.t.Dst); r != nil && (r.Kind == table.RouteNAT || r.Kind == table.RouteLocal) {
			w.t.Dst = w.sources[i-1]
		}
		return
	}
}

// local ends the walk at an address of router id itself.
func (w *walk) local(id table.VRFID, r *table.Route) {
	if r.Kind == table.RouteLocal && w.t.Proto == packet.ICMP && w.mode == modeNew {
		w.step(StageLocal, uint32(id)).Route = r
		w.answer = answer{kind: answerEcho}
		return
	}
	if r.Kind == table.RouteLocal && w.t.Proto == packet.UDP {
		w.answer = icmpAnswer(packet.ICMPUnreachable, packet.ICMPPortUnreachable, w.t.Dst)
	}
	w.drop(StageLocal, uint32(id), ReasonNoListener).Route = r
}

// hop counts router id.
func (w *walk) hop(id table.VRFID) bool {
	if w.limited {
		if w.ttl <= 1 {
			w.answer = icmpAnswer(packet.ICMPTimeExceeded, 0, w.inAddr)
			w.drop(StageTTL, uint32(id), ReasonTTLExceeded).InAddr = w.inAddr
			return false
		}
		w.ttl--
	}
	w.hops++
	w.step(StageTTL, uint32(id)).InAddr = w.inAddr
	return true
}

// endpoint delivers to the owner of addr on a segment.
func (w *walk) endpoint(segment table.SegmentID, addr netip.Addr) bool {
	d := w.ix.Endpoint(segment, addr)
	if d == nil {
		w.unreachable(StageEndpoint, uint32(segment), ReasonNoEndpoint, packet.ICMPHostUnreachable)
		return false
	}
	w.step(StageEndpoint, uint32(segment)).Endpoint = d
	return w.deliver(d)
}

func (w *walk) deliver(d *table.Endpoint) bool {
	p := w.ix.Set.Ports[d.Port]
	if p == nil {
		w.drop(StageEndpoint, uint32(d.Segment), ReasonNoEndpoint).Endpoint = d
		return false
	}
	if w.mode != modeReply && !w.firewall(StageDFWIn, d, d.In, w.t.Src) {
		return false
	}
	if p.Node != 0 {
		w.inAddr, w.above, w.uplink, w.lowerRouter = d.Addr, true, 0, 0
		return w.router(p.Node)
	}
	w.out, w.outMAC, w.zone = p.ID, d.MAC, Zone{Port: p.ID}
	return true
}

// unreachable drops with an ICMP unreachable of a code from the in-address.
func (w *walk) unreachable(stage Stage, id uint32, why Reason, code uint8) *Step {
	w.answer = icmpAnswer(packet.ICMPUnreachable, code, w.inAddr)
	s := w.drop(stage, id, why)
	s.InAddr = w.inAddr
	return s
}

// drop ends the walk and returns the step that says so.
func (w *walk) drop(stage Stage, id uint32, why Reason) *Step {
	w.reason = why
	s := w.step(stage, id)
	s.Reason = why
	return s
}

func (w *walk) step(stage Stage, id uint32) *Step { return w.res.add(stage, id, w.t) }
