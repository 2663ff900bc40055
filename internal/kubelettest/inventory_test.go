package kubelettest

import (
	"bytes"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/internal/netns"
)

// inventory is what there is of pods on a machine, each kind sorted.
type inventory struct {
	Interfaces    []string // of the network namespace of the node's data plane
	Attachments   []string // by pod, as the agent knows them
	Devices       []string // policy paths of ports that the data plane has bound
	Namespaces    []string // names of network namespaces
	Results       []string // of CNI, as the runtimes keep them
	ControlGroups []string // of pods and what is below, all hierarchies
	Mounts        []string
	Processes     []string // by name; all but this one's
}

// inventory returns what there is now.
func (s *site) inventory(t *testing.T) inventory {
	t.Helper()
	var out inventory
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		out.Interfaces = append(out.Interfaces, l.Name)
	}
	attached, _, err := s.agent().Attachments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range attached {
		out.Attachments = append(out.Attachments, a.Pod)
	}
	force, err := s.agent().InForce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for port := range force.Devices {
		out.Devices = append(out.Devices, port)
	}
	if out.Namespaces, err = netns.List(""); err != nil {
		t.Fatal(err)
	}
	if out.Results, err = filepath.Glob("/var/lib/cni/results/*"); err != nil { // where libcni has them
		t.Fatal(err)
	}
	for _, dir := range s.controlGroups(t) {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(path, "/pod") { // an error: it has just gone
				out.ControlGroups = append(out.ControlGroups, path)
			}
			return nil
		})
	}
	out.Mounts, out.Processes = mountPoints(t), processes(t)
	for _, list := range [][]string{out.Interfaces, out.Attachments, out.Devices, out.Namespaces, out.Results, out.ControlGroups, out.Mounts, out.Processes} {
		slices.Sort(list)
	}
	return out
}

// processes returns the names of those in this PID namespace.
func processes(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err != nil || pid == os.Getpid() {
			continue
		}
		if name, err := os.ReadFile("/proc/" + e.Name() + "/comm"); err == nil {
			out = append(out, string(bytes.TrimSpace(name)))
		}
	}
	return out
}

// kinds calls fn with each kind of a and b.
func kinds(a, b inventory, fn func(kind string, a, b []string)) {
	fn("interfaces", a.Interfaces, b.Interfaces)
	fn("attachments", a.Attachments, b.Attachments)
	fn("devices", a.Devices, b.Devices)
	fn("network namespaces", a.Namespaces, b.Namespaces)
	fn("CNI results", a.Results, b.Results)
	fn("control groups", a.ControlGroups, b.ControlGroups)
	fn("mounts", a.Mounts, b.Mounts)
	fn("processes", a.Processes, b.Processes)
}

// agent returns a client of the agent.
func (s *site) agent() *agent.Client { return &agent.Client{Socket: s.file("agent.sock")} }
