package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts is what a lab needs to know of the machine that it shall run on.
type Facts struct {
	Capabilities uint64 // effective, a bit each; capabilities(7)
	Release      string // of the kernel, such as 6.8.0-45-generic
	BTF          bool   // the kernel describes its types in /sys/kernel/btf/vmlinux
}

// minMajor and minMinor are the first kernel with tcx.
const minMajor, minMinor = 6, 6

// needed are the capabilities that building and entering a lab takes.
var needed = []struct {
	bit  uint
	name string
	why  string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to create and enter network namespaces"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to configure links and addresses"},
}

// Privileges says what f lacks to enter, show or remove a lab.
func (f Facts) Privileges() error {
	for _, c := range needed {
		if f.Capabilities&(1<<c.bit) == 0 {
			return fmt.Errorf("privileges: %s is missing %s (run it as root, in a container with --privileged)", c.name, c.why)
		}
	}
	return nil
}

// Kernel says what f lacks to run the data plane.
func (f Facts) Kernel() error {
	major, minor, ok := parseRelease(f.Release)
	switch {
	case !ok:
		return fmt.Errorf("kernel: %q: is no release that weft can read (%d.%d or newer)", f.Release, minMajor, minMinor)
	case major < minMajor || major == minMajor && minor < minMinor:
		return fmt.Errorf("kernel: %s: has no tcx hooks (boot %d.%d or newer)", f.Release, minMajor, minMinor)
	case !f.BTF:
		return errors.New("kernel: /sys/kernel/btf/vmlinux: is not there (boot a kernel built with CONFIG_DEBUG_INFO_BTF=y)")
	}
	return nil
}

// Ready says what f lacks to build a lab.
func (f Facts) Ready() error {
	if err := f.Privileges(); err != nil {
		return err
	}
	return f.Kernel()
}

// parseRelease reads the two leading numbers of a kernel release.
func parseRelease(release string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, errMajor := strconv.Atoi(first)
	minor, errMinor := strconv.Atoi(rest[:end])
	return major, minor, errMajor == nil && errMinor == nil
}

// Probe collects the Facts of this machine.
func Probe() (Facts, error) {
	var f Facts
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			if f.Capabilities, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
				return f, fmt.Errorf("/proc/self/status: CapEff: %w", err)
			}
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return f, fmt.Errorf("uname: %w", err)
	}
	f.Release = unix.ByteSliceToString(name.Release[:])
	_, err = os.Stat("/sys/kernel/btf/vmlinux")
	f.BTF = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	return f, nil
}
