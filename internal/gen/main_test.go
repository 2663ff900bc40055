package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is checked in is what gen writes.
func TestCheckedInFilesAreUpToDate(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "pipeline.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Page(string(page))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(page)); d != "" {
		t.Errorf("docs/pipeline.md: run go generate ./pipeline: %s", d)
	}
	header, err := os.ReadFile(filepath.Join(root, "bpf", "stages.h"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Header(), string(header)); d != "" {
		t.Errorf("bpf/stages.h: run go generate ./pipeline: %s", d)
	}
}

func TestPageAppendsAndReplaces(t *testing.T) {
	once, err := Page("# Title\n\nText.\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Title\n\nText.\n\n## 10. Stages\n\n<!-- generated:stages -->\n| # | stage", "## 11. Reasons\n\n<!-- generated:reasons -->\n| # | reason", "| 1 | `parse` |", "| 1 | `malformed` |"} {
		if !strings.Contains(once, want) {
			t.Errorf("no %q in\n%s", want, once)
		}
	}
	old := strings.Replace(once, "| 1 | `parse` |", "| 9 | `gone` |", 1)
	twice, err := Page(old + "\nBehind.\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(once+"\nBehind.\n", twice); d != "" {
		t.Error(d)
	}
	if _, err := Page("<!-- generated:stages -->\n"); err == nil {
		t.Error("a missing closing marker was accepted")
	}
}

func TestRunWritesBothFilesAndThenNothing(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"docs", "bpf"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(root); err == nil {
		t.Error("a missing page was accepted")
	}
	page := filepath.Join(root, "docs", "pipeline.md")
	if err := os.WriteFile(page, []byte("# Title\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(root); err != nil {
		t.Fatal(err)
	}
	header := filepath.Join(root, "bpf", "stages.h")
	if b, err := os.ReadFile(header); err != nil || string(b) != Header() {
		t.Errorf("stages.h: %v", err)
	}
	for _, path := range []string{page, header} {
		if err := os.Chmod(path, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(header)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(root); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(header); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("an unchanged file was written again: %v", err)
	}
}
