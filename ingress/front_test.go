package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fakeExplainer says what it is told to, and remembers what it was asked.
type fakeExplainer struct {
	text string
	mu   sync.Mutex
	to   []netip.AddrPort
}

// Explain implements Explainer.
func (f *fakeExplainer) Explain(_ context.Context, to netip.AddrPort) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = append(f.to, to)
	return f.text
}

// front is a Proxy that listens, and a client that finds every host there.
type front struct {
	*Proxy
	servers *servers
	client  *http.Client
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
}

// newFront serves p; roots are the certificates that its client trusts.
func newFront(t *testing.T, p *Proxy, roots ...*corev1.Secret) *front {
	t.Helper()
	f := &front{Proxy: p, servers: &servers{log: p.log, proxy: p}}
	must(t, f.servers.start(Config{HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", Status: "127.0.0.1:0"}))
	t.Cleanup(func() {
		must(t, f.servers.stop(0, 0))
		f.servers.wait()
	})
	f.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := f.servers.addresses[1]
		if strings.HasSuffix(addr, ":443") {
			to = f.servers.addresses[2]
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	pool := x509.NewCertPool()
	for _, s := range roots {
		pool.AppendCertsFromPEM(s.Data[corev1.TLSCertKey])
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DialContext: f.dial}
	t.Cleanup(transport.CloseIdleConnections)
	f.client = &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// quickLimits make tests quick.
func quickLimits() Limits { return Limits{Connect: 200 * time.Millisecond} }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// backend serves h until the test ends and returns where.
func backend(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	must(t, err)
	return netip.MustParseAddrPort(u.Host)
}

// one is a Table in which all paths of a host lead to endpoints.
func one(host string, change func(*Route), endpoints ...netip.AddrPort) *Table {
	r := &Route{
		Ingress: types.NamespacedName{Namespace: "shop", Name: "in"}, Path: "/", Timeout: 10 * time.Second,
		Upstream: &Upstream{Service: types.NamespacedName{Namespace: "shop", Name: "web"}, Port: "80", Endpoints: endpoints},
	}
	if change != nil {
		change(r)
	}
	return &Table{
		Hosts:     map[string]*Host{host: {Prefix: map[string]*Route{"": r}}},
		Ingresses: []types.NamespacedName{r.Ingress},
	}
}

// closed returns an address that refuses connections.
func closed(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	return netip.MustParseAddrPort(l.Addr().String())
}

// silent returns an address that answers no SYN, as behind a rule that drops:
// its queue of connections is full.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, syscall.Listen(fd, 0))
	sa, err := syscall.Getsockname(fd)
	must(t, err)
	a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*syscall.SockaddrInet4).Port))
	for range 3 {
		c, err := net.DialTimeout("tcp", a.String(), 200*time.Millisecond)
		if err != nil {
			return a
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("the queue of connections does not fill up here")
	return a
}
