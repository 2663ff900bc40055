package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// injector sends a frame into a running lab as the machine behind a port, and
// returns what the data plane did with it.
type injector func(ctx context.Context, lab string, port table.PortID, frame []byte) (dataplane.Record, error)

// injectInto is the injector of running labs.
func injectInto(system func() (*lab.System, error)) injector {
	return func(ctx context.Context, name string, port table.PortID, frame []byte) (r dataplane.Record, err error) {
		err = picked(system, name, func(s *lab.System, name string) (err error) {
			r, err = s.Inject(ctx, name, port, frame)
			return err
		})
		return r, err
	}
}

// live sends the flow's first packet for real and compares what the kernel did
// with what the tables say.
// Errors: they differ; both are in the text.
func (c *traceCommand) live(ctx context.Context, ix *pipeline.Index, q trace.Question) error {
	frame, ok := trace.Frame(ix, q)
	if !ok {
		return fmt.Errorf("--live: nobody answers for %s on the segment, so there is no packet to send", q.Dst)
	}
	res := pipeline.Run(ix, pipeline.NewState(8), pipeline.Input{Port: q.From, Frame: slices.Clone(frame)}, 1, 0)
	want := dataplane.RecordOf(&res)
	got, err := c.inject(ctx, c.lab, q.From, frame)
	if err != nil {
		return err
	}
	if !slices.Equal(want.Lines(), got.Lines()) {
		return fmt.Errorf("--live: the kernel differs\ntables:\n%s\nkernel:\n%s", indent(want.Lines()), indent(got.Lines()))
	}
	_, err = fmt.Fprintf(c.env.Stderr, "live: the kernel took the same %d steps\n", len(got.Steps))
	return err
}

func indent(lines []string) string {
	var s string
	for _, l := range lines {
		s += "  " + l + "\n"
	}
	return s
}
