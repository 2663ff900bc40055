package writer

import (
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// Hosts returns the first and last address of a range that hosts can have:
// without network and broadcast address, unless it is of one or two addresses.
func Hosts(p netip.Prefix) (first, last netip.Addr) {
	p = p.Masked()
	first, last = p.Addr(), lastOf(p)
	if p.Addr().BitLen()-p.Bits() < 2 {
		return first, last
	}
	return first.Next(), last.Prev()
}

// lastOf returns the last address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// CountHosts returns how many addresses the ranges have for hosts, up to
// 1<<62.
func CountHosts(ranges []netip.Prefix) int64 {
	var n int64
	for _, p := range ranges {
		bits := p.Addr().BitLen() - p.Bits()
		switch {
		case bits >= 62:
			return 1 << 62
		case bits < 2:
			n += 1 << bits
		default:
			n += 1<<bits - 2
		}
	}
	return min(n, 1<<62)
}

// Lowest returns the first address of the ranges, in their order, that is not
// taken; false: all are. taken reports whether an address is, and the last one of
// those behind it that are, too. Cost O(calls of taken for what is before it).
func Lowest(ranges []netip.Prefix, taken func(netip.Addr) (last netip.Addr, is bool)) (netip.Addr, bool) {
	for _, p := range ranges {
		a, end := Hosts(p)
		for a.IsValid() && a.Compare(end) <= 0 {
			last, is := taken(a)
			if !is {
				return a, true
			}
			a = last.Next()
		}
	}
	return netip.Addr{}, false
}

// LowestSubnet returns the first subnet of the networks, in their order, that
// overlaps nothing; false: all do. overlaps returns something of those taken
// that overlaps a prefix, or an invalid one.
func LowestSubnet(networks []netip.Prefix, bits int, overlaps func(netip.Prefix) netip.Prefix) (netip.Prefix, bool) {
	for _, n := range networks {
		for a := n.Masked().Addr(); a.IsValid() && n.Contains(a); {
			p := netip.PrefixFrom(a, bits).Masked()
			in := overlaps(p)
			if !in.IsValid() {
				return p, true
			}
			if in.Bits() > bits {
				in = p
			}
			a = lastOf(in.Masked()).Next()
		}
	}
	return netip.Prefix{}, false
}

// Used returns the addresses that virtual servers, NAT rules and interfaces of
// Tier-0s in the tree have, and whose they are: of several owners the first by
// path. Cost O(these objects).
func Used(t *intent.Tree) map[netip.Addr]store.Owner {
	first := map[netip.Addr]intent.Object{}
	for a, o := range EachUsed(t) {
		if before := first[a]; before == nil || o.Meta().Path < before.Meta().Path {
			first[a] = o
		}
	}
	out := make(map[netip.Addr]store.Owner, len(first))
	for a, o := range first {
		out[a] = store.OwnerOf(o)
	}
	return out
}

// EachUsed yields the addresses of Used with the objects that have them, in no
// order, some several times.
func EachUsed(t *intent.Tree) iter.Seq2[netip.Addr, intent.Object] {
	return func(yield func(netip.Addr, intent.Object) bool) {
		for _, kind := range []string{"LBVirtualServer", "PolicyNatRule", "Tier0Interface"} {
			for o := range t.EachOfType(kind) {
				for a := range outside(o) {
					if !yield(a, o) {
						return
					}
				}
			}
		}
	}
}

// Taken is the addresses of a tree that nobody else can have: those of Used, all
// in the subnets of segments that somebody owns, as workloads get them there, the
// gateways and ports of other segments, and those of links of Tier-0s.
type Taken struct {
	addresses map[netip.Addr]store.Owner
	subnets   map[netip.Prefix]store.Owner // masked
	lengths   []int                        // of subnets, each once
}

// TakenIn returns what is taken in a tree. Cost O(virtual servers, NAT rules,
// segments, and ports of segments without owner).
func TakenIn(t *intent.Tree) *Taken {
	out := &Taken{addresses: Used(t), subnets: map[netip.Prefix]store.Owner{}}
	for o := range t.EachOfType("Segment") {
		s := o.(*intent.Segment)
		owner := store.OwnerOf(s)
		for _, p := range s.Gateways() {
			if owner == "" {
				p = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			}
			out.add(p, owner)
		}
		if owner != "" {
			continue
		}
		for _, port := range intent.List[*intent.SegmentPort](t, s.Path) {
			for _, b := range port.Bindings() {
				out.add(netip.PrefixFrom(b.Addr, b.Addr.BitLen()), store.OwnerOf(port))
			}
		}
	}
	for o := range t.EachOfType("Tier0") {
		for _, p := range o.(*intent.Tier0).Transit() {
			out.add(p, store.OwnerOf(o))
		}
	}
	return out
}

// Last returns the last address of the largest subnet with a that is taken as a
// whole; a itself if none is.
func (t *Taken) Last(a netip.Addr) netip.Addr {
	last := a
	for _, n := range t.lengths {
		p, err := a.Prefix(n)
		if _, is := t.subnets[p]; err == nil && is && last.Less(lastOf(p)) {
			last = lastOf(p)
		}
	}
	return last
}

func (t *Taken) add(p netip.Prefix, owner store.Owner) {
	t.subnets[p.Masked()] = owner
	if !slices.Contains(t.lengths, p.Bits()) {
		t.lengths = append(t.lengths, p.Bits())
	}
}

// By returns whose an address is, empty if people's; false: it is not taken.
func (t *Taken) By(a netip.Addr) (store.Owner, bool) {
	if owner, is := t.addresses[a]; is {
		return owner, true
	}
	for _, n := range t.lengths {
		if p, err := a.Prefix(n); err == nil {
			if owner, is := t.subnets[p]; is {
				return owner, true
			}
		}
	}
	return "", false
}

// outside yields the addresses by which o is known to others, some perhaps
// twice.
func outside(o intent.Object) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		switch v := o.(type) {
		case *intent.LBVirtualServer:
			if a := v.Address(); a.IsValid() {
				yield(a)
			}
		case *intent.Tier0Interface:
			for _, p := range v.Addresses() {
				if !yield(p.Addr()) {
					return
				}
			}
		case *intent.PolicyNatRule:
			switch v.Action {
			case "SNAT":
				if p := v.Translated(); p.IsValid() && p.IsSingleIP() {
					yield(p.Addr())
				}
			case "DNAT":
				for _, p := range v.Destinations() {
					if p.IsSingleIP() && !yield(p.Addr()) {
						return
					}
				}
			}
		}
	}
}

// addressesOf returns the addresses that objects give to somebody: those of
// Used and of ports.
func addressesOf(objects []intent.Object) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, o := range objects {
		for a := range outside(o) {
			out[a] = true
		}
		if p, ok := o.(*intent.SegmentPort); ok {
			for _, b := range p.AddressBindings {
				if a, err := netip.ParseAddr(b.IPAddress); err == nil {
					out[a] = true
				}
			}
		}
	}
	return out
}

// Holds keeps released addresses back for a while, so that what still speaks to
// the one who had an address does not reach another. It is a courtesy of this
// process: another one that takes over does not know of them. The zero value
// holds for no time. It is safe for concurrent use.
type Holds struct {
	now func() time.Time

	mu    sync.Mutex
	time  time.Duration
	until map[netip.Addr]hold
}

// hold is how long an address is held, and who had it.
type hold struct {
	until time.Time
	had   store.Owner
}

// NewHolds returns Holds of a duration; a nil now is time.Now.
func NewHolds(d time.Duration, now func() time.Time) *Holds {
	if now == nil {
		now = time.Now
	}
	return &Holds{now: now, time: d, until: map[netip.Addr]hold{}}
}

// Keep sets how long addresses are held that are released from now on.
func (h *Holds) Keep(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.time = d
}

// Release holds an address from now on that an owner had. Write does it for what
// an owner has no more.
func (h *Holds) Release(a netip.Addr, had store.Owner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.time <= 0 {
		return
	}
	now := h.now()
	for a, t := range h.until {
		if !now.Before(t.until) {
			delete(h.until, a)
		}
	}
	h.until[a] = hold{now.Add(h.time), had}
}

// Held reports whether an address is held. Nil Holds hold nothing.
func (h *Holds) Held(a netip.Addr) bool { return h.HeldFrom("")(a) }

// HeldFrom returns what reports whether an address is held from an owner: one
// that the owner itself had is not.
func (h *Holds) HeldFrom(owner store.Owner) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		if h == nil {
			return false
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		t, ok := h.until[a]
		return ok && h.now().Before(t.until) && (owner == "" || t.had != owner)
	}
}
