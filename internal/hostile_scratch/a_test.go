package scratch

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

func load(t *testing.T, change func(string) string) (*table.Set, []intent.Problem) {
	b, err := os.ReadFile("../../compile/testdata/balancers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ch, p := intent.Parse("x.yaml", []byte(change(strings.Replace(string(b), "via_virtual_server: true}}", "}}\n        - {resource_type: ChildRule, Rule: {id: all, action: ALLOW}}", 1))))
	if len(p) > 0 {
		t.Fatal(p)
	}
	tree := intent.NewTree()
	changed, p := tree.Apply(ch)
	if len(p) > 0 {
		fmt.Println("problems:", p)
		return nil, p
	}
	sets, warn := compile.New().Update(tree, changed)
	for _, s := range sets {
		return s, warn
	}
	return nil, warn
}

func portOf(s *table.Set, path string) *table.Port {
	for _, p := range s.Ports {
		if strings.HasSuffix(p.Path, path) {
			return p
		}
	}
	return nil
}

func run(s *table.Set, st *pipeline.State, in table.PortID, p packet.Spec) pipeline.Result {
	return pipeline.Run(pipeline.NewIndex(s), st, pipeline.Input{Port: in, Frame: packet.Build(p)}, 1, 1000)
}

func show(s *table.Set, r pipeline.Result) string {
	out := fmt.Sprintf("%v %v as %v out %d:", r.Verdict, r.Reason, r.Translated, r.Out)
	for _, x := range r.Steps {
		out += fmt.Sprintf(" %v(#%d %v)", x.Stage, x.Rule, x.Reason)
	}
	return out
}

func TestBinding(t *testing.T) {
	s, warn := load(t, func(y string) string {
		return strings.Replace(y, "{id: c, address_bindings: [{ip_address: 10.1.0.7, mac_address: '02:00:00:00:00:07'}]}", "{id: c, address_bindings: [{ip_address: 10.1.0.7, mac_address: '02:00:00:00:00:07'},{ip_address: 169.254.255.2, mac_address: '02:00:00:00:00:07'}]}", 1)
	})
	for _, w := range warn {
		if strings.Contains(fmt.Sprint(w), "169.254") {
			fmt.Println("warn:", w)
		}
	}
	p := portOf(s, "red-web/ports/c")
	for k, e := range s.Endpoints {
		if e.Port == p.ID {
			fmt.Println("endpoint", k.Addr)
		}
	}
	st := pipeline.NewState(100)
	for _, src := range []string{"10.1.0.7", "169.254.255.2"} {
		sp := packet.Spec{EthSrc: packet.MAC(p.MAC), EthDst: packet.MAC(table.RouterMAC), TTL: 64, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.2.0.5"), Proto: packet.UDP, SrcPort: 5, DstPort: 6}
		fmt.Println(src, show(s, run(s, st, p.ID, sp)))
	}
}

func TestReach(t *testing.T) {
	s, _ := load(t, func(y string) string { return y })
	st := pipeline.NewState(100)
	for _, who := range []string{"red-web/ports/c", "blue-web/ports/a"} {
		p := portOf(s, who)
		var a netip.Addr
		for k, e := range s.Endpoints {
			if e.Port == p.ID {
				a = k.Addr
			}
		}
		sp := packet.Spec{EthSrc: packet.MAC(p.MAC), EthDst: packet.MAC(table.RouterMAC), TTL: 64, Src: a, Dst: netip.MustParseAddr("169.254.255.2"), Proto: packet.TCP, SrcPort: 5, DstPort: 22, Flags: packet.SYN}
		fmt.Println(who, show(s, run(s, st, p.ID, sp)))
	}
	for id, u := range s.Uplinks {
		sp := packet.Spec{EthDst: packet.MAC(table.RouterMAC), TTL: 64, Src: netip.MustParseAddr("198.18.0.9"), Dst: netip.MustParseAddr("169.254.255.2"), Proto: packet.UDP, SrcPort: 5, DstPort: 22}
		fmt.Println(u.Path, show(s, run(s, st, id, sp)))
	}
}

func TestSegment(t *testing.T) {
	s, warn := load(t, func(y string) string {
		return strings.Replace(y, "subnets: [{gateway_address: 10.1.0.1/24}]", "subnets: [{gateway_address: 10.1.0.1/24},{gateway_address: 169.254.255.1/24}]", 1)
	})
	if s == nil {
		return
	}
	for _, w := range warn {
		if strings.Contains(fmt.Sprint(w), "169.254") {
			fmt.Println("warn:", w)
		}
	}
	for k, r := range s.Routes {
		if strings.HasPrefix(k.Prefix.String(), "169.254") {
			fmt.Println("route", k, r.Kind, r.Source)
		}
	}
}
