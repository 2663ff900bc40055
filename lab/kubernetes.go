package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/process"
	"github.com/weft-net/weft/lab/cluster"
)

// Programs are the commands that a lab with a Kubernetes runs besides its
// agent; flags are appended.
type Programs struct {
	Weft       []string // apply is run by it
	Weftd      []string
	Node       []string // weft-node
	CNI        string   // directory of weft-cni
	Kubernetes string   // directory of etcd, kube-apiserver and the others; see scripts/kube.sh
}

// check says which program is missing.
func (p Programs) check() error {
	files := []string{filepath.Join(p.CNI, "weft-cni")}
	for _, command := range [][]string{p.Weft, p.Weftd, p.Node} {
		if len(command) == 0 {
			return errors.New("programs: are not given")
		}
		files = append(files, command[0])
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%s: is not there (make build makes it)", file)
		}
	}
	if _, err := os.Stat(filepath.Join(p.Kubernetes, "kube-apiserver")); err != nil {
		return fmt.Errorf("%s: has no Kubernetes (make kube builds it)", p.Kubernetes)
	}
	return nil
}

// Times of a lab with a Kubernetes.
const (
	controlTime  = time.Minute     // until weftd answers
	realizedTime = time.Minute     // until the agent has what weftd compiled
	nodesTime    = time.Minute     // until nodes are ready
	appliedTime  = 2 * time.Minute // until the manifests are taken and the control plane has its port
)

// controlPlane is what the machine is called that stands for the API server in
// the tenants' network, and the attachment of its port.
const controlPlane = "control-plane"

// parts names the files and processes of a lab's Kubernetes.
type parts struct {
	s    *System
	plan *Plan
	spec *KubernetesSpec
	dir  string
}

func (s *System) parts(plan *Plan, spec *KubernetesSpec) *parts {
	return &parts{s, plan, spec, s.dir(plan.Lab)}
}

func (p *parts) file(name string) string { return filepath.Join(p.dir, name) }

// cluster is where the API server and its helpers are.
func (p *parts) cluster() cluster.Config {
	return cluster.Config{
		Dir: p.file("kubernetes"), Binaries: p.s.Programs.Kubernetes,
		ServiceCIDR: p.spec.ServiceCIDR, AdvertiseAddress: p.spec.ControlPlane, Nodes: p.spec.Nodes, UnsafeNoFsync: true,
	}
}

// Kubeconfig returns the file by which kubectl reaches a lab's Kubernetes as
// administrator.
// Errors: the lab has none.
func (s *System) Kubeconfig(lab string) (string, error) {
	state, err := s.Load(lab)
	if err != nil {
		return "", err
	}
	if state.Spec.Kubernetes == nil {
		return "", fmt.Errorf("lab %s: has no Kubernetes", lab)
	}
	return s.parts(state.Plan, state.Spec.Kubernetes).cluster().Kubeconfig(cluster.Admin), nil
}

// ServerOf returns the address of a lab's weftd as weft apply takes it.
// Errors: the lab has none.
func (s *System) ServerOf(lab string) (string, error) {
	state, err := s.Load(lab)
	if err != nil {
		return "", err
	}
	if state.Spec.Kubernetes == nil {
		return "", fmt.Errorf("lab %s: has no control plane (use 'weft lab apply')", lab)
	}
	return "unix:" + s.parts(state.Plan, state.Spec.Kubernetes).file("weftd.sock"), nil
}

// kubernetes returns the steps that follow those on namespaces and links, up to
// a Kubernetes that drives the network.
func (s *System) kubernetes(state *State, g *goal, c change) []step {
	p := s.parts(g.plan, g.spec.Kubernetes)
	return []step{
		{"starting Kubernetes", func(ctx context.Context) error {
			_, err := cluster.Start(ctx, p.cluster(), s.Progress)
			return err
		}},
		{"starting weftd", func(ctx context.Context) error { return p.ensure(ctx, state, "weftd", p.startWeftd) }},
		{"applying the intent", func(ctx context.Context) error { return p.apply(ctx, g.body) }},
		{"starting the agent of " + g.plan.host().Name, func(ctx context.Context) error {
			return s.ensureAgent(ctx, state, g.plan)
		}},
		{"waiting for the tables", func(ctx context.Context) error { return p.awaitUplinks(ctx) }},
		{"raising links", func(context.Context) error { return raise(c.links) }},
		{"applying the manifests", func(ctx context.Context) error { return p.applyManifests(ctx, g.spec.Manifests) }},
		{"connecting the API server", func(ctx context.Context) error { return p.connect(ctx, state) }},
		{"starting nodes " + strings.Join(p.spec.Nodes, ", "), func(ctx context.Context) error {
			return p.ensure(ctx, state, "nodes", p.startNode)
		}},
	}
}

// ensure starts the part called name unless it runs, and writes down which
// process it is.
func (p *parts) ensure(ctx context.Context, state *State, name string, start func(context.Context) (Process, error)) error {
	for _, have := range state.Control {
		if have.Machine == name && have.alive() {
			return nil
		}
	}
	started, err := start(ctx)
	if err != nil {
		return err
	}
	state.Control = append(slices.DeleteFunc(state.Control, func(old Process) bool { return old.Machine == name }), started)
	return state.save(p.dir)
}

// startWeftd returns when weftd answers.
func (p *parts) startWeftd(ctx context.Context) (Process, error) {
	args := append(slices.Clone(p.s.Programs.Weftd),
		"--data", p.file("weftd"), "--pki", p.file("pki"), "--socket", p.file("weftd.sock"), "--agents", "unix:"+p.file("agents.sock"),
		"--kubeconfig", p.cluster().Kubeconfig(cluster.Weft))
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	return startHere("weftd", args, p.file("weftd.log"), func(ended <-chan struct{}) error {
		return poll(ctx, ended, func() error { return p.get(ctx, "/v1/status", nil) })
	})
}

// poll calls try until it succeeds, the program has ended or ctx ends.
func poll(ctx context.Context, ended <-chan struct{}, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// get asks weftd; to may be nil.
func (p *parts) get(ctx context.Context, path string, to any) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.file("weftd.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weftd"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("weftd: %s: %s", resp.Status, bytes.TrimSpace(body))
	}
	if to == nil {
		return nil
	}
	return json.Unmarshal(body, to)
}

// apply gives weftd the lab's own intent.
func (p *parts) apply(ctx context.Context, body []byte) error {
	cmd := exec.CommandContext(ctx, p.s.Programs.Weft[0], append(slices.Clone(p.s.Programs.Weft[1:]), "apply", "--server", "unix:"+p.file("weftd.sock"), "-")...)
	cmd.Stdin = bytes.NewReader(body)
	return output(cmd)
}

// output runs cmd; its output is the text of the error.
func output(cmd *exec.Cmd) error {
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, bytes.TrimSpace(said))
	}
	return nil
}

// agentFlags returns what an agent that follows weftd takes besides its own
// directory, and makes its certificate.
func (p *parts) agentFlags(ctx context.Context) ([]string, error) {
	host := p.plan.host()
	dir := p.file("certificates")
	cmd := exec.CommandContext(ctx, p.s.Programs.Weftd[0], append(slices.Clone(p.s.Programs.Weftd[1:]), "cert", "--pki", p.file("pki"), "--out", dir, "agent", host.Name)...)
	if err := output(cmd); err != nil {
		return nil, err
	}
	base := filepath.Join(dir, "agent-"+host.Name)
	flags := []string{
		"--control", "unix:" + p.file("agents.sock"), "--node", host.Name,
		"--cert", base + ".crt", "--key", base + ".key", "--ca", filepath.Join(dir, "ca.crt"),
	}
	for _, end := range p.plan.ends(host.Namespace) {
		if end.Object != "" {
			flags = append(flags, "--device", end.Object+"="+end.Name)
		}
	}
	return flags, nil
}

// awaitUplinks returns when the agent has the tables of all uplinks in force.
func (p *parts) awaitUplinks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, realizedTime)
	defer cancel()
	return poll(ctx, nil, func() error {
		now, err := p.s.client(p.plan).InForce(ctx)
		if err != nil {
			return err
		}
		for _, end := range p.plan.ends(p.plan.host().Namespace) {
			if end.Object != "" && now.Devices[end.Object] == "" {
				return fmt.Errorf("%s: is not in force yet", end.Object)
			}
		}
		return nil
	})
}

// kubectl runs kubectl as administrator.
func (p *parts) kubectl(ctx context.Context, stdin io.Reader, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(p.s.Programs.Kubernetes, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.cluster().Kubeconfig(cluster.Admin))
	cmd.Stdin = stdin
	return output(cmd)
}

// applyManifests waits for the custom resources that weftd defines.
func (p *parts) applyManifests(ctx context.Context, manifests string) error {
	if manifests == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, appliedTime)
	defer cancel()
	return poll(ctx, nil, func() error {
		return p.kubectl(ctx, strings.NewReader(manifests), "apply", "--server-side", "--force-conflicts", "-f", "-")
	})
}

// connect gives the API server its place in the tenants' network: a machine
// with the address of the `kubernetes` service's endpoint, whose port leads to
// where the API server listens.
func (p *parts) connect(ctx context.Context, state *State) error {
	ctx, cancel := context.WithTimeout(ctx, appliedTime)
	defer cancel()
	namespace := prefixOf(p.plan.Lab) + controlPlane
	if _, ok := idOf(namespace); !ok {
		if err := (Machine{Name: controlPlane, Kind: Workload, Namespace: namespace}).create(); err != nil {
			return err
		}
	}
	n, err := netns.Open(namespace)
	if err != nil {
		return err
	}
	n.Close()
	_, err = p.s.client(p.plan).Attach(ctx, &agent.Attachment{
		AttachmentKey: agent.AttachmentKey{Container: controlPlane, Interface: workloadNIC},
		ID:            controlPlane, Pod: controlPlane, Network: "lab", NetNS: netns.Path(namespace),
	}, appliedTime)
	if err != nil {
		return err
	}
	return p.ensure(ctx, state, "forwarder", func(ctx context.Context) (Process, error) {
		server, err := netip.ParseAddrPort(p.cluster().Address())
		if err != nil {
			return Process{}, err
		}
		args := append(slices.Clone(p.s.Programs.Weft), "lab", "forward", "--namespace", namespace,
			"--listen", ":"+strconv.Itoa(int(server.Port())), "--to", server.String())
		return startHere("forwarder", args, p.file("forwarder.log"), func(ended <-chan struct{}) error {
			return inside(namespace, func() error { return awaitListeners(ctx, []uint16{server.Port()}, ended) })
		})
	})
}

// startNode starts the small kubelet of all nodes.
func (p *parts) startNode(ctx context.Context) (Process, error) {
	conf := map[string]any{
		"cniVersion": "1.0.0", "name": "weft",
		"plugins": []any{map[string]any{"type": "weft-cni", "socket": p.s.client(p.plan).Socket}},
	}
	data, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return Process{}, err
	}
	confDir := p.file("cni")
	if err := os.MkdirAll(confDir, 0o700); err != nil {
		return Process{}, err
	}
	if err := writeFile(filepath.Join(confDir, "10-weft.conflist"), append(data, '\n')); err != nil {
		return Process{}, err
	}
	args := append(slices.Clone(p.s.Programs.Node), "--kubeconfig-dir", p.cluster().Dir, "--nodes", strings.Join(p.spec.Nodes, ","),
		"--dir", p.file("nodes"), "--cni-conf-dir", confDir, "--cni-bin-dir", p.s.Programs.CNI, "--netns-prefix", podPrefix(p.plan.Lab))
	ready := []string{"wait", "--for=condition=Ready", "--timeout=10s"}
	for _, node := range p.spec.Nodes {
		ready = append(ready, "node/"+node)
	}
	ctx, cancel := context.WithTimeout(ctx, nodesTime)
	defer cancel()
	return startHere("nodes", args, p.file("nodes.log"), func(ended <-chan struct{}) error {
		return poll(ctx, ended, func() error { return p.kubectl(ctx, nil, ready...) })
	})
}

// stop ends what kubernetes started, but not the pods' processes, which end
// with their namespaces.
func (p *parts) stop(ctx context.Context, state *State) (ended int, err error) {
	for _, part := range slices.Backward(state.Control) {
		if !part.alive() {
			continue
		}
		if err := process.Kill(ctx, part.PID, part.alive); err != nil {
			return ended, err
		}
		ended++
	}
	n, err := cluster.Stop(ctx, p.cluster())
	return ended + n, err
}

// errNoChange refuses a lab's change by files.
var errNoChange = errors.New("its network is changed by kubectl and 'weft apply' (use 'weft lab down' and up to change what stands around it)")
