package ebpf

import (
	"encoding/binary"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/table"
)

// What a program returns for a packet. Source: include/uapi/linux/pkt_cls.h.
const (
	ActPass    = 0 // TC_ACT_OK: to the node's own stack
	ActDrop    = 2 // TC_ACT_SHOT
	ActForward = 7 // TC_ACT_REDIRECT
)

// ifindexAt is the offset of ifindex in struct __sk_buff, whose size is
// skbSize. Source: include/uapi/linux/bpf.h.
const (
	ifindexAt = 40
	skbSize   = 192
)

// TestRun gives a frame to the program of the device ifindex, as if it had
// come in there, and returns what the program said and made of it. Nothing is
// sent, but flow entries are made as for a real packet. For tests.
func (d *Driver) TestRun(ifindex int, uplink bool, frame []byte) (act uint32, out []byte, err error) {
	program := d.objs.WeftPort
	if uplink {
		program = d.objs.WeftUplink
	}
	ctx := make([]byte, skbSize)
	binary.NativeEndian.PutUint32(ctx[ifindexAt:], uint32(ifindex))
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+128), Context: ctx}
	act, err = program.Run(&opts)
	return act, opts.DataOut, err
}

// SetClock makes it tick the time; 0 returns to the kernel's clock. For tests.
func (d *Driver) SetClock(tick uint32) error {
	return d.configure(func(c *bpf.WeftConfig) { c.Clock = tick })
}

// Generation returns the number of the Set that is current.
func (d *Driver) Generation() uint32 { return d.config.Generation }

// SetNeighbour makes mac that of a neighbour behind an uplink's device, heard of
// at a tick. For tests.
func (d *Driver) SetNeighbour(ifindex int, addr netip.Addr, mac table.MAC, tick uint32) error {
	return d.objs.WeftNeighbours.Put(bpf.WeftNeighbourKey{Ifindex: uint32(ifindex), Addr: bpf.MapAddr(addr)},
		bpf.WeftNeighbour{Mac: mac, Own: table.RouterMAC, Seen: tick})
}

// Rows are how many rows the maps have that packets write to.
type Rows struct {
	Flows     int // entries, two a connection
	Fragments int
	Held      int // fragments that wait for their first one
	Clients   int // of persistence
}

// Rows counts. For tests.
func (d *Driver) Rows() (r Rows, err error) {
	for m, n := range map[*ebpf.Map]*int{
		d.objs.WeftFlows: &r.Flows, d.objs.WeftFragments: &r.Fragments, d.objs.WeftHeld: &r.Held, d.objs.WeftClients: &r.Clients,
	} {
		if err := scan(m, func(_, _ []byte) { *n++ }); err != nil {
			return r, err
		}
	}
	return r, nil
}
