// Package frames makes random frames for tests of forwarding. They aim at the
// edges of a table.Set: addresses at the ends of its prefixes, ports at the
// ends of its rules, small hop limits, every TCP flag, fragments, errors about
// packets that were forwarded, replies to them, and damaged frames.
package frames

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// Source makes frames for one Set. It remembers a bounded number of packets
// that were forwarded, to answer them.
type Source struct {
	r     *rand.Rand
	set   *table.Set
	ports []*table.Endpoint
	ups   []*table.Uplink
	addrs []netip.Addr
	nums  []uint16
	vips  []asked
	past  []sent
}

// asked is what a virtual server takes, or just not.
type asked struct {
	addr  netip.Addr
	proto packet.Proto
	port  uint16
}

type sent struct {
	in, out     table.PortID
	spec        packet.Spec  // as it was sent
	seen        packet.Tuple // as it left
	frame, left []byte
}

const remembered = 64

// New returns a Source of frames for set, as r decides.
func New(r *rand.Rand, set *table.Set) *Source {
	s := &Source{r: r}
	s.Reset(set)
	return s
}

// Reset makes set the one that frames aim at; what was forwarded is kept.
func (s *Source) Reset(set *table.Set) {
	s.set, s.ports, s.ups, s.addrs, s.vips = set, nil, nil, nil, nil
	for _, e := range set.Endpoints.All() {
		if p := set.Ports.Get(e.Port); p != nil && p.Node == 0 {
			s.ports = append(s.ports, e)
		}
		s.addrs = append(s.addrs, e.Addr)
	}
	for _, u := range set.Uplinks.All() {
		s.ups = append(s.ups, u)
	}
	slices.SortFunc(s.ports, func(a, b *table.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), a.Addr.Compare(b.Addr))
	})
	slices.SortFunc(s.ups, func(a, b *table.Uplink) int { return cmp.Compare(a.ID, b.ID) })
	s.edges()
}

// edges collects the addresses and service numbers where decisions change.
func (s *Source) edges() {
	s.addrs = append(s.addrs, netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("8.8.8.8"))
	for k := range s.set.Routes.All() {
		s.prefix(k.Prefix)
	}
	for _, a := range s.set.AddrSets.All() {
		for _, p := range a.Addrs {
			s.prefix(p.Prefix)
		}
	}
	for _, l := range s.set.NAT.All() {
		for _, r := range l.Rules {
			s.prefix(r.Src)
			s.prefix(r.Dst)
			s.prefix(r.To)
			s.num(r.Service)
		}
	}
	s.nums = []uint16{1, 22, 53, 80, 443, 8080}
	for _, rs := range s.set.Rulesets.All() {
		for _, r := range rs.Rules {
			for _, v := range r.Services {
				s.num(v)
			}
		}
	}
	s.servers()
	slices.SortFunc(s.addrs, netip.Addr.Compare)
	s.addrs = slices.Compact(s.addrs)
	slices.Sort(s.nums)
	s.nums = slices.Compact(s.nums)
}

// servers collects what virtual servers are asked.
func (s *Source) servers() {
	for k, v := range s.set.VIPs.All() {
		s.addrs = append(s.addrs, k.Addr)
		for _, server := range v.Servers {
			for _, m := range server.Services {
				for _, port := range []uint16{m.First, m.First, m.Last, m.Last + 1} {
					s.vips = append(s.vips, asked{k.Addr, packet.Proto(m.Proto), port})
				}
			}
		}
	}
	slices.SortFunc(s.vips, func(a, b asked) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port))
	})
}

func (s *Source) prefix(p netip.Prefix) {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits() == 0 {
		return
	}
	first, last := p.Masked().Addr(), lastOf(p)
	s.addrs = append(s.addrs, first.Prev(), first, first.Next(), last.Prev(), last, last.Next())
	s.addrs = slices.DeleteFunc(s.addrs, func(a netip.Addr) bool { return !a.IsValid() || !a.Is4() })
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

func (s *Source) num(v table.Service) {
	s.nums = append(s.nums, v.First-1, v.First, v.Last, v.Last+1)
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// Next returns a frame and the port or uplink that it enters by.
func (s *Source) Next() (table.PortID, []byte) {
	in, frame := s.next()
	if s.r.IntN(60) == 0 {
		frame = s.damage(frame)
	}
	return in, frame
}

func (s *Source) next() (table.PortID, []byte) {
	switch n := s.r.IntN(100); {
	case len(s.past) == 0 || n < 40:
		in, spec := s.fresh()
		return in, s.remember(in, spec)
	case n < 60:
		return s.again(pick(s.r, s.past))
	case n < 90:
		return s.answer(pick(s.r, s.past))
	case n < 98:
		return s.errorAbout(pick(s.r, s.past))
	}
	return s.arp()
}

// pending is what the last frame was, until Forwarded says what became of it.
func (s *Source) remember(in table.PortID, spec packet.Spec) []byte {
	f := packet.Build(spec)
	s.past = append(s.past, sent{in: in, spec: spec, frame: f})
	if len(s.past) > remembered {
		i := s.forget()
		s.past = slices.Delete(s.past, i, i+1)
	}
	return f
}

// forget picks what to remember no longer: mostly a packet that was dropped.
func (s *Source) forget() int {
	if s.r.IntN(8) != 0 {
		for range 8 {
			if i := s.r.IntN(remembered); s.past[i].left == nil {
				return i
			}
		}
	}
	return s.r.IntN(remembered)
}

// Forwarded tells what the last frame that Next returned was forwarded as, and
// to which port.
func (s *Source) Forwarded(frame []byte, out table.PortID, left []byte) {
	for i := range s.past {
		if p := &s.past[i]; slices.Equal(p.frame, frame) {
			p.out, p.left = out, slices.Clone(left)
			var d packet.Packet
			if d.Decode(left) == packet.FaultNone {
				p.seen = d.Tuple()
			}
		}
	}
}

// fresh is a packet of any kind from anywhere.
func (s *Source) fresh() (table.PortID, packet.Spec) {
	spec := packet.Spec{
		TTL: pick(s.r, []uint8{0, 1, 2, 3, 4, 5, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 255}), ID: uint16(s.r.IntN(8)),
		Dst: pick(s.r, s.addrs), DstPort: pick(s.r, s.nums), SrcPort: uint16(1000 + s.r.IntN(40)),
		Payload: make([]byte, s.r.IntN(24)), Padding: pick(s.r, []int{0, 0, 0, 4}),
	}
	in := s.entry(&spec)
	s.transport(&spec)
	if len(s.vips) > 0 && s.r.IntN(3) == 0 {
		v := pick(s.r, s.vips)
		spec.Dst, spec.Proto, spec.DstPort, spec.EthDst = v.addr, v.proto, v.port, packet.MAC(table.RouterMAC)
		if s.r.IntN(16) != 0 {
			spec.Flags = packet.SYN
		}
	}
	s.fragment(&spec)
	return in, spec
}

func (s *Source) entry(spec *packet.Spec) table.PortID {
	if len(s.ups) > 0 && s.r.IntN(4) == 0 {
		spec.Src, spec.EthDst, spec.EthSrc = pick(s.r, s.addrs), packet.MAC{2, 0, 0, 0, 0, 1}, packet.MAC{2, 0, 0, 0, 0, 2}
		return pick(s.r, s.ups).ID
	}
	e := pick(s.r, s.ports)
	spec.Src, spec.EthSrc, spec.EthDst = e.Addr, packet.MAC(e.MAC), packet.MAC(table.RouterMAC)
	switch s.r.IntN(24) {
	case 0:
		spec.Src = pick(s.r, s.addrs)
	case 1:
		spec.EthSrc[5] ^= 1
	}
	switch s.r.IntN(8) {
	case 0:
		s.bridge(spec, e)
	case 1, 2, 3:
		spec.Dst = pick(s.r, s.ports).Addr
	}
	return e.Port
}

// bridge sends to a port by its MAC, mostly one of the same segment.
func (s *Source) bridge(spec *packet.Spec, e *table.Endpoint) {
	to := pick(s.r, s.ports)
	for range 8 {
		if to.Segment == e.Segment {
			break
		}
		to = pick(s.r, s.ports)
	}
	spec.EthDst, spec.Dst = packet.MAC(to.MAC), to.Addr
}

func (s *Source) transport(spec *packet.Spec) {
	switch n := s.r.IntN(20); {
	case n < 9:
		spec.Proto, spec.Flags = packet.TCP, packet.SYN
		if s.r.IntN(4) == 0 {
			spec.Flags = packet.Flags(s.r.IntN(64))
		}
		spec.Seq, spec.Ack = s.r.Uint32(), s.r.Uint32()
	case n < 14:
		spec.Proto, spec.NoChecksum = packet.UDP, s.r.IntN(4) == 0
	case n < 18:
		spec.Proto, spec.ICMPType, spec.Ident = packet.ICMP, packet.ICMPEchoRequest, uint16(1000+s.r.IntN(40))
		if s.r.IntN(8) == 0 {
			spec.ICMPType, spec.ICMPCode = uint8(s.r.IntN(20)), uint8(s.r.IntN(3))
		}
	case n < 19:
		spec.Proto = packet.SCTP
	default:
		spec.Proto = packet.Proto(s.r.IntN(256))
	}
}

func (s *Source) fragment(spec *packet.Spec) {
	if s.r.IntN(16) != 0 {
		return
	}
	spec.MoreFragments = s.r.IntN(2) == 0
	if s.r.IntN(2) == 0 {
		spec.FragmentOffset = uint16(s.r.IntN(4))
	}
}

// again is one more packet of a connection: other flags, hop limits, MACs.
func (s *Source) again(p sent) (table.PortID, []byte) {
	spec := p.spec
	if spec.Proto == packet.TCP {
		spec.Flags = pick(s.r, []packet.Flags{packet.ACK, packet.ACK, packet.ACK | packet.FIN, packet.RST, packet.SYN, packet.ACK | packet.RST, packet.SYN | packet.ACK})
	}
	switch s.r.IntN(20) {
	case 0:
		spec.TTL = uint8(s.r.IntN(5))
	case 1:
		spec.EthDst = packet.MAC(pick(s.r, s.ports).MAC)
	case 2:
		spec.EthDst = packet.MAC(table.RouterMAC)
	case 3:
		spec.FragmentOffset = 1 + uint16(s.r.IntN(4))
	case 4:
		spec.MoreFragments = true
	}
	return p.in, packet.Build(spec)
}

// answer is a packet in the direction opposite to a forwarded one.
func (s *Source) answer(p sent) (table.PortID, []byte) {
	if p.left == nil {
		return s.again(p)
	}
	spec := p.spec
	spec.Src, spec.Dst, spec.SrcPort, spec.DstPort = p.seen.Dst, p.seen.Src, p.seen.DstPort, p.seen.SrcPort
	spec.TTL, spec.MoreFragments, spec.FragmentOffset = pick(s.r, []uint8{1, 2, 3, 64, 64, 64}), false, 0
	spec.EthSrc, spec.EthDst = packet.MAC(p.left[:6]), packet.MAC(p.left[6:12])
	if s.set.Uplinks.Get(p.out) != nil && s.r.IntN(3) == 0 {
		p.out = pick(s.r, s.ups).ID
	}
	switch spec.Proto {
	case packet.TCP:
		spec.Flags = pick(s.r, []packet.Flags{packet.SYN | packet.ACK, packet.SYN | packet.ACK, packet.ACK, packet.ACK, packet.FIN | packet.ACK, packet.RST, packet.SYN})
	case packet.ICMP:
		spec.ICMPType, spec.Ident = packet.ICMPEchoReply, p.seen.SrcPort
		if s.r.IntN(8) == 0 {
			spec.ICMPType = packet.ICMPEchoRequest
		}
	}
	return p.out, packet.Build(spec)
}

// errorAbout is an ICMP error that quotes a forwarded packet, from its
// destination or from a router on the way.
func (s *Source) errorAbout(p sent) (table.PortID, []byte) {
	if len(p.left) < 14+28 {
		return s.again(p)
	}
	quoted := slices.Clone(p.left[14:])
	if s.r.IntN(6) == 0 {
		quoted[s.r.IntN(len(quoted))] ^= 1 << s.r.IntN(8)
	}
	spec := packet.Spec{
		EthSrc: packet.MAC(p.left[:6]), EthDst: packet.MAC(p.left[6:12]), TTL: pick(s.r, []uint8{1, 2, 64, 64}),
		Proto: packet.ICMP, ICMPType: pick(s.r, []uint8{3, 11, 12}), ICMPCode: uint8(s.r.IntN(4)),
		Src: p.seen.Dst, Dst: p.seen.Src, Quoted: quoted,
	}
	if s.r.IntN(3) == 0 {
		spec.Src = pick(s.r, s.addrs)
	}
	return p.out, packet.Build(spec)
}

func (s *Source) arp() (table.PortID, []byte) {
	e := pick(s.r, s.ports)
	a := packet.ARP{Op: packet.ARPRequest, SenderMAC: packet.MAC(e.MAC), Sender: e.Addr, Target: pick(s.r, s.addrs)}
	switch s.r.IntN(8) {
	case 0:
		a.Op = 2
	case 1:
		a.Sender = netip.IPv4Unspecified()
	case 2:
		a.Sender = pick(s.r, s.addrs)
	case 3:
		a.SenderMAC[5] ^= 1
	}
	return e.Port, packet.Build(packet.Spec{
		EthSrc: packet.MAC(e.MAC), EthDst: packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ARP: &a, Padding: pick(s.r, []int{0, 18}),
	})
}

// damage cuts a frame short or flips bits of it, never below the IPv4
// header, the least that BPF_PROG_TEST_RUN takes.
func (s *Source) damage(f []byte) []byte {
	f = slices.Clone(f)
	if s.r.IntN(2) == 0 && len(f) > 34 {
		return f[:34+s.r.IntN(len(f)-34)]
	}
	for range 1 + s.r.IntN(3) {
		f[s.r.IntN(len(f))] ^= 1 << s.r.IntN(8)
	}
	return f
}
