package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// defaultSourcePort is the first dynamic port. Source: RFC 6335 §6.
const defaultSourcePort = 49152

func asUnresolved(err error, to **unresolved) bool { return errors.As(err, to) }

// question returns what a Trace asks, and the tables to ask.
// Errors: *unresolved; those of the API server.
func (r *reconciler) question(ctx context.Context, t *v1alpha1.Trace) (*indexed, trace.Question, error) {
	q := trace.Question{SrcPort: uint16(t.Spec.SourcePort), DstPort: uint16(t.Spec.Port)}
	if q.SrcPort == 0 {
		q.SrcPort = defaultSourcePort
	}
	switch t.Spec.Protocol {
	case "TCP", "":
		q.Proto = packet.TCP
	case "UDP":
		q.Proto = packet.UDP
	case "ICMP":
		q.Proto = packet.ICMP
	default:
		return nil, q, &unresolved{"spec.protocol", strconv.Quote(t.Spec.Protocol) + ": is no protocol (TCP, UDP, ICMP)", false}
	}
	x, from, err := r.source(ctx, t)
	if err != nil {
		return nil, q, err
	}
	to, port, err := r.destination(ctx, t, x)
	if err != nil {
		return nil, q, err
	}
	q.From, q.Src, q.To, q.Dst = from.Port, from.Addr, to.Port, to.Addr
	if port != 0 {
		q.DstPort = port
	}
	if q.DstPort == 0 && q.Proto != packet.ICMP {
		return nil, q, &unresolved{"spec.port", "is missing (1 to 65535)", false}
	}
	return x, q, nil
}

// source returns where the packet comes from, and the tables of that place.
func (r *reconciler) source(ctx context.Context, t *v1alpha1.Trace) (*indexed, trace.Place, error) {
	s := t.Spec.Source
	if s.Pod == "" {
		const field = "spec.source.address"
		x := r.indexOf(Host)
		if x == nil {
			return nil, trace.Place{}, &unresolved{field, "no node has tables yet", true}
		}
		p, err := r.address(ctx, field, t, x)
		return x, p, err
	}
	const field = "spec.source.pod"
	pod, err := r.pod(ctx, field, types.NamespacedName{Namespace: t.Namespace, Name: s.Pod})
	if err != nil {
		return nil, trace.Place{}, err
	}
	x := r.indexOf(pod.Spec.NodeName)
	if x == nil {
		return nil, trace.Place{}, &unresolved{field, "no node has tables yet", true}
	}
	port := x.attachments[string(pod.UID)]
	if port == nil {
		return nil, trace.Place{}, &unresolved{field, fmt.Sprintf("pod %s/%s has no port (a running pod of a namespace with a network)", pod.Namespace, pod.Name), true}
	}
	p, err := trace.ResolveSource(x.index, port.Path)
	if err != nil {
		return nil, p, &unresolved{field, err.Error(), true}
	}
	return x, p, nil
}

// address returns where the packet of a source's address comes from: a port of
// the Trace's own namespace, or outside. Who may make Traces in one namespace
// does not learn from them what holds for the ports of others, nor which have
// the same address.
func (r *reconciler) address(ctx context.Context, field string, t *v1alpha1.Trace, x *indexed) (p trace.Place, err error) {
	if p.Addr, err = netip.ParseAddr(string(t.Spec.Source.Address)); err != nil {
		return p, &unresolved{field, strconv.Quote(string(t.Spec.Source.Address)) + ": is no address (such as 10.0.0.53)", false}
	}
	var ns corev1.Namespace
	if err := r.client.Get(ctx, types.NamespacedName{Name: t.Namespace}, &ns); err != nil {
		return p, err
	}
	others := false
	for k, e := range x.set.Endpoints.All() {
		if k.Addr != p.Addr {
			continue
		}
		if !inside(x.set, e.Port, string(ns.UID)) {
			others = true
		} else if p.Port == 0 || e.Port < p.Port {
			p.Port = e.Port
		}
	}
	if p.Port != 0 {
		return p, nil
	}
	if !others {
		if p, err = trace.ResolveSource(x.index, p.Addr.String()); err != nil {
			return p, &unresolved{field, strings.TrimPrefix(err.Error(), "source "), true}
		}
		others = x.set.Ports.Get(p.Port) != nil // one whose name is an address
	}
	if others {
		return p, &unresolved{field, fmt.Sprintf("%s: is no pod's of namespace %s (a pod of the Trace's own namespace, or an address outside)", t.Spec.Source.Address, t.Namespace), false}
	}
	return p, nil
}

// inside reports whether a port is on a segment of the namespace with that UID.
func inside(set *table.Set, id table.PortID, uid string) bool {
	port := set.Ports.Get(id)
	if port == nil || set.Segments.Get(port.Segment) == nil {
		return false
	}
	_, is := ncp.SegmentIndex(uid, set.Segments.Get(port.Segment).Path)
	return is
}

// destination returns where the packet goes to, and the port of a service that
// has one only.
func (r *reconciler) destination(ctx context.Context, t *v1alpha1.Trace, x *indexed) (p trace.Place, port uint16, err error) {
	d := t.Spec.Destination
	namespace := cmp.Or(d.Namespace, t.Namespace)
	switch {
	case d.Pod != "":
		const field = "spec.destination.pod"
		pod, err := r.pod(ctx, field, types.NamespacedName{Namespace: namespace, Name: d.Pod})
		if err != nil {
			return p, 0, err
		}
		if to := x.attachments[string(pod.UID)]; to != nil {
			p, err = trace.ResolveDestination(x.index, to.Path)
		} else {
			p.Addr, err = netip.ParseAddr(pod.Status.PodIP) // of another host, or the host's own
		}
		if err != nil {
			return p, 0, &unresolved{field, fmt.Sprintf("pod %s/%s has no address yet", namespace, d.Pod), true}
		}
		return p, 0, nil
	case d.Service != "":
		return r.service(ctx, t, types.NamespacedName{Namespace: namespace, Name: d.Service})
	}
	if p.Addr, err = netip.ParseAddr(string(d.Address)); err != nil {
		return p, 0, &unresolved{"spec.destination.address", strconv.Quote(string(d.Address)) + ": is no address (such as 10.0.0.53)", false}
	}
	return p, 0, nil
}

// service returns the ClusterIP of a service, and its port if it has one only.
func (r *reconciler) service(ctx context.Context, t *v1alpha1.Trace, name types.NamespacedName) (p trace.Place, port uint16, err error) {
	const field = "spec.destination.service"
	s := &corev1.Service{}
	if err := r.client.Get(ctx, name, s); apierrors.IsNotFound(err) {
		return p, 0, &unresolved{field, fmt.Sprintf("service %s does not exist", name), true}
	} else if err != nil {
		return p, 0, err
	}
	if p.Addr, err = netip.ParseAddr(s.Spec.ClusterIP); err != nil {
		return p, 0, &unresolved{field, fmt.Sprintf("service %s has no ClusterIP (a pod or an address)", name), false}
	}
	if t.Spec.Port == 0 && t.Spec.Protocol != "ICMP" {
		if len(s.Spec.Ports) != 1 {
			return p, 0, &unresolved{"spec.port", fmt.Sprintf("is missing, and service %s has %d ports (1 to 65535)", name, len(s.Spec.Ports)), false}
		}
		port = uint16(s.Spec.Ports[0].Port)
	}
	return p, port, nil
}

func (r *reconciler) pod(ctx context.Context, field string, name types.NamespacedName) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	err := r.client.Get(ctx, name, pod)
	if apierrors.IsNotFound(err) {
		return nil, &unresolved{field, fmt.Sprintf("pod %s does not exist", name), true}
	}
	return pod, err
}
