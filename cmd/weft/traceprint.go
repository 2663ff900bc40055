package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/trace"
)

// printTrace prints a trace for people. On a terminal its disposition, and the
// step that dropped the packet, have a colour.
func printTrace(w io.Writer, res *trace.Result) error {
	var table strings.Builder
	if err := columns.Print(&table, res.Steps); err != nil {
		return err
	}
	paint := painter(w, res)
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	if res.Dropped != nil {
		lines[len(lines)-1] = paint(lines[len(lines)-1])
	}
	lines = append(lines, "")
	for _, line := range res.Summary() {
		if strings.HasPrefix(line, string(res.Disposition)) {
			line = paint(line)
		}
		lines = append(lines, line)
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s\n", res.Heading(), strings.Join(lines, "\n"))
	return err
}

// painter returns what gives a line the colour of the outcome, if w shows
// colours.
func painter(w io.Writer, res *trace.Result) func(string) string {
	colour := red
	if res.Arrives() {
		colour = green
	}
	if !isTerminal(w) {
		return func(line string) string { return line }
	}
	return func(line string) string { return colour + line + plain }
}
