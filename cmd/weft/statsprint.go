package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/weft-net/weft/internal/columns"
)

// printedPorts is how many ports of a drop reason are printed for people.
const printedPorts = 10

// printStats prints s for people.
func printStats(w io.Writer, s *stats) error {
	var sections []func() error
	if len(s.Rules) > 0 {
		sections = append(sections, func() error { return columns.Print(w, as(s.Rules, func(r statsRow) ruleStats { return ruleStats(r) })) })
	}
	if len(s.NAT) > 0 {
		sections = append(sections, func() error { return columns.Print(w, as(s.NAT, func(r statsRow) natStats { return natStats(r) })) })
	}
	if len(s.Servers) > 0 {
		sections = append(sections, func() error {
			return columns.Print(w, as(s.Servers, func(r statsRow) serverStats { return serverStats(r) }))
		})
	}
	if len(sections) == 0 {
		sections = append(sections, func() error {
			_, err := fmt.Fprintln(w, "no rule and no virtual server was hit")
			return err
		})
	}
	sections = append(sections, func() error { return printDrops(w, s.Drops) })
	for i, section := range sections {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := section(); err != nil {
			return err
		}
	}
	return nil
}

// as returns rows in another form.
func as[R any](rows []statsRow, form func(statsRow) R) []R {
	out := make([]R, len(rows))
	for i, r := range rows {
		out[i] = form(r)
	}
	return out
}

func printDrops(w io.Writer, drops []dropRow) error {
	if len(drops) == 0 {
		_, err := fmt.Fprintln(w, "no packet was dropped")
		return err
	}
	var all uint64
	for _, d := range drops {
		all += d.Packets
	}
	fmt.Fprintf(w, "packets dropped: %d\n", all)
	for _, d := range drops {
		fmt.Fprintf(w, "\n%s: %d: %s\n  advice: %s\n", d.Reason, d.Packets, d.Meaning, d.Advice)
		for i, p := range d.Ports {
			if i == printedPorts {
				fmt.Fprintf(w, "  and %d other ports\n", len(d.Ports)-i)
				break
			}
			fmt.Fprintf(w, "  %d from %s\n", p.Packets, cmp.Or(p.Name, p.Path, "a device without a port"))
		}
	}
	return nil
}
