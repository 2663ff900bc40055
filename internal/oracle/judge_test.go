package oracle_test

import (
	gocmp "cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// court is one tree and its two judges: the oracle, and the pipeline in the
// tables that the compiler made.
type court struct {
	tree    *intent.Tree
	oracle  *oracle.Oracle
	facts   oracle.Facts
	index   *pipeline.Index
	devices map[string]table.PortID // by policy path
	paths   map[table.PortID]string
	rules   map[uint32]string // paths of firewall rules by id
}

func newCourt(t *testing.T, tree *intent.Tree) *court {
	t.Helper()
	sets, _ := compile.New().Update(tree, nil)
	if len(sets) != 1 {
		t.Fatalf("%d Sets, want one", len(sets))
	}
	for _, set := range sets {
		return courtOf(tree, set, nil)
	}
	return nil
}

// courtOf calls both judges; monitors found some members down.
func courtOf(tree *intent.Tree, set *table.Set, down map[oracle.Member]bool) *court {
	c := &court{tree: tree, devices: map[string]table.PortID{}, paths: map[table.PortID]string{}, rules: map[uint32]string{}}
	c.facts = oracle.Facts{Transit: links(set), MemberID: members(set), MonitorMAC: monitors(set), Down: down}
	c.oracle = oracle.New(tree, c.facts)
	health := map[table.MemberID]table.Health{}
	for m := range down {
		if id := c.facts.MemberID(m); id != 0 {
			health[id] = table.Health{Down: true}
		}
	}
	c.index = pipeline.NewIndex(set.WithHealth(health))
	for id, p := range set.Ports.All() {
		c.devices[p.Path], c.paths[id] = id, p.Path
	}
	for id, u := range set.Uplinks.All() {
		c.devices[u.Path], c.paths[id] = id, u.Path
	}
	for _, rs := range set.Rulesets.All() {
		for _, r := range rs.Rules {
			c.rules[r.ID] = r.Path
		}
	}
	return c
}

// links reads the ends of the Tier-1s' links from the Tier-0's routes to them.
func links(set *table.Set) func(string) (netip.Addr, netip.Addr) {
	ends := map[string]netip.Addr{}
	for _, r := range set.Routes.All() {
		if r.Kind == table.RouteDown && r.Prefix == netip.PrefixFrom(r.Via, 32) {
			ends[set.VRFs.Get(r.To).Path] = r.Via
		}
	}
	return func(tier1 string) (netip.Addr, netip.Addr) { return ends[tier1].Prev(), ends[tier1] }
}

// members reads the numbers of pool members from their pools.
func members(set *table.Set) func(oracle.Member) table.MemberID {
	ids := map[oracle.Member]table.MemberID{}
	for _, p := range set.Pools.All() {
		for _, m := range p.Members {
			ids[oracle.Member{Pool: p.Path, Addr: m.Addr, Port: m.Port}] = m.ID
		}
	}
	return func(m oracle.Member) table.MemberID { return ids[m] }
}

// monitors reads the Ethernet addresses of load balancers' own ports.
func monitors(set *table.Set) func(string) string {
	macs := map[string]string{}
	for _, p := range set.Ports.All() {
		macs[p.Path] = packet.MAC(p.MAC).String()
	}
	return func(port string) string {
		return gocmp.Or(macs[port], "02:00:00:00:00:00")
	}
}

// nobody is a MAC address that no random tree gives to a port.
var nobody = packet.MAC{0x02, 0xff, 0, 0, 0, 1}

// frame returns p as it is on the wire, with another TTL.
func (c *court) frame(p oracle.Packet, ttl int) []byte {
	s := packet.Spec{
		EthSrc: nobody, EthDst: nobody, TTL: uint8(ttl), Src: p.Src, Dst: p.Dst, Proto: packet.Proto(p.Proto),
		SrcPort: p.SrcPort, DstPort: p.DstPort, Flags: packet.SYN, Payload: []byte("payload"),
	}
	if s.Proto == packet.ICMP {
		s.ICMPType, s.ICMPCode, s.Ident = p.ICMPType, p.ICMPCode, p.SrcPort
	}
	port, _ := intent.Find[*intent.SegmentPort](c.tree, p.Port)
	if port == nil {
		return packet.Build(s)
	}
	s.EthSrc = packet.MAC(port.Bindings()[0].MAC)
	for _, other := range intent.List[*intent.SegmentPort](c.tree, port.SegmentPath()) {
		for _, b := range other.Bindings() {
			if b.Addr == p.Src && other == port {
				s.EthSrc = packet.MAC(b.MAC)
			}
			if b.Addr == p.Dst {
				s.EthDst = packet.MAC(b.MAC)
			}
		}
	}
	if p.ToGateway {
		s.EthDst = packet.MAC(table.RouterMAC)
	}
	return packet.Build(s)
}

// outcome is what both judges must agree on.
type outcome struct {
	Disposition oracle.Disposition
	Reason      string
	Rule        string   // that dropped it
	Allowed     []string // rules that let it pass
	To          string
	Src, Dst    string // at the end, also of a drop
	DstPort     uint16 // valid iff delivered
	TTL         int    // valid iff delivered
	Answer      string // and from where
}

// want is the oracle's verdict.
func want(p oracle.Packet, v oracle.Verdict) outcome {
	out := outcome{
		Disposition: v.Disposition, Reason: v.Reason, Rule: v.RulePath, Allowed: v.Allowed, To: v.To,
		Src: v.SrcSeen.String(), Dst: v.DstSeen.String(),
	}
	if v.Disposition == oracle.Delivered {
		out.DstPort, out.TTL = v.DstPortSeen, p.TTL-len(v.Hops)
	}
	if v.Answer != "" {
		out.Answer = v.Answer + " " + v.AnswerFrom.String()
	}
	return out
}

// got is what the pipeline does.
func (c *court) got(t *testing.T, p oracle.Packet, ttl int) (outcome, pipeline.Result) {
	t.Helper()
	device, ok := c.devices[p.Port]
	if !ok {
		device = 1<<32 - 1 // a port that is down has none
	}
	res := pipeline.Run(c.index, pipeline.NewState(4), pipeline.Input{Port: device, Frame: c.frame(p, ttl)}, 1, 1)
	out := outcome{Disposition: oracle.Dropped, Src: p.Src.String(), Dst: p.Dst.String()}
	if res.Reason != pipeline.ReasonNone {
		out.Reason = res.Reason.String()
	}
	if n := len(res.Steps); n > 0 && res.Reason != pipeline.ReasonNoPort {
		out.Src, out.Dst = res.Steps[n-1].Src.String(), res.Steps[n-1].Dst.String()
	}
	for _, s := range res.Steps {
		switch {
		case s.FWRule == nil, strings.HasSuffix(s.FWRule.Path, "/implied-default-rule"): // the latter is in no intent
		case s.Reason == pipeline.ReasonNone:
			out.Allowed = append(out.Allowed, s.FWRule.Path)
		case res.Rule != 0:
			out.Rule = c.rules[res.Rule]
		}
	}
	switch res.Verdict {
	case pipeline.Forward:
		f := decode(t, res.Frame)
		out.Disposition, out.To = oracle.Delivered, c.paths[res.Out]
		out.Src, out.Dst, out.DstPort, out.TTL = f.Src.String(), f.Dst.String(), f.DstPort, int(f.TTL)
	case pipeline.Answer:
		out.Answer = answerOf(res.Frame)
		if to := address(res.Frame[30:34]); to != p.Src || res.Out != device {
			out.Answer += " sent to " + to.String() + " by " + c.paths[res.Out]
		}
		if res.Reason == pipeline.ReasonNone {
			out.Disposition = oracle.Answered
		}
	}
	return out, res
}

func decode(t *testing.T, frame []byte) packet.Packet {
	t.Helper()
	var p packet.Packet
	if fault := p.Decode(frame); fault != packet.FaultNone {
		t.Fatalf("frame has fault %d: % x", fault, frame)
	}
	return p
}

// answerOf says what an answer is and where it is from. It may come from the
// sender's own address, if another tenant's router has that too; decode would
// refuse it.
func answerOf(frame []byte) string {
	from, transport := address(frame[26:30]).String(), frame[34:]
	switch {
	case packet.Proto(frame[23]) == packet.TCP && packet.Flags(transport[13])&packet.RST != 0:
		return "rst " + from
	case transport[0] == packet.ICMPEchoReply:
		return "echo " + from
	}
	if transport[0] == packet.ICMPUnreachable && transport[1] == 4 {
		return fmt.Sprintf("icmp 3/4 mtu %d %s", binary.BigEndian.Uint16(transport[6:]), from)
	}
	return fmt.Sprintf("icmp %d/%d %s", transport[0], transport[1], from)
}

func address(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }

// hear lets both judge p, and compares who answers at TTL 1, 2, … up to where
// it came. It returns the oracle's verdict and how the pipeline differs.
func (c *court) hear(t *testing.T, p oracle.Packet) (oracle.Verdict, string) {
	t.Helper()
	v := c.oracle.Judge(p)
	got, res := c.got(t, p, p.TTL)
	if diff := cmp.Diff(want(p, v), got); diff != "" {
		return v, fmt.Sprintf("(-oracle +pipeline):\n%s%s", diff, steps(res))
	}
	for i, from := range v.Hops {
		got, res := c.got(t, p, i+1)
		if want := "icmp 11/0 " + from.String(); got.Answer != want || got.Reason != "ttl_exceeded" {
			return v, fmt.Sprintf("TTL %d: %s, answer %q, the oracle's is %q\n%s", i+1, got.Reason, got.Answer, want, steps(res))
		}
	}
	return v, ""
}

// steps writes what the pipeline met.
func steps(res pipeline.Result) string {
	var words []string
	for _, s := range res.Steps {
		words = append(words, fmt.Sprintf("%s(%d #%d %s>%s %s)", s.Stage, s.ID, s.Rule, s.Src, s.Dst, s.Reason))
	}
	return strings.Join(words, " ")
}

// Figures of the random comparison; TEST_SEED and WEFT_TREES change the first
// two.
const (
	firstSeed      = 1
	trees          = 300
	packetsPerTree = 400
)

// TestJudges compares the oracle over intent with the pipeline over what the
// compiler makes of it: random trees, random first packets of connections. What
// it has found is in TestCases, which a change of RandomTree leaves as it is.
func TestJudges(t *testing.T) {
	seed, n := number(t, "TEST_SEED", firstSeed), number(t, "WEFT_TREES", trees)
	var heard, delivered, hops atomic.Int64
	seeds := map[string]uint64{}
	for i := range n {
		seeds[fmt.Sprintf("TEST_SEED=%d", seed+i)] = seed + i
	}
	t.Run("trees", func(t *testing.T) {
		for name, seed := range seeds {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(seed, 3))
				size := oracle.Small()
				if seed%2 == 0 {
					size = oracle.Full()
				}
				c := newCourt(t, oracle.RandomTree(r, size))
				edges := oracle.EdgesOf(c.tree)
				for i := range packetsPerTree {
					p := oracle.RandomPacket(r, edges)
					v, differs := c.hear(t, p)
					if differs != "" {
						t.Fatalf("TEST_SEED=%d WEFT_TREES=1: packet %d %+v: %s", seed, i, p, differs)
					}
					heard.Add(1)
					hops.Add(int64(len(v.Hops)))
					if v.Disposition == oracle.Delivered {
						delivered.Add(1)
					}
				}
			})
		}
	})
	t.Logf("TEST_SEED=%d WEFT_TREES=%d: %d packets and %d hops compared, %d packets delivered", seed, n, heard.Load(), hops.Load(), delivered.Load())
	if !t.Failed() && delivered.Load() < heard.Load()/10 {
		t.Errorf("%d of %d packets were delivered, want one in ten", delivered.Load(), heard.Load())
	}
}

// number reads an environment variable.
func number(t *testing.T, name string, unset uint64) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return unset
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %s: is no number", name, text)
	}
	return n
}
