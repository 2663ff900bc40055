package scenario_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/lab"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const dir = "../../scenarios"

// serveHTTP as the first argument makes the test binary the HTTP server of a
// lab's machines; --listen ADDRESS follows for each port. runAgent makes it the
// agent of a lab's host.
const (
	serveHTTP = "serve-http"
	runAgent  = "run-agent"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == runAgent {
		os.Exit(agent.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr, func(pins string) (agent.Driver, error) {
			return ebpf.Open(pins)
		}))
	}
	if len(os.Args) < 2 || os.Args[1] != serveHTTP {
		os.Exit(m.Run())
	}
	var listen []string
	for i := 3; i < len(os.Args); i += 2 {
		listen = append(listen, os.Args[i])
	}
	if err := lab.ServeHTTP(context.Background(), listen, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play runs every script with a Proof of its own, which start makes; archive
// is the directory of the script's files. Only one test rewrites goldens, or
// they would do so at the same time.
func play(t *testing.T, live bool, start func(t testing.TB, archive string) scenario.Proof) {
	p := scenario.Params(dir, live, func(env *testscript.Env) scenario.Proof {
		return start(env.T().(testing.TB), env.WorkDir)
	})
	p.UpdateScripts = *update && t.Name() == "TestTrace"
	if *update && !p.UpdateScripts {
		t.Skip("-update: TestTrace rewrites the goldens")
	}
	testscript.Run(t, p)
}

// TestCommands runs the script that says what the commands refuse.
func TestCommands(t *testing.T) {
	testscript.Run(t, scenario.Params("testdata", false, func(*testscript.Env) scenario.Proof {
		return scenario.NewPredicted()
	}))
}

// TestScriptsEndEmpty demands that every story is taken away again.
func TestScriptsEndEmpty(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		script, _, _ := strings.Cut(string(data), "\n-- ")
		if !strings.HasPrefix(script, "# ") || !strings.HasSuffix(strings.TrimSpace(script), "\ntables-empty") {
			t.Errorf("%s: begins with no comment or does not end with tables-empty", name)
		}
	}
}
