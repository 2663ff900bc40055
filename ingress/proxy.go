package ingress

import (
	"bufio"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what a Proxy waits for. Zero values are replaced by those of
// DefaultLimits.
type Limits struct {
	Connect time.Duration // for an endpoint to take a connection, and to acknowledge what was sent
	Avoid   time.Duration // how long an endpoint that took no connection is the last choice
	Tries   int           // endpoints that are tried for a request
}

// DefaultLimits returns the Limits of a Proxy that is given none.
func DefaultLimits() Limits {
	return Limits{Connect: 2500 * time.Millisecond, Avoid: 10 * time.Second, Tries: 3}
}

// Explainer says why the network does not let this proxy reach an endpoint.
type Explainer interface {
	// Explain returns a sentence, empty if it does not know. It may wait a few
	// seconds.
	Explain(ctx context.Context, to netip.AddrPort) string
}

// Proxy answers HTTP requests by the Table that it was given last. Requests
// that have begun go on by the Table that they began with.
type Proxy struct {
	log     *slog.Logger
	limits  Limits
	trusted []netip.Prefix // peers whose X-Forwarded-For counts
	explain Explainer      // nil: nobody knows
	counts  *counts
	table   atomic.Pointer[Table]
	forward *httputil.ReverseProxy
	http1   *http.Transport
	http2   *http.Transport // HTTP/2 without TLS

	mu     sync.Mutex
	turns  map[upstreamName]uint        // how many requests an upstream got
	failed map[netip.AddrPort]time.Time // when an endpoint took no connection
}

// upstreamName is an Upstream in any Table.
type upstreamName struct{ namespace, service, port string }

// NewProxy returns a Proxy that has no Table yet and says so to everybody.
// trusted are the peers whose X-Forwarded-For headers are kept.
func NewProxy(log *slog.Logger, l Limits, trusted []netip.Prefix, e Explainer) *Proxy {
	d := DefaultLimits()
	if l.Connect == 0 {
		l.Connect = d.Connect
	}
	if l.Avoid == 0 {
		l.Avoid = d.Avoid
	}
	if l.Tries == 0 {
		l.Tries = d.Tries
	}
	p := &Proxy{
		log: log, limits: l, trusted: trusted, explain: e, counts: newCounts(),
		turns: map[upstreamName]uint{}, failed: map[netip.AddrPort]time.Time{},
	}
	p.http1, p.http2 = p.transport(false), p.transport(true)
	p.forward = &httputil.ReverseProxy{
		Rewrite:      p.rewrite,
		Transport:    roundTripper(p.roundTrip),
		ErrorHandler: p.fail,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BufferPool:   &buffers{},
	}
	return p
}

// SetTable makes p go by t, which is not changed any more.
func (p *Proxy) SetTable(t *Table) {
	old := p.table.Swap(t)
	p.forget(t)
	p.counts.forget(old, t)
}

// Ready reports whether p has a Table.
func (p *Proxy) Ready() bool { return p.table.Load() != nil }

// Certificate answers a TLS client by the Table. Without a certificate the
// handshake fails with unrecognized_name.
// Source: RFC 6066 §3.
func (p *Proxy) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if t := p.table.Load(); t != nil {
		return t.Certificate(canonicalHost(hello.ServerName)), nil
	}
	return nil, nil
}

// exchange is one request and where it goes. It travels in the request's
// context.
type exchange struct {
	route *Route
	path  string // canonical
	moved bool   // path is not the one that was asked for
	tried []netip.AddrPort
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &counted{ResponseWriter: w}
	x := &exchange{}
	begun := time.Now()
	defer func() { p.counts.request(x.route, c.status, time.Since(begun)) }()
	p.serve(c, r, x)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, x *exchange) {
	t := p.table.Load()
	switch {
	case t == nil:
		refuse(w, http.StatusServiceUnavailable, "this proxy has not read the ingresses yet")
		return
	case r.Method == http.MethodConnect:
		refuse(w, http.StatusMethodNotAllowed, "CONNECT is not served")
		return
	}
	host := canonicalHost(r.Host)
	x.path, x.moved = canonicalPath(r.URL)
	x.route = t.Route(host, x.path)
	switch {
	case x.route == nil && t.Hosts[host] == nil:
		refuse(w, http.StatusNotFound, "no ingress has rules for host "+quote(host))
	case x.route == nil:
		refuse(w, http.StatusNotFound, "no ingress has a rule for path "+quote(x.path)+" of host "+quote(host))
	case x.route.Redirect && r.TLS == nil:
		redirect(w, r)
	case x.route.Upstream.Broken != "":
		refuse(w, http.StatusServiceUnavailable, x.route.Upstream.Broken, "this is asked for by ingress "+x.route.Ingress.String())
	default:
		p.forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	}
}

// redirect sends a client to the same place by HTTPS.
func redirect(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if _, port, err := net.SplitHostPort(host); err == nil {
		host = strings.TrimSuffix(host, ":"+port)
	}
	if host == "" {
		refuse(w, http.StatusBadRequest, "this is served by HTTPS only, and the request names no host")
		return
	}
	to := url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	code := http.StatusPermanentRedirect
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		code = http.StatusMovedPermanently // what the oldest clients know
	}
	http.Redirect(w, r, to.String(), code)
}

// counted remembers the status of a response.
type counted struct {
	http.ResponseWriter
	status int
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader sends a status; one that only informs is not remembered.
func (c *counted) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Hijack hands over the connection, to which another protocol is spoken now.
func (c *counted) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err == nil {
		c.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Write sends a part of the body.
func (c *counted) Write(b []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(b)
}

// buffers lends what bodies are copied by.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10 // bytes

// Get lends a buffer.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

// Put takes it back.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
