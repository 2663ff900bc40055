package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// onlooker runs fn with the data planes of a running lab; an empty name is the
// only lab.
type onlooker func(ctx context.Context, lab string, fn func([]lab.Observed) error) error

// lookAt is the onlooker of running labs.
func lookAt(system func() (*lab.System, error)) onlooker {
	return func(ctx context.Context, name string, fn func([]lab.Observed) error) error {
		return picked(system, name, func(s *lab.System, name string) error { return s.Observe(ctx, name, fn) })
	}
}

// observation is what commands share that look at data planes.
type observation struct {
	env    *Env
	look   onlooker
	lab    string // --lab
	output string // -o
}

// flags adds the flags that all of them have; text is the output for people.
func (o *observation) flags(cmd *cobra.Command, text string) {
	cmd.Flags().StringVarP(&o.output, "output", "o", text, text+" or json")
	cmd.Flags().StringVarP(&o.lab, "lab", "l", "", "name of the lab (default: the one that is up)")
}

// json says whether output for programs is wanted.
func (o *observation) json(cmd *cobra.Command, text string) (bool, error) {
	if o.output != text && o.output != "json" {
		return false, usageError(cmd, fmt.Errorf("-o: %q: is not an output (%s, json)", o.output, text))
	}
	return o.output == "json", nil
}

// named are the names of hosts' tables, by host.
type named map[string]*tableNames

type tableNames struct {
	set *table.Set
	*dataplane.Names
}

// of returns the names of what h has now.
func (n named) of(ctx context.Context, h lab.Observed) (*dataplane.Names, error) {
	set, err := h.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if n[h.Host] == nil || n[h.Host].set != set {
		n[h.Host] = &tableNames{set, dataplane.NamesOf(set)}
	}
	return n[h.Host].Names, nil
}

// ruleRef names a rule for programs.
type ruleRef struct {
	ID     uint32 `json:"id"`
	Name   string `json:"name,omitempty"`
	Path   string `json:"path,omitempty"` // empty: the tables do not have it any more
	Policy string `json:"policy,omitempty"`
}

func refOf(r dataplane.RuleName) ruleRef { return ruleRef{r.ID, r.Name, r.Path, r.Policy} }

// ruleText names a rule for people, such as web (1005).
func ruleText(name string, id uint32) string {
	if name == "" {
		return strconv.FormatUint(uint64(id), 10)
	}
	return fmt.Sprintf("%s (%d)", name, id)
}

// sender and receiver write the two ends of a tuple.
func sender(t packet.Tuple) string   { return end(t.Src, t.SrcPort, t.Proto) }
func receiver(t packet.Tuple) string { return end(t.Dst, t.DstPort, t.Proto) }

func end(a netip.Addr, port uint16, p packet.Proto) string {
	switch p {
	case packet.TCP, packet.UDP, packet.SCTP:
		return netip.AddrPortFrom(a, port).String()
	}
	return a.String()
}

// short writes a duration in its largest unit, or two: 5s, 3m20s, 7h5m, 12d.
func short(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return d.String()
}

// oneLine writes a line; what names have of control characters becomes space, so
// that nobody can write a line of his own.
func oneLine(w io.Writer, line string) error {
	clean := func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}
	_, err := io.WriteString(w, strings.Map(clean, line)+"\n")
	return err
}

// seconds returns whole seconds.
func seconds(d time.Duration) int64 { return int64(d.Round(time.Second) / time.Second) }
