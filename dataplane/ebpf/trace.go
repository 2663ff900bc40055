package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

func ignoreEnd(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Recorder receives records of traced packets. Traced packets take the slow
// way; the rest of a node's traffic does too while a Recorder is open.
type Recorder struct {
	d    *Driver
	ring *ringbuf.Reader
}

// RecordAll records every packet, for tests.
func (d *Driver) RecordAll() (*Recorder, error) {
	return d.record(bpf.WeftTraceModeTRACE_ALL, 0, bpf.WeftTuple{})
}

// Record implements dataplane.Driver.
func (d *Driver) Record(l dataplane.Link, t packet.Tuple) (dataplane.Recorder, error) {
	return d.record(bpf.WeftTraceModeTRACE_ONE, l.IfIndex, mapTuple(t))
}

func (d *Driver) record(mode bpf.WeftTraceMode, ifindex int, t bpf.WeftTuple) (*Recorder, error) {
	ring, err := ringbuf.NewReader(d.objs.WeftEvents)
	if err != nil {
		return nil, err
	}
	if err := drain(ring); err != nil {
		ring.Close()
		return nil, err
	}
	err = d.configure(func(c *bpf.WeftConfig) {
		c.Trace, c.TraceIfindex, c.TraceTuple = uint32(mode), uint32(ifindex), t
	})
	if err != nil {
		ring.Close()
		return nil, err
	}
	return &Recorder{d: d, ring: ring}, nil
}

// drain drops records that an earlier recording left behind.
func drain(ring *ringbuf.Reader) error {
	ring.SetDeadline(time.Unix(1, 0))
	for {
		_, err := ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Next returns the next record; os.ErrDeadlineExceeded if none came in time.
func (r *Recorder) Next(timeout time.Duration) (dataplane.Record, error) {
	r.ring.SetDeadline(time.Now().Add(timeout))
	raw, err := r.ring.Read()
	if err != nil {
		return dataplane.Record{}, err
	}
	return decodeEvent(raw.RawSample)
}

// Close ends the recording.
func (r *Recorder) Close() error {
	off := func(c *bpf.WeftConfig) { c.Trace = uint32(bpf.WeftTraceModeTRACE_OFF) }
	return errors.Join(r.d.configure(off), r.ring.Close())
}

func decodeEvent(b []byte) (dataplane.Record, error) {
	var e bpf.WeftEvent
	full := make([]byte, binary.Size(e))
	copy(full, b)
	if _, err := binary.Decode(full, binary.NativeEndian, &e); err != nil {
		return dataplane.Record{}, fmt.Errorf("trace record: %w", err)
	}
	r := dataplane.Record{
		Verdict: pipeline.Verdict(e.Verdict), Reason: pipeline.Reason(e.Reason), Rule: e.Rule,
		Out: table.PortID(e.Out), Hops: uint8(e.Hops),
	}
	for _, s := range e.Step[:min(int(e.Steps), len(e.Step))] {
		r.Steps = append(r.Steps, dataplane.Step{
			Stage: pipeline.Stage(s.Stage), ID: s.Id, Rule: s.Rule,
			Src: s.Src.Addr(), Dst: s.Dst.Addr(), Reason: pipeline.Reason(s.Reason), Why: pipeline.Why(s.Why),
		})
	}
	return r, nil
}

func mapTuple(t packet.Tuple) bpf.WeftTuple {
	return bpf.WeftTuple{
		Src: bpf.MapAddr(t.Src), Dst: bpf.MapAddr(t.Dst),
		Sport: swap16(t.SrcPort), Dport: swap16(t.DstPort), Proto: uint8(t.Proto),
	}
}

// swap16 returns a port as the programs hold it: network order in memory.
func swap16(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
