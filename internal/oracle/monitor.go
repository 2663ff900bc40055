package oracle

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
)

// monitor is where a load balancer asks its members from: the only port of a
// segment of its router that nobody wrote.
type monitor struct {
	router  string
	segment *intent.Segment
	port    *intent.SegmentPort
}

// The addresses of every monitor's segment: they are seen by its own router
// alone.
const (
	monitorGateway = "169.254.255.1/30"
	monitorAddress = "169.254.255.2"
)

// monitors returns those of all load balancers that have something to ask: one
// that is on, at a router, and has a virtual server that is on with a pool of
// active monitors.
func (o *Oracle) monitors() []monitor {
	if o.asking != nil {
		return o.asking
	}
	o.asking = []monitor{}
	for _, s := range every[*intent.LBService](o.tree, "LBService") {
		asks := slices.ContainsFunc(every[*intent.LBVirtualServer](o.tree, "LBVirtualServer"), func(v *intent.LBVirtualServer) bool {
			p, ok := intent.Find[*intent.LBPool](o.tree, v.PoolPath)
			return ok && v.IsEnabled() && v.LBServicePath == s.Path && len(p.ActiveMonitorPaths) > 0
		})
		if !asks || !s.IsEnabled() || s.IsDistributed() || s.ConnectivityPath == "" {
			continue
		}
		m := monitor{router: s.ConnectivityPath, segment: &intent.Segment{}, port: &intent.SegmentPort{}}
		m.segment.Path, m.segment.ConnectivityPath = s.Path+"/monitor", s.ConnectivityPath
		m.segment.Subnets = []intent.SegmentSubnet{{GatewayAddress: monitorGateway}}
		m.port.Path = m.segment.Path + "/ports/monitor"
		m.port.AddressBindings = []intent.AddressBinding{{IPAddress: monitorAddress, MACAddress: o.facts.MonitorMAC(m.port.Path)}}
		o.asking = append(o.asking, m)
	}
	return o.asking
}

// isMonitor reports whether a port is a load balancer's own.
func (o *Oracle) isMonitor(p *intent.SegmentPort) bool {
	return slices.ContainsFunc(o.monitors(), func(m monitor) bool { return m.port == p })
}

// isMonitors reports whether a segment is a load balancer's own.
func (o *Oracle) isMonitors(s *intent.Segment) bool {
	return slices.ContainsFunc(o.monitors(), func(m monitor) bool { return m.segment == s })
}

// portAt returns the port at a path.
func (o *Oracle) portAt(path string) (*intent.SegmentPort, bool) {
	for _, m := range o.monitors() {
		if m.port.Path == path {
			return m.port, true
		}
	}
	return intent.Find[*intent.SegmentPort](o.tree, path)
}

// askedFrom returns what the source of a monitor's packet becomes when it leaves
// its router upwards: the router's own address there. No gateway firewall sees
// it.
func (w *walk) askedFrom(router, iface string) (netip.Addr, bool) {
	at := func(m monitor) bool { return m.router == router }
	if w.at.Src != netip.MustParseAddr(monitorAddress) || !slices.ContainsFunc(w.o.monitors(), at) {
		return netip.Addr{}, false
	}
	if i, ok := intent.Find[*intent.Tier0Interface](w.o.tree, iface); ok {
		return i.Addresses()[0].Addr(), true
	}
	_, end := w.o.facts.Transit(router)
	return end, true
}
