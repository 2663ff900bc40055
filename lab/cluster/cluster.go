// Package cluster runs a Kubernetes control plane on this machine's loopback:
// etcd, kube-apiserver, kube-controller-manager and kube-scheduler as
// processes that outlive who started them.
//
// All that it has is in one directory: certificates, kubeconfigs, etcd's data,
// logs, the ports that were chosen and which processes run.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Users that have a kubeconfig; Node names those of nodes.
const (
	Admin = "admin" // may do everything
	Weft  = "weft"  // weftd, which may do everything too

	controllers = "kube-controller-manager"
	scheduler   = "kube-scheduler"
)

// Node returns the user of a node's kubelet.
func Node(name string) string { return "node-" + name }

// APIPort is where the API server listens if nobody else does.
const APIPort = 6443

// DefaultServiceCIDR is where Services get their addresses.
const DefaultServiceCIDR = "10.96.0.0/22"

// Bounds of the waits for one part.
const (
	readyTime = 2 * time.Minute  // a cold machine that is busy
	stopTime  = 15 * time.Second // until a part is killed that was asked to end
)

// Config is a control plane as it shall be.
type Config struct {
	Dir         string // of its own, made if missing
	Binaries    string // directory of etcd, kube-apiserver, kube-controller-manager and kube-scheduler
	ServiceCIDR string // of Services; empty: DefaultServiceCIDR
	// AdvertiseAddress is where pods find the API server: the endpoint of the
	// service `kubernetes`, with the port of Address. Something there must lead to Address.
	AdvertiseAddress string
	Nodes            []string // that get a kubeconfig
	// UnsafeNoFsync lets etcd answer before its data is on the disk: quicker,
	// and what a machine that loses its power forgets.
	UnsafeNoFsync bool
	// ServerOnly leaves out the controllers and the scheduler: who makes objects
	// makes all of them, such as service accounts.
	ServerOnly bool
}

// nodeName is a DNS label, which is the strictest of what a node's name is used for.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// check says what is wrong with c.
func (c Config) check() error {
	if c.Dir == "" {
		return errors.New("cluster: dir: is empty (a directory)")
	}
	prefix, err := netip.ParsePrefix(c.ServiceCIDR)
	if err != nil || prefix != prefix.Masked() {
		return fmt.Errorf("cluster: service CIDR: %q: is no network (such as %s)", c.ServiceCIDR, DefaultServiceCIDR)
	}
	a, err := netip.ParseAddr(c.AdvertiseAddress)
	if err != nil || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return fmt.Errorf("cluster: advertise address: %q: is no address that pods can reach (such as 10.244.0.2)", c.AdvertiseAddress)
	}
	if a.Is4() != prefix.Addr().Is4() {
		return fmt.Errorf("cluster: advertise address: %s: is of another family than the service CIDR %s", a, prefix)
	}
	for _, n := range c.Nodes {
		if !nodeName.MatchString(n) {
			return fmt.Errorf("cluster: node %q: is no node name (a DNS label)", n)
		}
	}
	for _, p := range partNames {
		if _, err := os.Stat(filepath.Join(c.Binaries, p)); err != nil {
			return fmt.Errorf("cluster: binaries: %w (scripts/kube.sh builds them)", err)
		}
	}
	return nil
}

// Kubeconfig returns the file by which kubectl reaches the API server as user:
// Admin, Weft or Node(…). It exists once Start returned.
func (c Config) Kubeconfig(user string) string { return filepath.Join(c.Dir, user+".kubeconfig") }

// Address returns where the API server listens, 127.0.0.1 and its port, or
// nothing if it was never started. It stays the same as long as Dir exists.
func (c Config) Address() string {
	s, err := loadState(c.Dir)
	if err != nil || s.Ports[apiserver] == 0 {
		return ""
	}
	return s.address(apiserver)
}

func (c Config) file(name string) string { return filepath.Join(c.Dir, name) }

// Cluster is a control plane that was started.
type Cluster struct {
	Config
	state *state
}

// Address is Config.Address.
func (c *Cluster) Address() string { return c.state.address(apiserver) }

// Port is that of Address and of the endpoint of the service `kubernetes`.
func (c *Cluster) Port() int { return c.state.Ports[apiserver] }

// Processes returns what runs, etcd first.
func (c *Cluster) Processes() []Process {
	var out []Process
	for _, p := range c.state.Processes {
		if p.alive() {
			out = append(out, p)
		}
	}
	return out
}

// Stop is the function Stop for c.
func (c *Cluster) Stop(ctx context.Context) error {
	_, err := Stop(ctx, c.Config)
	return err
}

// Start makes the control plane run as cfg says and returns when it serves,
// its controllers included, if it has them: pods can be made. What runs already as it should is
// kept; what ended, or was started with other flags, is started again. progress, if
// not nil, is told what is being done, in -ing form. After an error, what runs is
// left for another Start, or Stop.
func Start(ctx context.Context, cfg Config, progress func(string)) (*Cluster, error) {
	if cfg.ServiceCIDR == "" {
		cfg.ServiceCIDR = DefaultServiceCIDR
	}
	if progress == nil {
		progress = func(string) {}
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.Dir, cfg.file("pki"), cfg.file("etcd")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	unlock, err := lock(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := loadState(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	if err := s.save(cfg.Dir); err != nil {
		return nil, err
	}
	if err := cfg.credentials(s); err != nil {
		return nil, err
	}
	api, err := newClient(cfg, s)
	if err != nil {
		return nil, err
	}
	defer api.CloseIdleConnections()
	for _, p := range cfg.parts(s) {
		if err := s.ensure(ctx, cfg, p, api, progress); err != nil {
			return nil, fmt.Errorf("cluster: %s: %w", p.name, err)
		}
	}
	if cfg.ServerOnly {
		return &Cluster{Config: cfg, state: s}, nil
	}
	progress("waiting for Kubernetes")
	// A pod is refused until the controllers made its service account.
	err = await(ctx, readyTime, nil, func(ctx context.Context) error {
		return get(ctx, api, "https://"+s.address(apiserver)+"/api/v1/namespaces/default/serviceaccounts/default")
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: service account default/default: %w", err)
	}
	return &Cluster{Config: cfg, state: s}, nil
}

// Stop ends the control plane of cfg, of which only Dir counts: the controllers
// first, etcd last: nothing ends well that waits for what is gone already. It
// returns how many processes it ended. Data stays.
func Stop(ctx context.Context, cfg Config) (ended int, err error) {
	if _, err := os.Stat(cfg.Dir); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	unlock, err := lock(ctx, cfg.Dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	s, err := loadState(cfg.Dir)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{controllers, scheduler, apiserver, etcd} {
		p := s.process(name)
		if p == nil || !p.alive() {
			continue
		}
		if err := p.end(ctx); err != nil {
			return ended, fmt.Errorf("cluster: %s: %w", name, err)
		}
		ended++
	}
	s.Processes = nil
	return ended, s.save(cfg.Dir)
}

// local returns an address on loopback.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
