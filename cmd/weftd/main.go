// Command weftd keeps intent, compiles it, and hands every node's agent its
// tables; see docs/design/001-kubernetes.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Keeps intent in etcd, compiles it, and hands the agent of every node its tables.
It may be killed at any time: packets go on, and the next one goes on from what
is stored.

Usage:
  weftd [flags]
  weftd cert agent NODE [flags]     make the certificate of a node's agent
  weftd cert client NAME [flags]    make a certificate for --https

Example:
  weftd --agents unix:/run/weft/agents.sock --agents 0.0.0.0:6641 &
  weftd cert agent host1 --out /etc/weft
  weft-agent --control unix:/run/weft/agents.sock --node host1 \
    --cert /etc/weft/agent-host1.crt --key /etc/weft/agent-host1.key --ca /etc/weft/ca.crt &
  curl --unix-socket /run/weft/weftd.sock http://weftd/v1/status

It serves, by HTTP on the socket:
  /policy/api/v1/…        intent, as weft apply, get and delete use it
  GET /v1/status          nodes, the version that each has in force, what the compiler says
  GET /v1/tables/NODE     what a node shall do, as JSON
  GET /metrics            for Prometheus
  GET /debug/             tables as text, profiles of this process

It ends by SIGTERM or SIGINT with code 0; code 1: it could not go on, 2: the
command line is wrong.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is weftd until ctx ends; it returns the exit code. Logs go to stderr, a
// line each.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "weftd: %s\nsee 'weftd --help'\n", strings.TrimPrefix(err.Error(), "flag provided but not defined: "))
		return exitUsage
	}
	if c.cert != nil {
		if err := c.issue(stdout); err != nil {
			fmt.Fprintf(stderr, "weftd: %s\n", err)
			return exitFailed
		}
		return 0
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := serve(ctx, c, log); err != nil {
		log.Error("ended", "error", err)
		return exitFailed
	}
	log.Info("ended")
	return 0
}
