package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	netv1 "k8s.io/api/networking/v1"
)

// block returns the addresses of an ipBlock without its exceptions; none if
// nothing is left. ok is false if it has no meaning.
func (d *draft) block(field string, block *netv1.IPBlock) (addresses []string, ok bool) {
	whole, err := parseCIDR(block.CIDR)
	if err != nil {
		d.find(field+".cidr", block.CIDR+": is not a CIDR (such as 10.1.0.0/24)")
		return nil, false
	}
	ok = true
	var except []netip.Prefix
	for i, s := range block.Except {
		p, err := parseCIDR(s)
		if err != nil {
			d.find(field+".except["+strconv.Itoa(i)+"]", s+": is not a CIDR (such as 10.1.0.0/28)")
			ok = false
			continue
		}
		except = append(except, p)
	}
	return remaining(whole, except), ok
}

// parseCIDR parses a CIDR as Kubernetes takes it: host bits and leading zeros of
// numbers mean nothing, and an IPv4 network written as IPv6 is IPv4.
func parseCIDR(s string) (netip.Prefix, error) {
	addr, bits, _ := strings.Cut(s, "/")
	if !strings.Contains(addr, ":") {
		parts := strings.Split(addr, ".")
		for i, p := range parts {
			parts[i] = strings.TrimLeft(p[:max(len(p)-1, 0)], "0") + p[max(len(p)-1, 0):]
		}
		addr = strings.Join(parts, ".")
	}
	p, err := netip.ParsePrefix(addr + "/" + bits)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// mapped is IPv4 written as IPv6: no packet carries it.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// remaining returns what is left of a prefix without others: the prefix itself
// if nothing is taken away, else ranges, in order.
func remaining(whole netip.Prefix, except []netip.Prefix) []string {
	except = slices.DeleteFunc(slices.Clone(except), func(p netip.Prefix) bool { return !p.Overlaps(whole) })
	if len(except) == 0 {
		return []string{whole.String()}
	}
	if whole.Overlaps(mapped) {
		except = append(except, mapped)
	}
	slices.SortFunc(except, func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
	var out []string
	next, end := whole.Addr(), lastAddr(whole)
	for _, p := range except {
		if next.Less(p.Addr()) {
			out = append(out, written(next, p.Addr().Prev()))
		}
		last := lastAddr(p)
		if !last.Less(end) {
			return out
		}
		if !last.Less(next) {
			next = last.Next()
		}
	}
	return append(out, written(next, end))
}

// written returns a range as groups write it.
func written(first, last netip.Addr) string {
	if first == last {
		return first.String()
	}
	return first.String() + "-" + last.String()
}

// lastAddr returns the last address of a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := p.Bits(); i < len(a)*8; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	out, _ := netip.AddrFromSlice(a)
	return out
}
