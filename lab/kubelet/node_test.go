package kubelet

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/lab/cluster"
)

// TestMain lets the test binary be weft-node too, in pods and beside them.
func TestMain(m *testing.M) {
	programs := []string{podInitProgram, containerInitProgram, webProgram, pauseProgram, "--nodes", "purge"}
	if len(os.Args) > 1 && slices.Contains(programs, os.Args[1]) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// plugin is a CNI plugin that gives each pod both ends of a cable and an
// address, and leaves a file as long as a pod is attached. ADD takes half a
// minute for pods whose name begins with slow.
const plugin = `#!/bin/sh
cat >/dev/null
dir=%s
case "$CNI_COMMAND" in
ADD)
	touch "$dir/attached/$CNI_CONTAINERID"
	case "$CNI_ARGS" in *K8S_POD_NAME=slow*) sleep 30;; esac
	n=$(od -An -N2 -tu1 /dev/urandom)
	set -- $n
	ip=10.99.$1.$(($2 %% 250 + 1))
	nsenter --net="$CNI_NETNS" sh -e -c "ip link add $CNI_IFNAME type veth peer name far; ip addr add $ip/32 dev $CNI_IFNAME; ip link set $CNI_IFNAME up; ip link set far up" >&2 || exit 1
	echo "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"$CNI_IFNAME\",\"sandbox\":\"$CNI_NETNS\"}],\"ips\":[{\"interface\":0,\"address\":\"$ip/32\"}]}"
	;;
DEL)
	rm -f "$dir/attached/$CNI_CONTAINERID"
	;;
VERSION)
	echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'
	;;
esac
`

// rig is a Kubernetes with one node.
type rig struct {
	t       *testing.T
	cluster cluster.Config
	dir     string
	node    *exec.Cmd
}

const (
	nodeName  = "worker1"
	otherNode = "worker2"
	prefix    = "wnt-" // of network namespaces
)

func newRig(t *testing.T) *rig {
	t.Helper()
	need.Root(t)
	binaries := need.Kube(t)
	need.Tool(t, "ip", "nsenter")
	for _, name := range []string{"kube-controller-manager", "kube-scheduler", "kubectl"} {
		if _, err := os.Stat(filepath.Join(binaries, name)); err != nil {
			t.Skip("needs " + err.Error())
		}
	}
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, cluster: cluster.Config{
		Dir: filepath.Join(dir, "kubernetes"), Binaries: binaries, AdvertiseAddress: "10.244.0.2", Nodes: []string{nodeName, otherNode}, UnsafeNoFsync: true,
	}}
	for path, text := range map[string]string{
		"bin/stub":             fmt.Sprintf(plugin, dir),
		"cni/10-stub.conflist": `{"cniVersion": "1.0.0", "name": "stub", "plugins": [{"type": "stub"}]}`,
		"attached/.keep":       "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(filepath.Join(dir, "attached/.keep"))
	t.Cleanup(func() {
		if _, err := cluster.Stop(context.Background(), r.cluster); err != nil {
			t.Error(err)
		}
	})
	if _, err := cluster.Start(t.Context(), r.cluster, nil); err != nil {
		t.Fatal(err)
	}
	r.startNode()
	t.Cleanup(r.purge)
	r.kubectl("wait", "--for=create", "--timeout=30s", "node/"+nodeName)
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "node/"+nodeName)
	return r
}

func (r *rig) args(node string) []string {
	return []string{
		"--nodes", node, "--kubeconfig-dir", r.cluster.Dir, "--dir", filepath.Join(r.dir, "nodes"), "--cni-conf-dir", filepath.Join(r.dir, "cni"),
		"--cni-bin-dir", filepath.Join(r.dir, "bin"), "--netns-prefix", prefix,
	}
}

func (r *rig) startNode() {
	r.t.Helper()
	r.node = r.start(nodeName)
}

func (r *rig) start(node string) *exec.Cmd {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.dir, "node.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(self, r.args(node)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return cmd
}

// killNode kills weft-node and nothing else.
func (r *rig) killNode() {
	r.node.Process.Kill()
	r.node.Wait()
}

func (r *rig) purge() {
	r.killNode()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, node := range []string{nodeName, otherNode} {
		if out, err := exec.Command(self, append([]string{"purge"}, r.args(node)...)...).CombinedOutput(); err != nil {
			r.t.Errorf("purge of %s: %v: %s", node, err, out)
		}
	}
	r.nothingLeft()
	if r.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(r.dir, "node.log"))
		r.t.Logf("log of weft-node:\n%s", log)
	}
}

// left returns what there is of pods on the machine.
func (r *rig) left() []string {
	var out []string
	names, err := netns.List(prefix)
	if err != nil {
		r.t.Fatal(err)
	}
	out = append(out, names...)
	for _, dir := range []string{"attached", "nodes/" + nodeName + "/pods", "nodes/" + nodeName + "/cni/results"} {
		entries, _ := os.ReadDir(filepath.Join(r.dir, dir))
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, r.dir) {
			out = append(out, line)
		}
	}
	pids, err := exec.Command("pgrep", "-f", "pod-init").Output()
	if err == nil {
		for pid := range strings.FieldsSeq(string(pids)) {
			if cwd, _ := os.ReadFile("/proc/" + pid + "/cmdline"); bytes.HasPrefix(cwd, []byte(os.Args[0])) {
				out = append(out, "process "+pid)
			}
		}
	}
	return out
}

func (r *rig) nothingLeft() {
	r.t.Helper()
	r.until(30*time.Second, func() error {
		if left := r.left(); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return nil
	})
}

func (r *rig) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.cluster.Binaries, "kubectl"), append([]string{"--kubeconfig", r.cluster.Kubeconfig(cluster.Admin)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// kubectl runs kubectl, which must work, and returns what it prints.
func (r *rig) kubectl(args ...string) string {
	r.t.Helper()
	out, err := r.try("", args...)
	if err != nil {
		r.t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rig) apply(manifest string) {
	r.t.Helper()
	if out, err := r.try(manifest, "apply", "-f", "-"); err != nil {
		r.t.Fatalf("kubectl apply: %v: %s", err, out)
	}
}

// until waits for check to succeed.
func (r *rig) until(limit time.Duration, check func() error) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal(err)
		}
	}
}

// shows waits until kubectl get prints want for a JSON path of an object.
func (r *rig) shows(object, path, want string) {
	r.t.Helper()
	r.until(45*time.Second, func() error {
		got, err := r.try("", "get", object, "-o", "jsonpath={"+path+"}")
		if err == nil && strings.Contains(got, want) && (want != "" || got == "") {
			return nil
		}
		return fmt.Errorf("%s: %s is %q, want %q (%v)", object, path, got, want, err)
	})
}
