package cni

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/agent"
)

// DefaultSocket is where an agent listens, unless the configuration says
// otherwise.
const DefaultSocket = "/run/weft-agent/socket"

// mostTime bounds the time-out in a configuration.
const mostTime = 10 * time.Minute

// document is a network's configuration as people write it, with what runtimes
// add.
type document struct {
	types.PluginConf
	Socket        string                     `json:"socket"`  // of the agent
	Timeout       string                     `json:"timeout"` // how long ADD waits for the pod's port
	MTU           int                        `json:"mtu"`     // bytes, IP packet; 0: 1500
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig"`
}

// conf is a parsed configuration.
type conf struct {
	types.PluginConf
	client  *agent.Client
	timeout time.Duration
	mtu     int
}

// parse reads a configuration from standard input.
func parse(stdin []byte) (*conf, error) {
	d := &document{Socket: DefaultSocket, Timeout: agent.DefaultAttachTime.String()}
	if err := json.Unmarshal(stdin, d); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	bad := func(format string, args ...any) (*conf, error) {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("network %s: "+format, append([]any{d.Name}, args...)...), "")
	}
	timeout, err := time.ParseDuration(d.Timeout)
	switch {
	case !filepath.IsAbs(d.Socket):
		return bad("socket: %q: is no path (such as %s)", d.Socket, DefaultSocket)
	case err != nil || timeout <= 0 || timeout > mostTime:
		return bad("timeout: %q: is no time-out (such as 30s, at most %s)", d.Timeout, mostTime)
	case d.IPAM.Type != "":
		return bad("ipam: type %s: is not used (addresses come from the pod's port)", d.IPAM.Type)
	}
	for _, key := range []string{"mac", "ips"} {
		if _, given := d.RuntimeConfig[key]; given {
			return bad("runtimeConfig: %s: is not used (addresses come from the pod's port)", key)
		}
	}
	if err := version.ParsePrevResult(&d.PluginConf); err != nil {
		return bad("prevResult: %v", err)
	}
	return &conf{d.PluginConf, &agent.Client{Socket: d.Socket}, timeout, d.MTU}, nil
}

// attachment returns what ADD and CHECK are about.
func (c *conf) attachment(args *skel.CmdArgs) (*agent.Attachment, error) {
	given := arguments(args.Args)
	q := &agent.Attachment{
		AttachmentKey: key(args), ID: given["K8S_POD_UID"], Network: c.Name, NetNS: args.Netns, MTU: c.mtu,
	}
	if q.ID == "" {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: K8S_POD_UID: is missing (the pod's UID)", args.Args)
	}
	if name := given["K8S_POD_NAME"]; name != "" {
		q.Pod = given["K8S_POD_NAMESPACE"] + "/" + name
	}
	return q, nil
}

func key(args *skel.CmdArgs) agent.AttachmentKey {
	return agent.AttachmentKey{Container: args.ContainerID, Interface: args.IfName}
}

// arguments reads CNI_ARGS: A=1;B=2. What it does not know it leaves alone.
func arguments(text string) map[string]string {
	out := map[string]string{}
	for field := range strings.SplitSeq(text, ";") {
		if k, v, ok := strings.Cut(field, "="); ok {
			out[k] = v
		}
	}
	return out
}
