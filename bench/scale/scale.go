// Package scale measures Weft with a large Kubernetes: an API server with
// objects that nobody but weftd acts on, weftd as a process of its own, and one
// agent whose data plane is the kernel's.
//
// Simulated kubelets bind pods and report them Running. What it makes is below
// one directory, in network namespaces whose names begin with Prefix, and in
// pins of the same name; all of it is gone when Run returns.
package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Prefix is how the names of all network namespaces begin that a run makes.
const Prefix = "weft-scale-"

// Config is what to load and to measure.
type Config struct {
	Size
	Bin        string // directory of weftd, weft-agent and weft-cni
	Kubernetes string // directory of etcd and kube-apiserver
	Dir        string // of all that the run writes; empty: a temporary one
	Keep       bool   // Dir stays
	Loaded     bool   // Dir has what an earlier run loaded: everything is started again and measured
	Parallel   int    // requests to the API server at a time
	Samples    int    // policies and pods to measure
	Rate       int    // pods a second when pods are measured
	Flips      int    // how often a packet is let through and not
	Date       string
	Command    []string
	Progress   func(string) // nil: silent
}

// Size is how many objects there are.
type Size struct {
	Namespaces int `json:"namespaces"`
	Pods       int `json:"pods"`
	Services   int `json:"services"`
	Policies   int `json:"network_policies"`
}

// Goal is the size that Weft aims at.
func Goal() Size { return Size{Namespaces: 1000, Pods: 20000, Services: 5000, Policies: 10000} }

// check says what is wrong with c.
func (c *Config) check() error {
	for _, n := range []struct {
		what        string
		value, most int
	}{
		{"namespaces", c.Namespaces, 4000}, {"pods", c.Pods, 100000}, {"services", c.Services, 16000}, {"network policies", c.Policies, 100000},
		{"samples", c.Samples, 10000}, {"rate", c.Rate, 1000}, {"parallel", c.Parallel, 256},
	} {
		if n.value < 1 || n.value > n.most {
			return fmt.Errorf("%s: %d: is out of range (1 to %d)", n.what, n.value, n.most)
		}
	}
	if c.Loaded && c.Dir == "" {
		return errors.New("dir: is missing (where an earlier run loaded everything)")
	}
	if c.Pods > c.Namespaces*mostPods {
		return fmt.Errorf("pods: %d: are too many for %d namespaces (%d each)", c.Pods, c.Namespaces, mostPods)
	}
	for _, file := range []string{c.program("weftd"), c.program("weft-agent"), c.program("weft-cni"), filepath.Join(c.Kubernetes, "etcd"), filepath.Join(c.Kubernetes, "kube-apiserver")} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%s: is not there (make build kube)", file)
		}
	}
	return nil
}

// Run loads, measures and takes everything away again. A report without all of
// its parts comes with an error.
func Run(ctx context.Context, c Config) (rep *Report, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "weft-scale"); err != nil {
			return nil, err
		}
	}
	if !c.Keep {
		defer func() { err = errors.Join(err, os.RemoveAll(c.Dir)) }()
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if rep, err = newReport(&c); err != nil {
		return nil, err
	}
	r := &rig{c: &c}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, r.describe(context.WithoutCancel(ctx), rep)) }()
	load := r.load
	if c.Loaded {
		load = r.resume
	}
	if err := load(ctx, rep); err != nil {
		return rep, err
	}
	return rep, r.measure(ctx, rep)
}

// describe fills in how large everything became.
func (r *rig) describe(ctx context.Context, rep *Report) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	if rep.Weftd, err = r.weftd.usage(); err != nil {
		return err
	}
	if rep.Agent, err = r.agent.usage(); err != nil {
		return err
	}
	if rep.HeapBytes, err = r.heap(ctx); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(r.c.Dir, "weftd", "etcd", "data", "member", "snap", "db")); err == nil {
		rep.StoreBytes = info.Size()
	}
	set, err := r.tables(ctx)
	if err != nil {
		return err
	}
	rep.Tables = Tables{
		Ports: set.Ports.Len(), Segments: set.Segments.Len(), Routers: set.VRFs.Len(), Routes: set.Routes.Len(), NAT: set.NAT.Len(),
		VirtualServers: set.VIPs.Len(), Pools: set.Pools.Len(), Groups: set.AddrSets.Len(), Rulesets: set.Rulesets.Len(),
	}
	for _, s := range set.Rulesets.All() {
		rep.Tables.Rules += len(s.Rules)
	}
	return nil
}
