package netns

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NoDevice reports whether err says that a device is not there. Where somebody
// else removes devices, as the kernel does long after a namespace has gone, that
// may happen between finding one and deleting it.
func NoDevice(err error) bool {
	return errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, unix.ENODEV)
}
