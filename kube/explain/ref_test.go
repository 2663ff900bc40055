package explain

import (
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseRef(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Ref
		err  string // part of it
	}{
		{text: "pod/web-1", want: Ref{Kind: Pod, Namespace: "shop", Name: "web-1"}},
		{text: "po/web-1", want: Ref{Kind: Pod, Namespace: "shop", Name: "web-1"}},
		{text: "blue/deploy/web", want: Ref{Kind: Deployment, Namespace: "blue", Name: "web"}},
		{text: "deployment.apps/web", want: Ref{Kind: Deployment, Namespace: "shop", Name: "web"}},
		{text: "pod/svc/web", want: Ref{Kind: Service, Namespace: "pod", Name: "web"}},
		{text: "10.0.0.1", want: Ref{Kind: Address, Address: netip.MustParseAddr("10.0.0.1")}},
		{text: "::ffff:10.0.0.1", want: Ref{Kind: Address, Address: netip.MustParseAddr("10.0.0.1")}},
		{text: "web", err: `"web": is not KIND/NAME (pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, svc/NAME, an address; of another namespace NAMESPACE/KIND/NAME)`},
		{text: "pod/", err: "is not KIND/NAME"},
		{text: "/pod/web", err: "is not KIND/NAME"},
		{text: "a/b/c/d", err: "is not KIND/NAME"},
		{text: "", err: "is not KIND/NAME"},
		{text: "node/n1", err: `"node/n1": node is no kind that is meant here (`},
		{text: "netpol/db", err: "netpol is no kind that is meant here"},
		{text: "fe80::1%eth0", err: "is not KIND/NAME"},
	} {
		got, err := ParseRef("shop", tc.text, DestinationKinds()...)
		if err == nil && tc.err != "" || err != nil && (tc.err == "" || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%q: error %v, want %q", tc.text, err, tc.err)
		}
		if d := gocmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.Addr{})); err == nil && d != "" {
			t.Errorf("%q: (-want +got):\n%s", tc.text, d)
		}
	}
	if r, err := ParseRef("shop", "ns/blue", ObjectKinds()...); err != nil || r != (Ref{Kind: Namespace, Name: "blue"}) || r.String() != "namespace blue" {
		t.Errorf("a namespace: %+v (%v)", r, err)
	}
	if r, err := ParseRef("shop", "cnp/no-db", ObjectKinds()...); err != nil || r != (Ref{Kind: ClusterNetworkPolicy, Name: "no-db"}) || r.String() != "clusternetworkpolicy no-db" {
		t.Errorf("a policy of the cluster: %+v (%v)", r, err)
	}
	if _, err := ParseRef("shop", "10.0.0.1", ObjectKinds()...); err == nil {
		t.Error("an address is an object")
	}
}

func TestParseProtocol(t *testing.T) {
	for _, tc := range []struct {
		text string
		want Protocol
		ok   bool
	}{
		{"tcp/80", Protocol{"TCP", 80}, true},
		{"UDP/53", Protocol{"UDP", 53}, true},
		{"icmp", Protocol{"ICMP", 0}, true},
		{text: "icmp/8"}, {text: "icmp/"}, {text: "tcp"}, {text: "tcp/0"}, {text: "tcp/65536"}, {text: "tcp/http"}, {text: "sctp/1"}, {text: ""}, {text: "tcp/80/81"},
	} {
		got, err := ParseProtocol(tc.text)
		if got != tc.want || (err == nil) != tc.ok {
			t.Errorf("%q: %+v (%v), want %+v", tc.text, got, err, tc.want)
		}
		if back, err := ParseProtocol(got.String()); tc.ok && (err != nil || back != got) {
			t.Errorf("%q: comes back as %+v", tc.text, back)
		}
	}
}
