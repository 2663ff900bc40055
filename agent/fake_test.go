package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// fakeDriver is a Driver that keeps what it was told.
type fakeDriver struct {
	busy atomic.Bool // a method runs

	mu      sync.Mutex // guards what follows; tests take it too
	sets    []*table.Set
	binding dataplane.Binding // the last
	sweeps  int
	fails   map[table.MemberID]uint32
	status  dataplane.Status
	refuse  error // what Apply returns
	closed  bool
}

// use panics if two methods run at the same time, or after Close.
func (d *fakeDriver) use() func() {
	if !d.busy.CompareAndSwap(false, true) {
		panic("two methods of the driver run at the same time")
	}
	d.mu.Lock()
	if d.closed {
		panic("the driver is used after it was closed")
	}
	return func() {
		d.mu.Unlock()
		d.busy.Store(false)
	}
}

// change lets a test change what d does.
func (d *fakeDriver) change(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn()
}

// applied returns how many Sets were applied, and the last binding.
func (d *fakeDriver) applied() (int, dataplane.Binding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sets), d.binding
}

func (d *fakeDriver) Apply(_ context.Context, set *table.Set, b dataplane.Binding) error {
	defer d.use()()
	if d.refuse != nil {
		return d.refuse
	}
	d.sets, d.binding = append(d.sets, set), b
	d.status.Generation++
	return nil
}

func (d *fakeDriver) Sweep(context.Context) error {
	defer d.use()()
	d.sweeps++
	return nil
}

func (d *fakeDriver) Status(context.Context) (dataplane.Status, error) {
	defer d.use()()
	s := d.status
	s.Drops = maps.Clone(s.Drops)
	return s, nil
}

func (d *fakeDriver) Close() error {
	defer d.use()()
	d.closed = true
	return nil
}

// What observers see: nothing.
func (d *fakeDriver) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return nil, nil
}

func (d *fakeDriver) Loads(context.Context) (dataplane.Loads, error) {
	defer d.use()()
	l := dataplane.Loads{Members: map[table.MemberID]dataplane.Load{}}
	for id, n := range d.fails {
		l.Members[id] = dataplane.Load{Fails: n}
	}
	return l, nil
}

func (d *fakeDriver) PortDrops(context.Context) ([]dataplane.PortDrop, error) { return nil, nil }

func (d *fakeDriver) Connections(context.Context, func(*dataplane.Connection) bool) error { return nil }

// down returns the members that the last Set has as down.
func (d *fakeDriver) down() []table.MemberID {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sets) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(d.sets[len(d.sets)-1].Health))
}

// fakeNetwork is the monitors' network: members answer unless they are dead.
// The device of every load balancer is mon0.
type fakeNetwork struct {
	mu     sync.Mutex
	dead   map[netip.Addr]bool
	made   []table.LBServiceID // that have a device
	refuse error               // what Make returns
}

func (n *fakeNetwork) Dial(_ context.Context, from table.LBServiceID, _ string, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead[to.Addr()] || !slices.Contains(n.made, from) {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	far.Close()
	return near, nil
}

func (n *fakeNetwork) kill(addr string, dead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead[netip.MustParseAddr(addr)] = dead
}

func (n *fakeNetwork) Make(set *table.Set) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range set.Services.All() {
		if !slices.Contains(n.made, id) {
			n.made = append(n.made, id)
		}
	}
	return n.refuse
}

func (n *fakeNetwork) Keep(set *table.Set) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made = slices.DeleteFunc(n.made, func(id table.LBServiceID) bool { return set.Services.Get(id) == nil })
	return nil
}

func (n *fakeNetwork) Devices(set *table.Set) map[string]string {
	out := map[string]string{}
	for _, s := range set.Services.All() {
		if p := set.Ports.Get(s.Port); p != nil {
			out[p.Path] = "mon0"
		}
	}
	return out
}

func (n *fakeNetwork) Close() error { return nil }

// pooled returns a Set with one workload, and one load balancer with a pool of
// n members 10.1.0.1 to 10.1.0.n that a TCP monitor asks every second, three
// times.
func pooled(n int) *table.Set {
	s := table.NewSet("host1")
	s.Ports.Put(1, &table.Port{ID: 1, Path: "/infra/segments/web/ports/a"})
	s.Ports.Put(2, &table.Port{ID: 2, Path: "/infra/lb-services/s/monitor"})
	s.Services.Put(1, &table.LBService{ID: 1, Path: "/infra/lb-services/s", VRF: 1, Port: 2})
	p := &table.Pool{
		ID: 1, Path: "/infra/lb-pools/p", Algorithm: table.RoundRobin,
		Monitors: []*table.Monitor{{Path: "/infra/lb-monitor-profiles/tcp", Kind: table.MonitorTCP, Interval: 1, Timeout: 1, Fall: 3, Rise: 2}},
	}
	for i := range n {
		p.Members = append(p.Members, table.Member{
			ID: table.MemberID(i + 1), Name: fmt.Sprint("m", i+1), Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), Port: 80,
			Weight: 1, Admin: table.MemberEnabled,
		})
	}
	s.Pools.Put(1, p)
	key := table.VIPKey{VRF: 1, Addr: netip.MustParseAddr("172.16.0.1")}
	s.VIPs.Put(key, &table.VIP{Key: key, Servers: []*table.VirtualServer{{ID: 1, Path: "/infra/lb-virtual-servers/v", Service: 1, Pool: 1, Services: []table.Service{{Proto: 6, First: 80, Last: 80}}}}})
	return s
}

// fakeLinks are the devices of the node.
func fakeLinks([]string) (map[string]dataplane.Link, error) {
	return map[string]dataplane.Link{"eth0": {IfIndex: 7, MAC: table.MAC{2, 0, 0, 0, 0, 7}}, "mon0": {IfIndex: 8}}, nil
}

// of returns Tables whose only workload has device eth0.
func of(s *table.Set) *Tables {
	return &Tables{Set: s, Devices: map[string]string{"/infra/segments/web/ports/a": "eth0"}}
}

// compareAddrs lets cmp look at addresses.
var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// bed is an agent with fakes around it.
type bed struct {
	*Agent
	driver  *fakeDriver
	network *fakeNetwork
	pairs   *fakePairs
	stop    func()
}

// start begins an agent over dir; it ends with the test, or by stop.
func start(t testing.TB, dir string, d *fakeDriver, n *fakeNetwork) *bed {
	t.Helper()
	return startOver(t, dir, d, n, newFakePairs())
}

// startOver begins an agent over dir and the pairs that are there.
func startOver(t testing.TB, dir string, d *fakeDriver, n *fakeNetwork, p *fakePairs) *bed {
	t.Helper()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p.driver = d
	l, err := newAttachments(log, s, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &bed{newAgent(ctx, log, s, d, n, p.links, l), d, n, p, nil}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.run(ctx)
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if err := errors.Join(b.close(), s.close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func newFakes() (*fakeDriver, *fakeNetwork) {
	return &fakeDriver{fails: map[table.MemberID]uint32{}, status: dataplane.Status{Drops: map[string]uint64{}}}, &fakeNetwork{dead: map[netip.Addr]bool{}}
}
