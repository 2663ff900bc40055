package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// AnnotationSNATPool has the id or display name of an IpAddressPool: what the
// Service's pods send to outside has an address of it as source, not the egress
// address of their namespace. What the namespace exempts stays exempt.
const AnnotationSNATPool = "ncp/snat_pool"

// SNATOverlapped is a value of ncp.AnnotationErrorSNAT, as are those of pools.
const SNATOverlapped = "SNAT_RULE_OVERLAPPED"

// IsSNATFault reports whether a fault is that a Service's pods get no address of
// its pool: its reason is a value of ncp.AnnotationErrorSNAT.
func IsSNATFault(f writer.Fault) bool {
	return f.Field == annotation(AnnotationSNATPool) && slices.Contains([]string{
		PoolNotFound, PoolNotUnique, PoolExhausted, PoolAccessDenied, SNATOverlapped,
	}, f.Reason)
}

// Claim is a Service with AnnotationSNATPool and its EndpointSlices, in any
// order.
type Claim struct {
	Service *corev1.Service
	Slices  []discoveryv1.EndpointSlice
}

// snatPool returns the pool that a Service has for its pods; empty: none.
func snatPool(s *corev1.Service) string {
	return strings.TrimSpace(s.Annotations[AnnotationSNATPool])
}

// compareAge orders Services by when they were made. Source: creationTimestamp
// has seconds, so names tell apart those of one second.
func compareAge(a, b *corev1.Service) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
}

// snatPath returns the NAT rule of the Service's pods.
func (b *translation) snatPath() string {
	return ncp.NATRulePath(b.Place.Tier1, ncp.ServiceSNATID(string(b.Service.UID)))
}

// snatHas returns the address that the Service's pods have in the tree; invalid:
// none.
func (b *translation) snatHas() netip.Addr {
	if r := b.snatRule(); r != nil {
		return r.Translated().Addr()
	}
	return netip.Addr{}
}

// snatRule returns the NAT rule that the tree has of the Service; nil: none.
func (b *translation) snatRule() *intent.PolicyNatRule {
	r, ok := intent.Find[*intent.PolicyNatRule](b.t, b.snatPath())
	if !ok || store.OwnerOf(r) != b.owner() {
		return nil
	}
	return r
}

// snat makes the NAT rule of the Service's pods. If it cannot be, they have the
// egress address of their namespace. Without pods the rule is disabled, so that
// the address stays the Service's.
func (b *translation) snat() {
	w := wish{field: annotation(AnnotationSNATPool), pool: snatPool(b.Service), only: true}
	if w.pool == "" || !b.translates(w) {
		return
	}
	pods, f := b.claimed(w)
	var a netip.Addr
	if f == nil {
		a, f = b.snatAddress(w)
	}
	if f != nil {
		b.Faults = append(b.Faults, *f)
	}
	if !a.IsValid() {
		return
	}
	var source []string
	for _, p := range pods {
		if p.BitLen() == a.BitLen() {
			source = append(source, p.String())
		}
	}
	r := &intent.PolicyNatRule{
		Resource: intent.Resource{DisplayName: ncp.Name(b.Place.Namespace + "/" + b.Service.Name + " snat"), Tags: poolTags(w.pool)},
		Action:   "SNAT", SourceNetwork: strings.Join(source, ","), TranslatedNetwork: a.String(), SequenceNumber: ncp.SequenceServiceSNAT,
	}
	note := "what its pods send to outside comes from " + a.String()
	if len(source) == 0 {
		r.Enabled = new(bool)
		note += ": there are none of its own now"
	}
	b.SNAT = a
	b.put(b.snatPath(), r)
	b.Notes = append(b.Notes, note)
}

// translates reports whether the namespace's gateway translates sources at all.
func (b *translation) translates(w wish) bool {
	switch {
	case b.Place.Routed:
		b.fault(InvalidAnnotation, w.field, "%s: has no effect, as namespace %s is routed: nothing translates what its pods send", w.pool, b.Place.Namespace)
		return false
	case b.t.Get(ncp.NATRulePath(b.Place.Tier1, ncp.NATEgress)) == nil:
		b.fault(NoNetwork, w.field, "%s: namespace %s has no egress address yet (see the conditions of the Namespace)", w.pool, b.Place.Namespace)
		return false
	}
	return true
}

// claimed returns the Service's pods, without those that an older Service with
// the same pool has. If an older one has another pool for one of them, the
// Service gets none.
func (b *translation) claimed(w wish) ([]netip.Addr, *writer.Fault) {
	type holder struct {
		by   *corev1.Service
		pool string
	}
	held := map[netip.Addr]holder{}
	overlap := func(pods []netip.Addr, pool string) int {
		return slices.IndexFunc(pods, func(a netip.Addr) bool { h, is := held[a]; return is && h.pool != pool })
	}
	older := slices.SortedFunc(slices.Values(b.Older), func(x, y Claim) int { return compareAge(x.Service, y.Service) })
	for _, c := range older {
		pods, pool := b.pods(c.Slices), b.poolPath(snatPool(c.Service))
		if overlap(pods, pool) >= 0 {
			continue // it gets none itself
		}
		for _, a := range pods {
			if _, is := held[a]; !is {
				held[a] = holder{c.Service, pool}
			}
		}
	}
	pods := b.pods(b.Slices)
	if i := overlap(pods, b.poolPath(w.pool)); i >= 0 {
		by := held[pods[i]].by
		return nil, &writer.Fault{Reason: SNATOverlapped, Field: w.field, Msg: fmt.Sprintf(
			"%s: pod %s is of Service %s/%s too, which is older and has pool %s (want one pool for a pod)", w.pool, pods[i], by.Namespace, by.Name, snatPool(by))}
	}
	return slices.DeleteFunc(pods, func(a netip.Addr) bool { _, is := held[a]; return is }), nil
}

// poolPath returns the path of a pool, so that its id and display name are one;
// of one that there is not, or twice, what it is called by.
func (b *translation) poolPath(name string) string {
	if found := b.poolsNamed(name); len(found) == 1 {
		return found[0].Meta().Path
	}
	return name
}

// pods returns the addresses of endpoints in the namespace's segments, sorted:
// whoever is there sends, ready or not. Endpoints elsewhere are not behind its
// gateway, or not the namespace's.
func (b *translation) pods(list []discoveryv1.EndpointSlice) []netip.Addr {
	var subnets []netip.Prefix
	for _, s := range b.t.SegmentsOf(b.Place.Tier1) {
		if _, ok := ncp.SegmentIndex(b.Place.UID, s.Path); ok {
			subnets = append(subnets, s.Gateways()...)
		}
	}
	var out []netip.Addr
	for i := range list {
		for j := range list[i].Endpoints {
			e, ok := read(&list[i].Endpoints[j], 0)
			if ok && slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(e.addr) }) {
				out = append(out, e.addr)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// snatAddress returns the address that the Service's pods have, if it is of the
// pool or was when they got it, or had, else the lowest free one of the pool. It
// is never the load balancer's. A fault beside a valid address says what is wrong
// with the pool.
func (b *translation) snatAddress(w wish) (netip.Addr, *writer.Fault) {
	from, f := b.pool(w)
	if r := b.snatRule(); r != nil && r.Translated().Addr() != b.Address {
		a := r.Translated().Addr()
		if from.contains(a) || b.samePool(w.pool, ncp.TagValue(r.Tags, ncp.TagIPPool)) {
			b.strays(a, from)
			return a, f
		}
	}
	if f != nil {
		return netip.Addr{}, f
	}
	used := b.used()
	used.also[b.Address] = "its load balancer"
	if from.contains(b.HadSNAT) && used.by(b.HadSNAT) == "" {
		return b.HadSNAT, nil
	}
	if a, ok := b.lowest(from, used); ok {
		return a, nil
	}
	return netip.Addr{}, &writer.Fault{Reason: PoolExhausted, Field: w.field, Msg: w.pool + ": no address is free in " + from.what + " (extend it, or take the annotation off another Service)"}
}
