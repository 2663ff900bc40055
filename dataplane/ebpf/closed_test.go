package ebpf

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// window is a time in which something may be seen. An open one has no end.
type window struct{ from, to time.Time }

// witness knows what may be seen when, and judges what is.
type witness struct {
	out     testing.TB
	mu      sync.Mutex
	allowed map[sight][]window
	times   map[sight]int  // how often it was seen
	step    string         // what is done now, for complaints
	done    map[string]int // how often what was done
	wrong   int
	total   int
}

// allow opens windows for sights that have no open one.
func (w *witness) allow(sights map[sight]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for s := range sights {
		if all := w.allowed[s]; len(all) == 0 || !all[len(all)-1].to.IsZero() {
			w.allowed[s] = append(all, window{from: now})
		}
	}
}

// only closes the windows of all sights that fit and are not in keep.
func (w *witness) only(keep map[sight]bool, fit func(sight) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for s, all := range w.allowed {
		if last := &all[len(all)-1]; last.to.IsZero() && !keep[s] && fit(s) {
			last.to = now
		}
	}
}

func every(sight) bool { return true }

// doing says what happens from now on.
func (w *witness) doing(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step = what
	w.done[what]++
}

// judge counts a packet that was sent at a time, or complains.
func (w *witness) judge(s sight, sent time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total++
	for _, win := range w.allowed[s] {
		if win.to.IsZero() || win.to.After(sent) { // it is seen after win.from
			w.times[s]++
			return
		}
	}
	w.complain("%v: sent %v ago, when it was not allowed", s, time.Since(sent))
}

func (w *witness) complain(format string, args ...any) {
	if w.wrong++; w.wrong <= 10 {
		w.out.Errorf("while "+w.step+": "+format, args...)
	}
}

// mark is how the payload of a workload's packets begins. What follows is who
// sent it, its class, its source and when it was sent.
const mark = "closed|"

func marked(who, class string, inner netip.Addr) []byte {
	return fmt.Appendf(nil, "%s%s|%s|%s|%d|\n", mark, who, class, inner, time.Now().UnixNano())
}

// hear judges one frame that came in at a workload or, with an empty name,
// outside, and returns the packet if it is one of a workload.
func (w *witness) hear(at string, frame []byte) (p packet.Packet, ok bool) {
	_, rest, found := bytes.Cut(frame, []byte(mark))
	if !found {
		w.silent(at, frame)
		return p, false
	}
	word := strings.Split(string(rest), "|")
	var sent int64
	fmt.Sscan(word[3], &sent)
	s := sight{at: at, who: word[0], class: word[1], inner: netip.MustParseAddr(word[2])}
	if fault := p.Decode(frame); fault != packet.FaultNone {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.complain("%v: decode: %v: %x", s, fault, frame)
		return p, false
	}
	if at == s.who { // an answer to its own packet
		if p.Dst != s.inner {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.complain("%v: an answer to %v", s, p.Dst)
		}
		return p, false
	}
	s.src, s.dst, s.port = p.Src, p.Dst, p.DstPort
	w.judge(s, time.Unix(0, sent))
	return p, true
}

// silent judges a frame that no workload has marked: outside only the host asks
// for neighbours and tells its own address, and the Tier-0 refuses answers that
// come too late; nobody asks a workload.
func (w *witness) silent(at string, frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	up := netip.MustParseAddr("192.0.2.2")
	if binary.BigEndian.Uint16(frame[12:]) == packet.EtherTypeARP {
		a, ok := packet.DecodeARP(frame)
		own := ok && a.SenderMAC == packet.MAC(table.RouterMAC) && a.Sender == up
		if at == "" && !own || at != "" && a.Op != packet.ARPReply {
			w.complain("at %q: ARP %+v", at, a)
		}
		return
	}
	var p packet.Packet
	if at != "" || p.Decode(frame) == packet.FaultNone && p.ICMPError() && p.Dst == closedFar && (p.Src == up || p.Src.As4()[0] == 203) {
		return
	}
	w.complain("outside: frame that nothing explains: %x", frame)
}

// closedBed is a bed whose workloads send all they can think of from the
// moment that they have a device.
type closedBed struct {
	*bed
	*witness
	world  closedWorld // in force, or what was tried last
	ids    map[string]table.PortID
	spaces map[string]*netns.Namespace
	quiet  map[string]func() // ends a workload's sending
	bound  map[string]bool   // in the Set in force, with a device
	d      *Driver           // nil: there is no data plane
}

func newClosedBed(t *testing.T, routed bool) *closedBed {
	c := &closedBed{
		bed: newHost(t), witness: &witness{out: t, allowed: map[sight][]window{}, times: map[sight]int{}, done: map[string]int{}},
		ids: map[string]table.PortID{}, spaces: map[string]*netns.Namespace{}, quiet: map[string]func(){}, bound: map[string]bool{},
		world: closedWorld{Routed: routed, Torn: true, Group: "r1", Members: []string{"198.51.100.81"}, Ports: map[string]closedPort{
			"r1": {netip.MustParseAddr("10.1.0.11"), "04:50:56:00:01:11"}, "r2": {netip.MustParseAddr("10.1.0.12"), "04:50:56:00:01:12"},
			"b1": {closedB1, "04:50:56:00:02:11"},
		}},
	}
	set := c.world.set(t)
	for id, p := range set.Ports.All() {
		if _, ours := c.world.Ports[p.Name]; ours {
			c.ids[p.Name] = id
		}
	}
	c.do(c.host, func() error { return closedHost() })
	for _, u := range set.Uplinks.All() {
		c.attachUplink(u)
		outside := c.wire(u.ID)
		background(t, func() { c.listen(outside) })
	}
	for name := range c.world.Ports {
		c.spaces[name] = newNamespace(t, name)
		c.start(name)
	}
	return c
}

// listen hears what comes in outside and answers what may have an answer.
func (c *closedBed) listen(w *wire) {
	f := w.next(20 * time.Millisecond)
	if f == nil {
		return
	}
	if p, ok := c.hear("", f); ok && p.Proto == packet.UDP && p.DstPort == closedPorts[classOut] {
		_, rest, _ := bytes.Cut(f, []byte(mark))
		unix.Write(w.fd, packet.Build(packet.Spec{
			EthDst: packet.MAC(f[6:12]), EthSrc: packet.MAC(f[:6]), TTL: 64, Proto: packet.UDP,
			Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Payload: append([]byte(mark), rest...),
		}))
	}
}

// start gives a workload a device, over which it sends at once.
func (c *closedBed) start(name string) {
	c.t.Helper()
	var m table.MAC
	fmt.Sscanf(strings.ReplaceAll(c.world.Ports[name].MAC, ":", " "), "%x %x %x %x %x %x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5])
	c.plug(c.ids[name], c.spaces[name], m, 0)
	var w *wire
	c.do(c.spaces[name], func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err == nil {
			w, err = openWire()
		}
		return err
	})
	s := &sender{who: name, own: c.world.Ports[name].Addr, mac: packet.MAC(m), fd: w.fd}
	unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000})
	sent := background(c.t, s.send)
	heard := background(c.t, func() {
		b := make([]byte, 4096)
		if n, _, err := unix.Recvfrom(w.fd, b, 0); err == nil {
			c.hear(name, b[:n])
		} else if errors.Is(err, unix.ENETDOWN) {
			time.Sleep(5 * time.Millisecond)
		}
	})
	c.quiet[name] = sync.OnceFunc(func() {
		sent()
		heard()
		unix.Close(w.fd)
	})
	c.t.Cleanup(c.quiet[name])
}

// stop takes a workload's device away while it sends. Its next device is not
// its old one: until that is bound, nothing of it may be seen.
func (c *closedBed) stop(name string) {
	c.t.Helper()
	c.unplug(c.ids[name])
	delete(c.binding, c.ids[name])
	c.quiet[name]()
	c.only(nil, func(s sight) bool { return s.who == name })
	delete(c.quiet, name)
	delete(c.bound, name)
}

// tables returns the Set of a world and which of its workloads have a device.
func (c *closedBed) tables(w closedWorld) (*table.Set, dataplane.Binding, map[string]bool) {
	set, binding, bound := w.set(c.t), dataplane.Binding{}, map[string]bool{}
	for id := range set.Uplinks.All() {
		binding[id] = c.binding[id]
	}
	for name := range w.Ports {
		id := c.ids[name]
		if l, ok := c.binding[id]; ok && set.Ports.Get(id) != nil {
			binding[id], bound[name] = l, true
		}
	}
	return set, binding, bound
}

// become makes a world the one in force.
func (c *closedBed) become(w closedWorld) {
	c.t.Helper()
	set, binding, bound := c.tables(w)
	if c.d == nil {
		c.d = c.open()
	}
	sights := w.sights(bound)
	c.allow(sights)
	c.do(c.host, func() error { return c.d.Apply(context.Background(), set, binding) })
	c.only(sights, every)
	c.world, c.bound = w, bound
}

// settle waits until all that may be seen is.
func (c *closedBed) settle() {
	c.t.Helper()
	want := c.world.sights(c.bound)
	c.mu.Lock()
	before := maps.Clone(c.times)
	c.mu.Unlock()
	for end := time.Now().Add(8 * time.Second); len(want) > 0; time.Sleep(2 * time.Millisecond) {
		c.mu.Lock()
		maps.DeleteFunc(want, func(s sight, _ bool) bool { return c.times[s] > before[s] })
		c.mu.Unlock()
		if time.Now().After(end) {
			c.t.Fatalf("is not seen: %v", slices.Collect(maps.Keys(want)))
		}
	}
}

// fail tries a world with a device that does not exist.
func (c *closedBed) fail(w closedWorld) {
	c.t.Helper()
	if c.d == nil {
		return
	}
	set, binding, _ := c.tables(w)
	for id := range set.Ports.All() {
		binding[id] = dataplane.Link{IfIndex: 1 << 20}
		break
	}
	err := c.host.Do(func() error { return c.d.Apply(context.Background(), set, binding) })
	if err == nil {
		c.t.Error("a device that does not exist was attached to")
	}
}

// killed has a process make a world the one in force, and kills it after a
// while. Who is next finds the one or the other.
func (c *closedBed) killed(w closedWorld, after time.Duration) {
	c.t.Helper()
	set, binding, bound := c.tables(w)
	body, err := table.Encode(set)
	if err != nil {
		c.t.Fatal(err)
	}
	order, err := json.Marshal(closedOrder{c.dir, binding, body})
	if err != nil {
		c.t.Fatal(err)
	}
	file := c.t.TempDir() + "/order"
	if err := os.WriteFile(file, order, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if c.d != nil {
		c.d.Close()
		c.d = nil
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), closedEnv+"="+file), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.allow(w.sights(bound))
	c.do(c.host, cmd.Start)
	io.ReadFull(out, make([]byte, 1))
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Stat(filepath.Join(c.dir, version(), "unfinished")); err == nil {
		c.doing("a change is half done")
	}
}

// remove takes the data plane away under running workloads.
func (c *closedBed) remove() {
	c.t.Helper()
	if c.d != nil {
		c.d.Close()
		c.d = nil
	}
	if err := RemovePinned(c.dir); err != nil {
		c.t.Fatal(err)
	}
	c.bare()
	c.only(nil, every)
	c.bound = map[string]bool{}
}

// change returns another world and whether its workloads' devices change: the
// name of the one that goes before it comes into force, and comes back.
func change(r *rand.Rand, w closedWorld) (next closedWorld, replug string) {
	w = w.clone()
	name := []string{"r1", "r2", "b1"}[r.IntN(3)]
	switch r.IntN(7) {
	case 0, 1:
		w.Egress = []string{"", "203.0.113.10", "203.0.113.11"}[r.IntN(3)]
	case 2:
		w.Loud = !w.Loud
	case 3:
		w.Torn = !w.Torn
	case 4:
		w.Group = []string{"r1", "r2", "b1"}[r.IntN(3)]
	case 5:
		w.Members = [][]string{{}, {"198.51.100.81"}, {"198.51.100.82"}, {"198.51.100.81", "198.51.100.82"}}[r.IntN(4)]
	case 6:
		p := w.Ports[name]
		if name != "b1" && r.IntN(2) == 0 { // with another address, of which the other workload may have been
			last := byte(11 + r.IntN(6))
			p = closedPort{netip.AddrFrom4([4]byte{10, 1, 0, last}), fmt.Sprintf("04:50:56:00:01:%02d", last)}
			for _, other := range w.Ports {
				if other.Addr == p.Addr {
					return w, name
				}
			}
		}
		w.Ports[name] = p
		return w, name
	}
	return w, ""
}

// TestClosed proves that nothing leaves, or gets to another workload, but what
// the Set in force allows, with the address that it gives, from the first
// packet on: while tables, ports and data planes come and go.
func TestClosed(t *testing.T) {
	t.Run("red is natted", func(t *testing.T) { testClosed(t, 24, 1, false) })
	t.Run("red is routed", func(t *testing.T) { testClosed(t, 24, 2, true) })
}

func testClosed(t *testing.T, steps int, seed uint64, routed bool) {
	r := rand.New(rand.NewPCG(seed, seed))
	c := newClosedBed(t, routed)
	c.doing("nothing is loaded")
	time.Sleep(50 * time.Millisecond)
	c.doing("an agent is killed at the first load")
	c.killed(c.world, time.Duration(r.IntN(2000))*time.Millisecond)
	for range steps {
		w, replug := change(r, c.world)
		if replug != "" {
			c.doing("a device goes and comes")
			c.stop(replug)
			if r.IntN(2) == 0 { // the port goes, too
				without := w.clone()
				delete(without.Ports, replug)
				c.become(without)
			}
			c.world = w
			c.start(replug)
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
		}
		switch r.IntN(8) {
		case 0:
			c.doing("an apply fails")
			c.fail(w)
		case 1, 2:
			c.doing("an agent is killed")
			c.killed(w, time.Duration(r.IntN(40))*time.Millisecond)
		case 3:
			if r.IntN(2) == 0 {
				c.doing("the data plane is removed")
				c.remove()
				c.killed(w, time.Duration(r.IntN(1000))*time.Millisecond)
			}
		}
		c.doing("a change")
		c.become(w)
		c.settle()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong > 0 {
		t.Errorf("%d frames in all that may not be seen", c.wrong)
	}
	t.Logf("seed %d: %d packets were seen where they may be, as %d sights; %v", seed, c.total-c.wrong, len(c.times), c.done)
	for _, what := range []string{"a device goes and comes", "an apply fails", "an agent is killed", "the data plane is removed"} {
		if c.done[what] == 0 {
			t.Errorf("seed %d: there was no step in which %s", seed, what)
		}
	}
}
