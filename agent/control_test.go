package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/control"
	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/pki"
	intents "github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// patience bounds the wait for anything.
const patience = 20 * time.Second

// led is a store, a weftd of it and an agent that it leads; either may be
// stopped and started.
type led struct {
	t      *testing.T
	dir    string // the agent's
	c      Control
	ca     *pki.CA
	store  *intents.Store
	server *control.Server
	agent  *bed
	driver *fakeDriver
	stops  [2]func() // of server and agent
}

const uplinkPath = "/infra/tier-0s/t/locale-services/d/interfaces/u"

func newLed(t *testing.T) *led {
	t.Helper()
	root := t.TempDir()
	ca, err := pki.Ensure(filepath.Join(root, "pki"), "weft")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Ensure(filepath.Join(root, "agent"), pki.Request{Name: wire.AgentName("host1"), Client: true}); err != nil {
		t.Fatal(err)
	}
	l := &led{t: t, dir: filepath.Join(root, "dir"), ca: ca, stops: [2]func(){func() {}, func() {}}, c: Control{
		Address: unixPrefix + filepath.Join(root, "s"), Node: "host1",
		Cert: filepath.Join(root, "agent.crt"), Key: filepath.Join(root, "agent.key"), CA: ca.Cert(),
		Devices: map[string]string{uplinkPath: "eth0"},
	}}
	if l.store, err = intents.New(t.Context(), intents.NewMemory(), nil); err != nil {
		t.Fatal(err)
	}
	l.driver, _ = newFakes()
	t.Cleanup(func() { l.stopAgent(); l.stopServer(); l.store.Close() })
	return l
}

func (l *led) stopServer() { l.stops[0]() }
func (l *led) stopAgent()  { l.stops[1]() }

// startServer begins a weftd, in place of one that there is.
func (l *led) startServer() {
	l.t.Helper()
	l.stopServer()
	path := strings.TrimPrefix(l.c.Address, unixPrefix)
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		l.t.Fatal(err)
	}
	config, err := l.ca.Server(filepath.Join(filepath.Dir(l.ca.Cert()), "server"), pki.Request{Name: "weftd", Hosts: []string{wire.ServerName}})
	if err != nil {
		l.t.Fatal(err)
	}
	server := control.New(nil, l.store)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { server.Run(ctx) })
	running.Go(func() { server.Serve(ctx, listener, config) })
	l.server, l.stops[0] = server, sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
}

// startAgent begins an agent, in place of one that there is, with a driver that
// has what the one before had.
func (l *led) startAgent() {
	l.t.Helper()
	l.stopAgent()
	s, err := openStore(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	pairs := newFakePairs()
	attached, err := newAttachments(log, s, pairs)
	if err != nil {
		l.t.Fatal(err)
	}
	attached.fixed = l.c.Devices
	_, network := newFakes()
	l.driver.change(func() { l.driver.closed = false })
	a := newAgent(l.t.Context(), log, s, l.driver, network, pairs.links, attached)
	a.control = &follower{agent: a, c: l.c}
	l.agent = &bed{Agent: a, driver: l.driver, network: network, pairs: pairs}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { a.run(ctx) })
	running.Go(func() { a.control.run(ctx) })
	l.stops[1] = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := errors.Join(a.close(), s.close()); err != nil {
			l.t.Error(err)
		}
	})
}

func (l *led) put(changes ...intent.Change) intents.Version {
	l.t.Helper()
	v, problems, err := l.store.Update(l.t.Context(), func(*intent.Tree) ([]intent.Change, error) { return changes, nil })
	if err != nil || intent.HasErrors(problems) {
		l.t.Fatal(err, problems)
	}
	return v
}

// await waits until version v is in a state and returns why.
func (l *led) await(v intents.Version, want control.State) string {
	l.t.Helper()
	late := time.After(patience)
	for {
		changed := l.server.Changed()
		got, why := l.server.State(v)
		if got == want {
			return why
		}
		select {
		case <-changed:
		case <-late:
			l.t.Fatalf("version %d: is %v: %s (want %v)", v, got, why, want)
		}
	}
}

// joined waits until the agent has said what it has, after a time. Until then
// weftd believes what the one before said.
func (l *led) joined(after time.Time) {
	l.t.Helper()
	late := time.After(patience)
	for {
		changed := l.server.Changed()
		for _, n := range l.server.Nodes() {
			if n.Connected && n.Since.After(after) {
				return
			}
		}
		select {
		case <-changed:
		case <-late:
			l.t.Fatal("the agent does not join")
		}
	}
}

// check compares what is in force with what a fresh start would give.
func (l *led) check() {
	l.t.Helper()
	var want *table.Set
	l.store.Read(func(tree *intent.Tree, _ intents.Version) {
		sets, _ := compile.New().Update(tree, nil)
		want = sets["host1"]
	})
	l.driver.mu.Lock()
	got := l.driver.sets[len(l.driver.sets)-1]
	l.driver.mu.Unlock()
	wanted, err := table.Digest(want)
	has, err2 := table.Digest(got)
	if err := errors.Join(err, err2); err != nil {
		l.t.Fatal(err)
	}
	if has != wanted {
		l.t.Errorf("other tables are in force than a fresh start would give: %+v", table.Diff(want, got))
	}
}

// uplinked is a Tier-0 with an uplink.
func uplinked() []intent.Change {
	return []intent.Change{
		intent.Put("/infra/tier-0s/t", &intent.Tier0{TransitSubnets: []string{"100.64.0.0/29"}}),
		intent.Put("/infra/tier-0s/t/locale-services/d", &intent.LocaleServices{EdgeClusterPath: "/infra/sites/default/enforcement-points/default/edge-clusters/ec1"}),
		intent.Put(uplinkPath, &intent.Tier0Interface{Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.100.2"}, PrefixLen: 24}}}),
	}
}

func segment(i int) intent.Change {
	return intent.Put(fmt.Sprintf("/infra/segments/s%d", i), &intent.Segment{
		Subnets: []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.%d.%d.1/24", i/256, i%256)}},
	})
}

func port(segment, i int) intent.Change {
	p := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{
		IPAddress: fmt.Sprintf("10.%d.%d.%d", segment/256, segment%256, 2+i), MACAddress: fmt.Sprintf("04:50:56:00:%02x:%02x", segment, i),
	}}}
	return intent.Put(fmt.Sprintf("/infra/segments/s%d/ports/p%d", segment, i), p)
}

// awaitConditions waits until the conditions that hold are those.
func awaitConditions(t *testing.T, b *bed, want ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got := slices.DeleteFunc(holding(t, b), func(line string) bool { return strings.HasSuffix(line, "(over)") })
		matches := len(got) == len(want)
		for i := range want {
			matches = matches && strings.Contains(got[i], want[i])
		}
		if matches {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("conditions: %q, want %q", got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestControlLeads(t *testing.T) {
	l := newLed(t)
	l.startAgent()
	awaitConditions(t, l.agent, "NotConnected: weftd can not be reached: "+l.c.Address+": connect: no such file or directory")
	l.startServer()
	awaitConditions(t, l.agent, "NoPort "+uplinkPath+": device eth0: the tables have no such port")
	v := l.put(append(uplinked(), segment(1), port(1, 1))...)
	l.await(v, control.Realized)
	l.check()
	awaitConditions(t, l.agent)
	if _, b := l.driver.applied(); len(b) != 1 || b[uplinkID(l.agent)].IfIndex != 7 {
		t.Errorf("bound: %v", b)
	}
	if s, err := l.agent.Status(t.Context()); err != nil || s.Version != int64(v) || s.Node != "host1" {
		t.Errorf("status: %+v, %v", s, err)
	}
	answer := httptest.NewRecorder()
	handler(l.agent.Agent).ServeHTTP(answer, httptest.NewRequest("PUT", tablesPath, strings.NewReader("{}")))
	if answer.Code != 409 || !strings.HasPrefix(answer.Body.String(), "tables: come from weftd at unix:") {
		t.Errorf("PUT: %d %s", answer.Code, answer.Body)
	}

	// Nothing goes back while weftd or the agent is away.
	l.stopServer()
	awaitConditions(t, l.agent, "NotConnected")
	n, _ := l.driver.applied()
	l.startAgent()
	if again, b := l.driver.applied(); again != n+1 || len(b) != 1 {
		t.Errorf("after a restart of the agent: %d Sets more, bound %v", again-n, b)
	}
	l.check()
	v = l.put(segment(2))
	l.startServer()
	l.await(v, control.Realized)
	l.check()
}

func uplinkID(b *bed) table.PortID {
	for id, u := range b.InForce().Set.Uplinks.All() {
		if u.Path == uplinkPath {
			return id
		}
	}
	return 0
}

func TestControlRefused(t *testing.T) {
	l := newLed(t)
	l.startServer()
	l.startAgent()
	v1 := l.put(append(uplinked(), segment(1))...)
	l.await(v1, control.Realized)
	l.driver.change(func() { l.driver.refuse = errors.New("map segments: is full") })
	v2 := l.put(segment(2))
	if why := l.await(v2, control.Refused); why != "node host1: map segments: is full" {
		t.Errorf("why: %s", why)
	}
	awaitConditions(t, l.agent, fmt.Sprintf("NotRealized weftd: version %d: map segments: is full", v2))
	if got := l.agent.InForce().Set; got.Segments.Len() != 1 {
		t.Errorf("%d segments are in force", got.Segments.Len())
	}
	l.driver.change(func() { l.driver.refuse = nil })
	v3 := l.put(segment(3))
	l.await(v3, control.Realized)
	l.check()
	awaitConditions(t, l.agent)
}

// Tables of another node are refused, and so is what is no Set at all.
func TestControlBadTables(t *testing.T) {
	l := newLed(t)
	l.startAgent()
	f := l.agent.control
	other, err := table.Encode(table.NewSet("host2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		u    *wire.Update
		data string
		want string // of the Nack; empty: the connection begins anew
	}{
		{"another node", &wire.Update{Version: 3, Whole: true}, string(other), "tables: are for node host2 (want host1)"},
		{"no tables", &wire.Update{Version: 3, Whole: true}, `{"Ports":[null]}`, "table set: ports[0]: is null"},
		{"no patch", &wire.Update{Version: 3}, `{"Ports":1}`, ""},
		{"a patch that does not fit", &wire.Update{Version: 3}, `{"Ports":{"Gone":[1]}}`, ""},
		{"a patch to another version", &wire.Update{Version: 3, Base: 2}, `{}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := f.take(t.Context(), tt.u, []byte(tt.data))
			switch {
			case tt.want == "" && (err == nil || !f.unknown):
				t.Errorf("answered %v, %v", answer, err)
			case tt.want != "" && (err != nil || answer.GetNack().GetReason() != tt.want || answer.GetNack().GetVersion() != 3):
				t.Errorf("answered %v, %v", answer, err)
			}
			f.unknown = false
		})
	}
	if n, _ := l.driver.applied(); n != 0 {
		t.Errorf("%d Sets were applied", n)
	}
}

// Whatever is killed at whatever moment, and however much of the journal the
// machine forgot: the end is that of a fresh start.
func TestControlKills(t *testing.T) {
	rounds, steps := 4, 40
	if testing.Short() {
		rounds = 1
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			l := newLed(t)
			l.startServer()
			l.startAgent()
			l.put(uplinked()...)
			for range steps {
				switch i := r.IntN(6); r.IntN(10) {
				case 0:
					l.startServer()
				case 1:
					l.startAgent()
				case 2:
					l.stopAgent()
					killed := time.Now()
					forget(t, l.dir, r.Float64())
					l.startAgent()
					l.joined(killed)
				case 3:
					refuse := error(nil)
					if r.IntN(2) == 0 {
						refuse = errors.New("map ports: is full")
					}
					l.driver.change(func() { l.driver.refuse = refuse })
				case 4:
					l.driver.change(func() { l.driver.refuse = nil })
					v := l.put(segment(50 + i)) // what was refused is offered again with it
					l.await(v, control.Realized)
					l.check()
				case 5:
					l.put(intent.Delete(fmt.Sprintf("/infra/segments/s%d/ports/p%d", i, r.IntN(4))))
				default:
					l.put(segment(i), port(i, r.IntN(4)))
				}
			}
			l.driver.change(func() { l.driver.refuse = nil })
			v := l.put(segment(100)) // what was refused is offered again with it
			l.await(v, control.Realized)
			l.check()
		})
	}
}

// forget cuts off the end of the newest file of patches.
func forget(t *testing.T, dir string, part float64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, journalPrefix+"*"))
	if err != nil || len(files) == 0 {
		return
	}
	info, err := os.Stat(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[len(files)-1], int64(float64(info.Size())*part)); err != nil {
		t.Fatal(err)
	}
}

func TestControlFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // of the error
	}{
		{"--control unix:/run/s --node a --cert c --key k --ca ca --device /infra/a=eth0 --device /infra/b=eth1", ""},
		{"--control host:6641 --node a --cert c --key k --ca ca", ""},
		{"--control unix: --node a --cert c --key k --ca ca", `control "unix:": has no path (unix:/run/weft/agents.sock)`},
		{"--control host --node a --cert c --key k --ca ca", `control "host": is no address (unix:/run/weft/agents.sock, or host:port)`},
		{"--control host:1 --cert c --key k --ca ca", "node: is missing (--control needs it)"},
		{"--control host:1 --node a --cert c --key k", "ca: is missing (--control needs it)"},
		{"--node a", "node, cert, key and ca: need --control"},
		{"--device /infra/a=eth0", "device: needs --control (without it, tables come with their devices)"},
		{"--device eth0", `invalid value "eth0" for flag -device: "eth0": is no device (<policy path>=<name>)`},
		{"--device /infra/a=eth0 --device /infra/a=eth1", `invalid value "/infra/a=eth1" for flag -device: /infra/a: has two devices, eth0 and eth1`},
	} {
		c, err := parse(strings.Fields(tt.args), io.Discard)
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%s: got %v, want %q", tt.args, err, tt.want)
		case tt.want == "" && strings.Contains(tt.args, "--device") && c.Control.Devices["/infra/b"] != "eth1":
			t.Errorf("%s: devices %v", tt.args, c.Control.Devices)
		}
	}
}
