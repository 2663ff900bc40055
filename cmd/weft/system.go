package main

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/table"
)

// newSystem returns this machine with the compiler and the data plane that
// weft is made of.
func newSystem() (*lab.System, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bin := filepath.Dir(self)
	return &lab.System{
		StateDir: cmp.Or(os.Getenv("WEFT_STATE"), lab.DefaultStateDir),
		PinDir:   lab.DefaultPinDir,
		Server:   []string{self, "lab", "serve-http"},
		Agent:    []string{self, "lab", "agent"},
		Programs: lab.Programs{
			Weft: []string{self}, Weftd: []string{filepath.Join(bin, "weftd")}, Node: []string{filepath.Join(bin, "weft-node")},
			CNI: bin, Kubernetes: cmp.Or(os.Getenv("WEFT_KUBE"), lab.DefaultKubernetes),
		},
		Compile: func(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
			return compile.New().Update(tree, nil)
		},
		Open: openDriver,
	}, nil
}

// openDriver opens the eBPF data plane, whose pins need their file system.
func openDriver(pinDir string) (dataplane.Driver, error) {
	if err := ebpf.MountFS(); err != nil {
		return nil, err
	}
	return ebpf.Open(pinDir)
}

// openForAgent is openDriver for an agent.
func openForAgent(pinDir string) (agent.Driver, error) {
	if err := ebpf.MountFS(); err != nil {
		return nil, err
	}
	return ebpf.Open(pinDir)
}
