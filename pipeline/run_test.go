package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func TestRunIntoDoesNotAllocateForAKnownConnection(t *testing.T) {
	rows := []struct {
		name     string
		from, to table.PortID
		in       packet.Spec
	}{
		{"routed", testset.DB1, testset.DB2, db(syn)},
		{"translated", testset.Web2, testset.UplinkEast, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53)},
		{"by a virtual server", testset.Web1, testset.Srv1, web1ToVIP(5, syn)},
		{"by a distributed one", testset.Web2, testset.Srv1, tcp(testset.Web2, "10.1.1.11", 5, "10.96.0.10", 80, syn)},
		{"translated twice, inwards", testset.UplinkEast, testset.Web1, tcp(outside, "192.0.2.9", 5, "192.0.2.100", 80, syn)},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			f.forward(r.from, r.in, r.to)
			in := Input{Port: r.from, Frame: packet.Build(r.in)}
			var res Result
			RunInto(&res, f.ix, f.st, in, f.gen, f.now)
			gen := f.gen
			if n := testing.AllocsPerRun(100, func() { RunInto(&res, f.ix, f.st, in, gen, f.now) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
			if n := testing.AllocsPerRun(100, func() {
				gen++
				RunInto(&res, f.ix, f.st, in, gen, f.now)
			}); n != 0 {
				t.Errorf("%v allocations when it is walked again", n)
			}
			if res.Verdict != Forward || res.New {
				t.Error(path(res))
			}
		})
	}
}

func TestRunIntoLeavesNothingOfTheLastResult(t *testing.T) {
	f := newFabric(t)
	var res Result
	RunInto(&res, f.ix, f.st, Input{testset.DB1, packet.Build(db(syn))}, f.gen, f.now)
	in := Input{testset.Web1, packet.Build(udp(testset.Web1, "10.1.1.10", 7, "192.0.2.66", 25))}
	RunInto(&res, f.ix, f.st, in, f.gen, f.now)
	want := Run(f.ix, f.st, in, f.gen, f.now)
	res.Frame = nil
	if d := cmp.Diff(want, res, byValue); d != "" {
		t.Error(d)
	}
}

func TestRunLeavesTheInputAlone(t *testing.T) {
	f := newFabric(t)
	frame := packet.Build(udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53))
	f.raw(testset.Web2, frame)
	if d := cmp.Diff(packet.Build(udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53)), frame); d != "" {
		t.Error(d)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.hold(testset.DB1, func() packet.Spec {
		_, l := fragments(udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2))
		return l
	}())
	c := f.st.Clone()
	f.st.Sweep(f.now+3, f.set)
	f.forward(testset.DB1, db(fin), testset.DB2)
	f.forward(testset.DB1, udp(testset.DB1, "10.1.2.10", 1, "10.1.2.11", 2), testset.DB2)
	if fl, _ := c.Flow(keyOf(db1Zone, db(0))); fl.State != ConnNew || c.Len() != 2 || c.Held() != 1 {
		t.Errorf("%s, %d entries, %d held", fl.State, c.Len(), c.Held())
	}
	n := 0
	for range f.st.Flows() {
		n++
	}
	if n != 4 {
		t.Errorf("%d flows", n)
	}
}

func TestTicks(t *testing.T) {
	for ns, want := range map[int64]Tick{0: 0, 1<<30 - 1: 0, 1 << 30: 1, 1<<62 - 1: 1<<32 - 1} {
		if got := TickOf(ns); got != want {
			t.Errorf("tick of %d ns is %d, want %d", ns, got, want)
		}
	}
	for s, want := range map[uint32]Tick{0: 0, 1: 1, 2: 2, 30: 28, 120: 112, 43200: 40234} {
		if got := ticksOf(s); got != want {
			t.Errorf("%d s are %d ticks, want %d", s, got, want)
		}
	}
}

// Time wraps: a connection that was seen just before is alive just after.
func TestTicksWrap(t *testing.T) {
	f := newFabric(t)
	f.now = 1<<32 - 3
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.now += 10
	if res := f.send(testset.DB1, db(syn)); res.New {
		t.Error(path(res))
	}
}

func TestStepsAreBounded(t *testing.T) {
	var res Result
	for range MaxSteps + 5 {
		res.add(StageRoute, 1, packet.Tuple{}).Reason = ReasonNoRoute
	}
	if len(res.Steps) != MaxSteps {
		t.Errorf("%d steps", len(res.Steps))
	}
}

func TestStagesAndReasonsAreCompleteLists(t *testing.T) {
	for i, s := range Stages {
		if int(s.Stage) != i+1 || s.Name == "" || s.Doc == "" || s.Stage.String() != s.Name {
			t.Errorf("row %d: %+v", i, s)
		}
	}
	if len(Stages) != int(StageDeliver) {
		t.Errorf("%d stages, want %d", len(Stages), StageDeliver)
	}
	for i, r := range Reasons {
		if int(r.Reason) != i+1 || r.Name == "" || r.Doc == "" || r.Advice == "" || r.Reason.String() != r.Name {
			t.Errorf("row %d: %+v", i, r)
		}
	}
	if len(Reasons) != int(ReasonInternal) {
		t.Errorf("%d reasons, want %d", len(Reasons), ReasonInternal)
	}
	if Stage(0).String() != "none" || ReasonNone.String() != "none" {
		t.Error("zero has a name")
	}
}

func BenchmarkKnownConnection(b *testing.B) {
	f := newFabric(b)
	in := Input{testset.Web2, packet.Build(udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53))}
	var res Result
	for b.Loop() {
		RunInto(&res, f.ix, f.st, in, f.gen, f.now)
	}
}
