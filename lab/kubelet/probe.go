package kubelet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/weft-net/weft/internal/netns"
)

// target is where probes and hooks of a container act.
type target struct {
	dir       string // of the pod
	netns     string // name; empty: the machine's
	address   string // of the pod
	container *corev1.Container
}

// maxOutput bounds what is kept of a probe's answer.
const maxOutput = 1 << 10

// act does what a probe or hook says and returns an error that says what went
// wrong.
func (t target) act(ctx context.Context, exec *corev1.ExecAction, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) error {
	switch {
	case exec != nil:
		return t.exec(ctx, exec.Command)
	case get != nil:
		return t.get(ctx, get)
	case tcp != nil:
		port, err := t.port(tcp.Port)
		if err != nil {
			return err
		}
		conn, err := t.dial(ctx, net.JoinHostPort(t.host(tcp.Host), port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return errors.New("is of a kind that this node does not know (exec, httpGet, tcpSocket)")
}

func (t target) exec(ctx context.Context, command []string) error {
	var out limited
	code, err := execIn(ctx, t.dir, t.container.Name, command, false, streams{stdout: &out, stderr: &out})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit code %d: %s", code, bytes.TrimSpace(out.bytes()))
	}
	return nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	mu   sync.Mutex
	data []byte
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, p[:min(len(p), maxOutput-len(l.data))]...)
	return len(p), nil
}

func (l *limited) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.data)
}

func (t target) get(ctx context.Context, g *corev1.HTTPGetAction) error {
	port, err := t.port(g.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	url := scheme + "://" + net.JoinHostPort(t.host(g.Host), port) + "/" + strings.TrimPrefix(g.Path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/weft")
	for _, h := range g.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return t.dial(ctx, address) },
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as kubelets do: the certificate is for clients' names
		},
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("%s: %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// dial connects from inside the pod.
func (t target) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	if t.netns == "" {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	n, err := netns.Open(t.netns)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	err = n.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

func (t target) host(asked string) string {
	switch {
	case asked != "":
		return asked
	case t.address != "":
		return t.address
	}
	return "127.0.0.1"
}

// port returns the number of a port, which may be a name of the container's.
func (t target) port(p intstr.IntOrString) (string, error) {
	if p.Type == intstr.Int {
		return strconv.Itoa(p.IntValue()), nil
	}
	for _, named := range t.container.Ports {
		if named.Name == p.StrVal {
			return strconv.Itoa(int(named.ContainerPort)), nil
		}
	}
	if _, err := strconv.ParseUint(p.StrVal, 10, 16); err == nil {
		return p.StrVal, nil
	}
	return "", fmt.Errorf("port %s: is no port of container %s", p.StrVal, t.container.Name)
}

// hook runs a lifecycle hook; nil: none.
func (t target) hook(ctx context.Context, h *corev1.LifecycleHandler) error {
	if h == nil {
		return nil
	}
	if h.Sleep != nil {
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return t.act(ctx, h.Exec, h.HTTPGet, h.TCPSocket)
}

// checks is what probes found about one run of a container.
type checks struct {
	cancel context.CancelFunc

	mu      sync.Mutex
	started bool
	ready   bool
	dead    string // why liveness or startup gave it up; empty: it did not
}

func (c *checks) now() (started, ready bool, dead string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started, c.started && c.ready, c.dead
}

// found is told of a probe's failure, for an Event.
type found func(kind, text string)

// watch runs the probes of a container until ctx ends. changed is called when
// an answer differs from before. A container that was ready is so until its
// probe says otherwise.
func (c *checks) watch(ctx context.Context, t target, wasReady bool, changed func(), tell found) {
	p := t.container
	c.started = p.StartupProbe == nil || wasReady
	c.ready = p.ReadinessProbe == nil || wasReady
	set := func(fn func()) {
		c.mu.Lock()
		before := [3]any{c.started, c.ready, c.dead}
		fn()
		after := [3]any{c.started, c.ready, c.dead}
		c.mu.Unlock()
		if before != after {
			changed()
		}
	}
	go func() {
		if !c.started {
			ok := probe(ctx, t, p.StartupProbe, func(text string) { tell("Startup", text) }, func(ok bool) bool {
				if !ok {
					set(func() { c.dead = "startup probe" })
				}
				return false
			})
			if !ok {
				return
			}
			set(func() { c.started = true })
		}
		if p.ReadinessProbe != nil {
			go probe(ctx, t, p.ReadinessProbe, func(text string) { tell("Readiness", text) }, func(ok bool) bool {
				set(func() { c.ready = ok })
				return true
			})
		}
		if p.LivenessProbe != nil {
			probe(ctx, t, p.LivenessProbe, func(text string) { tell("Liveness", text) }, func(ok bool) bool {
				if !ok {
					set(func() { c.dead = "liveness probe" })
				}
				return ok
			})
		}
	}()
}

// probe runs p again and again. verdict is called whenever enough answers in
// succession agree, and says whether to go on. It returns the last verdict, or
// false when ctx ended. failed is told of each failure.
func probe(ctx context.Context, t target, p *corev1.Probe, failed func(string), verdict func(ok bool) bool) bool {
	if !pause(ctx, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return false
	}
	period := time.Duration(max(1, p.PeriodSeconds)) * time.Second
	good, bad := int32(0), int32(0)
	for {
		limit, cancel := context.WithTimeout(ctx, time.Duration(max(1, p.TimeoutSeconds))*time.Second)
		err := t.act(limit, p.Exec, p.HTTPGet, p.TCPSocket)
		cancel()
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
			failed(err.Error())
		}
		if good >= max(1, p.SuccessThreshold) || bad >= max(1, p.FailureThreshold) {
			if !verdict(err == nil) {
				return err == nil
			}
		}
		if !pause(ctx, period) {
			return false
		}
	}
}

// pause returns whether ctx still goes on after d.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
