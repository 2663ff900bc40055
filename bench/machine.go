package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
)

// sysctls writes each key=value below /proc/sys, for the calling thread's network namespace.
func sysctls(settings ...string) error {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	return nil
}

// softirqTime returns the run time of the first n CPUs' ksoftirqd threads. Softirq work that they do not do runs in the context of
// the process it interrupts, whose own CPU time includes it (CONFIG_IRQ_TIME_ACCOUNTING is off in common kernels).
//
// A thread that this process cannot see, as in a container, counts as 0. Source: Linux Documentation/scheduler/sched-stats.rst.
func softirqTime(n int) (time.Duration, error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, file := range comms {
		comm, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		cpu, ok := strings.CutPrefix(strings.TrimSpace(string(comm)), "ksoftirqd/")
		if i, err := strconv.Atoi(cpu); !ok || err != nil || i >= n {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(file), "schedstat"))
		if err != nil {
			return 0, fmt.Errorf("ksoftirqd: %w", err)
		}
		run, _, _ := strings.Cut(string(stat), " ")
		ns, err := strconv.ParseInt(run, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("ksoftirqd: schedstat: %w", err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// offloads are the features of a link that make one large segment of many packets.
// Source: Linux net/ethtool/common.c, netdev_features_strings.
var offloads = [...]string{
	"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation",
	"tx-generic-segmentation", "rx-gro",
}

// segment turns the offloads of all links at both ends of p off; restore turns those on again that were on.
func segment(p *Path) (restore func() error, err error) {
	var undo []func() error
	restore = func() error {
		var err error
		for _, f := range undo {
			err = errors.Join(err, f())
		}
		return err
	}
	for _, ns := range []*netns.Namespace{p.Client, p.Server} {
		links, err := linkNames(ns)
		if err != nil {
			return nil, errors.Join(err, restore())
		}
		for _, link := range links {
			was, err := offloadsOff(ns, link)
			if err != nil {
				return nil, errors.Join(err, restore())
			}
			undo = append(undo, func() error { return setFeatures(ns, link, was) })
		}
	}
	return restore, nil
}

// offloadsOff turns link's offloads off and returns those that were on.
func offloadsOff(ns *netns.Namespace, link string) (was map[string]bool, err error) {
	was, off := map[string]bool{}, map[string]bool{}
	err = withEthtool(ns, func(e *ethtool.Ethtool) error {
		features, err := e.Features(link)
		if err != nil {
			return err
		}
		for _, name := range offloads {
			if features[name] {
				was[name], off[name] = true, false
			}
		}
		return e.Change(link, off)
	})
	if err != nil {
		return nil, fmt.Errorf("link %s: offloads: %w", link, err)
	}
	return was, nil
}

func setFeatures(ns *netns.Namespace, link string, features map[string]bool) error {
	err := withEthtool(ns, func(e *ethtool.Ethtool) error { return e.Change(link, features) })
	if err != nil {
		return fmt.Errorf("link %s: offloads: %w", link, err)
	}
	return nil
}

// withEthtool gives fn a socket that speaks for ns.
func withEthtool(ns *netns.Namespace, fn func(*ethtool.Ethtool) error) error {
	return ns.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		return fn(e)
	})
}

// kernelRelease is what uname -r prints.
func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// cpuModel is the first model name of /proc/cpuinfo, "unknown" on machines whose cpuinfo has none.
func cpuModel() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown", nil
}
