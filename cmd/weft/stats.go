package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/pipeline"
)

// statsCommand is what `weft stats` was asked.
type statsCommand struct {
	observation
	unused bool // --all
}

// newStatsCommand returns `weft stats`. look is how it sees a lab.
func newStatsCommand(env *Env, look onlooker) *cobra.Command {
	c := &statsCommand{observation: observation{env: env, look: look}}
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show what rules and virtual servers did, and what was dropped",
		Long: `Shows for each firewall rule, NAT rule and virtual server of the running lab its
hits (connections that it let pass or took, packets that it dropped), the
packets and bytes of those connections in both directions, and its sessions:
the connections that are open now. The most hit come first.

Then the packets that were dropped, by reason and by the port that they came in
by, with what the reason means and what to do about it.

Packets and bytes of open connections are added every few seconds.`,
		Example: "  sudo weft stats\n  sudo weft stats --all -o json",
		Args:    counted(cobra.NoArgs),
		RunE:    c.run,
	}
	cmd.Flags().BoolVarP(&c.unused, "all", "a", false, "also what was never hit")
	c.flags(cmd, "table")
	return cmd
}

// stats are the counts of a lab. The names of JSON are stable.
type stats struct {
	Rules   []statsRow `json:"rules"`
	NAT     []statsRow `json:"nat_rules"`
	Servers []statsRow `json:"virtual_servers"`
	Drops   []dropRow  `json:"drops"`
}

// statsRow is the counts of a rule or virtual server.
type statsRow struct {
	ID       uint32 `json:"id,omitempty"` // of a rule
	Name     string `json:"name,omitempty"`
	Path     string `json:"path,omitempty"` // empty: the tables do not have it any more
	Policy   string `json:"policy,omitempty"`
	Action   string `json:"action,omitempty"` // of a rule
	Hits     uint64 `json:"hits"`
	Packets  uint64 `json:"packets"`
	Bytes    uint64 `json:"bytes"`
	Sessions uint64 `json:"sessions"`
}

// dropRow is the packets dropped for a reason.
type dropRow struct {
	Reason  string     `json:"reason"`
	Meaning string     `json:"meaning"`
	Advice  string     `json:"advice"`
	Packets uint64     `json:"packets"`
	Ports   []portDrop `json:"ports"` // the most first
}

// portDrop is those of them that came in by one port.
type portDrop struct {
	Host    string `json:"host"`
	Name    string `json:"name,omitempty"`
	Path    string `json:"path,omitempty"` // empty: the tables do not have it
	Packets uint64 `json:"packets"`
}

func (c *statsCommand) run(cmd *cobra.Command, _ []string) error {
	asJSON, err := c.json(cmd, "table")
	if err != nil {
		return err
	}
	return c.look(cmd.Context(), c.lab, func(hosts []lab.Observed) error {
		s, err := c.collect(cmd.Context(), hosts)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(c.env.Stdout, s)
		}
		return printStats(c.env.Stdout, s)
	})
}

// collect adds up what all hosts count.
func (c *statsCommand) collect(ctx context.Context, hosts []lab.Observed) (*stats, error) {
	rows := map[pipeline.TallyKey]*statsRow{}
	drops := map[pipeline.Reason]*dropRow{}
	for _, h := range hosts {
		names, err := named{}.of(ctx, h)
		if err != nil {
			return nil, err
		}
		if err := c.count(ctx, h, names, rows); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Host, err)
		}
		if err := countDrops(ctx, h, names, drops); err != nil {
			return nil, fmt.Errorf("%s: %w", h.Host, err)
		}
	}
	return sorted(rows, drops), nil
}

// count adds the tallies and sessions of a host.
func (c *statsCommand) count(ctx context.Context, h lab.Observed, names *dataplane.Names, rows map[pipeline.TallyKey]*statsRow) error {
	row := func(k pipeline.TallyKey) *statsRow {
		if rows[k] == nil {
			n := names.Tallied(k)
			rows[k] = &statsRow{ID: n.ID, Name: n.Name, Path: n.Path, Policy: n.Policy, Action: n.Type}
		}
		return rows[k]
	}
	if c.unused {
		names.Countable(func(k pipeline.TallyKey) { row(k) })
	}
	tallies, err := h.Tallies(ctx)
	if err != nil {
		return err
	}
	for k, t := range tallies {
		r := row(k)
		r.Hits += t.Hits
		r.Packets += t.Packets
		r.Bytes += t.Bytes
	}
	return h.Connections(ctx, func(conn *dataplane.Connection) bool {
		if !conn.Over && conn.State != pipeline.ConnClosing {
			seen := map[pipeline.TallyKey]bool{}
			conn.Counted(func(k pipeline.TallyKey) {
				if !seen[k] { // a rule may stand on both sides of the way
					row(k).Sessions++
				}
				seen[k] = true
			})
		}
		return true
	})
}

func countDrops(ctx context.Context, h lab.Observed, names *dataplane.Names, rows map[pipeline.Reason]*dropRow) error {
	drops, err := h.PortDrops(ctx)
	for _, d := range drops {
		if d.Packets == 0 {
			continue
		}
		r := rows[d.Reason]
		if r == nil {
			info := d.Reason.Info()
			r = &dropRow{Reason: info.Name, Meaning: info.Doc, Advice: info.Advice}
			rows[d.Reason] = r
		}
		name, path := names.Port(d.Port)
		r.Packets += d.Packets
		r.Ports = append(r.Ports, portDrop{h.Host, name, path, d.Packets})
	}
	return err
}

func sorted(rows map[pipeline.TallyKey]*statsRow, drops map[pipeline.Reason]*dropRow) *stats {
	s := &stats{Rules: []statsRow{}, NAT: []statsRow{}, Servers: []statsRow{}, Drops: []dropRow{}}
	for k, r := range rows {
		to := map[pipeline.TallyKind]*[]statsRow{pipeline.TallyRule: &s.Rules, pipeline.TallyNAT: &s.NAT, pipeline.TallyServer: &s.Servers}[k.Kind]
		if to != nil {
			*to = append(*to, *r)
		}
	}
	for _, list := range [][]statsRow{s.Rules, s.NAT, s.Servers} {
		slices.SortFunc(list, func(a, b statsRow) int {
			return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.ID, b.ID))
		})
	}
	for _, d := range drops {
		slices.SortFunc(d.Ports, func(a, b portDrop) int {
			return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Path, b.Path))
		})
		s.Drops = append(s.Drops, *d)
	}
	slices.SortFunc(s.Drops, func(a, b dropRow) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason))
	})
	return s
}

// ruleStats, natStats and serverStats are how statsRows are printed.
type (
	ruleStats   statsRow
	natStats    statsRow
	serverStats statsRow
)

// numbers are the cells that all have.
func (r statsRow) numbers() []string {
	var out []string
	for _, n := range []uint64{r.Hits, r.Packets, r.Bytes, r.Sessions} {
		out = append(out, strconv.FormatUint(n, 10))
	}
	return out
}

var numberColumns = []string{"HITS", "PACKETS", "BYTES", "SESSIONS"}

// Columns implements columns.Row.
func (ruleStats) Columns() []string {
	return slices.Concat([]string{"RULE", "ID", "ACTION", "POLICY"}, numberColumns)
}

// Row implements columns.Row.
func (r ruleStats) Row() []string {
	id := strconv.FormatUint(uint64(r.ID), 10)
	return slices.Concat([]string{r.Name, id, r.Action, cmp.Or(r.Policy, r.Path, "(gone)")}, statsRow(r).numbers())
}

// Columns implements columns.Row.
func (natStats) Columns() []string {
	return slices.Concat([]string{"NAT RULE", "ID", "ACTION", "PATH"}, numberColumns)
}

// Row implements columns.Row.
func (r natStats) Row() []string {
	id := strconv.FormatUint(uint64(r.ID), 10)
	return slices.Concat([]string{r.Name, id, r.Action, cmp.Or(r.Path, "(gone)")}, statsRow(r).numbers())
}

// Columns implements columns.Row.
func (serverStats) Columns() []string {
	return slices.Concat([]string{"VIRTUAL SERVER", "PATH"}, numberColumns)
}

// Row implements columns.Row.
func (r serverStats) Row() []string {
	return slices.Concat([]string{r.Name, cmp.Or(r.Path, "(gone)")}, statsRow(r).numbers())
}
