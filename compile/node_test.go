package compile

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// A Node's default is the gateway in whose subnet its port's first address is,
// in whatever order the addresses are.
func TestNodeDefaultIsTheGatewayOfItsFirstAddress(t *testing.T) {
	for first, want := range map[string]string{"10.1.0.9": "10.1.0.1", "10.2.0.9": "10.2.0.1"} {
		second := map[string]string{"10.1.0.9": "10.2.0.9", "10.2.0.9": "10.1.0.9"}[first]
		tree := intent.NewTree()
		apply(t, tree, []intent.Change{
			intent.Put("/infra/tier-1s/a", &intent.Tier1{}),
			intent.Put("/infra/segments/s", &intent.Segment{
				ConnectivityPath: "/infra/tier-1s/a",
				Subnets:          []intent.SegmentSubnet{{GatewayAddress: "10.1.0.1/24"}, {GatewayAddress: "10.2.0.1/24"}},
			}),
			intent.Put("/infra/segments/s/ports/p", &intent.SegmentPort{AddressBindings: []intent.AddressBinding{
				{IPAddress: first, MACAddress: "02:00:00:00:00:01"}, {IPAddress: second, MACAddress: "02:00:00:00:00:01"},
			}}),
			intent.Put("/infra/nodes/n", &intent.Node{PortPath: "/infra/segments/s/ports/p"}),
		})
		sets, _ := New().Update(tree, nil)
		var got []netip.Addr
		for key, r := range only(t, sets).Routes.All() {
			if key.Prefix.Bits() == 0 && r.Kind == table.RouteNode {
				got = append(got, r.Via)
			}
		}
		if len(got) != 1 || got[0] != netip.MustParseAddr(want) {
			t.Errorf("first address %s: default by %v, want %s", first, got, want)
		}
	}
}
