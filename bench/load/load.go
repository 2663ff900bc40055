// Package load generates the traffic of the benchmark: one client and one server process, each a single thread of blocking
// system calls, so that the cost of the path between them shows and not the cost of the generator.
//
// A process is the caller's own binary started again with Subcommand and a Spec. It must run with Environ, which keeps the Go
// runtime from interfering: system calls are made raw, without telling the scheduler, and may block for as long as they like.
// The process neither enters a network namespace nor pins itself: it inherits both from the thread that starts it.
package load

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Subcommand is the hidden first argument that makes a binary run as a load process; the second is a Spec as JSON.
const Subcommand = "load-process"

// FirstPort and LastPort delimit the TCP and UDP ports that servers listen on; a filter on the path must accept them.
const (
	FirstPort uint16 = 20000
	LastPort  uint16 = 20001
)

// Ready is the line a server prints once it accepts traffic.
const Ready = "ready\n"

// Role says which side of the exchange a process plays.
type Role string

// The two roles. The server must be Ready before the client starts.
const (
	Client Role = "client"
	Server Role = "server"
)

// Kind is the shape of the traffic.
type Kind string

// All kinds of traffic.
const (
	RequestResponse     Kind = "rr"     // one TCP connection, 1 byte each way in turn; an operation is one exchange
	ConnectRequestClose Kind = "crr"    // a TCP connection for every exchange; an operation is one connection
	Stream              Kind = "stream" // one TCP connection, one direction; an operation is one byte received
	RequestResponse32   Kind = "rr32"   // RequestResponse on 32 connections at once
	Datagrams           Kind = "udp"    // UDP, one direction, 18 bytes of payload; an operation is one datagram received
)

// Spec tells a load process what to do.
type Spec struct {
	Kind     Kind
	Role     Role
	Addr     netip.Addr    // of the server, IPv4 or IPv6, unmapped, no zone
	Duration time.Duration // how long the client sends, > 0; the server ends when the client does
}

// Result is what one process counted.
type Result struct {
	Ops     int64   // operations, see Kind; Stream and Datagrams count at the server only
	Seconds float64 // from the first to the last operation
	P50     float64 // µs, latency of an exchange; 0 iff not measured
	P99     float64 // µs
	CPU     float64 // seconds of user and system time, which include softirq work done in the process's context
}

// Environ is the environment of a load process: one scheduler thread, no garbage collection, no preemption signals, and, if the
// binary has the race detector, none of its pause at exit.
func Environ() []string {
	return []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1", "GORACE=atexit_sleep_ms=0"}
}

// Requested reports whether args, a process's full argument list, ask for a load process.
func Requested(args []string) bool {
	return len(args) == 3 && args[1] == Subcommand
}

// Main runs the load process that args ask for and writes its Result to w as JSON; a server writes Ready before it.
//
// It blocks in system calls without a timeout: whoever starts the process must bound it in time.
// Errors: args not Requested, a malformed Spec, or any system call that fails.
func Main(args []string, w io.Writer) error {
	if !Requested(args) {
		return fmt.Errorf("load: arguments: %d (%s SPEC)", len(args)-1, Subcommand)
	}
	var s Spec
	if err := json.Unmarshal([]byte(args[2]), &s); err != nil {
		return fmt.Errorf("load: spec: %w", err)
	}
	if !s.Addr.IsValid() || s.Duration <= 0 {
		return fmt.Errorf("load: spec: address %v, duration %v (valid, > 0)", s.Addr, s.Duration)
	}
	run, err := runner(s)
	if err != nil {
		return err
	}
	res, err := run(s, func() error { _, err := io.WriteString(w, Ready); return err })
	if err != nil {
		return fmt.Errorf("load: %s %s: %w", s.Kind, s.Role, err)
	}
	return json.NewEncoder(w).Encode(res)
}

// runFunc plays one role of one kind; a server calls ready once it accepts traffic, a client never does.
type runFunc func(s Spec, ready func() error) (Result, error)

func runner(s Spec) (runFunc, error) {
	roles, ok := map[Kind]map[Role]runFunc{
		RequestResponse:     {Client: rrClient, Server: rrServer},
		ConnectRequestClose: {Client: crrClient, Server: crrServer},
		Stream:              {Client: streamClient, Server: streamServer},
		RequestResponse32:   {Client: rr32Client, Server: rr32Server},
		Datagrams:           {Client: udpClient, Server: udpServer},
	}[s.Kind]
	if !ok || roles[s.Role] == nil {
		return nil, fmt.Errorf("load: spec: kind %q, role %q (rr, crr, stream, rr32, udp; client, server)", s.Kind, s.Role)
	}
	return roles[s.Role], nil
}

// meter measures the wall and CPU time between start and result.
type meter struct {
	begin time.Time
	cpu   time.Duration
}

func start() meter { return meter{begin: time.Now(), cpu: cpuTime()} }

// elapsed costs one vDSO clock read.
func (m meter) elapsed() time.Duration { return time.Since(m.begin) }

func (m meter) result(ops int64, elapsed time.Duration) Result {
	return Result{Ops: ops, Seconds: elapsed.Seconds(), CPU: (cpuTime() - m.cpu).Seconds()}
}

func cpuTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0 // cannot happen: RUSAGE_SELF and a valid pointer are all it asks for
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
