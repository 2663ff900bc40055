package lab

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/table"
)

func TestStateSurvivesTheFile(t *testing.T) {
	dir := t.TempDir()
	plan, problems := planOf(t, labFiles(t, "seeds.yaml", "s"))
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	want := &State{
		Phase: Changing, Spec: &Spec{Name: "s"}, Plan: plan, Next: []*Plan{plan},
		Servers: []Process{{PID: 7, Start: 1 << 60, Machine: "web"}},
		Agents:  []Process{{PID: 8, Start: 1 << 61, Machine: "host1"}},
	}
	if err := want.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if c := diff(got.Plan, plan); len(c.machines)+len(c.links)+len(c.remove) > 0 {
		t.Errorf("the plan that was read differs from the one that was written: %+v", c)
	}
}

func TestBrokenStateIsAnError(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "cut off": `{"Phase":`, "without a plan": `{"Phase":"up"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadState(dir); err == nil {
			t.Errorf("%s: is accepted", name)
		}
	}
}

func TestSetSurvivesTheFile(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	want := table.NewSet("host1")
	want.Ports[1] = &table.Port{ID: 1, Path: "/p", Segment: 3, MAC: table.MAC{4, 0x50, 0x56, 0, 0, 1}}
	want.Uplinks[2] = &table.Uplink{ID: 2, VRF: 1, Address: prefix("192.168.105.1/24")}
	want.Segments[3] = &table.Segment{ID: 3, Gateways: []netip.Prefix{prefix("10.0.0.1/24")}}
	for _, a := range []netip.Addr{addr("10.0.0.5"), addr("2001:db8::5")} {
		want.Endpoints[table.EndpointKey{Segment: 3, Addr: a}] = &table.Endpoint{Segment: 3, Addr: a, Port: 1, In: []table.RulesetID{9}}
	}
	want.VRFs[4] = &table.VRF{ID: 4, Kind: table.Tier1}
	want.Routes[table.RouteKey{VRF: 4, Prefix: prefix("0.0.0.0/0")}] = &table.Route{
		VRF: 4, Prefix: prefix("0.0.0.0/0"), Kind: table.RouteUp, Via: addr("100.64.0.0"), NextHops: []table.NextHopID{5},
	}
	want.NextHops[5] = &table.NextHop{ID: 5, Uplink: 2, Addr: addr("192.168.105.253")}
	key := table.NATKey{VRF: 4, Dir: table.NATOut}
	want.NAT[key] = &table.NATList{Key: key, Rules: []table.NATRule{{ID: 6, Src: prefix("10.0.0.0/24")}}}
	want.AddrSets[7] = &table.AddrSet{ID: 7, Addrs: []table.RealmPrefix{{Realm: table.AnyRealm, Prefix: prefix("10.0.0.0/8")}}}
	want.Rulesets[8] = &table.Ruleset{ID: 8, Rules: []*table.Rule{{ID: 9, Services: []table.Service{{Proto: 6, First: 80, Last: 90}}}}}
	want.Timeouts.ICMP = 77

	path := filepath.Join(t.TempDir(), "set")
	if err := SaveSet(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSet(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	if _, err := LoadSet(path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestLockIsExclusiveAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "weft", "s")
	first, err := acquire(t.Context(), dir, func() { t.Error("a free lock is busy") })
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	second := make(chan *lock)
	go func() {
		l, err := acquire(t.Context(), dir, func() { close(waited) })
		if err != nil {
			t.Error(err)
		}
		second <- l
	}()
	<-waited
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := acquire(ctx, dir, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a lock that is held: %v", err)
	}
	if err := first.release(); err != nil { // removes the directory under the waiting one
		t.Fatal(err)
	}
	l := <-second
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
		t.Errorf("the second holder's lock is not in the directory: %v", err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestReleaseKeepsALabThatExists(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	l, err := acquire(t.Context(), dir, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, stateFile), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	if names, err := labsIn(filepath.Dir(dir)); err != nil || !cmp.Equal(names, []string{"s"}) {
		t.Errorf("labs = %v, %v", names, err)
	}
}

func TestKillSparesAnotherProcessOfTheSameNumber(t *testing.T) {
	need.Tool(t, "sleep")
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	earlier := Process{PID: p.PID, Start: p.Start - 1}
	if earlier.alive() || !p.alive() {
		t.Errorf("alive: %v for another process, %v for this one", earlier.alive(), p.alive())
	}
	if err := kill(t.Context(), earlier.PID, earlier.alive); err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Fatal("another process was killed")
	}
	if err := kill(t.Context(), p.PID, p.alive); err != nil {
		t.Fatal(err)
	}
	<-ended
	if p.alive() {
		t.Error("the process lives on")
	}
	if err := kill(t.Context(), p.PID, p.alive); err != nil {
		t.Errorf("killing a process that is gone: %v", err)
	}
}
