// Command weft-agent keeps the data plane of one node as its tables say; see
// package agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane/ebpf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := agent.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, open)
	stop()
	os.Exit(code)
}

// open opens the eBPF data plane, whose pins need their file system.
func open(pinDir string) (agent.Driver, error) {
	if err := ebpf.MountFS(); err != nil {
		return nil, err
	}
	return ebpf.Open(pinDir)
}
