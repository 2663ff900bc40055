package ingress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// get asks and returns status and body.
func (f *front) get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := f.client.Do(r)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(body)
}

func TestProxyAnswersWithoutAnUpstream(t *testing.T) {
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	ask := func(what, url string, wantStatus int, want string) {
		t.Helper()
		if status, body := f.get(t, url); status != wantStatus || body != want {
			t.Errorf("%s: got %d %q, want %d %q", what, status, body, wantStatus, want)
		}
	}
	ask("no table", "http://x/", 503, "this proxy has not read the ingresses yet\n")
	table := one("x", func(r *Route) { r.Upstream.Broken = "service shop/web does not exist" })
	table.Hosts["paths"] = &Host{Prefix: map[string]*Route{"/a": table.Hosts["x"].Prefix[""]}, Longest: 2}
	f.SetTable(table)
	ask("no host", "http://Y.example.com/", 404, "no ingress has rules for host \"y.example.com\"\n")
	ask("no path", "http://paths/b", 404, "no ingress has a rule for path \"/b\" of host \"paths\"\n")
	ask("broken", "http://x/", 503, "service shop/web does not exist\nthis is asked for by ingress shop/in\n")
}

func TestProxyTakesEndpointsInTurnAndSkipsTheDead(t *testing.T) {
	name := func(n string) netip.AddrPort {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %d", n, len(body))
		})
	}
	a, b := name("a"), name("b")
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	f.SetTable(one("x", nil, a, b))
	var got []string
	for range 4 {
		_, body := f.get(t, "http://x/")
		got = append(got, body)
	}
	if diff := gocmp.Diff([]string{"a 0", "b 0", "a 0", "b 0"}, got); diff != "" {
		t.Error(diff)
	}
	f.SetTable(one("x", nil, closed(t), a, silent(t)))
	for i := range 6 { // whichever is first in turn, with a body that is sent once
		res, err := f.client.Post("http://x/", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", 100000))))
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		res.Body.Close()
		if string(body) != "a 100000" {
			t.Errorf("request %d: %d %s", i, res.StatusCode, body)
		}
	}
}

// The client of seed 003 gets the reason, and the rule.
func TestProxyNamesTheRuleThatDrops(t *testing.T) {
	e := &fakeExplainer{text: "dropped by rule 1005 deny-all-ingress of /infra/domains/c/security-policies/is_1 at port shop/web-1"}
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, e))
	dark := silent(t)
	f.SetTable(one("x", nil, dark))
	status, body := f.get(t, "http://x/")
	want := "upstream connection failure: no answer within 200ms at " + dark.String() + " of service shop/web port 80\n" + e.text + "\n"
	if status != 503 || body != want {
		t.Errorf("got %d\n%swant 503\n%s", status, body, want)
	}
	if diff := gocmp.Diff([]string{dark.String()}, []string{e.to[0].String()}); diff != "" {
		t.Error(diff)
	}
	shut := closed(t)
	e.text = ""
	f.SetTable(one("x", nil, shut))
	if status, body := f.get(t, "http://x/"); status != 503 || body != "upstream connection failure: connection refused at "+shut.String()+" of service shop/web port 80\n" {
		t.Errorf("got %d %s", status, body)
	}
}

func TestProxyEndsWhatTakesTooLong(t *testing.T) {
	stop := make(chan struct{})
	slow := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/late" {
			<-stop
			return
		}
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		time.Sleep(300 * time.Millisecond) // a body may take longer than the limit
		fmt.Fprint(w, "done")
	})
	defer close(stop)
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	f.SetTable(one("x", func(r *Route) { r.Timeout = 150 * time.Millisecond }, slow))
	status, body := f.get(t, "http://x/late")
	if want := "upstream response timeout: no answer within 150ms from " + slow.String() + " of service shop/web port 80\n"; status != 504 || body != want {
		t.Errorf("got %d %q, want 504 %q", status, body, want)
	}
	if status, body := f.get(t, "http://x/body"); status != 200 || body != "done" {
		t.Errorf("got %d %q", status, body)
	}
	// an upload takes as long as it takes
	r, w := io.Pipe()
	go func() {
		for range 4 {
			time.Sleep(80 * time.Millisecond)
			_, _ = w.Write([]byte("x"))
		}
		w.Close()
	}()
	res, err := f.client.Post("http://x/upload", "text/plain", r)
	must(t, err)
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("upload: %d", res.StatusCode)
	}
}

func TestProxyTellsWhoTheClientIs(t *testing.T) {
	seen := backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%s|%s|%s|%s", r.Host, strings.Join(r.Header["X-Forwarded-For"], ","), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("Connection"), r.URL.RequestURI())
	})
	spoof := []string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Proto", "gopher", "X-Forwarded-Host", "evil", "Connection", "X-Drop", "X-Drop", "1"}
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	f.SetTable(one("x", nil, seen))
	if _, got := f.get(t, "http://x:80/a%2Fb?q=%20;&r", spoof...); got != "x:80|127.0.0.1|http|x:80||/a%2Fb?q=%20;&r" {
		t.Errorf("untrusted: %s", got)
	}
	trusting := newFront(t, NewProxy(quiet(), quickLimits(), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil))
	trusting.SetTable(one("x", nil, seen))
	if _, got := trusting.get(t, "http://x/", spoof...); got != "x|6.6.6.6, 127.0.0.1|gopher|evil||/" {
		t.Errorf("trusted: %s", got)
	}
}

// A rule for one path does not lead to what lies beside it.
func TestProxySendsThePathThatItMatched(t *testing.T) {
	seen := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.RequestURI()) })
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	table := one("x", nil, seen)
	h := table.Hosts["x"]
	h.Prefix["/public"], h.Longest = h.Prefix[""], len("/public")
	delete(h.Prefix, "")
	f.SetTable(table)
	raw := func(path string) string {
		c, err := f.dial(t.Context(), "tcp", "x:80")
		must(t, err)
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		body, _ := io.ReadAll(res.Body)
		return fmt.Sprintf("%d %s", res.StatusCode, bytes.TrimSpace(body))
	}
	for path, want := range map[string]string{
		"/public/a%2F..%2Fb":       "200 /public/a%2F..%2Fb",
		"/public/x/../y?q":         "200 /public/y?q",
		"/public/../admin":         "404 no ingress has a rule for path \"/admin\" of host \"x\"",
		"/public/%2e%2e/admin":     "404 no ingress has a rule for path \"/admin\" of host \"x\"",
		"/admin/..%2e/public":      "404 no ingress has a rule for path \"/admin/.../public\" of host \"x\"",
		"/admin/../public/%41%2fb": "200 /public/A%2Fb",
	} {
		if got := raw(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestProxyRedirectsToHTTPS(t *testing.T) {
	cert := secret(t, "x", "shop.example.com")
	seen := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto")) })
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil), cert)
	table := one("shop.example.com", func(r *Route) { r.Redirect = true }, seen)
	pair, err := KeyPair(cert)
	must(t, err)
	table.Certificates = map[string]*Certificate{"shop.example.com": {TLS: pair}}
	f.SetTable(table)
	for method, want := range map[string]int{http.MethodGet: 301, http.MethodPost: 308} {
		r, err := http.NewRequest(method, "http://shop.example.com:80/a%2Fb?c=d", nil)
		must(t, err)
		res, err := f.client.Do(r)
		must(t, err)
		res.Body.Close()
		if res.StatusCode != want || res.Header.Get("Location") != "https://shop.example.com/a%2Fb?c=d" {
			t.Errorf("%s: %d %s", method, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if status, body := f.get(t, "https://shop.example.com/"); status != 200 || body != "https" {
		t.Errorf("by HTTPS: %d %s", status, body)
	}
}

func TestProxyShowsTheCertificateOfTheName(t *testing.T) {
	x, wild, other := secret(t, "x", "x.example.com"), secret(t, "wild", "*.example.com"), secret(t, "other", "other.org")
	seen := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") })
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil), x, wild, other)
	set := func(hosts map[string]*corev1.Secret) {
		table := one("", nil, seen)
		table.Certificates = map[string]*Certificate{}
		for host, s := range hosts {
			pair, err := KeyPair(s)
			must(t, err)
			table.Certificates[host] = &Certificate{types.NamespacedName{Name: s.Name}, pair}
		}
		f.SetTable(table)
		f.client.CloseIdleConnections()
	}
	shown := func(host string) string {
		res, err := f.client.Get("https://" + host + "/")
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		return res.Proto + " " + res.TLS.PeerCertificates[0].DNSNames[0]
	}
	set(map[string]*corev1.Secret{"x.example.com": x, "*.example.com": wild})
	for host, want := range map[string]string{
		"x.example.com": "HTTP/2.0 x.example.com",
		"y.example.com": "HTTP/2.0 *.example.com",
		"other.org":     "unrecognized name",
	} {
		if got := shown(host); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
	set(map[string]*corev1.Secret{"": other}) // a change holds at once
	if got := shown("other.org"); got != "HTTP/2.0 other.org" {
		t.Errorf("default certificate: %s", got)
	}
}

// body is n bytes.
func body(n int64) io.Reader { return io.LimitReader(&pattern{}, n) }

type pattern struct{ n byte }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*5 + 1
		b[i] = p.n
	}
	return len(b), nil
}

func TestProxyStreamsLargeBodies(t *testing.T) {
	const size = 24 << 20
	cert := secret(t, "x", "x.example.com")
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v ", n, h.Sum(nil), err)
		_, _ = io.Copy(w, body(size))
	})
	want := sha256.New()
	_, _ = io.Copy(want, body(size))
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil), cert)
	table := one("x.example.com", nil, echo)
	pair, err := KeyPair(cert)
	must(t, err)
	table.Certificates = map[string]*Certificate{"x.example.com": {TLS: pair}}
	f.SetTable(table)
	for _, scheme := range []string{"http", "https"} {
		res, err := f.client.Post(scheme+"://x.example.com/", "application/octet-stream", body(size))
		must(t, err)
		line := fmt.Sprintf("%d %x <nil> ", size, want.Sum(nil))
		head := make([]byte, len(line))
		_, err = io.ReadFull(res.Body, head)
		must(t, err)
		got := sha256.New()
		n, err := io.Copy(got, res.Body)
		must(t, err)
		res.Body.Close()
		if string(head) != line || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%s: sent %s, got %d bytes", scheme, head, n)
		}
	}
}

// What either side sends arrives at once: a request's body before it ends, and
// events.
func TestProxyHoldsNothingBack(t *testing.T) {
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		must(t, c.EnableFullDuplex())
		w.Header().Set("Content-Type", "text/event-stream")
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(w, "echo "+line)
			must(t, c.Flush())
		}
	})
	cert := secret(t, "x", "x.example.com")
	pair, err := KeyPair(cert)
	must(t, err)
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil), cert)
	table := one("x.example.com", func(r *Route) { r.Timeout = 0 }, echo)
	table.Certificates = map[string]*Certificate{"x.example.com": {TLS: pair}}
	f.SetTable(table)
	r, w := io.Pipe()
	go func() { _, _ = io.WriteString(w, "1\n") }()
	res, err := f.client.Post("https://x.example.com/", "text/plain", r) // HTTP/2: both ways at a time
	must(t, err)
	defer res.Body.Close()
	out := bufio.NewReader(res.Body)
	for i := 1; i < 4; i++ {
		line, err := out.ReadString('\n')
		if err != nil || line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("event %d: %q %v", i, line, err)
		}
		fmt.Fprintf(w, "%d\n", i+1)
	}
	w.Close()
}

// A WebSocket handshake and what follows passes both ways.
func TestProxyCarriesWebSockets(t *testing.T) {
	chat := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Key") == "" {
			http.Error(w, "no handshake", http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		must(t, err)
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ok\r\n\r\n")
		must(t, rw.Flush())
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(rw, strings.ToUpper(line))
			must(t, rw.Flush())
		}
	})
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	f.SetTable(one("x", func(r *Route) { r.Timeout = 100 * time.Millisecond }, closed(t), chat))
	c, err := f.dial(t.Context(), "tcp", "x:80")
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	fmt.Fprint(c, "GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "ok" {
		t.Fatalf("handshake: %+v", res)
	}
	f.SetTable(&Table{}) // it outlives its rule, and the response timeout
	time.Sleep(150 * time.Millisecond)
	for _, word := range []string{"hello\n", "weft\n"} {
		fmt.Fprint(c, word)
		if got, err := in.ReadString('\n'); err != nil || got != strings.ToUpper(word) {
			t.Fatalf("got %q %v", got, err)
		}
	}
}

func TestProxySpeaksHTTP2ToThoseWhoSaySo(t *testing.T) {
	var server http.Server
	server.Protocols = new(http.Protocols)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprint(w, r.Proto)
		must(t, http.NewResponseController(w).Flush()) // a length leaves no room for trailers
		w.Header().Set("Grpc-Status", "0")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	f := newFront(t, NewProxy(quiet(), quickLimits(), nil, nil))
	f.SetTable(one("x", func(r *Route) { r.Upstream.HTTP2 = true }, closed(t), netip.MustParseAddrPort(l.Addr().String())))
	res, err := f.client.Get("http://x/")
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	if string(text) != "HTTP/2.0" || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("got %d %s, trailer %v", res.StatusCode, text, res.Trailer)
	}
}

// No request is lost while tables change.
func TestProxyChangesTablesUnderLoad(t *testing.T) {
	name := func(n string) netip.AddrPort {
		return backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) })
	}
	a, b := name("a"), name("b")
	f := newFront(t, NewProxy(quiet(), Limits{}, nil, nil))
	tables := []*Table{one("x", nil, a), one("x", nil, a, b), one("x", nil, b)}
	f.SetTable(tables[0])
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var n, bad atomic.Int64
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				res, err := f.client.Get("http://x/")
				if err == nil {
					res.Body.Close()
				}
				n.Add(1)
				if err != nil || res.StatusCode != 200 {
					bad.Add(1)
				}
			}
		})
	}
	for i := 0; ctx.Err() == nil; i++ {
		f.SetTable(tables[i%len(tables)])
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	if bad.Load() > 0 || n.Load() == 0 {
		t.Errorf("%d of %d requests failed", bad.Load(), n.Load())
	}
}
