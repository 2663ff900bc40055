package cni

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/agent"
)

// begun returns what plugins before this one did; without one, nothing yet.
func begun(c *conf) (*types100.Result, error) {
	if c.PrevResult == nil {
		return &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: c.DNS}, nil
	}
	r, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "network "+c.Name+": prevResult: "+err.Error(), "")
	}
	return r, nil
}

// resultOf returns what plugins before this one did, and w.
func resultOf(c *conf, w *agent.Attached) (*types100.Result, error) {
	r, err := begun(c)
	if err != nil {
		return nil, err
	}
	r.Interfaces = append(r.Interfaces,
		&types100.Interface{Name: w.Device, Mtu: w.NIC.MTU},
		&types100.Interface{Name: w.Interface, Mac: w.NIC.MAC.String(), Mtu: w.NIC.MTU, Sandbox: w.NetNS},
	)
	own := len(r.Interfaces) - 1
	for _, a := range w.NIC.Addresses {
		ip := &types100.IPConfig{Interface: &own, Address: ipNet(a.Address)}
		if a.Gateway.IsValid() {
			ip.Gateway = a.Gateway.AsSlice()
		}
		r.IPs = append(r.IPs, ip)
	}
	for _, route := range w.NIC.Routes() {
		out := &types.Route{Dst: ipNet(route.To)}
		if route.Via.IsValid() {
			out.GW = route.Via.AsSlice()
		}
		r.Routes = append(r.Routes, out)
	}
	return r, nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addLoopback brings up the loopback device. Some runtimes call a plugin of that
// name for every pod, whatever else is configured.
func addLoopback(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	if err := agent.RaiseLoopback(args.Netns); err != nil {
		return c.failed(err)
	}
	r, err := begun(c)
	if err != nil {
		return err
	}
	r.Interfaces = append(r.Interfaces, &types100.Interface{Name: "lo", Mac: "00:00:00:00:00:00", Sandbox: args.Netns})
	own := len(r.Interfaces) - 1
	r.IPs = append(r.IPs, &types100.IPConfig{Interface: &own, Address: ipNet(netip.MustParsePrefix("127.0.0.1/8"))})
	return types.PrintResult(r, c.CNIVersion)
}

func checkLoopback(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	return c.failed(agent.RaiseLoopback(args.Netns))
}
