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
	exact    bool           // one to one also if it is one address
}

// outward returns the part of a rule for packets that leave upwards. REFLEXIVE
// translates the source there and the destination on the way in.
func outward(r *intent.PolicyNatRule) (half, bool) {
	switch r.Action {
	case "SNAT", "NO_SNAT", "REFLEXIVE":
		return half{src: r.Sources(), dst: r.Destinations(), to: r.Translated(), matched: r.Sources(), exact: r.Action == "REFLEXIVE"}, true
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

// inwards applies DNAT and the gateway firewall to what comes from above;
// false: the packet was dropped.
func (w *walk) inwards(v visit) bool {
	r, h, port := w.o.natRule(v.path, v.from, w.at, inward)
	outside := w.at
	if r != nil && r.Action != "NO_DNAT" {
		if w.dsts++; w.dsts > maxTranslations {
			w.drop("nat_depth")
			return false
		}
		w.at.Dst, w.v.DstSeenPool, _ = h.pick(w.at.Dst)
		if port != 0 {
			w.at.DstPort = port
		}
	}
	return w.guard(v.path, v.from, false, r, outside)
}

// outwards applies the gateway firewall and SNAT to what leaves upwards, by an
// interface if the router is a Tier-0; false: the packet was dropped. Replies
// pass, and so does what a virtual server of this router sends.
func (w *walk) outwards(router, iface string) bool {
	if w.mode == back || w.atVIP == router {
		return true
	}
	if own, ok := w.askedFrom(router, iface); ok {
		w.block, w.exact = true, false
		return w.translateSource(own)
	}
	r, h, _ := w.o.natRule(router, iface, w.at, outward)
	outside, exact := w.at, false
	var pool netip.Prefix
	translates := r != nil && r.Action != "NO_SNAT"
	if translates {
		outside.Src, pool, exact = h.pick(w.at.Src)
	}
	if !w.guard(router, iface, true, r, outside) {
		return false
	}
	if !translates {
		return true
	}
	if !w.translateSource(outside.Src) {
		return false
	}
	w.v.SrcSeenPool, w.block, w.exact = pool, !exact, exact
	return true
}

// translateSource gives the packet another source; false: it was one too many.
func (w *walk) translateSource(a netip.Addr) bool {
	if len(w.sources) == maxTranslations {
		w.drop("nat_depth")
		return false
	}
	w.sources = append(w.sources, w.at.Src)
	w.at.Src = a
	return true
}

// pick returns the translated address, the pool if there was a choice, and
// whether each address has its own. NSX uses a CIDR as a pool with its first
// and last address too; one of the size of the network that is translated maps
// one to one.
func (h half) pick(a netip.Addr) (to netip.Addr, pool netip.Prefix, exact bool) {
	size := uint64(1) << (32 - h.to.Bits())
	if size == 1 {
		return h.to.Addr(), netip.Prefix{}, h.exact
	}
	for _, p := range h.matched {
		if !p.Contains(a) {
			continue
		}
		if p.Bits() == h.to.Bits() {
			return plus(h.to.Addr(), number(a)-number(p.Addr())), netip.Prefix{}, true
		}
		break
	}
	return plus(h.to.Addr(), uint64(hash(words(a)...))%size), h.to, false
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
