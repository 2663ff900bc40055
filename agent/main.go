package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/weft-net/weft/monitor"
)

// Exit codes of Main.
const (
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Keeps this node's data plane as its tables say, monitors load balancer members,
and tells how the node is. It must run as root in the network namespace that
holds the node's devices. It may be killed at any time: packets go on, and the
next one goes on from the tables that were accepted last.

Usage:
  weft-agent [flags]

With --control its tables come from weftd, and its devices from --device and
from weft-cni; else both come by the socket.

Example:
  weft-agent --dir /var/lib/weft-agent --socket /run/weft-agent/socket &
  curl --unix-socket /run/weft-agent/socket http://agent/v1/status

It serves, by HTTP on the socket:
  PUT /v1/tables   {"devices": {"<policy path of a port>": "eth0"}, "tables": {...}};
                   answered when they are in force
  GET /v1/tables   what is in force, with the health of members
  GET /v1/attachments
                   the pods that are attached; weft-cni asks for more below it
  GET /v1/status   conditions, members and what their monitors found
  GET /metrics     the same and more for Prometheus

It ends by SIGTERM or SIGINT with code 0; code 1: it could not go on, 2: the
command line is wrong.

Flags:
`

// Config says where an agent keeps what.
type Config struct {
	Dir      string // what it needs to go on after it was killed
	Socket   string // that it serves
	Pins     string // directory on a BPF file system, for the data plane
	Monitors string // name of the monitors' network namespace
	Metrics  string // TCP address that metrics, and nothing else, are served at too; empty: none
	Control  Control
}

// parse reads a command line.
// Errors: flag.ErrHelp if help is wanted; what is wrong.
func parse(args []string, w io.Writer) (c Config, err error) {
	f := flag.NewFlagSet("weft-agent", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.Dir, "dir", "/var/lib/weft-agent", "`directory` of what it needs to go on after it was killed")
	f.StringVar(&c.Socket, "socket", "/run/weft-agent/socket", "unix `socket` that it serves")
	f.StringVar(&c.Pins, "pins", "/sys/fs/bpf/weft-agent", "`directory` on a BPF file system for the data plane")
	f.StringVar(&c.Monitors, "monitors", "weft-monitors", "`name` of the network namespace that it makes for monitors")
	f.StringVar(&c.Metrics, "metrics", "", "TCP `address`, such as :9469, to serve /metrics at too (default none)")
	f.StringVar(&c.Control.Address, "control", "", "`address` of weftd, unix:<path> or host:port, that tables come from (default the socket's users)")
	f.StringVar(&c.Control.Node, "node", "", "`name` of this node; with --control")
	f.StringVar(&c.Control.Cert, "cert", "", "PEM `file` with the agent's certificate; with --control (weftd cert agent NODE)")
	f.StringVar(&c.Control.Key, "key", "", "PEM `file` with its private key; with --control")
	f.StringVar(&c.Control.CA, "ca", "", "PEM `file` with the certificate of who vouches for weftd; with --control")
	f.Func("device", "`<policy path>=<name>` of a port or uplink and its device; with --control; may be repeated", c.Control.setDevice)
	if err = f.Parse(args); err == nil && f.NArg() == 0 {
		err = c.Control.check()
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(w, usage)
		f.SetOutput(w)
		f.PrintDefaults()
	case err == nil && f.NArg() > 0:
		err = fmt.Errorf("%q: is no flag", f.Arg(0))
	}
	return c, err
}

// Main is the agent as a program: it runs until ctx ends and returns the exit
// code. Logs go to stderr, a line each. open opens the data plane whose pins
// are in a directory.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer, open func(pins string) (Driver, error)) int {
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "weft-agent: %s\nsee 'weft-agent --help'\n", strings.TrimPrefix(err.Error(), "flag provided but not defined: "))
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := Run(ctx, c, log, open); err != nil {
		log.Error("ended", "error", err)
		return exitFailed
	}
	log.Info("ended")
	return 0
}

// Run is an agent until ctx ends.
// Errors: another agent has the directory; the data plane or the socket can not
// be opened, or the socket broke.
func Run(ctx context.Context, c Config, log *slog.Logger, open func(pins string) (Driver, error)) (err error) {
	s, err := openStore(c.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	l, err := newAttachments(log, s, veths{})
	if err != nil {
		return fmt.Errorf("attachments: %w", err)
	}
	l.fixed = c.Control.Devices
	d, err := open(c.Pins)
	if err != nil {
		return err
	}
	a := newAgent(ctx, log, s, d, monitor.NewPorts(c.Monitors), linksOf, l)
	if c.Control.Address != "" {
		a.control = &follower{agent: a, c: c.Control}
	}
	stop, err := serveMetrics(ctx, log, c.Metrics, a)
	if err != nil {
		return errors.Join(err, a.close())
	}
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { a.run(ctx) })
	if a.control != nil {
		working.Go(func() { a.control.run(ctx) })
	}
	err = errors.Join(serve(ctx, log, c.Socket, handler(a)), stop())
	cancel()
	working.Wait()
	return errors.Join(err, a.close())
}
