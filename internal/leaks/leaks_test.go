package leaks

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

const (
	shop    = "Namespace/shop/n1"
	web     = "Pod/shop/web/p1"
	service = "Service/shop/web/s1"
	policy  = "NetworkPolicy/shop/web/np1"
	device1 = "weft0123456789a"
)

// live is a namespace with one of each, as the API server tells it.
const live = `{"items": [
{"kind": "Supervisor", "metadata": {"name": "default", "uid": "u"}, "spec": {"namespaceNetworkCIDRs": ["10.244.0.0/20"],
	"ingressCIDRs": ["10.15.8.0/24"], "egressCIDRs": ["10.223.136.0/24"], "serviceCIDR": "10.96.0.0/22", "systemNamespaces": ["kube-*"]}},
{"kind": "Namespace", "metadata": {"name": "shop", "uid": "n1"}},
{"kind": "Pod", "metadata": {"namespace": "shop", "name": "web", "uid": "p1"}, "status": {"phase": "Running", "podIP": "10.244.0.18"}},
{"kind": "Service", "metadata": {"namespace": "shop", "name": "web", "uid": "s1"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"]},
	"status": {"loadBalancer": {"ingress": [{"ip": "10.15.8.1"}]}}},
{"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "web", "uid": "np1", "annotations": {"weft.dev/realized": "generation 1: true"}}}
]}`

func put[T intent.Object](path, owner string, o T) T {
	intent.Put(path, o)
	store.SetOwner(o, store.Owner(owner))
	return o
}

const (
	tier1   = "/infra/tier-1s/t1_n1_rtr"
	segment = "/infra/segments/seg_n1_0"
	rules   = "/infra/domains/c/security-policies/np_np1_allow"
)

func port(id, owner, address, mac string) *intent.SegmentPort {
	return put(segment+"/ports/"+id, owner, &intent.SegmentPort{
		AddressBindings: []intent.AddressBinding{{IPAddress: address, MACAddress: mac}}, Attachment: &intent.PortAttachment{ID: id},
	})
}

func server(id, owner, address string) *intent.LBVirtualServer {
	return put("/infra/lb-virtual-servers/"+id, owner, &intent.LBVirtualServer{IPAddress: address, Ports: []string{"80"}})
}

func rule(id, owner string, number int64) *intent.Rule {
	return put(rules+"/rules/"+id, owner, &intent.Rule{RuleID: number})
}

func snat(router, owner, address string) *intent.PolicyNatRule {
	return put(router+"/nat/USER/nat-rules/egress", owner, &intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: address})
}

// podsOf is what sends the Service's pods out by an address of their own.
func podsOf(address string) *intent.PolicyNatRule {
	return put(tier1+"/nat/USER/nat-rules/svc_s1", service, &intent.PolicyNatRule{Action: "SNAT", TranslatedNetwork: address})
}

// pool makes people's IpAddressPool with these addresses.
func pool(first, last string) func(*Facts) {
	return func(f *Facts) {
		row := map[string]any{"start": first, "end": last}
		f.Intent = append(f.Intent, put("/infra/ip-pools/gold", "", &intent.Opaque{}),
			put("/infra/ip-pools/gold/ip-subnets/a", "", &intent.Opaque{Resource: intent.Resource{Extra: intent.Extra{"allocation_ranges": []any{row}}}}))
	}
}

func subnet(path, owner, gateway string) *intent.Segment {
	return put(path, owner, &intent.Segment{ConnectivityPath: tier1, Subnets: []intent.SegmentSubnet{{GatewayAddress: gateway}}})
}

// sound returns what a lab of live has.
func sound(t *testing.T) *Facts {
	t.Helper()
	objects, err := decodeObjects([]byte(live))
	if err != nil {
		t.Fatal(err)
	}
	const dir, space = "/run/weft/red", "weft-red-pod-shop.web"
	set := table.NewSet("host1")
	return &Facts{
		Lab: &lab.Reach{
			Lab: "red", Dir: dir, Host: "weft-red-host1", Namespaces: []string{"weft-red-host1"}, Prefix: "weft-red-", Pods: "weft-red-pod-",
			AgentDir: dir + "/agent-host1", Nodes: []string{dir + "/nodes/worker1/pods"}, Uplinks: []string{"up-uplink"},
			Parts: []lab.Part{{Name: "weftd", PID: 7, Log: dir + "/weftd.log"}},
		},
		Live: objects,
		Intent: []intent.Object{
			put(tier1, shop, &intent.Tier1{}), put("/infra/domains/c/groups/ns_n1", shop, &intent.Group{}), snat(tier1, shop, "10.223.136.2"),
			subnet(segment, shop, "10.244.0.17/28"), port("p1", web, "10.244.0.18", "04:50:56:00:00:01"),
			server("in", service, "10.96.0.9"), server("out", service, "10.15.8.1"),
			put(rules, policy, &intent.SecurityPolicy{}), rule("a", policy, 1001),
		},
		Weftd:    WeftdStatus{Version: 9, Compiled: 9, Nodes: []NodeStatus{{Name: "host1", Connected: true, Version: 9}}},
		Compiled: map[string]*table.Set{"host1": set}, InForce: &agent.InForce{Set: set}, Agent: &agent.Status{},
		Attached: []*agent.Attached{{
			Attachment: agent.Attachment{AttachmentKey: agent.AttachmentKey{Container: "c1", Interface: "eth0"}, ID: "p1", Pod: "shop/web", NetNS: "/run/netns/" + space},
			Port:       segment + "/ports/p1", Device: device1,
		}},
		Broken: map[agent.AttachmentKey]string{}, Records: []string{device1 + ".json"}, Devices: []string{"lo", "up-uplink", device1},
		Spaces: []string{"weft-red-host1", space}, PodDirs: []string{"p1"},
		Logged:  map[string][]int{dir + "/weftd.log": {7}, dir + "/nodes/worker1/pods/p1/pod-init.log": {8, 9}},
		Parents: map[int]int{7: 1, 8: 1, 9: 8},
	}
}

func TestCheck(t *testing.T) {
	drop := func(f *Facts, kind string) {
		f.Live = slices.DeleteFunc(f.Live, func(o Object) bool { return o.Kind == kind })
	}
	object := func(f *Facts, kind string) *Object {
		return &f.Live[slices.IndexFunc(f.Live, func(o Object) bool { return o.Kind == kind })]
	}
	without := func(f *Facts, path string) {
		f.Intent = slices.DeleteFunc(f.Intent, func(o intent.Object) bool { return o.Meta().Path == path })
	}
	for _, tc := range []struct {
		name   string
		change func(f *Facts)
		want   []string
	}{
		{"all is well", func(*Facts) {}, nil},
		{"intent without object", func(f *Facts) { drop(f, "NetworkPolicy") }, []string{
			rules + ": owner: " + policy + ": does not exist", rules + "/rules/a: owner: " + policy + ": does not exist",
		}},
		{"object without intent", func(f *Facts) { without(f, rules) }, []string{
			"NetworkPolicy/shop/web: has no security policy and does not say why",
		}},
		{"object without intent that says why", func(f *Facts) {
			without(f, rules)
			object(f, "NetworkPolicy").Metadata.Annotations[realized] = "generation 1: false: Invalid: spec.podSelector: is wrong"
		}, nil},
		{"object without intent that says that it waits", func(f *Facts) {
			without(f, "/infra/lb-virtual-servers/in")
			object(f, "Service").Status.Conditions = []Condition{{Type: "weft.dev/NetworkReady", Status: "False", Reason: "Pending", Message: "node host1"}}
		}, []string{"Service/shop/web: 10.96.0.9: has no virtual server and does not say why"}},
		{"namespace without network", func(f *Facts) { without(f, "/infra/domains/c/groups/ns_n1") }, []string{
			"Namespace/shop: has no network (a Tier-1 and a group) and does not say why",
		}},
		{"namespace that goes", func(f *Facts) {
			without(f, "/infra/domains/c/groups/ns_n1")
			object(f, "Namespace").Metadata.DeletionTimestamp = "2026-01-01T00:00:00Z"
		}, nil},
		{"pod without port", func(f *Facts) { without(f, segment+"/ports/p1") }, []string{
			"Pod/shop/web: has 0 segment ports and does not say why (1)",
			"attachment c1/eth0: port: " + segment + "/ports/p1: is not the one that the store has for p1 (\"\")",
		}},
		{"another address", func(f *Facts) { object(f, "Pod").Status.PodIP = "10.244.0.19" }, []string{
			"Pod/shop/web: status.podIP: 10.244.0.19: is not an address of its port " + segment + "/ports/p1",
		}},
		{"an address twice", func(f *Facts) {
			f.Intent = append(f.Intent, port("x", "", "10.244.0.18", "04:50:56:00:00:01"))
		}, []string{
			segment + "/ports/x: address: 10.244.0.18: is that of " + segment + "/ports/p1 too",
			segment + "/ports/x: mac_address: 04:50:56:00:00:01: is that of " + segment + "/ports/p1 too",
		}},
		{"an egress address twice", func(f *Facts) { f.Intent = append(f.Intent, snat("/infra/tier-1s/x", "", "10.223.136.2")) }, []string{
			"/infra/tier-1s/x/nat/USER/nat-rules/egress: address: 10.223.136.2: is that of " + tier1 + "/nat/USER/nat-rules/egress too",
		}},
		{"a virtual server's address twice", func(f *Facts) { f.Intent = append(f.Intent, server("x", "", "10.15.8.1")) }, []string{
			"/infra/lb-virtual-servers/x: address: 10.15.8.1: is that of /infra/lb-virtual-servers/out too",
			"/infra/lb-virtual-servers/x: ports: 80: /infra/lb-virtual-servers/out has it too",
		}},
		{"addresses of other ranges", func(f *Facts) {
			sup := object(f, "Supervisor")
			sup.Spec.IngressCIDRs, sup.Spec.EgressCIDRs = []string{"10.16.0.0/24"}, []string{"10.17.0.0/24"}
		}, []string{"/infra/lb-virtual-servers/out: ip_address: 10.15.8.1: is in none of the service and ingress CIDRs and IpAddressPools"}},
		{"an address that stays in use", func(f *Facts) {
			object(f, "Supervisor").Spec.IngressCIDRs = []string{"10.16.0.0/24"}
			object(f, "Service").Status.Conditions = []Condition{{Type: "weft.dev/NetworkReady", Status: "True", Message: "10.15.8.1 stays in use, though it is not of …"}}
		}, nil},
		{"addresses of a pool", func(f *Facts) {
			pool("203.0.113.100", "203.0.113.109")(f)
			object(f, "Service").Status.LoadBalancer.Ingress[0].IP = "203.0.113.100"
			without(f, "/infra/lb-virtual-servers/out")
			f.Intent = append(f.Intent, server("out", service, "203.0.113.100"), podsOf("203.0.113.109"))
		}, nil},
		{"addresses of no pool", func(f *Facts) {
			pool("203.0.113.100", "203.0.113.109")(f)
			f.Intent = append(f.Intent, podsOf("203.0.113.110"))
		}, []string{tier1 + "/nat/USER/nat-rules/svc_s1: translated_network: 203.0.113.110: is in none of the IpAddressPools"}},
		{"an address that is not on its segment", func(f *Facts) { f.Intent = append(f.Intent, port("x", "", "10.244.0.17", "04:50:56:00:00:02")) }, []string{
			segment + "/ports/x: address_bindings: 10.244.0.17: is no address for a workload of " + segment,
		}},
		{"subnets that overlap", func(f *Facts) {
			f.Intent = append(f.Intent, subnet("/infra/segments/x", shop, "10.250.0.1/28"), subnet("/infra/segments/y", "", "10.244.0.25/29"))
		}, []string{
			"/infra/segments/x: subnets: 10.250.0.0/28: is in none of the namespace networks, and nothing uses it",
			"/infra/segments/y: subnets: 10.244.0.24/29: overlaps 10.244.0.16/28 of " + segment,
		}},
		{"a rule id twice", func(f *Facts) { f.Intent = append(f.Intent, rule("b", policy, 1001)) }, []string{
			rules + "/rules/b: rule_id: 1001: is that of " + rules + "/rules/a too",
		}},
		{"a pod that was never detached", func(f *Facts) {
			drop(f, "Pod")
			without(f, segment+"/ports/p1")
		}, []string{
			"attachment c1/eth0: pod: shop/web: does not exist (UID p1)",
			"attachment c1/eth0: port: " + segment + "/ports/p1: is not the one that the store has for p1 (\"\")",
			"pod p1: directory: is of a pod that does not exist", "pod p1: process: 8: is of a pod that does not exist",
		}},
		{"a pod that was detached", func(f *Facts) { f.Attached, f.Records, f.Devices = nil, nil, []string{"lo", "up-uplink"} }, []string{
			"Pod/shop/web: runs, but has no attachment", "network namespace weft-red-pod-shop.web: has no attachment, so no pod needs it",
		}},
		{"what is left of attachments", func(f *Facts) {
			f.Devices, f.Records = append(f.Devices, "weftaaaaaaaaaaa", "veth0"), append(f.Records, "weftbbbbbbbbbbb.json")
		}, []string{
			"/run/weft/red/agent-host1/attachments/weftbbbbbbbbbbb.json: belongs to no attachment",
			"device veth0: is in namespace weft-red-host1, but no port has it", "device weftaaaaaaaaaaa: belongs to no attachment",
		}},
		{"what attachments lack", func(f *Facts) {
			f.Devices, f.Spaces = []string{"lo", "up-uplink"}, f.Spaces[:1]
			f.Broken[f.Attached[0].AttachmentKey] = "pod shop/web: device is missing"
		}, []string{
			"attachment c1/eth0: pod shop/web: device is missing", "attachment c1/eth0: netns: /run/netns/weft-red-pod-shop.web: does not exist",
			"device " + device1 + ": is not in namespace weft-red-host1",
		}},
		{"versions", func(f *Facts) { f.Weftd.Version, f.Weftd.Nodes[0].Error = 10, "refused" }, []string{
			"node host1: version: has 9 of 10 in force: connected true refused", "weftd: compiled: is version 9 of 10",
		}},
		{"tables", func(f *Facts) {
			f.Compiled["host1"] = table.NewSet("host1")
			f.Compiled["host1"].Segments.Put(1, &table.Segment{ID: 1})
			f.Kernel = "differs"
			f.Agent.Conditions = []agent.Condition{{Type: agent.DeviceMissing, Object: "p", Status: true, Message: "gone"}, {Type: agent.NoActiveMember, Status: true}}
		}, []string{
			"kernel: tables: differs", "node host1: condition DeviceMissing: p: gone", "node host1: tables: 1 rows are not as weftd compiled them",
		}},
		{"processes", func(f *Facts) {
			f.Lab.Parts = append(f.Lab.Parts, lab.Part{Name: "nodes", Log: "/run/weft/red/nodes.log"})
			f.Logged["/run/weft/red/weftd.log"] = []int{7, 70}
			f.Mounts = []string{"/run/weft/red/nodes/x"}
		}, []string{
			"mount /run/weft/red/nodes/x: is in the machine's namespace (pods have theirs)",
			"nodes: has ended (weft lab up starts it again)", "weftd.log: process: 70: is not the one that the lab started",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := sound(t)
			tc.change(f)
			var got []string
			for _, finding := range Check(f) {
				got = append(got, finding.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSnapshotDiff(t *testing.T) {
	f := sound(t)
	before, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	one := int64(1)
	for _, o := range f.Intent {
		o.Meta().Revision = &one
	}
	again, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if diff := before.Diff(again); len(diff) > 0 {
		t.Errorf("revisions make a difference: %v", diff)
	}
	f.Intent = append(f.Intent[:len(f.Intent)-1:len(f.Intent)-1], subnet("/infra/segments/x", "", "10.0.0.1/24"))
	f.Devices = append(f.Devices, "veth0")
	object := f.Intent[0].(*intent.Tier1)
	object.Tier0Path = "/infra/tier-0s/other"
	after, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range before.Diff(after) {
		what, fact, _ := strings.Cut(line, ": ")
		if strings.Contains(fact, " (was ") {
			fact = "changed"
		}
		got = append(got, what+": "+strings.Join(strings.Fields(fact)[:1], " "))
	}
	want := []string{
		rules + "/rules/a: is", tier1 + ": changed", "/infra/segments/x: was", "device veth0: was",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
}
