package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// How connections to endpoints are kept.
const (
	idlePerEndpoint = 64
	idleTimeout     = 60 * time.Second
	tcpUserTimeout  = 0x12 // TCP_USER_TIMEOUT of linux/tcp.h, which package syscall lacks
)

// errResponseTimeout is that a route's timeout ran out.
var errResponseTimeout = errors.New("no response in time")

// dialError is that an endpoint took no connection: nothing was sent to it.
type dialError struct {
	endpoint string
	err      error
}

func (e *dialError) Error() string { return e.endpoint + ": " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// transport returns what keeps connections to endpoints.
//
// A connection whose packets a rule drops hears nothing: the kernel gives it up
// when what was sent is not acknowledged in time, or keep-alives are not.
func (p *Proxy) transport(http2 bool) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         p.limits.Connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			ms := int(2 * p.limits.Connect.Milliseconds())
			if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, ms) }); e != nil {
				return e
			}
			return err
		},
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, &dialError{addr, err}
			}
			return c, nil
		},
		MaxIdleConnsPerHost:   idlePerEndpoint,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bodies pass as they are
		Protocols:             new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetUnencryptedHTTP2(http2)
	return t
}

// rewrite makes the request that an endpoint gets: the client's, with headers
// that say who that is.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme = "http"
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it is: no rule reads it
	if x := exchangeOf(r.In.Context()); x.moved {
		uncanonical(r.Out.URL, x.path)
	}
	if p.trusts(r.In.RemoteAddr) {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	}
	r.SetXForwarded()
	if p.trusts(r.In.RemoteAddr) {
		for _, key := range []string{"X-Forwarded-Proto", "X-Forwarded-Host"} {
			if v := r.In.Header.Values(key); len(v) > 0 {
				r.Out.Header[key] = v
			}
		}
	}
}

// trusts reports whether a peer's headers say who the client is.
func (p *Proxy) trusts(peer string) bool {
	if len(p.trusted) == 0 {
		return false
	}
	a, err := netip.ParseAddrPort(peer)
	return err == nil && slices.ContainsFunc(p.trusted, func(t netip.Prefix) bool { return t.Contains(a.Addr().Unmap()) })
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip is the function.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip sends a request to an endpoint of its route: to the next one in
// turn or, if that takes no connection, to the following ones.
// Errors: a *dialError of each endpoint that was tried, joined;
// errResponseTimeout as the cause of the context; those of http.Transport.
func (p *Proxy) roundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	u := x.route.Upstream
	ctx, cancel := context.WithCancelCause(r.Context()) // ends with the request
	limit := &responseLimit{after: x.route.Timeout, over: func() { cancel(errResponseTimeout) }}
	defer limit.stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { limit.start() }})
	var errs []error
	for _, endpoint := range p.choose(u) {
		x.tried = append(x.tried, endpoint)
		out := r.Clone(ctx)
		out.URL.Host = endpoint.String()
		if r.Body != nil {
			out.Body = kept{r.Body}
		}
		res, err := p.transportOf(u).RoundTrip(out)
		p.note(endpoint, err)
		if err == nil {
			return res, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		errs = append(errs, err)
		if !errors.As(err, new(*dialError)) {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// kept is a body that another try may need: a Transport closes what it could
// not send. The server closes it in the end.
type kept struct{ io.ReadCloser }

// Close does nothing.
func (kept) Close() error { return nil }

func (p *Proxy) transportOf(u *Upstream) *http.Transport {
	if u.HTTP2 {
		return p.http2
	}
	return p.http1
}

// choose returns the endpoints to try, best first: round robin, those that
// took no connection a moment ago last.
func (p *Proxy) choose(u *Upstream) []netip.AddrPort {
	now := time.Now()
	n := uint(len(u.Endpoints))
	out := make([]netip.AddrPort, 0, n)
	p.mu.Lock()
	defer p.mu.Unlock()
	key := nameOf(u)
	turn := p.turns[key]
	p.turns[key]++
	for i := range n {
		out = append(out, u.Endpoints[(turn+i)%n])
	}
	if len(p.failed) > 0 {
		bad := func(a netip.AddrPort) int {
			if at, ok := p.failed[a]; ok && now.Sub(at) < p.limits.Avoid {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return cmp.Compare(bad(a), bad(b)) })
	}
	return out[:min(len(out), p.limits.Tries)]
}

func nameOf(u *Upstream) upstreamName {
	return upstreamName{u.Service.Namespace, u.Service.Name, u.Port}
}

// note remembers whether an endpoint took the connection.
func (p *Proxy) note(a netip.AddrPort, err error) {
	bad := errors.As(err, new(*dialError)) && !errors.Is(err, context.Canceled)
	p.mu.Lock()
	defer p.mu.Unlock()
	if bad {
		p.failed[a] = time.Now()
	} else if err == nil {
		delete(p.failed, a)
	}
}

// forget drops what is remembered of endpoints and upstreams that t lacks.
func (p *Proxy) forget(t *Table) {
	upstreams := map[upstreamName]bool{}
	endpoints := map[netip.AddrPort]bool{}
	for r := range t.routes() {
		upstreams[nameOf(r.Upstream)] = true
		for _, a := range r.Upstream.Endpoints {
			endpoints[a] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.turns {
		if !upstreams[k] {
			delete(p.turns, k)
		}
	}
	for k := range p.failed {
		if !endpoints[k] {
			delete(p.failed, k)
		}
	}
}

// responseLimit calls over if no response came in time. The time runs from the
// end of the request: an upload may take as long as it takes.
type responseLimit struct {
	after time.Duration // 0: never
	over  func()

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func (l *responseLimit) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.after > 0 && !l.ended && l.timer == nil {
		l.timer = time.AfterFunc(l.after, l.over)
	}
}

func (l *responseLimit) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// isLost reports whether err is that packets to or from an endpoint get lost,
// as they do behind a rule that drops.
func isLost(err error) bool {
	return errors.As(err, new(*dialError)) || errors.Is(err, syscall.ETIMEDOUT)
}

// reached words the endpoints of an exchange.
func (x *exchange) reached() string {
	var out string
	for i, a := range x.tried {
		if i > 0 {
			out += ", "
		}
		out += a.String()
	}
	return fmt.Sprintf("%s of service %s port %s", out, x.route.Upstream.Service, x.route.Upstream.Port)
}
