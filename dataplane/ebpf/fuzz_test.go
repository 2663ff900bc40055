package ebpf

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// FuzzDecodeEvent: records from the kernel are as long as they have steps; none
// of any length may do harm.
func FuzzDecodeEvent(f *testing.F) {
	var e bpf.WeftEvent
	e.Steps = 2
	whole, err := binary.Append(nil, binary.NativeEndian, &e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:28])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeEvent(b)
		if err != nil {
			t.Fatal(err) // what is missing is zero
		}
		if len(r.Steps) > len(e.Step) {
			t.Fatalf("%d steps", len(r.Steps))
		}
		r.Lines() // names are there for any number
	})
}

// FuzzDecodeLog: a line has one length.
func FuzzDecodeLog(f *testing.F) {
	l := bpf.WeftLogLine{
		Time: 5e9, Rule: 1001, Id: 7, Stage: 6, Action: uint8(table.Drop),
		Asked: mapTuple(packet.Tuple{Proto: packet.TCP, SrcPort: 40000, DstPort: 80}), Dport: swap16(8080),
	}
	whole, err := binary.Append(nil, binary.NativeEndian, &l)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[1:])
	f.Add([]byte{})
	boot := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, b []byte) {
		line, err := decodeLog(b, boot)
		if (err == nil) != (len(b) == len(whole)) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if string(b) == string(whole) && (line.Rule != 1001 || line.Port() != 7 || line.Asked.DstPort != 80 || line.DstPort != 8080 || !line.Time.Equal(boot.Add(5*time.Second))) {
			t.Fatalf("%+v", line)
		}
		if line.Port() != 0 && line.Gateway() != 0 {
			t.Fatalf("%+v: is of a port and of a gateway", line)
		}
	})
}
