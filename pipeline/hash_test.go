package pipeline

import (
	"testing"

	"github.com/weft-net/weft/packet"
)

// The wanted numbers were computed from the words of §6 by another program.
func TestSpec6_Hash(t *testing.T) {
	rows := []struct {
		src, dst     string
		proto        packet.Proto
		sport, dport uint16
		want         uint32
	}{
		{"10.1.1.10", "192.0.2.9", 6, 40000, 443, 0xded29ef5},
		{"192.0.2.9", "10.1.1.10", 6, 443, 40000, 0xac0b1db2},
		{"255.255.255.254", "1.2.3.4", 1, 65535, 0, 0x170dd29e},
		{"10.1.1.10", "192.0.2.9", 47, 0, 0, 0xa846a160},
	}
	for _, r := range rows {
		in := packet.Tuple{Src: addr(r.src), Dst: addr(r.dst), Proto: r.proto, SrcPort: r.sport, DstPort: r.dport}
		if got := Hash(in); got != r.want {
			t.Errorf("%s: %#08x, want %#08x", in, got, r.want)
		}
	}
}

func TestSpec7_HashOfAnAddress(t *testing.T) {
	for a, want := range map[string]uint32{
		"10.1.1.40":     0x66ce3c4d,
		"0.0.0.1":       0xa344b8d7,
		"203.0.113.255": 0x8b3576dd,
	} {
		if got := HashAddr(addr(a)); got != want {
			t.Errorf("%s: %#08x, want %#08x", a, got, want)
		}
	}
}
