package oracle

import (
	"net/netip"

	"github.com/weft-net/weft/intent"
)

const (
	lbPools   = "/infra/lb-pools/"
	lbServers = "/infra/lb-virtual-servers/"
	lbServer  = "/infra/lb-services/"
	profiles  = "/infra/lb-app-profiles/"
	sticky    = "/infra/lb-persistence-profiles/"
	asks      = "/infra/lb-monitor-profiles/tcp"
)

// balancers makes load balancers at some gateways and distributed ones, their
// pools and virtual servers.
func (b *builder) balancers() {
	if b.size.Servers == 0 {
		return
	}
	b.put(profiles+"tcp", &intent.LBFastTcpProfile{})
	b.put(profiles+"udp", &intent.LBFastUdpProfile{})
	b.put(asks, &intent.LBTcpMonitorProfile{})
	b.put(sticky+"shared", &intent.LBSourceIpPersistenceProfile{PersistenceShared: true, Timeout: 10})
	b.put(sticky+"own", &intent.LBSourceIpPersistenceProfile{Timeout: int64(one(b.Rand, 0, 0, 30, 3600))})
	for i := range 1 + b.IntN(b.size.Pools) {
		b.pool(i)
	}
	var places []string
	for _, t := range every[*intent.Tier1](b.t, "Tier1") {
		places = append(places, t.Path)
	}
	for i, gateway := range append(places, provider) {
		if b.chance(65) {
			b.put(b.text(lbServer+"lb%d", i), &intent.LBService{ConnectivityPath: gateway})
		}
	}
	b.put(lbServer+"dlb0", &intent.LBService{ConnectivityPath: one(b.Rand, append(b.groups, b.everyone())...), Size: "DLB"})
	if b.chance(30) {
		b.put(lbServer+"dlb1", &intent.LBService{ConnectivityPath: one(b.Rand, append(b.groups, b.everyone())...), Size: "DLB"})
	}
	for i := range b.size.Servers {
		b.server(i)
	}
}

// everyone returns a group of all ports.
func (b *builder) everyone() string {
	path := domain + "groups/everyone"
	b.put(path, &intent.Group{Expression: []intent.Expression{&intent.Condition{MemberType: "SegmentPort", Key: "ALL", Operator: "EQUALS"}}})
	return path
}

// pool makes a pool, mostly of members that exist.
func (b *builder) pool(i int) {
	p := &intent.LBPool{
		Algorithm:        one(b.Rand, "", "ROUND_ROBIN", "WEIGHTED_ROUND_ROBIN", "LEAST_CONNECTION", "WEIGHTED_LEAST_CONNECTION", "IP_HASH"),
		MinActiveMembers: int64(one(b.Rand, 0, 0, 1, 2)),
	}
	switch b.IntN(4) {
	case 0:
		p.SNATTranslation = &intent.LBSnatTranslation{Type: "LBSnatDisabled"}
	case 1:
		p.SNATTranslation = &intent.LBSnatTranslation{Type: "LBSnatIpPool"}
		for range 1 + b.IntN(2) {
			n := 240 + b.IntN(12)
			text := b.text("10.222.%d.%d", b.IntN(3), n)
			p.SNATTranslation.IPAddresses = append(p.SNATTranslation.IPAddresses, intent.LBSnatIPElement{
				IPAddress: one(b.Rand, text, b.text("%s-%s", text, netip.MustParseAddr(text).Next().Next())),
			})
		}
	}
	if len(b.groups) > 0 && b.chance(20) {
		p.MemberGroup = &intent.LBPoolMemberGroup{GroupPath: one(b.Rand, b.groups...), Port: int64(one(b.Rand, 0, 0, 80)), MaxIPListSize: int64(one(b.Rand, 0, 0, 2))}
		if b.written(p.MemberGroup.GroupPath) {
			p.MemberGroup.MaxIPListSize = int64(1 + b.IntN(8))
		}
		if b.chance(40) {
			p.MemberGroup.CustomizedMembers = []intent.PoolMemberSetting{{IPAddress: b.binding("anywhere"), Weight: 3, AdminState: b.adminState()}}
		}
	} else {
		for range one(b.Rand, 0, 1, 2, 3, 4) {
			p.Members = append(p.Members, b.member())
		}
	}
	if b.chance(15) {
		p.ActiveMonitorPaths = []string{asks}
	}
	b.put(b.text(lbPools+"p%d", i), p)
}

// member makes a member of a pool.
func (b *builder) member() intent.LBPoolMember {
	m := intent.LBPoolMember{
		IPAddress: b.binding("anywhere"), Port: one(b.Rand, "", "80", "8080", "53"), Weight: int64(one(b.Rand, 0, 1, 2, 3, 256)),
		AdminState: b.adminState(), BackupMember: b.chance(20), MaxConcurrentConnections: int64(one(b.Rand, 0, 0, 0, 1, 2)),
	}
	switch b.IntN(20) {
	case 0:
		m.IPAddress = "198.51.100.9"
	case 1:
		m.IPAddress = b.vip()
	case 2:
		m.IPAddress = b.text("10.0.%d.77", b.IntN(2)) // nobody
	}
	return m
}

func (b *builder) adminState() string {
	return one(b.Rand, "", "ENABLED", "ENABLED", "ENABLED", "GRACEFUL_DISABLED", "DISABLED")
}

// vip returns an address for virtual servers: mostly one of its own, sometimes
// one that somebody has.
func (b *builder) vip() string {
	switch b.IntN(12) {
	case 0:
		return b.binding("anywhere")
	case 1:
		return one(b.Rand, "10.0.0.1", "10.0.0.100", "172.20.0.2", "10.222.0.10", "10.222.0.100")
	}
	return b.text(one(b.Rand, "10.222.%d.%d", "10.222.%d.%d", "10.96.%d.%d"), b.IntN(3), 200+b.IntN(4))
}

// server makes a virtual server. One in eight is not attached or is switched
// off.
func (b *builder) server(i int) {
	var services []string
	for _, s := range every[*intent.LBService](b.t, "LBService") {
		services = append(services, s.Path)
	}
	if len(services) == 0 {
		return
	}
	v := &intent.LBVirtualServer{
		IPAddress: b.vip(), LBServicePath: one(b.Rand, services...), PoolPath: b.text(lbPools+"p%d", b.IntN(b.size.Pools)),
		ApplicationProfilePath:   profiles + one(b.Rand, "tcp", "tcp", "udp"),
		Ports:                    one(b.Rand, []string{"80"}, []string{"443", "8000-8080"}, []string{"53"}, []string{"1-65535"}, []string{"1000-2000", "65535"}),
		LBPersistenceProfilePath: one(b.Rand, "", "", sticky+"shared", sticky+"own"),
		MaxConcurrentConnections: int64(one(b.Rand, 0, 0, 0, 1, 3)),
	}
	if b.chance(30) {
		v.DefaultPoolMemberPorts = []string{one(b.Rand, "8080", "443")}
	}
	if len(b.groups) > 0 && b.chance(30) {
		v.AccessListControl = &intent.LBAccessListControl{Action: one(b.Rand, "ALLOW", "DROP"), GroupPath: one(b.Rand, b.groups...)}
	}
	switch b.IntN(16) {
	case 0:
		off := false
		v.Enabled = &off
	case 1:
		v.LBServicePath = ""
	case 2:
		v.PoolPath = ""
	}
	if !b.put(b.text(lbServers+"v%d", i), v) {
		v.PoolPath = ""
		b.put(b.text(lbServers+"v%d", i), v)
	}
}

// gatewayPolicy makes a policy of the gateway firewall and its rules.
func (b *builder) gatewayPolicy(i int) {
	path := b.text(domain+"gateway-policies/g%d", i)
	p := &intent.GatewayPolicy{
		Category:       one(b.Rand, "", "Emergency", "SharedPreRules", "LocalGatewayRules", "LocalGatewayRules", "Default"),
		SequenceNumber: b.IntN(3),
	}
	if b.chance(30) {
		p.Scope = b.gatewayScope()
	}
	if b.chance(30) {
		off := false
		p.TCPStrict = &off
	}
	b.put(path, p)
	for j := range b.IntN(b.size.Rules + 1) {
		r := &intent.Rule{
			SequenceNumber: b.IntN(3), SourceGroups: b.peers(), DestinationGroups: b.peers(), Scope: b.gatewayScope(),
			Action:    one(b.Rand, "ALLOW", "ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"),
			Direction: one(b.Rand, "", "IN_OUT", "IN", "OUT"), Disabled: b.chance(10),
		}
		if b.chance(30) {
			r.DestinationGroups = []string{one(b.Rand, b.vip(), "10.222.0.0/16", "10.0.0.0/8", b.text("10.222.%d.%d", b.IntN(3), 100+b.IntN(3)), b.binding("anywhere"))}
		}
		if b.chance(20) {
			r.SourceGroups = []string{one(b.Rand, "10.222.0.0/16", b.binding("anywhere"), b.text("10.222.%d.%d", b.IntN(3), 10+b.IntN(3)))}
		}
		r.SourcesExcluded = r.SourceGroups[0] != "ANY" && b.chance(15)
		r.DestinationsExcluded = r.DestinationGroups[0] != "ANY" && b.chance(15)
		b.ruleServices(r)
		b.put(b.text("%s/rules/r%d", path, j), r)
	}
}

// gatewayScope returns gateways and interfaces.
func (b *builder) gatewayScope() []string {
	var all []string
	for _, t := range append(b.t.OfType("Tier1"), b.t.OfType("Tier0Interface")...) {
		all = append(all, t.Meta().Path)
	}
	return append([]string{one(b.Rand, append(all, provider, provider)...)}, some(b.Rand, one(b.Rand, all...))...)
}

// timers makes the session timer profile, with short times.
func (b *builder) timers() {
	b.put(intent.DefaultTimersPath, &intent.PolicyFirewallSessionTimerProfile{
		TCPOpening: int64(one(b.Rand, 0, 10, 30)), TCPEstablished: int64(one(b.Rand, 0, 120, 3600)), TCPClosing: int64(one(b.Rand, 0, 10)),
		UDPSingle: int64(one(b.Rand, 0, 10)), UDPMultiple: int64(one(b.Rand, 0, 10, 90)), ICMPFirstPacket: int64(one(b.Rand, 0, 10)),
	})
}
