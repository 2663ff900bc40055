package table

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// full returns a Set that has something of everything, with every field of
// interest set.
func full() *Set {
	web := &Rule{
		ID: 1005, Path: "/infra/domains/default/security-policies/shop/rules/web", Name: "web", Policy: "/infra/domains/default/security-policies/shop",
		Category: "Application", Action: Allow, Remote: []AddrSetID{3}, NotRemote: true, Services: []Service{{Proto: 6, First: 80, Last: 80}},
		Strict: true, Logged: true, Tag: "shop",
	}
	last := &Rule{ID: 2, Path: "/infra/domains/default/security-policies/last/rules/last", Name: "last", Action: Drop, AnyRemote: true}
	s := NewSet("host1")
	s.Ports.Put(7, &Port{ID: 7, Path: "/infra/segments/web/ports/a", Name: "a", Segment: 5, MAC: MAC{2, 0, 0, 0, 0, 1}, Attachment: "vif-a"})
	s.Ports.Put(8, &Port{ID: 8, Path: "/infra/segments/web/ports/n", Name: "n", Segment: 5, MAC: MAC{2, 0, 0, 0, 0, 2}, Node: 11})
	s.Uplinks.Put(9, &Uplink{ID: 9, Path: "/infra/tier-0s/t/locale-services/d/interfaces/u", Name: "u", VRF: 10, Address: netip.MustParsePrefix("192.168.100.2/24"), Attachment: "eth1", MTU: 1500, In: 23, Out: 23})
	s.Segments.Put(5, &Segment{ID: 5, Path: "/infra/segments/web", Name: "web", VNI: 5000, VRF: 12, Gateways: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, Realm: 4})
	s.Segments.Put(6, &Segment{ID: 6, Path: "/infra/lb-services/red/monitor", Name: "monitor", VRF: 12, Gateways: []netip.Prefix{netip.MustParsePrefix("169.254.255.1/30")}, Realm: 4, Monitor: 40})
	s.Ports.Put(6, &Port{ID: 6, Path: "/infra/lb-services/red/monitor/ports/monitor", Name: "monitor", Segment: 6, MAC: MAC{2, 0, 0, 0, 0, 6}, Attachment: "monitor:/infra/lb-services/red"})
	s.Endpoints.Put(EndpointKey{5, netip.MustParseAddr("10.1.0.5")}, &Endpoint{Segment: 5, Addr: netip.MustParseAddr("10.1.0.5"), Port: 7, MAC: MAC{2, 0, 0, 0, 0, 1}, Out: []RulesetID{21, 22}, In: []RulesetID{22}, DLB: 41})
	s.Endpoints.Put(EndpointKey{5, netip.MustParseAddr("10.1.0.6")}, &Endpoint{Segment: 5, Addr: netip.MustParseAddr("10.1.0.6"), Port: 8, MAC: MAC{2, 0, 0, 0, 0, 2}, Unfiltered: true})
	s.VRFs.Put(10, &VRF{ID: 10, Kind: Tier0, Path: "/infra/tier-0s/t", Name: "t"})
	s.VRFs.Put(11, &VRF{ID: 11, Kind: Node, Path: "/infra/nodes/n", Name: "n", NodePort: 8})
	s.VRFs.Put(12, &VRF{ID: 12, Kind: Tier1, Path: "/infra/tier-1s/red", Name: "red", Realm: 4, In: 23})
	for _, r := range []*Route{
		{VRF: 10, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Kind: RouteUplink, NextHops: []NextHopID{30, 31}, Source: "/infra/tier-0s/t/static-routes/d"},
		{VRF: 12, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Kind: RouteUp, To: 10, Via: netip.MustParseAddr("100.64.0.0"), Source: "/infra/tier-1s/red"},
		{VRF: 12, Prefix: netip.MustParsePrefix("10.1.0.0/24"), Kind: RouteConnected, Segment: 5, Source: "/infra/segments/web"},
		{VRF: 12, Prefix: netip.MustParsePrefix("172.16.1.1/32"), Kind: RouteVIP, Source: "/infra/lb-virtual-servers/web"},
	} {
		s.Routes.Put(RouteKey{r.VRF, r.Prefix}, r)
	}
	s.NextHops.Put(30, &NextHop{ID: 30, Uplink: 9})
	s.NextHops.Put(31, &NextHop{ID: 31, Uplink: 9, Addr: netip.MustParseAddr("192.168.100.1")})
	s.NAT.Put(NATKey{12, NATOut}, &NATList{Key: NATKey{12, NATOut}, Rules: []NATRule{
		{ID: 1001, Path: "/infra/tier-1s/red/nat/USER/nat-rules/no", Name: "no", Type: "NO_SNAT", Action: NATExempt, Dst: netip.MustParsePrefix("10.0.0.0/8"), Service: Service{17, 53, 53}},
		{ID: 1002, Path: "/infra/tier-1s/red/nat/USER/nat-rules/out", Name: "out", Type: "SNAT", Action: NATTranslate, Iface: 9, To: netip.MustParsePrefix("172.16.0.1/32"), PortFirst: 1024, PortLast: 65535, Match: MatchBypass},
	}})
	s.NAT.Put(NATKey{12, NATIn}, &NATList{Key: NATKey{12, NATIn}, Rules: []NATRule{
		{ID: 1003, Name: "in", Type: "DNAT", Action: NATTranslate, Dst: netip.MustParsePrefix("172.16.0.0/28"), To: netip.MustParsePrefix("10.1.0.0/28"), OneToOne: true, ToPort: 8080, Match: MatchExternal},
	}})
	s.Realms.Put(4, &Realm{ID: 4, Path: "/infra/tier-1s/red", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}})
	s.AddrSets.Put(3, &AddrSet{ID: 3, Path: "/infra/domains/default/groups/db", Name: "db", Addrs: []RealmPrefix{
		{4, netip.MustParsePrefix("10.1.0.5/32")}, {AnyRealm, netip.MustParsePrefix("10.9.0.0/16")},
	}})
	s.Rulesets.Put(21, &Ruleset{ID: 21, Name: "out: shop", Rules: []*Rule{web}})
	s.Rulesets.Put(22, &Ruleset{ID: 22, Name: "out: shop, last", Rules: []*Rule{web, last}})
	via := &Rule{ID: 1006, Path: "/infra/domains/default/gateway-policies/g/rules/via", Name: "via", Policy: "/infra/domains/default/gateway-policies/g",
		Category: "Default", Action: Reject, AnyRemote: true, Dst: []AddrSetID{3}, NotDst: true, ViaVIP: true}
	s.Rulesets.Put(23, &Ruleset{ID: 23, Name: "gateway: g", Gateway: true, Rules: []*Rule{via}})
	s.Services.Put(40, &LBService{ID: 40, Path: "/infra/lb-services/red", Name: "red", VRF: 12, Port: 6})
	s.Services.Put(41, &LBService{ID: 41, Path: "/infra/lb-services/dlb", Name: "dlb"})
	vip := VIPKey{VRF: 12, Addr: netip.MustParseAddr("172.16.1.1")}
	s.VIPs.Put(vip, &VIP{Key: vip, Servers: []*VirtualServer{
		{ID: 50, Path: "/infra/lb-virtual-servers/dns", Name: "dns", Service: 40, Services: []Service{{17, 53, 53}}},
		{ID: 51, Path: "/infra/lb-virtual-servers/web", Name: "web", Service: 40, Services: []Service{{6, 80, 80}, {6, 8000, 8080}}, Pool: 60,
			MemberPort: 8080, Access: 21, MaxConns: 100, Persist: 70, PersistFor: 300},
	}})
	cluster := VIPKey{DLB: 41, Addr: netip.MustParseAddr("10.96.0.1")}
	s.VIPs.Put(cluster, &VIP{Key: cluster, Servers: []*VirtualServer{
		{ID: 52, Path: "/infra/lb-virtual-servers/api", Name: "api", Service: 41, Services: []Service{{6, 443, 443}}, Pool: 61},
	}})
	s.Pools.Put(60, &Pool{
		ID: 60, Path: "/infra/lb-pools/web", Name: "web", Algorithm: LeastConnections, MinActive: 2, SNAT: SNATPool,
		SNATAddrs: []netip.Addr{netip.MustParseAddr("172.16.1.8"), netip.MustParseAddr("172.16.1.9")},
		Members: []Member{
			{ID: 80, Name: "a", Addr: netip.MustParseAddr("10.1.0.5"), Port: 80, Weight: 2, Admin: MemberDraining},
			{ID: 81, Addr: netip.MustParseAddr("10.1.0.6"), Weight: 1, MaxConns: 9, Backup: true, Admin: MemberEnabled},
		},
		Monitors: []*Monitor{{
			Path: "/infra/lb-monitor-profiles/http", Name: "http", Kind: MonitorHTTP, Port: 81, Interval: 5, Timeout: 4, Fall: 3, Rise: 2, Send: "s", Receive: "r",
			Length: 56, Method: "GET", URL: "/", Headers: []Header{{"Host", "a"}}, Version: "HTTP_VERSION_1_1", Codes: []uint16{200}, VerifyName: "n", VerifyCA: "c",
		}},
		Passive: &Passive{Path: "/infra/lb-monitor-profiles/passive", MaxFails: 5, Timeout: 5},
	})
	s.Pools.Put(61, &Pool{ID: 61, Path: "/infra/lb-pools/api", Name: "api", Algorithm: IPHash, MinActive: 1})
	s.Timeouts.Other = 61
	return s
}

// comparable lets cmp look at netip values.
var addresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func TestEncodeDecode(t *testing.T) {
	for name, s := range map[string]*Set{"full": full(), "empty": NewSet("host1")} {
		t.Run(name, func(t *testing.T) {
			data, err := Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, got, addresses); diff != "" {
				t.Errorf("decoded Set differs (-want +got):\n%s", diff)
			}
			again, err := Encode(got)
			if err != nil || string(again) != string(data) {
				t.Errorf("encoding again gives other bytes (error %v)", err)
			}
		})
	}
	t.Run("rules stay shared", func(t *testing.T) {
		data, _ := Encode(full())
		got, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if got.Rulesets.Get(21).Rules[0] != got.Rulesets.Get(22).Rules[0] {
			t.Error("a rule of two rulesets was decoded twice")
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no JSON", `{`, "unexpected EOF"},
		{"unknown field", `{"Nodes":1}`, "unknown field"},
		{"text after the end", `{} {}`, "text after its end"},
		{"two objects with one key", `{"VRFs":[{"ID":1},{"ID":1}]}`, "vrfs[1]: 1: is given twice"},
		{"null object", `{"Ports":[null]}`, "ports[0]: is null"},
		{"null rule", `{"Rules":[null]}`, "rules[0]: is null"},
		{"rule that is none", `{"Rules":[{"ID":"x"}]}`, "rules[0]"},
		{"rule without a number", `{"Rulesets":[{"ID":9,"Rules":[0]}]}`, "ruleset 9: rule 0: does not exist"},
		{"null virtual server", `{"VIPs":[{"Servers":[null]}]}`, "vips[0]: a server is null"},
		{"null monitor", `{"Pools":[{"Monitors":[null]}]}`, "pools[0]: a monitor is null"},
		{"two VIPs with one key", `{"VIPs":[{"Key":{"VRF":1,"Addr":"10.0.0.1"}},{"Key":{"VRF":1,"Addr":"10.0.0.1"}}]}`, "vips[1]: {1 0 10.0.0.1}: is given twice"},
		{"bad MAC", `{"Ports":[{"MAC":"02:00:00:00:00"}]}`, "is not six octets"},
		{"MAC with more behind", `{"Ports":[{"MAC":"02:00:00:00:00:01x"}]}`, "is not six octets"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// What Decode takes it gives back: decode(encode(x)) = x.
func FuzzDecode(f *testing.F) {
	data, _ := Encode(full())
	f.Add(data)
	f.Add([]byte(`{"Ports":[{"ID":1}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := Decode(in)
		if err != nil {
			return
		}
		data, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if d := Diff(s, again); d.Len() != 0 {
			t.Errorf("%s: differs after a round trip: %+v", data, d)
		}
	})
}

func TestDiff(t *testing.T) {
	before, after := full(), full()
	if d := Diff(before, after); d.Len() != 0 {
		t.Errorf("equal Sets: got %+v", d)
	}
	after.Ports.Delete(8)
	after.Ports.Put(1, &Port{ID: 1})
	after.Ports.Put(2, &Port{ID: 2})
	after.Segments.Get(5).VNI++
	web := EndpointKey{5, netip.MustParseAddr("10.1.0.5")}
	after.Endpoints.Get(web).Out = nil
	up := RouteKey{12, netip.MustParsePrefix("0.0.0.0/0")}
	after.Routes.Delete(up)
	after.NAT.Get(NATKey{12, NATIn}).Rules[0].ToPort = 1
	after.Rulesets.Get(22).Rules[1].Action = Allow
	after.Services.Delete(41)
	cluster := VIPKey{DLB: 41, Addr: netip.MustParseAddr("10.96.0.1")}
	after.VIPs.Get(cluster).Servers[0].Pool = 60
	after.Pools.Get(60).Members[1].Weight = 3
	after.Pools.Put(62, &Pool{ID: 62})
	after.Timeouts.ICMP++
	want := &Difference{
		Ports:     Delta[PortID]{Added: []PortID{1, 2}, Removed: []PortID{8}},
		Segments:  Delta[SegmentID]{Changed: []SegmentID{5}},
		Endpoints: Delta[EndpointKey]{Changed: []EndpointKey{web}},
		Routes:    Delta[RouteKey]{Removed: []RouteKey{up}},
		NAT:       Delta[NATKey]{Changed: []NATKey{{12, NATIn}}},
		Rulesets:  Delta[RulesetID]{Changed: []RulesetID{22}},
		Services:  Delta[LBServiceID]{Removed: []LBServiceID{41}},
		VIPs:      Delta[VIPKey]{Changed: []VIPKey{cluster}},
		Pools:     Delta[PoolID]{Added: []PoolID{62}, Changed: []PoolID{60}},
		Timeouts:  true,
	}
	got := Diff(before, after)
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("difference (-want +got):\n%s", diff)
	}
	if got.Len() != 13 {
		t.Errorf("length: got %d, want 13", got.Len())
	}
	if d := Diff(nil, before); len(d.Ports.Added) != 3 || len(d.Ports.Removed)+len(d.Ports.Changed) != 0 {
		t.Errorf("from nothing: got %+v", d.Ports)
	}
	if d := Diff(before, nil); len(d.Routes.Removed) != 4 || d.Routes.Removed[0].VRF != 10 {
		t.Errorf("to nothing: got %+v", d.Routes)
	}
}
