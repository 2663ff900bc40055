package trace

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Disposition is what became of a packet.
type Disposition string

// The dispositions.
const (
	Delivered Disposition = "delivered" // to a port, out of an uplink, or answered by a router
	Dropped   Disposition = "dropped"
	Rejected  Disposition = "rejected" // dropped by a firewall rule that tells the sender
)

// Result is what Run found. Its JSON names are stable.
type Result struct {
	Leg
	// Hops is what traceroute prints, the destination last if it answers.
	// Routers outside are unknown but for the uplink's next hop: behind that
	// comes the destination. A flow from outside meets the Tier-0 first.
	Hops    []Hop  `json:"hops"`
	Warning string `json:"warning,omitempty"`
	// Reply is the way back, with hops as the destination's traceroute to
	// SourceSeen would print them; nil if the packet did not arrive.
	Reply *Result `json:"reply,omitempty"`
}

// Arrives reports whether both the packet and its reply arrive.
func (r *Result) Arrives() bool {
	return r.Disposition == Delivered && r.Reply != nil && r.Reply.Disposition == Delivered
}

// Object is something in the tables, for people.
type Object struct {
	Component string `json:"component"` // kind and name, such as "tier-1 red"
	Path      string `json:"path"`      // policy path; empty: it has none
}

// Hop is one line of traceroute.
type Hop struct {
	Address netip.Addr `json:"address"` // invalid, "" in JSON: nobody answers, traceroute prints *
	Object
	Annotation string `json:"annotation,omitempty"` // !N, !H, !F, !X as in traceroute(8)
}

// Leg is one direction of a flow. Ports are those of packet.Tuple: in an ICMP
// echo one of them is the identifier.
type Leg struct {
	Disposition     Disposition `json:"disposition"`
	Protocol        string      `json:"protocol"`
	Source          netip.Addr  `json:"source"` // as the sender wrote it, as the next three
	SourcePort      uint16      `json:"source_port"`
	Destination     netip.Addr  `json:"destination"`
	DestinationPort uint16      `json:"destination_port"`
	From            Object      `json:"from"`        // the port or uplink that it enters by
	To              Object      `json:"to,omitzero"` // who gets it; zero and not in JSON unless Delivered

	// What arrives; zero and not in JSON unless Delivered.

	SourceSeen          netip.Addr `json:"source_seen,omitzero"`
	SourcePortSeen      uint16     `json:"source_port_seen,omitzero"`
	DestinationSeen     netip.Addr `json:"destination_seen,omitzero"`
	DestinationPortSeen uint16     `json:"destination_port_seen,omitzero"`

	Dropped *Drop  `json:"dropped,omitempty"` // nil iff Delivered
	Steps   []Step `json:"steps"`
}

// Drop says why a packet did not arrive.
type Drop struct {
	Stage  string `json:"stage"`  // a name of pipeline.Stages
	Reason string `json:"reason"` // a name of pipeline.Reasons
	Object
	RuleID     uint32   `json:"rule_id,omitempty"` // of a firewall or NAT rule; 0: none
	RuleName   string   `json:"rule_name,omitempty"`
	RulePath   string   `json:"rule_path,omitempty"`
	PolicyPath string   `json:"policy_path,omitempty"` // of a firewall rule, as the next
	Category   string   `json:"category,omitempty"`
	Balance    *Balance `json:"balance,omitempty"` // of a virtual server
	Answer     string   `json:"answer,omitempty"`  // what the sender is told; empty: nothing
	Advice     string   `json:"advice"`            // one line
}

// Step is one thing that a packet met, in order.
type Step struct {
	Stage string `json:"stage"` // a name of pipeline.Stages
	Object
	RuleID      uint32       `json:"rule_id,omitempty"`
	RuleName    string       `json:"rule_name,omitempty"`
	RulePath    string       `json:"rule_path,omitempty"`
	PolicyPath  string       `json:"policy_path,omitempty"` // of a firewall rule, as the next
	Category    string       `json:"category,omitempty"`
	Balance     *Balance     `json:"balance,omitempty"`    // of a virtual server
	Route       string       `json:"route,omitempty"`      // the matched route in words, the prefix first
	RoutePath   string       `json:"route_path,omitempty"` // of the object that caused the route
	Translation *Translation `json:"translation,omitempty"`
	Text        string       `json:"text"` // all of it for people
}

// Translation is a change of addresses or ports. Both sides are an address,
// with its port if the protocol has ports, or two of them with an arrow
// between if source and destination change.
type Translation struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// leg words the result of a packet with a tuple that was sent from a port or
// uplink.
func (t *tracer) leg(from table.PortID, tuple packet.Tuple, res pipeline.Result) Leg {
	l := Leg{
		Disposition: Dropped, Protocol: tuple.Proto.String(),
		Source: tuple.Src, SourcePort: tuple.SrcPort, Destination: tuple.Dst, DestinationPort: tuple.DstPort,
		From: t.entrance(from),
	}
	w := wording{tracer: t, from: from, t: tuple, res: res}
	l.Steps = w.steps()
	switch {
	case res.Verdict == pipeline.Forward:
		var p packet.Packet
		p.Decode(res.Frame)
		l.Disposition, l.To = Delivered, t.entrance(res.Out)
		l.see(p.Tuple())
	case answered(res):
		l.Disposition, l.To = Delivered, t.last(res)
		l.see(w.t)
	default:
		last := res.Steps[len(res.Steps)-1] // whatever drops adds a step
		l.Dropped = w.drop(last)
		if last.FWRule != nil && last.FWRule.Action == table.Reject {
			l.Disposition = Rejected
		}
	}
	return l
}

func (l *Leg) see(t packet.Tuple) {
	l.SourceSeen, l.SourcePortSeen = t.Src, t.SrcPort
	l.DestinationSeen, l.DestinationPortSeen = t.Dst, t.DstPort
}
