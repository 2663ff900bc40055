package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/table"
)

// program runs Main with a fake driver until stop, which returns its exit code
// and what it logged.
func program(t *testing.T, d *fakeDriver, args ...string) (stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		code <- Main(ctx, args, &bytes.Buffer{}, &log, func(string) (Driver, error) { return d, nil })
	}()
	return func() (int, string) {
		cancel()
		return <-code, log.String()
	}
}

// await returns when an agent answers.
func await(t *testing.T, c *Client) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := c.Status(t.Context())
		if err == nil {
			return
		}
		if !errors.Is(err, ErrGone) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// plain returns pooled without what takes root: monitors' ports.
func plain() *table.Set {
	s := pooled(2)
	s.Ports.Delete(2)
	s.Services.Get(1).Port = 0
	return s
}

func TestClientAndServer(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 12))
	c := &Client{Socket: filepath.Join(long, "socket")}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("without an agent: %v", err)
	}
	d, _ := newFakes()
	args := []string{"--dir", filepath.Join(long, "dir"), "--socket", c.Socket, "--monitors", "weft-test-none"}
	stop := program(t, d, args...)
	await(t, c)
	if _, err := c.InForce(t.Context()); err == nil || err.Error() != "agent: there are no tables yet" {
		t.Errorf("InForce without tables: %v", err)
	}
	want := &Tables{plain(), map[string]string{}}
	if err := c.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Set, d.sets[0].WithHealth(nil), compareAddrs); diff != "" {
		t.Errorf("tables (-sent +applied):\n%s", diff)
	}
	got, err := c.InForce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&InForce{want.Set, want.Devices}, got, compareAddrs); diff != "" {
		t.Errorf("in force (-sent +told):\n%s", diff)
	}
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantStatus := &Status{Node: "host1", PID: os.Getpid(), Generation: 1, Conditions: []Condition{}, Members: []Member{
		{Pool: "/infra/lb-pools/p", Name: "m1", Address: "10.1.0.1:80", Admin: "ENABLED", Up: true},
		{Pool: "/infra/lb-pools/p", Name: "m2", Address: "10.1.0.2:80", Admin: "ENABLED", Up: true},
	}}
	if diff := cmp.Diff(wantStatus, status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	err = c.Apply(t.Context(), &Tables{plain(), map[string]string{"/no": "lo"}})
	if err == nil || err.Error() != "agent: device lo: /no: is not in the tables" {
		t.Errorf("a device of nothing: %v", err)
	}

	info, err := os.Stat(c.Socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	second, log := program(t, d, args...)()
	if second != exitFailed || !strings.Contains(log, "another agent has it") {
		t.Errorf("a second agent ends with %d: %s", second, log)
	}
	await(t, c) // it took nothing from the first
	if code, log := stop(); code != 0 || !strings.Contains(log, "new tables are in force") {
		t.Errorf("it ends with %d: %s", code, log)
	}
	if !d.closed {
		t.Error("the driver is not closed")
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

func TestASocketThatAKilledAgentLeft(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	l, err := listenPrivately(socket)
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // the file stays
	c := &Client{Socket: socket}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("nobody listens: %v", err)
	}
	d, _ := newFakes()
	stop := program(t, d, "--dir", dir, "--socket", socket, "--monitors", "weft-test-none")
	await(t, c)
	stop()
}

func TestMetrics(t *testing.T) {
	dir := t.TempDir()
	d, _ := newFakes()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // it is free now
	c := &Client{Socket: filepath.Join(dir, "socket")}
	stop := program(t, d, "--dir", dir, "--socket", c.Socket, "--monitors", "weft-test-none", "--metrics", address)
	await(t, c)
	if err := c.Apply(t.Context(), &Tables{Set: plain()}); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + address + metricsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := `pool="/infra/lb-pools/p"`; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("no %s in: %s, %v", want, body, err)
	}
	for path, want := range map[string]int{statusPath: http.StatusNotFound, tablesPath: http.StatusNotFound} {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is served by TCP: %s", path, resp.Status)
		}
	}
	stop()
	if _, err := http.Get("http://" + address + metricsPath); err == nil {
		t.Error("metrics are served after the end")
	}
}

func TestServerRefuses(t *testing.T) {
	dir := t.TempDir()
	d, _ := newFakes()
	c := &Client{Socket: filepath.Join(dir, "socket")}
	stop := program(t, d, "--dir", dir, "--socket", c.Socket, "--monitors", "weft-test-none")
	defer stop()
	await(t, c)
	for body, want := range map[string]string{
		``:                            "agent: unexpected end of JSON input",
		`{}`:                          "agent: tables: are missing",
		`{"tables":{"x":1}}`:          `agent: table set: json: unknown field "x"`,
		`{"tables":{},"other":"lo"}`:  `agent: json: unknown field "other"`,
		`{"tables":{},"devices":[1]}`: "agent: json: cannot unmarshal array into Go struct field tablesDocument.devices of type map[string]string",
	} {
		err := c.do(t.Context(), http.MethodPut, tablesPath, []byte(body), nil)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
	d.change(func() { d.refuse = errors.New("map nat: is full") })
	if err := c.Apply(t.Context(), &Tables{Set: plain()}); err == nil || err.Error() != "agent: map nat: is full" {
		t.Errorf("a refused Set: %v", err)
	}
	if n, _ := d.applied(); n != 0 {
		t.Errorf("%d Sets were applied", n)
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args           []string
		code           int
		stdout, stderr string // parts
	}{
		{[]string{"--help"}, 0, "curl --unix-socket /run/weft-agent/socket http://agent/v1/status", ""},
		{[]string{"-h"}, 0, "-monitors name", ""},
		{[]string{"--nope"}, exitUsage, "", "weft-agent: -nope\nsee 'weft-agent --help'\n"},
		{[]string{"now"}, exitUsage, "", "weft-agent: \"now\": is no flag\nsee 'weft-agent --help'\n"},
		{[]string{"--dir", t.TempDir()}, exitFailed, "", "no such map"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), tc.args, &stdout, &stderr, func(string) (Driver, error) { return nil, errors.New("no such map") })
		if code != tc.code || !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) {
			t.Errorf("%v: %d, %q, %q", tc.args, code, stdout.String(), stderr.String())
		}
	}
}
