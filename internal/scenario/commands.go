package scenario

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/table"
	"github.com/weft-net/weft/trace"
)

// run is one script at work.
type run struct {
	*World
	proof Proof
}

// key is where a script's run is in testscript's values.
type key struct{}

// Params runs the scripts in dir. start makes the Proof of each; live says
// whether it has machines, which is the condition [netns].
func Params(dir string, live bool, start func(*testscript.Env) Proof) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[key{}] = &run{NewWorld(), start(env)}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "netns" {
				return false, fmt.Errorf("[%s]: is no condition (netns)", name)
			}
			return live, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"apply":        command(1, -1, (*run).apply),
			"delete":       command(1, -1, (*run).delete),
			"tables":       command(1, 1, (*run).tables),
			"tables-empty": command(0, 0, (*run).tablesEmpty),
			"trace":        command(2, 3, (*run).trace),
			"trace-json":   command(2, 3, (*run).traceJSON),
			"connect":      command(2, 3, (*run).connect),
			"traceroute":   command(2, 3, (*run).traceroute),
			"hold":         command(3, 4, (*run).hold),
			"held":         command(1, 2, (*run).held),
			"release":      command(1, 1, (*run).release),
			"inside":       command(2, -1, (*run).inside),
		},
	}
}

// command makes a function a testscript command with a number of arguments
// (most -1: no limit). With ! it has to fail, and what it printed stays.
func command(least, most int, do func(*run, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) < least || most >= 0 && len(args) > most {
			ts.Fatalf("has %d arguments (see the package's documentation)", len(args))
		}
		ts.Stdout() // what the command before it printed is gone, also if this one prints nothing
		err := do(ts.Value(key{}).(*run), ts, args)
		switch {
		case neg && err == nil:
			ts.Fatalf("succeeds, and should not")
		case neg:
			ts.Logf("%v", err)
		default:
			ts.Check(err)
		}
	}
}

func files(ts *testscript.TestScript, names []string) []File {
	var out []File
	for _, name := range names {
		out = append(out, File{Name: name, Data: []byte(ts.ReadFile(name))})
	}
	return out
}

func (r *run) apply(ts *testscript.TestScript, args []string) error {
	return r.change(ts, files(ts, args))
}

func (r *run) delete(ts *testscript.TestScript, args []string) error {
	body, err := Deletion(files(ts, args))
	if err != nil {
		return err
	}
	return r.change(ts, []File{body})
}

// change applies files and prints all problems; the errors among them are its
// error too.
func (r *run) change(ts *testscript.TestScript, files []File) error {
	problems := r.Apply(files)
	for _, p := range problems {
		severity := ""
		if p.Severity != intent.Error {
			severity = "warning: "
		}
		fmt.Fprintln(ts.Stdout(), severity+p.String())
	}
	if intent.HasErrors(problems) {
		return fmt.Errorf("apply: %s", problems[0])
	}
	return r.proof.Changed(r.World, files)
}

// kinds is the tables that can be printed.
var kinds = []struct {
	name  string
	print func(io.Writer, *table.Set) error
}{
	{"ports", printed((*table.Set).PortRows)},
	{"segments", printed((*table.Set).SegmentRows)},
	{"endpoints", printed((*table.Set).EndpointRows)},
	{"routers", printed((*table.Set).RouterRows)},
	{"routes", printed((*table.Set).RouteRows)},
	{"nat", printed((*table.Set).NATRows)},
	{"rules", printed((*table.Set).RuleRows)},
	{"gates", printed((*table.Set).GateRows)},
	{"sets", printed((*table.Set).SetRows)},
	{"services", printed((*table.Set).ServiceRows)},
	{"vips", printed((*table.Set).VIPRows)},
	{"pools", printed((*table.Set).PoolRows)},
	{"members", printed((*table.Set).MemberRows)},
}

// printed prints the rows of one kind.
func printed[R columns.Row](rows func(*table.Set) []R) func(io.Writer, *table.Set) error {
	return func(w io.Writer, s *table.Set) error { return columns.Print(w, rows(s)) }
}

func (r *run) tables(ts *testscript.TestScript, args []string) error {
	var names []string
	for _, k := range kinds {
		if k.name == args[0] {
			return k.print(ts.Stdout(), r.Set)
		}
		names = append(names, k.name)
	}
	return fmt.Errorf("%s: is no table (%s)", args[0], strings.Join(names, ", "))
}

func (r *run) tablesEmpty(*testscript.TestScript, []string) error {
	if d := table.Diff(table.NewSet(r.Set.Node), r.Set); d.Len() > 0 {
		return fmt.Errorf("%d rows are left: %+v", d.Len(), *d)
	}
	return r.proof.Empty(r.World)
}

// traced traces a flow and has it checked.
func (r *run) traced(args []string) (*Flow, error) {
	f, err := r.Flow(args)
	if err != nil {
		return nil, err
	}
	return f, r.proof.Traced(r.World, f)
}

func (r *run) trace(ts *testscript.TestScript, args []string) error {
	f, err := r.traced(args)
	if err != nil {
		return err
	}
	return printTrace(ts.Stdout(), f.Result)
}

// printTrace prints what weft trace prints where there are no colours.
func printTrace(w io.Writer, r *trace.Result) error {
	var steps strings.Builder
	if err := columns.Print(&steps, r.Steps); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n\n%s\n%s\n", r.Heading(), steps.String(), strings.Join(r.Summary(), "\n"))
	return err
}

func (r *run) traceJSON(ts *testscript.TestScript, args []string) error {
	f, err := r.traced(args)
	if err != nil {
		return err
	}
	e := json.NewEncoder(ts.Stdout())
	e.SetIndent("", "  ")
	return e.Encode(f.Result)
}

func (r *run) connect(ts *testscript.TestScript, args []string) error {
	return r.live(ts, args, r.proof.Connect)
}

func (r *run) hold(ts *testscript.TestScript, args []string) error {
	return r.live(ts, args[1:], func(w *World, f *Flow) (string, error) { return r.proof.Hold(w, args[0], f) })
}

// live prints what do finds of a flow.
func (r *run) live(ts *testscript.TestScript, args []string, do func(*World, *Flow) (string, error)) error {
	f, err := r.Flow(args)
	if err != nil {
		return err
	}
	got, err := do(r.World, f)
	if err == nil {
		fmt.Fprintln(ts.Stdout(), got)
	}
	return err
}

// MostBytes is how much held sends at once.
const MostBytes = 60000

func (r *run) held(ts *testscript.TestScript, args []string) error {
	bytes := 1
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > MostBytes {
			return fmt.Errorf("BYTES: %s: is no number of bytes (1 to %d)", args[1], MostBytes)
		}
		bytes = n
	}
	got, err := r.proof.Held(r.World, args[0], bytes)
	if err == nil {
		fmt.Fprintln(ts.Stdout(), got)
	}
	return err
}

func (r *run) release(_ *testscript.TestScript, args []string) error {
	return r.proof.Release(r.World, args[0])
}

func (r *run) traceroute(ts *testscript.TestScript, args []string) error {
	return r.live(ts, args, func(w *World, f *Flow) (string, error) {
		hops, err := r.proof.Traceroute(w, f)
		return strings.Join(hops, "\n"), err
	})
}

func (r *run) inside(ts *testscript.TestScript, args []string) error {
	out, err := r.proof.Inside(args[0], args[1:])
	fmt.Fprint(ts.Stdout(), out)
	return err
}
