package ebpf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

var _ dataplane.Observer = (*Driver)(nil)

// observedRows is how many rows one system call reads of a map that packets
// write to; 0.4 MB of flow entries. The kernel locks one bucket at a time.
const observedRows = 1024

// eachRow calls fn for the rows of m until it returns false or an error. A row has
// n values: one a CPU, or 1. They are valid until fn returns.
func eachRow[K, V any](ctx context.Context, m *ebpf.Map, n int, fn func(*K, []V) (bool, error)) error {
	keys, values := make([]K, observedRows), make([]V, observedRows*n)
	var cursor ebpf.MapBatchCursor
	for ctx.Err() == nil {
		got, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range got {
			if more, err := fn(&keys[i], values[i*n:][:n]); !more || err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
	return ctx.Err()
}

// viewer makes Connections of flow entries, as of one moment.
type viewer struct {
	flows   *ebpf.Map
	now     uint32 // tick
	timeout [bpf.WeftTimeoutClassTIMEOUTS]uint32
	devices map[uint32]bpf.WeftDevice // by device number
	key     bpf.WeftFlowKey           // of the reply
	reply   bpf.WeftFlow
	out     dataplane.Connection
}

// Connections implements dataplane.Observer. Besides the passes over the flow
// table it costs a system call for each connection.
func (d *Driver) Connections(ctx context.Context, yield func(*dataplane.Connection) bool) error {
	v, err := d.viewer(ctx)
	if err != nil {
		return err
	}
	err = eachRow(ctx, v.flows, 1, func(k *bpf.WeftFlowKey, f []bpf.WeftFlow) (bool, error) {
		c, err := v.connection(k, &f[0])
		return err == nil && (c == nil || yield(c)), err
	})
	if err != nil {
		return fmt.Errorf("connections: %w", err)
	}
	return nil
}

func (d *Driver) viewer(ctx context.Context) (*viewer, error) {
	var c bpf.WeftConfig
	if err := d.objs.WeftConfig.Lookup(uint32(0), &c); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	v := &viewer{flows: d.objs.WeftFlows, now: c.Clock, timeout: c.Timeout[c.Generation&1], devices: map[uint32]bpf.WeftDevice{}}
	if v.now == 0 {
		v.now = uint32(pipeline.TickOf(clock(unix.CLOCK_MONOTONIC).Nanoseconds()))
	}
	err := eachRow(ctx, d.objs.WeftDevices, 1, func(ifindex *uint32, row []bpf.WeftDeviceRow) (bool, error) {
		if b := row[0].Slot[c.Generation&1]; b.Present == present {
			v.devices[*ifindex] = b
		}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return v, nil
}

// connection returns the pair whose original is f; nil if f is a reply, or not
// half of a pair.
func (v *viewer) connection(k *bpf.WeftFlowKey, f *bpf.WeftFlow) (*dataplane.Connection, error) {
	if f.Flags&flowReply != 0 {
		return nil, nil
	}
	v.key = peerKey(f)
	if err := v.flows.Lookup(&v.key, &v.reply); err != nil {
		return nil, ignoreEnd(err)
	}
	r := &v.reply
	if back := peerKey(r); back != *k || r.Flags&flowReply == 0 {
		return nil, nil
	}
	v.out = dataplane.Connection{
		Zone: v.zone(k.Zone), In: table.PortID(v.devices[f.In].Id), InDev: int(f.In),
		Tuple: tupleOf(&k.T), To: tupleOf(&f.T), Mid: f.MidSrc.Addr(),
		State: pipeline.ConnState(f.State), Over: v.over(f) && v.over(r), Age: v.since(f.Born),
		Original: v.direction(f), Reply: v.direction(r),
		Out: table.PortID(f.OutPort), OutDev: int(f.Out), Hops: f.Hops,
		Rules: listed(v.out.Rules[:0], f.Rules[:]), NATs: listed(v.out.NATs[:0], f.Nats[:]),
		Server: table.VirtualServerID(f.Server), Member: table.MemberID(f.Member),
	}
	if f.Flags&flowUplink != 0 {
		v.out.NextHop = f.Nexthop.Addr()
	}
	return &v.out, nil
}

// The bits of a flow's flags that are read here, and of a zone. Source:
// bpf/state.h.
const (
	flowReply  = 1
	flowUplink = 8
	zoneUplink = 1 << 31
)

// peerKey is the key of f's other half.
func peerKey(f *bpf.WeftFlow) bpf.WeftFlowKey {
	return bpf.WeftFlowKey{Zone: f.PeerZone, T: bpf.WeftTuple{
		Src: f.T.Dst, Dst: f.T.Src, Sport: f.T.Dport, Dport: f.T.Sport, Proto: f.T.Proto,
	}}
}

func (v *viewer) zone(z uint32) pipeline.Zone {
	if z&zoneUplink != 0 {
		return pipeline.Zone{VRF: table.VRFID(z &^ zoneUplink)}
	}
	return pipeline.Zone{Port: table.PortID(v.devices[z].Id)}
}

// ticksSince is how programs compute an age: another CPU's clock may be ahead.
func (v *viewer) ticksSince(tick uint32) uint32 { return uint32(max(0, int32(v.now-tick))) }

func (v *viewer) since(tick uint32) time.Duration { return time.Duration(v.ticksSince(tick)) << 30 }

func (v *viewer) over(f *bpf.WeftFlow) bool {
	return v.ticksSince(f.Seen) > v.timeout[int(f.Timeout)%len(v.timeout)]
}

func (v *viewer) direction(f *bpf.WeftFlow) dataplane.Direction {
	return dataplane.Direction{Idle: v.since(f.Seen), Packets: f.Packets, Bytes: f.Bytes}
}

// listed appends the ids of a list that ends with 0.
func listed(to, ids []uint32) []uint32 {
	for _, id := range ids {
		if id == 0 {
			break
		}
		to = append(to, id)
	}
	return to
}

func tupleOf(t *bpf.WeftTuple) packet.Tuple {
	return packet.Tuple{
		Src: t.Src.Addr(), Dst: t.Dst.Addr(), Proto: packet.Proto(t.Proto),
		SrcPort: swap16(t.Sport), DstPort: swap16(t.Dport),
	}
}

// clock reads one of the kernel's clocks.
func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err) // there is no other way than a wrong id
	}
	return time.Duration(ts.Nano())
}

// Tallies implements dataplane.Observer. Cost O(rows × CPUs).
func (d *Driver) Tallies(ctx context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	out := map[pipeline.TallyKey]pipeline.Tally{}
	cpus, err := ebpf.PossibleCPU()
	if err == nil {
		err = eachRow(ctx, d.objs.WeftTallies, cpus, func(k *bpf.WeftTallyKey, values []bpf.WeftTally) (bool, error) {
			var t pipeline.Tally
			for _, v := range values {
				t.Hits += v.Hits
				t.Packets += v.Packets
				t.Bytes += v.Bytes
			}
			out[pipeline.TallyKey{Kind: pipeline.TallyKind(k.Kind), ID: k.Id}] = t
			return true, nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("tallies: %w", err)
	}
	return out, nil
}

// PortDrops implements dataplane.Observer. Cost O(rows × CPUs).
func (d *Driver) PortDrops(ctx context.Context) (out []dataplane.PortDrop, err error) {
	cpus, err := ebpf.PossibleCPU()
	if err == nil {
		err = eachRow(ctx, d.objs.WeftPortDrops, cpus, func(k *bpf.WeftDropKey, values []uint64) (bool, error) {
			drop := dataplane.PortDrop{Port: table.PortID(k.Port), Reason: pipeline.Reason(k.Reason)}
			for _, v := range values {
				drop.Packets += v
			}
			out = append(out, drop)
			return true, nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("drops: %w", err)
	}
	return out, nil
}

// Loads implements dataplane.Observer.
func (d *Driver) Loads(ctx context.Context) (dataplane.Loads, error) {
	l := dataplane.Loads{Servers: map[table.VirtualServerID]uint32{}, Members: map[table.MemberID]dataplane.Load{}}
	err := eachRow(ctx, d.objs.WeftGauges, 1, func(k *bpf.WeftGaugeKey, values []bpf.WeftGauge) (bool, error) {
		switch g := values[0]; bpf.WeftGaugeKind(k.Kind) {
		case bpf.WeftGaugeKindGAUGE_SERVER:
			if openOf(g) > 0 {
				l.Servers[table.VirtualServerID(k.Id)] = openOf(g)
			}
		case bpf.WeftGaugeKindGAUGE_MEMBER:
			if openOf(g) > 0 || g.Fails > 0 {
				l.Members[table.MemberID(k.Id)] = dataplane.Load{Open: openOf(g), Fails: g.Fails}
			}
		}
		return true, nil
	})
	if err != nil {
		return l, fmt.Errorf("loads: %w", err)
	}
	return l, nil
}

// openOf returns the open connections of a gauge: two CPUs may have counted one
// down past zero.
func openOf(g bpf.WeftGauge) uint32 { return uint32(max(0, int32(g.Open))) }
