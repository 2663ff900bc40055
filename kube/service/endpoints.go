package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/weft-net/weft/intent"
)

// endpoint is one place that may take connections of a Service's port.
type endpoint struct {
	addr                        netip.Addr
	port                        uint16
	name                        string // of the pod; empty: unknown
	ready, serving, terminating bool
}

// compare orders by address and port; of two that say different things about
// one place the one to believe comes first: a pod that runs before one that ends
// and had the address before it.
func (e endpoint) compare(o endpoint) int {
	return cmp.Or(
		e.addr.Compare(o.addr), cmp.Compare(e.port, o.port),
		first(!e.terminating, !o.terminating), first(e.ready, o.ready), first(e.serving, o.serving),
		cmp.Compare(e.name, o.name),
	)
}

// first compares so that true comes first.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// members returns the members of the pool of one port of a Service, of the
// family of vip, ordered by address and port, and how many more there were than
// a pool can have. The order of the slices and of what is in them does not
// matter.
//
// Which endpoints take connections is decided as by kube-proxy for traffic
// policy Cluster: those that are ready; if there is none, those that serve
// while they end. Source: k8s.io/kubernetes pkg/proxy/topology.go,
// CategorizeEndpoints. If drain is set, the others are members too that keep
// the connections they have until they leave the slice, as kube-proxy leaves
// open connections alone.
func members(slicesOf []discoveryv1.EndpointSlice, port *corev1.ServicePort, vip netip.Addr, drain bool) (out []intent.LBPoolMember, more int) {
	all := endpoints(slicesOf, port, vip)
	takes := func(e endpoint) bool { return e.ready }
	if !slices.ContainsFunc(all, takes) {
		takes = func(e endpoint) bool { return e.serving && e.terminating }
	}
	slices.SortStableFunc(all, func(a, b endpoint) int { return first(takes(a), takes(b)) })
	if i := slices.IndexFunc(all, func(e endpoint) bool { return !takes(e) }); i >= 0 && !drain {
		all = all[:i]
	}
	if more = max(0, len(all)-intent.MaxLBMembers); more > 0 {
		all = all[:intent.MaxLBMembers]
	}
	slices.SortFunc(all, endpoint.compare)
	for _, e := range all {
		m := intent.LBPoolMember{DisplayName: e.name, IPAddress: e.addr.String(), Port: strconv.Itoa(int(e.port))}
		if !takes(e) {
			m.AdminState = "GRACEFUL_DISABLED"
		}
		out = append(out, m)
	}
	return out, more
}

// endpoints returns the endpoints of a port, each place once.
func endpoints(slicesOf []discoveryv1.EndpointSlice, port *corev1.ServicePort, vip netip.Addr) []endpoint {
	family := discoveryv1.AddressTypeIPv4
	if vip.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	var all []endpoint
	for i := range slicesOf {
		s := &slicesOf[i]
		if s.AddressType != family {
			continue
		}
		for _, p := range s.Ports {
			if deref(p.Name, "") != port.Name || deref(p.Protocol, corev1.ProtocolTCP) != protocol(port) || deref(p.Port, 0) == 0 {
				continue
			}
			for j := range s.Endpoints {
				if e, ok := read(&s.Endpoints[j], uint16(*p.Port)); ok {
					all = append(all, e)
				}
			}
		}
	}
	slices.SortFunc(all, endpoint.compare)
	return slices.CompactFunc(all, func(a, b endpoint) bool { return a.addr == b.addr && a.port == b.port })
}

// read returns what an EndpointSlice says of one endpoint. Only the first
// address counts. Source: k8s.io/api/discovery/v1, Endpoint and
// EndpointConditions.
func read(e *discoveryv1.Endpoint, port uint16) (endpoint, bool) {
	if len(e.Addresses) == 0 {
		return endpoint{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return endpoint{}, false
	}
	out := endpoint{
		addr: a, port: port,
		ready:       deref(e.Conditions.Ready, true),
		serving:     deref(e.Conditions.Serving, true),
		terminating: deref(e.Conditions.Terminating, false),
	}
	if e.TargetRef != nil {
		out.name = e.TargetRef.Name
	}
	return out, true
}

// protocol returns the protocol of a port, which defaults to TCP.
func protocol(p *corev1.ServicePort) corev1.Protocol { return cmp.Or(p.Protocol, corev1.ProtocolTCP) }

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
