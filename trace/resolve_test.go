package trace

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// twins is testset with a second port called web2, on app.
func twins() *pipeline.Index {
	set := testset.New()
	set.Ports.Get(testset.App2).Name = "web2"
	set.Ports.Get(testset.DMZ1).Name = "blue/dmz"
	return pipeline.NewIndex(set)
}

func place(id table.PortID, addr string) Place { return Place{id, netip.MustParseAddr(addr)} }

func TestResolveSource(t *testing.T) {
	for _, tc := range []struct {
		name string
		want Place
		err  string
	}{
		{name: "web1", want: place(testset.Web1, "10.1.1.10")},
		{name: "web/web1", want: place(testset.Web1, "10.1.1.10")},
		{name: "blue/dmz", want: place(testset.DMZ1, "172.16.3.10")},
		{name: "dmz1", want: place(testset.DMZ1, "172.16.3.10")},
		{name: "dmz/dmz1", want: place(testset.DMZ1, "172.16.3.10")},
		{name: "/infra/segments/web/ports/web1", want: place(testset.Web1, "10.1.1.10")},
		{name: "app/web2", want: place(testset.App2, "10.1.1.40")},
		{name: "node-up", want: place(testset.NodeUp, "10.1.1.20")},
		{name: "10.1.2.10", want: place(testset.DB1, "10.1.2.10")},
		{name: "192.0.2.77", want: place(testset.UplinkEast, "192.0.2.77")},
		{name: "192.0.2.77@west", want: place(testset.UplinkWest, "192.0.2.77")},
		{name: "192.0.2.77@/infra/tier-0s/t0/locale-services/default/interfaces/west", want: place(testset.UplinkWest, "192.0.2.77")},
		{name: "10.1.1.99@web1", want: place(testset.Web1, "10.1.1.99")},

		{name: "web2", err: "source web2: is the name of several ports (/infra/segments/app/ports/app2, /infra/segments/web/ports/web2)"},
		{name: "10.1.1.1@web2", err: "source 10.1.1.1@web2: web2: is the name of several ports (/infra/segments/app/ports/app2, /infra/segments/web/ports/web2)"},
		{name: "10.1.1.10", err: "source 10.1.1.10: is the address of several ports (/infra/segments/app/ports/app1, /infra/segments/web/ports/web1)"},
		{name: "10.1.2.1", err: "source 10.1.2.1: is an address of tier-1 red (/infra/tier-1s/red), which begins no flow"},
		{name: "10.1.2.99", err: "source 10.1.2.99: is in the subnet of segment db (/infra/segments/db), of which no port has it (10.1.2.99@PORT sends it all the same)"},
		{name: "10.50.0.1", err: "source 10.50.0.1: no port has it and no Tier-0 has a route for it by an uplink"},
		{name: "web", err: "source web: is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)"},
		{name: "", err: "source : is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)"},
		{name: "web/", err: "source web/: is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)"},
		{name: "2001:db8::1", err: "source 2001:db8::1: is not IPv4 (IPv6 is not carried yet)"},
		{name: "web1@east", err: "source web1@east: is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)"},
		{name: "192.0.2.77@north", err: "source 192.0.2.77@north: north: is no port and no uplink"},
	} {
		got, err := ResolveSource(twins(), tc.name)
		checkPlace(t, tc.name, got, err, tc.want, tc.err)
	}
}

func TestResolveDestination(t *testing.T) {
	for _, tc := range []struct {
		name string
		want Place
		err  string
	}{
		{name: "db1", want: place(testset.DB1, "10.1.2.10")},
		{name: "node-up", want: place(testset.NodeUp, "10.1.1.20")},
		{name: "10.1.1.10", want: place(0, "10.1.1.10")}, // whoever has it from where the packet is
		{name: "192.0.2.77", want: place(0, "192.0.2.77")},
		{name: "web2", err: "destination web2: is the name of several ports (/infra/segments/app/ports/app2, /infra/segments/web/ports/web2)"},
		{name: "east", err: "destination east: is no port and no address (a port's name, SEGMENT/PORT, its policy path, or an address)"},
	} {
		got, err := ResolveDestination(twins(), tc.name)
		checkPlace(t, tc.name, got, err, tc.want, tc.err)
	}
}

func checkPlace(t *testing.T, name string, got Place, err error, want Place, wantErr string) {
	t.Helper()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || text != wantErr {
		t.Errorf("%q: %q, want %q (-want +got):\n%s", name, text, wantErr, diff)
	}
}

// TestResolveAmongTier0s asks for an address that two Tier-0s lead to.
func TestResolveAmongTier0s(t *testing.T) {
	const second, uplink, hop = 90, 91, 92
	set := testset.New()
	set.VRFs.Put(second, &table.VRF{ID: second, Kind: table.Tier0, Path: "/infra/tier-0s/t1", Name: "t1"})
	set.Uplinks.Put(uplink, &table.Uplink{ID: uplink, Path: "/infra/tier-0s/t1/locale-services/default/interfaces/north", Name: "north", VRF: second})
	set.NextHops.Put(hop, &table.NextHop{ID: hop, Uplink: uplink, Addr: netip.MustParseAddr("198.18.0.1")})
	for _, p := range []string{"0.0.0.0/0", "198.18.0.0/15"} {
		k := table.RouteKey{VRF: second, Prefix: netip.MustParsePrefix(p)}
		set.Routes.Put(k, &table.Route{VRF: second, Prefix: k.Prefix, Kind: table.RouteUplink, NextHops: []table.NextHopID{hop}})
	}
	ix := pipeline.NewIndex(set)
	got, err := ResolveSource(ix, "198.18.5.5") // the longer prefix decides
	checkPlace(t, "198.18.5.5", got, err, place(uplink, "198.18.5.5"), "")
	got, err = ResolveSource(ix, "192.0.2.77")
	checkPlace(t, "192.0.2.77", got, err, Place{}, "source 192.0.2.77: is behind several Tier-0s "+
		"(/infra/tier-0s/t0/locale-services/default/interfaces/east, "+
		"/infra/tier-0s/t1/locale-services/default/interfaces/north; say which as 192.0.2.77@UPLINK)")
}
