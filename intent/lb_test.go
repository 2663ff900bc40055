package intent

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// balanced is a load balancer of the red tenant with one of everything.
const balanced = `
resource_type: Infra
children:
- {resource_type: ChildLBAppProfile, LBAppProfile: {resource_type: LBFastTcpProfile, id: tcp, idle_timeout: 1800}}
- {resource_type: ChildLBAppProfile, LBAppProfile: {resource_type: LBFastUdpProfile, id: udp}}
- {resource_type: ChildLBPersistenceProfile, LBPersistenceProfile: {resource_type: LBSourceIpPersistenceProfile, id: client, persistence_shared: true}}
- {resource_type: ChildLBMonitorProfile, LBMonitorProfile: {resource_type: LBHttpMonitorProfile, id: http, interval: 7, request_headers: [{header_name: Host, header_value: a}], response_status_codes: [200, 204]}}
- {resource_type: ChildLBMonitorProfile, LBMonitorProfile: {resource_type: LBPassiveMonitorProfile, id: passive, max_fails: 2}}
- resource_type: ChildLBPool
  LBPool:
    id: web
    algorithm: IP_HASH
    members: [{ip_address: 10.1.0.5, port: '8080', weight: 2, note: kept}, {ip_address: 10.1.0.6}]
    snat_translation: {type: LBSnatIpPool, ip_addresses: [{ip_address: 172.16.1.5-172.16.1.6}, {ip_address: 172.16.1.2, prefix_length: 24}]}
    active_monitor_paths: [/infra/lb-monitor-profiles/http]
    passive_monitor_path: /infra/lb-monitor-profiles/passive
- resource_type: ChildLBPool
  LBPool: {id: group, member_group: {group_path: /infra/domains/default/groups/web, port: 80, customized_members: [{ip_address: 10.1.0.6, weight: 3}]}}
- {resource_type: ChildLBService, LBService: {id: red, connectivity_path: /infra/tier-1s/red, size: SMALL}}
- resource_type: ChildLBVirtualServer
  LBVirtualServer:
    id: web
    ip_address: 172.16.1.1
    ports: ['80', 8000-8080]
    default_pool_member_ports: ['8080']
    pool_path: /infra/lb-pools/web
    lb_service_path: /infra/lb-services/red
    application_profile_path: /infra/lb-app-profiles/tcp
    lb_persistence_profile_path: /infra/lb-persistence-profiles/client
    access_list_control: {action: ALLOW, group_path: /infra/domains/default/groups/web}
- resource_type: ChildResourceReference
  id: default
  target_type: Domain
  children:
  - resource_type: ChildGatewayPolicy
    GatewayPolicy:
      id: edge
      category: Emergency
      scope: [/infra/tier-1s/red]
      rules: [{id: r, action: DROP, source_groups: [192.0.2.0/24]}]
  - resource_type: ChildGatewayPolicy
    GatewayPolicy: {id: local, rules: [{id: r, action: ALLOW, scope: [/infra/tier-0s/provider/locale-services/default/interfaces/uplink1]}]}
- {resource_type: ChildPolicyFirewallSessionTimerProfile, PolicyFirewallSessionTimerProfile: {id: default, tcp_established: 100}}
`

func TestBalancerAccessors(t *testing.T) {
	tr := tree(t, red, balanced)
	v, _ := Find[*LBVirtualServer](tr, "/infra/lb-virtual-servers/web")
	web, _ := Find[*LBPool](tr, "/infra/lb-pools/web")
	group, _ := Find[*LBPool](tr, "/infra/lb-pools/group")
	edge, _ := Find[*GatewayPolicy](tr, "/infra/domains/default/gateway-policies/edge")
	local, _ := Find[*GatewayPolicy](tr, "/infra/domains/default/gateway-policies/local")
	r, _ := Find[*Rule](tr, local.Path+"/rules/r")
	four, six := netip.MustParseAddr("10.1.0.6"), netip.MustParseAddr("2001:db8::1")
	for _, row := range []struct {
		name      string
		want, got any
	}{
		{"address", netip.MustParseAddr("172.16.1.1"), v.Address()},
		{"matches", []ServiceMatch{{6, 80, 80}, {6, 8000, 8080}}, tr.LBMatches(v)},
		{"member port", uint16(8080), v.MemberPort()},
		{"same member ports", uint16(0), (&LBVirtualServer{Ports: []string{"1-9"}, DefaultPoolMemberPorts: []string{"1-9"}}).MemberPort()},
		{"access", "ALLOW", v.Access().Action},
		{"no access", (*LBAccessListControl)(nil), (&LBVirtualServer{AccessListControl: &LBAccessListControl{Enabled: new(bool)}}).Access()},
		{"enabled", []bool{true, false}, []bool{v.IsEnabled(), (&LBService{Enabled: new(bool)}).IsEnabled()}},
		{"weighted", []bool{true, false}, []bool{web.IsWeighted(), group.IsWeighted()}},
		{"snat type", []string{"LBSnatIpPool", "LBSnatAutoMap"}, []string{web.SNATType(), group.SNATType()}},
		{"snat", []string{"172.16.1.2", "172.16.1.5", "172.16.1.6"}, texts(web.SNATAddresses())},
		{"no snat", []string(nil), texts(group.SNATAddresses())},
		{"member ports", []uint16{8080, 0}, []uint16{web.Members[0].PortNumber(), web.Members[1].PortNumber()}},
		{"family", []bool{true, false}, []bool{group.MemberGroup.Takes(four), group.MemberGroup.Takes(six)}},
		{"both families", true, (&LBPoolMemberGroup{IPRevisionFilter: "IPV4_IPV6"}).Takes(six)},
		{"setting", []int64{3, 0}, []int64{group.MemberGroup.Setting(four).Weight, group.MemberGroup.Setting(six).Weight}},
		{"category", []string{"Emergency", "LocalGatewayRules"}, []string{edge.CategoryName(), local.CategoryName()}},
		{"category rank", []int{0, 3}, []int{edge.CategoryRank(), local.CategoryRank()}},
		{"policy scope", []string{"/infra/tier-1s/red"}, GatewayScope(edge, r)},
		{"rule scope", r.Scope, GatewayScope(local, r)},
		{"gateway rule", true, r.IsGatewayRule()},
		{"distributed rule", false, tr.Get(DefaultRulePath).(*Rule).IsGatewayRule()},
	} {
		if d := cmp.Diff(row.want, row.got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
			t.Errorf("%s:\n%s", row.name, d)
		}
	}
}

func texts(list []netip.Addr) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// A change is judged by what depends on it too.
func TestBalancerDependents(t *testing.T) {
	tr := tree(t, red, balanced)
	edge, _ := Find[*GatewayPolicy](tr, "/infra/domains/default/gateway-policies/edge")
	bare := *edge
	bare.Scope = nil
	for _, row := range []struct {
		name   string
		change Change
		want   []string
	}{
		{"profile becomes layer 7", Put("/infra/lb-app-profiles/tcp", &LBHttpProfile{}), []string{"/infra/lb-virtual-servers/web application_profile_path unsupported"}},
		{"persistence becomes layer 7", Put("/infra/lb-persistence-profiles/client", &LBCookiePersistenceProfile{}), []string{"/infra/lb-virtual-servers/web lb_persistence_profile_path unsupported"}},
		{"monitor becomes passive", Put("/infra/lb-monitor-profiles/http", &LBPassiveMonitorProfile{}), []string{"/infra/lb-pools/web active_monitor_paths[0] wrong_type"}},
		{"member of another family", Put("/infra/lb-pools/web", &LBPool{Members: []LBPoolMember{{IPAddress: "2001:db8::1"}}}), []string{"/infra/lb-virtual-servers/web pool_path conflict"}},
		{"policy loses its scope", Put(edge.Path, &bare), []string{edge.Path + "/rules/r scope required"}},
		{"pool goes", Delete("/infra/lb-pools/web"), []string{"/infra/lb-pools/web  referenced"}},
	} {
		var got []string
		_, problems := tr.Apply([]Change{row.change})
		for _, p := range problems {
			got = append(got, p.Path+" "+p.Field+" "+string(p.Kind))
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s:\n%s", row.name, d)
		}
	}
	_, problems := tr.Apply([]Change{Delete("/infra/tier-1s/red/locale-services/default")})
	want := map[string]bool{"/infra/lb-services/red": true, edge.Path: true}
	for _, p := range problems {
		if p.Kind == NoEdge {
			delete(want, p.Path)
		}
	}
	if len(want) > 0 {
		t.Errorf("edge cluster goes: no problem of %v among %v", want, problems)
	}
}
