package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// What a server in this process takes. A commit of everything that a process
// can hold must pass.
const (
	maxOps     = 1 << 22
	maxRequest = 1 << 30
	quota      = 8 << 30 // of the data on disk; more than etcd recommends slows it down
)

// snapshotEvery is after how many commits raft's log is cut.
const snapshotEvery = 1000

// keptRevisions is how many commits a watch may be behind, at least.
const keptRevisions = "10000"

// startTimeout is how long a server may take to read its data.
const startTimeout = 2 * time.Minute

// maxSocketPath is the longest path of a unix socket (unix(7)).
const maxSocketPath = 107

// server is an etcd in this process.
type server struct {
	etcd     *embed.Etcd
	lock     *os.File
	endpoint string
}

// Embed starts an etcd of one member in this process, with all its data in
// dir, which is made if needed and which no other process may use. Every
// commit is on disk before it is answered.
//
// It listens on no network: other processes of the same user reach it by the
// socket etcd.sock in dir, see Endpoint; not if dir's name is too long for a
// socket. log gets its warnings.
func Embed(dir string, log *slog.Logger, opts ...Option) (*KV, error) {
	o := optionsOf(opts)
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	s := &server{}
	if s.lock, err = lock(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	cfg := o.config(dir, cmp.Or(log, slog.New(slog.DiscardHandler)))
	if socket := filepath.Join(dir, "etcd.sock"); len(socket) <= maxSocketPath {
		u := url.URL{Scheme: "unix", Path: socket}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{u}, []url.URL{u}
		s.endpoint = u.String()
	}
	if s.etcd, err = embed.StartEtcd(cfg); err != nil {
		s.close()
		return nil, fmt.Errorf("etcd: %s: %w", dir, err)
	}
	t := time.NewTimer(startTimeout)
	defer t.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err = <-s.etcd.Err():
	case <-s.etcd.Server.StopNotify():
		err = errors.New("the server stopped")
	case <-t.C:
		err = fmt.Errorf("the server is not ready after %v", startTimeout)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("etcd: %s: %w", dir, err)
	}
	k := newKV(v3client.New(s.etcd.Server), o.prefix)
	k.server = s
	return k, nil
}

// config returns how a server in dir runs.
func (o options) config(dir string, log *slog.Logger) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "weft"
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(log))
	cfg.ListenPeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = nil, nil, nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}} // a name: nobody listens
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100 // there is nobody to wait for
	cfg.UnsafeNoFsync = o.noSync
	cfg.MaxTxnOps, cfg.MaxRequestBytes = o.maxOps, o.maxRequest
	cfg.QuotaBackendBytes = quota
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotEvery, 1 // the log is in memory until then, for followers that are not there
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	cfg.EnableGRPCGateway = false
	return cfg
}

// lock takes a file for this process alone.
func lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("etcd: %s: is in use by another process", filepath.Dir(name))
		}
		return nil, fmt.Errorf("etcd: %s: %w", name, err)
	}
	return f, nil
}

func (s *server) close() {
	if s.etcd != nil {
		s.etcd.Close()
	}
	s.lock.Close()
}
