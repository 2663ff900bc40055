package kubelettest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/lab/cluster"
)

// Images that nodes have.
const (
	pauseImage = "weft.test/pause:1"
	webImage   = "weft.test/web:1"
)

// startTime bounds the wait for one program that was started.
const startTime = 30 * time.Second

// kubeletPort is that of every kubelet, each at an address of its own.
const kubeletPort = 10250

// node is a kubelet and its container runtime.
type node struct {
	name    string
	address string // of the kubelet; on loopback's device, but none of 127.0.0.0/8, which no node may have
	dir     string // in memory, short enough for the paths of sockets
	group   string // control group
	logs    string // directory on the disk

	containerd, kubelet *process
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) socket() string { return n.file("containerd.sock") }

// containerdConfig is for containerd 1.6 and 1.7. restrict_oom_score_adj: a
// container's root may lack the right to lower it.
const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "%[1]s/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "%[2]s"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[1]s/cni/bin"
    conf_dir = "%[1]s/cni/conf"
`

// prepare writes n's configuration. agent is the socket of weft-agent, plugin
// the file of weft-cni.
func (n *node) prepare(t *testing.T, c cluster.Config, agent, plugin string) {
	t.Helper()
	for _, dir := range []string{"cni/bin", "cni/conf", "kubelet", "pod-logs"} {
		if err := os.MkdirAll(n.file(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(n.logs, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "ip", "address", "add", n.address+"/32", "dev", "lo")
	for _, name := range []string{"weft-cni", "loopback"} {
		if err := os.Symlink(plugin, n.file("cni/bin/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	network := map[string]any{
		// Each node's runtime may tell the agent which attachments of its network are valid.
		"cniVersion": "1.0.0", "name": "weft-" + n.name,
		"plugins": []any{map[string]any{"type": "weft-cni", "socket": agent}},
	}
	data, err := json.Marshal(network)
	if err != nil {
		t.Fatal(err)
	}
	kubelet, err := yaml.Marshal(n.kubeletConfig(c))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"cni/conf/10-weft.conflist": data,
		"containerd.toml":           fmt.Appendf(nil, containerdConfig, n.dir, pauseImage),
		"kubelet.yaml":              kubelet,
		"resolv.conf":               nil,
	} {
		if err := os.WriteFile(n.file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.containerd = &process{
		name: "containerd of " + n.name, log: filepath.Join(n.logs, "containerd.log"),
		args: []string{"containerd", "--config", n.file("containerd.toml")},
	}
	n.kubelet = &process{
		name: "kubelet of " + n.name, log: filepath.Join(n.logs, "kubelet.log"),
		args: []string{
			filepath.Join(c.Binaries, "kubelet"), "--config", n.file("kubelet.yaml"), "--kubeconfig", c.Kubeconfig(cluster.Node(n.name)),
			"--root-dir", n.file("kubelet"), "--cert-dir", n.file("kubelet/pki"), "--hostname-override", n.name, "--node-ip", n.address,
		},
	}
}

// kubeletConfig differs from a production's in what lets two kubelets be on one
// machine that is not theirs: addresses, paths, a control group each, no rules
// in the host's firewall, and no reserve for the system.
func (n *node) kubeletConfig(c cluster.Config) map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": n.address, "port": kubeletPort, "healthzBindAddress": n.address,
		"authentication":           map[string]any{"anonymous": map[string]any{"enabled": false}, "x509": map[string]any{"clientCAFile": filepath.Join(c.Dir, "pki", "ca.crt")}},
		"authorization":            map[string]any{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + n.socket(),
		"cgroupDriver":             "cgroupfs", "cgroupRoot": n.group, "failCgroupV1": false, "enforceNodeAllocatable": []string{},
		"failSwapOn": false, "makeIPTablesUtilChains": false, "localStorageCapacityIsolation": false,
		"evictionHard": map[string]any{"memory.available": "10Mi"}, // a disk that is nearly full is none of the test's concern
		"podLogsDir":   n.file("pod-logs"), "resolvConf": n.file("resolv.conf"), "clusterDNS": []string{"10.96.0.10"},
		"registerWithTaints": []any{},
	}
}

// startContainerd returns when the runtime has its images.
func (n *node) startContainerd(t *testing.T, images ...string) {
	t.Helper()
	n.containerd.start(t)
	await(t, n.containerd.name, startTime, func() error {
		_, err := run("ctr", "--address", n.socket(), "--timeout", "1s", "version")
		return err
	})
	for _, file := range images {
		must(t, "ctr", "--address", n.socket(), "--namespace", "k8s.io", "images", "import", file)
	}
}
