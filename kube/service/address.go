package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Values of the annotation ncp.AnnotationErrorLB; those of pools are values of
// ncp.AnnotationErrorSNAT too.
const (
	PoolNotFound     = "IP_POOL_NOT_FOUND"
	PoolNotUnique    = "IP_POOL_NOT_UNIQUE"
	PoolExhausted    = "IP_POOL_EXHAUSTED"
	PoolAccessDenied = "POOL_ACCESS_DENIED"
	AddressInUse     = "IP_ALREADY_ALLOCATED"
	AddressOutside   = "IP_NOT_IN_POOL"
	AddressInvalid   = "INVALID_IP_ADDRESS"
)

// IsAddressFault reports whether a fault is that a load balancer gets no address:
// its reason is a value of ncp.AnnotationErrorLB.
func IsAddressFault(f writer.Fault) bool {
	return f.Field != annotation(AnnotationSNATPool) && slices.Contains([]string{
		PoolNotFound, PoolNotUnique, PoolExhausted, PoolAccessDenied, AddressInUse, AddressOutside, AddressInvalid,
	}, f.Reason)
}

// span is the addresses from first to last, both of one family.
type span struct{ first, last netip.Addr }

func (s span) contains(a netip.Addr) bool {
	return a.BitLen() == s.first.BitLen() && s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0
}

// allowed is where an address may come from.
type allowed struct {
	what  string // for messages
	spans []span
}

func (w allowed) contains(a netip.Addr) bool {
	return slices.ContainsFunc(w.spans, func(s span) bool { return s.contains(a) })
}

// wish is what a Service says of an address.
type wish struct {
	field string
	addr  netip.Addr // invalid: any
	pool  string     // empty: the ingress CIDRs
	only  bool       // it can be a pool alone
}

// wish reads spec.loadBalancerIP, which is an address or the name of a pool, and
// the annotation that stands for it.
func (b *translation) wish() (wish, *writer.Fault) {
	s := b.Service
	w, text := wish{field: "spec.loadBalancerIP"}, strings.TrimSpace(s.Spec.LoadBalancerIP)
	if a := strings.TrimSpace(s.Annotations[AnnotationAddress]); a != "" {
		if text != "" && text != a {
			return w, &writer.Fault{Reason: AddressInvalid, Field: annotation(AnnotationAddress), Msg: a + ": is not spec.loadBalancerIP, which is " + text + " (want one of them)"}
		}
		if text == "" {
			w.field, text = annotation(AnnotationAddress), a
		}
	}
	a, err := netip.ParseAddr(text)
	switch {
	case text == "":
	case err == nil && a.Zone() == "":
		w.addr = a.Unmap()
	case strings.ContainsAny(text, ":/") || strings.Trim(text, "0123456789.") == "":
		return w, &writer.Fault{Reason: AddressInvalid, Field: w.field, Msg: text + ": is neither an address nor the name of an IpAddressPool (such as 10.203.182.131)"}
	default:
		w.pool = text
	}
	return w, nil
}

// address returns the address of the load balancer for a wish: the one that is
// asked for, else the one that it has, else the lowest that nobody has. A fault
// beside a valid address says what is wrong with where it is from.
func (b *translation) address(w wish) (netip.Addr, *writer.Fault) {
	from, p := b.allowed(w)
	if b.keeps(w, from) {
		b.strays(b.Has, from)
		return b.Has, p
	}
	if p != nil {
		return netip.Addr{}, p
	}
	used := b.used()
	if a := b.snatHas(); a.IsValid() && snatPool(b.Service) != "" {
		used.also[a] = "its own pods"
	}
	if w.addr.IsValid() {
		if p := b.refused(w, from, used); p != nil {
			return netip.Addr{}, p
		}
		return w.addr, nil
	}
	if from.contains(b.Had) && used.by(b.Had) == "" {
		return b.Had, nil
	}
	if a, ok := b.lowest(from, used); ok {
		return a, nil
	}
	return netip.Addr{}, &writer.Fault{Reason: PoolExhausted, Field: "status.loadBalancer", Msg: "no address is free in " + from.what + " (delete a Service of type LoadBalancer, or extend it)"}
}

// keeps reports whether the load balancer keeps the address that it has, as
// nothing else is asked for than when it got it: then it may be outside of
// ranges that were shrunk since, or of a pool that is gone.
func (b *translation) keeps(w wish, from allowed) bool {
	if !b.Has.IsValid() || w.addr.IsValid() {
		return b.Has.IsValid() && w.addr == b.Has
	}
	return from.contains(b.Has) || b.samePool(w.pool, b.HasPool)
}

// samePool reports whether two names, empty ones too, are those of one pool.
func (b *translation) samePool(x, y string) bool {
	return x == y || x != "" && y != "" && b.poolPath(x) == b.poolPath(y)
}

// strays notes that an address stays in use that is not from where it would be
// from now; internal/leaks reads it.
func (b *translation) strays(a netip.Addr, from allowed) {
	if from.contains(a) {
		return
	}
	note := a.String() + " stays in use"
	if len(from.spans) > 0 {
		note += ", though it is not of " + from.what + " any more"
	}
	b.Notes = append(b.Notes, note)
}

// refused returns why the address that is asked for cannot be had; nil: it can.
func (b *translation) refused(w wish, from allowed, used used) *writer.Fault {
	if !from.contains(w.addr) {
		return &writer.Fault{Reason: AddressOutside, Field: w.field, Msg: w.addr.String() + ": is not an address for hosts of " + from.what}
	}
	if by := used.by(w.addr); by != "" {
		return &writer.Fault{Reason: AddressInUse, Field: w.field, Msg: w.addr.String() + ": is already used by " + by + " (want a free address, or none to get one)"}
	}
	return nil
}

// lowest returns the first address that is neither used nor held.
func (b *translation) lowest(from allowed, used used) (netip.Addr, bool) {
	for _, s := range from.spans {
		for a := s.first; s.contains(a); a = a.Next() {
			switch {
			case used.by(a) != "":
				a = used.taken.Last(a)
			case b.Held == nil || !b.Held(a):
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// allowed returns where the address may come from.
func (b *translation) allowed(w wish) (allowed, *writer.Fault) {
	if w.pool != "" {
		return b.pool(w)
	}
	var names []string
	var out allowed
	if b.Place.Conflict != "" {
		return out, &writer.Fault{Reason: NoNetwork, Field: "status.loadBalancer", Msg: "namespace " + b.Place.Namespace + " gives no addresses: " + b.Place.Conflict}
	}
	for _, p := range b.Place.Ingress {
		names = append(names, p.String())
		first, last := writer.Hosts(p)
		out.spans = append(out.spans, span{first, last})
	}
	if len(names) == 0 {
		return out, &writer.Fault{Reason: PoolNotFound, Field: "status.loadBalancer", Msg: "namespace " + b.Place.Namespace + " has no ingress CIDRs (give its Supervisor or NamespaceNetwork some)"}
	}
	out.what = "the ingress CIDRs of namespace " + b.Place.Namespace + " (" + strings.Join(names, ", ") + ")"
	return out, nil
}

// poolsNamed returns the IpAddressPools with an id or display name.
func (b *translation) poolsNamed(name string) []intent.Object {
	return slices.DeleteFunc(slices.Clone(b.t.OfType("IpAddressPool")), func(o intent.Object) bool {
		m := o.Meta()
		return m.ID != name && m.DisplayName != name
	})
}

// pool returns the addresses of an IpAddressPool by its id or display name.
func (b *translation) pool(w wish) (allowed, *writer.Fault) {
	fault := func(reason, format string, args ...any) *writer.Fault {
		return &writer.Fault{Reason: reason, Field: w.field, Msg: w.pool + ": " + fmt.Sprintf(format, args...)}
	}
	found := b.poolsNamed(w.pool)
	switch {
	case len(found) == 0 && w.only:
		return allowed{}, fault(PoolNotFound, "is not the id or display name of an IpAddressPool")
	case len(found) == 0:
		return allowed{}, fault(PoolNotFound, "is neither an address nor the id or display name of an IpAddressPool")
	case len(found) > 1:
		return allowed{}, fault(PoolNotUnique, "is the id or display name of %d pools: %s and %s (want one)", len(found), found[0].Meta().Path, found[1].Meta().Path)
	}
	m := found[0].Meta()
	owners := []string{"cluster:" + b.Place.Cluster, "ns:" + b.Place.UID}
	if !slices.ContainsFunc(m.Tags, func(t intent.Tag) bool { return t.Scope == tagOwner && slices.Contains(owners, t.Tag) }) {
		return allowed{}, fault(PoolAccessDenied, "%s has no tag %s that lets this namespace use it (%s)", m.Path, tagOwner, strings.Join(owners, ", "))
	}
	out := allowed{what: "IpAddressPool " + m.Path}
	for _, subnet := range b.t.Children(m.Path, "") {
		spans, fact := subnetSpans(subnet.Meta())
		if fact != "" {
			return out, fault(PoolNotFound, "%s: %s", subnet.Meta().Path, fact)
		}
		out.spans = append(out.spans, spans...)
	}
	if len(out.spans) == 0 {
		return out, fault(PoolExhausted, "%s has no addresses (want an IpAddressPoolStaticSubnet with allocation_ranges)", m.Path)
	}
	slices.SortFunc(out.spans, func(x, y span) int { return x.first.Compare(y.first) })
	return out, nil
}

// subnetSpans returns the allocation_ranges of a static subnet of a pool, or a
// fact that is wrong with them. What is no static subnet has none. Source: NSX
// Policy API, schema IpAddressPoolStaticSubnet.
func subnetSpans(m *intent.Resource) (out []span, fact string) {
	list, _ := m.Extra["allocation_ranges"].([]any)
	for i, r := range list {
		row, _ := r.(map[string]any)
		first, errFirst := parseAddr(row["start"])
		last, errLast := parseAddr(row["end"])
		if errFirst != nil || errLast != nil || first.BitLen() != last.BitLen() || last.Less(first) {
			return nil, fmt.Sprintf("allocation_ranges[%d]: %v to %v: is not a range of addresses (such as start 10.1.0.10, end 10.1.0.20)", i, row["start"], row["end"])
		}
		out = append(out, span{first, last})
	}
	return out, ""
}

func parseAddr(v any) (netip.Addr, error) {
	s, _ := v.(string)
	return netip.ParseAddr(s)
}

// used is who has the addresses of a tree, without the Service's own.
type used struct {
	taken *writer.Taken
	self  store.Owner
	also  map[netip.Addr]string // what the Service itself uses otherwise
}

// used returns who has addresses. Cost that of writer.TakenIn, so it is asked
// only when an address is chosen.
func (b *translation) used() used {
	return used{taken: writer.TakenIn(b.t), self: b.owner(), also: map[netip.Addr]string{}}
}

// by returns who has an address; empty: nobody, or the Service.
func (u used) by(a netip.Addr) string {
	if by := u.also[a]; by != "" {
		return by
	}
	owner, is := u.taken.By(a)
	if !is || owner == u.self {
		return ""
	}
	if kind, key, _, ok := writer.ParseOwner(owner); ok {
		return kind + " " + strings.TrimPrefix(key.String(), "/")
	}
	return "an object that people made"
}
