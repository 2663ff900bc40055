package oracle

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
)

// natRules returns the rules of a router that work, in the order in which they
// apply. NSX evaluates the sections INTERNAL, USER, DEFAULT one after the
// other, in each by sequence_number; it leaves ties open, here NO_SNAT and
// NO_DNAT go first, then paths.
func (o *Oracle) natRules(router string) []*intent.PolicyNatRule {
	rules, known := o.nats[router]
	if known {
		return rules
	}
	rules = slices.DeleteFunc(every[*intent.PolicyNatRule](o.tree, "PolicyNatRule"), func(r *intent.PolicyNatRule) bool {
		return r.RouterPath() != router || !r.IsEnabled() || !o.realizable(r)
	})
	section := func(r *intent.PolicyNatRule) int {
		return slices.Index([]string{"INTERNAL", "USER", "DEFAULT"}, r.Section())
	}
	exempt := func(r *intent.PolicyNatRule) int {
		return slices.Index([]bool{true, false}, strings.HasPrefix(r.Action, "NO_"))
	}
	slices.SortFunc(rules, func(a, b *intent.PolicyNatRule) int {
		return cmp.Or(cmp.Compare(section(a), section(b)), cmp.Compare(a.SequenceNumber, b.SequenceNumber),
			cmp.Compare(exempt(a), exempt(b)), strings.Compare(a.Path, b.Path))
	})
	o.nats[router] = rules
	return rules
}

// realizable reports whether a rule can match anything: a port range cannot be
// what a port is translated to.
func (o *Oracle) realizable(r *intent.PolicyNatRule) bool {
	return r.Service == "" || slices.ContainsFunc(o.tree.ServiceMatches(r.Service), func(s intent.ServiceMatch) bool {
		return r.TranslatedPorts == "" || s.First == s.Last || s.Proto != protoTCP && s.Proto != protoUDP
	})
}

// natPrefixes returns the addresses that a router has for NAT alone: those it
// translates sources to, and those whose destinations it translates.
func (o *Oracle) natPrefixes(router string) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range o.natRules(router) {
		switch r.Action {
		case "SNAT", "REFLEXIVE":
			out = append(out, r.Translated())
		case "DNAT":
			out = append(out, r.Destinations()...)
		}
	}
	return out
}

// half is a NAT rule in one direction. Nil src or dst is any.
type half struct {
	src, dst []netip.Prefix
	to       netip.Prefix
	matched  []netip.Prefix // what is translated
}

// outward returns the part of a rule for packets that leave upwards. REFLEXIVE
// translates the source there and the destination on the way in.
func outward(r *intent.PolicyNatRule) (half, bool) {
	switch r.Action {
	case "SNAT", "NO_SNAT", "REFLEXIVE":
		return half{src: r.Sources(), dst: r.Destinations(), to: r.Translated(), matched: r.Sources()}, true
	}
	return half{}, false
}

// inward returns the part of a rule for packets that come from above.
func inward(r *intent.PolicyNatRule) (half, bool) {
	switch r.Action {
	case "DNAT", "NO_DNAT":
		return half{src: r.Sources(), dst: r.Destinations(), to: r.Translated(), matched: r.Destinations()}, true
	case "REFLEXIVE":
		outside := []netip.Prefix{r.Translated()}
		return half{dst: outside, to: r.Sources()[0], matched: outside}, true
	}
	return half{}, false
}

// natRule returns the first rule that matches the packet, of those that have a
// part in the direction. iface is the uplink that the packet uses. port is the
// new destination port; 0: it stays.
func (o *Oracle) natRule(router, iface string, p Packet, part func(*intent.PolicyNatRule) (half, bool)) (r *intent.PolicyNatRule, h half, port uint16) {
	for _, r := range o.natRules(router) {
		h, ok := part(r)
		if !ok || len(r.Scope) > 0 && !slices.Contains(r.Scope, iface) || !covers(h.src, p.Src) || !covers(h.dst, p.Dst) {
			continue
		}
		if port, ok := o.natService(r, p); ok {
			return r, h, port
		}
	}
	return nil, half{}, 0
}

// natService reports whether the packet is of a rule's service, and the port
// that it is translated to. In a DNAT with translated_ports that is what the
// packet has, and the service's port is the new one: the smallest if it has
// several; ranges have none. Source: NSX Policy API, schema PolicyNatRule.
func (o *Oracle) natService(r *intent.PolicyNatRule, p Packet) (port uint16, ok bool) {
	if r.Service == "" {
		return 0, true
	}
	services := o.tree.ServiceMatches(r.Service)
	if r.TranslatedPorts == "" || p.Proto != protoTCP && p.Proto != protoUDP {
		return 0, served(services, p)
	}
	for _, s := range services {
		if s.Proto == p.Proto && s.First == s.Last && (!ok || s.First < port) && p.DstPort == r.TranslatedPort() {
			port, ok = s.First, true
		}
	}
	return port, ok
}

func covers(list []netip.Prefix, a netip.Addr) bool {
	return list == nil || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// maxTranslations bounds the translations of one address on one way. Source:
// docs/pipeline.md, "Bounds".
const maxTranslations = 2

// translateDestination applies DNAT; false: the packet was dropped.
func (w *walk) translateDestination(v visit) bool {
	r, h, port := w.o.natRule(v.path, v.from, w.now, inward)
	if r == nil || r.Action == "NO_DNAT" {
		return true
	}
	if w.dstTimes++; w.dstTimes > maxTranslations {
		w.drop("nat_depth")
		return false
	}
	w.now.Dst, w.v.DstSeenPool = h.pick(w.now.Dst)
	if port != 0 {
		w.now.DstPort = port
	}
	return true
}

// translateSource applies SNAT; false: the packet was dropped.
func (w *walk) translateSource(router, iface string) bool {
	r, h, _ := w.o.natRule(router, iface, w.now, outward)
	if r == nil || r.Action == "NO_SNAT" {
		return true
	}
	if w.srcTimes++; w.srcTimes > maxTranslations {
		w.drop("nat_depth")
		return false
	}
	w.now.Src, w.v.SrcSeenPool = h.pick(w.now.Src)
	return true
}

// pick returns the translated address, and the pool if there was a choice. NSX
// uses a CIDR as a pool with its first and last address too; one of the size of
// the network that is translated maps one to one.
func (h half) pick(a netip.Addr) (netip.Addr, netip.Prefix) {
	size := uint64(1) << (32 - h.to.Bits())
	if size == 1 {
		return h.to.Addr(), netip.Prefix{}
	}
	for _, p := range h.matched {
		if !p.Contains(a) {
			continue
		}
		if p.Bits() == h.to.Bits() {
			return plus(h.to.Addr(), number(a)-number(p.Addr())), netip.Prefix{}
		}
		break
	}
	return plus(h.to.Addr(), uint64(hash(words(a)...))%size), h.to
}

// number returns an IPv4 address as a number.
func number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(binary.BigEndian.Uint32(b[:]))
}

func plus(a netip.Addr, n uint64) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(number(a)+n))
	return netip.AddrFrom4(b)
}
