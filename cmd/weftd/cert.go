package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/weft-net/weft/control/wire"
	"github.com/weft-net/weft/internal/pki"
)

// certCommand is `weftd cert`.
type certCommand struct {
	kind string // agent or client
	name string
	out  string // directory
}

// caName is the common name of the certificate authority.
const caName = "weft"

// clientPrefix begins the common names of those who may use --https.
const clientPrefix = "client:"

// plainName is what files can be called by.
var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// take reads the arguments that are no flags.
func (c *certCommand) take(args []string) error {
	if len(args) != 2 || args[0] != "agent" && args[0] != "client" {
		return fmt.Errorf("cert %q: is no certificate (cert agent NODE, cert client NAME)", args)
	}
	c.kind, c.name = args[0], args[1]
	if !plainName.MatchString(c.name) {
		return fmt.Errorf("cert %s %q: is no name (letters, digits, _ . -)", c.kind, c.name)
	}
	return nil
}

// issue makes the certificate, unless a good one is there, and says where it
// is.
func (c *config) issue(stdout io.Writer) error {
	ca, err := pki.Ensure(c.pki, caName)
	if err != nil {
		return err
	}
	r := pki.Request{Name: wire.AgentName(c.cert.name), Client: true}
	if c.cert.kind == "client" {
		r.Name = clientPrefix + c.cert.name
	}
	path := filepath.Join(c.cert.out, c.cert.kind+"-"+c.cert.name)
	if err := ca.Ensure(path, r); err != nil {
		return err
	}
	authority := filepath.Join(c.cert.out, "ca.crt")
	if here, err := filepath.Abs(authority); err != nil || here != ca.Cert() {
		if err := os.WriteFile(authority, ca.PEM(), 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "%s.crt\n%s.key\n%s\n", path, path, authority)
	return err
}
