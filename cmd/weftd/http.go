package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/weft-net/weft/internal/pki"
	"github.com/weft-net/weft/policyapi"
)

// shutdownTime bounds the wait for requests when weftd ends.
const shutdownTime = 5 * time.Second

// httpParts serve HTTP.
func (d *daemon) httpParts(ctx context.Context) ([]part, error) {
	h := d.handler()
	l, err := listen(ctx, unixPrefix+d.c.socket)
	if err != nil {
		return nil, err
	}
	d.log.Info("listening", "socket", d.c.socket)
	parts := []part{{"socket", func(ctx context.Context) error { return serveHTTP(ctx, d.log, l, h) }}}
	if d.c.https == "" {
		return parts, nil
	}
	tcp, config, err := d.listenHTTPS(ctx, d.c.https, filepath.Join(d.c.pki, "https"), d.hosts())
	if err != nil {
		return nil, fmt.Errorf("https: %w", err)
	}
	d.log.Info("listening", "address", tcp.Addr())
	return append(parts, part{"https", func(ctx context.Context) error {
		return serveHTTP(ctx, d.log, tls.NewListener(tcp, config), clientsOnly(h))
	}}), nil
}

// listenHTTPS listens for clients that have a certificate.
func (d *daemon) listenHTTPS(ctx context.Context, address, cert string, hosts []string) (net.Listener, *tls.Config, error) {
	config, err := d.ca.Server(cert, pki.Request{Name: "weftd", Hosts: hosts})
	if err != nil {
		return nil, nil, err
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	l, err := listen(ctx, address)
	return l, config, err
}

// hosts returns the names that the HTTPS server is called by.
func (d *daemon) hosts() []string {
	seen := map[string]bool{"": true, "0.0.0.0": true, "::": true}
	var out []string
	host, _, _ := net.SplitHostPort(d.c.https)
	hostname, _ := os.Hostname()
	for _, name := range append([]string{"weftd", "localhost", "127.0.0.1", "::1", hostname, host}, d.c.names...) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// clientsOnly turns away who has the certificate of somebody else, such as an
// agent.
func clientsOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name := r.TLS.PeerCertificates[0].Subject.CommonName; !strings.HasPrefix(name, clientPrefix) {
			http.Error(w, "certificate "+name+": is not for clients (weftd cert client NAME)", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/policy/", policyapi.New(d.store, d.log))
	mux.HandleFunc("GET /v1/status", d.serveStatus)
	mux.HandleFunc("GET /v1/tables/{node}", d.serveTables)
	mux.Handle("GET /metrics", d.metrics())
	mux.HandleFunc("GET /debug/{$}", d.serveIndex)
	mux.HandleFunc("GET /debug/tables/{node}", d.serveText)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// serveHTTP serves l until ctx ends.
func serveHTTP(ctx context.Context, log *slog.Logger, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := s.Shutdown(late); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}
