package monitor

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/weft-net/weft/table"
)

// goodStatus is what counts if a monitor names no code.
var goodStatus = []uint16{http.StatusOK}

// askHTTP sends one request and judges status and body. Redirects are answers
// like others.
func askHTTP(_ context.Context, conn net.Conn, t Target) error {
	m := t.Monitor
	if _, err := conn.Write(request(t)); err != nil {
		return err
	}
	asked := fmt.Sprintf("%s %s%s", method(m), t.Addr, target(m))
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), &http.Request{Method: method(m)})
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s: the answer ends early", asked)
		}
		return fmt.Errorf("%s: %w", asked, err)
	}
	defer resp.Body.Close()
	codes := m.Codes
	if len(codes) == 0 {
		codes = goodStatus
	}
	if !slices.Contains(codes, uint16(resp.StatusCode)) {
		return fmt.Errorf("%s: status %d (%s)", asked, resp.StatusCode, strings.Trim(fmt.Sprint(codes), "[]"))
	}
	if m.Receive == "" {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if bytes.Contains(body, []byte(m.Receive)) {
		return nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("%s: answer without %q", asked, shorten(m.Receive))
}

func method(m *table.Monitor) string { return cmp.Or(m.Method, http.MethodGet) }
func target(m *table.Monitor) string { return cmp.Or(m.URL, "/") }

// request returns the bytes of t's request. What the monitor says is sent as it
// stands, because it may want to see how a member treats it.
func request(t Target) []byte {
	m := t.Monitor
	var b bytes.Buffer
	version := "HTTP/1.1"
	if m.Version == "HTTP_VERSION_1_0" {
		version = "HTTP/1.0"
	}
	fmt.Fprintf(&b, "%s %s %s\r\n", method(m), target(m), version)
	given := func(name string) bool {
		return slices.ContainsFunc(m.Headers, func(h table.Header) bool { return strings.EqualFold(h.Name, name) })
	}
	header := func(name, value string) {
		if !given(name) {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	header("Host", cmp.Or(m.VerifyName, t.Addr.String()))
	header("User-Agent", "weft-monitor")
	header("Connection", "close")
	if m.Send != "" {
		header("Content-Length", fmt.Sprint(len(m.Send)))
	}
	for _, h := range m.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n" + m.Send)
	return b.Bytes()
}

// askHTTPS is askHTTP within TLS.
func askHTTPS(ctx context.Context, conn net.Conn, t Target) error {
	config, err := tlsConfig(t.Monitor)
	if err != nil {
		return err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%s: %w", t.Addr, err)
	}
	return askHTTP(ctx, secure, t)
}

// tlsConfig checks a certificate against the monitor's authorities, if it has
// any, and for its name, if it has one.
func tlsConfig(m *table.Monitor) (*tls.Config, error) {
	config := &tls.Config{ServerName: m.VerifyName, InsecureSkipVerify: true} // see VerifyConnection
	if m.VerifyCA == "" {
		return config, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(m.VerifyCA)) {
		return nil, fmt.Errorf("monitor %s: certificate authorities: are no PEM certificates", m.Path)
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: m.VerifyName})
		return err
	}
	return config, nil
}
