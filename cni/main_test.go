package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/table"
)

// TestMain makes the test binary each of the programs that nodes run, by its
// name.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "weft-cni", "loopback":
		os.Exit(Main(name, os.Stdout))
	case "weft-agent", "weft-fake-agent":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := agent.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, func(pins string) (agent.Driver, error) {
			if name == "weft-fake-agent" {
				return fakeDriver{}, nil
			}
			return ebpf.Open(pins)
		})
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// fakeDriver is a data plane that does nothing.
type fakeDriver struct{ agent.Driver }

func (fakeDriver) Apply(context.Context, *table.Set, dataplane.Binding) error { return nil }
func (fakeDriver) Sweep(context.Context) error                                { return nil }
func (fakeDriver) Status(context.Context) (dataplane.Status, error)           { return dataplane.Status{}, nil }
func (fakeDriver) Close() error                                               { return nil }

// node is a machine with an agent and a container runtime.
type node struct {
	t       testing.TB
	dir     string
	program string // which agent
	host    *netns.Namespace
	client  *agent.Client
	process *exec.Cmd
}

// newNode returns a node without an agent in a namespace of its own.
func newNode(t testing.TB) *node {
	t.Helper()
	need.Root(t)
	need.BPF(t)
	n := plainNode(t, "weft-agent")
	n.host = namespace(t, "host")
	t.Cleanup(func() {
		if err := ebpf.RemovePinned(n.pins()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// plainNode returns one in the namespace of the test, which takes no privilege.
func plainNode(t testing.TB, program string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), program: program}
	n.client = &agent.Client{Socket: filepath.Join(n.dir, "socket")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.bin(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weft-cni", "loopback", "weft-agent", "weft-fake-agent"} {
		if err := os.Symlink(self, filepath.Join(n.bin(), name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Log(n.log())
		}
	})
	return n
}

func (n *node) bin() string  { return filepath.Join(n.dir, "bin") }
func (n *node) pins() string { return fmt.Sprintf("/sys/fs/bpf/weft-test-cni-%d", os.Getpid()) }

// within runs fn where the node's devices are.
func (n *node) within(fn func() error) error {
	if n.host == nil {
		return fn()
	}
	return n.host.Do(fn)
}

// start begins an agent and returns when it answers.
func (n *node) start() {
	n.t.Helper()
	n.process = exec.Command(filepath.Join(n.bin(), n.program), "--dir", filepath.Join(n.dir, "agent"), "--socket", n.client.Socket,
		"--pins", n.pins(), "--monitors", fmt.Sprintf("weft-test-cni-%d-monitors", os.Getpid()))
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.process.Stderr = log
	if err := n.within(n.process.Start); err != nil {
		n.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, _, err := n.client.Attachments(n.t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, agent.ErrGone) || time.Now().After(deadline) {
			n.t.Fatalf("agent: %v\n%s", err, n.log())
		}
		time.Sleep(time.Millisecond)
	}
}

func (n *node) log() string {
	text, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	return string(text)
}

// kill ends the agent at once.
func (n *node) kill() { n.end(syscall.SIGKILL) }

func (n *node) end(s syscall.Signal) {
	if n.process != nil {
		n.process.Process.Signal(s)
		n.process.Wait()
		n.process = nil
	}
}

func (n *node) apply(set *table.Set) {
	n.t.Helper()
	if err := n.client.Apply(n.t.Context(), &agent.Tables{Set: set}); err != nil {
		n.t.Fatalf("%v\n%s", err, n.log())
	}
}

// list is a network of version, whose only plugin has more settings if more is
// not empty.
func (n *node) list(version, more string) *libcni.NetworkConfigList {
	n.t.Helper()
	text := fmt.Sprintf(`{"cniVersion":%q,"name":"pods","plugins":[{"type":"weft-cni","socket":%q%s}]}`, version, n.client.Socket, more)
	list, err := libcni.ConfListFromBytes([]byte(text))
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

func (n *node) cni() *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir([]string{n.bin()}, filepath.Join(n.dir, "cache"), nil)
}

// pod is a sandbox as a runtime describes it.
func pod(i int, netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: fmt.Sprint("container", i), NetNS: netns, IfName: "eth0", Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "ns"}, {"K8S_POD_NAME", fmt.Sprint("pod-", i)},
			{"K8S_POD_INFRA_CONTAINER_ID", "x"}, {"K8S_POD_UID", fmt.Sprint("uid-", i)},
		},
	}
}

func (n *node) add(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (out *types100.Result, err error) {
	err = n.within(func() error {
		r, err := n.cni().AddNetworkList(n.t.Context(), list, rt)
		if err == nil {
			out, err = types100.NewResultFromResult(r)
		}
		return err
	})
	return out, err
}

func (n *node) del(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	return n.within(func() error { return n.cni().DelNetworkList(n.t.Context(), list, rt) })
}

func (n *node) check(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	return n.within(func() error { return n.cni().CheckNetworkList(n.t.Context(), list, rt) })
}

// devices returns the names of n's devices that begin with weft.
func (n *node) devices() (names []string) {
	n.t.Helper()
	err := n.within(func() error {
		all, err := net.Interfaces()
		for _, d := range all {
			if strings.HasPrefix(d.Name, "weft") {
				names = append(names, d.Name)
			}
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return names
}

// nothingLeft fails if anything of an attachment is there.
func (n *node) nothingLeft(pods ...*netns.Namespace) {
	n.t.Helper()
	records, err := filepath.Glob(filepath.Join(n.dir, "agent", "attachments", "*"))
	if d := n.devices(); err != nil || len(d) != 0 || len(records) != 0 {
		n.t.Errorf("left: devices %v, records %v, %v", d, records, err)
	}
	for _, p := range pods {
		if d := devicesOf(n.t, p); len(d) != 1 {
			n.t.Errorf("left: %v in %s", d, p.Name())
		}
	}
	if list, _, err := n.client.Attachments(n.t.Context()); len(list) != 0 || err != nil && !errors.Is(err, agent.ErrGone) {
		n.t.Errorf("left: %v, %v", list, err)
	}
}

func devicesOf(t testing.TB, p *netns.Namespace) (names []string) {
	t.Helper()
	err := p.Do(func() error {
		all, err := net.Interfaces()
		for _, d := range all {
			names = append(names, d.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// namespace makes one of this test.
func namespace(t testing.TB, name string) *netns.Namespace {
	t.Helper()
	ns, err := netns.New(fmt.Sprintf("weft-test-cni-%d-%s", os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Delete(ns.Name()); err != nil {
			t.Error(err)
		}
	})
	return ns
}

const (
	tier1 = table.VRFID(1)
	segID = table.SegmentID(1)

	rulesPing = table.RulesetID(1) // in: ICMP echo
	rulesAny  = table.RulesetID(2) // out: everything
)

var gateway = netip.MustParsePrefix("10.1.0.1/16")

// addrOf returns the address of pod i.
func addrOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 1 + byte(i>>8), byte(i)}) }

// podded returns a Set with one segment behind a Tier-1, on which pod i, from 1
// to n, has the port with attachment id uid-i. Pods may be pinged, nothing else.
func podded(n int) *table.Set {
	s := table.NewSet("node")
	s.VRFs.Put(tier1, &table.VRF{ID: tier1, Kind: table.Tier1, Path: "/infra/tier-1s/t1", Name: "t1"})
	s.Segments.Put(segID, &table.Segment{ID: segID, Path: "/infra/segments/pods", Name: "pods", VNI: 70001, VRF: tier1, Gateways: []netip.Prefix{gateway}})
	for prefix, kind := range map[netip.Prefix]table.RouteKind{gateway.Masked(): table.RouteConnected, netip.PrefixFrom(gateway.Addr(), 32): table.RouteLocal} {
		s.Routes.Put(table.RouteKey{VRF: tier1, Prefix: prefix}, &table.Route{VRF: tier1, Prefix: prefix, Kind: kind, Segment: segID})
	}
	ping := &table.Rule{ID: 1001, Path: "/p", Action: table.Allow, AnyRemote: true, Services: []table.Service{{Proto: 1, First: 8 << 8, Last: 8 << 8}}}
	s.Rulesets.Put(rulesPing, &table.Ruleset{ID: rulesPing, Name: "ping", Rules: []*table.Rule{ping}})
	s.Rulesets.Put(rulesAny, &table.Ruleset{ID: rulesAny, Name: "any", Rules: []*table.Rule{{ID: 1002, Path: "/a", Action: table.Allow, AnyRemote: true}}})
	for i := 1; i <= n; i++ {
		place(s, i, addrOf(i))
	}
	return s
}

// place gives pod i its port.
func place(s *table.Set, i int, a netip.Addr) {
	id := table.PortID(i)
	mac := table.MAC{4, 0x50, 0x56, 0, byte(i >> 8), byte(i)}
	s.Ports.Put(id, &table.Port{ID: id, Path: fmt.Sprint("/infra/segments/pods/ports/", i), Segment: segID, MAC: mac, Attachment: fmt.Sprint("uid-", i)})
	s.Endpoints.Put(table.EndpointKey{Segment: segID, Addr: a}, &table.Endpoint{
		Segment: segID, Addr: a, Port: id, MAC: mac, Out: []table.RulesetID{rulesAny}, In: []table.RulesetID{rulesPing},
	})
}

// ping sends one packet from a pod, from the address of source if that is not
// empty, and returns an error if no answer came.
func ping(p *netns.Namespace, to netip.Addr, more ...string) error {
	return p.Do(func() error {
		out, err := exec.Command("ping", append([]string{"-n", "-c", "1", "-W", "1", to.String()}, more...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ping %s: %w: %s", to, err, out)
		}
		return nil
	})
}
