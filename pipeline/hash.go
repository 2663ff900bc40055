package pipeline

import (
	"encoding/binary"
	"net/netip"

	"github.com/weft-net/weft/packet"
)

// hash32 is the running hash of §6: 32-bit words, each as the number that its
// bytes are in network order.
type hash32 uint32

const hashSeed hash32 = 0x9e3779b9

func (h hash32) word(w uint32) hash32 {
	h ^= hash32(w)
	h *= 0x85ebca6b
	return h ^ h>>13
}

func (h hash32) addr(a netip.Addr) hash32 {
	b := a.As16()
	for i := 0; i < len(b); i += 4 {
		h = h.word(binary.BigEndian.Uint32(b[i:]))
	}
	return h
}

func (h hash32) sum() uint32 { return uint32(h ^ h>>16) }

// Hash is the hash of a tuple, which picks next hops and source ports.
// Source: docs/pipeline.md §6.
func Hash(t packet.Tuple) uint32 {
	return hashSeed.addr(t.Src).addr(t.Dst).word(uint32(t.SrcPort)<<16 | uint32(t.DstPort)).word(uint32(t.Proto)).sum()
}

// HashAddr is the hash of one address, which picks from a NAT pool.
// Source: docs/pipeline.md §7.
func HashAddr(a netip.Addr) uint32 { return hashSeed.addr(a).sum() }
