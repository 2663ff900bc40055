package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// exitNotDelivered ends a trace whose packet or reply does not arrive.
const exitNotDelivered = 3

// defaultSourcePort is the first dynamic port. Source: RFC 6335 §6.
const defaultSourcePort = 49152

// source returns the tables that a running lab forwards by, and what its
// machines are in them, by name; an empty name is the only lab.
type source func(ctx context.Context, lab string) (*table.Set, map[string]string, error)

// picked runs fn on the lab called name; an empty name is the only lab.
func picked(system func() (*lab.System, error), name string, fn func(s *lab.System, name string) error) error {
	if err := check(lab.Facts.Privileges); err != nil {
		return err
	}
	s, err := system()
	if err != nil {
		return err
	}
	name, err = (&labCommands{name: name}).pick(s)
	if err != nil {
		return err
	}
	return fn(s, name)
}

// tablesInForce is a source of the tables that the kernel forwards by.
func tablesInForce(system func() (*lab.System, error)) source {
	return func(ctx context.Context, name string) (set *table.Set, places map[string]string, err error) {
		err = picked(system, name, func(s *lab.System, name string) (err error) {
			if set, err = s.Tables(ctx, name); err != nil {
				return err
			}
			places, err = s.Places(name)
			return err
		})
		return set, places, err
	}
}

// traceCommand is what `weft trace` was asked.
type traceCommand struct {
	env     *Env
	running source
	inject  injector

	files  []string // -f
	lab    string   // --lab
	output string   // -o
	sport  uint16   // --sport
	sent   bool     // --live
}

// newTraceCommand returns `weft trace`. running is where it takes tables from
// without -f, inject sends its packet with --live.
func newTraceCommand(env *Env, running source, inject injector) *cobra.Command {
	c := &traceCommand{env: env, running: running, inject: inject}
	cmd := &cobra.Command{
		Use:   "trace SRC DST [PROTOCOL]",
		Short: "Say what a packet and its reply meet on their way",
		Long: `Follows the first packet of a flow and its reply through the tables of the
running lab, or with -f through those that FILEs would give, for which no
privileges are needed. Nothing is sent, unless with --live: then the flow's
first packet is, and the kernel must take the same steps. Prints every rule, route and
translation on the way, the hops that traceroute finds, the source address that
the destination sees, and what to change if the packet is dropped.

SRC and DST are the name of a machine of the lab or of a port, SEGMENT/PORT, a
port's policy path or an address. An address outside comes in by the uplink that leads to it; SRC may
also be ADDRESS@PORT or ADDRESS@UPLINK. PROTOCOL is tcp/PORT, udp/PORT,
sctp/PORT or icmp, which is the default.

The exit code is 0 if packet and reply arrive, 3 if one of them is dropped or
rejected, 2 for a wrong command line, and 1 for all else.`,
		Example: "  sudo weft trace cormac-ns/busybox1 web tcp/88\n" +
			"  sudo weft trace --live cormac-ns/podvm registry/harbor\n" +
			"  weft trace -f examples/seeds/lab.yaml cormac-ns/busybox1 192.168.178.222 tcp/88 -o json\n" +
			"  weft trace -f examples/seeds/lab.yaml 192.168.178.222 10.203.182.134 tcp/80",
		Args: counted(cobra.RangeArgs(2, 3)),
		RunE: c.run,
	}
	f := cmd.Flags()
	f.StringArrayVarP(&c.files, "file", "f", nil, "file with the intent, instead of a running lab; may be repeated; - is the standard input")
	f.StringVarP(&c.output, "output", "o", "text", "text or json")
	f.Uint16Var(&c.sport, "sport", defaultSourcePort, "source port, or the identifier of an ICMP echo")
	f.StringVarP(&c.lab, "lab", "l", "", "name of the lab (default: the one that is up)")
	f.BoolVar(&c.sent, "live", false, "send the packet for real and check that the kernel takes the same steps")
	cmd.MarkFlagsMutuallyExclusive("file", "lab")
	cmd.MarkFlagsMutuallyExclusive("file", "live")
	return cmd
}

func (c *traceCommand) run(cmd *cobra.Command, args []string) error {
	if c.output != "text" && c.output != "json" {
		return usageError(cmd, fmt.Errorf("-o: %q: is not an output (text, json)", c.output))
	}
	service := "icmp"
	if len(args) > 2 {
		service = args[2]
	}
	proto, dport, err := parseService(service)
	if err != nil {
		return usageError(cmd, err)
	}
	set, places, err := c.tables(cmd.Context())
	if err != nil {
		return err
	}
	for i, name := range args[:2] {
		if p := places[name]; p != "" {
			args[i] = p
		}
	}
	ix := pipeline.NewIndex(set)
	from, errFrom := trace.ResolveSource(ix, args[0])
	to, errTo := trace.ResolveDestination(ix, args[1])
	if err := errors.Join(errFrom, errTo); err != nil {
		return err
	}
	if c.sent && !cmd.Flags().Changed("sport") {
		// an unused one: a known connection would not meet the rules
		c.sport = defaultSourcePort + uint16(rand.IntN(1<<16-defaultSourcePort))
	}
	q := trace.Question{From: from.Port, To: to.Port, Src: from.Addr, Dst: to.Addr, Proto: proto, SrcPort: c.sport, DstPort: dport}
	res, err := trace.Run(ix, q)
	if err != nil {
		return err
	}
	if c.sent {
		if err := c.live(cmd.Context(), ix, q); err != nil {
			return err
		}
	}
	return c.print(res)
}

// print prints res and says by the exit code whether all arrived.
func (c *traceCommand) print(res *trace.Result) error {
	var err error
	if c.output == "json" {
		err = printJSON(c.env.Stdout, res)
	} else {
		err = printTrace(c.env.Stdout, res)
	}
	if err == nil && !res.Arrives() {
		err = &exitError{code: exitNotDelivered}
	}
	return err
}

// parseService reads a protocol and destination port.
func parseService(text string) (packet.Proto, uint16, error) {
	if text == "icmp" {
		return packet.ICMP, 0, nil
	}
	name, port, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(port, 10, 16)
	for _, p := range []packet.Proto{packet.TCP, packet.UDP, packet.SCTP} {
		if name == p.String() && err == nil && n > 0 {
			return p, uint16(n), nil
		}
	}
	return 0, 0, fmt.Errorf("PROTOCOL: %q: is no protocol (tcp/PORT, udp/PORT, sctp/PORT, icmp)", text)
}

// tables returns what the trace reads.
func (c *traceCommand) tables(ctx context.Context) (*table.Set, map[string]string, error) {
	if len(c.files) == 0 {
		return c.running(ctx, c.lab)
	}
	files, err := readFiles(c.env.Stdin, c.files)
	if err != nil {
		return nil, nil, err
	}
	set, problems := compileFiles(files)
	var bad lab.Problems
	for _, p := range problems {
		if p.Severity == intent.Error {
			bad = append(bad, p)
			continue
		}
		fmt.Fprintln(c.env.Stderr, "warning: "+p.String())
	}
	if len(bad) > 0 {
		return nil, nil, bad
	}
	return set, nil, nil
}

// compileFiles returns the tables of the host that files describe, and all
// problems; the tables are valid iff none of them is an error.
func compileFiles(files []lab.File) (*table.Set, []intent.Problem) {
	var changes []intent.Change
	var problems []intent.Problem
	for _, f := range files {
		more, wrong := intent.Parse(f.Name, f.Data)
		changes = append(changes, more...)
		for _, p := range wrong {
			if !isLabDocument(p) {
				problems = append(problems, p)
			}
		}
	}
	tree := intent.NewTree()
	problems = intent.All(tree, changes, problems)
	if intent.HasErrors(problems) {
		return nil, problems
	}
	sets, more := compile.New().Update(tree, nil)
	set := table.NewSet("")
	for _, one := range sets { // there is one host only
		set = one
	}
	return set, append(problems, more...)
}

// isLabDocument reports whether p is that intent.Parse met the document of a
// lab file that says what stands around the intent, which a trace does not need.
func isLabDocument(p intent.Problem) bool {
	return p.Path == "" && p.Field == "resource_type" && p.Kind == intent.BadSyntax && strings.HasPrefix(p.Msg, "Lab: ")
}
