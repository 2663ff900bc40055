package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/internal/netns"
)

// topology is a set of namespaces under construction. The first error sticks and makes the rest do nothing.
type topology struct {
	ctx   context.Context
	path  string
	nodes []*node
	err   error
}

// node is one namespace: a workload, a bridge or a router.
type node struct {
	t  *topology
	ns *netns.Namespace
	nl *netlink.Handle
}

// build turns what wire makes of a topology into a Builder. wire returns the client, the server and the server's address.
func build(path string, wire func(*topology) (client, server *node, addr string)) Builder {
	return func(ctx context.Context) (*Path, error) {
		t := &topology{ctx: ctx, path: path}
		client, server, addr := wire(t)
		if t.err != nil {
			return nil, errors.Join(t.err, t.close())
		}
		return &Path{Client: client.ns, Server: server.ns, ServerAddr: netip.MustParseAddr(addr), Close: t.close}, nil
	}
}

func (t *topology) close() error {
	var err error
	for _, n := range t.nodes {
		if n.nl != nil {
			n.nl.Close()
		}
		if n.ns != nil {
			err = errors.Join(err, n.ns.Close(), netns.Delete(n.ns.Name()))
		}
	}
	return err
}

// do runs step unless an earlier one failed or the context is over.
func (t *topology) do(what string, step func() error) {
	if t.err == nil {
		t.err = t.ctx.Err()
	}
	if t.err != nil {
		return
	}
	if err := step(); err != nil {
		t.err = fmt.Errorf("%s: %w", what, err)
	}
}

// node adds a namespace with its loopback up and without IPv6, whose discovery packets would only disturb.
func (t *topology) node(name string, settings ...string) *node {
	n := &node{t: t}
	t.nodes = append(t.nodes, n)
	t.do(name, func() (err error) {
		if n.ns, err = netns.New(Prefix + t.path + "-" + name); err != nil {
			return err
		}
		return n.ns.Do(func() (err error) {
			if n.nl, err = netlink.NewHandle(); err != nil {
				return err
			}
			lo, err := n.nl.LinkByName("lo")
			if err != nil {
				return err
			}
			off := []string{"net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1"}
			return errors.Join(n.nl.LinkSetUp(lo), sysctls(append(off, settings...)...))
		})
	})
	return n
}

// router adds a namespace that forwards IPv4.
func (t *topology) router(name string, settings ...string) *node {
	return t.node(name, append(settings, "net/ipv4/ip_forward=1")...)
}

// bridgeHooksOff returns the setting that keeps a namespace's bridges from the IPv4 filter hooks, nothing on a kernel without
// br_netfilter, where they are never taken there.
func bridgeHooksOff() []string {
	const key = "net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(filepath.Join("/proc/sys", key)); err != nil {
		return nil
	}
	return []string{key + "=0"}
}

// link joins a and b by a veth pair; each end is named and may have an address.
func (t *topology) link(a *node, aName, aAddr string, b *node, bName, bAddr string) {
	t.do("link "+aName+" "+bName, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = aName
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.ns.Fd())}
		return a.nl.LinkAdd(veth)
	})
	a.up(aName, aAddr)
	b.up(bName, bAddr)
}

// up gives the link name its address, if addr is not empty, and sets it up.
func (n *node) up(name, addr string) {
	n.t.do("link "+name, func() error {
		l, err := n.nl.LinkByName(name)
		if err != nil {
			return err
		}
		if addr != "" {
			a, err := netlink.ParseAddr(addr)
			if err != nil {
				return err
			}
			if err := n.nl.AddrAdd(l, a); err != nil {
				return err
			}
		}
		return n.nl.LinkSetUp(l)
	})
}

// bridge adds a bridge, with an address if addr is not empty, over the links that are named.
func (n *node) bridge(name, addr string, ports ...string) {
	n.t.do("bridge "+name, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		br := &netlink.Bridge{LinkAttrs: attrs}
		if err := n.nl.LinkAdd(br); err != nil {
			return err
		}
		for _, port := range ports {
			l, err := n.nl.LinkByName(port)
			if err != nil {
				return err
			}
			if err := n.nl.LinkSetMaster(l, br); err != nil {
				return err
			}
		}
		return nil
	})
	n.up(name, addr)
}

// route sends dst, a prefix, to the gateway via.
func (n *node) route(dst, via string) {
	n.t.do("route "+dst, func() error {
		_, prefix, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		return n.nl.RouteAdd(&netlink.Route{Dst: prefix, Gw: net.ParseIP(via)})
	})
}

// nft loads a rule set.
func (n *node) nft(rules string) {
	n.t.do("nft", func() error {
		return n.ns.Do(func() error {
			cmd := exec.CommandContext(n.t.ctx, "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(rules)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
			}
			return nil
		})
	})
}

// linkNames returns the links of ns but its loopback.
func linkNames(ns *netns.Namespace) ([]string, error) {
	var names []string
	err := ns.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Attrs().Flags&net.FlagLoopback == 0 {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	})
	return names, err
}
