package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// guarded is what the host's own stack does with a port's device: it takes no
// IPv4 packet from there, as it has no route back, forwards none, and speaks no
// IPv6. Source: Documentation/networking/ip-sysctl.rst.
var guarded = []struct{ key, value string }{
	{"ipv4/conf/%s/rp_filter", "1"}, {"ipv4/conf/%s/forwarding", "0"}, {"ipv6/conf/%s/disable_ipv6", "1"},
}

// guard closes the host's stack to the device of a port, which it would get
// frames from if the device lost its program. What is right already is not
// written: /proc/sys may be read-only.
func guard(ifindex int) error {
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	for _, g := range guarded {
		path := filepath.Join("/proc/sys/net", fmt.Sprintf(g.key, device.Attrs().Name))
		now, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(g.key, "ipv6/") {
			continue // a kernel without IPv6
		}
		if err == nil && strings.TrimSpace(string(now)) != g.value {
			err = os.WriteFile(path, []byte(g.value), 0o644)
		}
		if err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	return nil
}
