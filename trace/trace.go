// Package trace follows a flow and its reply through the tables of a node and
// says what they meet: hops, rules, routes, translations, and what to change if
// they do not arrive.
//
// It sends packets through package pipeline and words what that reports; it
// judges no packet itself.
//
//	trace.go    Run: a flow there and back
//	hosts.go    what the machines at both ends send
//	hops.go     what traceroute prints
//	leg.go      Result and its parts
//	steps.go    a pipeline.Step in words; names.go objects in words
//	balance.go  what virtual servers did
//	advice.go   what a person can do about a drop
//	text.go     a Result for people
//	resolve.go  what a person calls an end of a flow
package trace

import (
	"fmt"
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Question names a flow by its first packet, which has no payload.
type Question struct {
	From table.PortID // the port or uplink that the packet enters by
	// To is the port that the asker means by Dst; 0: whoever has the address.
	// It decides nothing: if another port gets the packet, Result.Warning
	// says so.
	To               table.PortID
	Src, Dst         netip.Addr // IPv4
	Proto            packet.Proto
	SrcPort, DstPort uint16 // as packet.Tuple has them: of an ICMP echo, SrcPort is the identifier
}

func (q Question) tuple() packet.Tuple {
	return packet.Tuple{Src: q.Src, Dst: q.Dst, Proto: q.Proto, SrcPort: q.SrcPort, DstPort: q.DstPort}
}

// What all packets of a trace share. Each begins with a connection table of
// its own, so that one generation and one moment are enough.
const (
	initialTTL = 64
	generation = 1
	flows      = 8 // entries; one flow needs two
)

// Run sends the flow's first packet from q.From, then the answer that its
// destination would give, and finds the hops in between as traceroute does.
//
// A destination is taken to answer whatever arrives: what listens there is not
// in the tables. The connection table is empty at the start; in a busy one a
// source port may be translated to another.
// Errors: q.From is neither port nor uplink, or an address is not IPv4.
// Cost: about twelve runs of the pipeline.
func Run(ix *pipeline.Index, q Question) (*Result, error) {
	t := &tracer{names: names{ix.Set}, ix: ix, q: q}
	if ix.Set.Ports.Get(q.From) == nil && ix.Set.Uplinks.Get(q.From) == nil {
		return nil, fmt.Errorf("trace: from: %d: is no port and no uplink", q.From)
	}
	for _, a := range []netip.Addr{q.Src, q.Dst} {
		if !a.Is4() {
			return nil, fmt.Errorf("trace: %s: is no IPv4 address (IPv6 is not carried yet)", a)
		}
	}
	st := pipeline.NewState(flows)
	there := t.send(st, q.From, t.request(initialTTL))
	res := &Result{Leg: t.leg(q.From, q.tuple(), there)}
	if back, ok := t.answer(st, there); ok {
		res.Reply = &Result{Leg: back, Hops: t.hops(t.probeBack)}
	}
	res.Hops = t.hops(t.probe)
	res.Warning = t.warning(there)
	return res, nil
}

// tracer is one Question in work.
type tracer struct {
	names
	ix *pipeline.Index
	q  Question
}

// answer returns the way of the packet that the destination sends back. ok is
// false if the request did not get there.
func (t *tracer) answer(st *pipeline.State, there pipeline.Result) (back Leg, ok bool) {
	switch {
	case there.Verdict == pipeline.Forward:
		spec, tuple := response(there.Frame)
		res := t.send(st, there.Out, spec)
		return t.leg(there.Out, tuple, res), true
	case answered(there):
		return t.echoed(there), true
	}
	return Leg{}, false
}

// answered reports whether the router that was asked answers.
func answered(res pipeline.Result) bool {
	return res.Verdict == pipeline.Answer && res.Reason == pipeline.ReasonNone
}

// echoed is the way back of a router's own echo reply: it leaves where the
// request came in.
func (t *tracer) echoed(there pipeline.Result) Leg {
	tuple := t.q.tuple().Reversed()
	router, here := t.last(there), t.entrance(t.q.From)
	return Leg{
		Disposition: Delivered, Protocol: t.q.Proto.String(), From: router, To: here,
		Source: tuple.Src, SourcePort: tuple.SrcPort, Destination: tuple.Dst, DestinationPort: tuple.DstPort,
		SourceSeen: tuple.Src, SourcePortSeen: tuple.SrcPort, DestinationSeen: tuple.Dst, DestinationPortSeen: tuple.DstPort,
		Steps: []Step{{Stage: pipeline.StageLocal.String(), Object: router, Text: "answers, the way that the packet came"}},
	}
}

// warning says that the address that was meant is someone else's from here. A
// Node's port gets nothing itself: the Node does.
func (t *tracer) warning(there pipeline.Result) string {
	p := t.set.Ports.Get(t.q.To)
	if p == nil || p.Node != 0 || there.Verdict != pipeline.Forward || there.Out == t.q.To {
		return ""
	}
	meant, got := t.entrance(t.q.To), t.entrance(there.Out)
	return fmt.Sprintf("from here %s is %s (%s), not %s (%s)", t.q.Dst, got.Component, got.Path, meant.Component, meant.Path)
}
