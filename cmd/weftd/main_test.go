package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/internal/pki"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// patience bounds the wait for anything.
const patience = 60 * time.Second

// fakeDriver is a data plane that takes everything.
type fakeDriver struct {
	mu  sync.Mutex
	set *table.Set
}

func (d *fakeDriver) Apply(_ context.Context, set *table.Set, _ dataplane.Binding) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.set = set
	return nil
}

func (d *fakeDriver) Sweep(context.Context) error { return nil }
func (d *fakeDriver) Close() error                { return nil }
func (d *fakeDriver) Status(context.Context) (dataplane.Status, error) {
	return dataplane.Status{}, nil
}
func (d *fakeDriver) Loads(context.Context) (dataplane.Loads, error) { return dataplane.Loads{}, nil }
func (d *fakeDriver) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return nil, nil
}
func (d *fakeDriver) PortDrops(context.Context) ([]dataplane.PortDrop, error) { return nil, nil }
func (d *fakeDriver) Connections(context.Context, func(*dataplane.Connection) bool) error {
	return nil
}

// begin runs a program until end, which returns its exit code and its log.
func begin(main func(ctx context.Context, log io.Writer) int) (end func() (int, string)) {
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- main(ctx, &log) }()
	return func() (int, string) {
		cancel()
		return <-code, log.String()
	}
}

// client speaks HTTP to a unix socket.
func client(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}}
}

// awaitStatus waits until what weftd says is as is wants.
func awaitStatus(t *testing.T, c *http.Client, is func(*status) bool) {
	t.Helper()
	var s status
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		resp, err := c.Get("http://weftd/v1/status")
		if err != nil {
			continue
		}
		err = json.NewDecoder(resp.Body).Decode(&s)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if is(&s) {
			return
		}
	}
	t.Fatalf("status: %+v", s)
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + "\n" + string(body)
}

// Intent that is put reaches an agent, also after both were killed.
func TestFromPolicyToAgent(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var said, errs bytes.Buffer
	if code := run(t.Context(), []string{"cert", "agent", "host1", "--data", at("data"), "--out", dir}, &said, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if want := at("agent-host1.crt") + "\n" + at("agent-host1.key") + "\n" + at("ca.crt") + "\n"; said.String() != want {
		t.Errorf("cert says %q, want %q", said.String(), want)
	}
	weftd := func(ctx context.Context, log io.Writer) int {
		return run(ctx, []string{"--data", at("data"), "--socket", at("s"), "--agents", "unix:" + at("a"), "--agents", "127.0.0.1:0", "--https", "127.0.0.1:0"}, io.Discard, log)
	}
	driver := &fakeDriver{}
	node := func(ctx context.Context, log io.Writer) int {
		return agent.Main(ctx, []string{
			"--dir", at("agent"), "--socket", at("agent.sock"), "--monitors", "weft-test-none",
			"--control", "unix:" + at("a"), "--node", "host1", "--cert", at("agent-host1.crt"), "--key", at("agent-host1.key"), "--ca", at("ca.crt"),
		}, io.Discard, log, func(string) (agent.Driver, error) { return driver, nil })
	}
	endWeftd, endAgent := begin(weftd), begin(node)
	defer func() { endAgent(); endWeftd() }()
	c := client(at("s"))
	realized := func(s *status) bool {
		return s.Version > 0 && s.Compiled == s.Version && len(s.Nodes) == 1 && s.Nodes[0].Connected && s.Nodes[0].Version == s.Version
	}
	put := func(path, body string) {
		t.Helper()
		r, _ := http.NewRequest(http.MethodPatch, "http://weftd/policy/api/v1/infra/"+path, strings.NewReader(body))
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	segments := func() int {
		driver.mu.Lock()
		defer driver.mu.Unlock()
		return driver.set.Segments.Len()
	}
	awaitStatus(t, c, func(s *status) bool { return len(s.Nodes) == 1 && s.Nodes[0].Connected })
	put("segments/web", `{"subnets": [{"gateway_address": "10.1.0.1/24"}]}`)
	awaitStatus(t, c, realized)
	if n := segments(); n != 1 {
		t.Errorf("%d segments are in force", n)
	}
	for path, want := range map[string]string{
		"/v1/tables/host1":        `"Path":"/infra/segments/web"`,
		"/v1/tables/host9":        "404 Not Found\nnode host9: there are no tables for it",
		"/debug/":                 `<a href="tables/host1">`,
		"/debug/tables/host1":     "# segments\nSEGMENT",
		"/debug/pprof/goroutine?": "200 OK",
		"/metrics":                "\nweftd_node_connected{node=\"host1\"} 1\n",
	} {
		if got := get(t, c, "http://weftd"+path); !strings.Contains(got, want) {
			t.Errorf("%s: %s\nwant: %s", path, got, want)
		}
	}
	if code, log := endWeftd(); code != 0 {
		t.Errorf("weftd ended with %d:\n%s", code, log)
	}
	if code, log := endAgent(); code != 0 || !strings.Contains(log, "gets tables from weftd") {
		t.Errorf("the agent ended with %d:\n%s", code, log)
	}
	endWeftd, endAgent = begin(weftd), begin(node)
	awaitStatus(t, c, realized)
	put("segments/db", `{"subnets": [{"gateway_address": "10.2.0.1/24"}]}`)
	awaitStatus(t, c, realized)
	if n := segments(); n != 2 {
		t.Errorf("%d segments are in force", n)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // of the message
	}{
		{"--no-such-flag", "weftd: -no-such-flag"},
		{"serve", `weftd: "serve": is no flag`},
		{"--agents x", `weftd: agents "x": is no address (unix:/run/weft/agents.sock, or host:port)`},
		{"--agents unix:", `weftd: agents "unix:": is no address`},
		{"--https 6640", `weftd: https "6640": is no address (host:port)`},
		{"--etcd-ca x", "weftd: etcd-ca, etcd-cert, etcd-key: need --etcd-endpoints"},
		{"--etcd-endpoints https://a:1 --etcd-cert x", "weftd: etcd-cert, etcd-key: one is missing (both or none)"},
		{"--etcd-endpoints a,,b", "has an empty part"},
		{"cert", "weftd: cert []: is no certificate (cert agent NODE, cert client NAME)"},
		{"cert agent", `weftd: cert ["agent"]: is no certificate`},
		{"cert agent a/b", `weftd: cert agent "a/b": is no name (letters, digits, _ . -)`},
		{"cert agent a --socket x", "weftd: -socket"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(tt.args), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), tt.want) || out.Len() > 0 {
			t.Errorf("%s: code %d, %s%s\nwant: %s", tt.args, code, out.String(), errs.String(), tt.want)
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &errs); code != 0 || errs.Len() > 0 || !strings.Contains(out.String(), "-agents address") {
		t.Errorf("--help: code %d, %s%s", code, out.String(), errs.String())
	}
}

// What can not be opened is told, and ends weftd.
func TestCanNotStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--data", file}, "not a directory"},
		{[]string{"--data", dir, "--etcd-endpoints", "127.0.0.1:1"}, "is not an endpoint"},
		{[]string{"--data", dir, "--etcd-endpoints", "https://127.0.0.1:1", "--etcd-ca", file}, "etcd-ca: " + file + ": has no certificate (want PEM)"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), tt.args, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%s: code %d, %s\nwant: %s", tt.args, code, errs.String(), tt.want)
		}
	}
}

// Only clients may use --https: an agent's certificate is not one.
func TestClientsOnly(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.Ensure(dir, caName)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{c: &config{https: "0.0.0.0:6640", names: []string{"weft.example", "localhost"}}, ca: ca, log: slog.New(slog.DiscardHandler)}
	hosts := d.hosts()
	if slices.Contains(hosts, "0.0.0.0") || !slices.Contains(hosts, "weft.example") || !slices.Contains(hosts, "::1") {
		t.Errorf("hosts: %v", hosts)
	}
	l, config, err := d.listenHTTPS(t.Context(), "127.0.0.1:0", filepath.Join(dir, "https"), hosts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serveHTTP(ctx, d.log, tls.NewListener(l, config), clientsOnly(http.NotFoundHandler()))
	}()
	for name, want := range map[string]int{clientPrefix + "a": http.StatusNotFound, "agent:host1": http.StatusForbidden} {
		cert, key, err := ca.Issue(pki.Request{Name: name, Client: true})
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: ca.Pool()}}}
		resp, err := c.Get("https://" + l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", name, resp.Status, want)
		}
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	if resp, err := c.Get("https://" + l.Addr().String()); err == nil {
		resp.Body.Close()
		t.Errorf("without a certificate: %s", resp.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
