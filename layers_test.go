// Package weft_test checks the shape of the repository: who imports whom, what
// pure packages keep away from, and that the documents name what the code has.
package weft_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weft-net/weft/"

// layer is what one package may import besides the standard library.
type layer struct {
	pure   bool     // values and pure functions: see impureImports and impureCalls
	but    []string // of impureImports that it may have; the row says why
	ours   []string // packages of this module
	bought []string // import paths; packages below them are included
}

// The parts that rows of layers share.
var (
	core  = []string{"intent", "packet", "table", "compile", "pipeline", "trace"}
	below = slices.Concat(core, []string{"bpf", "dataplane", "dataplane/ebpf", "internal/columns", "internal/netns"})
)

// What the packages that speak Kubernetes share.
var (
	kubernetes  = []string{"k8s.io/api", "k8s.io/apimachinery", "k8s.io/apiextensions-apiserver", "k8s.io/client-go", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/yaml", "github.com/go-logr/logr"}
	concern     = []string{"intent", "store", "kube/v1alpha1", "kube/ncp", "kube/writer"}
	controllers = []string{"kube/v1alpha1", "kube/ncp", "kube/writer", "kube/tenant", "kube/pod", "kube/service", "kube/policy", "kube/tracing"}
)

// layers has a row for every package but those of cmd, which may import all.
var layers = map[string]layer{
	"intent":   {pure: true, bought: []string{"sigs.k8s.io/yaml"}},
	"packet":   {pure: true},
	"table":    {pure: true, but: []string{"hash/maphash"}}, // which part of a Map an object is in shows as little as the order of Go's maps
	"compile":  {pure: true, ours: []string{"intent", "table"}, bought: []string{"github.com/gaissmai/bart"}},
	"pipeline": {pure: true, ours: []string{"table", "packet"}, bought: []string{"github.com/gaissmai/bart"}},
	"trace":    {pure: true, ours: []string{"table", "packet", "pipeline"}},

	"bpf":       {ours: []string{"table"}, bought: []string{"github.com/cilium/ebpf", "github.com/gaissmai/bart"}},
	"dataplane": {ours: []string{"table", "packet", "pipeline"}}, // a record is in pipeline's words
	"dataplane/ebpf": {
		ours:   []string{"table", "packet", "pipeline", "bpf", "dataplane"},
		bought: []string{"github.com/cilium/ebpf", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	},
	"monitor": {
		ours:   []string{"table", "internal/netns"},
		bought: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"},
	},
	"agent": {
		ours:   []string{"table", "pipeline", "dataplane", "metrics", "monitor", "control/wire", "internal/netns"}, // counters are called by pipeline's reasons
		bought: []string{"github.com/vishvananda/netlink", "golang.org/x/sys", "google.golang.org/grpc"},
	},
	"metrics": {ours: []string{"table", "packet", "pipeline", "dataplane"}, bought: []string{"github.com/prometheus/client_golang"}},
	"lab": {
		ours:   slices.Concat(below, []string{"agent", "monitor", "lab/cluster", "internal/process"}),
		bought: []string{"github.com/vishvananda/netlink", "golang.org/x/sys", "sigs.k8s.io/yaml"},
	},
	"bench": {
		ours:   slices.Concat(below, []string{"lab", "bench/load"}),
		bought: []string{"github.com/safchain/ethtool", "github.com/vishvananda/netlink", "golang.org/x/sys"},
	},
	"bench/load": {bought: []string{"golang.org/x/sys"}},

	"store":            {ours: []string{"intent"}},
	"store/etcd":       {ours: []string{"store"}, bought: []string{"go.etcd.io/etcd", "go.uber.org/zap", "google.golang.org/grpc"}},
	"policyapi":        {ours: []string{"intent", "store"}},
	"policyapi/client": {ours: []string{"intent", "policyapi"}, bought: []string{"sigs.k8s.io/yaml"}},
	"control":          {ours: []string{"intent", "store", "compile", "table", "control/wire"}, bought: []string{"google.golang.org/grpc"}},
	"control/wire":     {bought: []string{"google.golang.org/grpc", "google.golang.org/protobuf"}},
	"cni": {
		ours:   []string{"agent"},
		bought: []string{"github.com/containernetworking/cni"},
	},
	"ingress":                {ours: []string{"kube/v1alpha1", "kube/ncp"}, bought: slices.Concat(kubernetes, []string{"github.com/prometheus/client_golang"})},
	"kube":                   {ours: slices.Concat(controllers, []string{"store"}), bought: kubernetes},
	"kube/v1alpha1":          {ours: []string{"intent"}, bought: kubernetes},
	"kube/ncp":               {ours: []string{"intent"}, bought: kubernetes},
	"kube/writer":            {ours: []string{"intent", "store", "kube/ncp"}, bought: kubernetes},
	"kube/internal/kubetest": {ours: slices.Concat(concern, []string{"internal/need"}), bought: kubernetes},
	"kube/tenant":            {ours: concern, bought: kubernetes},
	"kube/pod":               {ours: concern, bought: kubernetes},
	"kube/service":           {ours: concern, bought: kubernetes},
	"kube/policy":            {ours: concern, bought: slices.Concat(kubernetes, []string{"sigs.k8s.io/network-policy-api"})},
	"kube/tracing":           {ours: slices.Concat(concern, core, []string{"internal/columns"}), bought: kubernetes},
	"lab/cluster":            {ours: []string{"internal/pki", "internal/netns", "internal/process"}, bought: []string{"golang.org/x/sys", "sigs.k8s.io/yaml"}},
	"lab/kubelet": {
		ours: []string{"internal/netns", "internal/pki", "internal/process"},
		bought: slices.Concat(kubernetes, []string{
			"k8s.io/cri-streaming", "github.com/containernetworking/cni", "github.com/creack/pty", "github.com/vishvananda/netlink", "golang.org/x/sys",
		}),
	},
	"kube/explain": {
		ours:   []string{"intent", "store", "kube/v1alpha1", "kube/ncp", "kube/writer", "policyapi/client", "internal/columns"}, // writer: the form of an owner
		bought: kubernetes,
	},
	"bench/scale": {
		ours:   []string{"agent", "table", "intent", "store", "lab/cluster", "internal/netns", "kube/v1alpha1", "kube/ncp", "policyapi/client"},
		bought: slices.Concat(kubernetes, []string{"github.com/containernetworking/cni", "github.com/vishvananda/netlink", "golang.org/x/sys"}),
	},
	"internal/pki":         {},
	"internal/kubelettest": {ours: []string{"internal/need", "internal/netns", "lab/cluster"}, bought: []string{"golang.org/x/sys", "github.com/vishvananda/netlink"}},
	"internal/leaks":       {ours: slices.Concat(below, []string{"agent", "lab", "store", "policyapi/client"}), bought: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},

	"internal/bpftest": {
		ours:   []string{"table", "packet", "pipeline", "dataplane", "dataplane/ebpf", "internal/netns", "internal/need"},
		bought: []string{"github.com/google/go-cmp", "github.com/vishvananda/netlink"},
	},
	"internal/columns":  {},
	"internal/frames":   {ours: []string{"packet", "table"}},
	"internal/netns":    {bought: []string{"github.com/vishvananda/netlink", "golang.org/x/sys"}},
	"internal/gen":      {ours: []string{"pipeline"}},
	"internal/need":     {},
	"internal/process":  {bought: []string{"golang.org/x/sys"}},
	"internal/oracle":   {ours: []string{"intent", "packet", "table", "pipeline"}},
	"internal/scenario": {ours: slices.Concat(core, []string{"internal/columns"}), bought: []string{"github.com/rogpeppe/go-internal"}},
	"internal/testset":  {ours: []string{"packet", "table", "pipeline"}},
}

// testsMayBuy is what test files may import wherever they are.
var testsMayBuy = []string{"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "sigs.k8s.io/yaml"}

// unlessBought holds where a row's bought does not say otherwise, tests
// included.
var unlessBought = map[string]string{
	"k8s.io/":                        "the core must run without a cluster",
	"sigs.k8s.io/controller-runtime": "the core must run without a cluster",
}

// bans hold everywhere, tests included. A key that ends in a slash bans what
// is below it.
var bans = map[string]string{
	"github.com/stretchr/testify": "tests compare whole values with cmp.Diff",
	"github.com/golang/mock":      "a fake is written by hand beside its interface",
	"go.uber.org/mock":            "a fake is written by hand beside its interface",
	"github.com/pkg/errors":       "errors are wrapped with %w",
	"math/rand":                   "math/rand/v2 replaces it",
	module + "cmd/":               "commands are the top: nothing builds on them",
}

// impureImports are banned in pure packages, in the same form as bans.
var impureImports = map[string]string{
	"os":            "no I/O and no environment: what a pure function needs it is given",
	"os/":           "no I/O and no environment: what a pure function needs it is given",
	"net":           "addresses are net/netip; connections belong to the adapters",
	"net/http":      "requests belong to the adapters",
	"log":           "it tells its caller, not a log",
	"log/":          "it tells its caller, not a log",
	"syscall":       "the kernel belongs to the adapters",
	"golang.org/x/": "the kernel belongs to the adapters",
	"unsafe":        "memory layout belongs to the adapters",
	"context":       "nothing here waits",
	"flag":          "configuration is an argument",
	"testing":       "test code stays in tests",
	"math/rand/v2":  "the same input gives the same output everywhere",
	"crypto/rand":   "the same input gives the same output everywhere",
	"hash/maphash":  "the same input gives the same output everywhere",
}

// impureCalls are functions of otherwise welcome packages.
var impureCalls = map[string]string{
	"time.Now": clock, "time.Since": clock, "time.Until": clock, "time.Sleep": clock, "time.After": clock,
	"time.AfterFunc": clock, "time.Tick": clock, "time.NewTicker": clock, "time.NewTimer": clock,
	"fmt.Print": output, "fmt.Printf": output, "fmt.Println": output,
}

const (
	clock  = "no clock: time is an argument"
	output = "no I/O: it returns what it has to say"
)

// vagueNames say nothing about what a package holds.
var vagueNames = []string{
	"util", "utils", "common", "types", "manager", "helper", "helpers", "misc", "shared", "base",
}

const maxMainLines = 120

// source is one parsed Go file.
type source struct {
	pkg  string // directory, relative to the root; "." for the root itself
	name string // slash-separated, relative to the root
	file *ast.File
	rows int
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func parse(name string, text any) (source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	return source{path.Dir(name), name, file, fset.Position(file.FileEnd).Line}, nil
}

// sources returns all Go files of the module, in order of their names.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"bin", "testdata", "tools"}, d.Name())):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		s, err := parse(filepath.ToSlash(name), nil)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImportsPointDown(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		seen[s.pkg] = true
		for _, p := range check(s) {
			t.Errorf("%s: %s", s.name, p)
		}
	}
	for pkg := range layers {
		if !seen[pkg] {
			t.Errorf("layers: %s: no such package", pkg)
		}
	}
}

// check returns what is wrong with one file.
func check(s source) []string {
	var out []string
	if name := path.Base(s.pkg); slices.Contains(vagueNames, name) || slices.Contains(vagueNames, s.file.Name.Name) {
		out = append(out, fmt.Sprintf("package %s: says nothing about what it holds (a noun of the field)", s.file.Name.Name))
	}
	row, ok := layers[s.pkg]
	inCmd := strings.HasPrefix(s.pkg, "cmd/")
	if !ok && !inCmd && s.pkg != "." {
		out = append(out, "package "+s.pkg+": has no row in layers")
	}
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic(err) // the parser takes nothing else
		}
		if why := refuse(s, row, inCmd, imported); why != "" {
			out = append(out, "import "+imported+": "+why)
		}
	}
	if row.pure && !s.isTest() {
		out = append(out, effects(s.file)...)
	}
	if inCmd && hasMain(s.file) && s.rows > maxMainLines {
		out = append(out, fmt.Sprintf("func main: file has %d lines (at most %d: wiring only)", s.rows, maxMainLines))
	}
	return out
}

// refuse returns why s may not import a package, or nothing.
func refuse(s source, row layer, inCmd bool, imported string) string {
	if why := banned(bans, imported); why != "" {
		return why
	}
	if row.pure && !s.isTest() && !slices.Contains(row.but, imported) {
		if why := banned(impureImports, imported); why != "" {
			return why
		}
	}
	if why := banned(unlessBought, imported); why != "" && !inCmd && !under(row.bought, imported) {
		return why
	}
	ours, isOurs := strings.CutPrefix(imported, module)
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case inCmd || !isOurs && !strings.Contains(first, "."):
		return ""
	case isOurs && s.isTest():
		if row.pure && !layers[ours].pure && !strings.HasPrefix(ours, "internal/") {
			return "tests of a pure package need no adapter"
		}
		return ""
	case isOurs && ours != s.pkg && !slices.Contains(row.ours, ours):
		return fmt.Sprintf("%s is not below %s (%s)", ours, s.pkg, orNone(row.ours))
	case !isOurs && !under(row.bought, imported) && !(s.isTest() && under(testsMayBuy, imported)):
		return fmt.Sprintf("not bought for %s (%s)", s.pkg, orNone(row.bought))
	}
	return ""
}

// banned returns the reason that list has against an import, or nothing.
func banned(list map[string]string, imported string) string {
	for key, why := range list {
		if imported == key || strings.HasSuffix(key, "/") && strings.HasPrefix(imported, key) {
			return why
		}
	}
	return ""
}

// under reports whether imported is one of roots or below one.
func under(roots []string, imported string) bool {
	return slices.ContainsFunc(roots, func(r string) bool {
		return imported == r || strings.HasPrefix(imported, r+"/")
	})
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "nothing is"
	}
	return strings.Join(list, ", ")
}

// effects returns what a file of a pure package does beyond computing.
func effects(file *ast.File) []string {
	packages := map[string]string{} // local name → import path
	for _, spec := range file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		packages[name] = imported
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, "go statement: no goroutines: the caller decides what runs beside what")
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				out = append(out, "func init: importing a package does nothing")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if why := impureCalls[packages[x.Name]+"."+n.Sel.Name]; why != "" {
					out = append(out, x.Name+"."+n.Sel.Name+": "+why)
				}
			}
		}
		return true
	})
	return out
}

func hasMain(file *ast.File) bool {
	return slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Recv == nil && f.Name.Name == "main"
	})
}

func TestLayersRefuse(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       string // part of the only problem; empty: none
	}{
		{"table/x.go", `package table; import "net/netip"; var _ netip.Addr`, ""},
		{"table/x.go", `package table; import _ "github.com/weft-net/weft/packet"`, "packet is not below table"},
		{"trace/x.go", `package trace; import _ "github.com/weft-net/weft/packet"`, ""},
		{"bpf/x.go", `package bpf; import _ "github.com/weft-net/weft/pipeline"`, "pipeline is not below bpf"},
		{"bpf/x_test.go", `package bpf; import _ "github.com/weft-net/weft/pipeline"`, ""},
		{"trace/x_test.go", `package trace; import _ "github.com/weft-net/weft/lab"`, "need no adapter"},
		{"lab/x.go", `package lab; import _ "github.com/weft-net/weft/cmd/weft"`, "commands are the top"},
		{"lab/x.go", `package lab; import _ "k8s.io/api/core/v1"`, "without a cluster"},
		{"lab/x.go", `package lab; import _ "github.com/spf13/cobra"`, "not bought for lab"},
		{"cmd/weft/x.go", `package main; import _ "github.com/spf13/cobra"`, ""},
		{"lab/x.go", `package lab; import _ "github.com/weft-net/weft/internal/oracle"`, "internal/oracle is not below lab"},
		{"compile/x.go", `package compile; import _ "os/exec"`, "no I/O and no environment"},
		{"compile/x.go", `package compile; import _ "github.com/gaissmai/bart"`, ""},
		{"compile/x.go", `package compile; import _ "log/slog"`, "not a log"},
		{"compile/x_test.go", `package compile; import _ "os"`, ""},
		{"compile/x.go", `package compile; import t "time"; var _ = t.Now()`, "t.Now: no clock"},
		{"compile/x.go", `package compile; import "time"; const _ = time.Second`, ""},
		{"compile/x.go", `package compile; func f() { go f() }`, "no goroutines"},
		{"compile/x.go", `package compile; func init() {}`, "importing a package does nothing"},
		{"lab/x.go", `package lab; func f() { go f() }`, ""},
		{"util/x.go", `package main`, "says nothing"},
		{"unknown/x.go", `package unknown`, "has no row"},
		{"cmd/weft/main.go", "package main; func main() {}" + strings.Repeat("\n//", maxMainLines), "func main: file has 121 lines"},
	} {
		s, err := parse(tc.name, tc.text)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(check(s), "; ")
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %.100s: got %q, want %q", tc.name, tc.text, got, tc.want)
		}
	}
}
