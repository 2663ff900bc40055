package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/lab/cluster"
	"github.com/weft-net/weft/table"
)

// node is the one that has an agent: all ports are there.
const node = "host1"

// Bounds of waits.
const (
	startTime = 2 * time.Minute
	stopTime  = 30 * time.Second
)

// rig is everything that runs.
type rig struct {
	c       *Config
	cluster cluster.Config
	kube    kubernetes.Interface
	weftd   *process
	agent   *process
	client  *agent.Client
	plugin  *plugin
	http    *http.Client // to weftd
	pods    []known      // that were loaded
}

func (r *rig) file(name string) string { return filepath.Join(r.c.Dir, name) }

func (c *Config) program(name string) string { return filepath.Join(c.Bin, name) }

func (r *rig) host() string { return Prefix + "host" }

func (r *rig) pins() string { return "/sys/fs/bpf/" + Prefix + "pins" }

// start returns when weftd and the agent follow the Kubernetes.
func (r *rig) start(ctx context.Context) error {
	r.clear()
	r.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.file("weftd.sock"))
	}}}
	r.cluster = cluster.Config{
		Dir: r.file("kubernetes"), Binaries: r.c.Kubernetes, ServiceCIDR: serviceCIDR, AdvertiseAddress: "10.128.0.2", UnsafeNoFsync: true, ServerOnly: true,
	}
	if _, err := cluster.Start(ctx, r.cluster, r.c.Progress); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", r.cluster.Kubeconfig(cluster.Admin))
	if err != nil {
		return err
	}
	config.QPS = -1
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	if r.kube, err = kubernetes.NewForConfig(typed); err != nil {
		return err
	}
	r.c.Progress("starting weftd")
	if err := r.startWeftd(ctx); err != nil {
		return err
	}
	r.c.Progress("starting the agent")
	if err := r.startAgent(ctx); err != nil {
		return err
	}
	r.c.Progress("making the Supervisor")
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	sup := &unstructured.Unstructured{}
	if err := sup.UnmarshalJSON([]byte(supervisor)); err != nil {
		return err
	}
	kind := objects.Resource(schema.GroupVersionResource{Group: "weft.dev", Version: "v1alpha1", Resource: "supervisors"})
	return poll(ctx, startTime, func() error { // weftd defines the kind
		_, err := kind.Create(ctx, sup, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

func (r *rig) startWeftd(ctx context.Context) (err error) {
	r.weftd, err = launch(exec.Command(r.c.program("weftd"), "--data", r.file("weftd"), "--pki", r.file("pki"), "--socket", r.file("weftd.sock"),
		"--agents", "unix:"+r.file("agents.sock"), "--kubeconfig", r.cluster.Kubeconfig(cluster.Weft)), r.file("weftd.log"))
	if err != nil {
		return err
	}
	if err := poll(ctx, startTime, func() error { _, err := r.status(ctx); return err }); err != nil {
		return fmt.Errorf("weftd: %w", err)
	}
	return r.ask(ctx, http.MethodPatch, "/policy/api/v1/infra", strings.NewReader(provider), nil)
}

func (r *rig) startAgent(ctx context.Context) error {
	certificates := r.file("certificates")
	if said, err := exec.CommandContext(ctx, r.c.program("weftd"), "cert", "--pki", r.file("pki"), "--out", certificates, "agent", node).CombinedOutput(); err != nil {
		return fmt.Errorf("weftd cert: %w: %s", err, bytes.TrimSpace(said))
	}
	n, err := netns.New(r.host())
	if err != nil {
		return err
	}
	defer n.Close()
	base := filepath.Join(certificates, "agent-"+node)
	cmd := exec.Command(r.c.program("weft-agent"), "--dir", r.file("agent"), "--socket", r.file("agent.sock"), "--pins", r.pins(), "--monitors", Prefix+"monitors",
		"--control", "unix:"+r.file("agents.sock"), "--node", node, "--cert", base+".crt", "--key", base+".key", "--ca", filepath.Join(certificates, "ca.crt"))
	err = n.Do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		r.agent, err = launch(cmd, r.file("agent.log"))
		return err
	})
	if err != nil {
		return err
	}
	r.client = &agent.Client{Socket: r.file("agent.sock")}
	if r.plugin, err = newPlugin(r.c.Bin, r.file("cni"), r.client.Socket); err != nil {
		return err
	}
	return poll(ctx, startTime, func() error {
		told, err := r.client.Status(ctx)
		if err == nil && told.Version == 0 {
			err = errors.New("agent: has no tables yet")
		}
		return err
	})
}

// stop ends what runs and takes away what it made.
func (r *rig) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	err := errors.Join(r.agent.end(), r.weftd.end())
	if r.cluster.Dir != "" {
		_, stopped := cluster.Stop(ctx, r.cluster)
		err = errors.Join(err, stopped)
	}
	return errors.Join(err, r.clear())
}

// clear takes away what a run left in the kernel.
func (r *rig) clear() error {
	names, err := netns.List(Prefix)
	for _, name := range names {
		err = errors.Join(err, netns.Delete(name))
	}
	return errors.Join(err, os.RemoveAll(r.pins()))
}

// poll calls try until it succeeds, the time is over or ctx ends.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// errMissing says that weftd has no such object.
var errMissing = errors.New("is not there")

// ask sends a request to weftd and decodes the answer to to, unless that is nil.
func (r *rig) ask(ctx context.Context, method, path string, body io.Reader, to any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://weftd"+path, body)
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusNotFound:
		return errMissing
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("weftd: %s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(data))
	}
	switch to := to.(type) {
	case nil:
		return nil
	case *[]byte:
		*to = data
		return nil
	}
	return json.Unmarshal(data, to)
}

// status is what weftd says of itself, as far as it is used here.
type status struct {
	Version  int64 `json:"version"`
	Compiled int64 `json:"compiled"`
	Objects  int   `json:"objects"`
	Nodes    []struct {
		Name      string `json:"name"`
		Connected bool   `json:"connected"`
		Version   int64  `json:"version"`
		Error     string `json:"error"`
	} `json:"nodes"`
}

func (r *rig) status(ctx context.Context) (*status, error) {
	s := &status{}
	return s, r.ask(ctx, http.MethodGet, "/v1/status", nil, s)
}

// inForce returns the version that the agent has in force; 0: it is not
// connected yet.
func (s *status) inForce() (int64, error) {
	for _, n := range s.Nodes {
		switch {
		case n.Name != node || !n.Connected:
		case n.Error != "":
			return n.Version, fmt.Errorf("node %s: %s", node, n.Error)
		default:
			return n.Version, nil
		}
	}
	return 0, nil
}

// tables returns what the node shall do.
func (r *rig) tables(ctx context.Context) (*table.Set, error) {
	var data []byte
	if err := r.ask(ctx, http.MethodGet, "/v1/tables/"+node, nil, &data); err != nil {
		return nil, err
	}
	return table.Decode(data)
}
