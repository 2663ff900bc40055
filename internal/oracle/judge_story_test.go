package oracle_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// trial is a node before its two judges, each with a past of its own.
type trial struct {
	t        *testing.T
	tree     *intent.Tree
	compiler *compile.Compiler
	set      *table.Set
	down     map[oracle.Member]bool
	begun    map[string]uint32 // generation of connections by their first packet
	gen      uint32
	now      oracle.Tick

	*court
	past  *oracle.Past
	state *pipeline.State
}

// newTrial begins with the tree of a seed.
func newTrial(t *testing.T, seed uint64, size oracle.Size) *trial {
	t.Helper()
	return trialOf(t, oracle.RandomTree(rand.New(rand.NewPCG(seed, 5)), size))
}

// trialOf begins with a tree, which it changes.
func trialOf(t *testing.T, tree *intent.Tree) *trial {
	t.Helper()
	x := &trial{
		t: t, tree: tree, compiler: compile.New(),
		past: oracle.NewPast(), begun: map[string]uint32{}, state: pipeline.NewState(1 << 16), now: 1 << 20,
	}
	x.update(nil)
	return x
}

// update compiles the tree after changes, and calls the judges.
func (x *trial) update(changed []string) {
	x.t.Helper()
	sets, _ := x.compiler.Update(x.tree, changed)
	for _, set := range sets {
		x.set = set
	}
	x.court = courtOf(x.tree, x.set, x.down)
	x.gen++
}

// told is what both judges must agree on.
type told struct {
	Disposition oracle.Disposition
	Reason      string
	Rule        string // that dropped it
	To, NextHop string // valid iff delivered, as all below but Answer
	Leaves      string
	Quote       string
	TTL         int
	MACs        string // of a frame to a port
	New         bool
	Server      string // path, member and why; valid iff New
	Answer      string // and from where
	Followers   []told
}

// happen lets e happen to both, and returns the oracle's verdict on a packet
// and how the pipeline's differs.
func (x *trial) happen(e oracle.Event) (v oracle.Verdict, differs string) {
	switch {
	case e.Packet != nil:
		v = x.past.Judge(x.oracle, *e.Packet, x.gen, x.now)
		got, res := x.got(*e.Packet)
		if diff := cmp.Diff(tell(v), got); diff != "" {
			return v, fmt.Sprintf("(-oracle +pipeline):\n%s%s", diff, steps(res))
		}
		return v, x.loads()
	case e.Changes != nil:
		if changed, problems := x.tree.Apply(e.Changes); !intent.HasErrors(problems) && len(changed) > 0 {
			x.update(changed)
		}
	case e.Monitor:
		x.down = map[oracle.Member]bool{}
		for _, m := range e.Health {
			x.down[m] = true
		}
		x.court = courtOf(x.tree, x.set, x.down)
		x.gen++
	case e.Sweep:
		x.past.Sweep(x.oracle, x.now)
		x.state.Sweep(pipeline.Tick(x.now), x.index.Set)
		return v, x.loads()
	}
	x.now += e.Ticks
	return v, ""
}

// loads compares what virtual servers and members have open.
func (x *trial) loads() string {
	if n := x.state.Len(); n != 2*x.past.Connections() {
		return fmt.Sprintf("the oracle has %d connections, the pipeline %d entries", x.past.Connections(), n)
	}
	for _, v := range x.set.VIPs.All() {
		for _, s := range v.Servers {
			if want, got := x.past.Open(s.Path), x.state.Open(pipeline.LoadServer, uint32(s.ID)); want != int(got) {
				return fmt.Sprintf("%s: the oracle has %d open connections, the pipeline %d", s.Path, want, got)
			}
		}
	}
	for _, p := range x.set.Pools.All() {
		for _, m := range p.Members {
			open, failed := x.past.OpenAt(oracle.Member{Pool: p.Path, Addr: m.Addr, Port: m.Port})
			if a, b := x.state.Open(pipeline.LoadMember, uint32(m.ID)), x.state.Fails(m.ID); open != int(a) || failed != int(b) {
				return fmt.Sprintf("%s %s:%d: the oracle has %d open and %d failed connections, the pipeline %d and %d", p.Path, m.Addr, m.Port, open, failed, a, b)
			}
		}
	}
	return ""
}

// tell is the oracle's verdict.
func tell(v oracle.Verdict) told {
	out := told{Disposition: v.Disposition, Reason: v.Reason}
	if strings.HasSuffix(v.Reason, "_rule") {
		out.Rule = v.RulePath
	}
	if v.Answer != "" {
		out.Answer = v.Answer + " " + v.AnswerFrom.String()
	}
	if v.Disposition != oracle.Delivered {
		return out
	}
	out.To, out.Leaves, out.TTL, out.New = v.To, v.Seen.String(), v.TTL, v.New
	if v.New && v.Server != "" {
		out.Server = fmt.Sprint(v.Server, " ", v.Member.Addr, " ", v.Member.Port, " ", v.Why)
	}
	if v.DstMAC != (intent.MAC{}) {
		out.MACs = fmt.Sprint(packet.MAC(v.SrcMAC), " > ", packet.MAC(v.DstMAC))
	} else {
		out.NextHop = v.NextHop.String()
	}
	if v.Quote.Src.IsValid() {
		out.Quote = v.Quote.String()
	}
	for _, f := range v.Released {
		if f.Disposition == oracle.Delivered {
			out.Followers = append(out.Followers, tell(f))
		}
	}
	return out
}

// got is what the pipeline does.
func (x *trial) got(p oracle.Packet) (told, pipeline.Result) {
	device, ok := x.devices[p.Port]
	if !ok {
		device = 1<<32 - 1
	}
	res := pipeline.Run(x.index, x.state, pipeline.Input{Port: device, Frame: x.wire(p)}, x.gen, pipeline.Tick(x.now))
	out := told{Disposition: oracle.Dropped}
	if res.Reason != pipeline.ReasonNone {
		out.Reason = res.Reason.String()
	}
	if strings.HasSuffix(out.Reason, "_rule") {
		out.Rule = x.rules[res.Rule]
	}
	switch res.Verdict {
	case pipeline.Hold:
		out.Disposition = oracle.Held
	case pipeline.Forward:
		out = x.sent(res.Frame, res)
		out.New = res.New
		for _, s := range res.Steps {
			if res.New && s.Member != nil {
				out.Server = fmt.Sprint(s.Server.Path, " ", s.Member.Addr, " ", s.Member.Port, " ", s.Why)
			}
		}
		for _, f := range res.Followers {
			out.Followers = append(out.Followers, x.sent(f, res))
		}
	case pipeline.Answer:
		out.Answer = answerOf(res.Frame)
		if to := address(res.Frame[30:34]); to != p.Src || res.Out != device {
			out.Answer += " sent to " + to.String() + " by " + x.paths[res.Out]
		}
		if res.Reason == pipeline.ReasonNone {
			out.Disposition = oracle.Answered
		}
	}
	return out, res
}

// sent tells of a frame that leaves.
func (x *trial) sent(frame []byte, res pipeline.Result) told {
	var f packet.Packet
	src, dst := address(frame[26:30]), address(frame[30:34])
	if f.Decode(frame) == packet.FaultMartian { // translated to its own sender
		other := slices.Clone(frame)
		other[30] ^= 1
		f.Decode(other)
	}
	f.Src, f.Dst = src, dst
	out := told{Disposition: oracle.Delivered, To: x.paths[res.Out], Leaves: f.Tuple().String(), TTL: int(f.TTL)}
	if h := x.set.NextHops.Get(res.NextHop); h != nil {
		out.NextHop = h.Addr.String()
	} else {
		out.MACs = fmt.Sprint(f.EthSrc, " > ", f.EthDst)
	}
	if t, ok := f.Quoted(); ok {
		out.Quote = t.String()
	}
	return out
}

// wire returns the frame of p.
func (x *trial) wire(p oracle.Packet) []byte {
	src, dst := x.oracle.MACs(p)
	s := packet.Spec{
		EthSrc: packet.MAC(src), EthDst: packet.MAC(dst), TTL: uint8(p.TTL), Src: p.Src, Dst: p.Dst, Proto: packet.Proto(p.Proto),
		SrcPort: p.SrcPort, DstPort: p.DstPort, Flags: p.Flags, ID: p.ID, MoreFragments: p.More, FragmentOffset: p.Offset,
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.ICMPCode, s.Ident = p.ICMPType, p.ICMPCode, p.SrcPort
		if p.Quote.Src.IsValid() {
			s.Quoted, s.Ident = quote(p), 0
		}
	}
	frame := packet.Build(s)
	if more := p.Size - (len(frame) - 14); more > 0 {
		s.Payload = make([]byte, more)
		frame = packet.Build(s)
	}
	return frame
}

// quote is what an ICMP error quotes.
func quote(p oracle.Packet) []byte {
	t := p.Quote
	s := packet.Spec{TTL: 1, Src: t.Src, Dst: t.Dst, Proto: t.Proto, SrcPort: t.SrcPort, DstPort: t.DstPort, Payload: make([]byte, 8)}
	if t.Proto == packet.ICMP {
		s.ICMPType, s.Ident = packet.ICMPEchoRequest, t.SrcPort
		if t.DstPort != 0 {
			s.ICMPType, s.Ident = packet.ICMPEchoReply, t.DstPort
		}
	}
	quoted := packet.Quote(packet.Build(s))
	if p.Cut {
		return quoted[:len(quoted)-1]
	}
	return quoted
}

// Figures of the random stories; TEST_SEED, WEFT_TREES and WEFT_PACKETS, which
// is the events of all stories, change them.
const (
	stories       = 80
	eventsOfStory = 400
)

// mustSee is what the stories have to show, else they prove little.
var mustSee = []string{
	"answer echo", "answer icmp 11/0", "answer icmp 3/0", "answer icmp 3/1", "answer icmp 3/13", "answer icmp 3/3", "answer icmp 3/4", "answer rst",
	"another source port", "connection, followed after a change", "error, quote translated", "held ", "held fragments released", "later fragment",
	"dropped dfw_rule", "dropped fragment", "dropped gateway_default_deny", "dropped gateway_rule", "dropped icmp_unrelated", "dropped lb_access",
	"dropped lb_limit", "dropped lb_no_member", "dropped mac_unknown", "dropped no_connection", "dropped no_endpoint", "dropped no_listener",
	"dropped no_route", "dropped spoofguard", "dropped stale_connection", "dropped tcp_state", "dropped too_big", "dropped ttl_exceeded", "dropped urpf",
	"translated destination", "translated source", "virtual server, distributed", "virtual server, followed after a change", "virtual server, ip_hash",
	"virtual server, least_connections", "virtual server, persistence", "virtual server, round_robin", "virtual server, true member group", "monitor",
}

// found is seeds of stories in which the judges once differed.
var found = []struct {
	seed uint64
	why  string
}{}

// TestJudgeStories compares oracle and pipeline over whole sequences of packets,
// changes, findings of monitors and times.
func TestJudgeStories(t *testing.T) {
	seed, n, events := number(t, "TEST_SEED", firstSeed), number(t, "WEFT_TREES", stories), number(t, "WEFT_PACKETS", 0)
	if events == 0 {
		events = n * eventsOfStory
	}
	var ends tally
	seeds := map[string]uint64{}
	for i := range n {
		seeds[fmt.Sprintf("TEST_SEED=%d", seed+i)] = seed + i
	}
	t.Run("trees", func(t *testing.T) {
		for name, seed := range seeds {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tellStory(t, seed, int(events/n), &ends)
			})
		}
	})
	t.Logf("TEST_SEED=%d WEFT_TREES=%d WEFT_PACKETS=%d:\n%s", seed, n, events, ends.String())
	if t.Failed() || events < stories*eventsOfStory {
		return
	}
	for _, what := range mustSee {
		if ends.ends[what] == 0 {
			t.Errorf("never seen: %s", what)
		}
	}
}

// TestFound tells the stories again in which the judges once differed.
func TestFound(t *testing.T) {
	for _, c := range found {
		t.Run(fmt.Sprintf("%d %s", c.seed, c.why), func(t *testing.T) {
			t.Parallel()
			tellStory(t, c.seed, eventsOfStory, &tally{})
		})
	}
}

// sights counts what is to be seen at a packet's end.
func (x *trial) sights(count map[string]int, p oracle.Packet, v oracle.Verdict) {
	see := func(what string, seen bool) {
		if seen {
			count[what]++
		}
	}
	see(string(v.Disposition)+" "+v.Reason, true)
	answer, _, _ := strings.Cut(v.Answer, " mtu")
	see("answer "+answer, answer != "")
	if v.Disposition != oracle.Delivered {
		return
	}
	first := fmt.Sprint(p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort)
	if v.New {
		x.begun[first] = x.gen
	}
	server, _ := intent.Find[*intent.LBVirtualServer](x.tree, v.Server)
	if server != nil {
		service, _ := intent.Find[*intent.LBService](x.tree, server.LBServicePath)
		pool, _ := intent.Find[*intent.LBPool](x.tree, server.PoolPath)
		see("virtual server, distributed", v.New && service != nil && service.IsDistributed())
		see("virtual server, "+v.Why, v.New)
		see("virtual server, "+fmt.Sprint(pool != nil && pool.MemberGroup != nil, " member group"), v.New)
		see("virtual server, followed", !v.New)
		see("virtual server, followed after a change", !v.New && x.begun[first] != 0 && x.begun[first] != x.gen)
	}
	see("monitor", v.New && strings.HasSuffix(p.Port, "/monitor"))
	see("connection, new", v.New)
	see("connection, followed", !v.New)
	see("connection, followed after a change", !v.New && x.begun[first] != 0 && x.begun[first] != x.gen)
	see("translated source", v.SrcSeen != p.Src)
	see("translated destination", v.DstSeen != p.Dst)
	see("another source port", v.New && p.Proto != 1 && v.Seen.SrcPort != p.SrcPort)
	see("another identifier", v.New && p.Proto == 1 && v.Seen.SrcPort != p.SrcPort)
	see("error, quote translated", v.Quote.Src.IsValid() && v.Quote != p.Quote)
	see("later fragment", p.Offset > 0)
	see("held fragments released", len(v.Released) > 0)
}

// tally counts sights.
type tally struct {
	mu   sync.Mutex
	ends map[string]int
}

func (c *tally) add(more map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends == nil {
		c.ends = map[string]int{}
	}
	for end, n := range more {
		c.ends[end] += n
	}
}

func (c *tally) String() string {
	var b strings.Builder
	for _, end := range slices.Sorted(maps.Keys(c.ends)) {
		fmt.Fprintf(&b, "%7d %s\n", c.ends[end], end)
	}
	return b.String()
}

// tellStory runs one story until the judges differ.
func tellStory(t *testing.T, seed uint64, n int, ends *tally) {
	t.Helper()
	x := newTrial(t, seed, oracle.Full())
	s := oracle.NewStory(rand.New(rand.NewPCG(seed, 7)), oracle.Full())
	count := map[string]int{}
	var events []oracle.Event
	for range n {
		e := s.Next(x.oracle, x.past)
		events = append(events, e)
		v, differs := x.happen(e)
		if differs != "" {
			t.Fatalf("TEST_SEED=%d WEFT_TREES=1 WEFT_PACKETS=%d: %s\n%s", seed, len(events), differs, shortest(t, seed, events))
		}
		if e.Packet != nil {
			x.sights(count, *e.Packet, v)
		}
	}
	ends.add(count)
}

// replay tells events from the start, and returns how many happened until the
// judges differed, and how; 0: they never did.
func replay(t *testing.T, seed uint64, events []oracle.Event) (n int, differs string) {
	x := newTrial(t, seed, oracle.Full())
	for i, e := range events {
		if _, differs := x.happen(e); differs != "" {
			return i + 1, differs
		}
	}
	return 0, ""
}

// maxShrink bounds the time for finding a short sequence.
const maxShrink = 20 * time.Second

// shortest leaves events out as long as the judges still differ, and writes the
// rest with what both say.
func shortest(t *testing.T, seed uint64, events []oracle.Event) string {
	began := time.Now()
	for size := len(events) / 2; size > 0; size /= 2 {
		for at := 0; at+size < len(events) && time.Since(began) < maxShrink; {
			fewer := slices.Concat(events[:at], events[at+size:])
			if n, differs := replay(t, seed, fewer); differs != "" {
				events = fewer[:n]
			} else {
				at += size
			}
		}
	}
	var b strings.Builder
	x := newTrial(t, seed, oracle.Full())
	fmt.Fprintf(&b, "%d events differ too:\n", len(events))
	for _, e := range events {
		fmt.Fprintf(&b, "%s\n", text(e))
		v, differs := x.happen(e)
		if e.Packet != nil {
			fmt.Fprintf(&b, "      %+v\n", tell(v))
		}
		if differs != "" {
			fmt.Fprintf(&b, "%s\n", differs)
		}
	}
	return b.String()
}

// text writes an event for people.
func text(e oracle.Event) string {
	switch {
	case e.Packet != nil:
		return fmt.Sprintf("    packet %+v", *e.Packet)
	case e.Changes != nil:
		out := "    changes"
		for _, c := range e.Changes {
			body, _ := json.Marshal(c.Object)
			out += " " + c.Path + " " + string(body)
		}
		return out
	case e.Monitor:
		return fmt.Sprintf("    down: %v", e.Health)
	case e.Sweep:
		return "    sweep"
	}
	return fmt.Sprintf("    %d ticks", e.Ticks)
}
