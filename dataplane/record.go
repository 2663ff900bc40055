package dataplane

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Record is what a data plane did with one packet, in pipeline's words.
type Record struct {
	Verdict pipeline.Verdict
	Reason  pipeline.Reason
	Rule    uint32       // that dropped; 0: none
	Out     table.PortID // valid iff Forward or Answer
	Hops    uint8        // valid iff Forward
	Steps   []Step
}

// Step is one step of a Record: what both pipeline and a kernel know of it.
type Step struct {
	Stage    pipeline.Stage
	ID       uint32
	Rule     uint32
	Src, Dst netip.Addr
	Reason   pipeline.Reason
	Why      pipeline.Why // in StageLB and StageDLB, unless it dropped
}

// Recorder receives the records of traced packets.
type Recorder interface {
	// Next waits for a record; os.ErrDeadlineExceeded if none came in time.
	Next(timeout time.Duration) (Record, error)
	Close() error
}

// RecordOf returns what pipeline found as a Record.
func RecordOf(res *pipeline.Result) Record {
	r := Record{Verdict: res.Verdict, Reason: res.Reason, Rule: res.Rule}
	if res.Verdict == pipeline.Forward || res.Verdict == pipeline.Answer {
		r.Out = res.Out
	}
	if res.Verdict == pipeline.Forward {
		r.Hops = res.Hops
	}
	for _, s := range res.Steps {
		r.Steps = append(r.Steps, Step{Stage: s.Stage, ID: s.ID, Rule: s.Rule, Src: s.Src, Dst: s.Dst, Reason: s.Reason, Why: s.Why})
	}
	return r
}

// Lines prints a record one line a step, so that two of them can be compared.
// What a kernel can not know is left out: the addresses of a packet that it
// could not read, and the name of a device that is in no table.
func (r Record) Lines() []string {
	first := fmt.Sprintf("%v %v rule %d out %d", r.Verdict, r.Reason, r.Rule, r.Out)
	if r.Verdict == pipeline.Forward {
		first += fmt.Sprintf(" hops %d", r.Hops)
	}
	out := []string{first}
	for _, s := range r.Steps {
		if s.Stage == pipeline.StageParse {
			s.Src, s.Dst = netip.Addr{}, netip.Addr{}
		}
		if s.Reason == pipeline.ReasonNoPort {
			s.ID = 0
		}
		line := fmt.Sprintf("%v id %d rule %d %v > %v %v", s.Stage, s.ID, s.Rule, s.Src, s.Dst, s.Reason)
		if s.Why != 0 {
			line += fmt.Sprintf(" %v", s.Why)
		}
		out = append(out, line)
	}
	return out
}
