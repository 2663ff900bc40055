package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/policyapi"
	"github.com/weft-net/weft/policyapi/client"
)

// applyCommand is what `weft apply` was asked.
type applyCommand struct {
	env       *Env
	server    server
	overwrite bool
}

// newApplyCommand returns `weft apply`.
func newApplyCommand(env *Env) *cobra.Command {
	c := &applyCommand{env: env}
	cmd := &cobra.Command{
		Use:   "apply FILE...",
		Short: "Give intent to weftd",
		Long: `Gives weftd the objects of the files, hierarchical bodies of the Policy API
in YAML or JSON (- is the standard input). All of them are taken together, or
none and all problems are printed.

An object with a _revision, as weft get prints it, is refused if somebody
changed it since; without one it becomes what the file says.`,
		Example: "  weft apply tier1.yaml segments.yaml\n" +
			"  weft get /infra/tier-1s/red -o yaml > red.yaml && $EDITOR red.yaml && weft apply red.yaml\n" +
			"  weft apply --server https://weft.example:6640 --ca ca.crt --cert me.crt --key me.key red.yaml\n" +
			"  kubectl get configmap net -o jsonpath='{.data.intent}' | weft apply -",
		Args: counted(cobra.MinimumNArgs(1)),
		RunE: c.run,
	}
	cmd.Flags().BoolVar(&c.overwrite, "allow-overwrite", false, "change what a controller made, too (it may change it back)")
	c.server.flags(cmd)
	return cmd
}

func (c *applyCommand) run(cmd *cobra.Command, args []string) error {
	if err := c.server.open(cmd); err != nil {
		return err
	}
	files, err := readFiles(c.env.Stdin, args)
	if err != nil {
		return err
	}
	in := readIntent(files)
	if len(in.from) == 0 && !intent.HasErrors(in.problems) {
		return fmt.Errorf("%s: has no objects (want a body of resource_type Infra with children)", files[0].Name)
	}
	var done policyapi.Report
	err = c.server.Do(cmd.Context(), client.Request{
		Method: http.MethodPatch, Path: "/infra", Query: url.Values{"enforce_revision_check": {"true"}}, Body: in.body, Overwrite: c.overwrite,
	}, &done)
	if err != nil {
		return in.all(err)
	}
	for i := range done.Warnings {
		in.add(done.Warnings[i].Problem())
	}
	for _, p := range in.problems {
		fmt.Fprintln(c.env.Stderr, "warning: "+p.String())
	}
	return printReport(c.env.Stdout, done)
}

// printReport prints a line for each object.
func printReport(w io.Writer, r policyapi.Report) error {
	did := map[string]string{}
	for word, paths := range map[string][]string{"created": r.Created, "configured": r.Configured, "unchanged": r.Unchanged, "deleted": r.Deleted} {
		for _, path := range paths {
			did[path] = word
		}
	}
	for _, path := range slices.Sorted(maps.Keys(did)) {
		if err := oneLine(w, path+" "+did[path]); err != nil {
			return err
		}
	}
	return nil
}

// files is what files have together.
type intentFiles struct {
	body     []byte // as one request has it
	from     map[string]string
	problems []intent.Problem // of their form
}

// readIntent joins files to one body.
func readIntent(files []lab.File) *intentFiles {
	in := &intentFiles{from: map[string]string{}}
	var bodies [][]byte
	allJSON := true
	for _, f := range files {
		changes, problems := intent.Parse(f.Name, f.Data)
		in.problems = append(in.problems, problems...)
		for _, c := range changes {
			in.from[c.Path] = f.Name
		}
		allJSON = allJSON && isJSON(f.Data)
	}
	for _, f := range files {
		data := f.Data
		if !allJSON && isJSON(data) {
			data = yamlOf(data)
		}
		bodies = append(bodies, bytes.TrimPrefix(data, []byte("\ufeff")))
	}
	between := "\n---\n"
	if allJSON {
		between = "\n"
	}
	in.body = bytes.Join(bodies, []byte(between))
	return in
}

// isJSON tells as intent.Parse does.
func isJSON(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n\ufeff")
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
}

// yamlOf returns a stream of JSON values as YAML documents; what is no JSON is
// reported elsewhere.
func yamlOf(data []byte) []byte {
	var docs [][]byte
	for d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))); ; {
		var doc json.RawMessage
		if d.Decode(&doc) != nil {
			return bytes.Join(docs, []byte("\n---\n"))
		}
		var line bytes.Buffer
		if json.Compact(&line, doc) == nil {
			docs = append(docs, line.Bytes())
		}
	}
}

// all returns all problems, those of the files' form first, if err is that
// weftd has some too.
func (in *intentFiles) all(err error) error {
	e, ok := errors.AsType[*policyapi.Error](err)
	if !ok {
		return err
	}
	for i := range e.Related {
		in.add(e.Related[i].Problem())
	}
	bad := lab.Problems(slices.DeleteFunc(in.problems, func(p intent.Problem) bool { return p.Severity != intent.Error }))
	if len(bad) == 0 {
		return err
	}
	return bad
}

// add adds a problem that weftd found, unless it was found here.
func (in *intentFiles) add(p intent.Problem) {
	if p.Path == "" && p.Line > 0 {
		return // of the text: lines of the files are better than those of the body
	}
	same := func(o intent.Problem) bool { return o.Path == p.Path && o.Field == p.Field && o.Msg == p.Msg }
	if slices.ContainsFunc(in.problems, same) {
		return
	}
	p.File = in.from[p.Path]
	in.problems = append(in.problems, p)
}
