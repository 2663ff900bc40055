package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func ensure(t *testing.T, dir string) *CA {
	t.Helper()
	ca, err := Ensure(dir, "weft")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func contents(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEnsureMakesOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	var wg sync.WaitGroup
	certs := make([][]byte, 8)
	for i := range certs {
		wg.Go(func() {
			if ca, err := Ensure(dir, "weft"); err == nil {
				certs[i] = ca.PEM()
			}
		})
	}
	wg.Wait()
	for _, c := range certs {
		if len(c) == 0 || !bytes.Equal(c, certs[0]) {
			t.Fatal("not everybody got the same CA")
		}
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("ca.key: %v %v", info.Mode(), err)
	}
}

// Clients and servers of one CA know each other, and nobody else.
func TestMutual(t *testing.T) {
	dir := t.TempDir()
	ca, other := ensure(t, filepath.Join(dir, "a")), ensure(t, filepath.Join(dir, "b"))
	server, err := ca.Server(filepath.Join(dir, "a", "server"), Request{Name: "weftd", Hosts: []string{"weftd", "127.0.0.1", "::1"}})
	if err != nil {
		t.Fatal(err)
	}
	server.ClientAuth = tls.RequireAndVerifyClientCert
	for _, tt := range []struct {
		name   string
		issuer *CA
		trusts *CA
		client bool
		to     string
		want   string // empty: it works
	}{
		{"same CA", ca, ca, true, "weftd", ""},
		{"by address", ca, ca, true, "::1", ""},
		{"client of another CA", other, ca, true, "weftd", "certificate"},
		{"server of another CA", ca, other, true, "weftd", "unknown authority"},
		{"a certificate for servers", ca, ca, false, "weftd", "certificate"},
		{"another name", ca, ca, true, "elsewhere", "not elsewhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert, key, err := tt.issuer.Issue(Request{Name: "agent:a", Groups: []string{"system:nodes"}, Client: tt.client, Server: !tt.client})
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			name, err := handshake(server, &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: tt.trusts.Pool(), ServerName: tt.to})
			switch {
			case tt.want == "" && (err != nil || name != "agent:a"):
				t.Errorf("%s: %v", name, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// handshake returns the common name that the server sees.
func handshake(server, client *tls.Config) (string, error) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s := tls.Server(far, server)
	ended := make(chan error, 1)
	go func() {
		err := s.Handshake()
		far.Close()
		ended <- err
	}()
	c := tls.Client(near, client)
	err := c.Handshake()
	if err == nil {
		if _, err = c.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	near.Close()
	if err2 := <-ended; err2 != nil {
		return "", errors.Join(err, err2)
	}
	return s.ConnectionState().PeerCertificates[0].Subject.CommonName, err
}

func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	ca, path := ensure(t, dir), filepath.Join(dir, "x")
	first := Request{Name: "x", Hosts: []string{"b", "a", "10.0.0.1"}, Server: true, Client: true, Life: time.Hour}
	made := func(r Request) string {
		t.Helper()
		if err := ca.Ensure(path, r); err != nil {
			t.Fatal(err)
		}
		return string(contents(t, path+".crt"))
	}
	was := made(first)
	if made(first) != was {
		t.Error("a good certificate was made anew")
	}
	if info, err := os.Stat(path + ".key"); err != nil || info.Mode() != 0o600 {
		t.Errorf("key: %v %v", info.Mode(), err)
	}
	for name, r := range map[string]Request{
		"name":   {Name: "y", Hosts: first.Hosts, Server: true, Client: true, Life: time.Hour},
		"hosts":  {Name: "x", Hosts: []string{"a"}, Server: true, Client: true, Life: time.Hour},
		"groups": {Name: "x", Groups: []string{"g"}, Hosts: first.Hosts, Server: true, Client: true, Life: time.Hour},
		"usage":  {Name: "x", Hosts: first.Hosts, Server: true, Life: time.Hour},
	} {
		was := made(first)
		if made(r) == was {
			t.Errorf("another %s: the certificate stayed", name)
		}
	}
	// Backdating makes its life five minutes longer: 2 of 7 minutes are left.
	short := first
	short.Life = 2 * time.Minute
	was = made(short)
	if made(short) == was {
		t.Error("a certificate with less than a third of its life stayed")
	}
	was = made(first)
	if err := os.WriteFile(path+".key", contents(t, ca.Key()), 0o600); err != nil {
		t.Fatal(err)
	}
	if made(first) == was {
		t.Error("a certificate with the wrong key stayed")
	}
	if err := os.RemoveAll(ca.Cert()); err != nil {
		t.Fatal(err)
	}
	was = made(first)
	ca = ensure(t, dir)
	if made(first) == was {
		t.Error("a certificate of another CA stayed")
	}
}

func TestEnsureRefuses(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir)
	if err := EnsureKey(filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "other.key"), filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, "weft"); err == nil || !strings.HasSuffix(err.Error(), "ca.key: is not the key of "+filepath.Join(dir, "ca.crt")) {
		t.Errorf("wrong key: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Ensure(dir, "weft"); err == nil || !strings.Contains(err.Error(), "ca.key: is missing") {
		t.Errorf("no key: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600)
	if _, err := Ensure(dir, "weft"); err == nil || !strings.HasSuffix(err.Error(), "ca.crt: has no certificate") {
		t.Errorf("no certificate: %v", err)
	}
}

func TestEnsureKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sa")
	if err := EnsureKey(path); err != nil {
		t.Fatal(err)
	}
	private, public := contents(t, path+".key"), contents(t, path+".pub")
	if err := EnsureKey(path); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contents(t, path+".key"), private) || !bytes.Equal(contents(t, path+".pub"), public) || !strings.Contains(string(public), "PUBLIC KEY") {
		t.Error("the second time there are other keys")
	}
}
