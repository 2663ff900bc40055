package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/policyapi"
	"github.com/weft-net/weft/policyapi/client"
	"github.com/weft-net/weft/store"
)

// weftd serves an empty store on a unix socket, and returns it; commands
// of this test speak to it.
func weftd(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	dir, err := os.MkdirTemp("", "weftd") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "weftd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	served := &http.Server{Handler: policyapi.New(s, nil)}
	go served.Serve(l)
	t.Cleanup(func() { served.Close() })
	t.Setenv(client.ServerEnv, "unix:"+l.Addr().String())
	return s
}

// file writes a file and returns its name.
func file(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// says demands what a command prints and its exit code.
func says(t *testing.T, code int, stdout, stderr string, args ...string) {
	t.Helper()
	out, errOut, got := runArgs(t, args...)
	if d := cmp.Diff(stdout, out); got != code || d != "" {
		t.Errorf("weft %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, d)
	}
	if d := cmp.Diff(stderr, errOut); d != "" {
		t.Errorf("weft %s: stderr: %s", strings.Join(args, " "), d)
	}
}

const (
	redGateway = "resource_type: Infra\nchildren:\n- resource_type: ChildTier1\n  Tier1: {id: red, display_name: Red}\n"
	redSegment = "resource_type: Infra\nchildren:\n- resource_type: ChildSegment\n  Segment: {id: web, connectivity_path: /infra/tier-1s/red, subnets: [{gateway_address: 10.1.0.1/24}]}\n"
	blueInJSON = "{\n\t\"resource_type\": \"Infra\", \"children\": [{\"resource_type\": \"ChildTier1\", \"Tier1\": {\"id\": \"blue\"}}]}\n{\"resource_type\": \"Infra\"}\n"
)

func TestApplyGetDelete(t *testing.T) {
	weftd(t)
	// In this order the segment refers to what a later file has.
	segment, gateway, blue := file(t, "segment.yaml", redSegment), file(t, "gateway.yaml", redGateway), file(t, "blue.json", blueInJSON)
	says(t, 0, "/infra/segments/web created\n/infra/tier-1s/blue created\n/infra/tier-1s/red created\n", "", "apply", segment, blue, gateway)
	says(t, 0, "/infra/tier-1s/blue unchanged\n", "", "apply", blue)
	changed := file(t, "gateway.yaml", strings.Replace(redGateway, "display_name: Red", "dispaly_name: Red", 1))
	says(t, 0, "/infra/tier-1s/blue unchanged\n/infra/tier-1s/red configured\n",
		"warning: "+changed+": /infra/tier-1s/red: dispaly_name: is not a known field (did you mean display_name)\n", "apply", changed, blue)

	says(t, 0, "PATH                 TYPE   NAME  REVISION  OWNER\n/infra/tier-1s/blue  Tier1  blue  1         -\n/infra/tier-1s/red   Tier1  red   2         -\n", "", "get", "tier-1s")
	says(t, 0, "PATH                 TYPE     NAME  REVISION  OWNER\n/infra/segments/web  Segment  web   1         -\n", "", "get", "/infra/segments/web")
	says(t, 0, "PATH                 TYPE     NAME  REVISION  OWNER\n/infra/segments/web  Segment  web   1         -\n", "", "get", "/infra/segments", "--below")
	says(t, 0, "PATH  TYPE  NAME  REVISION  OWNER\n", "", "get", "/infra/tier-0s")
	says(t, 0, `children:
- Tier1:
    _revision: 1
    id: blue
    resource_type: Tier1
  resource_type: ChildTier1
resource_type: Infra
`, "", "get", "/infra/tier-1s/blue", "-o", "yaml")
	if out, _, _ := runArgs(t, "get", "/infra"); strings.Count(out, "\n") != 8 {
		t.Errorf("everything: %s", out)
	}

	// What was printed can be given back, unless somebody was faster.
	body, _, _ := runArgs(t, "get", "/infra", "-o", "json")
	printed := file(t, "printed.json", body)
	if out, errOut, code := runArgs(t, "apply", printed); code != 0 || strings.Count(out, " unchanged\n") != 7 {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	says(t, 0, "/infra/tier-1s/red configured\n", "", "apply", gateway)
	says(t, 1, "", printed+": /infra/tier-1s/red: _revision: 2: is not the stored one (3; read the object again)\n", "apply", printed)

	says(t, 1, "", "/infra/tier-1s/red: is still referenced by /infra/segments/web (delete or change those first)\n", "delete", "/infra/tier-1s/red")
	says(t, 0, "/infra/segments/web deleted\n/infra/tier-1s/red deleted\n", "", "delete", "/infra/tier-1s/red", "/infra/segments/web")
	says(t, 1, "", "/infra/tier-1s/red: does not exist\n", "delete", "/infra/tier-1s/red", "/infra/tier-1s/blue")
	says(t, 0, "/infra/tier-1s/blue deleted\n", "", "delete", "/infra/tier-1s/red", "/infra/tier-1s/blue", "--ignore-not-found")
	says(t, 1, "", "/infra/tier-1s/blue: does not exist\n", "get", "/infra/tier-1s/blue")
}

// All problems of all files are printed at once, and nothing is applied.
func TestApplyPrintsAllProblems(t *testing.T) {
	s := weftd(t)
	broken := file(t, "broken.yaml", "resource_type: Infra\nchildren:\n- {")
	wrong := file(t, "wrong.yaml", "---\nresource_type: Infra\nchildren:\n- {resource_type: ChildTier1, Tier1: {id: a, tags: 1}}\n- {resource_type: ChildTier1, Tier1: {id: b, type: X}}\n")
	says(t, 1, "", broken+":3: is not YAML: did not find expected node content\n"+
		wrong+": /infra/tier-1s/a: tags: is a number (want a list)\n"+
		wrong+": /infra/tier-1s/b: type: X: is not allowed (ROUTED, ISOLATED, NATTED)\n", "apply", broken, wrong)
	dangling := file(t, "segment.yaml", redSegment)
	says(t, 1, "", dangling+": /infra/segments/web: connectivity_path: /infra/tier-1s/red: does not exist\n", "apply", dangling)
	empty := file(t, "empty.yaml", "resource_type: Infra\n")
	says(t, 1, "", empty+": has no objects (want a body of resource_type Infra with children)\n", "apply", empty)
	says(t, 1, "", "open /no/such/file: no such file or directory\n", "apply", "/no/such/file")
	s.Read(func(_ *intent.Tree, v store.Version) {
		if v != 0 {
			t.Errorf("version %d", v)
		}
	})
	says(t, 1, "", "type_filter: grup: is not a type ("+strings.Join(intent.ResourceTypes(), ", ")+")\n", "get", "grup")
}

// What a controller made is changed only if people insist.
func TestAllowOverwrite(t *testing.T) {
	s := weftd(t)
	if _, problems, err := s.Replace(t.Context(), "Namespace/a/1", intent.Put("/infra/tier-1s/red", &intent.Tier1{}).Object); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	gateway := file(t, "gateway.yaml", redGateway)
	const belongs = "/infra/tier-1s/red: belongs to Namespace/a/1 (change that, or insist by X-Allow-Overwrite: true)\n"
	says(t, 1, "", gateway+": "+belongs, "apply", gateway)
	says(t, 1, "", belongs, "delete", "/infra/tier-1s/red")
	says(t, 0, "/infra/tier-1s/red configured\n", "", "apply", gateway, "--allow-overwrite")
	says(t, 0, "PATH                TYPE   NAME  REVISION  OWNER\n/infra/tier-1s/red  Tier1  Red   2         Namespace/a/1\n", "", "get", "Tier1")
	for _, what := range []string{"Tier1", "/infra"} {
		says(t, 0, "PATH                TYPE   NAME  REVISION  OWNER\n/infra/tier-1s/red  Tier1  Red   2         Namespace/a/1\n", "", "get", what, "--owner", "Namespace/a/1")
		says(t, 0, "PATH  TYPE  NAME  REVISION  OWNER\n", "", "get", what, "--owner", "Namespace/b/2")
	}
	says(t, 0, "/infra/tier-1s/red deleted\n", "", "delete", "/infra/tier-1s/red", "--allow-overwrite")
}

func TestApplyFromStdin(t *testing.T) {
	weftd(t)
	var out bytes.Buffer
	env := &Env{Stdin: strings.NewReader(redGateway), Stdout: &out, Stderr: &out}
	if code := execute(t.Context(), env, newRootCommand(env, nil, nil), []string{"apply", "-"}); code != 0 || out.String() != "/infra/tier-1s/red created\n" {
		t.Errorf("exit %d: %s", code, &out)
	}
}

// A weftd elsewhere is known by its certificate.
func TestServerByHTTPS(t *testing.T) {
	s, err := store.New(t.Context(), store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	served := httptest.NewUnstartedServer(policyapi.New(s, nil))
	served.Config.ErrorLog = log.New(io.Discard, "", 0) // of the client that does not trust it
	served.StartTLS()
	defer served.Close()
	ca := file(t, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: served.Certificate().Raw})))
	says(t, 0, "/infra/tier-1s/red created\n", "", "apply", "--server", served.URL, "--ca", ca, file(t, "gateway.yaml", redGateway))
	_, errOut, code := runArgs(t, "get", "Tier1", "--server", served.URL)
	if code != 1 || !strings.Contains(errOut, "certificate signed by unknown authority (--server or WEFT_SERVER says where it is)\n") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

func TestServerMistakes(t *testing.T) {
	t.Setenv(client.ServerEnv, "")
	none := file(t, "ca.crt", "no certificate")
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"apply", 2, "weft apply: requires at least 1 arg(s), only received 0\nsee 'weft apply --help'\n"},
		{"delete", 2, "weft delete: requires at least 1 arg(s), only received 0\nsee 'weft delete --help'\n"},
		{"get", 2, "weft get: accepts 1 arg(s), received 0\nsee 'weft get --help'\n"},
		{"get Tier1 -o xml", 2, "-o: \"xml\": is not an output (table, json, yaml)\nsee 'weft get --help'\n"},
		{"get /tier-1s", 2, "PATH: \"/tier-1s\": is not a policy path (such as /infra/tier-1s/red)\nsee 'weft get --help'\n"},
		{"get /infra/tier-1s --owner Supervisor/a", 2, "--owner: is given for /infra/tier-1s (want /infra or a type)\nsee 'weft get --help'\n"},
		{"delete red", 2, "PATH: \"red\": is not a policy path (such as /infra/tier-1s/red)\nsee 'weft delete --help'\n"},
		{"delete /infra", 2, "PATH: \"/infra\": is not a policy path (such as /infra/tier-1s/red)\nsee 'weft delete --help'\n"},
		{"get Tier1 --server weft.example", 2, "--server: \"weft.example\": is not a server (unix:PATH, https://HOST:PORT)\nsee 'weft get --help'\n"},
		{"get Tier1 --server http://weft.example", 2, "--server: \"http://weft.example\": is not a server (unix:PATH, https://HOST:PORT)\nsee 'weft get --help'\n"},
		{"get Tier1 --server https://weft.example --cert a", 2, "--cert, --key: one is missing (both or none)\nsee 'weft get --help'\n"},
		{"get Tier1 --server unix:/x --ca a", 2, "--ca, --cert, --key: are for https only (--server is unix:/x)\nsee 'weft get --help'\n"},
		{"get Tier1 --server https://weft.example --ca /no/such", 1, "--ca: open /no/such: no such file or directory\n"},
		{"get Tier1 --server https://weft.example --ca " + none, 1, "--ca: " + none + ": has no certificate (want PEM)\n"},
		{"get Tier1 --server unix:/no/such.sock", 1, "weftd at unix:/no/such.sock: dial unix /no/such.sock: connect: no such file or directory (--server or WEFT_SERVER says where it is)\n"},
	} {
		says(t, row.code, "", row.want, strings.Fields(row.args)...)
	}
}
