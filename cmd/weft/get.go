package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/policyapi/client"
	"github.com/weft-net/weft/store"
)

// getCommand is what `weft get` was asked.
type getCommand struct {
	env    *Env
	server server
	output string
	below  bool
	owner  string // empty: any
}

// newGetCommand returns `weft get`.
func newGetCommand(env *Env) *cobra.Command {
	c := &getCommand{env: env}
	cmd := &cobra.Command{
		Use:   "get PATH|TYPE",
		Short: "Print the intent that weftd has",
		Long: `Prints the object at a policy path, the objects of a collection such as
/infra/segments, or all objects of a type such as Segment or tier-1s. /infra is
everything. json and yaml are what weft apply takes.`,
		Example: "  weft get segments\n" +
			"  weft get /infra/tier-1s\n" +
			"  weft get /infra/domains/default/security-policies/web --below\n" +
			"  weft get segments --owner Namespace/shop/6a54b5f4-71b0-4b5d-a8a0-06b1d2b14c4e\n" +
			"  weft get /infra -o yaml > intent.yaml",
		Args: counted(cobra.ExactArgs(1)),
		RunE: c.run,
	}
	cmd.Flags().StringVarP(&c.output, "output", "o", "table", "table, json or yaml")
	cmd.Flags().BoolVar(&c.below, "below", false, "with all objects below the path")
	cmd.Flags().StringVar(&c.owner, "owner", "", "of /infra or a type: only what belongs to it, as column OWNER names it")
	c.server.flags(cmd)
	return cmd
}

// checkPath makes a text that is no policy path a usage error.
func checkPath(cmd *cobra.Command, path string) error {
	if !strings.HasPrefix(path, "/infra/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//") {
		return usageError(cmd, fmt.Errorf("PATH: %q: is not a policy path (such as /infra/tier-1s/red)", path))
	}
	return nil
}

func (c *getCommand) run(cmd *cobra.Command, args []string) error {
	what := args[0]
	switch c.output {
	case "table", "json", "yaml":
	default:
		return usageError(cmd, fmt.Errorf("-o: %q: is not an output (table, json, yaml)", c.output))
	}
	if strings.HasPrefix(what, "/") && what != "/infra" {
		if err := checkPath(cmd, what); err != nil {
			return err
		}
	}
	if c.owner != "" && strings.HasPrefix(what, "/") && what != "/infra" {
		return usageError(cmd, fmt.Errorf("--owner: is given for %s (want /infra or a type)", what))
	}
	if err := c.server.open(cmd); err != nil {
		return err
	}
	objects, err := c.objects(cmd.Context(), what)
	if err != nil {
		return err
	}
	if c.output == "table" {
		rows := make([]objectRow, len(objects))
		for i, o := range objects {
			rows[i] = objectRow{o}
		}
		return columns.Print(c.env.Stdout, rows)
	}
	return printBody(c.env.Stdout, c.output, objects)
}

// printBody prints objects as weft apply takes them.
func printBody(w io.Writer, output string, objects []intent.Object) error {
	data, err := client.Body(output, objects...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.TrimSuffix(string(data), "\n"))
	return err
}

// objects returns what was asked for, ordered by path.
func (c *getCommand) objects(ctx context.Context, what string) ([]intent.Object, error) {
	query := url.Values{}
	if c.owner != "" {
		query.Set("owner", c.owner)
	}
	switch {
	case what == "/infra":
		return c.server.Tree(ctx, query)
	case !strings.HasPrefix(what, "/"):
		query.Set("type_filter", what)
		return c.server.Tree(ctx, query)
	case !c.below:
		return c.server.Page(ctx, what)
	}
	if _, err := c.server.Page(ctx, what); err != nil { // else nothing below would be no mistake
		return nil, err
	}
	return c.server.Tree(ctx, url.Values{"base_path": {what}})
}

// objectRow is an object's row of a table.
type objectRow struct{ o intent.Object }

// Columns implements columns.Row.
func (objectRow) Columns() []string { return []string{"PATH", "TYPE", "NAME", "REVISION", "OWNER"} }

// Row implements columns.Row.
func (r objectRow) Row() []string {
	m := r.o.Meta()
	revision := ""
	if m.Revision != nil {
		revision = strconv.FormatInt(*m.Revision, 10)
	}
	return []string{m.Path, m.ResourceType, m.Name(), revision, string(store.OwnerOf(r.o))}
}
