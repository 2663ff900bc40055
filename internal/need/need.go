// Package need lets a test say which privileges and programs it needs.
//
// A test whose need is not met is skipped and says why. With the environment
// variable REQUIRE, a comma-separated list of root, bpf, tools and kube, such a
// test fails instead: a machine that must run everything proves that it did.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Root demands effective user 0, which creating namespaces takes.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		unmet(t, "root", "needs root")
	}
}

// BPF demands what loading the data plane takes: root, the kernel's type
// information and the BPF file system.
func BPF(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		unmet(t, "bpf", "needs root to load BPF programs")
	}
	for path, what := range map[string]string{
		"/sys/kernel/btf/vmlinux": "kernel type information (CONFIG_DEBUG_INFO_BTF)",
		"/sys/fs/bpf":             "the BPF file system",
	} {
		if _, err := os.Stat(path); err != nil {
			unmet(t, "bpf", "needs "+what+": "+err.Error())
		}
	}
}

// Tool demands that each of the programs names can be found in PATH.
func Tool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			unmet(t, "tools", "needs the program "+name)
		}
	}
}

// DefaultKube is where scripts/kube.sh puts the programs of Kubernetes, unless
// WEFT_KUBE names another directory.
const DefaultKube = "/var/cache/weft/kube/v1.37.1"

// Kube demands a Kubernetes control plane and returns the directory of its
// programs: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubectl and kubelet.
func Kube(t testing.TB) (dir string) {
	t.Helper()
	dir = os.Getenv("WEFT_KUBE")
	if dir == "" {
		dir = DefaultKube
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			unmet(t, "kube", "needs "+filepath.Join(dir, name)+" (make kube builds it)")
		}
	}
	return dir
}

// unmet ends the test: a failure if REQUIRE lists word, else a skip.
func unmet(t testing.TB, word, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), word) {
		t.Fatalf("%s, and REQUIRE lists %s", reason, word)
	}
	t.Skip(reason)
}
