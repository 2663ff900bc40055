package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// maxRouters bounds the routers on one path (§10).
const maxRouters = 8

// mode says what a walk is for. Source: docs/pipeline.md §7.
type mode uint8

const (
	modeNew   mode = iota + 1 // the first packet of a connection
	modeAgain                 // an original entry, whether it still holds
	modeReply                 // a reply entry: policy does not apply, translations are undone
)

// walk takes a tuple through the Set. It reads loads and persistence, changes no
// state, and appends Steps.
type walk struct {
	ix  *Index
	st  *State
	now Tick
	res *Result // takes the steps

	// What is walked; set by whoever makes the walk.
	mode      mode
	original  packet.Tuple // of the connection
	routed    bool         // the frame is addressed to RouterMAC
	exact     bool         // if bridged, the endpoint's MAC must be dstMAC
	dstMAC    table.MAC    // of the frame; valid iff exact
	limited   bool         // ttl counts
	ttl       uint8
	kept      kept // valid iff mode again
	keptNew   bool // and the connection is New: its member has to be up
	midstream bool // mode new: a TCP segment that begins no connection
	gone      bool // mode again: who took the connection does not have its member any more
	served    bool // mode reply: a virtual server took the original

	t packet.Tuple // as translated so far

	// Source addresses by number of translations: of this walk, or in mode
	// reply those of the original.
	sources     [maxTranslations + 1]netip.Addr
	snats       uint8
	dnats       uint8
	ports       sourcePorts
	took        taken
	via         bool        // it came by a virtual server: see table.Rule.ViaVIP
	tier0       bool        // it has come to a Tier-0, which checked the source
	vouched     bool        // a virtual server took it after that: no uRPF any more
	strict      *table.Rule // an allowing rule with tcp_strict
	rules       [maxFlowRules]uint32
	nats        [maxFlowNATs]uint32
	hops        uint8
	routers     uint8
	entered     bool         // a segment
	from        table.PortID // that it entered by at first; 0: an uplink
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
		p := w.ix.Set.Ports.Get(zone.Port)
		if p == nil || p.Node != 0 {
			w.drop(StageParse, uint32(zone.Port), ReasonNoPort)
			return false
		}
		w.from = zone.Port
		return w.segment(p)
	}
	u := w.ix.Set.Uplinks.Get(in)
	if u == nil || u.VRF != zone.VRF {
		w.drop(StageParse, uint32(in), ReasonNoPort)
		return false
	}
	w.above, w.uplink, w.inAddr = true, in, u.Address.Addr()
	return w.router(zone.VRF)
}

// segment enters the segment of p from p.
func (w *walk) segment(p *table.Port) bool {
	src, s := w.t.Src, w.ix.Set.Segments.Get(p.Segment)
	if w.mode == modeReply {
		w.undoneByDLB(p)
	} else if !w.leavePort(p, s) {
		return false
	}
	if !w.routed {
		return w.bridge(p.Segment)
	}
	if s == nil || s.VRF == 0 {
		w.drop(StageL2, uint32(p.Segment), ReasonNoGateway)
		return false
	}
	w.inAddr, w.above, w.uplink, w.lowerRouter = Gateway(s, src), false, 0, 0
	return w.router(s.VRF)
}

// leavePort is what a packet meets at port p of segment s, nil if it is missing,
// by which it enters the segment.
func (w *walk) leavePort(p *table.Port, s *table.Segment) bool {
	first := !w.entered
	w.entered = true
	e := w.ix.Endpoint(p.Segment, w.t.Src)
	if e == nil || e.Port != p.ID {
		w.drop(StageSpoofguard, uint32(p.ID), ReasonSpoofguard)
		return false
	}
	if !first || w.mode != modeNew { // else entry has said so
		w.step(StageSpoofguard, uint32(p.ID)).Endpoint = e
	}
	if !w.distribute(p, e) {
		return false
	}
	if s != nil && s.Monitor != 0 {
		w.via = true
	}
	return w.t.Dst == e.Addr || w.firewall(StageDFWOut, e, e.Out, w.t.Dst)
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
		w.tier0 = w.tier0 || w.kind(id) == table.Tier0
		r, ok := w.route(id)
		if !ok || !w.hop(id) {
			return false
		}
		if r == nil || r.Kind == table.RouteDiscard || w.above && upwards(r.Kind) {
			w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
			return false
		}
		switch r.Kind {
		case table.RouteUp:
			if !w.outwards(id, 0) {
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

// route returns router id's route for the destination, nil if there is none;
// at a VIP, the route for the member that gets the connection. ok is false if
// the walk ends here.
func (w *walk) route(id table.VRFID) (r *table.Route, ok bool) {
	r = w.lookup(id)
	if r == nil {
		return nil, true
	}
	switch r.Kind {
	case table.RouteLocal, table.RouteNAT:
		w.local(id, r)
		return nil, false
	case table.RouteVIP:
		return w.serve(id, r)
	}
	return r, true
}

// lookup returns and records router id's route for the destination.
func (w *walk) lookup(id table.VRFID) *table.Route {
	r := w.ix.Route(id, w.t.Dst)
	if r != nil {
		w.step(StageRoute, uint32(id)).Route = r
	}
	return r
}

// serve is route for a destination that is a VIP of router id.
func (w *walk) serve(id table.VRFID, r *table.Route) (_ *table.Route, ok bool) {
	vip := w.t.Dst
	v, _ := w.server(table.VIPKey{VRF: id, Addr: vip})
	if v == nil || w.mode == modeReply {
		w.local(id, r)
		return nil, false
	}
	if !w.balance(balancer{stage: StageLB, id: uint32(id), vrf: id, realm: w.ix.vrfRealm(id)}, v) {
		return nil, false
	}
	w.via, w.vouched, w.inAddr, w.above, w.uplink = true, w.tier0 && w.t.Src == w.took.client, vip, false, 0
	r = w.lookup(id)
	if own(r) {
		w.drop(StageLocal, uint32(id), ReasonNoListener).Route = r
		return nil, false
	}
	return r, true
}

// own reports whether r is for an address of its router itself.
func own(r *table.Route) bool {
	return r != nil && (r.Kind == table.RouteLocal || r.Kind == table.RouteNAT || r.Kind == table.RouteVIP)
}

// distribute is the distributed load balancer of endpoint e, at port p.
func (w *walk) distribute(p *table.Port, e *table.Endpoint) bool {
	if e.DLB == 0 || !w.routed {
		return true
	}
	v, ok := w.server(table.VIPKey{DLB: e.DLB, Addr: w.t.Dst})
	if !ok {
		return true
	}
	if v == nil {
		w.answerLocal(uint32(p.ID), true)
		return false
	}
	return w.balance(balancer{stage: StageDLB, id: uint32(p.ID), realm: w.ix.segmentRealm(p.Segment)}, v)
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
		nh = w.ix.Set.NextHops.Get(r.NextHops[Hash(w.original)%n])
	}
	if nh == nil {
		w.unreachable(StageRoute, uint32(id), ReasonNoRoute, packet.ICMPNetUnreachable).Route = r
		return false
	}
	if !w.outwards(id, nh.Uplink) {
		return false
	}
	w.out, w.nextHop, w.zone = nh.Uplink, nh.ID, Zone{VRF: id}
	return true
}

func (w *walk) leaveByNodePort(id table.VRFID, r *table.Route) bool {
	if !w.outwards(id, 0) {
		return false
	}
	var p *table.Port
	if v := w.ix.Set.VRFs.Get(id); v != nil {
		p = w.ix.Set.Ports.Get(v.NodePort)
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
		w.untranslate(id)
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
	if w.vouched {
		return false
	}
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
	case table.RouteConnected, table.RouteLocal, table.RouteNAT, table.RouteVIP, table.RouteVia:
		return true
	case table.RouteDown:
		return w.uplink != 0 && w.kind(id) == table.Tier0
	}
	return false
}

func (w *walk) kind(id table.VRFID) table.VRFKind {
	if v := w.ix.Set.VRFs.Get(id); v != nil {
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
// met at router id. What a virtual server sent back goes up again if it came
// from there.
func (w *walk) untranslate(id table.VRFID) {
	before, ok := w.before(w.t.Dst)
	if !ok || !own(w.ix.Route(id, w.t.Dst)) {
		return
	}
	w.t.Dst = before
	if w.served {
		w.above, w.uplink = false, 0
	}
}

// undoneByDLB undoes, in mode reply, what the distributed load balancer of the
// packet's sender made of its own source.
func (w *walk) undoneByDLB(p *table.Port) {
	e := w.ix.Endpoint(p.Segment, w.t.Src)
	if !w.served || !w.routed || e == nil || e.DLB == 0 || w.ix.Set.VIPs.Get(table.VIPKey{DLB: e.DLB, Addr: w.t.Dst}) == nil {
		return
	}
	if before, ok := w.before(w.t.Dst); ok {
		w.t.Dst = before
	}
}

// before returns what source of the original became addr.
func (w *walk) before(addr netip.Addr) (_ netip.Addr, ok bool) {
	for i := len(w.sources) - 1; i > 0; i-- {
		if w.sources[i] == addr {
			return w.sources[i-1], true
		}
	}
	return netip.Addr{}, false
}

// local ends the walk at an address of router id itself.
func (w *walk) local(id table.VRFID, r *table.Route) {
	w.answerLocal(uint32(id), r.Kind != table.RouteNAT).Route = r
}

// answerLocal ends the walk at an address that id itself has; listens is false
// if only NAT has it.
func (w *walk) answerLocal(id uint32, listens bool) *Step {
	if listens && w.t.Proto == packet.ICMP && w.mode == modeNew {
		w.answer = answer{kind: answerEcho}
		return w.step(StageLocal, id)
	}
	if listens && w.t.Proto == packet.UDP {
		w.answer = icmpAnswer(packet.ICMPUnreachable, packet.ICMPPortUnreachable, w.t.Dst)
	}
	return w.drop(StageLocal, id, ReasonNoListener)
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
	p := w.ix.Set.Ports.Get(d.Port)
	if p == nil {
		w.drop(StageEndpoint, uint32(d.Segment), ReasonNoEndpoint).Endpoint = d
		return false
	}
	if s := w.ix.Set.Segments.Get(d.Segment); w.mode != modeReply && s != nil && s.Monitor != 0 {
		w.drop(StageEndpoint, uint32(d.Segment), ReasonNoEndpoint).Endpoint = d
		return false
	}
	if w.mode != modeReply && p.ID != w.from && !w.firewall(StageDFWIn, d, d.In, w.t.Src) {
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
