package monitor

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/table"
)

// direct dials without ports: for members on the loopback device.
type direct struct{}

func (direct) Dial(ctx context.Context, _ table.LBServiceID, network string, to netip.AddrPort) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, to.String())
	if err != nil {
		if no, ok := errors.AsType[syscall.Errno](err); ok {
			err = no
		}
		return nil, err
	}
	return &bounded{conn, context.AfterFunc(ctx, func() { conn.SetDeadline(past) })}, nil
}

// listen serves each connection to a new loopback address by serve.
func listen(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// free is an address on which nothing listens.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// check probes and compares the error's text, in which ADDR stands for the
// address; empty: none.
func check(t *testing.T, d Dialer, at netip.AddrPort, m *table.Monitor, want string) {
	t.Helper()
	if m.Timeout == 0 {
		m.Timeout = 5
	}
	got := ""
	if err := Probe(t.Context(), d, Target{Monitor: m, Addr: at, Service: 1}); err != nil {
		got = err.Error()
	}
	if want = strings.ReplaceAll(want, "ADDR", at.String()); got != want {
		t.Errorf("%+v:\n got %q\nwant %q", *m, got, want)
	}
}

func TestTCP(t *testing.T) {
	greeting := listen(t, func(c net.Conn) {
		io.WriteString(c, "220 mail")
		got := make([]byte, 4)
		io.ReadFull(c, got)
		fmt.Fprintf(c, " %s ok", got)
	})
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	check(t, direct{}, greeting, &table.Monitor{Kind: table.MonitorTCP}, "")
	check(t, direct{}, greeting, &table.Monitor{Kind: table.MonitorTCP, Receive: "220"}, "")
	check(t, direct{}, greeting, &table.Monitor{Kind: table.MonitorTCP, Send: "EHLO", Receive: "EHLO ok"}, "")
	check(t, direct{}, greeting, &table.Monitor{Kind: table.MonitorTCP, Send: "EHLO", Receive: "250"}, `tcp: ADDR: answer without "250"`)
	check(t, direct{}, silent, &table.Monitor{Kind: table.MonitorTCP, Send: "x", Receive: "y", Timeout: 1}, "tcp: ADDR: no answer within 1s")
	check(t, direct{}, free(t), &table.Monitor{Kind: table.MonitorTCP}, "tcp: connect ADDR: connection refused")
}

func TestHTTP(t *testing.T) {
	var last *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		last, body = r, string(got)
		switch r.URL.Path {
		case "/moved":
			w.Header().Set("Location", "/")
			w.WriteHeader(http.StatusFound)
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			io.WriteString(w, "status: all is well\n")
		}
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	kind := table.MonitorHTTP
	check(t, direct{}, at, &table.Monitor{Kind: kind}, "")
	if last.Method != "GET" || last.URL.Path != "/" || last.Host != at.String() || last.Proto != "HTTP/1.1" {
		t.Errorf("the plain request is %s %s of %s, %s", last.Method, last.URL, last.Host, last.Proto)
	}
	check(t, direct{}, at, &table.Monitor{Kind: kind, Receive: "all is well"}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, Receive: "all is lost"}, `http: GET ADDR/: answer without "all is lost"`)
	check(t, direct{}, at, &table.Monitor{Kind: kind, URL: "/broken"}, "http: GET ADDR/broken: status 503 (200)")
	check(t, direct{}, at, &table.Monitor{Kind: kind, URL: "/broken", Codes: []uint16{200, 503}}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, URL: "/moved"}, "http: GET ADDR/moved: status 302 (200)")
	check(t, direct{}, at, &table.Monitor{
		Kind: kind, Method: "POST", URL: "/health?deep=1", Version: "HTTP_VERSION_1_0", Send: "are you there",
		Headers: []table.Header{{Name: "Host", Value: "web.example"}, {Name: "X-Who", Value: "weft"}},
	}, "")
	if last.Method != "POST" || last.URL.String() != "/health?deep=1" || last.Host != "web.example" || last.Proto != "HTTP/1.0" || last.Header.Get("X-Who") != "weft" || body != "are you there" {
		t.Errorf("the whole request is %s %s of %s, %s, %v: %q", last.Method, last.URL, last.Host, last.Proto, last.Header, body)
	}
	check(t, direct{}, at, &table.Monitor{Kind: kind, Method: "HEAD"}, "")
	check(t, direct{}, listen(t, func(net.Conn) {}), &table.Monitor{Kind: kind}, "http: GET ADDR/: the answer ends early")
	check(t, direct{}, listen(t, func(c net.Conn) { io.WriteString(c, "220 mail\r\n\r\n") }), &table.Monitor{Kind: kind},
		`http: GET ADDR/: malformed HTTP status code "mail"`)
	check(t, direct{}, listen(t, func(c net.Conn) { io.Copy(io.Discard, c) }), &table.Monitor{Kind: kind, Timeout: 1}, "http: ADDR: no answer within 1s")
}

func TestHTTPAnswerIsBounded(t *testing.T) {
	at := listen(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n")
		for {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	check(t, direct{}, at, &table.Monitor{Kind: table.MonitorHTTP, Receive: "x"}, `http: GET ADDR/: answer without "x"`)
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "name "+r.TLS.ServerName)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	// httptest's certificate is its own authority, for example.com and 127.0.0.1.
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	kind := table.MonitorHTTPS
	check(t, direct{}, at, &table.Monitor{Kind: kind}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, VerifyCA: authority}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, VerifyCA: authority, VerifyName: "example.com", Receive: "name example.com"}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, VerifyName: "another.org"}, "") // nothing to check it against
	check(t, direct{}, at, &table.Monitor{Kind: kind, VerifyCA: "none", Path: "/m"}, "https: monitor /m: certificate authorities: are no PEM certificates")
	for _, tc := range []struct {
		ca, name, want string
	}{
		{authority, "another.org", "certificate is valid for example.com, *.example.com, not another.org"},
		{otherAuthority(t), "", "x509: "},
	} {
		err := Probe(t.Context(), direct{}, Target{Addr: at, Monitor: &table.Monitor{Kind: kind, Timeout: 5, VerifyCA: tc.ca, VerifyName: tc.name}})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "https: "+at.String()+": ") {
			t.Errorf("name %q: %v, want %q", tc.name, err, tc.want)
		}
	}
	check(t, direct{}, listen(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\n") }), &table.Monitor{Kind: kind},
		"https: ADDR: tls: first record does not look like a TLS handshake")
}

// otherAuthority returns a certificate that signed no server's.
func otherAuthority(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

func TestUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			if string(b[:n]) != "quiet" {
				server.WriteTo([]byte("<"+string(b[:n])+">"), from)
			}
		}
	}()
	at := netip.MustParseAddrPort(server.LocalAddr().String())
	kind := table.MonitorUDP
	check(t, direct{}, at, &table.Monitor{Kind: kind, Send: "ping", Receive: "ping>"}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, Send: "ping"}, "")
	check(t, direct{}, at, &table.Monitor{Kind: kind, Send: "ping", Receive: "pong"}, `udp: ADDR: answer without "pong"`)
	check(t, direct{}, at, &table.Monitor{Kind: kind, Send: "quiet", Receive: "x", Timeout: 1}, "udp: ADDR: no answer within 1s")
	check(t, direct{}, free(t), &table.Monitor{Kind: kind, Send: "x", Receive: "x"}, "udp: read ADDR: connection refused")
}

func TestProbeEndsWithItsContext(t *testing.T) {
	at := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Probe(ctx, direct{}, Target{Addr: at, Monitor: &table.Monitor{Kind: table.MonitorTCP, Timeout: 60, Receive: "x"}})
	}()
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a probe that was broken off went well")
		}
	case <-time.After(10 * time.Second):
		t.Error("the probe goes on")
	}
}
