package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/lab"
)

// flowsCommand is what `weft flows` was asked.
type flowsCommand struct {
	observation
	flowFilter
	limit    int
	watch    bool
	interval time.Duration
}

// newFlowsCommand returns `weft flows`. look is how it sees a lab.
func newFlowsCommand(env *Env, look onlooker) *cobra.Command {
	c := &flowsCommand{observation: observation{env: env, look: look}}
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show the connections of the running lab",
		Long: `Shows the connections that the data plane tracks, as it has them now: what the
sender wrote, what the other side sees, who took it, the rules that let it pass
and what it carried. The ones that were active last come first.

--src, --dst and --port are looked for as the connection began and as the other
side sees it. --rule is the id, policy path or name of a firewall or NAT rule.

With --watch connections are printed when they begin (+) and end (-), as lines,
until Ctrl-C; one that begins and ends between two looks is printed too, as long
as the data plane remembers it.`,
		Example: "  sudo weft flows --dst 192.168.178.222 --port 80\n" +
			"  sudo weft flows --server harbor --state established\n" +
			"  sudo weft flows --rule /infra/tier-1s/cormac-ns/nat/USER/nat-rules/egress -o json\n" +
			"  sudo weft flows --watch --src 192.168.1.0/24",
		Args: counted(cobra.NoArgs),
		RunE: c.run,
	}
	f := cmd.Flags()
	f.StringVar(&c.src, "src", "", "source address or prefix")
	f.StringVar(&c.dst, "dst", "", "destination address or prefix")
	f.Uint16Var(&c.port, "port", 0, "destination port")
	f.StringVar(&c.proto, "proto", "", "tcp, udp, icmp, sctp or a number")
	f.StringVar(&c.rule, "rule", "", "rule that let it pass: id, policy path or name")
	f.StringVar(&c.server, "server", "", "virtual server that took it: policy path or name")
	f.StringVar(&c.member, "member", "", "pool member that got it: address, address:port or name")
	f.StringVar(&c.state, "state", "", "new, replied, established or closing")
	f.IntVar(&c.limit, "limit", 1000, "show at most so many; 0: all")
	f.BoolVarP(&c.watch, "watch", "w", false, "print connections as they begin and end")
	f.DurationVar(&c.interval, "interval", time.Second, "time between two looks with --watch")
	c.flags(cmd, "table")
	return cmd
}

// minInterval keeps --watch from doing nothing else than to look.
const minInterval = 100 * time.Millisecond

func (c *flowsCommand) run(cmd *cobra.Command, _ []string) error {
	asJSON, err := c.json(cmd, "table")
	if err != nil {
		return err
	}
	filter, err := c.read()
	switch {
	case err != nil:
		return usageError(cmd, err)
	case c.limit < 0:
		return usageError(cmd, fmt.Errorf("--limit: %d: is negative", c.limit))
	case c.interval < minInterval:
		return usageError(cmd, fmt.Errorf("--interval: %s: is too short (at least %s)", c.interval, minInterval))
	}
	return c.look(cmd.Context(), c.lab, func(hosts []lab.Observed) error {
		if c.watch {
			w := &watch{flowsCommand: c, filter: &filter, json: asJSON, known: map[flowID]*watched{}, names: named{}}
			return w.run(cmd.Context(), hosts)
		}
		rows, all, err := c.collect(cmd.Context(), hosts, &filter)
		if err != nil {
			return err
		}
		return c.print(rows, all, asJSON)
	})
}

// collect returns the connections that filter takes, at most c.limit of them,
// sorted, and how many there are. Memory is bounded by twice the limit.
func (c *flowsCommand) collect(ctx context.Context, hosts []lab.Observed, filter *picky) (rows []flowRow, all int, err error) {
	keep := func() {
		slices.SortFunc(rows, compareRows)
		if c.limit > 0 && len(rows) > c.limit {
			rows = rows[:c.limit]
		}
	}
	for _, h := range hosts {
		names, err := named{}.of(ctx, h)
		if err == nil {
			err = filter.known(names)
		}
		if err != nil {
			return nil, 0, err
		}
		err = h.Connections(ctx, func(conn *dataplane.Connection) bool {
			if !filter.takes(conn, names) {
				return true
			}
			all++
			if rows = append(rows, rowOf(h.Host, conn, names)); c.limit > 0 && len(rows) >= 2*c.limit {
				keep()
			}
			return true
		})
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", h.Host, err)
		}
	}
	keep()
	return rows, all, nil
}

func (c *flowsCommand) print(rows []flowRow, all int, asJSON bool) error {
	if asJSON {
		if rows == nil {
			rows = []flowRow{}
		}
		return printJSON(c.env.Stdout, rows)
	}
	if len(rows) == 0 {
		what := "no connections"
		if c.flowFilter != (flowFilter{}) {
			what = "no connection that matches"
		}
		_, err := fmt.Fprintln(c.env.Stdout, what)
		return err
	}
	if err := columns.Print(c.env.Stdout, rows); err != nil {
		return err
	}
	if len(rows) < all {
		fmt.Fprintf(c.env.Stderr, "%d of %d connections are shown (--limit)\n", len(rows), all)
	}
	return nil
}
