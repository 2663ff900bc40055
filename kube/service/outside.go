package service

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// loadBalancer makes the virtual servers that are reached from outside: one
// address, which all ports share. If who may connect can not be told, nobody
// may.
func (b *translation) loadBalancer(ports []*corev1.ServicePort) {
	ok := b.words()
	if !b.readSources() || !ok || len(ports) == 0 {
		return
	}
	if b.t.Get(b.Place.LBService) == nil {
		b.fault(NoNetwork, "", "namespace %s has no load balancer (see the conditions of the Namespace)", b.Place.Namespace)
		return
	}
	w, f := b.wish()
	var vip netip.Addr
	if f == nil {
		vip, f = b.address(w)
	}
	if f != nil {
		b.Faults = append(b.Faults, *f)
	}
	if !vip.IsValid() {
		return
	}
	b.Address, b.addressPool = vip, w.pool
	if w.addr.IsValid() && vip == b.Has {
		b.addressPool = b.HasPool // it is from there whoever asks for it now
	}
	if b.restricted(vip) {
		var list []string
		for _, s := range b.sources {
			list = append(list, s.String())
		}
		b.put(b.sourcesPath(), &intent.Group{
			Resource:   intent.Resource{DisplayName: ncp.Name(b.Place.Namespace + "/" + b.Service.Name + " sources")},
			Expression: []intent.Expression{&intent.IPAddressExpression{IPAddresses: list}},
		})
	}
	for _, p := range ports {
		b.server(ncp.CreatedForSLB, vip, p)
	}
}

// outside adds to a virtual server and its pool what only those have that are
// reached from outside.
func (b *translation) outside(v *intent.LBVirtualServer, pool *intent.LBPool, p *corev1.ServicePort) {
	v.LBServicePath = b.Place.LBService
	v.Tags = append(v.Tags, poolTags(b.addressPool)...)
	if b.restricted(v.Address()) {
		v.AccessListControl = &intent.LBAccessListControl{Action: "ALLOW", GroupPath: b.sourcesPath()}
	}
	s := b.Service
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal && s.Annotations[AnnotationTransparent] != "true" {
		pool.SNATTranslation.Type = "LBSnatAutoMap"
	}
	if s.Annotations[AnnotationHealth] == "tcp" && protocol(p) == corev1.ProtocolTCP {
		pool.ActiveMonitorPaths = []string{ncp.TCPMonitorPath(b.Place.Cluster)}
	}
}

// poolTags returns the tags of what has an address because its Service asked for
// a pool; empty: it asked for none.
func poolTags(pool string) []intent.Tag {
	if pool == "" {
		return nil
	}
	return []intent.Tag{{Scope: ncp.TagIPPool, Tag: pool}}
}

// words checks the values of annotations that are words.
func (b *translation) words() bool {
	ok := true
	for _, a := range []struct {
		key     string
		allowed []string
	}{{AnnotationTransparent, []string{"true", "false"}}, {AnnotationHealth, []string{"tcp", "none"}}} {
		v, is := b.Service.Annotations[a.key]
		if is && v != a.allowed[0] && v != a.allowed[1] {
			b.fault(InvalidAnnotation, annotation(a.key), "%q: is not allowed (%s)", v, strings.Join(a.allowed, ", "))
			ok = false
		}
	}
	return ok
}

// sourcesPath returns the group of who may connect.
func (b *translation) sourcesPath() string {
	return ncp.GroupPath(b.Place.Cluster, "svc_"+string(b.Service.UID)+"_sources")
}

// readSources sets who may connect; none: all may. It reports whether all could
// be read.
func (b *translation) readSources() bool {
	field, list := "spec.loadBalancerSourceRanges", b.Service.Spec.LoadBalancerSourceRanges
	for _, key := range []string{corev1.AnnotationLoadBalancerSourceRangesKey, AnnotationSources} {
		if v := strings.TrimSpace(b.Service.Annotations[key]); len(list) == 0 && v != "" {
			field, list = annotation(key), strings.Split(v, ",")
		}
	}
	ok := true
	for _, s := range list {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if a, bad := netip.ParseAddr(s); bad == nil && a.Zone() == "" {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			b.fault(InvalidSourceRange, field, "%q: is neither a CIDR nor an address (such as 10.1.0.0/16); until it is, nobody may connect", s)
			ok = false
			continue
		}
		b.sources = append(b.sources, p.Masked())
	}
	slices.SortFunc(b.sources, func(x, y netip.Prefix) int { return strings.Compare(x.String(), y.String()) })
	b.sources = slices.Compact(b.sources)
	return ok
}

// restricted reports whether some clients of a VIP may not connect.
func (b *translation) restricted(vip netip.Addr) bool {
	all := slices.ContainsFunc(b.sources, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() == vip.Is4() })
	return len(b.sources) > 0 && !all
}
