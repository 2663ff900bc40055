package pipeline

import (
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// loads demands the open connections of VSWeb and Srv1 and the fails of Srv1.
func (f *fabric) loads(what string, open, fails uint32) {
	f.t.Helper()
	server, member := f.st.Open(LoadServer, uint32(testset.VSWeb)), f.st.Open(LoadMember, uint32(testset.MemberSrv1))
	if got := f.st.Fails(testset.MemberSrv1); server != open || member != open || got != fails {
		f.t.Errorf("%s: open %d and %d, want %d; %d fails, want %d", what, server, member, open, got, fails)
	}
}

// loaded is a fabric with one member behind VSWeb and a connection to it.
func loaded(t *testing.T) (f *fabric, res Result) {
	t.Helper()
	f = newLBFabric(t)
	f.base = func() *table.Set {
		s := testset.WithLB()
		s.Pools.Get(testset.PoolSrv).Members = s.Pools.Get(testset.PoolSrv).Members[:1]
		return s
	}
	f.apply(func(*table.Set) {})
	res = f.send(testset.Web1, web1ToVIP(5000, syn))
	if res.Verdict != Forward {
		t.Fatal(path(res))
	}
	return f, res
}

func TestSpec6_Loads(t *testing.T) {
	type packets []struct {
		reply bool
		flags packet.Flags
	}
	rows := []struct {
		name        string
		in          packets
		open, fails uint32
	}{
		{"SYN", packets{}, 1, 0},
		{"SYN again", packets{{false, syn}}, 1, 0},
		{"handshake", packets{{true, synAck}, {false, ack}}, 1, 0},
		{"refused", packets{{true, rst | ack}}, 0, 1},
		{"refused twice is once", packets{{true, rst | ack}, {true, rst | ack}}, 0, 1},
		{"the client gives up", packets{{false, rst}}, 0, 0},
		{"FIN while New", packets{{true, fin}}, 0, 0},
		{"reset later", packets{{true, synAck}, {true, rst}}, 0, 0},
		{"FIN", packets{{true, synAck}, {false, ack}, {false, fin}, {true, fin}, {false, ack}}, 0, 0},
		{"refused, and again on the same tuple", packets{{true, rst | ack}, {false, syn}}, 1, 1},
		{"and then taken", packets{{true, rst | ack}, {false, syn}, {true, synAck}}, 1, 0},
	}
	for _, r := range rows {
		f, res := loaded(t)
		for _, p := range r.in {
			if p.reply {
				f.forward(testset.Srv1, answerTo(res, p.flags), testset.Web1)
			} else {
				f.forward(testset.Web1, web1ToVIP(5000, p.flags), testset.Srv1)
			}
		}
		f.loads(r.name, r.open, r.fails)
		f.st.Sweep(f.now, f.set)
		f.loads(r.name+", swept", r.open, r.fails)
	}
}

func TestSpec6_LoadsNameTheServerInBothEntries(t *testing.T) {
	f, res := loaded(t)
	reply := FlowKey{Zone: Zone{Port: testset.Srv1}, Tuple: res.Translated.Reversed()}
	for _, k := range []FlowKey{res.Key, reply} {
		if fl := f.flow(k); fl.Server != testset.VSWeb || fl.Member != testset.MemberSrv1 {
			t.Errorf("%s: server %d member %d", k.Tuple, fl.Server, fl.Member)
		}
	}
}

// A pair that is deleted because it is not alive: by a packet, an ICMP error,
// a later fragment, one that needs its reply's key, and by a sweep.
func TestSpec6_LoadsOfExpiredPairs(t *testing.T) {
	late := ticksOf(120) + 1
	rows := map[string]func(f *fabric, res Result){
		"sweep":     func(f *fabric, _ Result) { f.st.Sweep(f.now, f.set) },
		"reset":     func(f *fabric, _ Result) { f.drop(testset.Web1, web1ToVIP(5000, rst), ReasonTCPState) },
		"its reply": func(f *fabric, res Result) { f.drop(testset.Srv1, answerTo(res, rst), ReasonTCPState) },
		"ICMP error": func(f *fabric, res Result) {
			f.drop(testset.Srv1, about(testset.Srv1, "10.1.3.11", "10.1.1.10", res.Frame), ReasonICMPUnrelated)
		},
	}
	for name, use := range rows {
		f, res := loaded(t)
		f.now += late - 1
		f.st.Sweep(f.now, f.set)
		f.loads(name+", alive", 1, 0)
		f.now++
		use(f, res)
		f.loads(name, 0, 1)
		if f.st.Len() != 0 {
			t.Errorf("%s: %d entries", name, f.st.Len())
		}
	}
	// Established and Closing ones are no fails.
	f, res := loaded(t)
	f.forward(testset.Srv1, answerTo(res, synAck), testset.Web1)
	f.now += late
	f.st.Sweep(f.now, f.set)
	f.loads("replied", 0, 0)
	// The new connection of the same tuple counts anew.
	f, _ = loaded(t)
	f.now += late
	f.forward(testset.Web1, web1ToVIP(5000, syn), testset.Srv1)
	f.loads("again", 1, 1)
	// A reply's key that is in the way.
	f, _ = loaded(t)
	f.now += late
	f.forward(testset.Web1, tcp(testset.Web1, "10.1.1.10", 5000, "10.1.3.11", 8080, syn), testset.Srv1)
	f.loads("in the way", 0, 1)
}

func TestSpec6_UDPHasNoFails(t *testing.T) {
	f := newLBFabric(t)
	f.forward(testset.Web1, udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53), testset.Srv1)
	if n := f.st.Open(LoadServer, uint32(testset.VSDNS)); n != 1 {
		t.Errorf("%d open connections", n)
	}
	f.now += ticksOf(30) + 1
	f.st.Sweep(f.now, f.set)
	if n := f.st.Open(LoadServer, uint32(testset.VSDNS)); n != 0 || f.st.Fails(testset.MemberDNS1) != 0 {
		t.Errorf("%d open connections, %d fails", n, f.st.Fails(testset.MemberDNS1))
	}
}

func TestSpec6_SweepMakesGoodWhatReplacementLost(t *testing.T) {
	f, _ := loaded(t)
	f.st.flows.max = 4
	for port := range uint16(3) {
		f.forward(testset.Web1, web1ToVIP(6000+port, syn), testset.Srv1)
	}
	f.loads("replaced", 4, 0)
	f.st.Sweep(f.now, f.set)
	f.loads("swept", 2, 0)
	if len(f.st.turns) != 1 || f.st.turns[testset.PoolSrv] != 4 {
		t.Errorf("counters %v", f.st.turns)
	}
	// Half a pair is nothing.
	f.st.flows.remove(f.st.flows.nodes[keyOf(Zone{Port: testset.Web1}, web1ToVIP(6002, 0))])
	f.st.Sweep(f.now, f.set)
	f.loads("half", 1, 0)
	if f.st.Len() != 2 {
		t.Errorf("%d entries", f.st.Len())
	}
}

func TestSpec6_SweepForgetsWhatTheSetDoesNotHave(t *testing.T) {
	f, res := loaded(t)
	f.forward(testset.Srv1, answerTo(res, rst), testset.Web1)
	f.st.Sweep(f.now, f.set)
	if len(f.st.members) != 1 || len(f.st.turns) != 1 || len(f.st.tallies) == 0 {
		t.Errorf("%v %v %v", f.st.members, f.st.turns, f.st.tallies)
	}
	f.st.Sweep(f.now, table.NewSet("empty"))
	if len(f.st.members)+len(f.st.turns)+len(f.st.tallies)+len(f.st.servers) != 0 {
		t.Errorf("%v %v %v %v", f.st.members, f.st.turns, f.st.tallies, f.st.servers)
	}
}

// Walks change no load, however often and whatever comes of them.
func TestSpec6_WalksArePure(t *testing.T) {
	f, res := loaded(t)
	f.forward(testset.Srv1, answerTo(res, synAck), testset.Web1)
	for range 3 {
		f.apply(web(func(v *table.VirtualServer) { v.Persist, v.PersistFor = 9, 300 }))
		f.forward(testset.Srv1, answerTo(res, ack), testset.Web1)
		f.forward(testset.Web1, web1ToVIP(5000, ack), testset.Srv1)
		f.drop(testset.Web1, ttl(web1ToVIP(5000, ack), 1), ReasonTTLExceeded)
	}
	f.loads("walked again", 1, 0)
	if f.st.turns[testset.PoolSrv] != 1 || f.st.Clients() != 0 {
		t.Errorf("counters %v, %d clients", f.st.turns, f.st.Clients())
	}
}

func TestSpec10_Counts(t *testing.T) {
	f := newLBFabric(t)
	f.apply(change(snat(testset.PoolSrv, table.SNATAutoMap), gate(redIn, gateway(ruleWeb, table.Allow, 0, 0))))
	res := f.send(testset.App2, tcp(testset.App2, "10.1.1.40", 5000, "203.0.113.24", 80, syn))
	if res.Verdict != Forward {
		t.Fatal(path(res))
	}
	f.forward(testset.Srv1, answerTo(res, synAck), testset.App2)
	long := tcp(testset.App2, "10.1.1.40", 5000, "203.0.113.24", 80, ack)
	long.Payload = make([]byte, 60)
	f.forward(testset.App2, long, testset.Srv1)
	f.forward(testset.Srv1, about(testset.Srv1, "10.1.3.11", "203.0.113.24", res.Frame), testset.App2) // counts for nothing
	o := f.flow(res.Key)
	if o.Packets != 2 || o.Bytes != 140 {
		t.Errorf("%d packets, %d bytes", o.Packets, o.Bytes)
	}
	if o.Rules != [6]uint32{testset.RuleAny, ruleWeb, testset.RuleAny} || o.NATs != [4]uint32{testset.NATBlue} {
		t.Errorf("rules %v, NAT %v", o.Rules, o.NATs)
	}
	want := map[TallyKey]Tally{ // a rule on both sides counts twice
		{TallyRule, testset.RuleAny}:           {Hits: 2},
		{TallyRule, ruleWeb}:                   {Hits: 1},
		{TallyNAT, testset.NATBlue}:            {Hits: 1},
		{TallyServer, uint32(testset.VSWeb)}:   {Hits: 1},
		{TallyServer, uint32(testset.VSTop)}:   {},
		{TallyRule, uint32(testset.RuleWebIn)}: {},
	}
	expect := func(what string) {
		t.Helper()
		for k, w := range want {
			if got := f.st.Tally(k); got != w {
				t.Errorf("%s: %v: %+v, want %+v", what, k, got, w)
			}
		}
	}
	expect("open")
	traffic := func(packets, bytes uint64) {
		for k, w := range want {
			w.Packets, w.Bytes = packets*w.Hits, bytes*w.Hits
			want[k] = w
		}
	}
	traffic(3, 180)
	for range 2 { // a sweep adds what is new
		f.st.Sweep(f.now, f.set)
		expect("swept")
	}
	f.forward(testset.Srv1, answerTo(res, ack), testset.App2)
	f.now += ticksOf(f.set.Timeouts.TCPEstablished) + 1
	f.drop(testset.Srv1, answerTo(res, rst), ReasonTCPState)
	traffic(4, 220)
	expect("deleted")
	if n := len(f.st.Tallies()); n != 4 {
		t.Errorf("%d rows", n)
	}
}

func TestSpec10_DroppedPacketsAreHits(t *testing.T) {
	f := newLBFabric(t)
	f.apply(change(gate(redIn, gateway(ruleDeny, table.Drop, 0, 0)), web(func(v *table.VirtualServer) { v.Pool = 0 })))
	for range 2 {
		f.drop(testset.UplinkEast, udp(outside, "192.0.2.9", 5, "10.1.2.11", 53), ReasonGatewayRule)
		f.drop(testset.Web1, udp(testset.Web1, "10.1.1.10", 1, "192.0.2.66", 2), ReasonDFWRule)
		f.drop(testset.Web1, web1ToVIP(5, syn), ReasonLBNoMember)
		f.drop(testset.DB2, udp(testset.DB2, "10.1.2.11", 1, "10.1.2.10", 2), ReasonDFWDefaultDeny)
	}
	for _, k := range []TallyKey{{TallyRule, ruleDeny}, {TallyRule, testset.RuleQuarantine}, {TallyServer, uint32(testset.VSWeb)}} {
		if got := f.st.Tally(k); got != (Tally{Hits: 2}) {
			t.Errorf("%v: %+v", k, got)
		}
	}
	if n := len(f.st.Tallies()); n != 3 {
		t.Errorf("%d rows: %v", n, f.st.Tallies())
	}
}

// What a rule drops of a known connection is a hit too; the connection's own
// traffic is that of the rules that it has now.
func TestSpec10_CountsOfAWalkedConnection(t *testing.T) {
	f := newFabric(t)
	f.forward(testset.DB1, db(syn), testset.DB2)
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].Action = table.Drop })
	f.drop(testset.DB1, db(ack), ReasonDFWRule)
	f.apply(func(s *table.Set) { s.Rulesets.Get(testset.RulesAny).Rules[0].ID = 1999 })
	f.forward(testset.DB1, db(ack), testset.DB2)
	f.st.Sweep(f.now, f.set)
	if old, now := f.st.Tally(TallyKey{TallyRule, testset.RuleAny}), f.st.Tally(TallyKey{TallyRule, 1999}); old != (Tally{}) || now != (Tally{Packets: 2, Bytes: 80}) {
		t.Errorf("old rule %+v, new rule %+v", old, now)
	}
}

// The seventh rule on a path is not noted.
func TestSpec10_RulesOfAFlowAreBounded(t *testing.T) {
	var list [maxFlowRules]uint32
	for id := range uint32(9) {
		note(list[:], id+1)
	}
	if list != [maxFlowRules]uint32{1, 2, 3, 4, 5, 6} {
		t.Error(list)
	}
}
