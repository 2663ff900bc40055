package pipeline

import (
	"slices"
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// FuzzRun sends a frame from any device twice, and what came out of a port
// back, over a change of the Set.
func FuzzRun(f *testing.F) {
	seeds := []struct {
		from table.PortID
		in   packet.Spec
	}{
		{testset.DB1, db(syn)},
		{testset.Web1, to(tcp(testset.Web1, "10.1.1.10", 5, "10.1.1.20", 30080, syn), testset.NodeUp)},
		{testset.Web2, udp(testset.Web2, "10.1.1.11", 5, "192.0.2.9", 53)},
		{testset.Pod1, echo(testset.Pod1, "10.200.1.10", "192.0.2.9", 5)},
		{testset.UplinkEast, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn)},
		{testset.UplinkWest, udp(outside, "192.0.2.9", 5, "203.0.113.18", 5000)},
		{testset.App1, raw(testset.App1, "10.1.1.10", "10.1.2.11", 47)},
		{testset.Web1, web1ToVIP(5, syn)},
		{testset.UplinkEast, tcp(outside, "198.18.0.9", 5, "203.0.113.24", 443, syn)},
		{testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 80, syn)},
		{testset.DB1, about(testset.DB1, "10.1.2.10", "10.1.2.11", packet.Build(dbReply(syn)))},
	}
	for _, s := range seeds {
		f.Add(uint32(s.from), packet.Build(s.in))
		first, later := fragments(s.in)
		f.Add(uint32(s.from), packet.Build(first))
		f.Add(uint32(s.from), packet.Build(later))
	}
	f.Fuzz(func(t *testing.T, from uint32, frame []byte) {
		fab := newLBFabric(t)
		fab.apply(change(mtu(1400), snat(testset.PoolFar, table.SNATAutoMap)))
		check(t, fab, table.PortID(from), frame)
		res := check(t, fab, table.PortID(from), frame)
		fab.apply(func(s *table.Set) {
			s.NAT.Get(table.NATKey{VRF: testset.Red, Dir: table.NATOut}).Rules[3].To = prefix("203.0.113.20/32")
		})
		if res.Verdict == Forward {
			p := fab.decode(res.Frame)
			packet.Translate(res.Frame, p.Tuple().Reversed())
			packet.SetMACs(res.Frame, packet.MAC(table.RouterMAC), p.EthDst)
			check(t, fab, res.Out, res.Frame)
		}
		check(t, fab, table.PortID(from), frame)
	})
}

// check runs one frame and looks at what must hold for any.
func check(t *testing.T, f *fabric, from table.PortID, frame []byte) Result {
	t.Helper()
	in := slices.Clone(frame)
	res := f.raw(from, frame)
	if !slices.Equal(in, frame) {
		t.Fatal("the input was changed")
	}
	switch res.Verdict {
	case Forward:
		p := f.decode(res.Frame)
		if res.Reason != ReasonNone || len(res.Frame) != len(frame) || res.Out == 0 {
			t.Fatalf("forward with reason %s, %d bytes by %d", res.Reason, len(res.Frame), res.Out)
		}
		if res.Key.Tuple.Proto != 0 && !p.ICMPError() && !p.Later() && p.Tuple() != res.Translated {
			t.Fatalf("sent %s, want %s", p.Tuple(), res.Translated)
		}
	case Drop:
		if res.Reason == ReasonNone || len(res.Frame) != 0 {
			t.Fatalf("drop with reason %s and %d bytes", res.Reason, len(res.Frame))
		}
	case Answer:
		if res.Out != from || len(res.Frame) == 0 {
			t.Fatalf("answer by %d, want %d", res.Out, from)
		}
	case Pass:
		if f.set.Uplinks.Get(from) == nil {
			t.Fatal("a port's frame was passed")
		}
	case Hold:
		if res.Reason != ReasonNone || len(res.Frame) != 0 || f.st.Held() == 0 {
			t.Fatalf("hold with reason %s and %d bytes", res.Reason, len(res.Frame))
		}
	default:
		t.Fatal("no verdict")
	}
	if len(res.Steps) == 0 || len(res.Steps) > MaxSteps {
		t.Fatalf("%d steps", len(res.Steps))
	}
	if last := res.Steps[len(res.Steps)-1]; len(res.Steps) < MaxSteps && last.Reason != res.Reason {
		t.Fatalf("reason %s, last step %s", res.Reason, path(res))
	}
	if f.st.Len()%2 != 0 {
		t.Fatal("half a pair")
	}
	return res
}
