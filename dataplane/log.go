package dataplane

import (
	"errors"
	"net/netip"
	"time"

	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// ErrLogsTaken says that somebody else reads the log lines: each line is given
// to one reader.
var ErrLogsTaken = errors.New("log: another process reads it")

// LogReader gives the lines of logged rules, each once and in order per CPU.
// Lines wait, up to some thousands, while nobody reads.
type LogReader interface {
	// Next waits for a line; os.ErrDeadlineExceeded if none came in time.
	Next(timeout time.Duration) (LogLine, error)
	// Lost returns how many lines were not written, of all time: beyond the
	// rate, or because too many waited to be read.
	Lost() (uint64, error)
	Close() error
}

// LogLine is one decision of a firewall rule with Logged set: a connection that
// it let pass, or a packet that it dropped.
type LogLine struct {
	Time       time.Time
	Generation uint32         // of the Set that decided
	Rule       uint32         // rule id
	Stage      pipeline.Stage // a stage of a firewall; it says the direction
	ID         uint32         // where: table.PortID (DFW) or VRFID (gateway firewall)
	Action     table.RuleAction
	Again      bool         // a connection that was open when the tables changed
	Asked      packet.Tuple // as the connection's first packet had it when it came
	Src, Dst   netip.Addr   // as they were translated so far
	DstPort    uint16       // likewise
}

// Port returns the port whose firewall decided; 0 if it was a gateway's.
func (l *LogLine) Port() table.PortID {
	if l.Stage == pipeline.StageDFWOut || l.Stage == pipeline.StageDFWIn {
		return table.PortID(l.ID)
	}
	return 0
}

// Gateway returns the router whose firewall decided; 0 if it was a port's.
func (l *LogLine) Gateway() table.VRFID {
	if l.Stage == pipeline.StageGatewayOut || l.Stage == pipeline.StageGatewayIn {
		return table.VRFID(l.ID)
	}
	return 0
}

// Direction returns in or out, as the rule's scope sees the packet; "" if the
// line is of no firewall.
func (l *LogLine) Direction() string {
	switch l.Stage {
	case pipeline.StageDFWOut, pipeline.StageGatewayOut:
		return "out"
	case pipeline.StageDFWIn, pipeline.StageGatewayIn:
		return "in"
	}
	return ""
}
