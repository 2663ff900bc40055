package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// ran runs fn with an agent in a bubble whose time passes at once.
func ran(t *testing.T, fn func(b *bed)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, n := newFakes()
		b := start(t, dir, d, n)
		defer b.stop()
		fn(b)
	})
}

// after lets d pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func apply(t *testing.T, b *bed, tables *Tables) {
	t.Helper()
	if err := b.Apply(context.Background(), tables); err != nil {
		t.Fatal(err)
	}
}

// holding returns the conditions of a status as lines: type, object, message,
// and "(over)" if it does not hold.
func holding(t *testing.T, b *bed) []string {
	t.Helper()
	s, err := b.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, c := range s.Conditions {
		line := strings.TrimSpace(c.Type+" "+c.Object) + ": " + c.Message
		if !c.Status {
			line += " (over)"
		}
		out = append(out, line)
	}
	return out
}

func wantConditions(t *testing.T, b *bed, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), holding(t, b)); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

func TestFindingsReachTheDataPlane(t *testing.T) {
	ran(t, func(b *bed) {
		apply(t, b, of(pooled(3)))
		want := dataplane.Binding{1: {IfIndex: 7, MAC: table.MAC{2, 0, 0, 0, 0, 7}}, 2: {IfIndex: 8}}
		n, binding := b.driver.applied()
		if diff := cmp.Diff(want, binding); diff != "" || n != 1 {
			t.Errorf("%d Sets; bound (-want +got):\n%s", n, diff)
		}
		after(10 * time.Second)
		if n, _ = b.driver.applied(); n != 1 {
			t.Errorf("while all are up, %d Sets are applied", n)
		}
		b.network.kill("10.1.0.2", true)
		after(4 * time.Second)
		if got := b.driver.down(); !slices.Equal(got, []table.MemberID{2}) {
			t.Errorf("down: %v", got)
		}
		wantConditions(t, b, "MemberDown /infra/lb-pools/p 10.1.0.2:80: tcp: connect 10.1.0.2:80: connection refused (4 times)")
		n, _ = b.driver.applied()
		after(10 * time.Second) // the reason changes, nothing else
		if now, _ := b.driver.applied(); now != n {
			t.Errorf("%d Sets for a member that stays down", now-n)
		}
		b.network.kill("10.1.0.2", false)
		after(3 * time.Second)
		if got := b.driver.down(); len(got) != 0 {
			t.Errorf("down: %v", got)
		}
		after(remembered - 5*time.Second)
		if got := holding(t, b); len(got) != 1 || !strings.HasSuffix(got[0], " (over)") {
			t.Errorf("conditions: %v", got)
		}
		after(15 * time.Second)
		wantConditions(t, b)
	})
}

func TestFindingsAreCollected(t *testing.T) {
	ran(t, func(b *bed) {
		apply(t, b, of(pooled(200)))
		for i := range 200 {
			b.network.kill("10.1.0."+strconv.Itoa(i+1), true)
		}
		after(5 * time.Second)
		if got := len(b.driver.down()); got != 200 {
			t.Errorf("%d members are down", got)
		}
		// All fail within one interval of a second: one Set every 200 ms.
		if n, _ := b.driver.applied(); n > 8 {
			t.Errorf("%d Sets for 200 findings within a second", n)
		}
		if got := holding(t, b); len(got) != 201 || got[200] != "NoActiveMember /infra/lb-pools/p: none of 200 members takes connections: 200 down, 0 not enabled" {
			t.Errorf("%d conditions, the last: %s", len(got), got[len(got)-1])
		}
	})
}

func TestPassiveDetection(t *testing.T) {
	ran(t, func(b *bed) {
		s := pooled(2)
		s.Pools.Get(1).Monitors, s.Pools.Get(1).Passive = nil, &table.Passive{Path: "/infra/lb-monitor-profiles/passive", MaxFails: 5, Timeout: 10}
		apply(t, b, of(s))
		b.driver.change(func() { b.driver.fails[1] = 4 })
		after(2 * time.Second)
		if got := b.driver.down(); len(got) != 0 {
			t.Errorf("down after four: %v", got)
		}
		b.driver.change(func() { b.driver.fails[1] = 5 })
		after(2 * time.Second)
		if got := b.driver.down(); !slices.Equal(got, []table.MemberID{1}) {
			t.Errorf("down after five: %v", got)
		}
		wantConditions(t, b, "MemberDown /infra/lb-pools/p 10.1.0.1:80: passive: 5 connections in a row failed (for 10s)")
		after(11 * time.Second)
		if got := b.driver.down(); len(got) != 0 {
			t.Errorf("down after the time-out: %v", got)
		}
	})
}

func TestRefusedTablesChangeNothing(t *testing.T) {
	ran(t, func(b *bed) {
		full := errors.New("map nat: is full")
		b.driver.change(func() { b.driver.refuse = full })
		if err := b.Apply(context.Background(), of(pooled(1))); !errors.Is(err, full) {
			t.Errorf("the first: %v", err)
		}
		if len(b.network.made) != 0 {
			t.Errorf("monitor ports of refused tables: %v", b.network.made)
		}
		if b.InForce() != nil {
			t.Error("refused tables are in force")
		}
		b.driver.change(func() { b.driver.refuse = nil })
		apply(t, b, of(pooled(1)))
		b.driver.change(func() { b.driver.refuse = full })
		other := of(pooled(3))
		if err := b.Apply(context.Background(), other); !errors.Is(err, full) {
			t.Errorf("the second: %v", err)
		}
		if !slices.Equal(b.network.made, []table.LBServiceID{1}) || len(b.InForce().Set.Pools.Get(1).Members) != 1 {
			t.Errorf("monitor ports %v, %d members", b.network.made, len(b.InForce().Set.Pools.Get(1).Members))
		}
		b.driver.change(func() { b.driver.refuse = nil })
		for text, bad := range map[string]*Tables{
			"device weft-none: /infra/segments/web/ports/a: is not there":                                {pooled(1), map[string]string{"/infra/segments/web/ports/a": "weft-none"}},
			"device eth0: /infra/segments/web/ports/b: is not in the tables":                             {pooled(1), map[string]string{"/infra/segments/web/ports/b": "eth0"}},
			"device eth0: /infra/lb-services/s/monitor: is a monitors' port (its device is the agent's)": {pooled(1), map[string]string{"/infra/lb-services/s/monitor": "eth0"}},
		} {
			err := b.Apply(context.Background(), bad)
			if _, ok := errors.AsType[*BadTables](err); !ok || err.Error() != text {
				t.Errorf("got %v, want %s", err, text)
			}
		}
	})
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	ran(t, func(b *bed) {
		apply(t, b, of(pooled(2)))
		b.driver.change(func() { b.driver.refuse = errors.New("map pools: is full") })
		b.network.kill("10.1.0.1", true)
		after(5 * time.Second)
		if got := holding(t, b); !slices.Contains(got, "NotRealized: map pools: is full") {
			t.Errorf("conditions: %v", got)
		}
		b.driver.change(func() { b.driver.refuse = nil })
		after(5 * time.Second)
		if got := b.driver.down(); !slices.Equal(got, []table.MemberID{1}) {
			t.Errorf("down: %v", got)
		}
		if got := holding(t, b); !slices.Contains(got, "NotRealized: map pools: is full (over)") {
			t.Errorf("conditions: %v", got)
		}
	})
}

func TestCountersThatRise(t *testing.T) {
	ran(t, func(b *bed) {
		apply(t, b, of(pooled(1)))
		b.driver.change(func() { b.driver.status.Drops["snat_exhausted"] = 7 })
		b.driver.change(func() {
			b.driver.status.Maps = []dataplane.MapUse{{Name: "weft_nat", Entries: 90, Max: 100}, {Name: "weft_flows", Entries: 100, Max: 100, Evicted: 3}}
		})
		after(sweepEvery)
		wantConditions(t, b,
			"Displaced weft_flows: 3 entries gave way to newer ones (100 fit)",
			"PortsExhausted: 7 packets dropped: no free source port for this destination",
			"TableFull weft_nat: 90 entries (of 100)")
		after(sweepEvery)
		wantConditions(t, b,
			"TableFull weft_nat: 90 entries (of 100)",
			"Displaced weft_flows: 3 entries gave way to newer ones (100 fit) (over)",
			"PortsExhausted: 7 packets dropped: no free source port for this destination (over)")
		b.driver.change(func() {
			if b.driver.sweeps != 2 {
				t.Errorf("%d sweeps in two times %s", b.driver.sweeps, sweepEvery)
			}
		})
	})
}

func TestTheNextAgentGoesOn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, n := newFakes()
		b := start(t, dir, d, n)
		defer b.stop()
		apply(t, b, of(pooled(3)))
		n.kill("10.1.0.3", true)
		after(4 * time.Second)
		b.stop()

		d2, n2 := newFakes()
		n2.kill("10.1.0.3", true)
		b = start(t, dir, d2, n2)
		defer b.stop()
		sets, _ := d2.applied()
		if got := d2.down(); sets != 1 || !slices.Equal(got, []table.MemberID{3}) {
			t.Errorf("it begins with %d Sets, down %v", sets, got)
		}
		now := b.InForce()
		if diff := cmp.Diff(pooled(3), now.Set.WithHealth(nil), compareAddrs); diff != "" {
			t.Errorf("tables (-accepted +now):\n%s", diff)
		}
		n2.kill("10.1.0.3", false)
		after(3 * time.Second)
		if got := d2.down(); len(got) != 0 {
			t.Errorf("down: %v", got)
		}
	})
}

func TestResumeWithoutADevice(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, n := newFakes()
		b := start(t, dir, d, n)
		defer b.stop()
		apply(t, b, of(pooled(1)))
		b.stop()
		data, err := os.ReadFile(filepath.Join(dir, tablesFile))
		if err != nil {
			t.Fatal(err)
		}
		gone := strings.Replace(string(data), `"eth0"`, `"weft-none"`, 1)
		if err := os.WriteFile(filepath.Join(dir, tablesFile), []byte(gone), 0o600); err != nil {
			t.Fatal(err)
		}
		d, n = newFakes()
		b = start(t, dir, d, n)
		defer b.stop()
		wantConditions(t, b, "DeviceMissing /infra/segments/web/ports/a: device weft-none is not there")
		if sets, binding := d.applied(); sets != 1 || len(binding) != 1 {
			t.Errorf("%d Sets, bound %v: the ports that are there shall work", sets, binding)
		}
		after(2 * sweepEvery)
		if sets, _ := d.applied(); sets < 3 {
			t.Errorf("it looked %d times for the device in %s", sets, 2*sweepEvery)
		}
	})
}

// TestStoreAfterAKill: whatever of a new file is there, the old one counts.
func TestStoreAfterAKill(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	f, err := s.prepare(of(pooled(1)))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.tables(); got != nil || err != nil {
		t.Errorf("before the first commit: %v, %v", got, err)
	}
	if err := f.commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.prepare(of(pooled(2))); err != nil { // and killed here
		t.Fatal(err)
	}
	got, _, err := s.tables()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(of(pooled(1)), got, compareAddrs); diff != "" {
		t.Errorf("tables (-committed +read):\n%s", diff)
	}
	if _, err := openStore(dir); err == nil || err.Error() != "directory "+dir+": another agent has it" {
		t.Errorf("a second agent: %v", err)
	}
}

func TestUnreadableTablesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, tablesFile), []byte(`{"tables": {"Future": 1}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d, n := newFakes()
	b := start(t, dir, d, n)
	defer b.stop()
	if n, _ := d.applied(); n != 0 || b.InForce() != nil {
		t.Error("something was applied")
	}
	apply(t, b, of(pooled(1)))
}
