package ebpf

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/table"
)

// Sweep deletes connections and fragments that are over and makes good what was
// lost when the flow table replaced entries; see docs/pipeline.md, section 6.
// Counts of what the Set does not have any more go too.
// Whoever keeps the node calls it every few seconds. Cost O(flow entries), in
// the kernel.
func (d *Driver) Sweep(ctx context.Context) error {
	_, err := d.objs.WeftSweep.Run(&ebpf.RunOptions{})
	if err == nil {
		err = d.forget(ctx)
	}
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// open returns how many connections of a virtual server or member are open.
func (d *Driver) open(kind bpf.WeftGaugeKind, id uint32) (uint32, error) {
	g, err := d.gauge(kind, id)
	return g.Open, err
}

// OpenAt returns how many connections to a member are open.
func (d *Driver) OpenAt(id table.MemberID) (uint32, error) {
	return d.open(bpf.WeftGaugeKindGAUGE_MEMBER, uint32(id))
}

// OpenTo returns how many connections that a virtual server took are open.
func (d *Driver) OpenTo(id table.VirtualServerID) (uint32, error) {
	return d.open(bpf.WeftGaugeKindGAUGE_SERVER, uint32(id))
}

func (d *Driver) gauge(kind bpf.WeftGaugeKind, id uint32) (bpf.WeftGauge, error) {
	var g bpf.WeftGauge
	err := d.objs.WeftGauges.Lookup(bpf.WeftGaugeKey{Kind: uint32(kind), Id: id}, &g)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return g, nil
	}
	return g, err
}

// Fails returns how many connections in a row failed at each member; members
// without fails are left out.
func (d *Driver) Fails(context.Context) (map[table.MemberID]uint32, error) {
	out := map[table.MemberID]uint32{}
	var k bpf.WeftGaugeKey
	var g bpf.WeftGauge
	it := d.objs.WeftGauges.Iterate()
	for it.Next(&k, &g) {
		if k.Kind == uint32(bpf.WeftGaugeKindGAUGE_MEMBER) && g.Fails > 0 {
			out[table.MemberID(k.Id)] = g.Fails
		}
	}
	return out, it.Err()
}
