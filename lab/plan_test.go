package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

var compareAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

const (
	uplink0 = "/infra/tier-0s/t0/locale-services/default/interfaces/uplink0"
	redWeb  = "/infra/segments/red/ports/web"
	redDB   = "/infra/segments/red/ports/db"
)

// planOf plans files without a System.
func planOf(t *testing.T, files []File) (*Plan, []intent.Problem) {
	t.Helper()
	in := read(files)
	tree := intent.NewTree()
	_, problems := tree.Apply(in.changes)
	for _, p := range append(in.problems, problems...) {
		t.Log(p)
		if p.Severity == intent.Error {
			t.Fatal("the intent itself is wrong")
		}
	}
	sets, _ := fakeCompile(tree)
	return NewPlan(in.spec, sets["host1"])
}

func TestPlanOfTheSeeds(t *testing.T) {
	got, problems := planOf(t, labFiles(t, "seeds.yaml", "seeds"))
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	outward := []Route{{To: prefix("0.0.0.0/0"), Via: addr("10.244.0.17")}}
	outside := []Route{{To: prefix("0.0.0.0/0"), Via: addr("192.168.178.1")}}
	want := &Plan{
		Lab: "seeds",
		Machines: []Machine{
			{Name: "host1", Kind: Host, Namespace: "weft-seeds-host1"},
			{
				Name: "physical", Kind: Physical, Namespace: "weft-seeds-physical",
				Bridges: []Bridge{{Name: "lan", Address: prefix("192.168.178.1/24")}},
				Routes:  []Route{{To: prefix("10.15.0.0/16"), Via: addr("192.168.105.1")}},
			},
			{Name: "web", Kind: Outside, Namespace: "weft-seeds-web", Routes: outside, HTTP: []uint16{80, 88}},
			{Name: "client", Kind: Outside, Namespace: "weft-seeds-client", Routes: outside},
			{Name: "red-db", Kind: Workload, Namespace: "weft-seeds-red-db", Port: redDB, Routes: outward},
			{Name: "red/web", Kind: Workload, Namespace: "weft-seeds-red.web", Port: redWeb, Routes: outward},
		},
		Links: []Link{
			{
				A: End{
					Namespace: "weft-seeds-host1", Name: "up-uplink0", Addresses: []netip.Prefix{prefix("192.168.105.1/24")},
					Alias: uplink0, Object: uplink0,
				},
				B: End{
					Namespace: "weft-seeds-physical", Name: "uplink0",
					Addresses: []netip.Prefix{prefix("192.168.105.253/24")}, Alias: "to " + uplink0,
				},
			},
			{
				A: End{Namespace: "weft-seeds-physical", Name: "o-web", Alias: "to web", Bridge: "lan"},
				B: End{Namespace: "weft-seeds-web", Name: "eth0", Addresses: []netip.Prefix{prefix("192.168.178.222/24")}},
			},
			{
				A: End{Namespace: "weft-seeds-physical", Name: "o-client", Alias: "to client", Bridge: "lan"},
				B: End{Namespace: "weft-seeds-client", Name: "eth0", Addresses: []netip.Prefix{prefix("192.168.178.100/24")}},
			},
			{
				A: End{Namespace: "weft-seeds-host1", Name: "red-db", Alias: redDB, Object: redDB},
				B: End{
					Namespace: "weft-seeds-red-db", Name: "eth0", MAC: "04:50:56:00:00:13",
					Addresses: []netip.Prefix{prefix("10.244.0.19/28")}, Alias: redDB,
				},
			},
			{
				A: End{Namespace: "weft-seeds-host1", Name: "red.web", Alias: "vif-red-web", Object: redWeb},
				B: End{
					Namespace: "weft-seeds-red.web", Name: "eth0", MAC: "04:50:56:00:00:12",
					Addresses: []netip.Prefix{prefix("10.244.0.18/28")}, Alias: redWeb,
				},
			},
		},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestListedWorkloadGetsItsNameAndServer(t *testing.T) {
	files := labFiles(t, "seeds.yaml", "seeds", "outside:\n",
		"workloads:\n- {name: database, port: "+redDB+", http: [8080]}\noutside:\n")
	plan, problems := planOf(t, files)
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	m, ok := plan.machine("database")
	if !ok || m.Port != redDB || !slices.Equal(m.HTTP, []uint16{8080}) {
		t.Errorf("database: got %+v among %v", m, plan.names())
	}
	if _, ok := plan.machine("red/web"); !ok {
		t.Errorf("the port that is not listed has no workload: %v", plan.names())
	}
}

func TestNodeUplinkIsNoWorkload(t *testing.T) {
	node := "children:\n- resource_type: ChildNode\n  Node: {id: n1, resource_type: Node, port_path: " + redDB + "}\n"
	plan, problems := planOf(t, labFiles(t, "seeds.yaml", "seeds", "children:\n- resource_type: ChildTier0\n", node+"- resource_type: ChildTier0\n"))
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	if got, want := plan.names(), []string{"host1", "physical", "web", "client", "red/web"}; !slices.Equal(got, want) {
		t.Errorf("machines = %v, want %v", got, want)
	}
}

// TestMonitorPortIsNoWorkload: the host's agent makes its device itself.
func TestMonitorPortIsNoWorkload(t *testing.T) {
	set := table.NewSet("host1")
	addr, mac := netip.MustParseAddr("169.254.255.2"), table.MAC{2, 0x50, 0x56, 0, 0xff, 1}
	set.Segments.Put(1, &table.Segment{ID: 1, Path: "/infra/lb-services/s/monitor", Monitor: 7})
	set.Ports.Put(2, &table.Port{ID: 2, Path: "/infra/lb-services/s/monitor/port", Name: "monitor", Segment: 1, MAC: mac})
	set.Endpoints.Put(table.EndpointKey{Segment: 1, Addr: addr}, &table.Endpoint{Segment: 1, Addr: addr, Port: 2, MAC: mac})
	plan, problems := NewPlan(&Spec{Name: "seeds"}, set)
	if got := plan.names(); len(problems) > 0 || !slices.Equal(got, []string{"host1"}) || len(plan.Links) > 0 {
		t.Errorf("machines = %v, %d links, problems %v", got, len(plan.Links), problems)
	}
	_, problems = NewPlan(&Spec{
		Name: "seeds", Workloads: []WorkloadSpec{{Name: "mine", Port: "/infra/lb-services/s/monitor/port"}},
		PhysicalRouter: &RouterSpec{Interfaces: []InterfaceSpec{{Name: "lan", Address: "192.0.2.1/24"}}},
		Outside:        []OutsideSpec{{Name: "host1.monitors", Address: "192.0.2.2/24", Interface: "lan"}},
	}, set)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	want := []string{
		"lab seeds: outside[0].name: host1.monitors: is the name of the monitors of host1 already (one machine a name)",
		"lab seeds: workloads[0].port: /infra/lb-services/s/monitor/port: is for the monitors of a load balancer, which the host's agent runs",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestLabProblems(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, new string
		want     []string // in order
	}{
		{"name", "name: LABNAME", "name: My-Lab", []string{
			"lab My-Lab: name: My-Lab: is not a lab name (1 to 32 lower-case letters and digits)"}},
		{"two hosts", "name: LABNAME", "name: s\nhosts: [{name: a}, {name: b}]", []string{
			"lab s: hosts: 2 hosts: are too many (at most 1)"}},
		{"no such uplink", "tier0_interface: " + uplink0, "tier0_interface: /infra/none", []string{
			"lab s: physical_router.interfaces[0].tier0_interface: /infra/none: is no uplink of a Tier-0 (" + uplink0 + ")"}},
		{"uplink subnet", "address: 192.168.105.253/24", "address: 192.168.106.253/24", []string{
			"lab s: physical_router.interfaces[0].address: 192.168.106.253/24: is not in the subnet of " + uplink0 + " (192.168.105.0/24)",
			"lab s: physical_router.routes[0].via: 192.168.105.1: is no neighbour of the physical router (192.168.106.0/24, 192.168.178.0/24)"}},
		{"uplink's own address", "address: 192.168.105.253/24", "address: 192.168.105.1/24", []string{
			"lab s: physical_router.interfaces[0].address: 192.168.105.1/24: is the address of " + uplink0 + " itself",
			"lab s: physical_router.routes[0].via: 192.168.105.1: is no neighbour of the physical router (192.168.105.0/24, 192.168.178.0/24)"}},
		{"network address", "address: 192.168.178.100/24", "address: 192.168.178.0/24", []string{
			"lab s: outside[1].address: 192.168.178.0/24: is no host address"}},
		{"no length", "address: 192.168.178.100/24", "address: 192.168.178.100", []string{
			`lab s: outside[1].address: "192.168.178.100": is not an address with a subnet (192.168.105.253/24)`}},
		{"outside subnet", "address: 192.168.178.100/24", "address: 192.168.179.100/24", []string{
			"lab s: outside[1].address: 192.168.179.100/24: is not in the subnet of interface lan (192.168.178.0/24)"}},
		{"outside address twice", "address: 192.168.178.100/24", "address: 192.168.178.222/24", []string{
			"lab s: outside[1].address: 192.168.178.222/24: is the address of web"}},
		{"outside on an uplink", "address: 192.168.178.100/24, interface: lan", "address: 192.168.178.100/24, interface: uplink0", []string{
			`lab s: outside[1].interface: "uplink0": is no outside network of the physical router (lan)`}},
		{"outside name twice", "name: client", "name: web", []string{
			"lab s: outside[1].name: web: is the name of outside[0] already (one machine a name)"}},
		{"workload's name outside", "name: client", "name: red.web", []string{
			"lab s: workloads: red/web: is the name of outside[1] already (one machine a name)"}},
		{"bad ports", "http: [80, 88]", "http: [80, 80, 0]", []string{
			"lab s: outside[0].http[1]: 80: is not a new port (1 to 65535, each once)",
			"lab s: outside[0].http[2]: 0: is not a new port (1 to 65535, each once)"}},
		{"bad route", "to: 10.15.0.0/16, via: 192.168.105.1", "to: 10.15.0.1/16, via: x", []string{
			`lab s: physical_router.routes[0].to: "10.15.0.1/16": is not a network (10.15.0.0/16)`,
			`lab s: physical_router.routes[0].via: "x": is not an address`}},
		{"workloads", "outside:\n", "workloads:\n- {name: a, port: /infra/none}\n- {name: b, port: " + redWeb + "}\n- {name: c, port: " + redWeb + "}\noutside:\n", []string{
			"lab s: workloads[0].port: /infra/none: is no segment port (" + redDB + ", " + redWeb + ")",
			"lab s: workloads[2].port: " + redWeb + ": is listed in workloads[1] already"}},
		{"device names", "name: lan, address", "name: uplink0, address", []string{
			`lab s: physical_router.interfaces[1].name: "uplink0": is not a new device name (at most 15 letters, digits, . _ -, each once, not lo)`,
			`lab s: outside[0].interface: "lan": is no outside network of the physical router (it has none)`,
			`lab s: outside[1].interface: "lan": is no outside network of the physical router (it has none)`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, problems := planOf(t, labFiles(t, "seeds.yaml", "s", tc.old, tc.new))
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSegmentWithoutGatewayIsOneLink(t *testing.T) {
	mac := table.MAC{4, 0x50, 0x56, 0, 0, 1}
	set := table.NewSet("host1")
	set.Segments.Put(1, &table.Segment{ID: 1})
	set.Ports.Put(2, &table.Port{ID: 2, Path: "/p", Name: "a", Segment: 1, MAC: mac})
	a := netip.MustParseAddr("10.0.0.5")
	set.Endpoints.Put(table.EndpointKey{Segment: 1, Addr: a}, &table.Endpoint{Segment: 1, Addr: a, Port: 2, MAC: mac})
	plan, problems := NewPlan(&Spec{Name: "s"}, set)
	if len(problems) > 0 {
		t.Fatal(Problems(problems))
	}
	m, _ := plan.machine("a")
	if diff := cmp.Diff([]Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Dev: "eth0"}}, m.Routes, compareAddrs); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestDeviceNames(t *testing.T) {
	long := "a-very-long-workload-name"
	if got := device("fifteen-bytes15"); got != "fifteen-bytes15" {
		t.Errorf("short name became %s", got)
	}
	got := device(long)
	if len(got) > maxDevice || !strings.HasPrefix(got, "a-very-l-") || got == device(long+"2") {
		t.Errorf("long name became %s (%s for another one)", got, device(long+"2"))
	}
}

func TestDiff(t *testing.T) {
	plan := func(replace ...string) *Plan {
		p, problems := planOf(t, labFiles(t, "seeds.yaml", "s", replace...))
		if len(problems) > 0 {
			t.Fatal(Problems(problems))
		}
		return p
	}
	seeds := plan()
	moved := plan("192.168.178.100/24", "192.168.178.101/24")
	renamed := plan("name: client", "name: laptop")
	bound := plan("04:50:56:00:00:13", "04:50:56:00:00:14")
	rerouted := plan("to: 10.15.0.0/16", "to: 10.16.0.0/16")
	type summary struct{ Remove, Unlink, Machines, Links, Reroute, Serve []string }
	for _, tc := range []struct {
		name string
		next *Plan
		old  []*Plan
		want summary
	}{
		{"nothing was there", seeds, nil, summary{
			Machines: []string{"host1", "physical", "web", "client", "red-db", "red/web"},
			Links:    []string{"up-uplink0", "o-web", "o-client", "red-db", "red.web"},
			Reroute:  []string{"host1", "physical", "web", "client", "red-db", "red/web"},
			Serve:    []string{"web"},
		}},
		{"the same", seeds, []*Plan{plan()}, summary{}},
		{"an address of a link", moved, []*Plan{seeds}, summary{
			Unlink: []string{"o-client"}, Links: []string{"o-client"}, Reroute: []string{"physical", "client"},
		}},
		{"a name", renamed, []*Plan{seeds}, summary{
			Remove: []string{"weft-s-client"}, Machines: []string{"laptop"}, Links: []string{"o-laptop"},
			Reroute: []string{"physical", "laptop"},
		}},
		{"a MAC", bound, []*Plan{seeds}, summary{
			Unlink: []string{"red-db"}, Links: []string{"red-db"}, Reroute: []string{"host1", "red-db"},
		}},
		{"a machine with links of others", rerouted, []*Plan{seeds}, summary{
			Remove: []string{"weft-s-physical"}, Machines: []string{"physical"},
			Links:   []string{"up-uplink0", "o-web", "o-client"},
			Reroute: []string{"host1", "physical", "web", "client"},
		}},
		{"back after an interrupted change", seeds, []*Plan{seeds, renamed, moved}, summary{
			Remove: []string{"weft-s-client", "weft-s-laptop"}, Machines: []string{"client"}, Links: []string{"o-client"},
			Reroute: []string{"physical", "client"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := diff(tc.next, tc.old...)
			names := func(ms []Machine) (out []string) {
				for _, m := range ms {
					out = append(out, m.Name)
				}
				return out
			}
			devices := func(ls []Link) (out []string) {
				for _, l := range ls {
					out = append(out, l.A.Name)
				}
				return out
			}
			got := summary{c.remove, devices(c.unlink), names(c.machines), devices(c.links), names(c.reroute), names(c.serve)}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("change (-want +got):\n%s", diff)
			}
		})
	}
}
