package ebpf

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// links returns the devices that pins are for.
func (b *bed) links() []string {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, version(), "links"))
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}

func (b *bed) bound() []string {
	var out []string
	for _, l := range b.binding {
		out = append(out, strconv.Itoa(l.IfIndex))
	}
	slices.Sort(out)
	return out
}

func TestNothingPassesBeforeApply(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	b.serve(bluePort, 80)
	b.open()
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("a connection passes before the first Apply")
	}
}

// TestNothingPassesThatNoSetNames has a host that forwards on its own: a
// device that the Set lacks must not fall through to it.
func TestNothingPassesThatNoSetNames(t *testing.T) {
	s := openSet(true, 1024, 65535)
	b := newBed(t, s)
	b.do(b.host, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	d := b.open()
	without := openSet(true, 1024, 65535)
	without.Ports.Delete(malloryPort)
	without.Endpoints.Delete(table.EndpointKey{Segment: 1, Addr: malloryAddr})
	b.apply(d, without)
	mallory, red, outside := b.wire(malloryPort), b.wire(redPort), b.wire(uplinkPort)
	for range 5 {
		mallory.send(
			packet.Build(udp(malloryPort, malloryAddr, outsideAddr, 1, 2, "unnamed")),
			packet.Build(udp(malloryPort, malloryAddr, redAddr, 1, 2, "unnamed")),
			packet.Build(arpFrom(malloryPort, packet.ARP{Op: packet.ARPRequest, SenderMAC: packet.MAC(mac(13)), Sender: malloryAddr, Target: outsideAddr})),
		)
	}
	if n := red.count(1, 50*time.Millisecond, holding("unnamed")) + outside.count(1, 50*time.Millisecond, holding("unnamed")); n != 0 {
		t.Error("a packet passes")
	}
	if n := b.status(d).Drops["no_port"]; n != 15 {
		t.Errorf("no_port %d, want 15", n)
	}
}

func TestDeviceThatIsMadeAnewIsAttachedAnew(t *testing.T) {
	s := testSet(true)
	for _, sameNumber := range []bool{false, true} {
		t.Run(fmt.Sprintf("same number %v", sameNumber), func(t *testing.T) {
			b := newBed(t, s)
			b.serve(bluePort, 80)
			d := b.open()
			b.apply(d, s)
			old, index := b.binding[redPort].IfIndex, 0
			if sameNumber {
				index = old
			}
			b.unplug(redPort)
			b.plug(redPort, b.work[redPort], mac(byte(redPort)), index)
			b.addressOf(s, s.Endpoints.Get(table.EndpointKey{Segment: 1, Addr: redAddr}))
			if (b.binding[redPort].IfIndex == old) != sameNumber {
				t.Fatalf("device %d, was %d", b.binding[redPort].IfIndex, old)
			}
			if _, err := b.ask(redPort, blueWeb); err == nil {
				t.Error("a device passes packets before it is applied")
			}
			b.apply(d, s)
			if _, err := b.ask(redPort, blueWeb); err != nil {
				t.Error("after the device was made anew:", err)
			}
			d.finish()
			if diff := cmp.Diff(b.bound(), b.links()); diff != "" {
				t.Error("pins:", diff)
			}
			settled(t, d, encode(t, s, b.binding))
		})
	}
}

func TestDeviceThatIsGoneFailsApplyAsAWhole(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	d := b.open()
	b.apply(d, s)
	before := b.links()
	gone := dataplane.Binding{redPort: {IfIndex: 9999, MAC: table.RouterMAC}, bluePort: b.binding[bluePort]}
	b.do(b.host, func() error {
		if err := d.Apply(context.Background(), testSet(false), gone); err == nil {
			t.Error("a device that does not exist was attached to")
		}
		return nil
	})
	if diff := cmp.Diff(before, b.links()); diff != "" {
		t.Error("pins:", diff)
	}
	settled(t, d, encode(t, s, b.binding))
}

func TestUnboundDeviceStaysClosed(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	b.serve(bluePort, 80)
	d := b.open()
	b.apply(d, s)
	before := b.links()
	delete(b.binding, redPort)
	b.apply(d, s)
	if diff := cmp.Diff(before, b.links()); diff != "" {
		t.Error("pins:", diff)
	}
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("a device that is bound no more passes packets")
	}
	if st, err := d.Status(context.Background()); err != nil || st.Drops["no_port"] == 0 {
		t.Errorf("drops %v, %v", st.Drops, err)
	}
}

func TestDeviceThatBecomesAnUplinkRunsTheUplinksProgram(t *testing.T) {
	b := newHost(t)
	d := b.open()
	const loopback = 1
	running := func() ebpf.ProgramID {
		t.Helper()
		l, err := link.LoadPinnedLink(d.links.pin(loopback), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		return info.Program
	}
	s := openSet(true, 1024, 65535)
	for _, step := range []struct {
		id   table.PortID
		want *ebpf.Program
	}{{redPort, d.objs.WeftPort}, {uplinkPort, d.objs.WeftUplink}, {redPort, d.objs.WeftPort}} {
		b.binding = dataplane.Binding{step.id: {IfIndex: loopback}}
		b.apply(d, s)
		info, err := step.want.Info()
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := info.ID(); running() != want {
			t.Errorf("bound to port %d: runs program %d, want %d", step.id, running(), want)
		}
	}
}

func TestTwoDriversSeeOneState(t *testing.T) {
	b := newHost(t)
	sides := coinWithDevices(b.binding)
	third := testSet(false)
	one := b.open()
	b.apply(one, sides[0])
	two := b.open()
	for i, step := range []struct {
		by  *Driver
		set *table.Set
	}{{two, sides[1]}, {one, third}, {one, sides[0]}, {two, third}, {two, sides[0]}, {two, sides[1]}, {one, sides[0]}} {
		before := b.status(one).Generation
		b.apply(step.by, step.set)
		want := encode(t, step.set, b.binding)
		settled(t, step.by, want)
		for _, d := range []*Driver{one, two} {
			if got, err := d.Read(); err != nil || differ(got, want) != "" {
				t.Errorf("step %d: read: %v, %s", i, err, differ(got, want))
			}
			if got := b.status(d).Generation; got != before+1 {
				t.Errorf("step %d: generation %d after %d", i, got, before)
			}
		}
	}
}

func TestRecorderOfAnotherDriverKeepsTheGeneration(t *testing.T) {
	b := newHost(t)
	one, two := b.open(), b.open()
	b.apply(one, testSet(true))
	b.apply(two, testSet(false))
	want := b.status(two).Generation
	r, err := one.Record(dataplane.Link{IfIndex: 1}, packet.Tuple{Src: redAddr, Dst: blueAddr, Proto: packet.UDP})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.status(two).Generation; got != want {
		t.Errorf("a recorder made generation %d of %d", got, want)
	}
	b.apply(two, testSet(true))
	want = b.status(two).Generation
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.status(two).Generation; got != want {
		t.Errorf("a recorder's end made generation %d of %d", got, want)
	}
}

func TestOpenMendsAnOpenThatBrokeOff(t *testing.T) {
	s := testSet(true)
	for name := range programs(&bpf.WeftPrograms{}) {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, s)
			b.serve(bluePort, 80)
			d := b.open()
			b.apply(d, s)
			d.Close()
			if err := os.Remove(filepath.Join(b.dir, version(), name)); err != nil {
				t.Fatal(err)
			}
			b.apply(b.open(), s)
			if _, err := b.ask(redPort, blueWeb); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	s := testSet(true)
	b := newBed(t, s)
	b.serve(bluePort, 80)
	d := b.open()
	b.apply(d, s)
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	filepath.WalkDir(b.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && path != b.dir {
			t.Errorf("%s is left", path)
		}
		return nil
	})
	b.bare()
	if _, err := b.ask(redPort, blueWeb); err == nil {
		t.Error("packets pass without a data plane")
	}
	d = b.open()
	if got, err := d.Read(); err != nil || differ(got, bpf.Tables{}) != "" {
		t.Errorf("a new data plane has the old one's rows: %v, %s", err, differ(got, bpf.Tables{}))
	}
}

func TestOpenRefusesAnotherVersion(t *testing.T) {
	b := newHost(t)
	other := filepath.Join(b.dir, "0123456789ab")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Open(b.dir)
	if err == nil {
		d.Close()
		t.Fatal("opened beside another version")
	}
	for _, want := range []string{b.dir, "0123456789ab", version(), "take it down"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(b.dir, version())); err == nil {
		t.Error("the refused Open left a directory")
	}
}

// processed is the verifier's last word on a program.
var processed = regexp.MustCompile(`processed (\d+) insns`)

func TestVerifierHasRoom(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	const most, longest = 500_000, 5 * time.Second
	spec, err := bpf.LoadWeft()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	begun := time.Now()
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if took := time.Since(begun); took > longest {
		t.Errorf("loading took %v (at most %v)", took, longest)
	}
	if len(c.Programs) != len(programs(&bpf.WeftPrograms{})) {
		t.Errorf("%d programs", len(c.Programs))
	}
	for name, p := range c.Programs {
		m := processed.FindStringSubmatch(p.VerifierLog)
		if m == nil {
			t.Errorf("%s: no count in the verifier's log %q", name, p.VerifierLog)
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n > most {
			t.Errorf("%s: verifier processed %s instructions (at most %d)", name, m[1], most)
		}
		t.Logf("%s: %d instructions", name, n)
	}
}
