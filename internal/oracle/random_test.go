package oracle

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
)

// inOrder links Tier-1s to the Tier-0 in the order of their ids t0 to t9.
func inOrder(tier1 string) (netip.Addr, netip.Addr) {
	n := 2 * uint64(tier1[len(tier1)-1]-'0')
	first := netip.MustParseAddr("100.64.0.0")
	return plus(first, n), plus(first, n+1)
}

// TestRandomCoverage wants packets of a few random trees to end in every way
// that a first packet can, and the trees to have every kind of object.
func TestRandomCoverage(t *testing.T) {
	ends, types := map[string]int{}, map[string]int{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		tree := RandomTree(r, Small())
		o, edges := New(tree, Facts{Transit: inOrder}), EdgesOf(tree)
		for _, object := range tree.All() {
			types[object.Meta().ResourceType]++
		}
		for range 150 {
			p := RandomPacket(r, edges)
			v := o.Judge(p)
			ends[string(v.Disposition)+" "+v.Reason]++
			if v.Disposition == Delivered && v.SrcSeen != p.Src {
				ends["delivered with another source"]++
			}
			if v.Disposition == Delivered && v.DstSeen != p.Dst {
				ends["delivered to another destination"]++
			}
			if v.SrcSeenPool.IsValid() {
				ends["source pool"]++
			}
			if v.DstSeenPool.IsValid() {
				ends["destination pool"]++
			}
		}
	}
	for _, want := range []string{
		"delivered ", "answered ", "dropped martian", "dropped icmp_type", "dropped no_port", "dropped spoofguard", "dropped no_connection",
		"dropped dfw_rule", "dropped mac_unknown", "dropped no_gateway", "dropped urpf", "dropped no_route", "dropped no_listener",
		"dropped ttl_exceeded", "dropped no_endpoint",
		"delivered with another source", "delivered to another destination", "source pool", "destination pool",
	} {
		if ends[want] == 0 {
			t.Errorf("no packet ended as %q", want)
		}
	}
	if ends["delivered "] < 600 {
		t.Errorf("%d of 6000 packets were delivered, want one in ten", ends["delivered "])
	}
	for _, want := range []string{
		"Tier0Interface", "Tier1", "Segment", "SegmentPort", "Node", "Group", "SecurityPolicy", "Rule", "PolicyNatRule", "StaticRoutes",
		"L4PortSetServiceEntry", "ICMPTypeServiceEntry", "IPProtocolServiceEntry", "NestedServiceServiceEntry",
	} {
		if types[want] == 0 {
			t.Errorf("no tree has a %s", want)
		}
	}
}

// TestRandomSeed: the same seed gives the same tree and packets.
func TestRandomSeed(t *testing.T) {
	build := func() (*intent.Tree, []Packet) {
		r := rand.New(rand.NewPCG(7, 7))
		tree := RandomTree(r, Small())
		var packets []Packet
		for range 20 {
			packets = append(packets, RandomPacket(r, EdgesOf(tree)))
		}
		return tree, packets
	}
	tree1, packets1 := build()
	tree2, packets2 := build()
	same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(packets1, packets2, same); diff != "" {
		t.Errorf("packets (-first +second):\n%s", diff)
	}
	paths := func(t *intent.Tree) (out []string) {
		for _, o := range t.All() {
			out = append(out, o.Meta().Path)
		}
		return out
	}
	if diff := cmp.Diff(paths(tree1), paths(tree2)); diff != "" {
		t.Errorf("trees (-first +second):\n%s", diff)
	}
}
