// Package pki makes the certificates by which Weft's processes know each other,
// and those of a lab's Kubernetes: a certificate authority in a directory, and
// what it vouches for.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// How long certificates live. One is made anew when less than a third is left.
const (
	YearLong = 365 * 24 * time.Hour // of what a CA vouches for, unless the Request says otherwise
	caLife   = 10 * YearLong
)

// backdate is how far clocks may be apart.
const backdate = 5 * time.Minute

// CA is a certificate authority. It is safe for concurrent use.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Ensure returns the CA in a directory, which it makes if it is not there yet:
// ca.crt, and ca.key that only its owner may read. Whoever else asks for it at
// the same time gets the same.
// Errors: the files can not be read or do not belong together; the CA ran out.
func Ensure(dir, name string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	defer unlock()
	ca := &CA{dir: dir}
	ca.cert, ca.key, err = read(filepath.Join(dir, "ca"))
	if errors.Is(err, fs.ErrNotExist) {
		ca.cert, ca.key, err = selfSigned(filepath.Join(dir, "ca"), name)
	}
	if err == nil && time.Now().After(ca.cert.NotAfter) {
		err = fmt.Errorf("%s: ran out at %s (remove the directory; all certificates must be issued anew then)", ca.Cert(), ca.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return ca, nil
}

// Cert returns the file of the CA's own certificate.
func (ca *CA) Cert() string { return filepath.Join(ca.dir, "ca.crt") }

// Key returns the file of the CA's private key.
func (ca *CA) Key() string { return filepath.Join(ca.dir, "ca.key") }

// PEM returns the CA's own certificate.
func (ca *CA) PEM() []byte { return encodeCert(ca.cert.Raw) }

// Pool returns what verifies the certificates that ca vouches for.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Request says what a certificate is for.
type Request struct {
	Name   string        // common name
	Groups []string      // organizations, which Kubernetes takes for a user's groups
	Hosts  []string      // names and addresses by which a server is called
	Server bool          // it may serve
	Client bool          // it may be a client
	Life   time.Duration // 0: YearLong
}

// Issue returns a new certificate and its private key, as PEM.
func (ca *CA) Issue(r Request) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	t, err := template(r.Name, r.life())
	if err != nil {
		return nil, nil, fmt.Errorf("pki: %w", err)
	}
	t.Subject.Organization = r.Groups
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = r.usages()
	for _, host := range r.Hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			t.IPAddresses = append(t.IPAddresses, addr.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, ca.cert, private.Public(), ca.key)
	if err != nil {
		return nil, nil, fmt.Errorf("pki: certificate %s: %w", r.Name, err)
	}
	key, err = encodeKey(private)
	return encodeCert(raw), key, err
}

func (r Request) life() time.Duration {
	if r.Life == 0 {
		return YearLong
	}
	return r.Life
}

func (r Request) usages() (out []x509.ExtKeyUsage) {
	if r.Server {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	if r.Client {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	return out
}

// Ensure makes the files path.crt and path.key, the latter for its owner only,
// unless they are there, are what r asks for, and more than a third of their
// life is left.
func (ca *CA) Ensure(path string, r Request) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer unlock()
	if cert, _, err := read(path); err == nil && ca.good(cert, r) {
		return nil
	}
	cert, key, err := ca.Issue(r)
	if err != nil {
		return err
	}
	return write(path, cert, key)
}

// good says whether cert is what r asks for, for some time to come.
func (ca *CA) good(cert *x509.Certificate, r Request) bool {
	var hosts []string
	for _, ip := range cert.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	hosts = append(hosts, cert.DNSNames...)
	slices.Sort(hosts)
	var want []string
	for _, host := range r.Hosts {
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.String()
		}
		want = append(want, host)
	}
	slices.Sort(want)
	return cert.CheckSignatureFrom(ca.cert) == nil && time.Until(cert.NotAfter) > cert.NotAfter.Sub(cert.NotBefore)/3 &&
		cert.Subject.CommonName == r.Name && slices.Equal(slices.Sorted(slices.Values(cert.Subject.Organization)), slices.Sorted(slices.Values(r.Groups))) &&
		slices.Equal(hosts, want) && slices.Equal(cert.ExtKeyUsage, r.usages())
}

// renewEvery is how often a server looks at its certificate.
const renewEvery = time.Hour

// Server returns the configuration of a server with the certificate at path,
// which it makes and renews as Ensure does. It knows clients that ca vouches
// for; whether it wants them is for its caller to say.
func (ca *CA) Server(path string, r Request) (*tls.Config, error) {
	r.Server = true
	var mu sync.Mutex
	var cert *tls.Certificate
	var looked time.Time
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if cert != nil && time.Since(looked) < renewEvery {
			return cert, nil
		}
		err := ca.Ensure(path, r)
		var c tls.Certificate
		if err == nil {
			c, err = tls.LoadX509KeyPair(path+".crt", path+".key")
		}
		switch {
		case err == nil:
			cert = &c
		case cert == nil || time.Now().After(cert.Leaf.NotAfter):
			return nil, fmt.Errorf("pki: %w", err)
		}
		looked = time.Now() // what can not be renewed now is good as long as it lives
		return cert, nil
	}
	if _, err := get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{GetCertificate: get, ClientCAs: ca.Pool(), MinVersion: tls.VersionTLS12}, nil
}

func selfSigned(path, name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t, err := template(name, caLife)
	if err != nil {
		return nil, nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	raw, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	key, err := encodeKey(private)
	if err != nil {
		return nil, nil, err
	}
	if err := write(path, encodeCert(raw), key); err != nil {
		return nil, nil, err
	}
	return read(path)
}

// template returns what all certificates have.
func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
	}, nil
}
