package cni

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func wantError(t *testing.T, what string, err error, code uint, parts ...string) {
	t.Helper()
	e, ok := errors.AsType[*types.Error](err)
	if !ok || e.Code != code {
		t.Errorf("%s: got %#v (%v), want code %d", what, e, err, code)
		return
	}
	for _, part := range parts {
		if !strings.Contains(e.Msg+"\n"+e.Details, part) {
			t.Errorf("%s: no %q in %q, %q", what, part, e.Msg, e.Details)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"n"}`: "",
		`{"name":"n","socket":"/s","timeout":"1m","mtu":1400,"runtimeConfig":{"portMappings":[]},"capabilities":{"x":true}}`: "",
		`{"name":"n","socket":"s"}`:                                    `network n: socket: "s": is no path (such as /run/weft-agent/socket)`,
		`{"name":"n","timeout":"30"}`:                                  `network n: timeout: "30": is no time-out (such as 30s, at most 10m0s)`,
		`{"name":"n","timeout":"11m"}`:                                 `network n: timeout: "11m": is no time-out (such as 30s, at most 10m0s)`,
		`{"name":"n","ipam":{"type":"host-local"}}`:                    "network n: ipam: type host-local: is not used (addresses come from the pod's port)",
		`{"name":"n","runtimeConfig":{"mac":"02:00:00:00:00:01"}}`:     "network n: runtimeConfig: mac: is not used (addresses come from the pod's port)",
		`{"name":"n","mtu":"1500"}`:                                    "configuration: json: cannot unmarshal string into Go struct field document.mtu of type int",
		`{"name":"n","cniVersion":"1.0.0","prevResult":{"ips":"one"}}`: "network n: prevResult: could not parse prevResult: json: cannot unmarshal string into Go struct field Result.ips of type []*types100.IPConfig",
	} {
		_, err := parse([]byte(text))
		if got := message(err); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What a runtime is told when nothing can be attached, without privileges.
func TestRefusals(t *testing.T) {
	n := plainNode(t, "weft-fake-agent")
	list, rt := n.list("1.1.0", `,"timeout":"10ms"`), pod(1, "/proc/self/ns/net")
	_, err := n.add(list, rt)
	wantError(t, "ADD without an agent", err, types.ErrTryAgainLater, "the agent is not running", "network pods, socket "+n.client.Socket)
	wantError(t, "STATUS without an agent", n.cni().GetStatusNetworkList(t.Context(), list), types.ErrPluginNotAvailable, "the agent is not running")
	if err := n.del(list, pod(1, "/run/netns/weft-test-none")); err != nil {
		t.Errorf("DEL without an agent: %v", err)
	}

	n.start()
	wantError(t, "STATUS without tables", n.cni().GetStatusNetworkList(t.Context(), list), types.ErrLimitedConnectivity, "got no tables yet")
	_, err = n.add(list, rt)
	wantError(t, "ADD into the agent's own namespace", err, types.ErrInvalidNetNS, "pod ns/pod-1: netns /proc/self/ns/net: is that of the agent", "NoNamespace")
	_, err = n.add(list, pod(1, "/run/netns/weft-test-none"))
	wantError(t, "ADD into no namespace", err, types.ErrInvalidNetNS, "netns /run/netns/weft-test-none: does not exist")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = n.add(list, pod(1, file))
	wantError(t, "ADD into a file", err, types.ErrInvalidNetNS, "is no network namespace")
	nameless := pod(1, file)
	nameless.Args = nil
	_, err = n.add(list, nameless)
	wantError(t, "ADD without a pod", err, types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_UID: is missing")
	_, err = n.add(n.list("1.1.0", `,"mtu":70000`), pod(1, file))
	wantError(t, "ADD with another MTU", err, types.ErrInvalidNetworkConfig, "pod ns/pod-1: mtu 70000: is out of range (576 to 65535; 0: 1500)")

	n.apply(podded(1))
	if err := n.cni().GetStatusNetworkList(t.Context(), list); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	if err := n.del(list, pod(1, file)); err != nil {
		t.Errorf("DEL of nothing: %v", err)
	}
	if err := n.cni().GCNetworkList(t.Context(), list, &libcni.GCArgs{}); err != nil {
		t.Errorf("GC: %v", err)
	}
	wantError(t, "GC without a list", n.cni().GCNetworkList(t.Context(), list, nil), types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments: is missing")
	wantError(t, "CHECK without a result", n.check(list, rt), types.ErrInvalidNetworkConfig, "prevResult: is missing")
	if _, err := n.add(n.list("0.2.0", ""), rt); err == nil {
		t.Error("ADD of version 0.2.0: no error")
	}
	n.nothingLeft()
}
