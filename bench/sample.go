package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/bench/load"
	"github.com/weft-net/weft/internal/netns"
)

// grace is how much longer than its duration a sample may take.
const grace = 10 * time.Second

// Sample is one measurement of one test over one path.
type Sample struct {
	Test    string  `json:"test"`
	Path    string  `json:"path"`
	Group   string  `json:"group"`
	Repeat  int     `json:"repeat"` // from 0
	Ops     int64   `json:"ops"`    // exchanges, connections, bytes or packets
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`             // in the test's unit
	P50     float64 `json:"p50_us,omitempty"` // µs; absent where no latency is measured
	P99     float64 `json:"p99_us,omitempty"` // µs
	CPU     float64 `json:"cpu_us_per_op"`    // µs of both processes and ksoftirqd per Test.Op
	Busy    float64 `json:"busy"`             // CPUs that these used; well below 1 in a test on one CPU: others disturbed it
}

// sample measures one test over p once.
func sample(ctx context.Context, t Test, p *Path, d time.Duration) (Sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d+grace, fmt.Errorf("load: is not done after %v", d+grace))
	defer cancel()
	restore := func() error { return nil }
	if t.Segment {
		var err error
		if restore, err = segment(p); err != nil {
			return Sample{}, err
		}
	}
	s, err := exchange(ctx, t, p, d)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // rather than that the processes were killed
	}
	return s, errors.Join(err, restore())
}

// exchange runs a server and a client to their end.
func exchange(ctx context.Context, t Test, p *Path, d time.Duration) (Sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	spec := load.Spec{Kind: t.Kind, Addr: p.ServerAddr, Duration: d}
	before, err := softirqTime(t.cpus())
	if err != nil {
		return Sample{}, err
	}
	spec.Role, spec.Addr = load.Server, netip.IPv4Unspecified() // the client may address another that stands for it
	server, err := start(ctx, p.Server, t.cpus()-1, spec)
	if err != nil {
		return Sample{}, err
	}
	defer func() {
		cancel() // a server outlives a client that fails
		server.wait()
	}()
	if err := server.ready(); err != nil {
		return Sample{}, err
	}
	spec.Role, spec.Addr = load.Client, p.ServerAddr
	client, err := start(ctx, p.Client, 0, spec)
	if err != nil {
		return Sample{}, err
	}
	cr, err := client.result()
	if err != nil {
		return Sample{}, err
	}
	sr, err := server.result()
	if err != nil {
		return Sample{}, err
	}
	after, err := softirqTime(t.cpus())
	if err != nil {
		return Sample{}, err
	}
	return t.sample(cr, sr, after-before)
}

// sample makes one of what both sides counted; the server counts what only arrives.
func (t Test) sample(client, server load.Result, softirq time.Duration) (Sample, error) {
	r := client
	if r.Ops == 0 {
		r = server
	}
	if r.Ops == 0 || r.Seconds <= 0 {
		return Sample{}, fmt.Errorf("load: %d operations in %v s", r.Ops, r.Seconds)
	}
	ops := float64(r.Ops)
	cpu := client.CPU + server.CPU + softirq.Seconds()
	return Sample{
		Test: string(t.Kind), Ops: r.Ops, Seconds: r.Seconds, Rate: ops / r.Seconds / t.Scale,
		P50: r.P50, P99: r.P99, CPU: cpu * 1e6 / ops * t.PerOp, Busy: cpu / r.Seconds,
	}, nil
}

// process is a running load process.
type process struct {
	role   load.Role
	out    *os.File
	lines  *bufio.Reader
	stderr bytes.Buffer // valid once done is closed
	err    error        // valid once done is closed
	done   chan struct{}
}

// start runs this binary again as a load process in ns, pinned to cpu. The process inherits both from the thread that starts it;
// that thread waits for it, because the kernel kills the process when the thread ends.
func start(ctx context.Context, ns *netns.Namespace, cpu int, spec load.Spec) (*process, error) {
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{role: spec.Role, out: r, lines: bufio.NewReader(r), done: make(chan struct{})}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", load.Subcommand, string(arg))
	cmd.Env = load.Environ()
	cmd.Stdout, cmd.Stderr = w, &p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	go func() {
		defer close(p.done)
		p.err = ns.Do(func() error { return runPinned(cmd, cpu, w) })
	}()
	return p, nil
}

// runPinned starts cmd on cpu, closes our end of its output and waits.
func runPinned(cmd *exec.Cmd, cpu int, out *os.File) error {
	defer out.Close()
	var home, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &home); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("affinity: CPU %d: %w", cpu, err)
	}
	err := cmd.Start()
	if err := unix.SchedSetaffinity(0, &home); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	if err != nil {
		return err
	}
	out.Close()
	return cmd.Wait()
}

// wait returns when the process is gone.
func (p *process) wait() error {
	<-p.done
	p.out.Close()
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("load %s: %w: %s", p.role, p.err, strings.TrimSpace(p.stderr.String()))
}

// ready returns when the server accepts traffic.
func (p *process) ready() error {
	line, err := p.lines.ReadString('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("load %s: ready: %w", p.role, err), p.wait())
	}
	if line != load.Ready {
		return fmt.Errorf("load %s: ready: %q (%q)", p.role, line, load.Ready)
	}
	return nil
}

// result waits for the process and returns what it counted.
func (p *process) result() (load.Result, error) {
	var r load.Result
	err := json.NewDecoder(p.lines).Decode(&r)
	if werr := p.wait(); werr != nil {
		return r, werr
	}
	if err != nil {
		return r, fmt.Errorf("load %s: result: %w", p.role, err)
	}
	return r, nil
}
