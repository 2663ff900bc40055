package compile

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/intent"
)

// transit is what a Tier-0's links are taken from: the /31s of its transit
// subnets, numbered in order.
type transit struct {
	subnets []netip.Prefix // IPv4, sorted, disjoint, /31 or shorter
	size    uint64
}

// link joins a Tier-1 to its Tier-0 by a /31.
type link struct {
	tier0 string
	up    netip.Addr // the Tier-0's end, even
	down  netip.Addr // the Tier-1's end, odd
}

func (x *run) buildTransit(tier0 string) any {
	t, ok := object[*intent.Tier0](x, tier0)
	if !ok {
		return nil
	}
	var out transit
	for _, p := range disjoint(t.Transit()) {
		if p.Addr().Is4() && p.Bits() <= 31 {
			out.subnets = append(out.subnets, p)
			out.size += 1 << (31 - p.Bits())
		}
	}
	out.size = min(out.size, math.MaxUint32)
	return out
}

// at returns the first address of the slot's /31.
func (t transit) at(slot uint64) netip.Addr {
	for _, p := range t.subnets {
		if n := uint64(1) << (31 - p.Bits()); slot >= n {
			slot -= n
			continue
		}
		a := p.Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(2*slot))
		return netip.AddrFrom4(a)
	}
	panic("compile: link outside of the transit subnets")
}

// pool returns the name of the pool of these links. The subnets are part of
// it: other subnets are another pool.
func (t transit) pool(tier0 string) string {
	name := poolTransit + tier0
	for _, p := range t.subnets {
		name += " " + p.String()
	}
	return name
}

// Source: NSX-T, transit subnets of a Tier-0: each Tier-1 has a /31 whose even
// address is the Tier-0's; the order of the /31s means nothing.
func (x *run) buildLink(tier1 string) any {
	t1, ok := object[*intent.Tier1](x, tier1)
	if !ok || t1.Tier0Path == "" {
		return nil
	}
	t, ok := x.value(ref{factTransit, t1.Tier0Path, ""}).(transit)
	if !ok {
		return nil
	}
	pool := t.pool(t1.Tier0Path)
	x.c.transits[pool] = t.size
	slot, ok := x.slot(pool, tier1, 0)
	if !ok {
		x.warn(tier1, "tier0_path", intent.Conflict, t1.Tier0Path+": has no free link for this Tier-1 (add transit_subnets: "+subnetList(t.subnets)+" are used up)")
		return nil
	}
	up := t.at(slot)
	return &link{tier0: t1.Tier0Path, up: up, down: up.Next()}
}

func subnetList(subnets []netip.Prefix) string {
	var out []string
	for _, p := range subnets {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
