package lab

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/table"
)

// realAgentArgument makes the test binary an agent with the kernel's data plane.
const realAgentArgument = "lab-test-real-agent"

// realSystem returns a System that is made of what weft is.
func realSystem(t *testing.T) *System {
	t.Helper()
	need.BPF(t)
	if err := ebpf.MountFS(); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &System{
		StateDir: filepath.Join(t.TempDir(), "run"), PinDir: fmt.Sprintf("%s/weft-t%d", ebpf.FS, os.Getpid()),
		Agent: []string{self, realAgentArgument},
		Compile: func(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
			return compile.New().Update(tree, nil)
		},
		Open: func(pins string) (dataplane.Driver, error) { return ebpf.Open(pins) },
		Warn: func(p intent.Problem) { t.Log(p) },
	}
}

// The virtual servers of testdata/balanced.yaml.
const red, blue = "172.16.0.80:80", "172.16.0.81:80"

// webServer is a server on a machine of a lab that says which one it is.
type webServer struct {
	name   string
	ill    atomic.Bool // it answers questions about its health with 503
	server *http.Server
}

// serve starts w inside the machine of its name.
func (w *webServer) serve(t *testing.T, lab string) {
	t.Helper()
	var l net.Listener
	err := namespace(t, lab, w.name).Do(func() (err error) {
		l, err = net.Listen("tcp", ":80")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && w.ill.Load() {
			out.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(out, w.name)
	})}
	server := w.server
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

// awaitMembers returns when members are as want says: pool and address, and a
// part of why it is down; empty: up.
func awaitMembers(t *testing.T, s *System, lab string, want map[string]string) *agent.Status {
	t.Helper()
	got := map[string]string{}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		status, err := s.Status(t.Context(), lab)
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		asked := true
		for _, m := range status.Agent.Members {
			got[path.Base(m.Pool)+" "+m.Address] = m.Why
			for _, c := range m.Checks {
				asked = asked && (c.Down || !c.Asked.IsZero())
			}
		}
		same := maps.EqualFunc(want, got, func(want, got string) bool { return (want == "") == (got == "") && strings.Contains(got, want) })
		if same && asked {
			return status.Agent
		}
	}
	t.Fatalf("members: %v, want %v", got, want)
	return nil
}

// awaitAnswers returns when six requests to a virtual server are answered by
// exactly the named machines: of one that has just gone the data plane need not
// know yet.
func awaitAnswers(t *testing.T, lab, vip string, names ...string) {
	t.Helper()
	client := namespace(t, lab, "client")
	var from []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		from = nil
		for range 6 {
			body, err := get(t, client, vip)
			if err != nil {
				body = "none: " + err.Error()
			}
			from = append(from, body)
		}
		slices.Sort(from)
		if from = slices.Compact(from); slices.Equal(from, names) {
			return
		}
	}
	t.Fatalf("answers from %q, want %q", from, names)
}

// TestTrafficFollowsTheMonitors stops the server of one member, and lets it
// answer badly.
func TestTrafficFollowsTheMonitors(t *testing.T) {
	s := realSystem(t)
	lab := testLab(t, s, "balance")
	up(t, s, labFiles(t, "balanced.yaml", lab))
	web1, web2 := &webServer{name: "web1"}, &webServer{name: "web2"}
	web1.serve(t, lab)
	web2.serve(t, lab)
	app := &webServer{name: "app"}
	app.serve(t, lab)
	const first, second, other = "web 10.1.0.5:80", "web 10.1.0.6:80", "app 10.1.0.5:80"
	awaitMembers(t, s, lab, map[string]string{first: "", second: "", other: ""})
	awaitAnswers(t, lab, red, "web1", "web2")

	web1.server.Close()
	const refused = "connect 10.1.0.5:80: connection refused"
	// blue's member has the address of the one that is gone
	now := awaitMembers(t, s, lab, map[string]string{first: refused, second: "", other: ""})
	awaitAnswers(t, lab, red, "web2")
	awaitAnswers(t, lab, blue, "app")
	if !slices.ContainsFunc(now.Conditions, func(c agent.Condition) bool {
		return c.Type == agent.MemberDown && c.Object == "/infra/lb-pools/"+first && c.Status && strings.Contains(c.Message, refused)
	}) {
		t.Errorf("conditions: %+v", now.Conditions)
	}
	set, err := s.Tables(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range set.Pools.All() {
		if up := p.Active(set.Health); len(up) != 1 {
			t.Errorf("%s: active members of the tables in force: %+v", p.Path, up)
		}
	}

	t.Run("agent killed", func(t *testing.T) {
		killAgent(t, s, lab)
		awaitAnswers(t, lab, red, "web2")
		up(t, s, labFiles(t, "balanced.yaml", lab)) // starts it again
		awaitAnswers(t, lab, red, "web2")
		awaitMembers(t, s, lab, map[string]string{first: refused, second: "", other: ""})
	})

	web1.serve(t, lab)
	awaitMembers(t, s, lab, map[string]string{first: "", second: "", other: ""})
	awaitAnswers(t, lab, red, "web1", "web2")

	web2.ill.Store(true)
	awaitMembers(t, s, lab, map[string]string{first: "", second: "http: GET 10.1.0.6:80/health: status 503 (200)", other: ""})
	awaitAnswers(t, lab, red, "web1")
}

// TestPassiveDetection lets clients find out that a member is gone.
func TestPassiveDetection(t *testing.T) {
	s := realSystem(t)
	lab := testLab(t, s, "passive")
	up(t, s, labFiles(t, "balanced.yaml", lab,
		"active_monitor_paths: [/infra/lb-monitor-profiles/connects, /infra/lb-monitor-profiles/answers]", "passive_monitor_path: /infra/lb-monitor-profiles/passive"))
	(&webServer{name: "web2"}).serve(t, lab) // nobody listens at web1
	client := namespace(t, lab, "client")
	refused, answered := 0, 0
	for range 6 { // in turn: three at each
		if _, err := get(t, client, red); err != nil {
			refused++
		} else {
			answered++
		}
	}
	if refused != 3 || answered != 3 {
		t.Errorf("%d of six connections were refused, %d answered", refused, answered)
	}
	const first, second, other = "web 10.1.0.5:80", "web 10.1.0.6:80", "app 10.1.0.5:80"
	awaitMembers(t, s, lab, map[string]string{first: "passive: 3 connections in a row failed (for 3s)", second: "", other: ""})
	awaitMembers(t, s, lab, map[string]string{first: "", second: "", other: ""}) // to be tried again
	(&webServer{name: "web1"}).serve(t, lab)
	awaitAnswers(t, lab, red, "web1", "web2")
}
