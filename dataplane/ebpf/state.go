package ebpf

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"
)

// Sweep deletes connections and fragments that are over and makes good what was
// lost when the flow table replaced entries; see docs/pipeline.md, section 6.
// Counts of what the Set does not have any more go too, and so do the pins of
// devices that are gone.
// Whoever keeps the node calls it every few seconds. Cost O(flow entries), in
// the kernel.
func (d *Driver) Sweep(ctx context.Context) error {
	err := d.locked(func() error {
		if _, err := d.objs.WeftSweep.Run(&ebpf.RunOptions{}); err != nil {
			return err
		}
		if err := d.links.review(); err != nil {
			return err
		}
		return d.forget(ctx)
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}
