package lab

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadySaysWhatIsMissing(t *testing.T) {
	const all = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	for _, tc := range []struct {
		name  string
		facts Facts
		want  string // beginning of the error; empty: none
	}{
		{"a fine machine", Facts{all, "6.6.0", true}, ""},
		{"a newer one", Facts{all, "6.18.44-fc-v657", true}, ""},
		{"next major", Facts{all, "7.0-rc1", true}, ""},
		{"no privileges", Facts{0, "6.8.0", true}, "privileges: CAP_SYS_ADMIN is missing"},
		{"container root", Facts{1 << unix.CAP_SYS_ADMIN, "6.8.0", true}, "privileges: CAP_NET_ADMIN is missing"},
		{"old kernel", Facts{all, "6.5.13-generic", true}, "kernel: 6.5.13-generic: has no tcx hooks (boot 6.6 or newer)"},
		{"older major", Facts{all, "5.15.0", true}, "kernel: 5.15.0: has no tcx hooks"},
		{"odd kernel", Facts{all, "linux", true}, `kernel: "linux": is no release that weft can read`},
		{"no BTF", Facts{all, "6.8.0", false}, "kernel: /sys/kernel/btf/vmlinux: is not there (boot a kernel built with"},
	} {
		err := tc.facts.Ready()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
			t.Errorf("%s: got %v, want %s…", tc.name, err, tc.want)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: more than a line: %v", tc.name, err)
		}
	}
}

func TestKernelDoesNotMatterForPrivileges(t *testing.T) {
	f := Facts{Capabilities: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN, Release: "5.4.0"}
	if err := f.Privileges(); err != nil {
		t.Error(err)
	}
}

func TestProbeReadsThisMachine(t *testing.T) {
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := parseRelease(f.Release); !ok {
		t.Errorf("release %q", f.Release)
	}
}
