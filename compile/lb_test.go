package compile

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// balancers compiles testdata/balancers.yaml.
func balancers(t *testing.T) (*Compiler, *intent.Tree, *table.Set) {
	t.Helper()
	c, tree := New(), intent.NewTree()
	apply(t, tree, parseFile(t, "balancers.yaml"))
	sets, _ := c.Update(tree, nil)
	return c, tree, only(t, sets)
}

// after applies a change and returns the Set after it.
func after(t *testing.T, c *Compiler, tree *intent.Tree, changes ...intent.Change) *table.Set {
	t.Helper()
	sets, _ := c.Update(tree, apply(t, tree, changes))
	return only(t, sets)
}

func poolAt(t *testing.T, s *table.Set, path string) *table.Pool {
	t.Helper()
	for _, p := range s.Pools.All() {
		if p.Path == path {
			return p
		}
	}
	t.Fatalf("%s: no pool", path)
	return nil
}

// The members of a group are those of the pool, live; who stays keeps its id,
// and nothing but the pool and the group changes.
func TestMemberGroupIsLive(t *testing.T) {
	c, tree, before := balancers(t)
	was := poolAt(t, before, "/infra/lb-pools/web")
	later := after(t, c, tree, intent.Put("/infra/segments/red-web/ports/c", &intent.SegmentPort{
		AddressBindings: []intent.AddressBinding{{IPAddress: "10.1.0.7", MACAddress: "02:00:00:00:00:07"}},
		Resource:        intent.Resource{Tags: []intent.Tag{{Scope: "app", Tag: "web"}}},
	}))
	is := poolAt(t, later, "/infra/lb-pools/web")
	if len(is.Members) != 3 || is.Members[2].Addr != netip.MustParseAddr("10.1.0.7") || is.Members[2].Port != 8080 {
		t.Fatalf("members: got %+v", is.Members)
	}
	if diff := cmp.Diff(was.Members, is.Members[:2], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("who stayed changed (-before +after):\n%s", diff)
	}
	d := table.Diff(before, later)
	if !slices.Equal(d.Pools.Changed, []table.PoolID{is.ID}) || d.VIPs.Len()+d.Routes.Len()+d.Services.Len() != 0 {
		t.Errorf("difference: %+v", d)
	}
}

// Virtual servers of one load balancer share clients iff their profile says so.
func TestPersistenceIsShared(t *testing.T) {
	c, tree, _ := balancers(t)
	persist := func(s *table.Set) map[string]uint32 {
		out := map[string]uint32{}
		for _, v := range s.VIPs.All() {
			for _, server := range v.Servers {
				if server.Persist != 0 {
					out[server.Path] = server.Persist
				}
			}
		}
		return out
	}
	dns, _ := intent.Find[*intent.LBVirtualServer](tree, "/infra/lb-virtual-servers/dns")
	second := *dns
	second.LBPersistenceProfilePath = "/infra/lb-persistence-profiles/client"
	s := after(t, c, tree, intent.Put(dns.Path, &second))
	if p := persist(s); len(p) != 2 || p["/infra/lb-virtual-servers/dns"] == p["/infra/lb-virtual-servers/web"] {
		t.Errorf("another load balancer's: got %v, want two numbers", p)
	}
	web, _ := intent.Find[*intent.LBVirtualServer](tree, "/infra/lb-virtual-servers/web")
	third := second
	third.LBServicePath = web.LBServicePath
	s = after(t, c, tree, intent.Put(dns.Path, &third))
	if p := persist(s); len(p) != 2 || p["/infra/lb-virtual-servers/dns"] != p["/infra/lb-virtual-servers/web"] {
		t.Errorf("shared: got %v, want two servers of one number", p)
	}
	s = after(t, c, tree, intent.Put(second.LBPersistenceProfilePath, &intent.LBSourceIpPersistenceProfile{}))
	if p := persist(s); len(p) != 2 || p["/infra/lb-virtual-servers/dns"] == p["/infra/lb-virtual-servers/web"] {
		t.Errorf("not shared: got %v, want two numbers", p)
	}
}

// Only what is behind a port of the group reaches a distributed load balancer.
func TestDistributedIsAtTheGroup(t *testing.T) {
	c, tree, before := balancers(t)
	at := func(s *table.Set) []string {
		var out []string
		for _, e := range s.Endpoints.All() {
			if e.DLB != 0 {
				out = append(out, s.Services.Get(e.DLB).Path+" "+e.Addr.String())
			}
		}
		slices.Sort(out)
		return out
	}
	const dlb = "/infra/lb-services/cluster"
	if diff := cmp.Diff([]string{dlb + " 10.1.0.5", dlb + " 10.1.0.6", dlb + " 10.1.0.7"}, at(before)); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	later := after(t, c, tree, intent.Put(dlb, &intent.LBService{Size: "DLB", ConnectivityPath: "/infra/domains/default/groups/web"}))
	if diff := cmp.Diff([]string{dlb + " 10.1.0.5", dlb + " 10.1.0.6"}, at(later)); diff != "" {
		t.Errorf("another group (-want +got):\n%s", diff)
	}
}

// What is switched off leaves nothing in the Set.
func TestServiceOff(t *testing.T) {
	c, tree, _ := balancers(t)
	s := after(t, c, tree, intent.Put("/infra/lb-services/red-lb", &intent.LBService{ConnectivityPath: "/infra/tier-1s/red", Enabled: new(bool)}))
	for _, v := range s.Services.All() {
		if v.Path == "/infra/lb-services/red-lb" {
			t.Error("the load balancer is in the Set")
		}
	}
	red := vrfAt(t, s, "/infra/tier-1s/red")
	for key, r := range s.Routes.All() {
		if key.VRF == red.ID && (r.Kind == table.RouteVIP || key.Prefix.Bits() > 0 && key.Prefix.Overlaps(monitorGateway)) {
			t.Errorf("route %v stays", key)
		}
	}
	for _, r := range s.NAT.Get(table.NATKey{VRF: red.ID, Dir: table.NATOut}).Rules {
		if isService(r.Path) {
			t.Errorf("NAT row of %s stays", r.Path)
		}
	}
}

func vrfAt(t *testing.T, s *table.Set, path string) *table.VRF {
	t.Helper()
	for _, v := range s.VRFs.All() {
		if v.Path == path {
			return v
		}
	}
	t.Fatalf("%s: no router", path)
	return nil
}

// A gateway has a firewall as soon as one rule names it, and none without.
func TestGatewayFirewallIsOptional(t *testing.T) {
	c, tree, s := balancers(t)
	if v := vrfAt(t, s, "/infra/tier-1s/red"); v.In == 0 || v.Out == 0 || !s.Rulesets.Get(v.In).Gateway {
		t.Errorf("red: in %d, out %d", v.In, v.Out)
	}
	if v := vrfAt(t, s, "/infra/tier-1s/blue"); v.In != 0 || v.Out != 0 {
		t.Errorf("blue, switched off: in %d, out %d", v.In, v.Out)
	}
	const policies = "/infra/domains/default/gateway-policies/"
	s = after(t, c, tree, intent.Delete(policies+"local"), intent.Delete(policies+"last"), intent.Delete(policies+"emergency"))
	for _, v := range s.VRFs.All() {
		if v.In != 0 || v.Out != 0 {
			t.Errorf("%s, without rules: in %d, out %d", v.Path, v.In, v.Out)
		}
	}
	for _, u := range s.Uplinks.All() {
		if u.In != 0 || u.Out != 0 {
			t.Errorf("%s, without rules: in %d, out %d", u.Path, u.In, u.Out)
		}
	}
	for _, r := range s.Rulesets.All() {
		if r.Gateway {
			t.Errorf("ruleset %s stays", r.Name)
		}
	}
}

// The ports of later virtual servers are what earlier ones leave.
func TestWithout(t *testing.T) {
	m := func(proto uint8, first, last uint16) intent.ServiceMatch {
		return intent.ServiceMatch{Proto: proto, First: first, Last: last}
	}
	for _, tt := range []struct {
		name               string
		list, others, want []intent.ServiceMatch
	}{
		{"nothing taken", []intent.ServiceMatch{m(6, 80, 90)}, nil, []intent.ServiceMatch{m(6, 80, 90)}},
		{"another protocol", []intent.ServiceMatch{m(6, 80, 90)}, []intent.ServiceMatch{m(17, 0, 65535)}, []intent.ServiceMatch{m(6, 80, 90)}},
		{"all", []intent.ServiceMatch{m(6, 80, 90)}, []intent.ServiceMatch{m(6, 80, 90)}, nil},
		{"begin", []intent.ServiceMatch{m(6, 80, 90)}, []intent.ServiceMatch{m(6, 0, 80)}, []intent.ServiceMatch{m(6, 81, 90)}},
		{"end", []intent.ServiceMatch{m(6, 80, 65535)}, []intent.ServiceMatch{m(6, 90, 65535)}, []intent.ServiceMatch{m(6, 80, 89)}},
		{"middle", []intent.ServiceMatch{m(6, 80, 90)}, []intent.ServiceMatch{m(6, 85, 85)}, []intent.ServiceMatch{m(6, 80, 84), m(6, 86, 90)}},
		{"several", []intent.ServiceMatch{m(6, 1, 9)}, []intent.ServiceMatch{m(6, 2, 3), m(6, 5, 8)}, []intent.ServiceMatch{m(6, 1, 1), m(6, 4, 4), m(6, 9, 9)}},
	} {
		if diff := cmp.Diff(tt.want, without(tt.list, tt.others)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
