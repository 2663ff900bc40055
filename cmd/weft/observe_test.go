package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// shown is a data plane that shows what a test puts into it.
type shown struct {
	mu      sync.Mutex
	conns   []dataplane.Connection
	tallies map[pipeline.TallyKey]pipeline.Tally
	drops   []dataplane.PortDrop
	lines   []dataplane.LogLine // Next takes them away
	lost    uint64
	taken   error // of Logs
	gone    bool  // the lab is not up any more
	closed  int   // log readers
}

func (s *shown) Connections(_ context.Context, yield func(*dataplane.Connection) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.conns {
		c := s.conns[i]
		if !yield(&c) {
			break
		}
		c = dataplane.Connection{} // it is valid until yield returns
	}
	return nil
}

func (s *shown) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return s.tallies, nil
}

func (s *shown) Loads(context.Context) (dataplane.Loads, error) { return dataplane.Loads{}, nil }

func (s *shown) PortDrops(context.Context) ([]dataplane.PortDrop, error) { return s.drops, nil }

func (s *shown) Logs() (dataplane.LogReader, error) { return s, s.taken }

func (s *shown) Next(timeout time.Duration) (dataplane.LogLine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		s.mu.Unlock()
		time.Sleep(timeout) // the clock is the test's
		s.mu.Lock()
	}
	if len(s.lines) == 0 {
		return dataplane.LogLine{}, os.ErrDeadlineExceeded
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	return l, nil
}

func (s *shown) Lost() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost, nil
}

func (s *shown) Close() error {
	s.closed++
	return nil
}

// change changes s while a command looks.
func (s *shown) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

var errNotUp = errors.New("lab red: is not up any more")

// look is the onlooker of a lab that has s and the tables of a test.
func (s *shown) look(set *table.Set) onlooker {
	return func(_ context.Context, name string, fn func([]lab.Observed) error) error {
		if name != "" && name != "red" {
			return fmt.Errorf("lab %s: is not up", name)
		}
		return fn([]lab.Observed{{Host: "host1", Observer: s, Tables: func(context.Context) (*table.Set, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.gone {
				return nil, errNotUp
			}
			return set, nil
		}}})
	}
}

// spy is a lab's data plane and what a command printed of it.
func spy(ctx context.Context, s *shown, args string) (stdout, stderr string, code int) {
	var out, errOut bytes.Buffer
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut}
	look := s.look(withRules())
	root := newGroup("weft", "", "")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(usageError)
	root.AddCommand(newFlowsCommand(env, look), newStatsCommand(env, look), newLogsCommand(env, look))
	code = execute(ctx, env, root, strings.Fields(args))
	return out.String(), errOut.String(), code
}

// withRules is testset.WithLB with more rules.
func withRules() *table.Set {
	s := testset.WithLB()
	s.Rulesets.Put(9001, &table.Ruleset{ID: 9001, Rules: []*table.Rule{
		{ID: 8001, Name: "web", Path: "/infra/domains/default/security-policies/p/rules/web", Policy: "/infra/domains/default/security-policies/p", Action: table.Allow, Tag: "audit"},
		{ID: 8003, Name: "two\nlines", Path: "/infra/domains/default/security-policies/p/rules/two", Action: table.Allow},
		{ID: 8002, Path: "/infra/domains/default/security-policies/p/rules/unnamed", Policy: "/infra/domains/default/security-policies/p", Action: table.Drop},
	}})
	key := table.NATKey{VRF: testset.Red, Dir: table.NATOut}
	list := *s.NAT.Get(key)
	list.Rules = append([]table.NATRule{{ID: 3001, Name: "egress", Path: "/infra/tier-1s/red/nat/USER/nat-rules/egress", Type: "SNAT"}}, list.Rules...)
	s.NAT.Put(key, &list)
	return s
}

// tcp is the tuple of a TCP connection.
func tcp(src, dst string) packet.Tuple {
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return packet.Tuple{Src: from.Addr(), Dst: to.Addr(), Proto: packet.TCP, SrcPort: from.Port(), DstPort: to.Port()}
}

// some are three connections: through NAT, by a virtual server, of what is gone.
func some() *shown {
	out, in := tcp("10.1.1.10:40000", "198.51.100.7:443"), tcp("198.51.100.9:50000", "203.0.113.24:80")
	return &shown{conns: []dataplane.Connection{
		{
			Zone: pipeline.Zone{Port: testset.Web1}, In: testset.Web1, InDev: 7, Tuple: out, To: tcp("203.0.113.5:40000", "198.51.100.7:443"),
			State: pipeline.ConnEstablished, Age: 200 * time.Second, Out: testset.UplinkEast, NextHop: netip.MustParseAddr("192.0.2.1"), Hops: 2,
			Original: dataplane.Direction{Idle: 90 * time.Second, Packets: 10, Bytes: 1000}, Reply: dataplane.Direction{Idle: 95 * time.Second, Packets: 8, Bytes: 9000},
			Rules: []uint32{8001, 8001}, NATs: []uint32{3001},
		},
		{
			Zone: pipeline.Zone{VRF: testset.T0}, In: testset.UplinkEast, InDev: 9, Tuple: in, To: tcp("198.51.100.9:50000", "10.1.3.11:8080"),
			State: pipeline.ConnNew, Age: 5 * time.Second, Out: testset.Srv1, Hops: 2,
			Original: dataplane.Direction{Idle: 4 * time.Second, Packets: 1, Bytes: 60}, Reply: dataplane.Direction{Idle: 5 * time.Second},
			Rules: []uint32{8001}, Server: testset.VSWeb, Member: testset.MemberSrv1,
		},
		{
			InDev: 66, Tuple: packet.Tuple{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2"), Proto: packet.ICMP, SrcPort: 77},
			To:    packet.Tuple{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("10.9.0.2"), Proto: packet.ICMP, SrcPort: 77},
			State: pipeline.ConnEstablished, Age: 30 * time.Hour, Original: dataplane.Direction{Idle: 9 * time.Second, Packets: 3, Bytes: 252},
			Reply: dataplane.Direction{Idle: 9 * time.Second}, Rules: []uint32{4711}, Server: 999, Member: 999,
		},
		{InDev: 67, Tuple: tcp("10.9.0.1:1", "10.9.0.2:2"), To: tcp("10.9.0.1:1", "10.9.0.2:2"), State: pipeline.ConnClosing, Over: true},
	}}
}
