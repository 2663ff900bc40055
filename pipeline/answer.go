package pipeline

import (
	"net/netip"

	"github.com/weft-net/weft/packet"
)

// answerKind says what a walk wants sent back.
type answerKind uint8

const (
	answerNone   answerKind = iota
	answerICMP              // an error, from a router
	answerReject            // RST for TCP, else an ICMP error, from the destination as the sender wrote it
	answerEcho              // an echo reply, from the destination asked
)

type answer struct {
	kind     answerKind
	icmpType uint8
	code     uint8
	src      netip.Addr // of answerICMP
	mtu      uint16     // of too_big; else 0
}

func icmpAnswer(icmpType, code uint8, src netip.Addr) answer {
	return answer{kind: answerICMP, icmpType: icmpType, code: code, src: src}
}

// reply sends a back to where the packet came from, and turns the verdict into
// Answer. ICMP errors, later fragments and resets are never answered.
// Source: docs/pipeline.md §9.
func (r *run) reply(a answer) {
	p := &r.p
	if p.ICMPError() || p.Later() || p.Proto == packet.TCP && p.Flags&packet.RST != 0 {
		return
	}
	frame := r.res.Frame[:0]
	switch {
	case a.kind == answerEcho:
		frame = packet.AppendEchoReply(frame, p)
	case a.kind == answerReject && p.Proto == packet.TCP:
		frame = packet.AppendRST(frame, p)
	case a.kind == answerReject:
		frame = packet.AppendICMPError(frame, p, packet.ICMPUnreachable, packet.ICMPAdminProhibited, p.Dst)
	case a.mtu != 0 && a.src.IsValid():
		frame = packet.AppendTooBig(frame, p, a.mtu, a.src)
	case a.kind == answerICMP && a.src.IsValid():
		frame = packet.AppendICMPError(frame, p, a.icmpType, a.code, a.src)
	default:
		return
	}
	r.send(frame)
}

// send answers with frame.
func (r *run) send(frame []byte) {
	r.res.Verdict, r.res.Out, r.res.Frame = Answer, r.in.Port, frame
}
