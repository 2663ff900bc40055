// Package columns prints rows as aligned text: the one form that the CLI, the
// lab and golden files have.
package columns

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Row is one line of a table.
type Row interface {
	// Columns returns the headings, in capitals; it must not depend on the
	// row, so that it works for a zero value.
	Columns() []string
	// Row returns one cell per heading.
	Row() []string
}

// Print writes a heading and the rows, columns aligned and two spaces apart,
// without space at the end of lines. An empty cell is written as -. Without
// rows only the heading is written.
// Errors: those of w.
func Print[R Row](w io.Writer, rows []R) error {
	var zero R
	lines := [][]string{zero.Columns()}
	for _, r := range rows {
		lines = append(lines, r.Row())
	}
	return write(w, lines)
}

// gap is what stands between columns.
const gap = "  "

func write(w io.Writer, lines [][]string) error {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(shown(cell)))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			cell = shown(cell)
			b.WriteString(cell)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
				b.WriteString(gap)
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shown returns a cell as it is written: on one line and never empty.
func shown(cell string) string {
	if cell == "" {
		return "-"
	}
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(cell)
}
