package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/need"
)

// kubectl runs kubectl as user and returns what it prints.
func kubectl(t *testing.T, c Config, user string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.Binaries, "kubectl"), append([]string{"--kubeconfig", c.Kubeconfig(user)}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestLifeOfACluster(t *testing.T) {
	cfg := Config{
		Dir: filepath.Join(t.TempDir(), "kubernetes"), Binaries: need.Kube(t), ServiceCIDR: "10.96.0.0/22",
		AdvertiseAddress: "10.244.0.2", Nodes: []string{"worker1"}, UnsafeNoFsync: true,
	}
	for _, name := range append(partNames, "kubectl") {
		if _, err := os.Stat(filepath.Join(cfg.Binaries, name)); err != nil {
			t.Skip("needs " + err.Error())
		}
	}
	t.Cleanup(func() {
		if _, err := Stop(context.Background(), cfg); err != nil {
			t.Error(err)
		}
	})
	var told []string
	c, err := Start(t.Context(), cfg, func(what string) { told = append(told, what) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"starting etcd", "starting kube-apiserver", "starting kube-controller-manager", "starting kube-scheduler", "waiting for Kubernetes",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got := cfg.Address(); got != c.Address() || !strings.HasSuffix(got, ":"+strconv.Itoa(c.Port())) {
		t.Errorf("address of the configuration is %q, of the cluster %q with port %d", got, c.Address(), c.Port())
	}

	t.Run("endpoint", func(t *testing.T) {
		got, err := kubectl(t, cfg, Admin, "get", "endpointslice", "kubernetes", "-o",
			"jsonpath={.endpoints[*].addresses[*]}:{.ports[*].port}")
		if want := fmt.Sprintf("10.244.0.2:%d", c.Port()); err != nil || got != want {
			t.Errorf("endpoint of service kubernetes is %q (%v), want %q", got, err, want)
		}
	})
	t.Run("users", func(t *testing.T) {
		for user, want := range map[string]string{Admin: "yes", Weft: "yes", Node("worker1"): "no"} {
			if got, _ := kubectl(t, cfg, user, "auth", "can-i", "create", "deployments"); got != want {
				t.Errorf("%s: can-i create deployments: %q, want %q", user, got, want)
			}
		}
		if info, err := os.Stat(cfg.Kubeconfig(Admin)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("kubeconfig: %v, %v, want mode 0600", info, err)
		}
	})
	t.Run("pod is taken", func(t *testing.T) {
		if out, err := kubectl(t, cfg, Admin, "run", "web", "--image=nginx"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("again", func(t *testing.T) { testStartAgain(t, c) })
	t.Run("stop", func(t *testing.T) {
		n, err := Stop(t.Context(), cfg)
		if err != nil || n != 4 {
			t.Errorf("Stop ended %d, %v, want 4", n, err)
		}
		for _, p := range c.Processes() {
			t.Errorf("%s: is still there", p.Name)
		}
		if n, err := Stop(t.Context(), cfg); err != nil || n != 0 {
			t.Errorf("second Stop ended %d, %v, want none", n, err)
		}
	})
}

// testStartAgain kills etcd and the API server, and expects only them new and
// their data kept.
func testStartAgain(t *testing.T, c *Cluster) {
	before := map[string]int{}
	for _, p := range c.Processes() {
		before[p.Name] = p.PID
		if p.Name == etcd || p.Name == apiserver {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); p.alive() && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	again, err := Start(t.Context(), c.Config, nil)
	if err != nil {
		t.Fatal(err)
	}
	after := map[string]bool{}
	for _, p := range again.Processes() {
		after[p.Name] = p.PID == before[p.Name]
	}
	want := map[string]bool{etcd: false, apiserver: false, controllers: true, scheduler: true}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("same processes (-want +got):\n%s", diff)
	}
	if again.Port() != c.Port() {
		t.Errorf("port changed from %d to %d", c.Port(), again.Port())
	}
	if out, err := kubectl(t, c.Config, Admin, "get", "pod", "web"); err != nil {
		t.Errorf("what was made is gone: %v: %s", err, out)
	}
}

func TestConfigsThatAreWrong(t *testing.T) {
	good := Config{Dir: "/x", ServiceCIDR: DefaultServiceCIDR, AdvertiseAddress: "10.244.0.2"}
	for _, tc := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Dir = "" }, "cluster: dir: is empty (a directory)"},
		{func(c *Config) { c.ServiceCIDR = "10.96.0.1/22" }, `cluster: service CIDR: "10.96.0.1/22": is no network (such as 10.96.0.0/22)`},
		{func(c *Config) { c.AdvertiseAddress = "127.0.0.1" }, `cluster: advertise address: "127.0.0.1": is no address that pods can reach (such as 10.244.0.2)`},
		{func(c *Config) { c.AdvertiseAddress = "fd00::2" }, "cluster: advertise address: fd00::2: is of another family than the service CIDR 10.96.0.0/22"},
		{func(c *Config) { c.Nodes = []string{"a/b"} }, `cluster: node "a/b": is no node name (a DNS label)`},
		{func(c *Config) { c.Binaries = "/nowhere" }, "cluster: binaries: stat /nowhere/etcd: no such file or directory (scripts/kube.sh builds them)"},
	} {
		c := good
		tc.change(&c)
		if err := c.check(); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func TestCredentialsAreKeptUntilTheyDiffer(t *testing.T) {
	c := Config{Dir: t.TempDir(), ServiceCIDR: DefaultServiceCIDR, AdvertiseAddress: "10.244.0.2", Nodes: []string{"worker1"}}
	if err := os.Mkdir(c.file("pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &state{Ports: map[string]int{apiserver: 6443}}
	read := func() map[string]string {
		t.Helper()
		if err := c.credentials(s); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, name := range []string{"ca", "etcd/ca", "apiserver", "etcd/server", Node("worker1")} {
			data, err := os.ReadFile(c.pki(name + ".crt"))
			if err != nil {
				t.Fatal(err)
			}
			out[name] = string(data)
		}
		return out
	}
	first := read()
	if diff := cmp.Diff(first, read()); diff != "" {
		t.Errorf("the second time (-want +got):\n%s", diff)
	}
	c.AdvertiseAddress = "10.244.0.3"
	changed := read()
	for name := range first {
		if same := first[name] == changed[name]; same != (name != "apiserver") {
			t.Errorf("%s: with another address: same is %v", name, same)
		}
	}
	if err := os.WriteFile(c.pki("ca.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.credentials(s); err == nil || !strings.Contains(err.Error(), "has no key") {
		t.Errorf("broken key: %v", err)
	}
}

func TestStateThatIsBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(statePath(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadState(dir); err == nil || !strings.Contains(err.Error(), statePath(dir)) {
		t.Errorf("got %v, want an error with the file's name", err)
	}
	if got := (Config{Dir: dir}).Address(); got != "" {
		t.Errorf("address %q, want none", got)
	}
}

// A part that has just started may ask for a certificate of any authority; only
// etcd takes the other one.
func TestCertificateThatIsShown(t *testing.T) {
	c, s := Config{Dir: t.TempDir(), ServiceCIDR: DefaultServiceCIDR, AdvertiseAddress: "10.244.0.2"}, &state{Ports: map[string]int{}}
	for _, dir := range []string{"pki", "pki/etcd"} {
		if err := os.MkdirAll(c.file(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.credentials(s); err != nil {
		t.Fatal(err)
	}
	client, err := newClient(c, s)
	if err != nil {
		t.Fatal(err)
	}
	authority := func(file string) []byte {
		pair, err := tls.LoadX509KeyPair(c.pki(file+".crt"), c.pki(file+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.RawIssuer
	}
	for name, tc := range map[string]struct {
		asked [][]byte
		want  string
	}{
		"any authority": {nil, "admin"}, "that of Kubernetes": {[][]byte{authority("admin")}, "admin"}, "that of etcd": {[][]byte{authority("etcd/client")}, "etcd/client"},
	} {
		shown, err := client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate(&tls.CertificateRequestInfo{
			AcceptableCAs: tc.asked, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, Version: tls.VersionTLS13,
		})
		if err != nil || !bytes.Equal(shown.Leaf.RawIssuer, authority(tc.want)) {
			t.Errorf("%s: shown is another certificate than %s (%v)", name, tc.want, err)
		}
	}
}
