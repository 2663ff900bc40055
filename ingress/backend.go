package ingress

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// http2AppProtocol says that a port speaks HTTP/2 without TLS.
// Source: KEP-3726, standard values of appProtocol.
const http2AppProtocol = "kubernetes.io/h2c"

// fault is why a part of an Ingress can not be served.
type fault struct {
	field  string // below the part
	reason string
	text   string
}

// upstream returns what stands behind a backend of an Ingress of a namespace;
// the same one for the same port. If the Ingress asks for what can not be, the
// fault says why, and the Upstream is broken for the same reason.
func (b *builder) upstream(namespace string, be *networkingv1.IngressBackend) (*Upstream, *fault) {
	if be.Service == nil {
		f := &fault{"resource", ReasonUnsupported, "a backend that is no service is not served (service)"}
		return &Upstream{Broken: f.text}, f
	}
	want := be.Service.Port.Name
	if want == "" {
		want = strconv.Itoa(int(be.Service.Port.Number))
	}
	key := upstreamKey{types.NamespacedName{Namespace: namespace, Name: be.Service.Name}, want, be.Service.Port.Name != ""}
	if u := b.upstreams[key]; u != nil {
		return u.upstream, u.fault
	}
	u, f := b.newUpstream(key)
	if f != nil {
		u.Broken = f.text
	}
	b.upstreams[key] = &foundUpstream{u, f}
	return u, f
}

type upstreamKey struct {
	service types.NamespacedName
	port    string
	named   bool
}

type foundUpstream struct {
	upstream *Upstream
	fault    *fault
}

func (b *builder) newUpstream(key upstreamKey) (*Upstream, *fault) {
	u := &Upstream{Service: key.service, Port: key.port}
	s := b.services[key.service]
	if s == nil {
		return u, &fault{"service.name", ReasonNotFound, fmt.Sprintf("service %s does not exist", key.service)}
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return u, &fault{"service.name", ReasonUnsupported, fmt.Sprintf("service %s is of type ExternalName, which is not served (a type with endpoints)", key.service)}
	}
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		if key.named {
			return p.Name == key.port
		}
		return strconv.Itoa(int(p.Port)) == key.port && cmp.Or(p.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP
	})
	if i < 0 {
		return u, &fault{"service.port", ReasonNotFound, fmt.Sprintf("service %s has no TCP port %s (%s)", key.service, key.port, portList(s))}
	}
	port := s.Spec.Ports[i]
	if p := cmp.Or(port.Protocol, corev1.ProtocolTCP); p != corev1.ProtocolTCP {
		return u, &fault{"service.port", ReasonUnsupported, fmt.Sprintf("port %s of service %s is %s (TCP)", key.port, key.service, p)}
	}
	u.HTTP2 = port.AppProtocol != nil && *port.AppProtocol == http2AppProtocol
	u.Endpoints = endpoints(b.slices[key.service], port.Name)
	if len(u.Endpoints) == 0 {
		u.Broken = fmt.Sprintf("service %s has no ready endpoint for port %s", key.service, key.port)
	}
	return u, nil
}

// portList names the ports that an Ingress could use.
func portList(s *corev1.Service) string {
	var out string
	for _, p := range s.Spec.Ports {
		if cmp.Or(p.Protocol, corev1.ProtocolTCP) != corev1.ProtocolTCP {
			continue
		}
		if out != "" {
			out += ", "
		}
		out += strconv.Itoa(int(p.Port))
		if p.Name != "" {
			out += " " + p.Name
		}
	}
	return cmp.Or(out, "it has none")
}

// endpoints returns the addresses behind a named port that take connections:
// those that are ready or, if none is, those that still serve while they end. What
// is not said means ready, serving and not ending. Source:
// k8s.io/api/discovery/v1, EndpointConditions.
func endpoints(all []*discoveryv1.EndpointSlice, port string) []netip.AddrPort {
	var ready, ending []netip.AddrPort
	for _, s := range all {
		if s.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		number, ok := slicePort(s, port)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			list := &ready
			switch c := &s.Endpoints[i].Conditions; {
			case c.Ready == nil || *c.Ready:
			case (c.Serving == nil || *c.Serving) && c.Terminating != nil && *c.Terminating:
				list = &ending
			default:
				continue
			}
			for _, text := range s.Endpoints[i].Addresses {
				if a, err := netip.ParseAddr(text); err == nil {
					*list = append(*list, netip.AddrPortFrom(a.Unmap(), number))
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = ending
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// slicePort returns the number that a slice has for a port's name.
func slicePort(s *discoveryv1.EndpointSlice, name string) (uint16, bool) {
	for _, p := range s.Ports {
		sameName := p.Name == nil && name == "" || p.Name != nil && *p.Name == name
		isTCP := p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP
		if sameName && isTCP && p.Port != nil && *p.Port > 0 && *p.Port <= 65535 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}
