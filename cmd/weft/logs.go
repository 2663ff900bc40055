package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
)

// logsCommand is what `weft logs` was asked.
type logsCommand struct {
	observation
	follow bool
}

// newLogsCommand returns `weft logs`. look is how it sees a lab.
func newLogsCommand(env *Env, look onlooker) *cobra.Command {
	c := &logsCommand{observation: observation{env: env, look: look}}
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Print the log lines of firewall rules",
		Long: `Prints the lines of firewall rules with logged: true: one for each packet
that would begin a connection and that such a rule let pass (another rule may
have dropped it later), and one for each packet that it dropped. A line is
printed once: some thousand wait until somebody reads them.

Each CPU writes at most 1000 lines a second, so that a flood of packets costs
lines and no packets. Lines that were lost are counted and told.`,
		Example: "  sudo weft logs\n  sudo weft logs --follow\n  sudo weft logs --follow -o json | jq 'select(.action == \"DROP\")'",
		Args:    counted(cobra.NoArgs),
		RunE:    c.run,
	}
	cmd.Flags().BoolVarP(&c.follow, "follow", "f", false, "go on until Ctrl-C")
	c.flags(cmd, "text")
	return cmd
}

// logRow is one line. The names of JSON are stable.
type logRow struct {
	Time      time.Time `json:"time"`
	Host      string    `json:"host"`
	Action    string    `json:"action"`
	RuleID    uint32    `json:"rule_id"`
	Rule      string    `json:"rule,omitempty"` // policy path; empty: the tables do not have it any more
	RuleName  string    `json:"rule_name,omitempty"`
	Policy    string    `json:"policy,omitempty"` // policy path
	Tag       string    `json:"tag,omitempty"`
	Direction string    `json:"direction"` // in or out, as the port or router sees it
	At        string    `json:"at"`        // policy path of the port (DFW) or router (gateway firewall)
	AtName    string    `json:"at_name,omitempty"`
	Protocol  string    `json:"protocol"`
	// As the connection's first packet had it when it came.
	Source      string `json:"source"`
	Destination string `json:"destination"`
	// As they were translated where the rule was; empty: they were not.
	SourceTranslated      string `json:"source_translated,omitempty"`
	DestinationTranslated string `json:"destination_translated,omitempty"`
	// Open: the connection was open already, and met new tables.
	Open bool `json:"open,omitempty"`
}

// lostRow tells programs of lines that were not written.
type lostRow struct {
	Host string `json:"host"`
	Lost uint64 `json:"lost"`
}

func (c *logsCommand) run(cmd *cobra.Command, _ []string) error {
	asJSON, err := c.json(cmd, "text")
	if err != nil {
		return err
	}
	return c.look(cmd.Context(), c.lab, func(hosts []lab.Observed) error {
		t := &tail{out: c.env.Stdout, err: c.env.Stderr, json: asJSON, names: named{}}
		defer t.close()
		for _, h := range hosts {
			if err := t.open(h); err != nil {
				return fmt.Errorf("%s: %w", h.Host, err)
			}
		}
		return t.run(cmd.Context(), c.follow)
	})
}

// tail prints the lines of some hosts as they come.
type tail struct {
	out, err io.Writer
	json     bool
	names    named
	readers  []hostLog
}

type hostLog struct {
	lab.Observed
	dataplane.LogReader
	lost uint64 // that were told
}

func (t *tail) open(h lab.Observed) error {
	r, err := h.Logs()
	if err != nil {
		return err
	}
	t.readers = append(t.readers, hostLog{Observed: h, LogReader: r})
	return nil
}

func (t *tail) close() {
	for _, r := range t.readers {
		r.LogReader.Close()
	}
}

// logWait is how long one host's lines are waited for while others may have
// some; also how long Ctrl-C may take.
const logWait = 200 * time.Millisecond

// linesAtOnce is more than a kernel keeps.
const linesAtOnce = 4096

// run prints what waits, and if it shall follow what comes until ctx ends or
// the lab is gone.
func (t *tail) run(ctx context.Context, follow bool) error {
	for ctx.Err() == nil {
		for i := range t.readers {
			if err := t.drain(ctx, &t.readers[i], follow); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
	}
	return nil
}

// drain prints the lines of r that wait, at most as many as can wait.
func (t *tail) drain(ctx context.Context, r *hostLog, follow bool) error {
	names, err := t.names.of(ctx, r.Observed)
	if err != nil {
		return err
	}
	wait := time.Duration(0)
	if follow {
		wait = logWait
	}
	for n := 0; n < linesAtOnce && ctx.Err() == nil; n++ {
		l, err := r.Next(wait)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		if err := t.line(logRowOf(r.Host, &l, names)); err != nil {
			return err
		}
	}
	return t.tellLost(r)
}

// tellLost says how many lines were lost since the last time; at first, ever.
func (t *tail) tellLost(r *hostLog) error {
	lost, err := r.Lost()
	if err != nil || lost == r.lost {
		return err
	}
	n := lost - r.lost
	r.lost = lost
	if t.json {
		return json.NewEncoder(t.out).Encode(lostRow{r.Host, n})
	}
	_, err = fmt.Fprintf(t.err, "%s: lines lost: %d (more than a CPU may write in a second, or nobody read them)\n", r.Host, n)
	return err
}

func logRowOf(host string, l *dataplane.LogLine, names *dataplane.Names) logRow {
	rule := names.Rule(l.Rule)
	r := logRow{
		Time: l.Time.UTC(), Host: host, Action: l.Action.String(), RuleID: l.Rule, Rule: rule.Path, RuleName: rule.Name,
		Policy: rule.Policy, Tag: rule.Tag, Direction: l.Direction(), Protocol: l.Asked.Proto.String(),
		Source: sender(l.Asked), Destination: receiver(l.Asked), Open: l.Again,
	}
	r.AtName, r.At = names.Port(l.Port())
	if id := l.Gateway(); id != 0 {
		r.AtName, r.At = names.Router(id)
	}
	now := l.Asked
	now.Src, now.Dst, now.DstPort = l.Src, l.Dst, l.DstPort
	if s := sender(now); s != r.Source {
		r.SourceTranslated = s
	}
	if d := receiver(now); d != r.Destination {
		r.DestinationTranslated = d
	}
	return r
}

func (t *tail) line(r logRow) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(r)
	}
	line := fmt.Sprintf("%s %s rule %s", r.Time.Local().Format("2006-01-02T15:04:05.000"), r.Action, ruleText(r.RuleName, r.RuleID))
	if r.Policy != "" {
		line += " of " + r.Policy
	}
	if r.Tag != "" {
		line += " tag " + r.Tag
	}
	line += fmt.Sprintf(" %s at %s: %s %s → %s", r.Direction, cmp.Or(r.AtName, r.At, "(gone)"), r.Protocol, r.Source, r.Destination)
	if r.SourceTranslated != "" || r.DestinationTranslated != "" {
		line += fmt.Sprintf(", here %s → %s", cmp.Or(r.SourceTranslated, r.Source), cmp.Or(r.DestinationTranslated, r.Destination))
	}
	if r.Open {
		line += ", open already"
	}
	return oneLine(t.out, line)
}
