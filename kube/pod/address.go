package pod

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/writer"
)

// allocate returns an address of each family that a segment has, all of one
// segment: first what the Pod asks for.
func (b *translation) allocate(wish netip.Addr) (*intent.Segment, []netip.Addr, *writer.Fault) {
	if wish.IsValid() {
		return b.static(wish)
	}
	for _, ip := range b.Pod.Status.PodIPs { // of a port that was lost
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			if s, addrs, f := b.static(a); f == nil {
				return s, addrs, nil
			}
		}
	}
	for _, held := range []bool{false, true} {
		for _, s := range b.segments {
			if addrs := b.lowest(s, netip.Addr{}, held); addrs != nil {
				return s, addrs, nil
			}
		}
	}
	return nil, nil, &writer.Fault{Reason: Exhausted, Msg: "namespace " + b.Pod.Namespace + ": no address is free in its segments (" + b.subnets() + "); the pod waits for the next one (see the conditions of the Namespace)"}
}

// static returns an address that is asked for, and those of other families
// beside it.
func (b *translation) static(wish netip.Addr) (*intent.Segment, []netip.Addr, *writer.Fault) {
	fault := func(reason, fact string) *writer.Fault {
		return &writer.Fault{Reason: reason, Field: wishField, Msg: wish.String() + ": " + fact}
	}
	for _, s := range b.segments {
		for _, gateway := range s.Gateways() {
			if !gateway.Contains(wish) {
				continue
			}
			if !isHost(gateway, wish) {
				return nil, nil, fault(AddressInvalid, "is the gateway, network or broadcast address of "+gateway.Masked().String()+" (want another of it)")
			}
			if by := b.used(s)[wish]; by != nil {
				return nil, nil, fault(AddressInUse, "is already used by "+by.Name()+" ("+by.Path+")")
			}
			if addrs := b.lowest(s, wish, true); addrs != nil {
				return s, addrs, nil
			}
		}
	}
	return nil, nil, fault(AddressOutside, "is in none of the segments of namespace "+b.Pod.Namespace+" ("+b.subnets()+")")
}

// lowest returns the lowest free address of each family that a segment has, or
// nil; held ones too if held. Of its family, wish is taken as it is.
func (b *translation) lowest(s *intent.Segment, wish netip.Addr, held bool) []netip.Addr {
	used := b.used(s)
	free := func(a netip.Addr) bool {
		return used[a] == nil && (held || b.Held == nil || !b.Held(a)) && (b.Claimed == nil || !b.Claimed(a))
	}
	var out []netip.Addr
	for _, is4 := range []bool{true, false} {
		wanted, found := false, netip.Addr{}
		for _, gateway := range s.Gateways() {
			if gateway.Addr().Is4() != is4 {
				continue
			}
			wanted = true
			if wish.IsValid() && wish.Is4() == is4 {
				found = wish
			}
			for a := gateway.Masked().Addr(); !found.IsValid() && gateway.Contains(a); a = a.Next() {
				if isHost(gateway, a) && free(a) {
					found = a
				}
			}
		}
		if wanted && !found.IsValid() {
			return nil
		}
		if wanted {
			out = append(out, found)
		}
	}
	return out
}

// used returns the ports of a segment by address.
func (b *translation) used(s *intent.Segment) map[netip.Addr]*intent.SegmentPort {
	out := map[netip.Addr]*intent.SegmentPort{}
	for _, o := range b.t.Children(s.Path, "SegmentPort") {
		if port, ok := o.(*intent.SegmentPort); ok {
			for _, binding := range port.Bindings() {
				out[binding.Addr] = port
			}
		}
	}
	return out
}

// mac returns the MAC address for an address: NCP's prefix and the address's
// last three bytes, so that whoever gets the address next is the same station to
// its neighbours. Where a port of the segment has it already, the next.
func (b *translation) mac(s *intent.Segment, a netip.Addr) string {
	used := map[intent.MAC]bool{}
	for _, port := range b.used(s) {
		for _, binding := range port.Bindings() {
			used[binding.MAC] = true
		}
	}
	bytes := a.AsSlice()
	last := bytes[len(bytes)-3:]
	m := intent.MAC{0x04, 0x50, 0x56, last[0], last[1], last[2]}
	for used[m] {
		for i := 5; i > 2; i-- {
			if m[i]++; m[i] != 0 {
				break
			}
		}
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// isHost reports whether a pod can have an address of the gateway's subnet.
func isHost(gateway netip.Prefix, a netip.Addr) bool {
	if a == gateway.Addr() || !gateway.Contains(a) {
		return false
	}
	if gateway.Bits() >= a.BitLen()-1 {
		return true
	}
	last := a.Is4() && !gateway.Contains(a.Next())
	return a != gateway.Masked().Addr() && !last
}

// firstHost returns the first address of a segment for a pod.
func firstHost(s *intent.Segment) netip.Addr {
	for _, gateway := range s.Gateways() {
		for a := gateway.Masked().Addr(); gateway.Contains(a); a = a.Next() {
			if isHost(gateway, a) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// subnets returns the subnets of the namespace's segments for people.
func (b *translation) subnets() string {
	const most = 4
	var out []string
	for _, s := range b.segments {
		for _, gateway := range s.Gateways() {
			out = append(out, gateway.Masked().String())
		}
	}
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}
