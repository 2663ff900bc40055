package compile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/table"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// parseFile returns the changes of a file in testdata.
func parseFile(t testing.TB, name string) []intent.Change {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	changes, problems := intent.Parse(name, text)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return changes
}

// apply changes a tree; problems fail the test.
func apply(t testing.TB, tree *intent.Tree, changes []intent.Change) []string {
	t.Helper()
	changed, problems := tree.Apply(changes)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return changed
}

// text returns all tables of a Set.
func text(t testing.TB, s *table.Set) string {
	t.Helper()
	var b strings.Builder
	section := func(title string, do func() error) {
		fmt.Fprintf(&b, "# %s\n", title)
		if err := do(); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	}
	section("ports", func() error { return columns.Print(&b, s.PortRows()) })
	section("segments", func() error { return columns.Print(&b, s.SegmentRows()) })
	section("routers", func() error { return columns.Print(&b, s.RouterRows()) })
	section("routes", func() error { return columns.Print(&b, s.RouteRows()) })
	section("nat", func() error { return columns.Print(&b, s.NATRows()) })
	section("sets", func() error { return columns.Print(&b, s.SetRows()) })
	section("endpoints", func() error { return columns.Print(&b, s.EndpointRows()) })
	section("rules", func() error { return columns.Print(&b, s.RuleRows()) })
	if rows := s.GateRows(); len(rows) > 0 {
		section("gates", func() error { return columns.Print(&b, rows) })
	}
	if rows := s.ServiceRows(); len(rows) > 0 {
		section("load balancers", func() error { return columns.Print(&b, rows) })
	}
	if rows := s.VIPRows(); len(rows) > 0 {
		section("virtual servers", func() error { return columns.Print(&b, rows) })
	}
	if rows := s.PoolRows(); len(rows) > 0 {
		section("pools", func() error { return columns.Print(&b, rows) })
		section("members", func() error { return columns.Print(&b, s.MemberRows()) })
	}
	if s.Timeouts != table.DefaultTimeouts() {
		fmt.Fprintf(&b, "# timeouts\n%+v\n\n", s.Timeouts)
	}
	return b.String()
}

// only returns the one Set of an Update.
func only(t testing.TB, sets map[string]*table.Set) *table.Set {
	t.Helper()
	if len(sets) != 1 || sets["host1"] == nil {
		t.Fatalf("sets: got %v, want host1 only", sets)
	}
	return sets["host1"]
}

// Every testdata/*.yaml compiles to the tables of its golden file, without
// problems unless they stand there.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			tree := intent.NewTree()
			apply(t, tree, parseFile(t, name))
			c := New()
			sets, problems := c.Update(tree, nil)
			got := text(t, only(t, sets)) + "# told by BGP\n"
			for _, t0 := range tree.OfType("Tier0") {
				got += fmt.Sprintln(t0.Meta().Path, c.Redistributed(t0.Meta().Path))
			}
			got += "\n# problems\n"
			for _, p := range problems {
				got += p.String() + "\n"
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("tables differ (-want +got):\n%s", diff)
			}
		})
	}
}
