package ncp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
)

// The names are what people see and search for: none may change by accident.
func TestPaths(t *testing.T) {
	const c, u = "domain-c8", "0d1f"
	for _, tc := range [][2]string{
		{DomainPath(c), "/infra/domains/domain-c8"},
		{Tier1Path(u), "/infra/tier-1s/t1_0d1f_rtr"},
		{SystemTier1Path(c), "/infra/tier-1s/t1_domain-c8_system_rtr"},
		{SegmentPath(u, 2), "/infra/segments/seg_0d1f_2"},
		{SegmentName("red", 2), "red-2"},
		{SystemSegmentPath(c), "/infra/segments/seg_domain-c8_system_0"},
		{PortPath(SegmentPath(u, 0), "p"), "/infra/segments/seg_0d1f_0/ports/p"},
		{PortName("red", "web"), "red/web"},
		{NATRulePath(Tier1Path(u), NATIngress+"0"), "/infra/tier-1s/t1_0d1f_rtr/nat/USER/nat-rules/ingress-0"},
		{NATRulePath(Tier1Path(u), ServiceSNATID("5e1f")), "/infra/tier-1s/t1_0d1f_rtr/nat/USER/nat-rules/svc_5e1f"},
		{LBServicePath(u), "/infra/lb-services/lbs_0d1f"},
		{SystemLBServicePath(c), "/infra/lb-services/lbs_domain-c8_system"},
		{DLBPath(c), "/infra/lb-services/clusterip_domain-c8_dlb"},
		{AllSegmentsPath(c), "/infra/domains/domain-c8/groups/clusterip_domain-c8_all_segments"},
		{TCPProfilePath(c), "/infra/lb-app-profiles/ncp_domain-c8_LBFastTcpProfile"},
		{UDPProfilePath(c), "/infra/lb-app-profiles/ncp_domain-c8_LBFastUdpProfile"},
		{NamespaceGroupPath(c, u), "/infra/domains/domain-c8/groups/ns_0d1f"},
		{ClusterGroupPath(c, u, "tkc"), "/infra/domains/domain-c8/groups/ns_0d1f_cluster_tkc"},
		{IsolationPath(c, u), "/infra/domains/domain-c8/security-policies/is_0d1f"},
		{NetworkPolicyAllowPath(c, u), "/infra/domains/domain-c8/security-policies/np_0d1f_allow"},
		{NetworkPolicyIsolationPath(c, u), "/infra/domains/domain-c8/security-policies/np_0d1f_isolation"},
		{NetworkPolicyAllowName("hackazon", "contour"), "hackazon-contour-allowlist"},
		{NetworkPolicyIsolationName("hackazon", "contour"), "hackazon-contour-isolation"},
		{AllowRuleName([]string{"TCP.80"}, "ingress"), "TCP.80-ingress-allow"},
		{AllowRuleName([]string{"TCP.80", "UDP.53"}, "egress"), "TCP.80_UDP.53-egress-allow"},
		{AllowRuleName(nil, "egress"), "all-egress-allow"},
		{VirtualServerName("web", 80, "TCP"), "web_80_TCP"},
		{AnnotationSubnet(1), "ncp/subnet-1"},
		{PoolID(c, "vc", netip.MustParseAddr("10.114.19.161"), netip.MustParseAddr("10.114.19.190")), "domain-c8:vc-ippool-10-114-19-161-10-114-19-190"},
	} {
		if tc[0] != tc[1] {
			t.Errorf("got %s, want %s", tc[0], tc[1])
		}
	}
}

func TestPolicyOf(t *testing.T) {
	const uid = "6a54b5f4-71b0-4b5d-a8a0-06b1d2b14c4e"
	for id, want := range map[string]PolicyPrefix{
		"is_" + uid: PrefixIsolation, "np_" + uid + "_allow": PrefixNetworkPolicy, "np_" + uid + "_isolation": PrefixNetworkPolicy,
		"cnp_" + uid: PrefixClusterPolicy, "cnp_0010_" + uid: PrefixClusterPolicy, "anp_" + uid: PrefixAdminPolicy, "banp_" + uid: PrefixBaselinePolicy,
		"is_mine": "", "np_x_allow": "", "anp_ABCDEFGH-71b0-4b5d-a8a0-06b1d2b14": "", "xnp_" + uid: "", "mine": "", "": "",
	} {
		wantUID := uid
		if want == "" {
			wantUID = ""
		}
		if got, gotUID := PolicyOf(id); got != want || gotUID != wantUID {
			t.Errorf("%s: got %s, %s", id, got, gotUID)
		}
	}
	for _, id := range []string{intent.IDOf(UplinkGuardPath("domain-c8")), "uplink_guard_my_cluster"} {
		if got, gotUID := PolicyOf(id); got != PrefixUplinkGuard || gotUID != "" {
			t.Errorf("%s: got %s, %s", id, got, gotUID)
		}
	}
	if a, b := PrefixClusterPolicy.OrderedID(9, uid), PrefixClusterPolicy.OrderedID(1000, uid); a >= b || b != "cnp_1000_"+uid {
		t.Errorf("%s is not before %s", a, b)
	}
}

func TestSegmentIndex(t *testing.T) {
	for _, tc := range []struct {
		path string
		n    int
		ok   bool
	}{
		{"/infra/segments/seg_u_0", 0, true}, {"/infra/segments/seg_u_12", 12, true}, {"/infra/segments/seg_u_-1", -1, false},
		{"/infra/segments/seg_v_0", 0, false}, {"/infra/segments/seg_u_", 0, false}, {"/infra/segments/seg_u_0/ports/x", 0, false},
	} {
		if n, ok := SegmentIndex("u", tc.path); ok != tc.ok || ok && n != tc.n {
			t.Errorf("%s: got %d %v", tc.path, n, ok)
		}
	}
}

// Two virtual servers never have one id.
func TestVirtualServerIDs(t *testing.T) {
	seen := map[string]bool{}
	for _, uid := range []string{"u1", "u2"} {
		for _, what := range []string{CreatedForDLB, CreatedForSLB} {
			for _, address := range []string{"10.96.0.1", "fd00::1"} {
				for _, proto := range []string{"TCP", "UDP"} {
					id := VirtualServerID("web", uid, what, address, 80, proto)
					if seen[id] || !strings.HasPrefix(id, "web_80_"+proto+"_") || len(id) != len("web_80_TCP_")+5 {
						t.Errorf("%s", id)
					}
					seen[id] = true
				}
			}
		}
	}
}

// Names stay within what an object's name may have, and different ones stay
// different.
func TestLongNames(t *testing.T) {
	ports := make([]string, 100)
	for i := range ports {
		ports[i] = "TCP.60000"
	}
	a := AllowRuleName(ports, "ingress")
	b := AllowRuleName(append(ports, "UDP.1"), "ingress")
	for _, s := range []string{a, b, PortName(strings.Repeat("n", 63), strings.Repeat("p", 253)), NetworkPolicyAllowName(strings.Repeat("n", 63), strings.Repeat("p", 253))} {
		if len(s) > 255 {
			t.Errorf("%d bytes: %s", len(s), s)
		}
	}
	if a == b || !strings.HasSuffix(a, "-ingress-allow") {
		t.Errorf("%s, %s", a, b)
	}
}

func TestPortTags(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "red", Name: "web-1",
			Labels: map[string]string{"app": "web", "empty": "", "ncp/project_uid": "of-blue", "weft/owner": "x", "a.example/b": "c"},
		},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 9, Protocol: "UDP"}}}},
			Containers: []corev1.Container{
				{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 1}}},
				{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}, {Name: "http", ContainerPort: 80, Protocol: "TCP"}}},
			},
		},
	}
	want := []intent.Tag{
		{Scope: "ncp/cluster", Tag: "domain-c8"},
		{Scope: "ncp/project", Tag: "red"},
		{Scope: "ncp/project_uid", Tag: "u"},
		{Scope: "ncp/pod", Tag: "web-1"},
		{Scope: "a.example/b", Tag: "c"},
		{Scope: "app", Tag: "web"},
		{Scope: "empty", Tag: "(empty)"},
		{Scope: "label:ncp/project_uid", Tag: "of-blue"},
		{Scope: "label:weft/owner", Tag: "x"},
		{Scope: "weft/port/TCP/http", Tag: "80"},
		{Scope: "weft/port/TCP/http", Tag: "8080"},
		{Scope: "weft/port/UDP/side", Tag: "9"},
	}
	if diff := cmp.Diff(want, PortTags("domain-c8", "u", pod)); diff != "" {
		t.Error(diff)
	}
}

// A selector's condition holds for the tag that the label makes, and for no
// other value.
func TestLabelConditions(t *testing.T) {
	for _, labels := range []map[string]string{{"a": "b"}, {"a": ""}, {"ncp/project": "x"}, {"external_id": "x"}} {
		for key, value := range labels {
			port := &intent.SegmentPort{Resource: intent.Resource{Tags: LabelTags(labels)}}
			for _, tc := range []struct {
				value string
				want  bool
			}{
				{LabelCondition(key, value), true}, {LabelExists(key), true}, {LabelCondition(key, value+"x"), false},
				{LabelCondition(key, ""), value == ""}, {LabelExists(key + "x"), false},
			} {
				c := &intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: tc.value}
				if got := c.Matches(port); got != tc.want {
					t.Errorf("%v: %s: got %v", labels, tc.value, got)
				}
			}
		}
	}
}

func TestAnnotationSubnet(t *testing.T) {
	for key, want := range map[string]bool{"ncp/subnet-0": true, "ncp/subnet-17": true, "ncp/subnet-": false, "ncp/subnet-x": false, "ncp/snat_ip": false} {
		if IsAnnotationSubnet(key) != want {
			t.Error(key)
		}
	}
}

func TestWantsAddress(t *testing.T) {
	pod := func(host bool, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{HostNetwork: host}, Status: corev1.PodStatus{Phase: phase}}
	}
	for _, tc := range []struct {
		pod  *corev1.Pod
		want bool
	}{
		{pod(false, corev1.PodPending), true}, {pod(false, corev1.PodRunning), true}, {pod(true, corev1.PodRunning), false},
		{pod(false, corev1.PodSucceeded), false}, {pod(false, corev1.PodFailed), false},
	} {
		if WantsAddress(tc.pod) != tc.want {
			t.Errorf("%+v", tc.pod)
		}
	}
}
