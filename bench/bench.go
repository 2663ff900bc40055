// Package bench measures what a network path costs: a path of Weft beside the same path built the conventional way.
//
// All paths stand side by side and are measured in turn within each repeat, so that drift of the machine hits all alike, and a
// path is judged by its ratio to the raw veth pair of the same repeat. Everything happens in network namespaces whose names
// start with Prefix. It needs root; the conventional routers need the nft program.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/load"
	"github.com/weft-net/weft/internal/netns"
)

// Prefix starts the name of every network namespace of a benchmark. A run removes all such namespaces before it begins.
const Prefix = "weft-bench-"

// lockFile keeps two runs from removing each other's namespaces.
const lockFile = "/run/weft-bench.lock"

// Groups of paths.
const (
	GroupRaw    = "raw"    // nothing between the two ends: what the others are compared with
	GroupBridge = "bridge" // a Linux bridge, no filter
	GroupKernel = "kernel" // the conventional way: a namespace per router, Linux forwarding, nftables
	GroupWeft   = "weft"   // Weft's data plane
)

// Path is a client and a server that reach each other over what is to be measured.
type Path struct {
	Client     *netns.Namespace
	Server     *netns.Namespace
	ServerAddr netip.Addr // of the server as the client addresses it; TCP and UDP ports load.FirstPort to LastPort must pass

	// Close removes all that the builder made. It is called once, also after an interrupt.
	Close func() error
}

// Builder sets a path up, ready for packets. After an error nothing of it is left. It should end soon after ctx does.
type Builder func(ctx context.Context) (*Path, error)

// Entry is a path that can be measured.
type Entry struct {
	Name  string // unique, as -paths takes it
	Group string // one of the Group constants
	Build Builder
}

// Config says what to measure.
type Config struct {
	Paths    []Entry
	Tests    []Test
	Duration time.Duration // of one sample, 10 ms to 1 min
	Repeats  int           // 1 to 100
	Date     string        // kept in the report as it is
	Command  []string      // kept in the report as it is

	// Progress, if not nil, is called before each sample; done counts from 0 to total-1.
	Progress func(done, total int, test, path string)
}

func (c *Config) validate() error {
	switch {
	case c.Duration < 10*time.Millisecond || c.Duration > time.Minute:
		return fmt.Errorf("benchmark: duration: %v (10ms to 1m)", c.Duration)
	case c.Repeats < 1 || c.Repeats > 100:
		return fmt.Errorf("benchmark: repeats: %d (1 to 100)", c.Repeats)
	case len(c.Paths) == 0 || len(c.Tests) == 0:
		return fmt.Errorf("benchmark: %d paths, %d tests (at least 1 of each)", len(c.Paths), len(c.Tests))
	case os.Geteuid() != 0:
		return errors.New("benchmark: user: is not root, which network namespaces need")
	}
	for _, t := range c.Tests {
		if t.cpus() > runtime.NumCPU() {
			return fmt.Errorf("benchmark: test %s: needs %d CPUs, has %d", t.Kind, t.cpus(), runtime.NumCPU())
		}
	}
	return nil
}

// Run measures every test over every path, c.Repeats times, and removes what it made.
//
// The calling binary's main must hand over to load.Main when load.Requested. Cost: a little more than Repeats × Tests × Paths ×
// Duration; a sample that takes 10 s longer than that is given up. When ctx ends or a sample fails, the report holds the
// samples so far and comes with the error; it is nil if nothing could be measured.
func Run(ctx context.Context, c Config) (rep *Report, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	unlock, err := lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return nil, err
	}
	paths := make([]*Path, 0, len(c.Paths))
	defer func() {
		for _, p := range paths {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, e := range c.Paths {
		p, err := e.Build(ctx)
		if err != nil {
			return nil, fmt.Errorf("path %s: %w", e.Name, err)
		}
		paths = append(paths, p)
		if err := p.tune(); err != nil {
			return nil, fmt.Errorf("path %s: %w", e.Name, err)
		}
	}
	if rep, err = newReport(c); err != nil {
		return nil, err
	}
	err = c.measure(ctx, paths, rep)
	return rep, err
}

// measure starts each repeat with another path, so that none always follows the same one.
func (c *Config) measure(ctx context.Context, paths []*Path, rep *Report) error {
	total := c.Repeats * len(c.Tests) * len(paths)
	for repeat := range c.Repeats {
		for _, t := range c.Tests {
			for i := range paths {
				at := (i + repeat) % len(paths)
				e := c.Paths[at]
				if c.Progress != nil {
					c.Progress(len(rep.Samples), total, string(t.Kind), e.Name)
				}
				s, err := sample(ctx, t, paths[at], c.Duration)
				if err != nil {
					return fmt.Errorf("path %s: test %s: repeat %d: %w", e.Name, t.Kind, repeat, err)
				}
				s.Path, s.Group, s.Repeat = e.Name, e.Group, repeat
				rep.Samples = append(rep.Samples, s)
			}
		}
	}
	return nil
}

// tune makes room for many short connections: without it a fast path would be measured by its lack of ports.
func (p *Path) tune() error {
	for _, ns := range []*netns.Namespace{p.Client, p.Server} {
		err := ns.Do(func() error {
			return sysctls(
				"net/ipv4/ip_local_port_range=1024 65000",
				"net/ipv4/tcp_tw_reuse=1",
				"net/ipv4/tcp_max_tw_buckets=4096",
			)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lock holds lockFile until unlock is called or the process ends.
func lock() (unlock func(), err error) {
	f, err := os.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("benchmark: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("benchmark: %s: another run holds it: %w", lockFile, err)
	}
	return func() { f.Close() }, nil
}

// sweep removes what a killed run left. Its load processes died with it, and the namespaces' links go with them.
func sweep() error {
	names, err := netns.List(Prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		err = errors.Join(err, netns.Delete(name))
	}
	return err
}

// Test is one kind of traffic and where it runs.
type Test struct {
	Kind    load.Kind
	Title   string
	Apart   bool    // client on CPU 0 and server on CPU 1, else both on CPU 0
	Segment bool    // without TSO, GSO and GRO at both ends
	Unit    string  // of the rate
	Scale   float64 // operations per second in one Unit
	Op      string  // what CPU time is given per
	PerOp   float64 // operations in one Op
}

func (t Test) cpus() int {
	if t.Apart {
		return 2
	}
	return 1
}

// Tests returns all tests.
func Tests() []Test {
	return []Test{
		{Kind: load.RequestResponse, Title: "request/response, 1 byte TCP, one CPU",
			Unit: "k/s", Scale: 1e3, Op: "exchange", PerOp: 1},
		{Kind: load.ConnectRequestClose, Title: "connect-request-close, one CPU",
			Unit: "k/s", Scale: 1e3, Op: "connection", PerOp: 1},
		{Kind: load.Stream, Title: "TCP stream without TSO/GSO/GRO, one CPU", Segment: true,
			Unit: "Gb/s", Scale: 1e9 / 8, Op: "MiB", PerOp: 1 << 20},
		{Kind: load.RequestResponse32, Title: "request/response × 32 connections, two CPUs", Apart: true,
			Unit: "k/s", Scale: 1e3, Op: "exchange", PerOp: 1},
		{Kind: load.Datagrams, Title: "UDP packets received, 18 bytes, two CPUs", Apart: true,
			Unit: "k/s", Scale: 1e3, Op: "packet", PerOp: 1},
	}
}
