package compile

import (
	"fmt"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// balancer returns one change of a load balancer or what belongs to one.
func (w world) balancer() intent.Change {
	switch w.IntN(8) {
	case 0:
		s := &intent.LBService{ConnectivityPath: w.pick("", "/infra/tier-1s/t2", "/infra/tier-0s/t0")}
		if w.IntN(3) == 0 {
			s.Size, s.ConnectivityPath = "DLB", fmt.Sprintf(groupPath, w.IntN(6))
		}
		if w.IntN(5) == 0 {
			s.Enabled = new(bool)
		}
		return intent.Put(fmt.Sprintf("/infra/lb-services/l%d", 2+w.IntN(3)), s)
	case 1:
		return intent.Put("/infra/lb-app-profiles/a", w.either(&intent.LBFastTcpProfile{}, &intent.LBFastUdpProfile{}))
	case 2:
		return intent.Put("/infra/lb-persistence-profiles/c", &intent.LBSourceIpPersistenceProfile{PersistenceShared: w.IntN(2) == 0, Timeout: int64(w.IntN(3))})
	case 3:
		return intent.Put("/infra/lb-monitor-profiles/m", w.either(
			&intent.LBTcpMonitorProfile{LBActiveMonitor: intent.LBActiveMonitor{Interval: int64(w.IntN(3))}}, &intent.LBHttpMonitorProfile{}))
	case 4:
		return w.lbPool()
	}
	v := &intent.LBVirtualServer{
		IPAddress: w.pick("172.16.9.1", "172.16.9.1", "172.16.9.1", "172.16.9.1", "172.16.0.1", "10.1.0.1", "10.1.0.4", "10.2.0.7"), Ports: []string{w.pick("80", "80", "80-90", "85-100")},
		ApplicationProfilePath: "/infra/lb-app-profiles/a", PoolPath: w.pick("", "/infra/lb-pools/p0", "/infra/lb-pools/p1"),
		LBServicePath:            "/infra/lb-services/l" + w.pick("0", "0", "0", "1", "2", "3", "4"),
		LBPersistenceProfilePath: w.pick("", "/infra/lb-persistence-profiles/c"),
	}
	if w.IntN(2) == 0 {
		v.AccessListControl = &intent.LBAccessListControl{Action: w.pick("ALLOW", "DROP"), GroupPath: fmt.Sprintf(groupPath, w.IntN(6))}
	}
	if w.IntN(6) == 0 {
		v.Enabled = new(bool)
	}
	return intent.Put(fmt.Sprintf("/infra/lb-virtual-servers/v%d", w.IntN(5)), v)
}

func (w world) either(a, b intent.Object) intent.Object {
	if w.IntN(2) == 0 {
		return a
	}
	return b
}

func (w world) lbPool() intent.Change {
	p := &intent.LBPool{Algorithm: w.pick("", "WEIGHTED_LEAST_CONNECTION", "IP_HASH")}
	if w.IntN(2) == 0 {
		p.MemberGroup = &intent.LBPoolMemberGroup{GroupPath: fmt.Sprintf(groupPath, w.IntN(6)), Port: 8080, MaxIPListSize: int64(w.IntN(3))}
	} else {
		p.Members = []intent.LBPoolMember{{IPAddress: "10.1.0.3", Port: "80", Weight: int64(w.IntN(4))}}
	}
	if w.IntN(2) == 0 {
		p.ActiveMonitorPaths = []string{"/infra/lb-monitor-profiles/m"}
	}
	if w.IntN(3) == 0 {
		p.SNATTranslation = &intent.LBSnatTranslation{Type: "LBSnatIpPool", IPAddresses: []intent.LBSnatIPElement{{IPAddress: w.pick("172.16.9.8", "10.1.0.8-10.1.0.9")}}}
	}
	return intent.Put(fmt.Sprintf("/infra/lb-pools/p%d", w.IntN(2)), p)
}

const gatewayPolicyPath = "/infra/domains/default/gateway-policies/g%d"

// gateway returns one change of the gateway firewall, an uplink's MTU or the
// session timers.
func (w world) gateway() intent.Change {
	scope := func() []string {
		return []string{w.pick("/infra/tier-0s/t0", "/infra/tier-0s/t0/locale-services/d/interfaces/u", "/infra/tier-1s/t0", "/infra/tier-1s/t1")}
	}
	switch w.IntN(6) {
	case 0:
		p := &intent.GatewayPolicy{Category: w.pick("", "Emergency", "SharedPreRules", "Default"), SequenceNumber: w.IntN(3)}
		if w.IntN(2) == 0 {
			p.Scope = scope()
		}
		return intent.Put(fmt.Sprintf(gatewayPolicyPath, w.IntN(3)), p)
	case 1:
		return intent.Put("/infra/tier-0s/t0/locale-services/d/interfaces/u", &intent.Tier0Interface{
			MTU: 1500 * w.IntN(2), Subnets: []intent.InterfaceSubnet{{IPAddresses: []string{"192.168.100.2"}, PrefixLen: 24}},
		})
	case 2:
		return intent.Put("/infra/firewall-session-timer-profiles/"+w.pick("default", "other"), &intent.PolicyFirewallSessionTimerProfile{TCPOpening: int64(10 + w.IntN(3))})
	}
	r := &intent.Rule{
		Action: w.pick("ALLOW", "DROP", "REJECT"), Direction: w.pick("", "IN", "OUT"), SequenceNumber: w.IntN(3),
		SourceGroups: w.peers(), DestinationGroups: w.peers(), Scope: scope(), Disabled: w.IntN(6) == 0,
	}
	r.DestinationsExcluded = len(r.DestinationGroups) > 0 && w.IntN(3) == 0
	return intent.Put(fmt.Sprintf(gatewayPolicyPath+"/rules/r%d", w.IntN(3), w.IntN(3)), r)
}

// sights counts what a Set has of load balancers and gateway firewalls.
func sights(seen map[string]int, s *table.Set) {
	count := func(what string, yes bool) {
		seen[what] += 0
		if yes {
			seen[what]++
		}
	}
	for _, v := range s.VIPs.All() {
		count("VIP at a router", v.Key.VRF != 0)
		count("VIP at endpoints", v.Key.DLB != 0)
		count("VIP of several servers", len(v.Servers) > 1)
		count("access list", v.Servers[0].Access != 0)
		count("persistence", v.Servers[0].Persist != 0)
	}
	for _, p := range s.Pools.All() {
		count("pool with several members", len(p.Members) > 1)
		count("monitored pool", len(p.Monitors) > 0)
	}
	for _, v := range s.VRFs.All() {
		count("gateway firewall at a Tier-1", v.In != 0)
		count("realm of a router", v.Realm != 0)
	}
	for _, u := range s.Uplinks.All() {
		count("gateway firewall at an uplink", u.In != 0)
		count("MTU", u.MTU != 0)
	}
	for _, e := range s.Endpoints.All() {
		count("endpoint of a distributed load balancer", e.DLB != 0)
	}
	for _, g := range s.Segments.All() {
		count("monitor segment", g.Monitor != 0)
	}
	for _, r := range s.Routes.All() {
		count("VIP told to the Tier-0", r.Kind == table.RouteDown && s.VIPs.Get(table.VIPKey{VRF: r.To, Addr: r.Prefix.Addr()}) != nil)
	}
	count("session timers", s.Timeouts != table.DefaultTimeouts())
}
