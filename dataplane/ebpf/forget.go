package ebpf

import (
	"context"
	"errors"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// counted is what the Set of a generation can be counted for.
type counted struct {
	as      uint32 // generation; 0: none
	tallies map[bpf.WeftTallyKey]bool
	members map[uint32]bool
}

// countedIn returns what can be counted in set.
func countedIn(set *table.Set) counted {
	c := counted{tallies: map[bpf.WeftTallyKey]bool{}, members: map[uint32]bool{}}
	add := func(kind pipeline.TallyKind, id uint32) {
		c.tallies[bpf.WeftTallyKey{Kind: uint32(kind), Id: id}] = true
	}
	for _, rs := range set.Rulesets.All() {
		for _, r := range rs.Rules {
			add(pipeline.TallyRule, r.ID)
		}
	}
	for _, l := range set.NAT.All() {
		for i := range l.Rules {
			add(pipeline.TallyNAT, l.Rules[i].ID)
		}
	}
	for _, v := range set.VIPs.All() {
		for _, s := range v.Servers {
			add(pipeline.TallyServer, uint32(s.ID))
		}
	}
	for _, p := range set.Pools.All() {
		for i := range p.Members {
			c.members[uint32(p.Members[i].ID)] = true
		}
	}
	return c
}

// forget deletes the counts of what the Set in force does not have: nobody
// could tell whose they are, and they would fill their maps. A Driver that does
// not know the Set, because another one applied it, leaves them.
//
// Cost O(rows).
func (d *Driver) forget(ctx context.Context) error {
	var c bpf.WeftConfig
	if err := d.objs.WeftConfig.Lookup(uint32(0), &c); err != nil {
		return err
	}
	set := d.held.set
	if set == nil || d.held.as != c.Generation {
		return nil
	}
	if d.counted.as != c.Generation {
		d.counted = countedIn(set)
		d.counted.as = c.Generation
	}
	return errors.Join(
		forgetRows(ctx, d.objs.WeftTallies, func(k bpf.WeftTallyKey, _ *bpf.WeftTally) bool { return !d.counted.tallies[k] }),
		forgetRows(ctx, d.objs.WeftGauges, func(k bpf.WeftGaugeKey, g *bpf.WeftGauge) bool {
			switch bpf.WeftGaugeKind(k.Kind) {
			case bpf.WeftGaugeKindGAUGE_POOL:
				return set.Pools.Get(table.PoolID(k.Id)) == nil
			case bpf.WeftGaugeKindGAUGE_MEMBER:
				return g.Open == 0 && !d.counted.members[k.Id]
			}
			return false // a sweep deletes those of virtual servers without connections
		}),
		forgetRows(ctx, d.objs.WeftPortDrops, func(k bpf.WeftDropKey, _ *uint64) bool {
			id := table.PortID(k.Port)
			return id != 0 && set.Ports.Get(id) == nil && set.Uplinks.Get(id) == nil
		}),
	)
}

// forgetRows deletes the rows of m that gone chooses. It sees the value of the
// first CPU only.
func forgetRows[K, V any](ctx context.Context, m *ebpf.Map, gone func(K, *V) bool) error {
	n := 1
	if m.Type() == ebpf.PerCPUHash {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return err
		}
		n = cpus
	}
	var keys []K
	err := eachRow(ctx, m, n, func(k *K, v []V) (bool, error) {
		if gone(*k, &v[0]) {
			keys = append(keys, *k)
		}
		return true, nil
	})
	for i := range keys {
		if err := m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return err
}
