package kubelettest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/lab/cluster"
)

// Bounds of the test.
const (
	storyTime = 5 * time.Minute
	stepTime  = time.Minute // of a wait for Kubernetes
)

// TestMain does in a machine what its process is there for.
func TestMain(m *testing.M) {
	if os.Getenv(stepVar) == stepFirst {
		os.Exit(first())
	}
	os.Exit(m.Run())
}

// TestKubelets runs a Kubernetes of two nodes as in production: real kubelets,
// containerd, runc and weft-cni, pods that the scheduler places, and the eBPF
// data plane, told by Kubernetes objects, weftd and an agent. Two tenants' pods
// talk or do not; kubelets and the agent are killed while they do; and when the
// tenants are deleted, nothing of their pods is left.
//
// All runs in a machine of its own (see machine). Both nodes share the machine's
// agent, as a host has one data plane. That data plane gives its host no address
// in tenants' networks, so a kubelet can not probe pods by HTTP, TCP or gRPC: the
// pods' probes are programs. Nothing leads from pods to the API server either.
func TestKubelets(t *testing.T) {
	if os.Getenv(stepVar) == stepStory {
		m, err := here()
		if err != nil {
			t.Fatal(err)
		}
		story(t, m)
		return
	}
	need.Root(t)
	need.BPF(t)
	kubernetes := need.Kube(t)
	need.Tool(t, "containerd", "ctr", "runc", "ip")
	m := newMachine(t, kubernetes)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", m.program("")+"/",
		"./cmd/weft", "./cmd/weftd", "./cmd/weft-agent", "./cmd/weft-cni", "./internal/kubelettest/testdata/pause", "./internal/kubelettest/testdata/web")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, said)
	}
	m.run(t)
}

// program is a program that was built for the test.
func (m machine) program(name string) string { return filepath.Join(m.Dir, "bin", name) }

// site is what runs in the machine.
type site struct {
	machine
	cluster  cluster.Config
	weftd    *process
	follower *process // weft-agent
	nodes    []*node
	empty    inventory // before there were pods
	watchLog string    // of the client's container
}

// file is one in memory, with a path short enough for sockets.
func (s *site) file(name string) string { return "/run/site/" + name }

// kubectl runs kubectl as administrator.
func (s *site) kubectl(args ...string) (string, error) {
	return run(filepath.Join(s.Kubernetes, "kubectl"), append([]string{
		"--kubeconfig", s.cluster.Kubeconfig(cluster.Admin), "--cache-dir", s.file("kubectl"),
	}, args...)...)
}

func (s *site) must(t *testing.T, args ...string) string {
	t.Helper()
	said, err := s.kubectl(args...)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// story is the test in the machine: its steps build on each other.
func story(t *testing.T, m machine) {
	s := &site{machine: m}
	began := time.Now()
	for _, step := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"control plane", controlPlane}, {"nodes", nodes}, {"pods", pods}, {"service", service},
		{"isolation", isolation}, {"policy", policy}, {"restarts", restarts}, {"deletion", deletion},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, s) }) {
			return
		}
	}
	t.Logf("took %s", time.Since(began).Round(time.Second))
}

// controlPlane starts all but the nodes.
func controlPlane(t *testing.T, s *site) {
	must(t, "ip", "link", "set", "lo", "up")
	if err := os.MkdirAll(s.file(""), 0o700); err != nil {
		t.Fatal(err)
	}
	s.cluster = cluster.Config{
		Dir: filepath.Join(s.Dir, "kubernetes"), Binaries: s.Kubernetes, AdvertiseAddress: "10.244.0.2", Nodes: nodeNames, UnsafeNoFsync: true,
	}
	if _, err := cluster.Start(t.Context(), s.cluster, nil); err != nil {
		t.Fatal(err)
	}
	s.weftd = &process{
		name: "weftd", log: filepath.Join(s.Dir, "weftd.log"),
		args: []string{
			s.program("weftd"), "--data", s.file("weftd"), "--pki", s.file("pki"), "--socket", s.file("weftd.sock"),
			"--agents", "unix:" + s.file("agents.sock"), "--kubeconfig", s.cluster.Kubeconfig(cluster.Weft),
		},
	}
	s.weftd.start(t)
	await(t, "intent", startTime, func() error {
		_, err := run(s.program("weft"), "apply", "--server", "unix:"+s.file("weftd.sock"), "testdata/intent.yaml")
		return err
	})
	const host = "host1"
	must(t, s.program("weftd"), "cert", "--pki", s.file("pki"), "--out", s.file("certificates"), "agent", host)
	certificate := s.file("certificates/agent-" + host)
	s.follower = &process{
		name: "weft-agent", log: filepath.Join(s.Dir, "agent.log"),
		args: []string{
			s.program("weft-agent"), "--dir", s.file("agent"), "--socket", s.file("agent.sock"), "--metrics", metricsAddress,
			"--control", "unix:" + s.file("agents.sock"), "--node", host,
			"--cert", certificate + ".crt", "--key", certificate + ".key", "--ca", s.file("certificates/ca.crt"),
		},
	}
	s.follower.start(t)
	await(t, "agent", startTime, s.agentReady(t))
	await(t, "supervisor", startTime, func() error { // weftd defines its kind
		_, err := s.kubectl("apply", "-f", "testdata/supervisor.yaml")
		return err
	})
}

// metricsAddress is where the agent serves its metrics.
const metricsAddress = "127.0.0.1:9469"

// agentReady succeeds when the agent has tables.
func (s *site) agentReady(t *testing.T) func() error {
	return func() error {
		_, ready, err := s.agent().Attachments(t.Context())
		if err == nil && !ready {
			err = errors.New("it has no tables")
		}
		return err
	}
}

// nodes starts the nodes and waits until they are ready.
func nodes(t *testing.T, s *site) {
	var images []string
	for name, program := range map[string]string{pauseImage: "pause", webImage: "web"} {
		file := filepath.Join(s.Dir, program+".tar")
		writeImage(t, name, s.program(program), file)
		images = append(images, file)
	}
	for i, name := range nodeNames {
		n := &node{
			name: name, address: fmt.Sprintf("192.0.2.%d", i+1), dir: s.file(name), group: s.controlGroup(name),
			logs: filepath.Join(s.Dir, name),
		}
		n.prepare(t, s.cluster, s.file("agent.sock"), s.program("weft-cni"))
		n.startContainerd(t, images...)
		n.kubelet.start(t)
		s.nodes = append(s.nodes, n)
	}
	await(t, "nodes", stepTime, func() error {
		said, err := s.kubectl("get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && said != "True True" {
			err = fmt.Errorf("ready: %s", said)
		}
		return err
	})
	s.empty = s.inventory(t)
}
