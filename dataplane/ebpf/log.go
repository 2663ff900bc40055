package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// logReader reads weft_log. A ring buffer has one reader: who has the lock.
type logReader struct {
	d    *Driver
	lock *os.File
	ring *ringbuf.Reader
	rec  ringbuf.Record
}

// Logs implements dataplane.Observer.
func (d *Driver) Logs() (dataplane.LogReader, error) {
	lock, err := logLock(filepath.Join(d.dir, "log"))
	if err != nil {
		return nil, err
	}
	ring, err := ringbuf.NewReader(d.objs.WeftLog)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log: %w", err), lock.Close())
	}
	return &logReader{d: d, lock: lock, ring: ring}, nil
}

// logLock takes the lock of directory dir, which it makes if it is missing: the
// file system of pins has no files.
func logLock(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("log: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, dataplane.ErrLogsTaken
		}
		return nil, fmt.Errorf("log: lock: %w", err)
	}
	return lock, nil
}

// Next implements dataplane.LogReader.
func (r *logReader) Next(timeout time.Duration) (dataplane.LogLine, error) {
	r.ring.SetDeadline(time.Now().Add(timeout))
	if err := r.ring.ReadInto(&r.rec); err != nil {
		return dataplane.LogLine{}, err
	}
	return decodeLog(r.rec.RawSample, time.Now().Add(-clock(unix.CLOCK_BOOTTIME)))
}

// Lost implements dataplane.LogReader.
func (r *logReader) Lost() (uint64, error) {
	return sum(r.d.objs.WeftCounters, uint32(bpf.WeftCounterCOUNTER_LOGS_LOST))
}

// Close implements dataplane.LogReader.
func (r *logReader) Close() error { return errors.Join(r.ring.Close(), r.lock.Close()) }

// decodeLog reads a record of weft_log; the machine was started at boot.
func decodeLog(b []byte, boot time.Time) (dataplane.LogLine, error) {
	var l bpf.WeftLogLine
	if n, err := binary.Decode(b, binary.NativeEndian, &l); err != nil || n != len(b) {
		return dataplane.LogLine{}, fmt.Errorf("log line: %d bytes (%d)", len(b), binary.Size(l))
	}
	return dataplane.LogLine{
		Time: boot.Add(time.Duration(l.Time)).Round(0), Generation: l.Generation, Rule: l.Rule,
		Stage: pipeline.Stage(l.Stage), ID: l.Id, Action: table.RuleAction(l.Action), Again: l.Again != 0,
		Asked: tupleOf(&l.Asked), Src: l.Src.Addr(), Dst: l.Dst.Addr(), DstPort: swap16(l.Dport),
	}, nil
}
