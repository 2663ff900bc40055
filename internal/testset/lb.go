package testset

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/table"
)

// What WithLB adds.
const (
	Srv table.SegmentID = iota + 111 // 10.1.3.0/24, red
	Mon                              // 10.1.9.0/30, red: where LBRed's monitors are
)

// Ports: Srv1 10.1.3.11, Srv2 .12, Srv3 .13; Far1 172.16.3.20 at blue's dmz.
const (
	Srv1 table.PortID = iota + 231
	Srv2
	Srv3
	Far1
	Mon1 // 10.1.9.2
)

// Load balancers.
const (
	LBRed table.LBServiceID = iota + 701
	LBTop                   // at the Tier-0
	DLB                     // of Srv1, Srv2 and Web2
)

// Virtual servers.
const (
	VSWeb     table.VirtualServerID = iota + 711 // 203.0.113.24 tcp/80 at red: PoolSrv
	VSDNS                                        // 203.0.113.24 tcp/53, udp/53: PoolDNS
	VSFar                                        // 203.0.113.24 tcp/443: PoolFar
	VSTop                                        // 192.0.2.200 tcp/80 at the Tier-0: PoolSrv
	VSCluster                                    // 10.96.0.10 tcp/80, distributed: PoolCluster
)

// Pools, all in turn and without a source translation.
const (
	PoolSrv     table.PoolID = iota + 721 // MemberSrv1 to MemberSrv3, port 8080
	PoolDNS                               // MemberDNS1: Srv1 on the port that was asked
	PoolFar                               // MemberFar: Far1, behind blue; the virtual server says port 8443
	PoolCluster                           // MemberCluster1 and 2: Srv1, Srv2, port 8080
)

// Members.
const (
	MemberSrv1 table.MemberID = iota + 731
	MemberSrv2
	MemberSrv3
	MemberDNS1
	MemberFar
	MemberCluster1
	MemberCluster2
)

// VIPs.
var (
	VIPRed     = netip.MustParseAddr("203.0.113.24")
	VIPTop     = netip.MustParseAddr("192.0.2.200")
	VIPCluster = netip.MustParseAddr("10.96.0.10")
)

// WithLB returns New's Set with load balancers: a Set of its own on every call.
func WithLB() *table.Set {
	s := set{New()}
	s.Realms.Get(RealmRed).Prefixes = prefixes("10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.1.9.0/30")
	s.segment(Srv, "srv", Red, RealmRed, "10.1.3.1/24")
	s.segment(Mon, "mon", Red, RealmRed, "10.1.9.1/30")
	s.Segments.Get(Mon).Monitor = LBRed
	s.connected(Srv, Mon)
	s.route(table.Route{VRF: T0, Kind: table.RouteDown, To: Red, Via: addr("100.64.0.1")}, "10.1.3.0/24")
	s.port(Srv1, "srv1", Srv, "10.1.3.11")
	s.port(Srv2, "srv2", Srv, "10.1.3.12")
	s.port(Srv3, "srv3", Srv, "10.1.3.13")
	s.port(Far1, "far1", DMZ, "172.16.3.20")
	s.port(Mon1, "mon1", Mon, "10.1.9.2")
	for k, e := range s.Endpoints.All() {
		if slices.Contains([]table.PortID{Srv1, Srv2, Web2}, e.Port) {
			s.Endpoints.Get(k).DLB = DLB
		}
	}
	s.balancers()
	return s.Set
}

func (s set) balancers() {
	s.Services.Put(LBRed, &table.LBService{ID: LBRed, Path: "/infra/lb-services/red", Name: "red", VRF: Red, Port: Mon1})
	s.Services.Put(LBTop, &table.LBService{ID: LBTop, Path: "/infra/lb-services/top", Name: "top", VRF: T0})
	s.Services.Put(DLB, &table.LBService{ID: DLB, Path: "/infra/lb-services/cluster", Name: "cluster"})

	s.pool(PoolSrv, "srv", member(MemberSrv1, "10.1.3.11", 8080), member(MemberSrv2, "10.1.3.12", 8080), member(MemberSrv3, "10.1.3.13", 8080))
	s.pool(PoolDNS, "dns", member(MemberDNS1, "10.1.3.11", 0))
	s.pool(PoolFar, "far", member(MemberFar, "172.16.3.20", 0))
	s.pool(PoolCluster, "cluster", member(MemberCluster1, "10.1.3.11", 8080), member(MemberCluster2, "10.1.3.12", 8080))

	far := virtual(VSFar, "far", LBRed, PoolFar, services(6, 443, 443))
	far.MemberPort = 8443
	s.vip(table.VIPKey{VRF: Red, Addr: VIPRed},
		virtual(VSDNS, "dns", LBRed, PoolDNS, services(6, 53, 53, 17, 53, 53)), far,
		virtual(VSWeb, "web", LBRed, PoolSrv, services(6, 80, 80)))
	s.vip(table.VIPKey{VRF: T0, Addr: VIPTop}, virtual(VSTop, "top", LBTop, PoolSrv, services(6, 80, 80)))
	s.vip(table.VIPKey{DLB: DLB, Addr: VIPCluster}, virtual(VSCluster, "cluster", DLB, PoolCluster, services(6, 80, 80)))
}

func (s set) pool(id table.PoolID, name string, members ...table.Member) {
	s.Pools.Put(id, &table.Pool{
		ID: id, Path: "/infra/lb-pools/" + name, Name: name, Algorithm: table.RoundRobin, Members: members,
	})
}

func member(id table.MemberID, a string, port uint16) table.Member {
	return table.Member{ID: id, Name: a, Addr: addr(a), Port: port, Weight: 1, Admin: table.MemberEnabled}
}

func virtual(id table.VirtualServerID, name string, lb table.LBServiceID, pool table.PoolID, ss []table.Service) *table.VirtualServer {
	return &table.VirtualServer{
		ID: id, Path: "/infra/lb-virtual-servers/" + name, Name: name, Service: lb, Services: ss, Pool: pool,
	}
}

// vip enters a VIP and, at a router, its route.
func (s set) vip(k table.VIPKey, servers ...*table.VirtualServer) {
	s.VIPs.Put(k, &table.VIP{Key: k, Servers: servers})
	if k.VRF != 0 {
		s.route(table.Route{VRF: k.VRF, Kind: table.RouteVIP, Source: servers[0].Path}, k.Addr.String()+"/32")
	}
}
