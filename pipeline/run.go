package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Input is one frame as it comes in.
type Input struct {
	Port  table.PortID // a port or an uplink
	Frame []byte
}

// Verdict says what becomes of a packet.
type Verdict uint8

// The verdicts.
const (
	Forward Verdict = iota + 1 // Frame leaves by Out
	Drop                       // nothing is sent; Reason is set
	Answer                     // Frame goes back by Out, which is where the packet came from; Reason is set if it was dropped
	Pass                       // the node's own stack takes it
	Hold                       // a later fragment waits for the first one
)

func (v Verdict) String() string {
	switch v {
	case Forward:
		return "forward"
	case Drop:
		return "drop"
	case Answer:
		return "answer"
	case Pass:
		return "pass"
	case Hold:
		return "hold"
	}
	return "none"
}

// Result is what Run found. Its slices are reused by RunInto.
type Result struct {
	Verdict Verdict
	Reason  Reason          // why the packet was not forwarded; none if Forward, Pass, Hold, or answered as it asked
	Rule    uint32          // id of the firewall or NAT rule, or of the virtual server, that dropped; 0: none
	Out     table.PortID    // port or uplink; valid iff Forward or Answer
	NextHop table.NextHopID // valid iff Forward to an uplink
	// Frame is what is sent; empty iff Drop, Pass or Hold. For a forwarded packet
	// whose Out is an uplink both MACs are zero: the neighbour is the node's
	// matter.
	Frame []byte
	// Followers are the held fragments that follow a first one out of Out, made
	// like Frame.
	Followers [][]byte
	Steps     []Step // at most MaxSteps

	Key        FlowKey      // of the packet, or of the flow that an ICMP error goes with; zero before one is looked up
	New        bool         // this packet made the connection
	Translated packet.Tuple // what packets of Key leave with; valid iff Forward
	Hops       uint8        // routers passed; valid iff Forward
}

// MaxSteps bounds Result.Steps; what happens later is not recorded (§10).
const MaxSteps = 32

// Step is one thing that a packet met.
//
// A step of StageParse is there only if the packet was dropped for its form or
// no_port, and one of StageURPF only if it was dropped there. The spoofguard of
// the port that a packet came in by is judged once, at entry; a walk has a
// step of its own for each further segment that it enters, and for its first
// if it is a re-evaluation (§6). A reason that follows a route, as no_route,
// has a second step of StageRoute; so has a router that balanced, for the way to
// the member. StageLocal without a Route is a distributed VIP's, at a port.
// StageGatewayIn and StageGatewayOut are there only where there is a ruleset,
// StageDFWOut and StageDFWIn not for unfiltered endpoints and not for what a
// port sends to itself.
type Step struct {
	Stage    Stage
	ID       uint32     // where: port, segment or router; in StageConnect the new source port, 0 if it was kept
	Rule     uint32     // firewall or NAT rule id, in StageLB and StageDLB the virtual server's; 0: default deny, or none
	Src, Dst netip.Addr // after the step
	Reason   Reason     // of a drop
	Why      Why        // in StageLB and StageDLB: what made the member the chosen one; 0 in drops

	// Detail for people; nil where it does not apply. Not part of what the
	// eBPF programs report.

	Route    *table.Route
	FWRule   *table.Rule
	NAT      *table.NATRule
	Endpoint *table.Endpoint
	InAddr   netip.Addr // in StageTTL and ICMP unreachable drops: the router's address that answers
	NextHop  *table.NextHop
	Server   *table.VirtualServer // in StageLB and StageDLB, and a tcp_state drop
	Pool     *table.Pool          // of Server; nil also if it has none
	Member   *table.Member        // nil also in drops
}

// add appends a step, which its caller may fill in until the next one. What
// is beyond MaxSteps is not kept.
func (res *Result) add(stage Stage, id uint32, t packet.Tuple) *Step {
	if len(res.Steps) == MaxSteps {
		return new(Step)
	}
	res.Steps = append(res.Steps, Step{Stage: stage, ID: id, Src: t.Src, Dst: t.Dst})
	return &res.Steps[len(res.Steps)-1]
}

// follower appends an empty frame, with the storage of a former one if there is
// any.
func (res *Result) follower() *[]byte {
	n := len(res.Followers)
	if n < cap(res.Followers) {
		res.Followers = res.Followers[:n+1]
	} else {
		res.Followers = append(res.Followers, nil)
	}
	return &res.Followers[n]
}

// Run says what one packet does in a Set, and enters that into st.
//
// gen is the generation of the Set, not 0: it differs from that of every other
// Set that st was used with. now never goes back. in is not changed.
// Cost: for a known connection a few look-ups; for a new one linear in the
// rules that its path meets.
// Source: docs/pipeline.md.
func Run(ix *Index, st *State, in Input, gen uint32, now Tick) Result {
	var res Result
	RunInto(&res, ix, st, in, gen, now)
	return res
}

// RunInto is Run with a Result whose former content is overwritten and whose
// slices are reused: it does not allocate for a known connection. in.Frame must
// not be res.Frame.
func RunInto(res *Result, ix *Index, st *State, in Input, gen uint32, now Tick) {
	*res = Result{Frame: res.Frame[:0], Followers: res.Followers[:0], Steps: res.Steps[:0]}
	r := run{ix: ix, st: st, in: in, gen: gen, now: now, res: res}
	r.enter()
}

// run is one packet in work.
type run struct {
	ix  *Index
	st  *State
	in  Input
	gen uint32
	now Tick
	res *Result

	p      packet.Packet
	port   *table.Port // nil if the packet came from an uplink
	zone   Zone
	routed bool      // the frame is addressed to a router
	srcMAC table.MAC // of the frame; zero if it came from an uplink
	dstMAC table.MAC // likewise
}

// faults are packet's faults as reasons. Source: docs/pipeline.md §2.
var faults = [...]Reason{
	packet.FaultMalformed: ReasonMalformed,
	packet.FaultVLAN:      ReasonVLAN,
	packet.FaultIPv6:      ReasonIPv6,
	packet.FaultNotIP:     ReasonNotIP,
	packet.FaultIPOptions: ReasonIPOptions,
	packet.FaultMartian:   ReasonMartian,
	packet.FaultMulticast: ReasonMulticast,
	packet.FaultFragment:  ReasonFragment,
	packet.FaultICMPType:  ReasonICMPType,
}

// enter is §2 and §3.
func (r *run) enter() {
	id := r.in.Port
	r.port = r.ix.Set.Ports.Get(id)
	uplink := r.ix.Set.Uplinks.Get(id)
	if r.port != nil && r.port.Node != 0 {
		r.port = nil // a Node router's own port has no device
	}
	if r.port == nil && uplink == nil {
		r.drop(StageParse, uint32(id), ReasonNoPort, packet.Tuple{})
		return
	}
	if fault := r.p.Decode(r.in.Frame); fault != packet.FaultNone {
		r.drop(StageParse, uint32(id), faults[fault], r.p.Tuple())
		return
	}
	if r.p.EtherType == packet.EtherTypeARP {
		r.arp()
		return
	}
	if r.port != nil {
		r.zone = Zone{Port: id}
		r.srcMAC, r.dstMAC = table.MAC(r.p.EthSrc), table.MAC(r.p.EthDst)
		r.routed = r.dstMAC == table.RouterMAC
		if !r.bound(r.p.Src) {
			r.drop(StageSpoofguard, uint32(id), ReasonSpoofguard, r.p.Tuple())
			return
		}
		r.res.add(StageSpoofguard, uint32(id), r.p.Tuple()).Endpoint = r.ix.Endpoint(r.port.Segment, r.p.Src)
	} else {
		r.zone, r.routed = Zone{VRF: uplink.VRF}, true
	}
	switch {
	case r.p.Later():
		r.laterFragment()
	case r.p.ICMPError():
		r.icmpError()
	default:
		r.packet()
	}
}

// drop ends the run at a stage.
func (r *run) drop(stage Stage, id uint32, why Reason, t packet.Tuple) *Step {
	r.res.Verdict, r.res.Reason = Drop, why
	s := r.res.add(stage, id, t)
	s.Reason = why
	return s
}

// refuse ends the run as w did: its step is there already. If answered is
// false, only a rejecting rule is heard by the sender.
func (r *run) refuse(w *walk, answered bool) {
	r.res.Verdict, r.res.Reason, r.res.Rule = Drop, w.reason, w.rule
	r.st.refused(w.reason, w.rule)
	if answered || w.answer.kind == answerReject {
		r.reply(w.answer)
	}
}
