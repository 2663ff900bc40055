// Package ingress is an ingress controller and the proxy that it steers, in one
// program.
//
//	table.go      what becomes of a request: an immutable value
//	path.go       hosts and paths in the one form that tables have
//	class.go      whose Ingresses are served; build.go makes objects a Table and says what is wrong with them
//	backend.go    a Service's port to its endpoints; certificate.go a Secret to a certificate
//	proxy.go      answers requests by the Table; forward.go sends them on
//	failure.go    what a client is told; explain.go which rule drops the way to an endpoint
//	controller.go follows the objects; publish.go tells what became of them
//	main.go       the program; serve.go its listeners; metrics.go what it counts
package ingress

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Table says what becomes of every request. It is never changed once it is
// made: a change of the objects behind it makes another one.
type Table struct {
	// Hosts is by host name in lower case; "*.example.com" stands for all
	// names one label below, "" for every other one.
	Hosts map[string]*Host
	// Certificates is by the same names; "" is the one for every other name
	// and for clients that name no host.
	Certificates map[string]*Certificate
	Ingresses    []types.NamespacedName // whose rules these are, sorted
}

// Host is the paths of one host name.
type Host struct {
	Exact  map[string]*Route // by canonical path
	Prefix map[string]*Route // by canonical path without the slash at its end: "/" is ""
	// Longest is the length of the longest key of Prefix: it bounds what a
	// request's path can cost.
	Longest  int
	Fallback *Route // what no path takes; nil: nothing
}

// Route is where one path of a host leads.
type Route struct {
	Ingress  types.NamespacedName
	Path     string        // as the Ingress has it; empty: its default backend
	Redirect bool          // plain HTTP is sent to HTTPS
	Timeout  time.Duration // from the end of the request to the first header of the response; 0: no limit
	Upstream *Upstream
}

// Upstream is a port of a Service.
type Upstream struct {
	Service   types.NamespacedName
	Port      string           // its name, or its number if it has none
	Endpoints []netip.AddrPort // that take requests, sorted
	HTTP2     bool             // they speak HTTP/2 without TLS
	Broken    string           // why there are no endpoints; empty iff there are some
}

// Certificate is what a TLS Secret holds.
type Certificate struct {
	Secret types.NamespacedName
	TLS    *tls.Certificate
}

// Route returns where a request for a host and a canonical path leads, nil if
// nobody asked for it.
//
// The most specific name that fits the host decides alone: who names a host
// need not share it with those who name many. What its paths leave over goes to
// its default backend, then to that of all hosts.
func (t *Table) Route(host, path string) *Route {
	for _, name := range fits(host) {
		if h := t.Hosts[name]; h != nil {
			if r := h.route(path); r != nil {
				return r
			}
			break
		}
	}
	if h := t.Hosts[""]; h != nil {
		return h.Fallback
	}
	return nil
}

// Certificate returns what to show to a client that asks for host, nil if there
// is nothing.
func (t *Table) Certificate(host string) *tls.Certificate {
	for _, name := range fits(host) {
		if c := t.Certificates[name]; c != nil {
			return c.TLS
		}
	}
	return nil
}

// fits returns the keys of a table that stand for host, the most specific
// first.
func fits(host string) [3]string {
	if _, rest, ok := strings.Cut(host, "."); ok {
		return [3]string{host, "*." + rest, ""}
	}
	return [3]string{host, host, ""}
}

// route returns what takes a path: the longest one does, an exact one before a
// prefix. Its cost does not depend on how long the path is.
func (h *Host) route(path string) *Route {
	if r := h.Exact[path]; r != nil {
		return r
	}
	if len(path) > h.Longest {
		path = upTo(path[:h.Longest+1])
	}
	for {
		if r := h.Prefix[path]; r != nil {
			return r
		}
		if path == "" {
			return h.Fallback
		}
		path = upTo(path)
	}
}

// upTo returns path up to its last slash.
func upTo(path string) string {
	return path[:max(strings.LastIndexByte(path, '/'), 0)]
}
