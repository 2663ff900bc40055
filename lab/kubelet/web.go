package kubelet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Programs of weft-node that run in containers.
const (
	webProgram   = "web"
	pauseProgram = "pause"
)

// listFlag is a flag that may be given more than once.
type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, ",") }
func (l *listFlag) Set(v string) error { *l = append(*l, v); return nil }

// serveWeb is the program web: it answers every request with the name of its
// pod and the address that the request came from, until ctx ends. Requests are
// logged to stdout.
func serveWeb(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet(webProgram, flag.ContinueOnError)
	f.SetOutput(stderr)
	var listen listFlag
	f.Var(&listen, "listen", "`address`, such as :80, to serve; may be given more than once")
	if err := f.Parse(args); err != nil {
		return err
	}
	if len(listen) == 0 {
		listen = listFlag{":80"}
	}
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           webHandler(pod, log.New(stdout, "", 0)),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(stderr, "", 0),
	}
	ended := make(chan error, len(listen))
	for _, address := range listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "web: pod %s serves %s\n", pod, l.Addr())
		go func() { ended <- server.Serve(l) }()
	}
	select {
	case <-ctx.Done():
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(closing)
	case err := <-ended:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

func webHandler(pod string, access *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Requester IP: %s\nPod: %s\nHost: %s\nPath: %s\n", peer.Addr().Unmap(), pod, r.Host, r.URL.Path)
		if from := r.Header.Get("X-Forwarded-For"); from != "" {
			fmt.Fprintf(w, "Forwarded for: %s\n", from)
		}
		access.Printf("%s %s %q", peer.Addr().Unmap(), r.Method, r.URL.Path)
	})
}
