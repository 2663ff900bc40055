package table

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// poolOf returns a pool of enabled members with ids 1, 2, … and these weights.
func poolOf(algorithm Algorithm, weights ...uint16) *Pool {
	p := &Pool{ID: 1, Algorithm: algorithm, MinActive: 1}
	a := netip.MustParseAddr("10.0.0.1")
	for i, w := range weights {
		p.Members = append(p.Members, Member{ID: MemberID(i + 1), Addr: a, Port: 80, Weight: w, Admin: MemberEnabled})
		a = a.Next()
	}
	return p
}

// ones returns n times weight 1.
func ones(n int) []uint16 { return slices.Repeat([]uint16{1}, n) }

func downAt(ids ...MemberID) map[MemberID]Health {
	out := map[MemberID]Health{}
	for _, id := range ids {
		out[id] = Health{Down: true, Why: "test"}
	}
	return out
}

func TestSlotsInTurn(t *testing.T) {
	draining, disabled := poolOf(RoundRobin, 1, 1, 1), poolOf(RoundRobin, 1, 1, 1)
	draining.Members[1].Admin = MemberDraining
	disabled.Members[0].Admin = MemberDisabled
	backup := poolOf(RoundRobin, 1, 1, 1, 1)
	backup.Members[2].Backup, backup.Members[3].Backup = true, true
	two := poolOf(RoundRobin, 1, 1, 1, 1)
	two.Members[2].Backup, two.Members[3].Backup, two.MinActive = true, true, 2
	for _, tt := range []struct {
		name   string
		pool   *Pool
		health map[MemberID]Health
		want   []MemberID
	}{
		{"nobody", poolOf(RoundRobin), nil, nil},
		{"equal weights", poolOf(RoundRobin, 5, 5, 5), nil, []MemberID{1, 2, 3}},
		{"smooth", poolOf(RoundRobin, 5, 1, 1), nil, []MemberID{1, 1, 2, 1, 3, 1, 1}},
		{"lowest terms", poolOf(RoundRobin, 100, 200), nil, []MemberID{2, 1, 2}},
		{"down", poolOf(RoundRobin, 1, 1, 1), downAt(2), []MemberID{1, 3}},
		{"all down", poolOf(RoundRobin, 1, 1), downAt(1, 2), nil},
		{"draining", draining, nil, []MemberID{1, 3}},
		{"disabled", disabled, nil, []MemberID{2, 3}},
		{"backups rest", backup, nil, []MemberID{1, 2}},
		{"backups rest while one is left", backup, downAt(1), []MemberID{2}},
		{"backups help", backup, downAt(1, 2), []MemberID{3, 4}},
		{"backups help below min_active", two, downAt(1), []MemberID{2, 3, 4}},
		{"backups that are down do not", two, downAt(1, 3), []MemberID{2, 4}},
		{"least connections", poolOf(LeastConnections, 9, 1), nil, []MemberID{1, 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.pool.Slots(tt.health)); diff != "" {
				t.Errorf("slots (-want +got):\n%s", diff)
			}
		})
	}
}

// Weights that do not fit are scaled; everybody keeps a turn.
func TestSlotsAreBounded(t *testing.T) {
	weights := ones(300)
	for i := range 100 {
		weights[i] = 256
	}
	slots := poolOf(RoundRobin, weights...).Slots(nil)
	if len(slots) > maxTurns+len(weights) {
		t.Errorf("%d slots, want about %d", len(slots), maxTurns)
	}
	have := count(slots)
	if len(have) != len(weights) {
		t.Errorf("%d members have a slot, want %d", len(have), len(weights))
	}
	if have[1] < 30*have[300] {
		t.Errorf("weight 256 has %d slots, weight 1 %d", have[1], have[300])
	}
}

func count(slots []MemberID) map[MemberID]int {
	out := map[MemberID]int{}
	for _, id := range slots {
		out[id]++
	}
	return out
}

func TestMaglevIsBalanced(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 20, 100} {
		slots := poolOf(IPHash, ones(n)...).Slots(nil)
		for id, have := range count(slots) {
			if want := float64(len(slots)) / float64(n); float64(have) < 0.95*want-1 || float64(have) > 1.05*want+1 {
				t.Errorf("%d members: member %d has %d of %d slots, want %.0f within 5 %%", n, id, have, len(slots), want)
			}
		}
	}
	weighted := poolOf(IPHash, 1, 2, 5).Slots(nil)
	have := count(weighted)
	for id, weight := range map[MemberID]float64{1: 1, 2: 2, 3: 5} {
		if want := float64(len(weighted)) * weight / 8; float64(have[id]) < 0.95*want-1 || float64(have[id]) > 1.05*want+1 {
			t.Errorf("weight %v of 8: %d of %d slots, want %.0f within 5 %%", weight, have[id], len(weighted), want)
		}
	}
}

// When one of n members goes down, its slots move, and few others.
func TestMaglevLosesAMember(t *testing.T) {
	for _, n := range []int{3, 10, 50} {
		p := poolOf(IPHash, ones(n)...)
		before, after := p.Slots(nil), p.Slots(downAt(2))
		if len(before) != len(after) {
			t.Fatalf("%d members: the table's length changed from %d to %d", n, len(before), len(after))
		}
		moved := 0
		for i := range before {
			if after[i] == 2 {
				t.Fatalf("%d members: slot %d is of the member that is down", n, i)
			}
			if before[i] != after[i] {
				moved++
			}
		}
		least, most := count(before)[2], 2*len(before)/n+len(before)/50
		if moved < least || moved > most {
			t.Errorf("%d members: %d of %d slots moved, want %d to %d", n, moved, len(before), least, most)
		}
	}
}

// The table follows from ids, weights and health alone.
func TestSlotsAreDeterministic(t *testing.T) {
	for _, algorithm := range []Algorithm{RoundRobin, LeastConnections, IPHash} {
		a, b := poolOf(algorithm, 3, 1, 2), poolOf(algorithm, 3, 1, 2)
		b.ID, b.Path, b.SNAT, b.Members[0].MaxConns = 9, "/infra/lb-pools/other", SNATAutoMap, 7
		for range 3 {
			if diff := cmp.Diff(a.Slots(nil), b.Slots(map[MemberID]Health{1: {Why: "up"}})); diff != "" {
				t.Errorf("%s: %s", algorithm, diff)
			}
		}
	}
}

func TestServerAndMember(t *testing.T) {
	s := full()
	v := s.VIPs.Get(VIPKey{VRF: 12, Addr: netip.MustParseAddr("172.16.1.1")})
	for _, tt := range []struct {
		proto uint8
		port  uint16
		want  VirtualServerID
	}{{6, 80, 51}, {6, 79, 0}, {6, 8000, 51}, {6, 8080, 51}, {6, 8081, 0}, {17, 53, 50}, {6, 53, 0}} {
		var got VirtualServerID
		if server := v.Server(tt.proto, tt.port); server != nil {
			got = server.ID
		}
		if got != tt.want {
			t.Errorf("protocol %d port %d: server %d, want %d", tt.proto, tt.port, got, tt.want)
		}
	}
	if m := s.Pools.Get(60).Member(81); m != &s.Pools.Get(60).Members[1] {
		t.Errorf("member 81: got %v", m)
	}
	if m := s.Pools.Get(60).Member(82); m != nil {
		t.Errorf("member 82: got %v", m)
	}
	sick := s.WithHealth(downAt(80))
	if !s.Up(80) || sick.Up(80) || !sick.Up(81) {
		t.Errorf("member 80 is up: %v before, %v after; 81: %v", s.Up(80), sick.Up(80), sick.Up(81))
	}
	if d := Diff(s, sick); d.Len() != 0 {
		t.Errorf("health is a difference of tables: %+v", d)
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		in   fmt.Stringer
		want string
	}{
		{RouteVIP, "vip"}, {RoundRobin, "round_robin"}, {LeastConnections, "least_connections"}, {IPHash, "ip_hash"},
		{MemberEnabled, "ENABLED"}, {MemberDraining, "GRACEFUL_DISABLED"}, {MemberDisabled, "DISABLED"},
		{SNATDisabled, "disabled"}, {SNATAutoMap, "automap"}, {SNATPool, "pool"},
		{MonitorTCP, "tcp"}, {MonitorHTTP, "http"}, {MonitorHTTPS, "https"}, {MonitorICMP, "icmp"}, {MonitorUDP, "udp"}, {MonitorKind(9), "9"},
	} {
		if got := tt.in.String(); got != tt.want {
			t.Errorf("%#v: got %s, want %s", tt.in, got, tt.want)
		}
	}
}
