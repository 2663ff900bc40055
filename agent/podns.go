package agent

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/internal/netns"
)

// RemovePair removes the pair of an attachment without an agent, by its end in
// the pod or by the one in the current namespace. One that is not there is no
// error, nor is a namespace that is gone; a device of that name that is not of
// this attachment stays. The agent drops the record when it comes up.
//
// path may be empty: the pod's namespace is not known any more.
func RemovePair(path string, key AttachmentKey) error {
	if err := (veths{}).Remove(key.device()); err != nil || path == "" {
		return err
	}
	pod, err := netns.OpenPath(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNoNamespace) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pod.Close()
	return pod.Do(func() error {
		l, err := linkOf(key.Interface)
		if err != nil || l == nil || l.Attrs().Alias != key.device() {
			return err
		}
		if err := netlink.LinkDel(l); err != nil && !netns.NoDevice(err) {
			return fmt.Errorf("netns %s: interface %s: %w", path, key.Interface, err)
		}
		return nil
	})
}

// RaiseLoopback brings up the loopback device of the namespace that path stands
// for.
func RaiseLoopback(path string) error {
	pod, err := netns.OpenPath(path)
	if err != nil {
		return refuse(NoNamespace, "loopback: %v", err)
	}
	defer pod.Close()
	return pod.Do(func() error { return veths{}.Raise("lo") })
}
