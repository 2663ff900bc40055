package ebpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// attack is frames of which none may arrive anywhere, each dropped for reason.
type attack struct {
	name   string
	reason string // "held": kept for a first fragment that does not come
	frames [][]byte
}

func each(n int, frame func(int) []byte) (out [][]byte) {
	for i := range n {
		out = append(out, frame(i))
	}
	return out
}

// battlefield is openSet, in which red keeps a connection with blue, with ears
// on every wire.
type battlefield struct {
	*bed
	d     *Driver
	wires map[table.PortID]*wire
	round int
}

func newBattlefield(t *testing.T) *battlefield {
	s := openSet(false, 1024, 65535)
	f := &battlefield{bed: newBed(t, s), wires: map[table.PortID]*wire{}}
	f.d = f.open()
	f.apply(f.d, s)
	for _, id := range []table.PortID{redPort, bluePort, malloryPort, uplinkPort} {
		f.wires[id] = f.wire(id)
	}
	return f
}

// sentinels sends one honest packet from a port, or from outside, to each
// other wire, and returns what came before them there.
func (f *battlefield) sentinels(from table.PortID) (others map[table.PortID][][]byte) {
	f.t.Helper()
	f.round++
	word := fmt.Sprintf("sentinel %d.", f.round)
	addr := map[table.PortID]netip.Addr{redPort: redAddr, bluePort: blueAddr, malloryPort: malloryAddr, uplinkPort: outsideAddr}
	others = map[table.PortID][][]byte{}
	for to, w := range f.wires {
		if to == from || from == uplinkPort && to != bluePort {
			continue // outside does not reach what is translated
		}
		f.wires[from].send(packet.Build(udp(from, addr[from], addr[to], 7000, 7001, word)))
		for {
			frame := w.next(time.Second)
			if frame == nil {
				f.t.Fatalf("an honest packet from %d does not reach %d", from, to)
			}
			if bytes.Contains(frame, []byte(word)) {
				break
			}
			others[to] = append(others[to], frame)
		}
	}
	return others
}

// suffer sends an attack and says where it got.
func (f *battlefield) suffer(from table.PortID, a attack) {
	f.t.Helper()
	before := f.counts()
	f.wires[from].send(a.frames...)
	for to, frames := range f.sentinels(from) {
		for _, frame := range frames {
			if !f.own(frame) {
				f.t.Errorf("%s: port %d got %x", a.name, to, frame)
			}
		}
	}
	got := map[string]uint64{}
	for reason, n := range f.counts() {
		if n > before[reason] {
			got[reason] = n - before[reason]
		}
	}
	if diff := cmp.Diff(map[string]uint64{a.reason: uint64(len(a.frames))}, got); diff != "" {
		f.t.Errorf("%s: drops (want, got) %s", a.name, diff)
	}
}

// counts returns the drops, and the fragments that were held.
func (f *battlefield) counts() map[string]uint64 {
	s := f.status(f.d)
	out := maps.Clone(s.Drops)
	if n := s.Counters["fragments_held"]; n > 0 {
		out["held"] = n
	}
	return out
}

// own says whether a frame is what honest stacks say by themselves: answers to
// ARP that tell the truth, the host's own ARP, a port's answer to a sentinel.
func (f *battlefield) own(frame []byte) bool {
	var p packet.Packet
	if a, ok := packet.DecodeARP(frame); ok && binary.BigEndian.Uint16(frame[12:]) == packet.EtherTypeARP {
		truth := map[netip.Addr]table.MAC{malloryAddr: mac(byte(malloryPort)), redAddr: mac(byte(redPort)), blueAddr: mac(byte(bluePort))}
		if m, ok := truth[a.Sender]; ok {
			return a.Op == packet.ARPReply && a.SenderMAC == packet.MAC(m)
		}
		return a.SenderMAC == packet.MAC(table.RouterMAC)
	}
	if p.Decode(frame) != packet.FaultNone || !p.ICMPError() {
		return false
	}
	q, ok := p.Quoted()
	return ok && q.DstPort == 7001
}

// from returns mallory's own packet to blue, which would be let through.
func honest() packet.Spec { return udp(malloryPort, malloryAddr, blueAddr, 5000, 5001, "malice") }

func honestTCP() packet.Spec { return tcp(malloryPort, malloryAddr, blueAddr, 8080, packet.SYN) }

// spec changes an honest packet.
func spec(s packet.Spec, change func(*packet.Spec)) []byte {
	change(&s)
	return packet.Build(s)
}

func malformedFrames() []attack {
	whole, other := packet.Build(honestTCP()), packet.Build(honest())
	length := func(n uint16) []byte {
		return changed(honest(), patch(16, byte(n>>8), byte(n)))
	}
	return []attack{
		{"cut short at every length", "malformed", each(47, func(i int) []byte { return whole[:14+i] })},
		{"datagram cut short", "malformed", each(len(other)-14, func(i int) []byte { return other[:14+i] })},
		{"total length beyond the frame", "malformed", [][]byte{length(35), length(100), length(1500), length(65535)}},
		{"total length within the header", "malformed", [][]byte{length(0), length(1), length(19)}},
		{"total length within the UDP header", "malformed", [][]byte{length(20), length(24), length(27)}},
		{"UDP length under its header", "malformed", each(8, func(i int) []byte { return changed(honest(), patch(38, 0, byte(i))) })},
		{"version", "malformed", each(16, func(i int) []byte {
			if i == 4 {
				i = 14
			}
			return changed(honest(), patch(14, byte(i)<<4|5))
		})},
		{"header length under 20", "malformed", each(5, func(i int) []byte { return changed(honest(), patch(14, 0x40|byte(i))) })},
		{"data offset", "malformed", [][]byte{changed(honestTCP(), patch(46, 0)), changed(honestTCP(), patch(46, 4<<4)), changed(honestTCP(), patch(46, 15<<4))}},
		{"IP options", "ip_options", each(10, func(i int) []byte { return changed(honest(), patch(14, 0x46+byte(i))) })},
		{"no EtherType that is carried", "not_ip", each(64, func(i int) []byte {
			types := []uint16{0, 3, 0x26, 0x5dc, 0x600, 0x8035, 0x88cc, 0x8847, 0x8863, 0x8864, 0x88e5, 0x894f, 0x0801, 0xffff, 0x9000, 0x6558}
			return changed(honest(), patch(12, byte(types[i%16]>>8), byte(types[i%16]), byte(i), byte(i*7)))
		})},
		{"spanning tree", "not_ip", [][]byte{append([]byte{1, 0x80, 0xc2, 0, 0, 0, 4, 0x50, 0x56, 0, 0, 13, 0, 38, 0x42, 0x42, 3}, make([]byte, 43)...)}},
		{"IPv6", "ipv6", [][]byte{changed(honest(), patch(12, 0x86, 0xdd, 0x60))}},
	}
}

func taggedFrames() []attack {
	frame := packet.Build(honest())
	known := packet.Build(udp(malloryPort, malloryAddr, blueAddr, 7000, 7001, "malice"))
	away := packet.Build(udp(malloryPort, malloryAddr, outsideAddr, 7000, 7001, "malice"))
	arp := packet.Build(arpFrom(malloryPort, packet.ARP{Op: packet.ARPRequest, SenderMAC: packet.MAC(mac(13)), Sender: malloryAddr, Target: redAddr}))
	tags := func(f []byte) [][]byte {
		return [][]byte{
			tagged(f, 0x8100, 0), tagged(f, 0x8100, 1), tagged(f, 0x8100, 5), tagged(f, 0x8100, 0xefff), tagged(f, 0x88a8, 5),
			tagged(f, 0x8100, 5, 0x8100, 6), tagged(f, 0x88a8, 5, 0x8100, 6),
		}
	}
	return []attack{
		{"VLAN tag", "vlan", tags(frame)},
		{"VLAN tag on a known connection", "vlan", tags(known)},
		{"VLAN tag towards the uplink", "vlan", tags(away)},
		{"VLAN tag before ARP", "vlan", tags(arp)},
	}
}

func spoofedFrames() []attack {
	from := func(src netip.Addr, m table.MAC) []byte {
		return spec(honest(), func(s *packet.Spec) { s.Src, s.EthSrc = src, packet.MAC(m) })
	}
	own, red := mac(byte(malloryPort)), mac(byte(redPort))
	a := netip.MustParseAddr
	to := func(dst netip.Addr, m packet.MAC) []byte {
		return spec(honest(), func(s *packet.Spec) { s.Dst, s.EthDst = dst, m })
	}
	router, everybody := packet.MAC(table.RouterMAC), packet.MAC{255, 255, 255, 255, 255, 255}
	return []attack{
		{"source of another", "spoofguard", [][]byte{
			from(redAddr, own), from(redAddr, red), from(malloryAddr, red), from(malloryAddr, table.RouterMAC),
			spec(honest(), func(s *packet.Spec) { s.Src, s.Dst, s.EthSrc = blueAddr, redAddr, packet.MAC(mac(12)) }),
			from(outsideAddr, own), from(a("10.244.0.17"), table.RouterMAC), from(a("10.244.0.17"), own), from(snatAddr, own),
			from(a("10.244.0.31"), own), from(malloryAddr, table.MAC{1, 0, 0x5e, 0, 0, 1}), from(malloryAddr, table.MAC{}),
		}},
		{"known connection from another MAC", "spoofguard", [][]byte{
			spec(udp(redPort, malloryAddr, blueAddr, 7000, 7001, "malice"), func(*packet.Spec) {}),
			spec(udp(redPort, redAddr, blueAddr, 7000, 7001, "malice"), func(*packet.Spec) {}),
		}},
		{"source that stands in no packet", "martian", [][]byte{
			from(a("0.0.0.0"), own), from(a("0.1.2.3"), own), from(a("127.0.0.1"), own), from(a("224.0.0.1"), own),
			from(a("255.255.255.255"), own), from(a("240.0.0.1"), own),
		}},
		{"destination that stands in no packet", "martian", [][]byte{to(a("0.0.0.0"), router), to(a("127.0.0.1"), router), to(a("127.1.2.3"), packet.MAC(red))}},
		{"land", "martian", [][]byte{
			to(malloryAddr, router), spec(honest(), func(s *packet.Spec) { s.Src, s.Dst = blueAddr, blueAddr }),
			spec(honestTCP(), func(s *packet.Spec) { s.Src, s.Dst, s.EthDst = redAddr, redAddr, packet.MAC(red) }),
		}},
		{"multicast and broadcast", "multicast", [][]byte{
			to(a("224.0.0.1"), packet.MAC{1, 0, 0x5e, 0, 0, 1}), to(a("224.0.0.5"), router), to(a("239.1.2.3"), everybody),
			to(a("255.255.255.255"), everybody), to(a("255.255.255.255"), packet.MAC(red)), to(a("240.0.0.1"), router),
		}},
		{"unicast in a broadcast frame", "mac_unknown", [][]byte{
			to(redAddr, everybody), to(blueAddr, everybody), to(redAddr, packet.MAC{1, 0, 0x5e, 0, 0, 1}),
		}},
		{"another's MAC", "mac_unknown", [][]byte{to(blueAddr, packet.MAC(red)), to(blueAddr, packet.MAC(mac(12))), to(redAddr, packet.MAC(mac(99))), to(outsideAddr, packet.MAC(mac(21)))}},
		{"the segment's broadcast address", "no_endpoint", [][]byte{to(a("10.244.0.31"), router), to(a("10.244.0.16"), router)}},
		{"an address of a router", "no_listener", [][]byte{to(a("10.244.0.17"), router), to(a("192.0.2.2"), router), to(snatAddr, router)}},
	}
}

// arpFrom is an ARP packet to everybody.
func arpFrom(from table.PortID, a packet.ARP) packet.Spec {
	return packet.Spec{EthDst: packet.MAC{255, 255, 255, 255, 255, 255}, EthSrc: packet.MAC(mac(byte(from))), ARP: &a}
}

func arpFrames() []attack {
	own := packet.MAC(mac(byte(malloryPort)))
	gw := netip.MustParseAddr("10.244.0.17")
	says := func(op uint16, m packet.MAC, sender, target netip.Addr) []byte {
		return packet.Build(arpFrom(malloryPort, packet.ARP{Op: op, SenderMAC: m, TargetMAC: packet.MAC(mac(byte(redPort))), Sender: sender, Target: target}))
	}
	request := arpFrom(malloryPort, packet.ARP{Op: packet.ARPRequest, SenderMAC: own, Sender: malloryAddr, Target: redAddr})
	return []attack{
		{"ARP in another's name", "spoofguard", [][]byte{
			says(packet.ARPRequest, own, redAddr, redAddr), says(packet.ARPReply, own, redAddr, redAddr), says(packet.ARPReply, own, gw, redAddr),
			says(packet.ARPRequest, own, gw, gw), says(packet.ARPRequest, packet.MAC(mac(11)), redAddr, gw), says(packet.ARPRequest, packet.MAC(mac(11)), malloryAddr, gw),
			says(packet.ARPReply, packet.MAC(table.RouterMAC), gw, redAddr), says(packet.ARPRequest, own, blueAddr, gw),
			says(packet.ARPRequest, packet.MAC(mac(11)), netip.MustParseAddr("0.0.0.0"), redAddr), says(packet.ARPRequest, own, outsideAddr, gw),
		}},
		{"ARP that asks nobody", "arp_unknown", [][]byte{
			says(packet.ARPRequest, own, malloryAddr, malloryAddr), says(packet.ARPReply, own, malloryAddr, redAddr), says(packet.ARPReply, own, malloryAddr, gw),
			says(packet.ARPRequest, own, malloryAddr, blueAddr), says(packet.ARPRequest, own, malloryAddr, netip.MustParseAddr("10.244.0.30")),
			says(3, own, malloryAddr, redAddr), says(0, own, malloryAddr, gw),
		}},
		{"ARP cut short", "malformed", each(28, func(i int) []byte { return packet.Build(request)[:14+i] })},
		{"ARP of another kind", "malformed", [][]byte{
			changed(request, patch(14, 0, 6)), changed(request, patch(16, 0x86, 0xdd)), changed(request, patch(18, 8)), changed(request, patch(19, 16)),
		}},
	}
}

func fragmentFrames() []attack {
	piece := func(s packet.Spec, id, offset uint16, more bool, size int) []byte {
		s.ID, s.FragmentOffset, s.MoreFragments = id, offset, more
		if size > 0 {
			s.Payload = bytes.Repeat([]byte("x"), size)
		}
		return packet.Build(s)
	}
	web := tcp(malloryPort, malloryAddr, blueAddr, 80, packet.SYN) // what blue refuses
	tiny := func(n int) []byte {                                   // a first fragment with n bytes of TCP
		f := piece(honestTCP(), 9, 0, true, 8)
		binary.BigEndian.PutUint16(f[16:], uint16(20+n))
		return f[:34+n]
	}
	return []attack{
		{"first fragment that ends within TCP's header", "malformed", each(20, tiny)},
		{"second fragment with TCP's flags", "fragment", [][]byte{piece(web, 10, 1, false, 16), piece(honestTCP(), 10, 1, true, 16)}},
		{"first fragment of what is refused", "dfw_rule", [][]byte{piece(web, 11, 0, true, 64), piece(web, 11, 0, false, 64)}},
		{"the rest of what is refused", "held", [][]byte{piece(web, 11, 8, false, 64), piece(web, 11, 2, false, 64)}},
		{"fragments without a first", "held", each(200, func(i int) []byte { return piece(honest(), uint16(3000+i), uint16(1+i), i%2 == 0, 64) })},
		{"last offset", "held", [][]byte{piece(honest(), 12, 8191, false, 1400), piece(honest(), 12, 8191, true, 1400), piece(honest(), 12, 8100, true, 1400)}},
		{"flood of fragments", "held", each(4000, func(i int) []byte { return piece(honest(), uint16(i), 100, true, 8) })},
	}
}

// aboutOthers forges what belongs to the connection of red with blue.
func aboutOthers(c packet.Tuple) []attack {
	quote := packet.Quote(spec(tcp(redPort, c.Src, c.Dst, c.DstPort, packet.ACK), func(s *packet.Spec) { s.SrcPort = c.SrcPort }))
	back := packet.Quote(spec(tcp(bluePort, c.Dst, c.Src, c.SrcPort, packet.ACK), func(s *packet.Spec) { s.SrcPort = c.DstPort }))
	icmp := func(kind, code uint8, src, dst netip.Addr, quoted []byte) []byte {
		return spec(honest(), func(s *packet.Spec) {
			s.Proto, s.ICMPType, s.ICMPCode, s.Src, s.Dst, s.Quoted, s.Payload = packet.ICMP, kind, code, src, dst, quoted, nil
		})
	}
	segment := func(flags packet.Flags, src, dst netip.Addr, sport, dport uint16, m table.MAC) []byte {
		return spec(tcp(malloryPort, src, dst, dport, flags), func(s *packet.Spec) { s.SrcPort, s.EthSrc = sport, packet.MAC(m) })
	}
	var errors, spoofed, segments, other [][]byte
	for _, kind := range []uint8{packet.ICMPUnreachable, packet.ICMPTimeExceeded, packet.ICMPParameter} {
		for code := range uint8(5) { // 3,4 is "fragmentation needed"
			errors = append(errors, icmp(kind, code, malloryAddr, redAddr, quote), icmp(kind, code, malloryAddr, blueAddr, back), icmp(kind, code, malloryAddr, redAddr, back))
			spoofed = append(spoofed, icmp(kind, code, blueAddr, redAddr, quote), icmp(kind, code, netip.MustParseAddr("10.244.0.17"), redAddr, quote))
		}
	}
	for kind := range uint8(20) {
		if kind != packet.ICMPEchoReply && kind != packet.ICMPEchoRequest && !slices.Contains([]uint8{3, 11, 12}, kind) {
			other = append(other, icmp(kind, 0, malloryAddr, redAddr, quote))
		}
	}
	for _, flags := range []packet.Flags{packet.RST, packet.RST | packet.ACK, packet.SYN | packet.ACK, packet.ACK, packet.FIN | packet.ACK, packet.SYN, 0, 0x3f} {
		for _, m := range []table.MAC{mac(byte(malloryPort)), mac(byte(redPort)), table.RouterMAC} {
			segments = append(segments, segment(flags, c.Src, c.Dst, c.SrcPort, c.DstPort, m), segment(flags, c.Dst, c.Src, c.DstPort, c.SrcPort, m))
		}
	}
	return []attack{
		{"ICMP errors about others", "icmp_unrelated", errors},
		{"ICMP errors in another's name", "spoofguard", spoofed},
		{"ICMP error that quotes too little", "icmp_unrelated", [][]byte{icmp(3, 3, malloryAddr, redAddr, quote[:20]), icmp(3, 3, malloryAddr, redAddr, nil)}},
		{"redirect and other ICMP", "icmp_type", other},
		{"echo replies that nobody asked for", "no_connection", [][]byte{icmp(packet.ICMPEchoReply, 0, malloryAddr, redAddr, nil), icmp(packet.ICMPEchoReply, 0, malloryAddr, outsideAddr, nil)}},
		{"segments of others", "spoofguard", segments},
		{"resets from nowhere", "tcp_state", [][]byte{segment(packet.RST, malloryAddr, blueAddr, 9, 8080, mac(13)), segment(packet.RST|packet.ACK, malloryAddr, redAddr, 9, 9, mac(13))}},
	}
}

func TestHostileFramesGoNowhere(t *testing.T) {
	f := newBattlefield(t)
	client, server := f.connect(redPort, bluePort, netip.AddrPortFrom(blueAddr, 8443))
	conn := netip.MustParseAddrPort(client.LocalAddr().String())
	tuple := packet.Tuple{Src: redAddr, Dst: blueAddr, SrcPort: conn.Port(), DstPort: 8443, Proto: packet.TCP}
	for _, w := range f.wires {
		w.drain()
	}
	f.sentinels(malloryPort)
	f.sentinels(redPort)
	for _, attacks := range [][]attack{malformedFrames(), taggedFrames(), spoofedFrames(), arpFrames(), fragmentFrames(), aboutOthers(tuple)} {
		for _, a := range attacks {
			f.suffer(malloryPort, a)
		}
	}
	if !passes(t, client, server, time.Second) || !passes(t, server, client, time.Second) {
		t.Error("the connection of others does not go on")
	}
	t.Logf("drops %v", f.status(f.d).Drops)
}

func TestHostileFramesFromOutsideGoNowhere(t *testing.T) {
	f := newBattlefield(t)
	from := func(src, dst netip.Addr) packet.Spec { return udp(uplinkPort, src, dst, 5000, 5001, "malice") }
	frame := func(src, dst netip.Addr) []byte { return packet.Build(from(src, dst)) }
	f.sentinels(uplinkPort)
	for _, a := range []attack{
		{"sources from within", "urpf", [][]byte{
			frame(redAddr, blueAddr), frame(blueAddr, malloryAddr), frame(snatAddr, blueAddr), frame(netip.MustParseAddr("192.0.2.2"), blueAddr),
		}},
		{"a pool's address", "no_listener", [][]byte{frame(outsideAddr, snatAddr)}},
		{"no such workload", "no_endpoint", [][]byte{frame(outsideAddr, netip.MustParseAddr("10.244.0.70"))}},
		{"back where it came from", "no_route", [][]byte{frame(outsideAddr, netip.MustParseAddr("192.0.2.77"))}},
		{"cut short", "malformed", each(34, func(i int) []byte { return frame(outsideAddr, blueAddr)[:14+i] })},
		{"VLAN tag", "vlan", [][]byte{tagged(frame(outsideAddr, blueAddr), 0x8100, 5), tagged(frame(outsideAddr, blueAddr), 0x88a8, 5, 0x8100, 6)}},
		{"VLAN tag on a known connection", "vlan", [][]byte{tagged(packet.Build(udp(uplinkPort, outsideAddr, blueAddr, 7000, 7001, "x")), 0x8100, 5)}},
		{"VLAN tag before ARP", "vlan", [][]byte{tagged(packet.Build(arpFrom(uplinkPort, packet.ARP{
			Op: packet.ARPReply, SenderMAC: packet.MAC(mac(99)), Sender: outsideAddr, Target: netip.MustParseAddr("192.0.2.2"),
		})), 0x8100, 5)}},
		{"land", "martian", [][]byte{frame(blueAddr, blueAddr)}},
		{"multicast", "multicast", [][]byte{frame(outsideAddr, netip.MustParseAddr("224.0.0.1"))}},
		{"reset", "tcp_state", [][]byte{packet.Build(tcp(uplinkPort, outsideAddr, blueAddr, 8080, packet.RST))}},
	} {
		f.suffer(uplinkPort, a)
	}
}
