package compile

import (
	"crypto/sha256"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Monitors of a router's load balancer send from a port of their own, on a
// segment that only this router knows and that is not of the intent. All these
// segments have the same addresses, so they take no part in telling domains
// apart, and what leaves the router upwards is translated to its own address.
// Source: RFC 3927 for the addresses, the last of the block.
var (
	monitorGateway = netip.MustParsePrefix("169.254.255.1/30")
	monitorAddr    = netip.MustParseAddr("169.254.255.2")
)

// monitorNet is the segment of a load balancer's monitors and what is on it.
type monitorNet struct {
	segment  *table.Segment
	port     *table.Port
	endpoint *table.Endpoint
}

// monitorSegment and monitorPort return the paths that these are known by.
func monitorSegment(service string) string { return service + "/monitor" }
func monitorPort(service string) string    { return monitorSegment(service) + "/ports/monitor" }

func (x *run) buildMonitorNet(service string) any {
	s, router := x.loadBalancer(service)
	if s == nil || isService(router) {
		return nil
	}
	path := monitorSegment(service)
	sum := sha256.Sum256([]byte(path))
	out := &monitorNet{
		segment: &table.Segment{
			ID: x.segmentID(path), Path: path, Name: s.Name() + " monitor",
			VRF: x.vrfID(router), Gateways: []netip.Prefix{monitorGateway}, Monitor: x.serviceID(service),
		},
		port: &table.Port{
			ID: x.portID(monitorPort(service)), Path: monitorPort(service), Name: "monitor",
			Segment: x.segmentID(path), MAC: table.MAC{2, sum[0], sum[1], sum[2], sum[3], sum[4]}, Attachment: "monitor:" + service,
		},
	}
	if r := built[*table.Realm](x, ref{factRealm, router, ""}); r != nil {
		out.segment.Realm = r.ID
	}
	out.endpoint = &table.Endpoint{Segment: out.segment.ID, Addr: monitorAddr, Port: out.port.ID, MAC: out.port.MAC, Unfiltered: true}
	x.want(router, candidate{kind: table.RouteConnected, prefix: monitorGateway.Masked(), segment: path, source: service})
	x.want(router, candidate{kind: table.RouteLocal, prefix: host(monitorGateway.Addr()), source: service})
	x.emit(ref{relNAT, router, dirOut}, service)
	return out
}

// monitorRows returns the NAT rows that hide where monitors send from: one at a
// Tier-1, one for each uplink of a Tier-0. The gateway firewall does not see
// what a load balancer sends itself.
func (x *run) monitorRows(s *intent.LBService) *natRows {
	row := table.NATRule{
		ID: x.id(poolRule, monitorSegment(s.Path)), Path: s.Path, Name: s.Name() + " monitor",
		Type: "SNAT", Action: table.NATTranslate, Src: host(monitorAddr),
		PortFirst: firstPort, PortLast: lastPort, Match: table.MatchBypass,
	}
	out := &natRows{monitor: true, path: s.Path}
	if l := built[*link](x, ref{factLink, s.ConnectivityPath, ""}); l != nil {
		row.To = host(l.down)
		out.out = append(out.out, row)
	}
	for _, path := range members(x, ref{relUplink, s.ConnectivityPath, ""}, strings.Compare) {
		if i, ok := object[*intent.Tier0Interface](x, path); ok {
			row.To, row.Iface = host(i.Addresses()[0].Addr()), x.portID(path)
			out.out = append(out.out, row)
		}
	}
	return out
}
