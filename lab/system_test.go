package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/process"
	"github.com/weft-net/weft/table"
)

// testLab is a lab name of this test process alone, removed in the end.
func testLab(t *testing.T, s *System, name string) string {
	t.Helper()
	need.Root(t)
	lab := fmt.Sprintf("t%d%s", os.Getpid(), name)
	t.Cleanup(func() {
		if _, err := s.Down(context.Background(), lab); err != nil {
			t.Error(err)
		}
		wantNothing(t, s, lab)
	})
	return lab
}

// wantNothing fails if anything of lab is left.
func wantNothing(t *testing.T, s *System, lab string) {
	t.Helper()
	if names, err := netns.List(prefixOf(lab)); err != nil || len(names) > 0 {
		t.Errorf("namespaces left: %v, %v", names, err)
	}
	for _, dir := range []string{s.StateDir, s.PinDir} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if labs, err := s.Labs(); err != nil || slices.Contains(labs, lab) {
		t.Errorf("labs = %v, %v", labs, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Error(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Alias, "/infra/") {
			t.Errorf("link %s is left in the machine's own namespace", l.Attrs().Name)
		}
	}
}

func up(t *testing.T, s *System, files []File) {
	t.Helper()
	if _, err := s.Up(t.Context(), files); err != nil {
		t.Fatal(err)
	}
}

// namespace opens the machine called name.
func namespace(t *testing.T, lab, name string) *netns.Namespace {
	t.Helper()
	n, err := netns.Open(prefixOf(lab) + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// get fetches a URL from inside n, without keeping the connection.
func get(t *testing.T, n *netns.Namespace, address string) (string, error) {
	t.Helper()
	var body []byte
	err := n.Do(func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		client := http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
			DisableKeepAlives: true,
		}}
		resp, err := client.Get("http://" + address + "/any")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return err
	})
	return string(body), err
}

// describe says how a device of the current namespace is configured.
func describe(name string) (string, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return "", err
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s mac %s mtu %d %s alias %s", name, l.Attrs().HardwareAddr, l.Attrs().MTU, l.Attrs().OperState, l.Attrs().Alias)
	for _, a := range addrs {
		text += " " + a.IPNet.String()
	}
	return text, nil
}

func TestUpBuildsWhatTheFilesSay(t *testing.T) {
	s, driver := newSystem(t)
	lab := testLab(t, s, "up")
	up(t, s, labFiles(t, "seeds.yaml", lab))

	workload := namespace(t, lab, "red.web")
	var got string
	var routes []netlink.Route
	err := workload.Do(func() (err error) {
		if got, err = describe("eth0"); err != nil {
			return err
		}
		routes, err = netlink.RouteList(nil, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "eth0 mac 04:50:56:00:00:12 mtu 1500 up alias " + redWeb + " 10.244.0.18/28"
	if got != want {
		t.Errorf("workload:\n got %s\nwant %s", got, want)
	}
	if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == "10.244.0.17" }) {
		t.Errorf("workload: no default route to the segment's gateway: %v", routes)
	}

	t.Run("binding", func(t *testing.T) { checkBinding(t, lab, driver) })
	t.Run("http", func(t *testing.T) {
		for _, port := range []string{"80", "88"} {
			body, err := get(t, namespace(t, lab, "client"), "192.168.178.222:"+port)
			if err != nil || body != "Requester IP: 192.168.178.100\n" {
				t.Errorf("port %s: %q, %v", port, body, err)
			}
		}
	})
	t.Run("physical router forwards", func(t *testing.T) {
		host, via := namespace(t, lab, "host1"), netip.MustParseAddr("192.168.105.253")
		if err := host.Do((Route{To: everything(via), Via: via}).set); err != nil {
			t.Fatal(err)
		}
		body, err := get(t, host, "192.168.178.222:80")
		if err != nil || body != "Requester IP: 192.168.105.1\n" {
			t.Errorf("through the router: %q, %v", body, err)
		}
	})
	t.Run("status", func(t *testing.T) { checkStatus(t, s, lab) })
	t.Run("set", func(t *testing.T) {
		set, err := s.Set(t.Context(), lab)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(driver.told(t)[0].Set.WithHealth(nil), set, compareAddrs); diff != "" {
			t.Errorf("stored tables (-applied +stored):\n%s", diff)
		}
	})
	t.Run("twice", func(t *testing.T) {
		up(t, s, labFiles(t, "seeds.yaml", lab))
		if n := len(driver.told(t)); n != 1 {
			t.Errorf("the data plane was loaded %d times", n)
		}
		_, err := s.Up(t.Context(), labFiles(t, "seeds.yaml", lab, "10.244.0.19", "10.244.0.20"))
		if err == nil || err.Error() != "lab "+lab+" is up with other files; use 'weft lab apply' or 'weft lab down'" {
			t.Errorf("other files: %v", err)
		}
	})
	t.Run("down", func(t *testing.T) {
		removed, err := s.Down(t.Context(), lab)
		if err != nil || removed != (Removed{Processes: 2, Namespaces: 6}) {
			t.Errorf("Down = %+v, %v", removed, err)
		}
		wantNothing(t, s, lab)
		if removed, err := s.Down(t.Context(), lab); err != nil || removed != (Removed{}) {
			t.Errorf("second Down = %+v, %v", removed, err)
		}
	})
}

// checkBinding compares what the driver was told with the devices' aliases.
func checkBinding(t *testing.T, lab string, driver *fakeDriver) {
	told := driver.told(t)
	if len(told) != 1 {
		t.Fatalf("the data plane was loaded %d times", len(told))
	}
	var links []netlink.Link
	err := namespace(t, lab, "host1").Do(func() (err error) {
		links, err = netlink.LinkList()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	aliases := map[string]dataplane.Link{}
	for _, l := range links {
		aliases[l.Attrs().Alias] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.MAC(append(l.Attrs().HardwareAddr, make([]byte, 6)...))}
	}
	want := dataplane.Binding{
		table.PortID(fakeID(redWeb)):  aliases["vif-red-web"],
		table.PortID(fakeID(redDB)):   aliases[redDB],
		table.PortID(fakeID(uplink0)): aliases[uplink0],
	}
	if diff := cmp.Diff(want, told[0].Binding); diff != "" {
		t.Errorf("binding (-want +got):\n%s", diff)
	}
}

func checkStatus(t *testing.T, s *System, lab string) {
	status, err := s.Status(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	ns := prefixOf(lab)
	want := &Status{
		Lab: lab, Phase: Running, DataPlane: &dataplane.Status{Generation: 1},
		Agent: &agent.Status{Node: "host1", PID: agentPID(t, s, lab), Generation: 1, Conditions: []agent.Condition{}, Members: []agent.Member{}},
		Machines: []MachineStatus{
			{Name: "host1", Kind: Host, Namespace: ns + "host1", Addresses: []string{"192.168.105.1/24"}, State: "up"},
			{Name: "physical", Kind: Physical, Namespace: ns + "physical", Addresses: []string{"192.168.178.1/24", "192.168.105.253/24"}, State: "up"},
			{Name: "web", Kind: Outside, Namespace: ns + "web", Addresses: []string{"192.168.178.222/24"}, HTTP: []uint16{80, 88}, State: "up"},
			{Name: "client", Kind: Outside, Namespace: ns + "client", Addresses: []string{"192.168.178.100/24"}, State: "up"},
			{Name: "red-db", Kind: Workload, Namespace: ns + "red-db", Addresses: []string{"10.244.0.19/28"}, MAC: "04:50:56:00:00:13", Port: redDB, State: "up"},
			{Name: "red/web", Kind: Workload, Namespace: ns + "red.web", Addresses: []string{"10.244.0.18/28"}, MAC: "04:50:56:00:00:12", Port: redWeb, State: "up"},
		},
	}
	if diff := cmp.Diff(want, status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

// agentPID returns the process of a lab's agent.
func agentPID(t *testing.T, s *System, lab string) int {
	t.Helper()
	state, err := s.Load(lab)
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Agents) != 1 || !state.Agents[0].alive() || state.Agents[0].Machine != "host1" {
		t.Fatalf("agents: %+v", state.Agents)
	}
	return state.Agents[0].PID
}

func TestStatusSaysWhatIsWrong(t *testing.T) {
	s, _ := newSystem(t)
	lab := testLab(t, s, "wrong")
	up(t, s, labFiles(t, "seeds.yaml", lab))
	state, err := s.Load(lab)
	if err != nil {
		t.Fatal(err)
	}
	server := state.Servers[0]
	if err := process.Kill(t.Context(), server.PID, server.alive); err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(t.Context(), state.Agents[0].PID, state.Agents[0].alive); err != nil {
		t.Fatal(err)
	}
	if err := netns.Delete(prefixOf(lab) + "client"); err != nil {
		t.Fatal(err)
	}
	err = namespace(t, lab, "red-db").Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"host1": "red-db has no carrier, agent ended", "web": "http server ended", "client": "namespace missing",
		"red-db": "eth0 down", "red/web": "up",
	}
	got := states(t, s, lab)
	delete(got, "physical") // the port of the removed machine goes when the kernel gets to it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// states returns the state of each machine by its name.
func states(t *testing.T, s *System, lab string) map[string]string {
	t.Helper()
	status, err := s.Status(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range status.Machines {
		got[m.Name] = m.State
	}
	return got
}

func TestFailedUpLeavesNothing(t *testing.T) {
	s, driver := newSystem(t)
	lab := testLab(t, s, "fail")
	driver.refuse(t, "map nat: is full")
	if _, err := s.Up(t.Context(), labFiles(t, "seeds.yaml", lab)); err == nil || err.Error() != "loading the data plane: agent: map nat: is full" {
		t.Errorf("Up: %v", err)
	}
	wantNothing(t, s, lab)
	driver.refuse(t, "")
	s.Server = []string{"/bin/false"}
	_, err := s.Up(t.Context(), labFiles(t, "seeds.yaml", lab))
	if err == nil || !strings.Contains(err.Error(), "http server of web: ended before it listened") {
		t.Errorf("Up with a server that ends: %v", err)
	}
	wantNothing(t, s, lab)
}
