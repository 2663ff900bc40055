package ebpf

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// compareAddrs lets cmp look at addresses.
var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// connections returns copies of all connections, by the port that they are to.
func (b *bed) connections(d *Driver) map[uint16]dataplane.Connection {
	b.t.Helper()
	out := map[uint16]dataplane.Connection{}
	err := d.Connections(context.Background(), func(c *dataplane.Connection) bool {
		kept := *c
		kept.Rules, kept.NATs = slices.Clone(c.Rules), slices.Clone(c.NATs)
		out[c.Tuple.DstPort] = kept
		return true
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// TestObserver looks at connections between workloads and to the outside by
// another Driver than the one that applied.
func TestObserver(t *testing.T) {
	s := openSet(true, 3000, 3999)
	b := newBed(t, s)
	owner := b.open()
	b.apply(owner, s)
	d := b.open()
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	red.send(packet.Build(udp(redPort, redAddr, outsideAddr, 20000, 53, "look")))
	if outside.count(1, time.Second, holding("look")) != 1 {
		t.Fatal("the packet did not leave")
	}
	client, server := b.connect(redPort, bluePort, blueWeb)
	if !passes(t, client, server, time.Second) {
		t.Fatal("no byte passes")
	}
	red.send(packet.Build(udp(redPort, malloryAddr, outsideAddr, 20000, 53, "spoofed")))

	got := b.connections(d)
	dns := got[53]
	want := dataplane.Connection{
		Zone: pipeline.Zone{Port: redPort}, In: redPort, InDev: b.binding[redPort].IfIndex,
		Tuple: packet.Tuple{Src: redAddr, Dst: outsideAddr, Proto: packet.UDP, SrcPort: 20000, DstPort: 53},
		To:    packet.Tuple{Src: snatAddr, Dst: outsideAddr, Proto: packet.UDP, SrcPort: dns.To.SrcPort, DstPort: 53},
		State: pipeline.ConnNew, Age: dns.Age, Original: dataplane.Direction{Idle: dns.Age, Packets: 1, Bytes: 20 + 8 + 4}, Reply: dataplane.Direction{Idle: dns.Age},
		Out: uplinkPort, OutDev: b.binding[uplinkPort].IfIndex, NextHop: outsideAddr, Hops: 2, Rules: []uint32{2}, NATs: []uint32{42},
	}
	if d := cmp.Diff(want, dns, compareAddrs); d != "" || dns.To.SrcPort < 3000 || dns.To.SrcPort > 3999 || dns.Age > time.Minute {
		t.Errorf("to the outside (-want +got):\n%s", d)
	}
	web := got[80]
	if web.State != pipeline.ConnEstablished || !slices.Equal(web.Rules, []uint32{2, 1005}) || web.Mid.IsValid() || web.To != web.Tuple ||
		web.Original.Packets < 3 || web.Reply.Packets < 1 || web.Over {
		t.Errorf("between workloads: %+v", web)
	}

	if err := owner.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	web = b.connections(d)[80]
	tallies, err := d.Tallies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tallies[pipeline.TallyKey{Kind: pipeline.TallyRule, ID: 1005}], (pipeline.Tally{Hits: 1, Packets: web.Packets(), Bytes: web.Bytes()}); got != want {
		t.Errorf("tally of rule 1005: %+v, want %+v", got, want)
	}
	if got := tallies[pipeline.TallyKey{Kind: pipeline.TallyNAT, ID: 42}]; got != (pipeline.Tally{Hits: 1, Packets: 1, Bytes: 32}) {
		t.Errorf("tally of NAT rule 42: %+v", got)
	}
	drops, err := d.PortDrops(t.Context())
	if err != nil || !slices.Contains(drops, dataplane.PortDrop{Port: redPort, Reason: pipeline.ReasonSpoofguard, Packets: 1}) {
		t.Errorf("drops: %+v, %v", drops, err)
	}
}

// TestObserverOfWhatIsGone: connections of a port that the tables do not have
// any more are shown, counts of its rules are forgotten.
func TestObserverOfWhatIsGone(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	client, server := b.connect(redPort, bluePort, blueWeb)
	if !passes(t, client, server, time.Second) {
		t.Fatal("no byte passes")
	}
	bare := table.NewSet("host1")
	b.apply(d, bare)
	web, ok := b.connections(d)[80]
	if !ok || web.In != 0 || web.Zone != (pipeline.Zone{}) || web.InDev != b.binding[redPort].IfIndex || web.Tuple.Dst != blueAddr || web.Out != bluePort || len(web.Rules) != 2 {
		t.Errorf("there %t: %+v", ok, web)
	}
	if err := d.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	tallies, err := d.Tallies(t.Context())
	if err != nil || len(tallies) != 0 {
		t.Errorf("tallies %v, %v", tallies, err)
	}
	drops, err := d.PortDrops(t.Context())
	if drops = slices.DeleteFunc(drops, func(d dataplane.PortDrop) bool { return d.Port == 0 }); err != nil || len(drops) != 0 {
		t.Errorf("drops %v, %v", drops, err)
	}
}

func TestConnectionsEnd(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, blue := b.wire(redPort), b.wire(bluePort)
	const n = 3000 // more than one batch
	for i := range n {
		red.send(packet.Build(udp(redPort, redAddr, blueAddr, 20000, uint16(1000+i), "many")))
	}
	if got := blue.count(n, time.Second, holding("many")); got != n {
		t.Fatalf("%d of %d packets arrived", got, n)
	}
	if got := len(b.connections(d)); got != n {
		t.Errorf("%d connections of %d", got, n)
	}
	calls := 0
	if err := d.Connections(t.Context(), func(*dataplane.Connection) bool { calls++; return calls < 7 }); err != nil || calls != 7 {
		t.Errorf("%d calls, %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	if err := d.Connections(ctx, func(*dataplane.Connection) bool { calls++; cancel(); return true }); !errors.Is(err, context.Canceled) || calls == n {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// logged is testSet with rules that are logged at blue: udp 5001 allowed, udp
// 5002 dropped.
func logged() *table.Set {
	s := testSet(true)
	at := func(port uint16) []table.Service { return []table.Service{{Proto: 17, First: port, Last: port}} }
	s.Rulesets.Get(2).Rules = append([]*table.Rule{
		{ID: 1006, Name: "let", Action: table.Allow, AnyRemote: true, Services: at(5001), Logged: true, Tag: "audit"},
		{ID: 1007, Name: "stop", Action: table.Drop, AnyRemote: true, Services: at(5002), Logged: true},
	}, s.Rulesets.Get(2).Rules...)
	return s
}

func TestLoggedRules(t *testing.T) {
	s := logged()
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, blue := b.wire(redPort), b.wire(bluePort)
	began := time.Now()
	for _, port := range []uint16{5001, 5001, 5002, 5002, 5003} { // the second 5001 is of the same connection
		red.send(packet.Build(udp(redPort, redAddr, blueAddr, 20000, port, "line")))
	}
	if n := blue.count(3, time.Second, holding("line")); n != 3 {
		t.Fatalf("%d of 3 packets arrived", n)
	}
	r, err := d.Logs()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.open().Logs(); !errors.Is(err, dataplane.ErrLogsTaken) {
		t.Errorf("a second reader: %v", err)
	}
	for _, want := range []struct {
		rule   uint32
		action table.RuleAction
		port   uint16
	}{{1006, table.Allow, 5001}, {1007, table.Drop, 5002}, {1007, table.Drop, 5002}} {
		l, err := r.Next(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		at := l.Time
		l.Time = time.Time{}
		asked := packet.Tuple{Src: redAddr, Dst: blueAddr, Proto: packet.UDP, SrcPort: 20000, DstPort: want.port}
		line := dataplane.LogLine{
			Generation: d.Generation(), Rule: want.rule, Stage: pipeline.StageDFWIn, ID: uint32(bluePort), Action: want.action,
			Asked: asked, Src: redAddr, Dst: blueAddr, DstPort: want.port,
		}
		if d := cmp.Diff(line, l, compareAddrs); d != "" || l.Port() != bluePort || l.Direction() != "in" {
			t.Errorf("line (-want +got):\n%s", d)
		}
		if at.Before(began.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("time %v, it is %v", at, time.Now())
		}
	}
	if l, err := r.Next(0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more: %+v, %v", l, err)
	}
	// Drops are logged again when tables change, too.
	s = testSet(true)
	s.Rulesets.Get(2).Rules = append([]*table.Rule{{ID: 1008, Action: table.Drop, AnyRemote: true, Services: []table.Service{{Proto: 17, First: 5001, Last: 5001}}, Logged: true}}, s.Rulesets.Get(2).Rules...)
	b.apply(d, s)
	red.send(packet.Build(udp(redPort, redAddr, blueAddr, 20000, 5001, "line")))
	if l, err := r.Next(time.Second); err != nil || l.Rule != 1008 || !l.Again || l.Action != table.Drop {
		t.Errorf("of an open connection: %+v, %v", l, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	again, err := d.Logs()
	if err != nil {
		t.Fatal("after the first reader:", err)
	}
	again.Close()
}

// TestFloodOfLoggedPacketsLosesLinesOnly: each connection has its line, or is
// counted as lost; all packets arrive.
func TestFloodOfLoggedPacketsLosesLinesOnly(t *testing.T) {
	s := logged()
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	r, err := d.Logs()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	red, blue := b.wire(redPort), b.wire(bluePort)
	const n = 4000
	for i := range n {
		red.send(packet.Build(udp(redPort, redAddr, blueAddr, uint16(10000+i), 5001, "flood")))
	}
	if got := blue.count(n, 2*time.Second, holding("flood")); got != n {
		t.Errorf("%d of %d packets arrived", got, n)
	}
	lines := map[uint16]bool{}
	for {
		l, err := r.Next(0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		lines[l.Asked.SrcPort] = true
	}
	lost, err := r.Lost()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) < 200 || lost == 0 || uint64(len(lines))+lost != n {
		t.Errorf("%d lines and %d lost of %d", len(lines), lost, n)
	}
	if got := b.status(d).Counters["logs_lost"]; got != lost {
		t.Errorf("status tells %d lost lines", got)
	}
}

// BenchmarkConnections measures a look at 100000 connections.
func BenchmarkConnections(b *testing.B) {
	d := newHost(b).open()
	const n = 100000
	at := func(i int) bpf.WeftTuple {
		return mapTuple(packet.Tuple{Src: redAddr, Dst: blueAddr, Proto: packet.UDP, SrcPort: uint16(i), DstPort: uint16(i >> 16)})
	}
	back := func(t bpf.WeftTuple) bpf.WeftTuple { return peerKey(&bpf.WeftFlow{T: t}).T }
	for i := range n {
		o, r := at(i), back(at(i))
		for k, f := range map[bpf.WeftFlowKey]bpf.WeftFlow{{T: o, Zone: 1}: {T: o, PeerZone: 2}, {T: r, Zone: 2}: {T: r, PeerZone: 1, Flags: flowReply}} {
			if err := d.objs.WeftFlows.Put(k, f); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		got := 0
		if err := d.Connections(b.Context(), func(*dataplane.Connection) bool { got++; return true }); err != nil || got != n {
			b.Fatalf("%d connections, %v", got, err)
		}
	}
}
