package compile

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
)

// overlap knows which domains share addresses. A domain is a router with the
// subnets of all its segments, the ports' addresses outside of those, and, if
// it is a gateway, its NAT addresses and VIPs; or a segment that has no router.
type overlap struct {
	table   bart.Table[[]string] // subnet → its domains
	subnets map[string][]netip.Prefix
	marked  func(domain string) // called for domains whose answer may be another now
}

func newOverlap(marked func(string)) *overlap {
	return &overlap{subnets: map[string][]netip.Prefix{}, marked: marked}
}

// add gives the domain a subnet that it does not have yet.
func (o *overlap) add(domain string, p netip.Prefix) {
	o.table.Modify(p, func(have []string, _ bool) ([]string, bool) {
		return append(slices.Clone(have), domain), false
	})
	o.subnets[domain] = append(o.subnets[domain], p)
	o.tell(domain, p)
}

// remove takes a subnet from the domain.
func (o *overlap) remove(domain string, p netip.Prefix) {
	o.table.Modify(p, func(have []string, _ bool) ([]string, bool) {
		have = slices.DeleteFunc(slices.Clone(have), func(d string) bool { return d == domain })
		return have, len(have) == 0
	})
	o.subnets[domain] = slices.DeleteFunc(o.subnets[domain], func(q netip.Prefix) bool { return p == q })
	if len(o.subnets[domain]) == 0 {
		delete(o.subnets, domain)
	}
	o.tell(domain, p)
}

// tell marks the domain and all others that share addresses with p.
func (o *overlap) tell(domain string, p netip.Prefix) {
	o.marked(domain)
	for _, domains := range o.near(p) {
		for _, d := range domains {
			if d != domain {
				o.marked(d)
			}
		}
	}
}

// near yields the subnets that share addresses with p, some of them twice, and
// their domains.
func (o *overlap) near(p netip.Prefix) iter.Seq2[netip.Prefix, []string] {
	return func(yield func(netip.Prefix, []string) bool) {
		for _, side := range []iter.Seq2[netip.Prefix, []string]{o.table.Supernets(p), o.table.Subnets(p)} {
			for q, domains := range side {
				if !yield(q, domains) {
					return
				}
			}
		}
	}
}

// shared returns the addresses of the domain that other domains have too, as
// disjoint prefixes in order.
func (o *overlap) shared(domain string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range o.subnets[domain] {
		for q, domains := range o.near(p) {
			if !slices.ContainsFunc(domains, func(d string) bool { return d != domain }) {
				continue
			}
			if p.Bits() > q.Bits() {
				q = p
			}
			out = append(out, q)
		}
	}
	return disjoint(out)
}
