// Package client asks weftd for intent, and gives it some, by its policy API.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/weft-net/weft/policyapi"
)

// DefaultServer is where weftd listens unless it is told otherwise.
const DefaultServer = "unix:" + DefaultSocket

// DefaultSocket is the path of DefaultServer.
const DefaultSocket = "/run/weft/weftd.sock"

// ServerEnv is the environment variable that names another server. Commands
// read it.
const ServerEnv = "WEFT_SERVER"

// Options say where weftd is, and how both sides know each other. Errors name
// them by the flags that commands have for them.
type Options struct {
	Server    string // unix:PATH or https://HOST:PORT; empty: DefaultServer
	CA        string // file with the certificates that weftd's must be signed by; empty: the system's
	Cert, Key string // files with the certificate to show and its key; both or none
}

// OptionError is that Options cannot be meant.
type OptionError struct{ text string }

// Error implements error.
func (e *OptionError) Error() string { return e.text }

// Client speaks to one weftd. It is safe for concurrent use.
type Client struct {
	address string
	http    *http.Client
	base    string // URL of the policy API
}

// New returns a client; it does not dial yet.
// Errors: *OptionError; those of files that cannot be read.
func New(o Options) (*Client, error) {
	o.Server = cmp.Or(o.Server, DefaultServer)
	transport := &http.Transport{}
	c := &Client{address: o.Server, http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(o.Server, "unix:"); ok {
		if o.CA+o.Cert+o.Key != "" {
			return nil, &OptionError{fmt.Sprintf("--ca, --cert, --key: are for https only (--server is %s)", o.Server)}
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", strings.TrimPrefix(path, "//"))
		}
		c.base = "http://weftd" + policyapi.Base
		return c, nil
	}
	u, err := url.Parse(o.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, &OptionError{fmt.Sprintf("--server: %q: is not a server (unix:PATH, https://HOST:PORT)", o.Server)}
	}
	c.base = "https://" + u.Host + policyapi.Base
	if transport.TLSClientConfig, err = o.tls(); err != nil {
		return nil, err
	}
	return c, nil
}

// tls returns how to know weftd, and how it knows us.
func (o Options) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca: %s: has no certificate (want PEM)", o.CA)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, &OptionError{"--cert, --key: one is missing (both or none)"}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Request is one question to weftd.
type Request struct {
	Method    string
	Path      string // policy path
	Query     url.Values
	Body      []byte
	Overwrite bool // change what a controller made, too
}

// Do asks weftd and decodes the answer into out, raw if that is a *[]byte.
// Errors: *policyapi.Error if weftd refuses; an answer that is not understood,
// or none.
func (c *Client) Do(ctx context.Context, q Request, out any) error {
	at := c.base + (&url.URL{Path: q.Path}).EscapedPath()
	if len(q.Query) > 0 {
		at += "?" + q.Query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, at, bytes.NewReader(q.Body))
	if err != nil {
		return err
	}
	r.Header.Set("Prefer", "return=representation")
	if q.Overwrite {
		r.Header.Set(policyapi.Overwrite, "true")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which people did not give
		}
		return fmt.Errorf("weftd at %s: %w (--server or %s says where it is)", c.address, err, ServerEnv)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("weftd at %s: %w", c.address, err)
	}
	if resp.StatusCode != http.StatusOK {
		refusal := &policyapi.Error{Status: resp.StatusCode}
		if json.Unmarshal(data, refusal) != nil || refusal.Message == "" {
			return fmt.Errorf("weftd at %s: answers %s", c.address, resp.Status)
		}
		return refusal
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = data
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("weftd at %s: answers what is no JSON: %w", c.address, err)
	}
	return nil
}
