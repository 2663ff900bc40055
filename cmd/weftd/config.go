package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
)

// config is a command line.
type config struct {
	data      string   // directory of all that weftd keeps
	endpoints []string // of an etcd; none: it has its own
	etcd      tlsFiles // for endpoints
	pki       string   // directory of the CA
	socket    string   // unix socket of its HTTP
	https     string   // TCP address of the same; empty: none
	names     []string // by which that address is called
	agents    []string // where it listens for agents

	kubeconfig string // of the Kubernetes whose objects make intent; empty: none
	cert       *certCommand
}

// tlsFiles are PEM files.
type tlsFiles struct{ ca, cert, key string }

const unixPrefix = "unix:"

// defaultAgents is where weftd listens for agents unless it is told otherwise.
const defaultAgents = "unix:/run/weft/agents.sock"

// parse reads a command line.
// Errors: flag.ErrHelp if help is wanted; what is wrong.
func parse(args []string, w io.Writer) (*config, error) {
	c := &config{}
	if len(args) > 0 && args[0] == "cert" {
		c.cert = &certCommand{}
		args = args[1:]
	}
	f := flag.NewFlagSet("weftd", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.data, "data", "/var/lib/weftd", "`directory` of what it keeps: etcd's data, unless --etcd-endpoints is given, and the certificates")
	f.StringVar(&c.pki, "pki", "", "`directory` of the certificate authority, made on first start (default <data>/pki)")
	if c.cert != nil {
		f.StringVar(&c.cert.out, "out", ".", "`directory` that the certificate, its key and that of the authority are written to")
	} else {
		c.serveFlags(f)
	}
	positional, err := parseMixed(f, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(w, usage)
		f.SetOutput(w)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, err
	}
	if c.pki == "" {
		c.pki = filepath.Join(c.data, "pki")
	}
	if c.cert != nil {
		return c, c.cert.take(positional)
	}
	if len(positional) > 0 {
		return nil, fmt.Errorf("%q: is no flag", positional[0])
	}
	if len(c.agents) == 0 {
		c.agents = []string{defaultAgents}
	}
	return c, c.check()
}

// serveFlags are those of the server.
func (c *config) serveFlags(f *flag.FlagSet) {
	add := func(to *[]string) func(string) error {
		return func(value string) error {
			for part := range strings.SplitSeq(value, ",") {
				if part == "" {
					return errors.New("has an empty part")
				}
				*to = append(*to, part)
			}
			return nil
		}
	}
	f.Func("etcd-endpoints", "`endpoints` of an etcd, separated by commas, instead of one in this process", add(&c.endpoints))
	f.StringVar(&c.etcd.ca, "etcd-ca", "", "PEM `file` with who vouches for that etcd (default the system's)")
	f.StringVar(&c.etcd.cert, "etcd-cert", "", "PEM `file` with a certificate for that etcd")
	f.StringVar(&c.etcd.key, "etcd-key", "", "PEM `file` with its private key")
	f.StringVar(&c.socket, "socket", "/run/weft/weftd.sock", "unix `socket` that it serves, for its user only")
	f.StringVar(&c.https, "https", "", "TCP `address`, such as :6640, to serve the same at, for clients with a certificate (default none)")
	f.Func("https-names", "`names` or addresses by which --https is called, separated by commas (beside this host's)", add(&c.names))
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "`file` that leads to the Kubernetes whose objects make intent (default none)")
	f.Func("agents", "`address` to listen for agents at, unix:<path> or host:port; may be repeated (default "+defaultAgents+")", add(&c.agents))
}

// parseMixed parses flags before, between and behind the other arguments.
func parseMixed(f *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return positional, nil
		}
		positional = append(positional, f.Arg(0))
		args = f.Args()[1:]
	}
}

// check says what is wrong with c by itself.
func (c *config) check() error {
	for _, address := range c.agents {
		if path, local := strings.CutPrefix(address, unixPrefix); local && path == "" || !local && !isTCP(address) {
			return fmt.Errorf("agents %q: is no address (unix:/run/weft/agents.sock, or host:port)", address)
		}
	}
	switch {
	case c.https != "" && !isTCP(c.https):
		return fmt.Errorf("https %q: is no address (host:port)", c.https)
	case len(c.endpoints) == 0 && c.etcd != tlsFiles{}:
		return errors.New("etcd-ca, etcd-cert, etcd-key: need --etcd-endpoints")
	case (c.etcd.cert == "") != (c.etcd.key == ""):
		return errors.New("etcd-cert, etcd-key: one is missing (both or none)")
	}
	return nil
}

func isTCP(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}
