package v1alpha1

import (
	"net/netip"
	"slices"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// shown quotes what is empty, so that a message shows it.
func shown(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// indexed returns field[i].
func indexed(field string, i int) string { return field + "[" + itoa(i) + "]" }

func nonEmpty(c CIDR) []CIDR {
	if c == "" {
		return nil
	}
	return []CIDR{c}
}

func single(p netip.Prefix) []netip.Prefix {
	if !p.IsValid() {
		return nil
	}
	return []netip.Prefix{p}
}

// join returns the prefixes of a, then those of b that a has not.
func join(a, b []netip.Prefix) []netip.Prefix {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
