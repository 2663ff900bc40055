package columns

import (
	"errors"
	"strings"
	"testing"
)

type hop struct{ name, addr string }

func (hop) Columns() []string { return []string{"HOP", "ADDRESS"} }
func (h hop) Row() []string   { return []string{h.name, h.addr} }

func TestPrint(t *testing.T) {
	for _, tt := range []struct {
		name string
		rows []hop
		want string
	}{
		{"no rows", nil, "HOP  ADDRESS\n"},
		{"aligned, no space at the end", []hop{{"a", "10.1.0.1"}, {"longer", "::1"}},
			"HOP     ADDRESS\na       10.1.0.1\nlonger  ::1\n"},
		{"empty cell", []hop{{"", "::1"}, {"b", ""}}, "HOP  ADDRESS\n-    ::1\nb    -\n"},
		{"runes, not bytes", []hop{{"→→→→", "x"}}, "HOP   ADDRESS\n→→→→  x\n"},
		{"one line per row", []hop{{"a\nb", "c\td"}}, "HOP  ADDRESS\na b  c d\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if err := Print(&b, tt.rows); err != nil {
				t.Fatal(err)
			}
			if b.String() != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", b.String(), tt.want)
			}
		})
	}
}

type brokenPipe struct{}

var errBroken = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

func TestPrintReturnsTheWritersError(t *testing.T) {
	if err := Print(brokenPipe{}, []hop{{"a", "b"}}); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want %v", err, errBroken)
	}
}
