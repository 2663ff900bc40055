package scenario_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// TestTrace proves that the oracle, which reads the intent, agrees with the
// traces, which read the tables.
func TestTrace(t *testing.T) {
	play(t, false, func(t testing.TB, _ string) scenario.Proof { return &judged{scenario.NewPredicted()} })
}

type judged struct{ *scenario.Predicted }

// opinion is what both say of a packet.
type opinion struct {
	Disposition, Reason, RulePath, To string
	SrcSeen, DstSeen                  netip.Addr
	Hops                              []netip.Addr
}

// Traced compares the trace with the oracle.
func (*judged) Traced(w *scenario.World, f *scenario.Flow) error {
	if d := f.Result.Dropped; d != nil && d.Stage == pipeline.StageNeighbour.String() {
		return nil // the sender learnt nobody's MAC, and the oracle judges no ARP
	}
	got := traceOpinion(f.Result)
	v := oracle.New(w.Tree, facts(w.Set)).Judge(question(w.Set, f))
	want := opinion{
		Disposition: string(v.Disposition), Reason: v.Reason, RulePath: v.RulePath, To: v.To,
		SrcSeen: v.SrcSeen, DstSeen: v.DstSeen, Hops: v.Hops,
	}
	switch v.Disposition {
	case oracle.Answered:
		want.Disposition, got.To = got.Disposition, ""
	case oracle.Dropped:
		want.SrcSeen, want.DstSeen = netip.Addr{}, netip.Addr{}
	}
	want.Hops = want.Hops[:min(len(want.Hops), len(got.Hops))]
	got.Hops = got.Hops[:len(want.Hops)] // behind the routers come outside machines and the destination
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		return fmt.Errorf("trace (-oracle +trace):\n%s", diff)
	}
	return nil
}

func traceOpinion(r *trace.Result) opinion {
	o := opinion{Disposition: string(r.Disposition), To: r.To.Path, SrcSeen: r.SourceSeen, DstSeen: r.DestinationSeen}
	if d := r.Dropped; d != nil {
		o.Disposition, o.Reason = string(trace.Dropped), d.Reason
		if d.PolicyPath != "" {
			o.RulePath = d.RulePath
		}
	}
	for _, h := range r.Hops {
		o.Hops = append(o.Hops, h.Address)
	}
	return o
}

// question is the packet of f as the oracle takes it.
func question(set *table.Set, f *scenario.Flow) oracle.Packet {
	p := oracle.Packet{
		Src: f.Src, Dst: f.Dst, Proto: uint8(f.Proto), SrcPort: f.SrcPort, DstPort: f.DstPort, TTL: 64, ToGateway: true,
	}
	if f.Proto == packet.ICMP {
		p.ICMPType = packet.ICMPEchoRequest
	}
	if up := set.Uplinks.Get(f.From); up != nil {
		p.Port = up.Path
		return p
	}
	port := set.Ports.Get(f.From)
	p.Port = port.Path
	for _, g := range set.Segments.Get(port.Segment).Gateways {
		if g.Contains(f.Dst) && g.Addr() != f.Dst {
			p.ToGateway = false
		}
	}
	return p
}

// facts reads from the tables what intent does not say.
func facts(set *table.Set) oracle.Facts {
	return oracle.Facts{Transit: transit(set), MemberID: memberID(set)}
}

// transit reads the ends of the links to Tier-1s.
func transit(set *table.Set) func(tier1 string) (tier0End, tier1End netip.Addr) {
	return func(tier1 string) (tier0End, tier1End netip.Addr) {
		for _, r := range set.Routes.All() {
			switch {
			case r.Kind == table.RouteUp && set.VRFs.Get(r.VRF).Path == tier1:
				tier0End = r.Via
			case r.Kind == table.RouteDown && set.VRFs.Get(r.To).Path == tier1:
				tier1End = r.Via
			}
		}
		return tier0End, tier1End
	}
}

// memberID reads the numbers of pools' members.
func memberID(set *table.Set) func(oracle.Member) table.MemberID {
	return func(m oracle.Member) table.MemberID {
		for _, p := range set.Pools.All() {
			for _, has := range p.Members {
				if p.Path == m.Pool && has.Addr == m.Addr && has.Port == m.Port {
					return has.ID
				}
			}
		}
		return 0
	}
}
