// Package bpftest judges the kernel's programs by package pipeline: it gives the
// same frames to both and compares verdict, reason, rule, bytes and steps.
package bpftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// judges numbers the judges of a process, for the names of what they make.
var judges atomic.Int32

// Judge holds both judges and their states.
type Judge struct {
	t       testing.TB
	host    *netns.Namespace
	d       *ebpf.Driver
	binding dataplane.Binding
	rec     *ebpf.Recorder // nil: the fast way, without records

	set   *table.Set
	ix    *pipeline.Index
	state *pipeline.State
	now   uint32
	res   pipeline.Result
	log   []string // what led here
	past
}

// New loads the programs in a namespace of their own and makes set current,
// with a device for every port. record: the programs take the slow way for
// every packet and tell its steps; else they forward as in production, and
// only what they send is compared.
func New(t testing.TB, set *table.Set, record bool) *Judge {
	t.Helper()
	need.Root(t)
	need.BPF(t)
	name := fmt.Sprintf("weft-judge-%d-%d", os.Getpid(), judges.Add(1))
	ns, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	j := &Judge{t: t, host: ns, binding: dataplane.Binding{}, state: pipeline.NewState(1 << 18), now: 1000, past: newPast()}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join("/sys/fs/bpf", name)
	t.Cleanup(func() { ebpf.RemovePinned(dir) })
	j.in(func() (err error) {
		j.d, err = ebpf.Open(dir)
		return err
	})
	t.Cleanup(func() { j.d.Close() })
	if record {
		j.in(func() (err error) {
			j.rec, err = j.d.RecordAll()
			return err
		})
		t.Cleanup(func() { j.rec.Close() })
	}
	j.Apply(set)
	return j
}

func (j *Judge) in(fn func() error) {
	j.t.Helper()
	if err := j.host.Do(fn); err != nil {
		j.fatal(err)
	}
}

func (j *Judge) fatal(args ...any) {
	j.t.Helper()
	for _, l := range j.log[max(0, len(j.log)-12):] {
		j.t.Log(l)
	}
	j.t.Fatal(args...)
}

// Apply makes set current in both.
func (j *Judge) Apply(set *table.Set) {
	j.t.Helper()
	j.in(func() error {
		for id, p := range set.Ports.All() {
			if p.Node == 0 {
				j.device(id)
			}
		}
		for id := range set.Uplinks.All() {
			j.device(id)
		}
		return j.d.Apply(context.Background(), set, j.binding)
	})
	j.set, j.ix = set, pipeline.NewIndex(set)
	j.learn(set)
	j.Clock(0)
}

// device makes a device for a port; its packets are injected, so the other
// end of the pair does not matter.
func (j *Judge) device(id table.PortID) {
	if _, ok := j.binding[id]; ok {
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "p" + strconv.Itoa(int(id))
	attrs.HardwareAddr = table.RouterMAC[:]
	peer := "q" + strconv.Itoa(int(id))
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		j.fatal(err)
	}
	l, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		j.fatal(err)
	}
	j.binding[id] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
}

// Clock moves the time of both by ticks.
func (j *Judge) Clock(ticks uint32) {
	j.now += ticks
	if err := j.d.SetClock(j.now); err != nil {
		j.fatal(err)
	}
}

// Flows returns how many flow entries pipeline holds.
func (j *Judge) Flows() int { return j.state.Len() }

// Run gives one frame, which enters by port or uplink in, to both, and fails the
// test with the frames that led here if they differ. It returns pipeline's
// result, which the next Run overwrites.
func (j *Judge) Run(in table.PortID, frame []byte) *pipeline.Result {
	j.t.Helper()
	if j.log = append(j.log, fmt.Sprintf("port %d: %s", in, hex.EncodeToString(frame))); len(j.log) > 64 {
		j.log = j.log[32:]
	}
	if j.set.Uplinks.Get(in) != nil {
		frame = slices.Clone(frame) // what comes in by an uplink is for its device
		copy(frame, table.RouterMAC[:])
	}
	j.swept = false
	pipeline.RunInto(&j.res, j.ix, j.state, pipeline.Input{Port: in, Frame: frame}, j.d.Generation(), pipeline.Tick(j.now))
	if j.res.New {
		j.born[j.res.Key] = j.now
	}
	outside := j.set.Uplinks.Get(j.res.Out) != nil && j.res.Verdict == pipeline.Forward
	if outside && len(j.res.Followers) > 0 {
		j.hear()
	}
	act, out := j.kernel(in, frame)
	if outside && len(out) >= 12 {
		clear(out[:12]) // only the node knows these
	}
	want := map[pipeline.Verdict]uint32{pipeline.Forward: ebpf.ActForward, pipeline.Answer: ebpf.ActForward, pipeline.Drop: ebpf.ActDrop, pipeline.Hold: ebpf.ActDrop, pipeline.Pass: ebpf.ActPass}[j.res.Verdict]
	if j.rec != nil {
		j.compareRecord()
	}
	if want == ebpf.ActForward && act == ebpf.ActDrop && isFirstFragment(frame) {
		// Copies of it and of what was held were sent; the packet itself has
		// become the last of them.
		if n := len(j.res.Followers); n > 0 {
			j.same(j.res.Followers[n-1], out)
			return &j.res
		}
		act = want
	}
	if act != want {
		j.fatal(fmt.Sprintf("kernel returns %d, want %d (%v %v)", act, want, j.res.Verdict, j.res.Reason))
	}
	if want == ebpf.ActForward {
		j.same(j.res.Frame, out)
	}
	return &j.res
}

// hear has the kernel know the neighbour that the packet goes to: held
// fragments go to no other.
func (j *Judge) hear() {
	j.t.Helper()
	to := j.nextHops[j.res.NextHop]
	if !to.IsValid() {
		to = j.res.Translated.Dst
	}
	if err := j.d.SetNeighbour(j.binding[j.res.Out].IfIndex, to, table.MAC{2}, j.now); err != nil {
		j.fatal(err)
	}
}

func (j *Judge) same(want, got []byte) {
	j.t.Helper()
	if !bytes.Equal(got, want) {
		j.fatal(fmt.Sprintf("frame (-pipeline +kernel):\n%s", cmp.Diff(hex.Dump(want), hex.Dump(got))))
	}
}

// isFirstFragment reports whether an IPv4 frame is the first of several.
func isFirstFragment(frame []byte) bool {
	return binary.BigEndian.Uint16(frame[20:])&0x3fff == 0x2000
}

func (j *Judge) kernel(in table.PortID, frame []byte) (act uint32, out []byte) {
	j.t.Helper()
	j.in(func() (err error) {
		act, out, err = j.d.TestRun(j.binding[in].IfIndex, j.set.Uplinks.Get(in) != nil, frame)
		return err
	})
	return act, out
}

func (j *Judge) compareRecord() {
	j.t.Helper()
	got, err := j.rec.Next(time.Second)
	if err != nil {
		j.fatal("record:", err, "pipeline:", j.res.Verdict, j.res.Reason)
	}
	want := dataplane.RecordOf(&j.res)
	if d := cmp.Diff(want.Lines(), got.Lines()); d != "" {
		j.fatal("record (-pipeline +kernel):\n" + d)
	}
}
