package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
)

// Two pods attached as a runtime does it reach each other as the tables say,
// whatever becomes of the agent.
func TestPods(t *testing.T) {
	need.Tool(t, "ping")
	n := newNode(t)
	one, two := namespace(t, "one"), namespace(t, "two")
	list := n.list("1.1.0", `,"mtu":1400,"timeout":"5s"`)
	n.start()
	n.apply(podded(2))

	got, err := n.add(list, pod(1, netns.Path(one.Name())))
	if err != nil {
		t.Fatalf("%v\n%s", err, n.log())
	}
	own := 1
	want := &types100.Result{
		CNIVersion: "1.1.0",
		Interfaces: []*types100.Interface{
			{Name: n.devices()[0], Mtu: 1400}, {Name: "eth0", Mac: "04:50:56:00:00:01", Mtu: 1400, Sandbox: netns.Path(one.Name())},
		},
		IPs:    []*types100.IPConfig{{Interface: &own, Address: ipNet(netip.PrefixFrom(addrOf(1), 16)), Gateway: gateway.Addr().AsSlice()}},
		Routes: []*types.Route{{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), GW: gateway.Addr().AsSlice()}},
	}
	asText := cmp.Comparer(func(a, b net.IP) bool { return a.Equal(b) })
	if diff := cmp.Diff(want, got, asText); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if _, err := n.add(list, pod(2, netns.Path(two.Name()))); err != nil {
		t.Fatal(err)
	}
	reach := func(when string) {
		t.Helper()
		for from, to := range map[*netns.Namespace]int{one: 2, two: 1} {
			if err := ping(from, addrOf(to)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		for i, p := range []*netns.Namespace{one, two} {
			if err := n.check(list, pod(i+1, netns.Path(p.Name()))); err != nil {
				t.Errorf("%s: CHECK: %v", when, err)
			}
		}
	}
	reach("at once")
	if err := ping(one, gateway.Addr()); err != nil {
		t.Error(err)
	}
	if err := speak(one, two, addrOf(2)); err == nil {
		t.Error("what no rule allows gets through")
	}
	if again, err := n.add(list, pod(1, netns.Path(one.Name()))); err != nil || !cmp.Equal(got, again, asText) {
		t.Errorf("the same ADD again: %v\n%s", err, cmp.Diff(got, again, asText))
	}
	_, err = n.add(list, func() *libcni.RuntimeConf { rt := pod(1, netns.Path(two.Name())); rt.ContainerID = "other"; return rt }())
	wantError(t, "ADD for a port that has a pod", err, types.ErrTryAgainLater, "attachment container1/eth0 has its port")
	_, err = n.add(n.list("1.1.0", `,"timeout":"50ms"`), pod(3, netns.Path(two.Name())))
	wantError(t, "ADD for no port", err, types.ErrTryAgainLater, "pod ns/pod-3: attachment id uid-3: no port of this node has it")

	n.kill()
	if err := ping(one, addrOf(2)); err != nil {
		t.Errorf("without an agent: %v", err)
	}
	n.start()
	reach("after the agent was killed")
	n.end(syscall.SIGTERM)
	n.start()
	reach("after the agent was ended")
	spoiled(t, n, list, one, two)

	if err := n.del(list, pod(1, netns.Path(one.Name()))); err != nil {
		t.Error(err)
	}
	n.kill()
	if err := n.del(list, pod(2, netns.Path(two.Name()))); err != nil {
		t.Errorf("DEL without an agent: %v", err)
	}
	n.start()
	n.nothingLeft(one, two)
}

// spoiled changes what ADD made and looks whether CHECK sees and ADD mends it.
func spoiled(t *testing.T, n *node, list *libcni.NetworkConfigList, one, two *netns.Namespace) {
	t.Helper()
	need.Tool(t, "ip")
	rt := pod(1, netns.Path(one.Name()))
	for command, want := range map[string]string{
		"ip link set eth0 mtu 1000":                "interface eth0: mtu: is 1000 (1400)",
		"ip link set eth0 address 02:00:00:00:0:1": "interface eth0: mac address: is 02:00:00:00:00:01 (04:50:56:00:00:01)",
		"ip address del 10.1.1.1/16 dev eth0":      "interface eth0: address 10.1.1.1/16: is missing (there)",
		"ip route del default":                     "interface eth0: route 0.0.0.0/0 via 10.1.0.1: is missing (there)",
		"ip link set eth0 down":                    "interface eth0: state: is down (up)",
		"ip link del eth0":                         "does not exist",
	} {
		inside(t, one, command)
		wantError(t, "CHECK after "+command, n.check(list, rt), codeDiffers, want)
		if _, err := n.add(list, rt); err != nil {
			t.Errorf("ADD after %s: %v", command, err)
		}
		if err := n.check(list, rt); err != nil {
			t.Errorf("CHECK after %s and ADD: %v", command, err)
		}
		if err := ping(one, addrOf(2)); err != nil {
			t.Errorf("after %s and ADD: %v", command, err)
		}
	}
	// A pod that takes another address sends nothing with it.
	inside(t, one, "ip address add 10.1.9.9/16 dev eth0")
	if err := ping(one, addrOf(2), "-I", "10.1.9.9"); err == nil {
		t.Error("a pod sends with an address that is not its own")
	}
	inside(t, one, "ip address del 10.1.9.9/16 dev eth0")
	// Its port moves.
	moved := podded(0)
	place(moved, 1, netip.MustParseAddr("10.1.8.8"))
	place(moved, 2, addrOf(2))
	n.apply(moved)
	await(t, "the pod's new address", func() bool {
		return n.check(list, rt) == nil
	})
	if err := ping(two, netip.MustParseAddr("10.1.8.8")); err != nil {
		t.Error(err)
	}
	if err := ping(one, addrOf(2)); err != nil {
		t.Error(err)
	}
	n.apply(podded(2))
	await(t, "the pod's old address", func() bool { return n.check(list, rt) == nil })
	if strings.Contains(n.log(), "InterfaceDiffers") {
		t.Error("an interface did not follow its port at once")
	}
}

func inside(t *testing.T, p *netns.Namespace, command string) {
	t.Helper()
	words := strings.Fields(command)
	err := p.Do(func() error {
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: does not come", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// speak connects from one pod to another by TCP.
func speak(from, to *netns.Namespace, addr netip.Addr) error {
	var l net.Listener
	err := to.Do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(addr, 80).String())
		return err
	})
	if err != nil {
		return nil // seen as a success, which fails the test
	}
	defer l.Close()
	return from.Do(func() error {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 300*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return err
	})
}

func TestVersionsAndChains(t *testing.T) {
	n := newNode(t)
	one := namespace(t, "one")
	n.start()
	n.apply(podded(1))
	rt := pod(1, netns.Path(one.Name()))
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		list := n.list(version, "")
		r, err := n.add(list, rt)
		if err != nil || len(r.IPs) != 1 || *r.IPs[0].Interface != 1 || r.Interfaces[1].Sandbox != rt.NetNS {
			t.Errorf("%s: %+v, %v", version, r, err)
		}
		if version != "0.3.1" {
			if err := n.check(list, rt); err != nil {
				t.Errorf("%s: CHECK: %v", version, err)
			}
		}
		if err := n.del(list, rt); err != nil {
			t.Errorf("%s: DEL: %v", version, err)
		}
	}
	text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"loopback"},{"type":"weft-cni","socket":%q},{"type":"loopback"}]}`, n.client.Socket)
	list, err := libcni.ConfListFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := n.add(list, rt)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ip := range r.IPs {
		names = append(names, r.Interfaces[*ip.Interface].Name+" "+ip.Address.String())
	}
	if want := []string{"lo 127.0.0.1/8", "eth0 10.1.1.1/16", "lo 127.0.0.1/8"}; !slices.Equal(names, want) {
		t.Errorf("result %v", names)
	}
	if err := ping(one, netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
	if err := n.check(list, rt); err != nil {
		t.Error(err)
	}
	if err := n.del(list, rt); err != nil {
		t.Error(err)
	}
	n.nothingLeft(one)
}

// Runtimes that lose a pod, and namespaces that end by themselves.
func TestGarbage(t *testing.T) {
	n := newNode(t)
	n.start()
	n.apply(podded(3))
	list := n.list("1.1.0", "")
	var pods []*netns.Namespace
	for i := range 3 {
		p := namespace(t, fmt.Sprint("p", i))
		pods = append(pods, p)
		if _, err := n.add(list, pod(i+1, netns.Path(p.Name()))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(n.dir + "/cache"); err != nil { // the runtime forgets them
		t.Fatal(err)
	}
	valid := []types.GCAttachment{{ContainerID: "container2", IfName: "eth0"}}
	err := n.within(func() error {
		return n.cni().GCNetworkList(t.Context(), list, &libcni.GCArgs{ValidAttachments: valid})
	})
	if left, _, _ := n.client.Attachments(t.Context()); err != nil || len(left) != 1 || left[0].Container != "container2" {
		t.Errorf("after GC: %v, %v", left, err)
	}
	pods[1].Close()
	if err := netns.Delete(pods[1].Name()); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of a pod without DEL", func() bool {
		left, _, err := n.client.Attachments(t.Context())
		return err == nil && len(left) == 0
	})
	if err := n.del(list, pod(2, netns.Path(pods[1].Name()))); err != nil {
		t.Errorf("DEL of a namespace that is gone: %v", err)
	}
	n.nothingLeft(pods[0], pods[2])
}

// An agent that is killed at any moment of ADD or DEL leaves nothing when the
// runtime has called DEL.
func TestKills(t *testing.T) {
	n := newNode(t)
	one := namespace(t, "one")
	rt, list := pod(1, netns.Path(one.Name())), n.list("1.0.0", `,"timeout":"1s"`)
	n.start()
	n.apply(podded(1))
	began := time.Now()
	if _, err := n.add(list, rt); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	const kills = 12
	for i := range kills {
		if i%2 == 0 {
			if err := n.del(list, rt); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 1)
		go func() {
			if i%2 == 0 {
				_, err := n.add(list, rt)
				done <- err
			} else {
				done <- n.del(list, rt)
			}
		}()
		time.Sleep(took * time.Duration(i) / kills)
		n.kill()
		killed := <-done
		n.start()
		if i%2 == 0 {
			if _, err := n.add(list, rt); err != nil {
				t.Errorf("ADD after a kill (%v): %v", killed, err)
			}
			continue
		}
		if err := n.del(list, rt); err != nil {
			t.Errorf("DEL after a kill (%v): %v", killed, err)
		}
		n.nothingLeft(one)
		if _, err := n.add(list, rt); err != nil {
			t.Errorf("ADD: %v", err)
		}
	}
	if err := n.del(list, rt); err != nil {
		t.Error(err)
	}
	n.nothingLeft(one)
}
