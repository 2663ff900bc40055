package service

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/weft-net/weft/kube/writer"
)

// When status.loadBalancer changes, and to what.
func TestIngress(t *testing.T) {
	const ours, theirs = "{type: LoadBalancer}", "{type: LoadBalancer, loadBalancerClass: example.com/lb}"
	for _, tc := range []struct {
		name      string
		spec      string
		have      string // in the status
		has       string // in the store
		address   string // by the translation
		blocked   bool
		want      string // empty: none
		unchanged bool
	}{
		{name: "in force", spec: ours, has: "10.0.0.1", address: "10.0.0.1", want: "10.0.0.1"},
		{name: "there already", spec: ours, have: "10.0.0.1", has: "10.0.0.1", address: "10.0.0.1", unchanged: true},
		{name: "not in force", spec: ours, has: "10.0.0.1", address: "10.0.0.1", blocked: true, unchanged: true},
		{name: "another one, not in force", spec: ours, have: "10.0.0.2", has: "10.0.0.1", address: "10.0.0.1", blocked: true},
		{name: "it stays though nothing can be written", spec: ours, have: "10.0.0.1", has: "10.0.0.1", blocked: true, unchanged: true},
		{name: "no address any more", spec: ours, have: "10.0.0.1"},
		{name: "none", spec: ours, unchanged: true},
		{name: "another's class", spec: theirs, have: "10.0.0.1", unchanged: true},
		{name: "another type", spec: "{type: ClusterIP}", have: "10.0.0.1"},
	} {
		s := svc(t, tc.spec)
		if tc.have != "" {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: tc.have}}
		}
		a := answer{waits: writer.Nothing()}
		if tc.blocked {
			a.waits = writer.Outcome{}
		}
		a.has, _ = netip.ParseAddr(tc.has)
		a.Address, _ = netip.ParseAddr(tc.address)
		list, changed := ingress(s, a)
		var got string
		for _, i := range list {
			got += i.IP
		}
		if diff := cmp.Diff([]any{tc.want, !tc.unchanged}, []any{got, changed}); diff != "" {
			t.Errorf("%s: address and whether it changes (-want +got):\n%s", tc.name, diff)
		}
	}
}
