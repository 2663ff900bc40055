package kubelettest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
)

// nodeNames are the nodes of the Kubernetes.
var nodeNames = []string{"worker1", "worker2"}

// machine is what the test's processes run in: a network, a mount and a PID
// namespace, and a control group for each node.
type machine struct {
	Name       string // of the network namespace and, with a node's behind it, of control groups
	Dir        string // on the disk: programs and logs
	Kubernetes string // directory of its programs
}

// machineVar is the environment variable that tells a process of this test, as
// JSON, which machine it is in, and stepVar what it does there.
const (
	machineVar = "WEFT_KUBELETTEST_MACHINE"
	stepVar    = "WEFT_KUBELETTEST_STEP"
	stepFirst  = "first" // it is the first process: sees to mounts and orphans
	stepStory  = "story"
)

// here returns the machine that this process is in.
func here() (machine, error) {
	var m machine
	if err := json.Unmarshal([]byte(os.Getenv(machineVar)), &m); err != nil {
		return m, fmt.Errorf("%s: %w", machineVar, err)
	}
	return m, nil
}

// newMachine makes a machine, which the end of the test takes away, and fails
// the test if that leaves something.
func newMachine(t *testing.T, kubernetes string) machine {
	t.Helper()
	m := machine{Name: fmt.Sprintf("weft-kubelet%d", os.Getpid()), Dir: t.TempDir(), Kubernetes: kubernetes}
	before := readSysctls(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, readSysctls(t)); diff != "" {
			t.Errorf("settings of the kernel (-before +after):\n%s", diff)
			for path, value := range before {
				if err := os.WriteFile(path, []byte(value), 0); err != nil {
					t.Error(err)
				}
			}
		}
		if mounts := m.mounts(t); len(mounts) > 0 {
			t.Errorf("mounts stay: %v", mounts)
		}
	})
	host, err := netns.New(m.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		id, err := host.ID()
		if err != nil {
			t.Error(err)
		}
		if pids, err := netns.Pids(id); err != nil || len(pids) > 0 {
			t.Errorf("processes stay: %v (%v)", pids, err)
		}
		host.Close()
		if err := netns.Delete(m.Name); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range m.controlGroups(t) {
		if err := makeControlGroup(dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := removeControlGroup(dir); err != nil {
				t.Error(err)
			}
		})
	}
	return m
}

// run runs this test in m, where it is the story, and returns when nothing of
// it runs any more.
func (m machine) run(t *testing.T) {
	t.Helper()
	told, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.timeout="+storyTime.String(), fmt.Sprintf("-test.v=%t", testing.Verbose()))
	cmd.Env = append(os.Environ(), machineVar+"="+string(told), stepVar+"="+stepFirst)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	// The end of the first process of a PID namespace is that of all others.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	host, err := netns.Open(m.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := host.Do(cmd.Run); err != nil { // on a thread that stays, for Pdeathsig
		showLogs(t, m.Dir)
		t.Errorf("in the machine: %v", err)
	}
}

// mounts returns the mount points of this process that have to do with m.
func (m machine) mounts(t *testing.T) []string {
	return slices.DeleteFunc(mountPoints(t), func(path string) bool { return !strings.Contains(path, m.Name) && !strings.HasPrefix(path, m.Dir) })
}

// mountPoints returns those of this process.
func mountPoints(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, fields := range mountTable(t) {
		out = append(out, fields[4])
	}
	return out
}

// mountTable returns the fields of /proc/self/mountinfo; see proc(5).
func mountTable(t *testing.T) [][]string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		out = append(out, strings.Fields(line))
	}
	return out
}

// sysctls are the settings of the whole machine that a kubelet changes. Source:
// Kubernetes, pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables.
var sysctls = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// readSysctls returns them by file.
func readSysctls(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range sysctls {
		path := "/proc/sys/" + name
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(data)
	}
	return out
}
