package ebpf

import (
	"context"
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
