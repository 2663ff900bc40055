package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/lab"
)

// Terminal colours. Source: ECMA-48, SGR.
const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable prints a status for people.
func printTable(w io.Writer, s *lab.Status) error {
	if err := printMachines(w, s); err != nil {
		return err
	}
	if s.Agent != nil {
		if err := printAgent(w, s.Agent); err != nil {
			return err
		}
	}
	if s.DataPlane == nil {
		return nil
	}
	return printDataPlane(w, s.DataPlane)
}

// printAgent prints the conditions that a host's agent tells, and the members of
// load balancer pools with what their monitors found.
func printAgent(w io.Writer, s *agent.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Conditions) > 0 {
		fmt.Fprintln(t, "\nCONDITION\tOBJECT\tHOLDS\tSINCE\tMESSAGE")
	}
	for _, c := range s.Conditions {
		holds := "yes"
		if !c.Status {
			holds = "no more"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.Type, cmp.Or(c.Object, "-"), holds, c.Since.Format(time.TimeOnly), c.Message)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Members) > 0 {
		fmt.Fprintln(t, "\nPOOL\tMEMBER\tADMIN\tMONITORS\tHEALTH")
	}
	for _, m := range s.Members {
		monitors := []string{}
		for _, c := range m.Checks {
			monitors = append(monitors, path.Base(c.Monitor))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.Pool, m.Address, m.Admin, cmp.Or(strings.Join(monitors, ","), "-"),
			stateText(health(m), isTerminal(w)))
	}
	return t.Flush()
}

// health says how a member is, in words: "up", or why it is not.
func health(m agent.Member) string {
	if !m.Up {
		return "down: " + m.Why
	}
	for _, c := range m.Checks {
		if c.Last != "" {
			return "up, but failed: " + c.Last
		}
	}
	return "up"
}

// printMachines prints what a lab consists of. The state is the last column,
// so that colours do not disturb the alignment.
func printMachines(w io.Writer, s *lab.Status) error {
	fmt.Fprintf(w, "lab %s: %s\n\n", s.Lab, s.Phase)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tKIND\tADDRESS\tMAC\tPORT\tNAMESPACE\tSTATE")
	colour := isTerminal(w)
	for _, m := range s.Machines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.Kind,
			cmp.Or(strings.Join(m.Addresses, ","), "-"), cmp.Or(m.MAC, "-"), cmp.Or(m.Port, "-"), m.Namespace,
			stateText(m.State, colour))
	}
	return t.Flush()
}

// printDataPlane prints what the driver told: first what needs attention.
func printDataPlane(w io.Writer, s *dataplane.Status) error {
	fmt.Fprintf(w, "\ndata plane: generation %d\n", s.Generation)
	for _, c := range s.Conditions {
		fmt.Fprintf(w, "condition: %s\n", c)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printCounts(t, "DROPS", s.Drops)
	printCounts(t, "COUNTER", s.Counters)
	if len(s.Maps) > 0 {
		fmt.Fprintln(t, "\nMAP\tENTRIES\tMAX\tEVICTED")
	}
	for _, m := range s.Maps {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", m.Name, m.Entries, m.Max, m.Evicted)
	}
	return t.Flush()
}

// printCounts prints the counts that are not zero, ordered by name.
func printCounts(w io.Writer, title string, counts map[string]uint64) {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(counts)), func(name string) bool { return counts[name] == 0 })
	if len(names) > 0 {
		fmt.Fprintf(w, "\n%s\tCOUNT\n", title)
	}
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%d\n", name, counts[name])
	}
}

func stateText(state string, colour bool) string {
	switch {
	case !colour:
		return state
	case state == "up":
		return green + state + plain
	default:
		return red + state + plain
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress prints what is being done once a second, so that quick work prints
// nothing.
type progress struct {
	w    io.Writer
	stop func() // may be called twice

	mu   sync.Mutex // guards what, and w against mixed lines
	what string     // not printed yet
}

func startProgress(w io.Writer) *progress {
	p := &progress{w: w}
	end, ended := make(chan struct{}), make(chan struct{})
	p.stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				p.flush()
			}
		}
	}()
	return p
}

// set says what is being done from now on.
func (p *progress) set(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

// line prints text at once.
func (p *progress) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, text)
}

func (p *progress) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.what != "" {
		fmt.Fprintln(p.w, p.what+" …")
		p.what = ""
	}
}
