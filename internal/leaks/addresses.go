package leaks

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// claim is an address that an object has.
type claim struct {
	by    intent.Object
	owner string // who may have the address by other objects too
}

// addresses finds addresses that two have, and those outside of their ranges.
func (c *check) addresses() {
	taken, macs := map[netip.Addr]claim{}, map[string]string{}
	take := func(a netip.Addr, o intent.Object, owner string) {
		if had, ok := taken[a]; ok && (had.owner != owner || owner == "") {
			c.add(o.Meta().Path, "address", "%s: is that of %s too", a, had.by.Meta().Path)
		}
		taken[a] = claim{o, owner}
	}
	servers := map[string]string{}
	for _, o := range c.Intent {
		owner := string(store.OwnerOf(o))
		switch v := o.(type) {
		case *intent.SegmentPort:
			for _, b := range v.Bindings() {
				take(b.Addr, o, "")
				if mac := net.HardwareAddr(b.MAC[:]).String(); macs[mac] != "" && macs[mac] != v.Path {
					c.add(v.Path, "mac_address", "%s: is that of %s too", mac, macs[mac])
				} else {
					macs[mac] = v.Path
				}
			}
		case *intent.LBVirtualServer:
			take(v.Address(), o, owner)
			for _, port := range v.Ports {
				key := v.IPAddress + " " + port + " " + v.LBServicePath + " " + v.ApplicationProfilePath
				if servers[key] != "" {
					c.add(v.Path, "ports", "%s: %s has it too", port, servers[key])
				}
				servers[key] = v.Path
			}
			c.serverRange(v, owner)
		case *intent.PolicyNatRule:
			if p := v.Translated(); v.Action == "SNAT" && p.IsValid() {
				take(p.Addr(), o, "")
				c.natRange(v, p.Addr(), owner)
			}
		}
	}
}

// serverRange finds a virtual server's address that is neither of a range nor of
// an IpAddressPool, unless its Service says that it stays where it is.
func (c *check) serverRange(v *intent.LBVirtualServer, owner string) {
	r := c.ranges(owner, func(s Spec) []string { return append([]string{s.ServiceCIDR}, s.IngressCIDRs...) })
	if !inside(r, v.Address()) && !c.ofPool(v.Address()) && !c.said(owner, v.Address()) {
		c.add(v.Path, "ip_address", "%s: is in none of the service and ingress CIDRs and IpAddressPools", v.IPAddress)
	}
}

// natRange is serverRange for an address that sources become: of a namespace, or
// of a Service's pods.
func (c *check) natRange(r *intent.PolicyNatRule, a netip.Addr, owner string) {
	if o := c.live[owner]; o != nil && o.Kind == "Service" {
		if !c.ofPool(a) && !c.said(owner, a) {
			c.add(r.Path, "translated_network", "%s: is in none of the IpAddressPools", a)
		}
		return
	}
	if !inside(c.ranges(owner, func(s Spec) []string { return s.EgressCIDRs }), a) && !c.busy(r.RouterPath()) {
		c.add(r.Path, "translated_network", "%s: is in none of the egress CIDRs, and nothing uses it", a)
	}
}

// ofPool reports whether an IpAddressPool has an address.
// Source: NSX Policy API, schema IpAddressPoolStaticSubnet.
func (c *check) ofPool(a netip.Addr) bool {
	for _, o := range c.Intent {
		m := o.Meta()
		if !strings.HasPrefix(m.Path, "/infra/ip-pools/") {
			continue
		}
		list, _ := m.Extra["allocation_ranges"].([]any)
		for _, r := range list {
			row, _ := r.(map[string]any)
			start, _ := row["start"].(string)
			end, _ := row["end"].(string)
			first, err := netip.ParseAddr(start)
			last, bad := netip.ParseAddr(end)
			if err == nil && bad == nil && first.Compare(a) <= 0 && a.Compare(last) <= 0 {
				return true
			}
		}
	}
	return false
}

// said reports whether an owner's conditions say that it keeps an address.
func (c *check) said(owner string, a netip.Addr) bool {
	o := c.live[owner]
	return o != nil && slices.ContainsFunc(o.Status.Conditions, func(cond Condition) bool {
		return strings.Contains(" "+cond.Message, " "+a.String()+" stays in use")
	})
}

// ranges returns what the Supervisor and the owner's NamespaceNetwork have in a
// field; of intent that people own all is allowed.
func (c *check) ranges(owner string, field func(Spec) []string) []netip.Prefix {
	o := c.live[owner]
	if o == nil {
		return prefixesOf("0.0.0.0/0", "::/0")
	}
	namespace := cmp.Or(o.Metadata.Namespace, o.Metadata.Name)
	var out []netip.Prefix
	for i := range c.Live {
		if l := &c.Live[i]; l.Kind == "Supervisor" || l.Kind == "NamespaceNetwork" && l.Metadata.Name == namespace {
			out = append(out, prefixesOf(field(l.Spec)...)...)
		}
	}
	return out
}

func inside(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// busy reports whether there is a port behind a gateway.
func (c *check) busy(router string) bool {
	for _, o := range c.Intent {
		if s, ok := o.(*intent.Segment); ok && s.RouterPath() == router && c.portsOn(s.Path) > 0 {
			return true
		}
	}
	return false
}

func (c *check) portsOn(segment string) (n int) {
	for _, o := range c.Intent {
		if p, ok := o.(*intent.SegmentPort); ok && p.SegmentPath() == segment {
			n++
		}
	}
	return n
}

// segments finds subnets that overlap or are outside of the networks, and ports
// whose address is not on their segment.
func (c *check) segments() {
	type subnet struct {
		prefix netip.Prefix
		path   string
	}
	var all []subnet
	gateways := map[string][]netip.Prefix{}
	for _, o := range c.Intent {
		s, ok := o.(*intent.Segment)
		if !ok {
			continue
		}
		gateways[s.Path] = s.Gateways()
		for _, g := range s.Gateways() {
			all = append(all, subnet{g.Masked(), s.Path})
			r := c.ranges(string(store.OwnerOf(o)), func(s Spec) []string { return s.NamespaceNetworkCIDRs })
			if !inside(r, g.Addr()) && c.portsOn(s.Path) == 0 {
				c.add(s.Path, "subnets", "%s: is in none of the namespace networks, and nothing uses it", g.Masked())
			}
		}
	}
	slices.SortFunc(all, func(a, b subnet) int { return a.prefix.Compare(b.prefix) })
	for i := 1; i < len(all); i++ {
		if all[i].prefix.Overlaps(all[i-1].prefix) {
			c.add(all[i].path, "subnets", "%s: overlaps %s of %s", all[i].prefix, all[i-1].prefix, all[i-1].path)
		}
	}
	for _, o := range c.Intent {
		p, ok := o.(*intent.SegmentPort)
		if !ok {
			continue
		}
		for _, b := range p.Bindings() {
			on := slices.ContainsFunc(gateways[p.SegmentPath()], func(g netip.Prefix) bool { return g.Masked().Contains(b.Addr) && g.Addr() != b.Addr })
			if !on {
				c.add(p.Path, "address_bindings", "%s: is no address for a workload of %s", b.Addr, p.SegmentPath())
			}
		}
	}
}

// rules finds rule ids that two rules have.
func (c *check) rules() {
	ids := map[int64]string{}
	for _, o := range c.Intent {
		r, ok := o.(*intent.Rule)
		if !ok || r.RuleID == 0 {
			continue
		}
		if ids[r.RuleID] != "" {
			c.add(r.Path, "rule_id", "%d: is that of %s too", r.RuleID, ids[r.RuleID])
		}
		ids[r.RuleID] = r.Path
	}
}
