package ebpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// dump returns every map that a Set fills as the kernel holds it: both slots.
func dump(t *testing.T, d *Driver) bpf.Tables {
	t.Helper()
	d.finish()
	out := bpf.Tables{}
	for name, m := range d.maps() {
		out[name] = bpf.Entries{}
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		it := m.Iterate()
		for it.Next(&key, &value) {
			out[name][string(key)] = bytes.Clone(value)
		}
		if err := it.Err(); err != nil {
			t.Fatal(name, err)
		}
	}
	return out
}

// Read returns the rows that the kernel forwards by.
func (d *Driver) Read() (bpf.Tables, error) {
	out := bpf.Tables{}
	err := d.locked(func() error {
		if err := d.refresh(); err != nil {
			return err
		}
		for name, m := range d.maps() {
			out[name] = bpf.Entries{}
			err := scan(m, func(key, value []byte) { out[name][string(key)] = bytes.Clone(d.slot(value)) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// encode returns what the maps hold when a Set is current and nothing else.
func encode(t *testing.T, s *table.Set, b dataplane.Binding) bpf.Tables {
	t.Helper()
	devices := map[table.PortID]bpf.Device{}
	for id, l := range b {
		devices[id] = bpf.Device{IfIndex: uint32(l.IfIndex), MAC: l.MAC}
	}
	tables, err := bpf.Encode(s, devices)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// doubled returns tables as they lie in the maps: the same in both slots.
func doubled(tables bpf.Tables) bpf.Tables {
	out := bpf.Tables{}
	for name, entries := range tables {
		out[name] = bpf.Entries{}
		for k, v := range entries {
			out[name][k] = append(bytes.Clone(v), v...)
		}
	}
	return out
}

// differ names the maps in which two Tables differ, and by how many rows.
func differ(got, want bpf.Tables) string {
	var out []string
	for _, name := range bpf.TableMaps {
		n := 0
		for k, v := range want[name] {
			if !bytes.Equal(got[name][k], v) {
				n++
			}
		}
		for k := range got[name] {
			if want[name][k] == nil {
				n++
			}
		}
		if n > 0 {
			out = append(out, fmt.Sprintf("%s: %d rows", name, n))
		}
	}
	return strings.Join(out, ", ")
}

// settled fails the test if the maps hold anything but one of the tables
// wholly; it returns which.
func settled(t *testing.T, d *Driver, oneOf ...bpf.Tables) int {
	t.Helper()
	got := dump(t, d)
	var why []string
	for i, want := range oneOf {
		diff := differ(got, doubled(want))
		if diff == "" {
			return i
		}
		why = append(why, diff)
	}
	t.Fatalf("the maps hold none of the Sets wholly: %s", strings.Join(why, "; or "))
	return -1
}

// coinWithDevices binds a port to each side of coin that the other lacks, so
// that they differ in the devices too.
func coinWithDevices(b dataplane.Binding) [2]*table.Set {
	sides := coin()
	for i, s := range sides {
		id := table.PortID(91 + i)
		s.Ports.Put(id, &table.Port{ID: id, Path: "/infra/segments/s1/ports/more", Segment: 1, MAC: mac(byte(id))})
		b[id] = dataplane.Link{IfIndex: 1} // the loopback device takes the program like any
	}
	return sides
}

func TestApplyThatFailsInAnyMapChangesNothing(t *testing.T) {
	b := newHost(t)
	b.binding = dataplane.Binding{}
	sides := coinWithDevices(b.binding)
	before := encode(t, sides[0], b.binding)
	for _, full := range bpf.TableMaps {
		rows := max(1, len(before[full]))
		if full == bpf.WeftMapWeftDevices {
			continue // one device a side: nothing more to put in
		}
		t.Run(full, func(t *testing.T) {
			d := b.openSized(sizes{full: uint32(rows)})
			defer d.Close()
			defer d.Remove()
			b.apply(d, sides[0])
			generation := d.Generation()

			err := b.tryApply(d, sides[1])
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s: ", full)) || !strings.Contains(err.Error(), fmt.Sprintf("(at most %d rows)", rows)) {
				t.Errorf("error %v, want one that names %s and its size", err, full)
			}
			settled(t, d, before)
			if got, err := d.Read(); err != nil || differ(got, before) != "" {
				t.Errorf("read: %v, %s", err, differ(got, before))
			}
			if d.Generation() != generation {
				t.Errorf("generation %d, was %d", d.Generation(), generation)
			}
			smaller := testSet(false)
			b.apply(d, smaller)
			settled(t, d, encode(t, smaller, b.binding))
		})
	}
}

func TestApplyThatFailsLeavesTheOldSetForwarding(t *testing.T) {
	good := testSet(true)
	b := newBed(t, good)
	b.serve(bluePort, 80)
	rows := encode(t, good, b.binding)
	// rules come last, so everything else is written by then
	d := b.openSized(sizes{bpf.WeftMapWeftRules: uint32(len(rows[bpf.WeftMapWeftRules]))})
	b.apply(d, good)
	client, server := b.connect(redPort, bluePort, netip.AddrPortFrom(blueAddr, 8080))

	bad := testSet(false)
	for k := range bad.Endpoints.All() {
		bad.Endpoints.Get(k).Out = []table.RulesetID{7}
	}
	bad.Rulesets.Put(7, &table.Ruleset{ID: 7, Rules: []*table.Rule{{ID: 9, Action: table.Drop, AnyRemote: true, Services: []table.Service{{Proto: 6, First: 1, Last: 65534}}}}})
	bad.Routes.Delete(table.RouteKey{VRF: 1, Prefix: netip.MustParsePrefix("10.244.0.64/28")})
	for range 3 {
		if err := b.tryApply(d, bad); err == nil {
			t.Fatal("a Set that does not fit was applied")
		}
		settled(t, d, rows)
		if !passes(t, client, server, time.Second) || !passes(t, server, client, time.Second) {
			t.Error("an established connection does not go on")
		}
		if _, err := b.ask(redPort, blueWeb); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	}
	if s := b.status(d); len(s.Drops) != 0 {
		t.Errorf("drops %v", s.Drops)
	}
	b.apply(d, testSet(false))
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("a later Set that fits is not in force")
	}
}

func TestApplyThatIsCancelledChangesNothing(t *testing.T) {
	b := newHost(t)
	d := b.open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Apply(ctx, testSet(true), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	settled(t, d, bpf.Tables{})
}

func TestApplyAfterRowsWereLeftBehind(t *testing.T) {
	b := newHost(t)
	d := b.open()
	sides := coin()
	b.apply(d, sides[0])
	d.finish()
	grace, generation := d.grace, d.Generation()
	d.grace = d.objs.WeftDrops // takes no map: waiting fails after the generation has changed
	err := b.tryApply(d, sides[1])
	d.finish()
	d.grace = grace
	if err != nil && d.Generation() != generation {
		t.Errorf("error %v, but the new Set is in force", err)
	}
	another := coin()[1]
	another.Ports.Get(bluePort).MAC = mac(99)
	another.Endpoints.Get(table.EndpointKey{Segment: 2, Addr: blueAddr}).MAC = mac(99)
	b.apply(d, another)
	settled(t, d, encode(t, another, b.binding))
}

func TestApplyTwiceIsNoChange(t *testing.T) {
	b := newHost(t)
	s := coinWithDevices(b.binding)[0]
	d := b.open()
	b.apply(d, s)
	before, config, generation := dump(t, d), d.config, d.Generation()
	ctx := context.Background()
	for _, d := range []*Driver{d, b.open()} {
		b.apply(d, s)
		b.do(b.host, func() error { return d.Apply(ctx, coinWithDevices(b.binding)[0], b.binding) })
		if d.Generation() != generation || b.status(d).Generation != generation {
			t.Errorf("generation %d, was %d", d.Generation(), generation)
		}
		if diff := cmp.Diff(config, d.config); diff != "" {
			t.Error("config:", diff)
		}
		if diff := differ(dump(t, d), before); diff != "" {
			t.Error("written:", diff)
		}
		got, err := d.Read()
		if diff := cmp.Diff(encode(t, s, b.binding), got); err != nil || diff != "" {
			t.Errorf("read: %v, %s", err, diff)
		}
	}
}

// probes counts datagrams from red to blue, by destination port.
type probes struct {
	sent, got [1 << 16]atomic.Int64
}

// probe sends one datagram each, from a source port of its own and from a
// constant one, which belongs to a connection after the first.
func (p *probes) probe(w *wire, round int) {
	for _, port := range []uint16{headsPort, tailsPort, bothPort, mixPort} {
		for _, from := range []uint16{1000, 10000 + uint16(round%40000)} {
			w.send(packet.Build(udp(redPort, redAddr, blueAddr, from, port, "probe")))
			p.sent[port].Add(1)
		}
	}
	time.Sleep(time.Millisecond)
}

// receive counts what arrives; each datagram for bothPort is one that blue
// would answer.
func (p *probes) receive(w *wire) {
	var pk packet.Packet
	if f := w.next(20 * time.Millisecond); f != nil && pk.Decode(f) == packet.FaultNone && pk.Proto == packet.UDP {
		p.got[pk.DstPort].Add(1)
	}
}

// probing sends probes until stop, which returns when all that were sent to
// bothPort have arrived, or none came for a while.
func (b *bed) probing() (p *probes, stop func()) {
	p = &probes{}
	red, blue := b.wire(redPort), b.wire(bluePort)
	stopReceiving := background(b.t, func() { p.receive(blue) })
	round := 0
	stopSending := background(b.t, func() { p.probe(red, round); round++ })
	return p, func() {
		stopSending()
		for range 100 {
			if p.got[bothPort].Load() >= p.sent[bothPort].Load() {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		stopReceiving()
	}
}

// check says what probes tell of the Sets of coin.
func (p *probes) check(t *testing.T) {
	t.Helper()
	if n := p.got[mixPort].Load(); n != 0 {
		t.Errorf("%d packets passed that neither Set allows", n)
	}
	if sent, got := p.sent[bothPort].Load(), p.got[bothPort].Load(); sent < 100 || got != sent {
		t.Errorf("%d of %d packets arrived that both Sets allow", got, sent)
	}
	for _, port := range []uint16{headsPort, tailsPort} {
		if sent, got := p.sent[port].Load(), p.got[port].Load(); got == 0 || got == sent {
			t.Errorf("%d of %d packets to port %d arrived: both Sets were to be in force for a while", got, sent, port)
		}
	}
}

// grows reports whether n becomes larger by some, before long.
func grows(n *atomic.Int64, by int64) bool {
	want := n.Load() + by
	for range 400 {
		if n.Load() >= want {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// applier starts a process that applies coin in turn. It returns when the
// first is applied; the reader tells of each.
func (b *bed) applier() (*exec.Cmd, io.Reader) {
	b.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), applierEnv+"="+applyOrder{b.dir, b.binding}.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(b.host, cmd.Start)
	b.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		b.t.Fatal(err)
	}
	return cmd, out
}

func TestKillAtAnyMomentLeavesOneSet(t *testing.T) {
	const kills = 12
	sides := coin()
	b := newBed(t, testSet(true))
	d := b.open()
	b.apply(d, sides[0])
	d.Close()
	tables := []bpf.Tables{encode(t, sides[0], b.binding), encode(t, sides[1], b.binding)}
	p, stop := b.probing()
	torn := 0
	for range kills {
		cmd, out := b.applier()
		begun := time.Now()
		io.ReadFull(out, make([]byte, 1))
		time.Sleep(rand.N(2 * time.Since(begun)))
		cmd.Process.Kill()
		cmd.Wait()

		var raw bpf.Tables
		b.do(b.host, func() error {
			r := &Driver{dir: filepath.Join(b.dir, version())} // reads and mends nothing
			defer r.objs.Close()
			if err := r.load(nil); err != nil {
				return err
			}
			raw = dump(t, r)
			return nil
		})
		if differ(raw, doubled(tables[0])) != "" && differ(raw, doubled(tables[1])) != "" {
			torn++
		}
		d := b.open()
		in := settled(t, d, tables...)
		allowed, denied := &p.got[headsPort], &p.got[tailsPort]
		if in == 1 {
			allowed, denied = denied, allowed
		}
		before := denied.Load()
		if !grows(allowed, 4) {
			t.Errorf("Set %d is in the maps; what it allows does not pass", in)
		}
		if n := denied.Load(); n != before {
			t.Errorf("Set %d is in the maps; %d packets pass that it denies", in, n-before)
		}
		d.Close()
	}
	stop()
	p.check(t)
	if torn == 0 {
		t.Errorf("none of %d kills hit a change that was under way", kills)
	}
	t.Logf("%d of %d kills hit a change that was under way; %d packets", torn, kills, p.sent[bothPort].Load())
}

func TestReaderDoesNotDisturbAnApply(t *testing.T) {
	sides := coin()
	b := newBed(t, testSet(true))
	first := b.open()
	b.apply(first, sides[0])
	tables := []bpf.Tables{encode(t, sides[0], b.binding), encode(t, sides[1], b.binding)}
	p, stop := b.probing()
	cmd, out := b.applier()
	go io.Copy(io.Discard, out)
	seen := map[string]int{}
	for i := range 12 {
		d := first
		if i%2 == 0 {
			d = b.open()
		}
		got, err := d.Read()
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.IndexFunc(tables, func(want bpf.Tables) bool { return differ(got, want) == "" })
		seen[fmt.Sprint(whole)]++
		b.status(d)
	}
	cmd.Process.Kill()
	cmd.Wait()
	stop()
	p.check(t)
	if seen["-1"] > 0 {
		t.Errorf("read %v: none of the Sets wholly", slices.Sorted(maps.Keys(seen)))
	}
	b.apply(first, sides[0])
	settled(t, first, tables[0])
}

func TestKilledAgentLeavesTrafficAlone(t *testing.T) {
	b := newBed(t, testSet(true))
	cmd, _ := b.applier()
	client, server := b.connect(redPort, bluePort, netip.AddrPortFrom(blueAddr, bothPort))
	cmd.Process.Kill()
	cmd.Wait()
	for range 3 {
		if !passes(t, client, server, time.Second) || !passes(t, server, client, time.Second) {
			t.Error("an established connection does not go on")
		}
	}
	b.do(b.work[redPort], func() error {
		c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(blueAddr, bothPort).String(), time.Second)
		if err != nil {
			t.Error("a new connection:", err)
			return nil
		}
		return c.Close()
	})
}
