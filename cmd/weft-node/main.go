// Command weft-node is the kubelet of a lab's nodes; see package lab/kubelet.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/weft-net/weft/lab/kubelet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := kubelet.Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
