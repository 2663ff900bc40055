package bench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

//go:embed weft.yaml
var weftIntent []byte

// pinDir holds the data planes of the benchmark; a run removes it first.
const pinDir = "/sys/fs/bpf/weft-bench"

// weftPaths are ways through Weft's data plane: from the client's port to one
// of another place, with rules firewall rules ahead of those of weft.yaml.
func weftPaths() []Entry {
	return []Entry{
		{Name: "weft-segment", Group: GroupWeft, Build: buildWeft("segment", way{to: "near"})},
		{Name: "weft-t1", Group: GroupWeft, Build: buildWeft("t1", way{to: "sibling"})},
		{Name: "weft-t0", Group: GroupWeft, Build: buildWeft("t0", way{to: "far"})},
		{Name: "weft-snat", Group: GroupWeft, Build: buildWeft("snat", way{})},
		{Name: "weft-vip", Group: GroupWeft, Build: buildWeft("vip", way{to: "far", asked: "203.0.113.20"})},
		{Name: "weft-cluster", Group: GroupWeft, Build: buildWeft("cluster", way{to: "far", asked: "10.96.0.10"})},
		{Name: "weft-t0-10", Group: GroupWeft, Build: buildWeft("r10", way{to: "far", rules: 10})},
		{Name: "weft-t0-10000", Group: GroupWeft, Build: buildWeft("r10000", way{to: "far", rules: 10000})},
		{Name: "weft-t0-100000", Group: GroupWeft, Build: buildWeft("r100000", way{to: "far", rules: 100000})},
	}
}

// way is what differs between the paths.
type way struct {
	to    string // id of the server's port; empty: outside
	asked string // address that the client asks; empty: the server's own
	rules int    // that stand ahead of those of weft.yaml
}

// weft is a host with Weft's data plane under construction.
type weft struct {
	t       *topology
	host    *node
	set     *table.Set
	binding dataplane.Binding
}

// buildWeft returns a Builder of a way.
func buildWeft(name string, by way) Builder {
	return func(ctx context.Context) (*Path, error) {
		set, err := weftSet(by.rules)
		if err != nil {
			return nil, err
		}
		t := &topology{ctx: ctx, path: "weft-" + name}
		w := &weft{t: t, host: t.node("host"), set: set, binding: dataplane.Binding{}}
		pins := filepath.Join(pinDir, name)
		closeAll := func() error {
			err := errors.Join(os.RemoveAll(pins), t.close())
			_ = os.Remove(pinDir) // the last path's end; others are still in it before
			return err
		}
		client, _ := w.workload("client")
		server, addr := w.outside, netip.MustParseAddr("192.0.2.2")
		var end *node
		if by.to != "" {
			end, addr = w.workload(by.to)
		} else {
			end = server()
		}
		if by.asked != "" {
			addr = netip.MustParseAddr(by.asked)
		}
		t.do("data plane", func() error { return w.load(pins) })
		if t.err != nil {
			return nil, errors.Join(t.err, closeAll())
		}
		return &Path{Client: client.ns, Server: end.ns, ServerAddr: addr, Close: closeAll}, nil
	}
}

// workload adds the machine of the port whose id is name.
func (w *weft) workload(name string) (*node, netip.Addr) {
	n := w.t.node(name)
	for _, e := range w.set.Endpoints.All() {
		p := w.set.Ports.Get(e.Port)
		if p.Name != name {
			continue
		}
		gw := w.set.Segments.Get(p.Segment).Gateways[0]
		w.device(p.ID, n, name, p.MAC, netip.PrefixFrom(e.Addr, gw.Bits()))
		n.route(anywhere, gw.Addr().String())
		return n, e.Addr
	}
	w.t.do(name, func() error { return fmt.Errorf("%s: is no port", name) })
	return n, netip.Addr{}
}

// outside adds a machine next to the Tier-0's uplink.
func (w *weft) outside() *node {
	n := w.t.node("outside")
	for id, u := range w.set.Uplinks.All() {
		w.device(id, n, "up", table.MAC{2, 0, 0, 0, 2, 2}, netip.MustParsePrefix("192.0.2.2/24"))
		w.host.up("up", u.Address.String())
	}
	n.route("203.0.113.0/24", "192.0.2.1")
	return n
}

// device joins the host and a machine and binds the host's end to a port.
func (w *weft) device(id table.PortID, n *node, name string, mac table.MAC, addr netip.Prefix) {
	w.t.do(name, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, table.RouterMAC[:]
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: mac[:], PeerNamespace: netlink.NsFd(n.ns.Fd())}
		if err := w.host.nl.LinkAdd(veth); err != nil {
			return err
		}
		l, err := w.host.nl.LinkByName(name)
		if err != nil {
			return err
		}
		w.binding[id] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
		return w.host.nl.LinkSetUp(l)
	})
	n.up("eth0", addr.String())
}

// load starts the data plane, which then needs no process.
func (w *weft) load(pins string) error {
	return w.host.ns.Do(func() error {
		d, err := ebpf.Open(pins)
		if err != nil {
			return err
		}
		return errors.Join(d.Apply(w.t.ctx, w.set, w.binding), d.Close())
	})
}

// weftSet compiles weft.yaml with a number of rules ahead of its own. Each asks
// for an address and a service of its own, which no packet of the benchmark
// has; half of them apply to what a port sends, half to what it receives.
func weftSet(rules int) (*table.Set, error) {
	changes, problems := intent.Parse("weft.yaml", weftIntent)
	tree := intent.NewTree()
	if !intent.HasErrors(problems) {
		_, problems = tree.Apply(append(changes, otherRules(rules)...))
	}
	if intent.HasErrors(problems) {
		return nil, fmt.Errorf("weft.yaml: %v", problems)
	}
	sets, _ := compile.New().Update(tree, nil)
	return sets["host1"], nil
}

// otherPorts are the ports, from 1024, that rules which match nothing ask for.
const otherPorts = 60000

func otherRules(n int) (out []intent.Change) {
	const policies = "/infra/domains/default/security-policies/"
	for i := range n {
		if i%100 == 0 {
			out = append(out, intent.Put(fmt.Sprintf("%sp%d", policies, i/100), &intent.SecurityPolicy{Category: "Application", SequenceNumber: i / 100}))
		}
		from, to := []string{netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)}).String()}, []string{"ANY"}
		if i%2 == 1 {
			from, to = to, from
		}
		out = append(out, intent.Put(fmt.Sprintf("%sp%d/rules/r%d", policies, i/100, i), &intent.Rule{
			SequenceNumber: i % 100, Action: "DROP", SourceGroups: from, DestinationGroups: to,
			ServiceEntries: []intent.ServiceEntry{&intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{fmt.Sprint(1024 + i%otherPorts)}}},
		}))
	}
	return out
}
