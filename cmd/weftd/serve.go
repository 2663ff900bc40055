package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/weft-net/weft/control"
	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/internal/pki"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/store/etcd"
)

// daemon is a weftd that runs.
type daemon struct {
	c       *config
	log     *slog.Logger
	ca      *pki.CA
	store   *store.Store
	control *control.Server
}

// part is something that a daemon does until ctx ends, or until it can not.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// gcPercent is how much garbage there may be to what is in use, unless GOGC says
// otherwise: weftd keeps all intent and what it was compiled to.
const gcPercent = 50

// serve is weftd until ctx ends.
// Errors: what could not be opened, or broke.
func serve(ctx context.Context, c *config, log *slog.Logger) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	d := &daemon{c: c, log: log}
	if d.ca, err = pki.Ensure(c.pki, caName); err != nil {
		return err
	}
	kv, err := c.open(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	if d.store, err = store.New(ctx, kv, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	d.control = control.New(log, d.store)
	parts := []part{{"control", d.control.Run}}
	for _, make := range []func(context.Context) ([]part, error){d.agentParts, d.httpParts, d.kubeParts} {
		more, err := make(ctx)
		if err != nil {
			return err
		}
		parts = append(parts, more...)
	}
	return runAll(ctx, parts)
}

// runAll runs parts until ctx ends or one of them does.
func runAll(ctx context.Context, parts []part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	errs := make([]error, len(parts))
	for i, p := range parts {
		running.Go(func() {
			defer cancel() // without one of them the others are no weftd
			if err := p.run(ctx); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// open opens the store's etcd.
func (c *config) open(log *slog.Logger) (*etcd.KV, error) {
	if len(c.endpoints) == 0 {
		return etcd.Embed(filepath.Join(c.data, "etcd"), log)
	}
	var config *tls.Config
	if (c.etcd != tlsFiles{}) {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.etcd.ca != "" {
		pem, err := os.ReadFile(c.etcd.ca)
		if err != nil {
			return nil, fmt.Errorf("etcd-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd-ca: %s: has no certificate (want PEM)", c.etcd.ca)
		}
	}
	if c.etcd.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.etcd.cert, c.etcd.key)
		if err != nil {
			return nil, fmt.Errorf("etcd-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return etcd.Dial(c.endpoints, config)
}

// agentParts serve agents.
func (d *daemon) agentParts(ctx context.Context) (parts []part, err error) {
	config, err := d.ca.Server(filepath.Join(d.c.pki, "agents"), pki.Request{Name: wire.ServerName, Hosts: []string{wire.ServerName}})
	if err != nil {
		return nil, err
	}
	for _, address := range d.c.agents {
		l, err := listen(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("agents: %w", err)
		}
		d.log.Info("listening for agents", "address", address)
		parts = append(parts, part{"agents", func(ctx context.Context) error { return d.control.Serve(ctx, l, config) }})
	}
	return parts, nil
}

// listen listens at unix:<path> or host:port. A socket that nobody listens at
// any more is replaced; only this user may connect to the new one.
func listen(ctx context.Context, address string) (net.Listener, error) {
	path, local := strings.CutPrefix(address, unixPrefix)
	if !local {
		return new(net.ListenConfig).Listen(ctx, "tcp", address)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("socket %s: another process listens at it", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
