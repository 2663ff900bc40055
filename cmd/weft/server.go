package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/weft-net/weft/policyapi/client"
)

// server is the weftd that a command speaks to.
type server struct {
	client.Options
	*client.Client // nil before open
}

// flags adds the flags that say where weftd is.
func (s *server) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Server, "server", "", "weftd: unix:PATH or https://HOST:PORT (default: "+client.ServerEnv+", else "+client.DefaultServer+")")
	f.StringVar(&s.CA, "ca", "", "file with the certificates that weftd's must be signed by (default: the system's)")
	f.StringVar(&s.Cert, "cert", "", "file with the certificate to show")
	f.StringVar(&s.Key, "key", "", "file with the key of that certificate")
}

// open makes the client.
func (s *server) open(cmd *cobra.Command) (err error) {
	s.Server = cmp.Or(s.Server, os.Getenv(client.ServerEnv))
	s.Client, err = client.New(s.Options)
	if _, ok := errors.AsType[*client.OptionError](err); ok {
		return usageError(cmd, err)
	}
	return err
}
