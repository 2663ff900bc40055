package lab

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/lab/cluster"
)

// Reach is where all that belongs to a lab with a Kubernetes can be looked at.
type Reach struct {
	Lab        string
	Dir        string // of its state and logs
	Host       string // network namespace of its host
	Namespaces []string
	Pods       string // what the names of pods' network namespaces begin with
	Prefix     string // what the names of all its network namespaces begin with
	Uplinks    []string
	Weftd      string // socket
	Agent      *agent.Client
	AgentDir   string
	Kubectl    string // program
	Kubeconfig string
	Nodes      []string // directories of the nodes' pods
	Parts      []Part
}

// Part is a process that a lab with a Kubernetes needs.
type Part struct {
	Name string // weftd, nodes, forwarder, kube-apiserver …, agent of a host
	PID  int    // 0: it has ended
	Log  string // file that its output goes to
}

// Reach returns where the parts of a lab are. Namespaces are those that it has
// without any pod, that of the monitors only if it is there; Uplinks the devices
// of its host that lead out.
// Errors: the lab has no Kubernetes.
func (s *System) Reach(lab string) (*Reach, error) {
	state, err := s.Load(lab)
	if err != nil {
		return nil, err
	}
	if state.Spec.Kubernetes == nil {
		return nil, fmt.Errorf("lab %s: has no Kubernetes", lab)
	}
	host, p := state.Plan.host(), s.parts(state.Plan, state.Spec.Kubernetes)
	r := &Reach{
		Lab: lab, Dir: p.dir, Host: host.Namespace, Prefix: prefixOf(lab), Pods: podPrefix(lab),
		Weftd: p.file("weftd.sock"), Agent: s.client(state.Plan), AgentDir: s.agentDir(state.Plan),
		Kubectl: filepath.Join(s.Programs.Kubernetes, "kubectl"), Kubeconfig: p.cluster().Kubeconfig(cluster.Admin),
	}
	for _, m := range state.Plan.Machines {
		r.Namespaces = append(r.Namespaces, m.Namespace)
	}
	r.Namespaces = append(r.Namespaces, prefixOf(lab)+controlPlane)
	if _, ok := idOf(monitorsOf(host)); ok {
		r.Namespaces = append(r.Namespaces, monitorsOf(host))
	}
	slices.Sort(r.Namespaces)
	for _, end := range state.Plan.ends(host.Namespace) {
		r.Uplinks = append(r.Uplinks, end.Name)
	}
	for _, node := range p.spec.Nodes {
		r.Nodes = append(r.Nodes, filepath.Join(p.file("nodes"), node, "pods"))
	}
	r.Parts, err = p.all(state)
	return r, err
}

// all returns the processes that a lab with a Kubernetes needs.
func (p *parts) all(state *State) ([]Part, error) {
	var out []Part
	for _, list := range [][]Process{state.Control, state.Agents} {
		for _, c := range list {
			name := c.Machine
			if c.Machine == p.plan.host().Name {
				name = "agent-" + c.Machine
			}
			part := Part{Name: name, Log: p.file(name + ".log")}
			if c.alive() {
				part.PID = c.PID
			}
			out = append(out, part)
		}
	}
	started, err := p.cluster().Started()
	for _, name := range slices.Sorted(maps.Keys(started)) {
		out = append(out, Part{name, started[name], filepath.Join(p.cluster().Dir, name+".log")})
	}
	return out, err
}

// podPrefix is how the names of pods' network namespaces begin.
func podPrefix(lab string) string { return prefixOf(lab) + "pod-" }

// Logged returns the processes whose output goes to a file below dir, by the
// file, a pod's first process among them.
func Logged(dir string) (map[string][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	out := map[string][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		file, err := os.Readlink(filepath.Join("/proc", e.Name(), "fd/2"))
		if err == nil && strings.HasPrefix(file, dir+"/") {
			out[file] = append(out[file], pid)
		}
	}
	return out, nil
}
