package intent

import (
	"net/netip"
	"strconv"
	"strings"
)

// fault is a text that does not mean what its field wants.
type fault struct {
	kind  Kind
	value string
	fact  string
}

// Error returns `value: fact`.
func (f *fault) Error() string { return shown(f.value) + ": " + f.fact }

// shown returns a value as messages show it: an empty one as "".
func shown(v string) string {
	if v == "" || strings.ContainsAny(v, "\n\t\x00") {
		return strconv.Quote(v)
	}
	return v
}

// must returns v; it panics if a text of a validated object does not parse,
// which only an object that never passed Tree.Apply can cause.
func must[T any](v T, f *fault) T {
	if f != nil {
		panic("intent: object was not validated: " + f.Error())
	}
	return v
}

// parseAddr parses an address without a zone, unmapped.
func parseAddr(s string) (netip.Addr, *fault) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, &fault{BadAddress, s, "is not an address (such as 10.1.0.5)"}
	}
	return a.Unmap(), nil
}

// parseNetwork parses an address or a CIDR; host bits are masked away.
func parseNetwork(s string) (netip.Prefix, *fault) {
	if !strings.Contains(s, "/") {
		if strings.Contains(s, "-") {
			return netip.Prefix{}, &fault{RangeNotAllowed, s, "is a range (want an address or a CIDR such as 10.1.0.0/24)"}
		}
		a, f := parseAddr(s)
		if f != nil {
			return netip.Prefix{}, &fault{BadAddress, s, "is no address and no CIDR (such as 10.1.0.5 or 10.1.0.0/24)"}
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, f := parseCIDR(s)
	return p.Masked(), f
}

// parseCIDR parses an address with a prefix length and keeps its host bits.
func parseCIDR(s string) (netip.Prefix, *fault) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, &fault{BadAddress, s, "is not a CIDR (such as 10.1.0.0/24)"}
	}
	return p, nil
}

// parseNetworks parses a comma separated list; nil means any.
func parseNetworks(s string) ([]netip.Prefix, *fault) {
	if isAnyText(s) {
		return nil, nil
	}
	var out []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		p, f := parseNetwork(strings.TrimSpace(part))
		if f != nil {
			return nil, f
		}
		out = append(out, p)
	}
	return out, nil
}

// isAnyText reports whether a NAT network means every address.
func isAnyText(s string) bool { return s == "" || strings.EqualFold(s, "ANY") }

// parseAddresses parses an address, a CIDR or a range a-b into prefixes.
func parseAddresses(s string) ([]netip.Prefix, *fault) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		p, f := parseNetwork(s)
		if f != nil {
			return nil, &fault{BadAddress, s, "is no address, CIDR or range (such as 10.1.0.5, 10.1.0.0/24 or 10.1.0.5-10.1.0.9)"}
		}
		return []netip.Prefix{p}, nil
	}
	a, f1 := parseAddr(strings.TrimSpace(first))
	b, f2 := parseAddr(strings.TrimSpace(last))
	if f1 != nil || f2 != nil || a.BitLen() != b.BitLen() || b.Less(a) {
		return nil, &fault{BadAddress, s, "is not a range (first and last address of one family, such as 10.1.0.5-10.1.0.9)"}
	}
	return rangePrefixes(a, b), nil
}

// rangePrefixes returns the fewest prefixes that cover a to b exactly, in
// order. a and b have one family and a is not after b.
func rangePrefixes(a, b netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for {
		bits := a.BitLen()
		for bits > 0 {
			p := netip.PrefixFrom(a, bits-1)
			if p.Masked().Addr() != a || b.Less(lastAddr(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(a, bits)
		out = append(out, p)
		a = lastAddr(p).Next()
		if !a.IsValid() || b.Less(a) {
			return out
		}
	}
}

// lastAddr returns the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// parseHost parses a router's address with its subnet's length: not the
// subnet's network or broadcast address.
func parseHost(s string) (netip.Prefix, *fault) {
	p, f := parseCIDR(s)
	if f != nil {
		return p, &fault{BadAddress, s, "is no address with a prefix length (such as 10.1.0.1/24)"}
	}
	a := p.Addr()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return p, &fault{NotAHost, s, "is not a unicast address (want a host address such as 10.1.0.1/24)"}
	}
	if p.Bits() == 0 {
		return p, &fault{BadAddress, s, "has no prefix length (such as 10.1.0.1/24)"}
	}
	if fact := reserved(a, p); fact != "" {
		example := netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits())
		return p, &fault{NotAHost, s, fact + " (want a host address such as " + example.String() + ")"}
	}
	return p, nil
}

// reserved says why a cannot be a host's address in the subnet p; empty: it
// can. Source: RFC 1122 §3.2.1.3, RFC 3021, RFC 4291 §2.6.1.
func reserved(a netip.Addr, p netip.Prefix) string {
	switch {
	case p.Bits() >= a.BitLen()-1:
		return ""
	case p.Masked().Addr() == a:
		return "is a network address"
	case a.Is4() && lastAddr(p) == a:
		return "is a broadcast address"
	}
	return ""
}

// parseMAC parses six octets in hex, separated by colons or dashes.
func parseMAC(s string) (MAC, *fault) {
	bad := &fault{BadMAC, s, "is not a MAC address (such as 02:00:00:00:00:01)"}
	var m MAC
	if len(s) != 17 {
		return m, bad
	}
	for i := range m {
		v, err := strconv.ParseUint(s[3*i:3*i+2], 16, 8)
		if err != nil || i < 5 && (s[3*i+2] != s[2] || s[2] != ':' && s[2] != '-') {
			return MAC{}, bad
		}
		m[i] = byte(v)
	}
	if m[0]&1 != 0 || m == (MAC{}) {
		return MAC{}, &fault{BadMAC, s, "is not a unicast MAC address (such as 02:00:00:00:00:01)"}
	}
	return m, nil
}

// parsePorts parses 80 or 80-90.
func parsePorts(s string) (first, last uint16, f *fault) {
	bad := &fault{BadPort, s, "is not a port or a port range (0 to 65535, such as 80 or 8000-8080)"}
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	x, ok1 := parsePort(a)
	y, ok2 := parsePort(b)
	if !ok1 || !ok2 || y < x {
		return 0, 0, bad
	}
	return x, y, nil
}

func parsePort(s string) (uint16, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(s, 10, 16)
	return uint16(v), err == nil
}
