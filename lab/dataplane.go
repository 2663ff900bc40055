package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
)

// pins is where the data plane of plan's host is.
func (s *System) pins(plan *Plan) string {
	return filepath.Join(s.PinDir, plan.Lab, plan.host().Name)
}

// withDriver opens the data plane of plan's host inside its namespace, where
// fn runs too.
func (s *System) withDriver(plan *Plan, fn func(dataplane.Driver) error) error {
	host := plan.host()
	return inside(host.Namespace, func() error {
		d, err := s.Open(s.pins(plan))
		if err != nil {
			return err
		}
		return errors.Join(fn(d), d.Close())
	})
}

// unpin removes what the data plane of a lab keeps alive in the kernel: a
// pinned object lives as long as its name.
func (s *System) unpin(lab string) error {
	if err := os.RemoveAll(filepath.Join(s.PinDir, lab)); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	err := os.Remove(s.PinDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("pins: %w", err)
	}
	return nil
}
