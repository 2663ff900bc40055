package pipeline

import (
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// change runs several changes of a Set.
func change(cs ...func(*table.Set)) func(*table.Set) {
	return func(s *table.Set) {
		for _, c := range cs {
			c(s)
		}
	}
}

func algorithm(a table.Algorithm) func(*table.Set) {
	return func(s *table.Set) { s.Pools.Get(testset.PoolSrv).Algorithm = a }
}

// members changes all members of PoolSrv, i is 0, 1, 2.
func members(c func(i int, m *table.Member)) func(*table.Set) {
	return func(s *table.Set) {
		for i := range s.Pools.Get(testset.PoolSrv).Members {
			c(i, &s.Pools.Get(testset.PoolSrv).Members[i])
		}
	}
}

func admin(i int, a table.AdminState) func(*table.Set) {
	return func(s *table.Set) { s.Pools.Get(testset.PoolSrv).Members[i].Admin = a }
}

// down is what monitors find out about members.
func down(ids ...table.MemberID) func(*table.Set) {
	return func(s *table.Set) {
		s.Health = map[table.MemberID]table.Health{}
		for _, id := range ids {
			s.Health[id] = table.Health{Down: true, Why: "tcp: refused"}
		}
	}
}

// web changes VSWeb.
func web(c func(*table.VirtualServer)) func(*table.Set) {
	return func(s *table.Set) { c(server(s, testset.VSWeb)) }
}

// chosen opens a connection to VSWeb from outside and returns who got it and
// why.
func (f *fabric) chosen(src string, sport uint16) (table.MemberID, Why) {
	f.t.Helper()
	res := f.send(testset.UplinkEast, tcp(outside, src, sport, "203.0.113.24", 80, syn))
	if res.Verdict != Forward || !res.New {
		f.t.Fatalf("%s %s: %s", res.Verdict, res.Reason, path(res))
	}
	for _, s := range res.Steps {
		if s.Stage == StageLB {
			if s.Member == nil || s.Server.ID != testset.VSWeb || s.Pool.ID != testset.PoolSrv || memberPorts[s.Member.ID] != res.Out {
				f.t.Fatalf("member %+v of %v at %v, delivered to %d", s.Member, s.Pool, s.Server, res.Out)
			}
			return s.Member.ID, s.Why
		}
	}
	f.t.Fatal(path(res))
	return 0, 0
}

// turns opens n connections and returns who got them, as 1, 2, 3.
func (f *fabric) turns(n int, why Why) string {
	f.t.Helper()
	var who []byte
	for range n {
		f.sport++
		m, w := f.chosen("198.18.0.9", f.sport)
		if w != why {
			f.t.Errorf("connection %d: %s, want %s", len(who), w, why)
		}
		who = append(who, byte('1'+m-testset.MemberSrv1))
	}
	return string(who)
}

func TestSpec8_RoundRobin(t *testing.T) {
	weights := func(ws ...uint16) func(*table.Set) {
		return members(func(i int, m *table.Member) { m.Weight = ws[i] })
	}
	rows := []struct {
		name   string
		change func(*table.Set)
		want   string
	}{
		{"in turn", func(*table.Set) {}, "1231231"},
		{"by weight", weights(3, 1, 2), "131231131231"},
		{"one is down", down(testset.MemberSrv2), "131313"},
		{"one drains", admin(0, table.MemberDraining), "232323"},
		{"one is disabled", admin(2, table.MemberDisabled), "121212"},
		{"one is full", members(func(i int, m *table.Member) { m.MaxConns = uint32(i) }), "123131111"},
		{"backup waits", members(func(i int, m *table.Member) { m.Backup = i == 0 }), "2323"},
		{"backup helps if nobody is left", change(members(func(i int, m *table.Member) { m.Backup = i == 0 }), down(testset.MemberSrv2, testset.MemberSrv3)), "11"},
		{"backup helps if too few are left", change(members(func(i int, m *table.Member) { m.Backup = i == 0 }), down(testset.MemberSrv2), func(s *table.Set) { s.Pools.Get(testset.PoolSrv).MinActive = 2 }), "3131"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newLBFabric(t)
			f.apply(r.change)
			if got := f.turns(len(r.want), WhyRoundRobin); got != r.want {
				t.Errorf("%s, want %s", got, r.want)
			}
		})
	}
}

// The counter goes on with connections, not with packets, and over Sets.
func TestSpec8_TurnsCountConnections(t *testing.T) {
	f := newLBFabric(t)
	f.apply(func(s *table.Set) {
		s.Endpoints.Get(table.EndpointKey{Segment: testset.Srv, Addr: addr("10.1.3.12")}).In = nil
	})
	if got := f.turns(1, WhyRoundRobin); got != "1" {
		t.Fatal(got)
	}
	for range 3 { // dropped later on the way, or answered: no mark
		f.drop(testset.UplinkEast, tcp(outside, "198.18.0.9", 9, "203.0.113.24", 80, syn), ReasonDFWDefaultDeny)
		f.drop(testset.UplinkEast, ttl(tcp(outside, "198.18.0.9", 9, "203.0.113.24", 80, syn), 2), ReasonTTLExceeded)
	}
	if n := f.st.Open(LoadServer, uint32(testset.VSWeb)); n != 1 {
		t.Errorf("%d open connections", n)
	}
	f.apply(func(*table.Set) {})
	if got := f.turns(3, WhyRoundRobin); got != "231" {
		t.Error(got)
	}
	f.forward(testset.UplinkEast, tcp(outside, "198.18.0.9", 1, "203.0.113.24", 80, ack), testset.Srv1)
	if got := f.turns(1, WhyRoundRobin); got != "2" {
		t.Error(got)
	}
}

func TestSpec8_SlotsLookedAt(t *testing.T) {
	// 64 slots in turn are looked at: the 65th would have room.
	many := func(s *table.Set) {
		p := s.Pools.Get(testset.PoolSrv)
		m := p.Members[0]
		p.Members = nil
		for i := range 300 {
			m.ID, m.Addr = testset.MemberSrv1+table.MemberID(1000+i), addr4([4]byte{10, 1, 3, 11})
			m.Port, m.MaxConns = uint16(1000+i), 1
			p.Members = append(p.Members, m)
		}
	}
	in := func(sport uint16) packet.Spec {
		return tcp(outside, "198.18.0.9", sport, "203.0.113.24", 80, syn)
	}
	f := newLBFabric(t)
	f.apply(many)
	for i := range uint16(64) {
		f.forward(testset.UplinkEast, in(1+i), testset.Srv1)
	}
	f.st.turns[testset.PoolSrv] = 0
	if res := f.drop(testset.UplinkEast, in(999), ReasonLBLimit); res.Rule != uint32(testset.VSWeb) || res.Verdict != Drop {
		t.Error(path(res))
	}
	f.st.turns[testset.PoolSrv] = 1
	f.forward(testset.UplinkEast, in(999), testset.Srv1)
	// Least connections looks at 256.
	f.apply(change(many, algorithm(table.LeastConnections)))
	for i := range uint16(256 - 65) {
		f.forward(testset.UplinkEast, in(2000+i), testset.Srv1)
	}
	f.st.turns[testset.PoolSrv] = 0
	f.drop(testset.UplinkEast, in(998), ReasonLBLimit)
	f.st.turns[testset.PoolSrv] = 1
	f.forward(testset.UplinkEast, in(998), testset.Srv1)
}

func TestSpec8_LeastConnections(t *testing.T) {
	f := newLBFabric(t)
	f.apply(algorithm(table.LeastConnections))
	if got := f.turns(6, WhyLeastConnections); got != "123123" { // equals: the next in turn
		t.Error(got)
	}
	// Member 2 gets rid of its connections.
	for _, sport := range []uint16{2, 5} {
		f.forward(testset.UplinkEast, tcp(outside, "198.18.0.9", sport, "203.0.113.24", 80, fin), testset.Srv2)
	}
	if got := f.turns(3, WhyLeastConnections); got != "223" {
		t.Error(got)
	}
	// By weight: 4 carries four times as much.
	f = newLBFabric(t)
	f.apply(change(algorithm(table.LeastConnections), members(func(i int, m *table.Member) { m.Weight = []uint16{4, 1, 1}[i] })))
	f.turns(60, WhyLeastConnections)
	for i, want := range []uint32{40, 10, 10} {
		if n := f.st.Open(LoadMember, uint32(testset.MemberSrv1)+uint32(i)); n != want {
			t.Errorf("member %d has %d open connections, want %d", i+1, n, want)
		}
	}
	// Full members are passed over.
	f.apply(change(algorithm(table.LeastConnections), members(func(i int, m *table.Member) { m.MaxConns = []uint32{40, 10, 0}[i] })))
	if got := f.turns(3, WhyLeastConnections); got != "333" {
		t.Error(got)
	}
}

func TestSpec8_IPHash(t *testing.T) {
	f := newLBFabric(t)
	f.apply(algorithm(table.IPHash))
	slots := f.set.Pools.Get(testset.PoolSrv).Slots(nil)
	first, used := map[string]table.MemberID{}, map[table.MemberID]bool{}
	clients := []string{"198.18.0.1", "198.18.0.2", "198.18.0.3", "198.18.0.4", "198.18.0.5", "198.18.0.6", "198.18.0.7", "198.18.0.8"}
	for round := range uint16(3) {
		for _, c := range clients {
			m, why := f.chosen(c, round+1)
			want := slots[HashAddr(addr(c))%uint32(len(slots))]
			if m != want || why != WhyIPHash || round > 0 && first[c] != m {
				t.Errorf("%s to %d by %s, want %d", c, m, why, want)
			}
			first[c], used[m] = m, true
		}
	}
	if len(used) < 2 {
		t.Errorf("members used: %v", used)
	}
	if len(f.st.turns) != 0 {
		t.Error("a hash moved the pool's counter")
	}
	// A full member's clients go to the next slot of another.
	f.apply(change(algorithm(table.IPHash), members(func(_ int, m *table.Member) {
		if m.ID == first[clients[0]] {
			m.MaxConns = 1
		}
	})))
	h := HashAddr(addr(clients[0]))
	want := slots[h%uint32(len(slots))]
	for i := uint32(0); want == first[clients[0]]; i++ {
		want = slots[(h+i)%uint32(len(slots))]
	}
	if m, _ := f.chosen(clients[0], 50); m != want {
		t.Errorf("to %d, want %d", m, want)
	}
}

// What counts is the source where the virtual server is met.
func TestSpec8_IPHashOfTheSourceAsItComes(t *testing.T) {
	f := newLBFabric(t)
	f.apply(algorithm(table.IPHash))
	slots := f.set.Pools.Get(testset.PoolSrv).Slots(nil)
	res := f.send(testset.Web2, tcp(testset.Web2, "10.1.1.11", 1025, "192.0.2.200", 80, syn))
	want := memberPorts[slots[HashAddr(addr("203.0.113.16"))%uint32(len(slots))]]
	if res.Out != want {
		t.Errorf("to %d, want %d: %s", res.Out, want, path(res))
	}
}

func TestSpec8_Access(t *testing.T) {
	limit := change(web(func(v *table.VirtualServer) { v.Access = 660 }), func(s *table.Set) {
		addrs(s, setClients, testset.RealmRed, "10.1.1.10/32")
		s.VRFs.Get(testset.Red).Realm = testset.RealmRed
		s.Rulesets.Put(660, &table.Ruleset{ID: 660, Rules: []*table.Rule{{ID: 1660, Action: table.Allow, Remote: []table.AddrSetID{setClients}}}})
	})
	f := newLBFabric(t)
	f.apply(limit)
	f.forward(testset.Web1, web1ToVIP(5, syn), testset.Srv1)
	f.forward(testset.Web1, udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53), testset.Srv1) // another server's
	in := tcp(testset.DB1, "10.1.2.10", 7, "203.0.113.24", 80, syn)
	res := f.drop(testset.DB1, in, ReasonLBAccess)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.Flags != packet.RST|packet.ACK || p.Src != testset.VIPRed || p.SrcPort != 80 {
		t.Errorf("%s %+v", res.Verdict, p)
	}
	if path(res) != "spoofguard(205) dfw_out(205 #1013) route(2) lb(2 #711 lb_access)" || res.Rule != uint32(testset.VSWeb) {
		t.Errorf("#%d %s", res.Rule, path(res))
	}
	// Blue's 10.1.1.10 is another one.
	f.drop(testset.UplinkEast, tcp(outside, "198.18.0.9", 7, "203.0.113.24", 80, syn), ReasonLBAccess)
	// A drop in the list, and a list that is missing.
	f.apply(change(limit, func(s *table.Set) { s.Rulesets.Get(660).Rules[0].Action = table.Drop }))
	f.drop(testset.Web1, web1ToVIP(6, syn), ReasonLBAccess)
	f.drop(testset.Web1, web1ToVIP(5, ack), ReasonLBAccess) // who has a member is asked again
	f.apply(web(func(v *table.VirtualServer) { v.Access = 661 }))
	f.drop(testset.Web1, web1ToVIP(6, syn), ReasonLBAccess)
	// Distributed: the segment's realm.
	f.apply(change(limit, func(s *table.Set) {
		server(s, testset.VSCluster).Access = 660
		addrs(s, setClients, testset.RealmRed, "10.1.1.11/32")
	}))
	f.forward(testset.Web2, tcp(testset.Web2, "10.1.1.11", 5, "10.96.0.10", 80, syn), testset.Srv1)
	res = f.drop(testset.Srv1, tcp(testset.Srv1, "10.1.3.11", 5, "10.96.0.10", 80, syn), ReasonLBAccess)
	if path(res) != "spoofguard(231) dlb(231 #715 lb_access)" {
		t.Error(path(res))
	}
}

func TestSpec8_Limits(t *testing.T) {
	f := newLBFabric(t)
	f.apply(web(func(v *table.VirtualServer) { v.MaxConns = 2 }))
	f.turns(2, WhyRoundRobin)
	in := tcp(outside, "198.18.0.9", 9, "203.0.113.24", 80, syn)
	res := f.drop(testset.UplinkEast, in, ReasonLBLimit)
	if res.Verdict != Drop || path(res) != "route(1) ttl(1) route(2) lb(2 #711 lb_limit)" || res.Rule != uint32(testset.VSWeb) {
		t.Errorf("%s #%d %s", res.Verdict, res.Rule, path(res))
	}
	f.forward(testset.UplinkEast, tcp(outside, "198.18.0.9", 1, "203.0.113.24", 80, fin), testset.Srv1)
	f.forward(testset.UplinkEast, in, testset.Srv3)
	f.apply(members(func(_ int, m *table.Member) { m.MaxConns = 1 }))
	f.turns(1, WhyRoundRobin)
	f.drop(testset.UplinkEast, tcp(outside, "198.18.0.9", 10, "203.0.113.24", 80, syn), ReasonLBLimit)
}

func TestSpec8_NoMember(t *testing.T) {
	rows := map[string]func(*table.Set){
		"all down":        down(testset.MemberSrv1, testset.MemberSrv2, testset.MemberSrv3),
		"all drain":       members(func(_ int, m *table.Member) { m.Admin = table.MemberDraining }),
		"empty pool":      func(s *table.Set) { s.Pools.Get(testset.PoolSrv).Members = nil },
		"no pool":         web(func(v *table.VirtualServer) { v.Pool = 0 }),
		"an unknown pool": func(s *table.Set) { s.Pools.Delete(testset.PoolSrv) },
	}
	for name, c := range rows {
		f := newLBFabric(t)
		f.apply(c)
		res := f.drop(testset.Web1, web1ToVIP(5, syn), ReasonLBNoMember)
		if p := f.decode(res.Frame); res.Verdict != Answer || p.Flags != packet.RST|packet.ACK || p.Src != testset.VIPRed {
			t.Errorf("%s: %s %+v", name, res.Verdict, p)
		}
		if s := res.Steps[len(res.Steps)-1]; s.Stage != StageLB || s.Rule != uint32(testset.VSWeb) || s.Server == nil || s.Member != nil || s.Why != 0 {
			t.Errorf("%s: %s", name, path(res))
		}
	}
	f := newLBFabric(t)
	f.apply(down(testset.MemberDNS1))
	res := f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53), ReasonLBNoMember)
	if p := f.decode(res.Frame); res.Verdict != Answer || p.ICMPType != 3 || p.ICMPCode != 13 || p.Src != testset.VIPRed {
		t.Errorf("%s %+v", res.Verdict, p)
	}
}

func TestSpec8_Persistence(t *testing.T) {
	sticky := web(func(v *table.VirtualServer) { v.Persist, v.PersistFor = 9, 300 })
	f := newLBFabric(t)
	f.apply(change(sticky, func(s *table.Set) { // shared with the Tier-0's
		v := server(s, testset.VSTop)
		v.Persist, v.PersistFor = 9, 30
	}))
	expect := func(client string, sport uint16, member table.MemberID, why Why) {
		t.Helper()
		if m, w := f.chosen(client, sport); m != member || w != why {
			t.Errorf("%s to member %d by %s, want %d by %s", client, m, w, member, why)
		}
	}
	expect("198.18.0.1", 1, testset.MemberSrv1, WhyRoundRobin)
	expect("198.18.0.2", 1, testset.MemberSrv2, WhyRoundRobin)
	expect("198.18.0.1", 2, testset.MemberSrv1, WhyPersistence)
	expect("198.18.0.3", 1, testset.MemberSrv3, WhyRoundRobin) // persistence does not move the counter
	// The other virtual server of this table, whose rows are too old after 30 s.
	top := func(sport uint16) packet.Spec { return tcp(outside, "198.18.0.2", sport, "192.0.2.200", 80, syn) }
	f.now += 28
	f.forward(testset.UplinkWest, top(101), testset.Srv2)
	f.now += 29
	f.forward(testset.UplinkWest, top(102), testset.Srv1)
	expect("198.18.0.2", 2, testset.MemberSrv1, WhyPersistence) // what it chose counts here too
	// Each new connection begins the time anew.
	limit := ticksOf(300)
	f.now += limit - 60
	expect("198.18.0.1", 3, testset.MemberSrv1, WhyPersistence)
	f.now += limit
	expect("198.18.0.1", 4, testset.MemberSrv1, WhyPersistence)
	f.now += limit + 1
	expect("198.18.0.1", 5, testset.MemberSrv2, WhyRoundRobin)
	// A draining member keeps its clients; not one that is down, disabled, full or gone.
	f.apply(change(sticky, admin(1, table.MemberDraining)))
	expect("198.18.0.1", 6, testset.MemberSrv2, WhyPersistence)
	f.apply(change(sticky, admin(1, table.MemberDraining), down(testset.MemberSrv2)))
	expect("198.18.0.1", 7, testset.MemberSrv3, WhyRoundRobin)
	f.apply(change(sticky, admin(2, table.MemberDisabled)))
	expect("198.18.0.1", 8, testset.MemberSrv1, WhyRoundRobin)
	f.apply(change(sticky, members(func(i int, m *table.Member) {
		if i == 0 {
			m.MaxConns = 1
		}
	})))
	expect("198.18.0.1", 9, testset.MemberSrv2, WhyRoundRobin)
	f.apply(change(sticky, func(s *table.Set) {
		p := s.Pools.Get(testset.PoolSrv)
		p.Members = []table.Member{p.Members[0], p.Members[2]}
	}))
	expect("198.18.0.1", 10, testset.MemberSrv1, WhyRoundRobin)
	if n := f.st.Clients(); n != 3 {
		t.Errorf("%d rows", n)
	}
	// The client of a row is the source where the virtual server is met.
	if f.st.clients.peek(clientKey{persist: 9, addr: addr("198.18.0.3")}) == nil {
		t.Error("no row of the client")
	}
}

func TestSpec8_PersistenceRowsAreBounded(t *testing.T) {
	f := newLBFabric(t)
	f.st.clients = newLRU[clientKey, client](2)
	f.apply(web(func(v *table.VirtualServer) { v.Persist, v.PersistFor = 9, 300 }))
	for i, c := range []string{"198.18.0.1", "198.18.0.2", "198.18.0.3"} {
		f.chosen(c, uint16(i))
	}
	if f.st.Clients() != 2 || f.st.clients.peek(clientKey{9, addr("198.18.0.1")}) != nil {
		t.Error("the oldest row is still there")
	}
}
