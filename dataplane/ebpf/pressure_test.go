package ebpf

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// hasCondition reports whether Status names what has all of parts.
func hasCondition(conditions []string, parts ...string) bool {
	return slices.ContainsFunc(conditions, func(c string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(c, p) })
	})
}

func TestFullFlowTableGoesOnAcceptingConnections(t *testing.T) {
	const fit, connections = 1024, 4000
	s := testSet(true)
	b := newBed(t, s)
	d := b.openSized(sizes{bpf.WeftMapWeftFlows: fit})
	b.apply(d, s)
	if c := b.status(d).Conditions; len(c) != 0 {
		t.Errorf("conditions %q before anything happened", c)
	}
	red, blue := b.wire(redPort), b.wire(bluePort)
	for i := range connections {
		red.send(packet.Build(udp(redPort, redAddr, blueAddr, uint16(10000+i), 5001, "pressure")))
	}
	if n := blue.count(connections, time.Second, holding("pressure")); n != connections {
		t.Errorf("%d of %d new connections were accepted", n, connections)
	}
	status := b.status(d)
	if !hasCondition(status.Conditions, bpf.WeftMapWeftFlows, "gave way") {
		t.Errorf("conditions %q", status.Conditions)
	}
	use := status.Maps[slices.IndexFunc(status.Maps, func(m dataplane.MapUse) bool { return m.Name == bpf.WeftMapWeftFlows })]
	if use.Entries > fit || use.Evicted < 2*connections-fit || use.Evicted > 2*connections {
		t.Errorf("%+v", use)
	}
	b.serve(bluePort, 80)
	if _, err := b.ask(redPort, blueWeb); err != nil {
		t.Error("a connection to a full table:", err)
	}
}

func TestUsedUpSourcePortsAreNamed(t *testing.T) {
	const first, last = 3000, 3003
	s := openSet(true, first, last)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, outside := b.wire(redPort), b.wire(uplinkPort)
	open := func(dport uint16, n int) (ports []uint16) {
		for i := range n {
			red.send(packet.Build(udp(redPort, redAddr, outsideAddr, uint16(20000+i), dport, "exhaust")))
		}
		for len(ports) < n {
			f := outside.next(300 * time.Millisecond)
			if f == nil {
				break
			}
			if holding("exhaust")(f) {
				ports = append(ports, binary.BigEndian.Uint16(f[34:]))
			}
		}
		slices.Sort(ports)
		return ports
	}
	if got, want := open(53, 7), []uint16{first, first + 1, first + 2, last}; !slices.Equal(got, want) {
		t.Errorf("source ports %v, want %v", got, want)
	}
	status := b.status(d)
	if status.Drops["snat_exhausted"] != 3 || len(status.Drops) != 1 {
		t.Errorf("drops %v, want 3 snat_exhausted", status.Drops)
	}
	if !hasCondition(status.Conditions, "snat_exhausted", "3 packets") {
		t.Errorf("conditions %q", status.Conditions)
	}
	// another destination has source ports of its own
	if got := open(54, 4); len(got) != 4 {
		t.Errorf("another destination: source ports %v", got)
	}
}

// refusing is testSet(true), in which red may send nothing or, if not out,
// blue receive nothing.
func refusing(out bool) *table.Set {
	s := testSet(true)
	id := table.RulesetID(2)
	if out {
		id = 1
	}
	s.Rulesets.Put(id, &table.Ruleset{ID: id, Rules: []*table.Rule{{ID: 9, Action: table.Drop, AnyRemote: true}}})
	if out {
		s.Endpoints.Get(table.EndpointKey{Segment: 2, Addr: blueAddr}).Out = []table.RulesetID{3}
		s.Rulesets.Put(3, &table.Ruleset{ID: 3, Rules: []*table.Rule{{ID: 2, Action: table.Allow, AnyRemote: true}}})
	}
	return s
}

func TestChangedRulesJudgeEstablishedConnections(t *testing.T) {
	b := newBed(t, testSet(true))
	d := b.open()
	b.apply(d, testSet(true))
	client, server := b.connect(redPort, bluePort, blueWeb)
	for _, tc := range []struct {
		name     string
		set      *table.Set
		from, to net.Conn
	}{
		{"client sends, destination refuses", testSet(false), client, server},
		{"server sends, destination of the first packet refuses", testSet(false), server, client},
		{"client sends, its own port refuses", refusing(true), client, server},
		{"server sends, the client's port refuses", refusing(true), server, client},
		{"server sends, its own port receives nothing", refusing(false), server, client},
	} {
		if !passes(t, client, server, time.Second) || !passes(t, server, client, time.Second) {
			t.Fatalf("%s: the connection does not go on beforehand", tc.name)
		}
		before := b.status(d).Drops["dfw_rule"]
		b.apply(d, tc.set)
		if passes(t, tc.from, tc.to, 100*time.Millisecond) {
			t.Errorf("%s: data passes", tc.name)
		}
		if b.status(d).Drops["dfw_rule"] == before {
			t.Errorf("%s: no drop is counted", tc.name)
		}
		b.apply(d, testSet(true))
		if !arrives(tc.to, 2*time.Second) { // sent again by TCP
			t.Errorf("%s: data does not pass when it is allowed again", tc.name)
		}
	}
}

func TestChangesLoseNoPacketOfThousandsOfConnections(t *testing.T) {
	const connections, changes = 3000, 10
	s := testSet(true)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	red, blue := b.wire(redPort), b.wire(bluePort)
	var made atomic.Int64
	stop := background(t, func() {
		n := made.Load()
		next := testSet(true)
		p := netip.MustParsePrefix("198.51.100.0/24")
		next.Routes.Put(table.RouteKey{VRF: 1, Prefix: p}, &table.Route{VRF: 1, Prefix: p, Kind: []table.RouteKind{table.RouteDiscard, table.RouteLocal}[n%2]})
		next.Timeouts.UDPSingle += uint32(n % 3)
		if err := b.tryApply(d, next); err != nil {
			t.Error(err)
		}
		made.Add(1)
	})
	sent := 0
	for round := 0; round < 3 || made.Load() < changes && round < 30; round++ {
		for i := range connections {
			red.send(packet.Build(udp(redPort, redAddr, blueAddr, uint16(10000+i), 5001, "forth")))
			blue.send(packet.Build(udp(bluePort, blueAddr, redAddr, 5001, uint16(10000+i), "back")))
			sent++
		}
	}
	stop()
	if got := blue.count(sent, time.Second, holding("forth")); got != sent {
		t.Errorf("%d of %d packets arrived", got, sent)
	}
	if got := red.count(sent, time.Second, holding("back")); got != sent {
		t.Errorf("%d of %d answers arrived", got, sent)
	}
	if drops := b.status(d).Drops; len(drops) != 0 {
		t.Errorf("drops %v", drops)
	}
	if n := made.Load(); n < changes {
		t.Errorf("%d changes, want %d at least", n, changes)
	}
}
