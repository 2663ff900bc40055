package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/lab"
)

// errNoSystem is what commands get that must fail before they touch the
// machine.
var errNoSystem = errors.New("this test has no system")

// runArgs runs weft in this process, without a System.
func runArgs(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	env := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut}
	root := newRootCommand(env, func() (*lab.System, error) { return nil, errNoSystem }, nil)
	code = execute(t.Context(), env, root, args)
	return out.String(), errOut.String(), code
}

func TestUsageErrorsExitTwo(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string // stderr
	}{
		{"frobnicate", "weft: \"frobnicate\": is not a command\nsee 'weft --help'\n"},
		{"lab frobnicate", "weft lab: \"frobnicate\": is not a command\nsee 'weft lab --help'\n"},
		{"lab up", "weft lab up: requires at least 1 arg(s), only received 0\nsee 'weft lab up --help'\n"},
		{"lab down now", "weft lab down: unknown command \"now\" for \"weft lab down\"\nsee 'weft lab down --help'\n"},
		{"lab status -o xml", "-o: \"xml\": is not an output (table, json)\nsee 'weft lab status --help'\n"},
		{"lab status --frobnicate", "unknown flag: --frobnicate\nsee 'weft lab status --help'\n"},
		{"lab exec", "weft lab exec: NAME: is missing\nsee 'weft lab exec --help'\n"},
		{"lab exec web --", "weft lab exec: CMD: is missing\nsee 'weft lab exec --help'\n"},
		{"lab serve-http", "--listen: is missing\nsee 'weft lab serve-http --help'\n"},
		{"version 2", "weft version: unknown command \"2\" for \"weft version\"\nsee 'weft version --help'\n"},
	} {
		stdout, stderr, code := runArgs(t, strings.Fields(tc.args)...)
		if code != exitUsage || stderr != tc.want || stdout != "" {
			t.Errorf("weft %s: exit %d: %q, %q; want 2: %q", tc.args, code, stdout, stderr, tc.want)
		}
	}
}

func TestOtherErrorsExitOne(t *testing.T) {
	_, stderr, code := runArgs(t, "lab", "up", "/no/such/file")
	if code != exitFailed || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit %d: %q, want 1 and a line", code, stderr)
	}
}

func TestACommandChoosesItsExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code int
		want string
	}{
		{&exitError{3, nil}, 3, ""},
		{&exitError{3, errors.New("dropped")}, 3, "dropped\n"},
		{errors.New("other"), 1, "other\n"},
	} {
		var errOut bytes.Buffer
		root := &cobra.Command{Use: "weft", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
			return tc.err
		}}
		code := execute(t.Context(), &Env{Stderr: &errOut}, root, nil)
		if code != tc.code || errOut.String() != tc.want {
			t.Errorf("%v: exit %d: %q, want %d: %q", tc.err, code, errOut.String(), tc.code, tc.want)
		}
	}
}

// TestEveryCommandHasHelpWithAnExample keeps the help useful.
func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	root := newRootCommand(&Env{}, nil, nil)
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "weft ") {
			t.Errorf("%s: has no short text or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	stdout, _, code := runArgs(t, "lab", "exec", "--help")
	if code != 0 || !strings.Contains(stdout, "sudo weft lab exec red/web -- curl") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	if stdout, _, code := runArgs(t); code != 0 || !strings.Contains(stdout, "lab") || strings.Contains(stdout, "serve-http") {
		t.Errorf("weft alone: exit %d: %s", code, stdout)
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := runArgs(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "weft ") || !strings.Contains(stdout, "go1.") {
		t.Errorf("exit %d: %q", code, stdout)
	}
}
