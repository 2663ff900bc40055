package weft_test

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tableRows returns the cells of the table rows of a Markdown page whose first
// cell begins with code.
func tableRows(t *testing.T, page string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// goNames finds `table.Route` in a cell.
var goNames = regexp.MustCompile("`([a-z]+\\.[A-Z][A-Za-z0-9]*)`")

func TestGlossaryHasEveryNoun(t *testing.T) {
	const columns = 5
	described := map[string]int{}
	for _, row := range tableRows(t, "docs/glossary.md") {
		if len(row) != columns || row[columns-1] == "" {
			t.Errorf("glossary: %s: has %d cells, the last one is the source (%d)", row[0], len(row), columns)
		}
		for _, name := range goNames.FindAllStringSubmatch(row[0], -1) {
			described[name[1]]++
		}
	}
	declared := map[string]bool{}
	for _, s := range sources(t) {
		for _, noun := range exportedTypes(s) {
			name := s.pkg + "." + noun
			declared[name] = true
			if strings.HasSuffix(noun, "Row") {
				continue // how a thing is printed, not a thing
			}
			if (s.pkg == "intent" || s.pkg == "table") && described[name] != 1 {
				t.Errorf("glossary: %s: has %d rows (1)", name, described[name])
			}
		}
	}
	for name := range described {
		if !declared[name] {
			t.Errorf("glossary: %s: no such type", name)
		}
	}
}

// exportedTypes returns the names of the types that a file declares for others.
func exportedTypes(s source) []string {
	var out []string
	for _, decl := range s.file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE || s.isTest() {
			continue
		}
		for _, spec := range gen.Specs {
			if name := spec.(*ast.TypeSpec).Name; name.IsExported() {
				out = append(out, name.Name)
			}
		}
	}
	return out
}

// required matches a requirement of go.mod; the second group is its comment.
var required = regexp.MustCompile(`(?m)^(?:require )?\s*([a-z][^\s]*\.[^\s]*) v[^\s]+(.*)$`)

// tools matches a tool directive of go.mod, alone or in a block.
var tools = regexp.MustCompile(`(?m)^(?:tool |\t)([a-z][^\s/]*\.[^\s/]*/\S+)$`)

func TestDependenciesHaveReasons(t *testing.T) {
	product, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	checks, err := os.ReadFile("tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var direct, known []string
	for _, m := range required.FindAllStringSubmatch(string(product), -1) {
		known = append(known, m[1])
		if !strings.Contains(m[2], "// indirect") {
			direct = append(direct, m[1])
		}
	}
	for _, m := range tools.FindAllStringSubmatch(string(checks), -1) {
		direct = append(direct, m[1])
	}
	known = append(known, direct...)

	var described []string
	for _, row := range tableRows(t, "docs/dependencies.md") {
		described = append(described, strings.Trim(row[0], "`"))
		if len(row) != 4 || slices.Contains(row, "") {
			t.Errorf("dependencies: %s: has an empty cell (module, what for, why this one, licence)", row[0])
		}
	}
	if len(direct) == 0 {
		t.Error("go.mod: no requirement found")
	}
	for _, m := range direct {
		if !slices.Contains(described, m) {
			t.Errorf("dependencies: %s: has no row", m)
		}
	}
	for _, m := range described {
		if !slices.Contains(known, m) {
			t.Errorf("dependencies: %s: nothing requires it", m)
		}
	}
}

// links matches the target of a Markdown link that stays in the repository.
var links = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md", "CONTRIBUTING.md", "LICENSES/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range links.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(path.Join(path.Dir(page), m[1])); err != nil {
				t.Errorf("%s: link %s: no such file", page, m[1])
			}
		}
	}
}
