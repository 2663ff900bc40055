// Command kubectl-weft is a plugin of kubectl: it explains the network of
// Kubernetes objects. In PATH it is `kubectl weft`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	log.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, &Env{Stdout: os.Stdout, Stderr: os.Stderr, Connect: connect}, os.Args[1:])
	stop()
	os.Exit(code)
}
