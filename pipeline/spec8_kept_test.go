package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// A draining member, or one that is down, keeps its open connections; one that
// is down and has not answered does not.
func TestSpec8_Kept(t *testing.T) {
	for name, c := range map[string]func(*table.Set){
		"drains": admin(0, table.MemberDraining), "is down": down(testset.MemberSrv1),
		"is full": members(func(_ int, m *table.Member) { m.MaxConns = 1 }),
		"limit":   web(func(v *table.VirtualServer) { v.MaxConns = 1 }),
	} {
		f := newLBFabric(t)
		res := f.send(testset.Web1, web1ToVIP(5, syn))
		f.forward(testset.Srv1, answerTo(res, synAck), testset.Web1)
		f.apply(c)
		f.forward(testset.Srv1, answerTo(res, synAck), testset.Web1)
		f.apply(c)
		res = f.send(testset.Web1, web1ToVIP(5, ack))
		want := "spoofguard(201) flow(201) spoofguard(201) dfw_out(201 #1007) route(2) lb(2 #711 kept) route(2) ttl(2) endpoint(111) dfw_in(231 #1013) deliver(231)"
		if d := cmp.Diff(want, path(res)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if n := f.st.Open(LoadMember, uint32(testset.MemberSrv1)); n != 1 {
			t.Errorf("%s: %d open connections", name, n)
		}
	}
}

// Who is down and has not answered yet gets no more of a client's packets.
func TestSpec8_NewIsNotKeptByWhoIsDown(t *testing.T) {
	f := newLBFabric(t)
	in := udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53)
	f.forward(testset.Web1, in, testset.Srv1)
	f.apply(down(testset.MemberDNS1))
	f.drop(testset.Web1, in, ReasonLBNoMember)
}

// A member that is gone or disabled takes its connections with it: the client's
// next segment is answered with a reset, the member's is stale.
func TestSpec8_GoneMember(t *testing.T) {
	for name, c := range map[string]func(*table.Set){
		"disabled": admin(0, table.MemberDisabled),
		"removed":  func(s *table.Set) { p := s.Pools.Get(testset.PoolSrv); p.Members = p.Members[1:] },
		"another pool": web(func(v *table.VirtualServer) {
			v.Pool = testset.PoolDNS // the same address and, below, port: another member
		}),
	} {
		t.Run(name, func(t *testing.T) {
			c := change(c, func(s *table.Set) { s.Pools.Get(testset.PoolDNS).Members[0].Port = 8080 })
			f := newLBFabric(t)
			res := f.send(testset.Web1, web1ToVIP(5, syn))
			f.forward(testset.Srv1, answerTo(res, synAck), testset.Web1)
			f.apply(c)
			f.drop(testset.Srv1, answerTo(res, ack), ReasonStaleConnection)
			if n := f.st.Open(LoadServer, uint32(testset.VSWeb)); n != 1 {
				t.Errorf("%d open connections", n)
			}
			gone := f.drop(testset.Web1, web1ToVIP(5, ack), ReasonTCPState)
			p := f.decode(gone.Frame)
			if gone.Verdict != Answer || p.Flags != rst || p.Seq != 200 || p.Src != testset.VIPRed || p.SrcPort != 80 {
				t.Errorf("%s %+v", gone.Verdict, p)
			}
			if s := gone.Steps[len(gone.Steps)-1]; s.Stage != StageLB || s.Server == nil {
				t.Error(path(gone))
			}
			if n := f.st.Open(LoadServer, uint32(testset.VSWeb)); n != 0 || f.st.Len() != 0 {
				t.Errorf("%d open connections, %d entries", n, f.st.Len())
			}
			f.drop(testset.Web1, web1ToVIP(5, synAck), ReasonTCPState)
			if res := f.send(testset.Web1, web1ToVIP(5, syn)); res.Verdict != Forward || !res.New {
				t.Error(path(res))
			}
		})
	}
	// UDP goes on with another member.
	f := newLBFabric(t)
	in := udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53)
	f.forward(testset.Web1, in, testset.Srv1)
	f.apply(func(s *table.Set) {
		s.Pools.Get(testset.PoolDNS).Members[0].ID, s.Pools.Get(testset.PoolDNS).Members[0].Addr = 799, addr("10.1.3.12")
	})
	f.forward(testset.Web1, in, testset.Srv2)
}

// A virtual server tells the client to begin anew, whatever rules would say at
// the end of the way.
func TestSpec8_ResetComesBeforeStrict(t *testing.T) {
	f := newLBFabric(t)
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesWebOut).Rules[2].Strict = true })
	if res := f.drop(testset.Web1, web1ToVIP(5, ack), ReasonTCPState); res.Verdict != Answer {
		t.Error(res.Verdict)
	}
}

func TestSpec8_SourcesHaveABlockOfPorts(t *testing.T) {
	f := newLBFabric(t)
	f.apply(snat(testset.PoolSrv, table.SNATAutoMap))
	low := f.send(testset.Web1, web1ToVIP(80, syn)) // outside the block
	want := uint16(1024 + Hash(packet.Tuple{Src: addr("10.1.1.10"), Dst: testset.VIPRed, Proto: packet.TCP, SrcPort: 80, DstPort: 80})%(65536-1024))
	if low.Translated.SrcPort != want {
		t.Errorf("port 80 became %d, want %d: %s", low.Translated.SrcPort, want, path(low))
	}
	// Two clients with one port at one member.
	f.apply(change(snat(testset.PoolSrv, table.SNATAutoMap), func(s *table.Set) { p := s.Pools.Get(testset.PoolSrv); p.Members = p.Members[:1] }))
	first := f.send(testset.Web1, web1ToVIP(5000, syn))
	second := f.send(testset.Web2, tcp(testset.Web2, "10.1.1.11", 5000, "203.0.113.24", 80, syn))
	if first.Translated.SrcPort != 5000 || second.Verdict != Forward || second.Translated.SrcPort == 5000 {
		t.Errorf("%s, %s", first.Translated, second.Translated)
	}
	f.forward(testset.Srv1, answerTo(second, synAck), testset.Web2)
	// Several SNAT addresses: by the client's hash.
	f.apply(snat(testset.PoolSrv, table.SNATPool, "203.0.113.25", "203.0.113.26", "203.0.113.27"))
	for _, c := range []string{"198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4"} {
		res := f.send(testset.UplinkEast, tcp(outside, c, 5, "203.0.113.24", 80, syn))
		if want := addr([]string{"203.0.113.25", "203.0.113.26", "203.0.113.27"}[HashAddr(addr(c))%3]); res.Translated.Src != want {
			t.Errorf("%s became %s, want %s", c, res.Translated.Src, want)
		}
	}
	if Why(0).String() != "none" || WhyPersistence.String() != "persistence" {
		t.Error("words")
	}
}
