package explain

import (
	"context"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/policy"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares a text with testdata/<name>.txt.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("%s: (-want +got):\n%s", file, d)
	}
}

// owned puts objects where an owner has them.
func owned(owner store.Owner, at map[string]intent.Object) []intent.Object {
	var out []intent.Object
	for path, o := range at {
		o = intent.Put(path, o).Object
		store.SetOwner(o, owner)
		out = append(out, o)
	}
	return out
}

func named(name string, tags ...intent.Tag) intent.Resource {
	return intent.Resource{DisplayName: name, Tags: tags}
}

// Of namespace shop.
const (
	u       = "11111111-71b0-4b5d-a8a0-06b1d2b14c4e" // its UID
	segment = "/infra/segments/seg_" + u + "_0"
)

func TestBehind(t *testing.T) {
	shop := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: u}}
	system := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: other}}
	web, svc, idle := pod("web-1", "True"), &corev1.Service{ObjectMeta: metaOf("web")}, &corev1.Service{ObjectMeta: metaOf("idle")}
	db := &netv1.NetworkPolicy{ObjectMeta: metaOf("db"), Spec: netv1.NetworkPolicySpec{
		PodSelector: *selector("app", "db"),
		Ingress: []netv1.NetworkPolicyIngressRule{{
			From:  []netv1.NetworkPolicyPeer{{PodSelector: selector("app", "web")}},
			Ports: []netv1.NetworkPolicyPort{{Port: &intstr.IntOrString{IntVal: 3306}}},
		}},
	}}
	for i, o := range []client.Object{web, svc, db, idle} {
		o.SetUID([]types.UID{"p1", "s1", "n1", "s2"}[i])
	}
	all := standing(db)
	for _, tc := range []struct {
		kind   string
		object client.Object
		golden string
	}{
		{Pod, web, "pod"}, {Service, svc, "service"}, {Namespace, shop, "namespace"}, {NetworkPolicy, db, "networkpolicy"},
		{Namespace, system, "system-namespace"}, {Service, idle, "nothing"},
		{Supervisor, &v1alpha1.Supervisor{ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "v1"}}, "supervisor"},
		{ClusterNetworkPolicy, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "no-db", UID: "c1"}}, "clusternetworkpolicy"},
	} {
		r := Ref{Kind: tc.kind, Namespace: tc.object.GetNamespace(), Name: tc.object.GetName()}
		var b strings.Builder
		behind, err := FindBehind(t.Context(), all, r, tc.object)
		if err == nil {
			err = behind.Print(&b)
		}
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "behind-"+tc.golden, b.String())
	}
}

// standingIntent is Intent that has objects.
type standingIntent []intent.Object

// Tree implements Intent.
func (s standingIntent) Tree(_ context.Context, query url.Values) ([]intent.Object, error) {
	out := slices.DeleteFunc(slices.Clone(s), func(o intent.Object) bool { return string(store.OwnerOf(o)) != query.Get("owner") })
	slices.SortFunc(out, func(x, y intent.Object) int { return strings.Compare(x.Meta().Path, y.Meta().Path) })
	return out, nil
}

// Object implements Intent.
func (s standingIntent) Object(_ context.Context, path string) (intent.Object, error) {
	for _, o := range s {
		if o.Meta().Path == path {
			return o, nil
		}
	}
	return nil, nil
}

// standing returns what stands behind the objects of TestBehind.
func standing(db *netv1.NetworkPolicy) standingIntent {
	isolation, group := ncp.IsolationPath("c", u), ncp.NamespaceGroupPath("c", u)
	all := owned("Namespace/shop/"+u, map[string]intent.Object{
		ncp.Tier1Path(u): &intent.Tier1{Resource: named("shop"), Tier0Path: "/infra/tier-0s/provider"},
		segment:          &intent.Segment{Resource: named("shop-0"), ConnectivityPath: ncp.Tier1Path(u), Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.244.0.17/28"}}},
		ncp.NATRulePath(ncp.Tier1Path(u), "egress"):    &intent.PolicyNatRule{Resource: named("egress"), Action: "SNAT", TranslatedNetwork: "172.16.2.1", SequenceNumber: 2},
		ncp.NATRulePath(ncp.Tier1Path(u), "ingress-0"): &intent.PolicyNatRule{Resource: named("ingress-0"), Action: "NO_SNAT", SourceNetwork: "10.244.0.0/20,10.9.0.0/16", DestinationNetwork: "172.16.1.0/24", SequenceNumber: 1},
		ncp.LBServicePath(u):                           &intent.LBService{Resource: named("shop"), Size: "SMALL"},
		group:                                          &intent.Group{Resource: named("shop"), Expression: []intent.Expression{&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: "ncp/project_uid|" + u}}},
		isolation:                                      &intent.SecurityPolicy{Resource: named("shop-isolation"), Category: "Application", SequenceNumber: 99, Scope: []string{group}},
		isolation + "/rules/deny-all-ingress":          &intent.Rule{Resource: named("deny-all-ingress"), RuleID: 1005, Action: "DROP", Direction: "IN", SequenceNumber: 30},
		isolation + "/rules/allow-virtual-servers":     &intent.Rule{Resource: named("allow-virtual-servers"), RuleID: 1004, Action: "ALLOW", Direction: "IN", SequenceNumber: 20, ViaVirtualServer: true},
		isolation + "/rules/allow-same-namespace":      &intent.Rule{Resource: named("allow-same-namespace"), RuleID: 1003, Action: "ALLOW", Direction: "IN", SequenceNumber: 10, SourceGroups: []string{group}},
	})
	all = append(all, owned("Supervisor/default", map[string]intent.Object{
		ncp.SystemTier1Path("c"):                            &intent.Tier1{Resource: named("c-system")},
		ncp.NATRulePath(ncp.SystemTier1Path("c"), "egress"): &intent.PolicyNatRule{TranslatedNetwork: "172.16.2.9"},
		ncp.DLBPath("c"):                                    &intent.LBService{Resource: named("dlb")},
	})...)
	all = append(all, owned("Namespace/kube-system/"+other, map[string]intent.Object{
		ncp.SegmentPath(other, 0): &intent.Segment{Resource: named("kube-system-0"), ConnectivityPath: ncp.SystemTier1Path("c"), Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.244.0.33/28"}}},
	})...)
	all = append(all, owned("Pod/shop/web-1/p1", map[string]intent.Object{
		ncp.PortPath(segment, "p1"): &intent.SegmentPort{
			Resource:        named("shop/web-1", intent.Tag{Scope: "ncp/pod", Tag: "web-1"}, intent.Tag{Scope: "app", Tag: "web"}),
			AddressBindings: []intent.AddressBinding{{IPAddress: "10.244.0.18", MACAddress: "04:50:56:00:00:12"}},
		},
	})...)
	all = append(all, owned("Service/shop/web/s1", map[string]intent.Object{
		ncp.VirtualServerPath("web_80_TCP_aaaaa"): &intent.LBVirtualServer{Resource: named("web_80_TCP"), IPAddress: "10.96.0.9", Ports: []string{"80"}, LBServicePath: ncp.DLBPath("c")},
		ncp.VirtualServerPath("web_80_TCP_bbbbb"): &intent.LBVirtualServer{
			Resource: named("web_80_TCP"), IPAddress: "172.16.1.4", Ports: []string{"80"}, LBServicePath: ncp.LBServicePath(u),
			AccessListControl: &intent.LBAccessListControl{GroupPath: ncp.GroupPath("c", "src")},
		},
		ncp.GroupPath("c", "src"): &intent.Group{Expression: []intent.Expression{&intent.IPAddressExpression{IPAddresses: []string{"192.0.2.0/24"}}}},
		ncp.PoolPath("web_80_TCP_aaaaa"): &intent.LBPool{
			Algorithm: "ROUND_ROBIN", SNATTranslation: &intent.LBSnatTranslation{Type: "LBSnatDisabled"},
			Members: []intent.LBPoolMember{{DisplayName: "web-1", IPAddress: "10.244.0.18", Port: "8080"}},
		},
		ncp.PoolPath("web_80_TCP_bbbbb"): &intent.LBPool{Algorithm: "ROUND_ROBIN"},
	})...)
	objects, _ := policy.NetworkPolicy(db, policy.Place{Cluster: "c", NamespaceUID: u})
	for _, o := range objects {
		store.SetOwner(o, "NetworkPolicy/shop/db/n1")
	}
	all = append(all, objects...)
	admin := ncp.GroupPath("c", "admin")
	return append(all, owned("ClusterNetworkPolicy/no-db/c1", map[string]intent.Object{
		admin: &intent.Group{Resource: named("databases"), Expression: []intent.Expression{&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: "app|db"}}},
		"/infra/domains/c/security-policies/cnp_c1":              &intent.SecurityPolicy{Resource: named("no-db"), Category: "Environment", SequenceNumber: 10, Scope: []string{admin}},
		"/infra/domains/c/security-policies/cnp_c1/rules/deny-0": &intent.Rule{Resource: named("deny-0"), RuleID: 1007, Action: "DROP", Direction: "IN", SequenceNumber: 1},
	})...)
}
