package ebpf

import (
	"context"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
)

// fullPercent is how full a map may be before Status names it.
const fullPercent = 90

// counterNames are the words for enum counter, see bpf/maps.h.
var counterNames = [bpf.WeftCounterCOUNTERS]string{
	bpf.WeftCounterCOUNTER_FLOWS_ENTERED:  "flows_entered",
	bpf.WeftCounterCOUNTER_FLOWS_REMOVED:  "flows_removed",
	bpf.WeftCounterCOUNTER_ANSWERS:        "answers",
	bpf.WeftCounterCOUNTER_EVENTS_LOST:    "events_lost",
	bpf.WeftCounterCOUNTER_SNAT_RETRIES:   "snat_retries",
	bpf.WeftCounterCOUNTER_FRAGMENTS_HELD: "fragments_held",
	bpf.WeftCounterCOUNTER_LOGS_LOST:      "logs_lost",
}

// Status counts. Cost is one pass over the flow table, about 0.1 s when full.
func (d *Driver) Status(ctx context.Context) (dataplane.Status, error) {
	s := dataplane.Status{Drops: map[string]uint64{}, Counters: map[string]uint64{}}
	if err := d.objs.WeftConfig.Lookup(uint32(0), &d.config); err != nil {
		return s, err
	}
	s.Generation = d.config.Generation
	for _, r := range pipeline.Reasons {
		n, err := sum(d.objs.WeftDrops, uint32(r.Reason))
		if err != nil {
			return s, err
		}
		if n > 0 {
			s.Drops[r.Name] = n
		}
	}
	for c, name := range counterNames {
		n, err := sum(d.objs.WeftCounters, uint32(c))
		if err != nil {
			return s, err
		}
		s.Counters[name] = n
	}
	if err := d.mapUse(ctx, &s); err != nil {
		return s, err
	}
	s.Conditions = conditions(s)
	return s, nil
}

func sum(m *ebpf.Map, key uint32) (total uint64, err error) {
	var per []uint64
	if err := m.Lookup(key, &per); err != nil {
		return 0, fmt.Errorf("%v: %w", m, err)
	}
	for _, n := range per {
		total += n
	}
	return total, nil
}

func (d *Driver) mapUse(ctx context.Context, s *dataplane.Status) error {
	maps := d.maps()
	for _, name := range bpf.TableMaps {
		rows := d.held.rows[name]
		if d.held.as != s.Generation { // another Driver applied last
			rows = 0
			if err := scan(maps[name], func(_, _ []byte) { rows++ }); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		s.Maps = append(s.Maps, dataplane.MapUse{Name: name, Entries: rows, Max: int(maps[name].MaxEntries())})
	}
	flows, err := d.countFlows(ctx)
	if err != nil {
		return err
	}
	use := dataplane.MapUse{Name: bpf.WeftMapWeftFlows, Entries: flows, Max: int(d.objs.WeftFlows.MaxEntries())}
	// What came before the pass and neither left until after it nor is there
	// gave way to newer connections: at least so many.
	removed, err := sum(d.objs.WeftCounters, uint32(bpf.WeftCounterCOUNTER_FLOWS_REMOVED))
	if err != nil {
		return err
	}
	if entered := s.Counters["flows_entered"]; entered > removed+uint64(flows) {
		d.evicted = max(d.evicted, entered-removed-uint64(flows))
	}
	use.Evicted = d.evicted
	s.Maps = append(s.Maps, use)
	return nil
}

func (d *Driver) countFlows(ctx context.Context) (n int, err error) {
	keys, values := make([]bpf.WeftFlowKey, 4096), make([]bpf.WeftFlow, 4096)
	var cursor ebpf.MapBatchCursor
	for ctx.Err() == nil {
		got, err := d.objs.WeftFlows.BatchLookup(&cursor, keys, values, nil)
		n += got
		if err != nil {
			return n, ignoreEnd(err)
		}
	}
	return n, ctx.Err()
}

func conditions(s dataplane.Status) (out []string) {
	for _, m := range s.Maps {
		// a flow table that is full of old connections is as it should be
		if m.Name != bpf.WeftMapWeftFlows && m.Entries*100 >= m.Max*fullPercent {
			out = append(out, fmt.Sprintf("%s: %d entries (of %d)", m.Name, m.Entries, m.Max))
		}
		if m.Evicted > 0 {
			out = append(out, fmt.Sprintf("%s: %d entries gave way to newer ones (%d fit)", m.Name, m.Evicted, m.Max))
		}
	}
	for _, r := range []pipeline.Reason{pipeline.ReasonSNATExhausted, pipeline.ReasonFlowTableFull, pipeline.ReasonTupleInUse} {
		if n := s.Drops[r.String()]; n > 0 {
			out = append(out, fmt.Sprintf("%s: %d packets dropped: %s", r, n, r.Info().Doc))
		}
	}
	if n := s.Counters["events_lost"]; n > 0 {
		out = append(out, fmt.Sprintf("weft_events: %d trace records lost", n))
	}
	slices.Sort(out)
	return out
}
