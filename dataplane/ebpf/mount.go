package ebpf

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FS is where the kernel's BPF file system is mounted by convention.
const FS = "/sys/fs/bpf"

// MountFS mounts the BPF file system on /sys/fs/bpf if it is not.
func MountFS() error {
	var st unix.Statfs_t
	if err := unix.Statfs(FS, &st); err != nil {
		return fmt.Errorf("%s: %w", FS, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", FS, "bpf", 0, "mode=700"); err != nil {
		return fmt.Errorf("%s: mount: %w", FS, err)
	}
	return nil
}
