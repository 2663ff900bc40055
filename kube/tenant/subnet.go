package tenant

import (
	"net/netip"
	"strconv"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
)

// Capacity returns how many workloads a subnet has addresses for: all hosts but
// the gateway.
func Capacity(p netip.Prefix) int64 { return writer.CountHosts([]netip.Prefix{p}) - 1 }

// subnetOf returns the subnet of a segment that this package made; invalid: it
// has none.
func subnetOf(s *intent.Segment) netip.Prefix {
	for _, p := range s.Gateways() {
		return p.Masked()
	}
	return netip.Prefix{}
}

// gatewayOf returns the address of the gateway with the subnet's length.
func gatewayOf(p netip.Prefix) string {
	first, _ := writer.Hosts(p)
	return netip.PrefixFrom(first, p.Bits()).String()
}

// carver gives out the subnets of networks in which nothing of the tree has an
// address.
type carver struct {
	net   v1alpha1.Network
	exact map[netip.Prefix]bool // taken subnets of the wanted length
	other []netip.Prefix        // taken ones of other lengths, and single addresses
}

// newCarver returns the carver of a network. What the segments at the paths of
// skip have is free.
func newCarver(t *intent.Tree, net v1alpha1.Network, skip map[string]bool) *carver {
	c := &carver{net: net, exact: map[netip.Prefix]bool{}}
	for o := range t.EachOfType("Segment") {
		s := o.(*intent.Segment)
		if skip[s.Path] {
			continue
		}
		for _, p := range s.Gateways() {
			c.take(p.Masked())
		}
	}
	for a := range writer.EachUsed(t) {
		if p := netip.PrefixFrom(a, a.BitLen()); within(net.Namespaces, p) {
			c.take(p)
		}
	}
	return c
}

func (c *carver) take(p netip.Prefix) {
	if p.Bits() == c.net.SubnetPrefix {
		c.exact[p] = true
		return
	}
	c.other = append(c.other, p)
}

// next takes the lowest free subnet.
func (c *carver) next() (netip.Prefix, *writer.Fault) {
	p, ok := writer.LowestSubnet(c.net.Namespaces, c.net.SubnetPrefix, func(p netip.Prefix) netip.Prefix {
		if c.exact[p] {
			return p
		}
		for _, q := range c.other {
			if p.Overlaps(q) {
				return q
			}
		}
		return netip.Prefix{}
	})
	if !ok {
		return p, &writer.Fault{
			Reason: ReasonSubnetsExhausted, Field: v1alpha1.FieldNetworks,
			Msg: list(c.net.Namespaces) + ": has no free /" + strconv.Itoa(c.net.SubnetPrefix) + " (extend it, or delete namespaces)",
		}
	}
	c.take(p)
	return p, nil
}

// portsOf returns the ports of a segment.
func portsOf(t *intent.Tree, segment string) []*intent.SegmentPort {
	return intent.List[*intent.SegmentPort](t, segment)
}
