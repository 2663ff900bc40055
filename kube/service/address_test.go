package service

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// A Service that asks for the address which a pool gave it keeps that pool, so
// that it has to leave when nobody asks for either.
func TestAddressOfAPoolIsAskedFor(t *testing.T) {
	has := netip.MustParseAddr("203.0.113.10")
	r := Request{Service: svc(t, "{type: LoadBalancer, ports: [{port: 80}], loadBalancerIP: 203.0.113.10}"), Place: place(), Has: has, HasPool: "gold"}
	got := Build(r, tree(t))
	ofGold := func(o intent.Object) bool {
		_, is := o.(*intent.LBVirtualServer)
		return is && slices.ContainsFunc(o.Meta().Tags, func(t intent.Tag) bool { return t.Scope == ncp.TagIPPool && t.Tag == "gold" })
	}
	if got.Address != has || !slices.ContainsFunc(got.Objects, ofGold) {
		t.Errorf("asked for: %s, %+v", got.Address, got.Objects)
	}
	r.Service.Spec.LoadBalancerIP = ""
	if got := Build(r, tree(t)); got.Address == has {
		t.Error("nobody asks for the pool, and its address stays")
	}
}

// Ranges that are an older object's give no new addresses, and take none away.
func TestContestedRangesGiveNoAddresses(t *testing.T) {
	p := place()
	p.Conflict = "NamespaceNetwork/red: ingressCIDRs[0]: 10.203.182.128/30: is another's"
	r := Request{Service: svc(t, "{type: LoadBalancer, ports: [{port: 80}]}"), Place: p}
	got := Build(r, tree(t))
	if got.Address.IsValid() || len(got.Faults) != 1 || !strings.HasSuffix(got.Faults[0].Msg, p.Conflict) {
		t.Errorf("a new one: %s, %+v", got.Address, got.Faults)
	}
	r.Has = netip.MustParseAddr("10.203.182.130")
	if got := Build(r, tree(t)); got.Address != r.Has || len(got.Faults) != 1 {
		t.Errorf("one that it has: %s, %+v", got.Address, got.Faults)
	}
}
