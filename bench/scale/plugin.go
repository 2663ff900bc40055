package scale

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/internal/netns"
)

// plugin calls weft-cni as a container runtime does: a process a call.
type plugin struct {
	cni     *libcni.CNIConfig
	network *libcni.NetworkConfigList
}

// newPlugin returns one that keeps its results in dir.
func newPlugin(bin, dir, socket string) (*plugin, error) {
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
		`{"cniVersion": "1.0.0", "name": "scale", "plugins": [{"type": "weft-cni", "socket": %q, "timeout": %q}]}`, socket, sampleTime))
	if err != nil {
		return nil, err
	}
	return &plugin{libcni.NewCNIConfigWithCacheDir([]string{bin}, dir, nil), list}, nil
}

// add attaches a pod and returns its address.
func (c *plugin) add(ctx context.Context, m *machine, uid string) (addr netip.Addr, err error) {
	got, err := c.cni.AddNetworkList(ctx, c.network, m.interfaceOf(uid))
	if err != nil {
		return addr, err
	}
	result, err := types100.GetResult(got)
	if err != nil {
		return addr, err
	}
	for _, ip := range result.IPs {
		addr, _ = netip.AddrFromSlice(ip.Address.IP)
	}
	return addr.Unmap(), nil
}

// del detaches a pod.
func (c *plugin) del(ctx context.Context, m *machine) error {
	return c.cni.DelNetworkList(ctx, c.network, m.interfaceOf(""))
}

// interfaceOf returns what a runtime says of m's interface.
func (m *machine) interfaceOf(uid string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: m.pod.Name, NetNS: netns.Path(m.ns.Name()), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", m.pod.Namespace}, {"K8S_POD_NAME", m.pod.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", m.pod.Name}, {"K8S_POD_UID", uid},
		},
	}
}
