package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Parts, in the order in which they start.
const (
	etcd      = "etcd"
	apiserver = "kube-apiserver"
)

var partNames = []string{etcd, apiserver, controllers, scheduler}

// part is one program of the control plane.
type part struct {
	name  string
	args  []string // without the program itself
	ready string   // URL that answers 200 once it serves
}

// parts returns all parts as c wants them.
func (c Config) parts(s *state) []part {
	server := []part{
		{etcd, c.etcd(s), "https://" + s.address(etcd) + "/health"},
		{apiserver, c.apiserver(s), "https://" + s.address(apiserver) + "/readyz"},
	}
	if c.ServerOnly {
		return server
	}
	return append(server, []part{
		{controllers, c.controllers(s), "https://" + s.address(controllers) + "/healthz"},
		{scheduler, c.scheduler(s), "https://" + s.address(scheduler) + "/healthz"},
	}...)
}

func (c Config) pki(name string) string { return filepath.Join(c.Dir, "pki", name) }

func (c Config) etcd(s *state) []string {
	client, peer := "https://"+s.address(etcd), "https://"+s.address(etcdPeer)
	args := []string{
		"--name=weft", "--data-dir=" + c.file("etcd"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=weft=" + peer,
		"--client-cert-auth", "--trusted-ca-file=" + c.pki("etcd/ca.crt"),
		"--cert-file=" + c.pki("etcd/server.crt"), "--key-file=" + c.pki("etcd/server.key"),
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + c.pki("etcd/ca.crt"),
		"--peer-cert-file=" + c.pki("etcd/server.crt"), "--peer-key-file=" + c.pki("etcd/server.key"),
		"--auto-compaction-mode=periodic", "--auto-compaction-retention=5m", "--logger=zap", "--log-level=warn",
	}
	if c.UnsafeNoFsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func (c Config) apiserver(s *state) []string {
	return []string{
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(s.Ports[apiserver]),
		"--advertise-address=" + c.AdvertiseAddress, "--endpoint-reconciler-type=lease",
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		"--etcd-servers=https://" + s.address(etcd), "--etcd-cafile=" + c.pki("etcd/ca.crt"),
		"--etcd-certfile=" + c.pki("etcd/client.crt"), "--etcd-keyfile=" + c.pki("etcd/client.key"),
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"), "--kubelet-client-key=" + c.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP", // the others ask the DNS
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("service-accounts.pub"), "--service-account-signing-key-file=" + c.pki("service-accounts.key"),
		// A lab's node that is gone is missed soon, not after five minutes.
		"--default-not-ready-toleration-seconds=15", "--default-unreachable-toleration-seconds=15",
	}
}

func (c Config) controllers(s *state) []string {
	return append(c.serves(s, controllers),
		"--allocate-node-cidrs=false", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+c.pki("service-accounts.key"), "--root-ca-file="+c.pki("ca.crt"),
		"--cluster-signing-cert-file="+c.pki("ca.crt"), "--cluster-signing-key-file="+c.pki("ca.key"),
		"--node-monitor-period=2s", "--node-monitor-grace-period=12s", "--node-eviction-rate=10", "--secondary-node-eviction-rate=10")
}

func (c Config) scheduler(s *state) []string { return c.serves(s, scheduler) }

// serves returns the flags of a part that is a client of the API server.
func (c Config) serves(s *state, name string) []string {
	k := c.Kubeconfig(name)
	return []string{
		"--kubeconfig=" + k, "--authentication-kubeconfig=" + k, "--authorization-kubeconfig=" + k,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(s.Ports[name]), "--leader-elect=false",
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
	}
}

// ensure returns when p runs with its flags and is ready.
func (s *state) ensure(ctx context.Context, c Config, p part, client *http.Client, progress func(string)) error {
	var ended <-chan struct{}
	have := s.process(p.name)
	if have != nil && have.alive() && !slices.Equal(have.Args, p.args) {
		progress("stopping " + p.name + ", whose flags change")
		if err := have.end(ctx); err != nil {
			return err
		}
	}
	if have == nil || !have.alive() {
		progress("starting " + p.name)
		started, done, err := launch(filepath.Join(c.Binaries, p.name), p.args, c.log(p.name))
		if err != nil {
			return err
		}
		started.Name, ended = p.name, done
		s.Processes = append(slices.DeleteFunc(s.Processes, func(old Process) bool { return old.Name == p.name }), started)
		if err := s.save(c.Dir); err != nil {
			return errors.Join(err, started.end(ctx))
		}
	}
	err := await(ctx, readyTime, ended, func(ctx context.Context) error { return get(ctx, client, p.ready) })
	if err != nil {
		return fmt.Errorf("%w%s", err, lastLine(c.log(p.name)))
	}
	return nil
}

func (c Config) log(name string) string { return c.file(name + ".log") }

var errEnded = errors.New("ended before it was ready")

// await calls try until it succeeds, ended is closed or limit is over.
func await(ctx context.Context, limit time.Duration, ended <-chan struct{}, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("is not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// newClient returns a client of every part: an administrator, and one that
// etcd takes.
func newClient(c Config, s *state) (*http.Client, error) {
	roots := x509.NewCertPool()
	for _, name := range []string{"ca.crt", "etcd/ca.crt"} {
		data, err := os.ReadFile(c.pki(name))
		if err != nil {
			return nil, err
		}
		roots.AppendCertsFromPEM(data)
	}
	admin, err := tls.LoadX509KeyPair(c.pki(Admin+".crt"), c.pki(Admin+".key"))
	if err != nil {
		return nil, err
	}
	forEtcd, err := tls.LoadX509KeyPair(c.pki("etcd/client.crt"), c.pki("etcd/client.key"))
	if err != nil {
		return nil, err
	}
	// A part that has just started names no authority yet: it is not etcd, which
	// always does.
	pick := func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if r.SupportsCertificate(&admin) == nil {
			return &admin, nil
		}
		return &forEtcd, nil
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, GetClientCertificate: pick}},
	}, nil
}

// get succeeds if url answers 200.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return fmt.Errorf("%s: %s: %s", req.URL.Path, resp.Status, body)
	}
	io.Copy(io.Discard, resp.Body)
	return nil
}
