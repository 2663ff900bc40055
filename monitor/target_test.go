package monitor

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/table"
)

// bed returns a Set with one load balancer whose monitors' port is complete,
// and one pool of n members 10.1.0.1 to 10.1.0.n.
func bed(n int, monitors ...*table.Monitor) *table.Set {
	s := table.NewSet("host1")
	addService(s, 1)
	p := &table.Pool{ID: 1, Path: "/infra/lb-pools/p", Algorithm: table.RoundRobin, Monitors: monitors}
	for i := range n {
		p.Members = append(p.Members, table.Member{
			ID: table.MemberID(i + 1), Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), Port: 80, Weight: 1, Admin: table.MemberEnabled,
		})
	}
	s.Pools.Put(p.ID, p)
	serve(s, &table.VirtualServer{ID: 1, Path: "/infra/lb-virtual-servers/v", Service: 1, Pool: 1})
	return s
}

// addService adds a load balancer with a monitors' segment.
func addService(s *table.Set, id table.LBServiceID) {
	gateway, addr := netip.MustParsePrefix("169.254.255.1/30"), netip.MustParseAddr("169.254.255.2")
	path := fmt.Sprintf("/infra/lb-services/s%d", id)
	mac := table.MAC{0x02, 0x50, 0x56, 0, 0xff, byte(id)}
	port, segment := table.PortID(100+id), table.SegmentID(100+id)
	s.Services.Put(id, &table.LBService{ID: id, Path: path, Name: fmt.Sprintf("s%d", id), VRF: 1, Port: port})
	s.Segments.Put(segment, &table.Segment{ID: segment, Path: path + "/monitor", Gateways: []netip.Prefix{gateway}, Monitor: id, VRF: 1})
	s.Ports.Put(port, &table.Port{ID: port, Path: path + "/monitor/port", Segment: segment, MAC: mac})
	s.Endpoints.Put(table.EndpointKey{Segment: segment, Addr: addr}, &table.Endpoint{Segment: segment, Addr: addr, Port: port, MAC: mac})
}

func serve(s *table.Set, v *table.VirtualServer) {
	k := table.VIPKey{VRF: 1, Addr: netip.AddrFrom4([4]byte{172, 16, 0, byte(s.VIPs.Len() + 1)})}
	s.VIPs.Put(k, &table.VIP{Key: k, Servers: []*table.VirtualServer{v}})
}

func tcp(path string) *table.Monitor {
	return &table.Monitor{Path: path, Kind: table.MonitorTCP, Interval: 5, Timeout: 15, Fall: 3, Rise: 2}
}

func TestTargets(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*table.Set)
		want   []string // member, monitor, load balancer, address
	}{
		"all":              {func(*table.Set) {}, []string{"1 /a 1 10.1.0.1:80", "1 /b 1 10.1.0.1:80", "2 /a 1 10.1.0.2:80", "2 /b 1 10.1.0.2:80"}},
		"nothing uses it":  {func(s *table.Set) { s.VIPs.Clear() }, nil},
		"without a port":   {func(s *table.Set) { s.Services.Get(1).Port = 0 }, nil},
		"without monitors": {func(s *table.Set) { s.Pools.Get(1).Monitors = nil }, nil},
		"disabled":         {func(s *table.Set) { s.Pools.Get(1).Members[0].Admin = table.MemberDisabled }, []string{"2 /a 1 10.1.0.2:80", "2 /b 1 10.1.0.2:80"}},
		"draining": {func(s *table.Set) {
			s.Pools.Get(1).Members = s.Pools.Get(1).Members[:1]
			s.Pools.Get(1).Members[0].Admin = table.MemberDraining
		}, []string{"1 /a 1 10.1.0.1:80", "1 /b 1 10.1.0.1:80"}},
		"two balancers": {func(s *table.Set) {
			addService(s, 2)
			s.Services.Get(2).Path = "/infra/lb-services/a"
			serve(s, &table.VirtualServer{ID: 2, Path: "/z", Service: 2, Pool: 1})
			s.Pools.Get(1).Monitors = s.Pools.Get(1).Monitors[:1]
		}, []string{"1 /a 2 10.1.0.1:80", "2 /a 2 10.1.0.2:80"}},
		"monitor's port": {func(s *table.Set) {
			s.Pools.Get(1).Members = s.Pools.Get(1).Members[:1]
			s.Pools.Get(1).Monitors[1].Port = 8080
		}, []string{"1 /a 1 10.1.0.1:80", "1 /b 1 10.1.0.1:8080"}},
		"icmp": {func(s *table.Set) {
			s.Pools.Get(1).Members = s.Pools.Get(1).Members[:1]
			s.Pools.Get(1).Monitors[1].Kind = table.MonitorICMP
		}, []string{"1 /a 1 10.1.0.1:80", "1 /b 1 10.1.0.1:0"}},
		"no port is known": {func(s *table.Set) { s.Pools.Get(1).Members[0].Port = 0 }, []string{"2 /a 1 10.1.0.2:80", "2 /b 1 10.1.0.2:80"}},
		"the server's port": {func(s *table.Set) {
			s.Pools.Get(1).Members = s.Pools.Get(1).Members[:1]
			s.Pools.Get(1).Members[0].Port = 0
			vs(s).MemberPort = 8443
		}, []string{"1 /a 1 10.1.0.1:8443", "1 /b 1 10.1.0.1:8443"}},
		"the asked port": {func(s *table.Set) {
			s.Pools.Get(1).Members = s.Pools.Get(1).Members[:1]
			s.Pools.Get(1).Members[0].Port = 0
			vs(s).Services = []table.Service{{Proto: 6, First: 443, Last: 445}}
		}, []string{"1 /a 1 10.1.0.1:443", "1 /b 1 10.1.0.1:443"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := bed(2, tcp("/a"), tcp("/b"))
			tc.change(s)
			var got []string
			for _, t := range Targets(s) {
				got = append(got, fmt.Sprintf("%d %s %d %s", t.Member, t.Monitor.Path, t.Service, t.Addr))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

// vs returns the only virtual server of s.
func vs(s *table.Set) *table.VirtualServer {
	for _, v := range s.VIPs.All() {
		return v.Servers[0]
	}
	return nil
}
