package scenario

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// sourcePort is the first dynamic port, as weft trace uses it.
// Source: RFC 6335 §6.
const sourcePort = 49152

// Flow is what a script asked about and what the trace says of it.
type Flow struct {
	trace.Question
	Result *trace.Result
	set    *table.Set
}

// Flow traces what args, SRC DST [PROTO], name.
// Errors: those of trace.ResolveSource and trace.ResolveDestination, or PROTO
// is no protocol.
func (w *World) Flow(args []string) (*Flow, error) {
	service := "icmp"
	if len(args) == 3 {
		service = args[2]
	}
	proto, port, err := parseService(service)
	if err != nil {
		return nil, err
	}
	from, errFrom := trace.ResolveSource(w.Index, args[0])
	to, errTo := trace.ResolveDestination(w.Index, args[1])
	if err := errors.Join(errFrom, errTo); err != nil {
		return nil, err
	}
	f := &Flow{set: w.Set, Question: trace.Question{
		From: from.Port, To: to.Port, Src: from.Addr, Dst: to.Addr, Proto: proto, SrcPort: sourcePort, DstPort: port,
	}}
	f.Result, err = trace.Run(w.Index, f.Question)
	return f, err
}

// Tables returns what f was traced in.
func (f *Flow) Tables() *table.Set { return f.set }

// parseService reads icmp, tcp/PORT or udp/PORT.
func parseService(text string) (packet.Proto, uint16, error) {
	if text == "icmp" {
		return packet.ICMP, 0, nil
	}
	name, port, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(port, 10, 16)
	for _, p := range []packet.Proto{packet.TCP, packet.UDP} {
		if name == p.String() && err == nil && n > 0 {
			return p, uint16(n), nil
		}
	}
	return 0, 0, fmt.Errorf("PROTO: %q: is no protocol (tcp/PORT, udp/PORT, icmp)", text)
}

// What connect prints, besides "delivered, source seen ADDRESS".
const (
	Answered = "answered"    // by a router
	Refused  = "refused"     // and the sender is told
	Dropped  = "dropped"     // in silence
	Passes   = "passes data" // of a held connection
)

// Seen words a delivery.
func Seen(source fmt.Stringer) string { return "delivered, source seen " + source.String() }

// Outcome is what the sender of f should find.
func (f *Flow) Outcome() string {
	r := f.Result
	switch {
	case r.Arrives() && f.toRouter():
		return Answered
	case r.Arrives():
		return Seen(r.SourceSeen)
	case f.told():
		return Refused
	}
	return Dropped
}

// toRouter reports whether a router itself gets the packet, or the sender's own
// port for an address of a distributed load balancer.
func (f *Flow) toRouter() bool {
	if f.Result.To == f.Result.From {
		return f.Result.DestinationSeen == f.Dst
	}
	for _, v := range f.set.VRFs.All() {
		if v.Path == f.Result.To.Path {
			return true
		}
	}
	return false
}

// Hops is what traceroute should find: addresses with their annotations, and *
// if nobody answers behind them. A flow from outside meets the physical router
// first, which is not in the tables and not listed. A virtual server's router
// answers a TTL that ran out from the VIP, so the last hop's address does not
// say whether it is the end.
func (f *Flow) Hops() []string {
	var out []string
	for _, h := range f.Result.Hops {
		text := "*"
		if h.Address.IsValid() {
			text = strings.TrimSpace(h.Address.String() + " " + h.Annotation)
		}
		out = append(out, text)
	}
	if !f.Result.Arrives() && !f.told() {
		out = append(out, "*")
	}
	return out
}

// told reports whether the sender learns that the packet was dropped.
func (f *Flow) told() bool { return f.Result.Dropped != nil && f.Result.Dropped.Answer != "" }
