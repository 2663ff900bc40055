package pod

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// place is namespace red.
func place() Place { return Place{Cluster: "c8", UID: "u1", Router: ncp.Tier1Path("u1")} }

// segment returns segment n of namespace red.
func segment(n int, gateways ...string) intent.Change {
	s := &intent.Segment{ConnectivityPath: ncp.Tier1Path("u1")}
	for _, g := range gateways {
		s.Subnets = append(s.Subnets, intent.SegmentSubnet{GatewayAddress: g})
	}
	return intent.Put(ncp.SegmentPath("u1", n), s)
}

// port returns a port that other people or pods have.
func port(segment int, id, mac string, addrs ...string) intent.Change {
	o := &intent.SegmentPort{}
	for _, a := range addrs {
		o.AddressBindings = append(o.AddressBindings, intent.AddressBinding{IPAddress: a, MACAddress: mac})
	}
	return intent.Put(ncp.PortPath(ncp.SegmentPath("u1", segment), id), o)
}

// tree returns the Tier-1 of namespace red with more on it.
func tree(t *testing.T, more ...intent.Change) *intent.Tree {
	t.Helper()
	out := intent.NewTree()
	apply(t, out, append(more,
		intent.Put(ncp.Tier1Path("u1"), &intent.Tier1{}),
		intent.Put(ncp.Tier1Path("u2"), &intent.Tier1{}),
		intent.Put(ncp.SegmentPath("u2", 0), &intent.Segment{ConnectivityPath: ncp.Tier1Path("u2"), Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.244.9.1/28"}}}),
	)...)
	return out
}

// apply changes a tree and compiles it.
func apply(t *testing.T, to *intent.Tree, changes ...intent.Change) {
	t.Helper()
	if _, problems := to.Apply(changes); len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, problems := compile.New().Update(to, nil); len(problems) > 0 {
		t.Fatal(problems)
	}
}

// podOf returns a Pod of namespace red.
func podOf(uid string, annotations ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "web-" + uid, UID: types.UID(uid), Annotations: map[string]string{}}}
	for _, a := range annotations {
		k, v, _ := strings.Cut(a, "=")
		p.Annotations[k] = v
	}
	return p
}

// shown returns a port's segment and bindings, and the fault.
func shown(p *intent.SegmentPort, err error, reason string) string {
	var out []string
	if p != nil {
		out = append(out, strings.TrimPrefix(intent.IDOf(p.ParentPath), "seg_u1_"))
		for _, b := range p.AddressBindings {
			out = append(out, b.IPAddress+" "+b.MACAddress)
		}
	}
	if err != nil {
		out = append(out, reason+": "+err.Error())
	}
	return strings.Join(out, ", ")
}

func TestBuild(t *testing.T) {
	full := []intent.Change{segment(0, "10.244.0.1/30")}
	full = append(full, port(0, "a", "04:50:56:f4:00:02", "10.244.0.2"))
	with := func(list []intent.Change, more ...intent.Change) []intent.Change {
		return append(slices.Clone(list), more...)
	}
	for _, tc := range []struct {
		name    string
		tree    []intent.Change
		pod     *corev1.Pod
		status  string // podIP
		held    string
		claimed string
		want    string
	}{
		{name: "the first is the second host", tree: []intent.Change{segment(0, "10.244.0.1/28")}, pod: podOf("p"),
			want: "0, 10.244.0.2 04:50:56:f4:00:02"},
		{name: "the lowest free one", tree: []intent.Change{segment(0, "10.244.0.17/28"), port(0, "a", "04:50:56:00:00:01", "10.244.0.18"), port(0, "b", "04:50:56:00:00:02", "10.244.0.20")}, pod: podOf("p"),
			want: "0, 10.244.0.19 04:50:56:f4:00:13"},
		{name: "its MAC address is somebody's", tree: []intent.Change{segment(0, "10.244.0.1/28"), port(0, "a", "04:50:56:f4:00:02", "10.244.0.14"), port(0, "b", "04:50:56:f4:00:03", "10.244.0.13")}, pod: podOf("p"),
			want: "0, 10.244.0.2 04:50:56:f4:00:04"},
		{name: "no segment", pod: podOf("p"),
			want: "NoNetwork: namespace red has no segment (see the conditions of the Namespace and of its Supervisor)"},
		{name: "full", tree: full, pod: podOf("p"),
			want: "AddressesExhausted: namespace red: no address is free in its segments (10.244.0.0/30); the pod waits for the next one (see the conditions of the Namespace)"},
		{name: "the next segment, in the order of numbers", tree: with(full, segment(10, "10.244.0.97/28"), segment(2, "10.244.0.33/28")), pod: podOf("p"),
			want: "2, 10.244.0.34 04:50:56:f4:00:22"},
		{name: "it has a port", tree: with(full, segment(2, "10.244.0.33/28"), port(2, "p", "04:50:56:00:00:07", "10.244.0.40")), pod: podOf("p"),
			want: "2, 10.244.0.40 04:50:56:00:00:07"},
		{name: "two families", tree: []intent.Change{segment(0, "fd00::1/64", "10.244.0.1/28"), port(0, "a", "04:50:56:f4:00:02", "10.244.0.2", "fd00::2")}, pod: podOf("p"),
			want: "0, 10.244.0.3 04:50:56:f4:00:03, fd00::3 04:50:56:f4:00:03"},
		{name: "a second subnet", tree: []intent.Change{segment(0, "10.244.0.1/30", "10.244.0.17/28"), port(0, "a", "04:50:56:f4:00:02", "10.244.0.2")}, pod: podOf("p"),
			want: "0, 10.244.0.18 04:50:56:f4:00:12"},
		{name: "a /31", tree: []intent.Change{segment(0, "10.244.0.0/31")}, pod: podOf("p"),
			want: "0, 10.244.0.1 04:50:56:f4:00:01"},

		{name: "held addresses rest", tree: []intent.Change{segment(0, "10.244.0.1/28")}, pod: podOf("p"), held: "10.244.0.2 10.244.0.3",
			want: "0, 10.244.0.4 04:50:56:f4:00:04"},
		{name: "in all segments", tree: []intent.Change{segment(0, "10.244.0.1/30"), segment(1, "10.244.0.17/28")}, pod: podOf("p"), held: "10.244.0.2",
			want: "1, 10.244.0.18 04:50:56:f4:00:12"},
		{name: "unless there is no other", tree: []intent.Change{segment(0, "10.244.0.1/30")}, pod: podOf("p"), held: "10.244.0.2",
			want: "0, 10.244.0.2 04:50:56:f4:00:02"},
		{name: "who asks gets a held one", tree: []intent.Change{segment(0, "10.244.0.1/28")}, pod: podOf("p", AnnotationAddress+"=10.244.0.3"), held: "10.244.0.2 10.244.0.3",
			want: "0, 10.244.0.3 04:50:56:f4:00:03"},
		{name: "others' status counts", tree: []intent.Change{segment(0, "10.244.0.1/28")}, pod: podOf("p"), claimed: "10.244.0.2",
			want: "0, 10.244.0.3 04:50:56:f4:00:03"},
		{name: "its own status too", tree: []intent.Change{segment(0, "10.244.0.1/28")}, pod: podOf("p"), status: "10.244.0.9",
			want: "0, 10.244.0.9 04:50:56:f4:00:09"},
		{name: "a status that is somebody's", tree: []intent.Change{segment(0, "10.244.0.1/28"), port(0, "a", "04:50:56:00:00:01", "10.244.0.9")}, pod: podOf("p"), status: "10.244.0.9",
			want: "0, 10.244.0.2 04:50:56:f4:00:02"},

		{name: "asks", tree: with(full, segment(1, "10.244.0.17/28")), pod: podOf("p", AnnotationAddress+"=10.244.0.30"),
			want: "1, 10.244.0.30 04:50:56:f4:00:1e"},
		{name: "asks for what somebody has", tree: with(full, segment(1, "10.244.0.17/28")), pod: podOf("p", AnnotationAddress+"=10.244.0.2"),
			want: "AddressInUse: metadata.annotations[weft.dev/ip-address]: 10.244.0.2: is already used by a (/infra/segments/seg_u1_0/ports/a)"},
		{name: "asks for the gateway", tree: full, pod: podOf("p", AnnotationAddress+"=10.244.0.1"),
			want: "InvalidAddress: metadata.annotations[weft.dev/ip-address]: 10.244.0.1: is the gateway, network or broadcast address of 10.244.0.0/30 (want another of it)"},
		{name: "asks for the broadcast address", tree: full, pod: podOf("p", AnnotationAddress+"=10.244.0.3"),
			want: "InvalidAddress: metadata.annotations[weft.dev/ip-address]: 10.244.0.3: is the gateway, network or broadcast address of 10.244.0.0/30 (want another of it)"},
		{name: "asks for another namespace's", tree: full, pod: podOf("p", AnnotationAddress+"=10.244.9.5"),
			want: "AddressOutside: metadata.annotations[weft.dev/ip-address]: 10.244.9.5: is in none of the segments of namespace red (10.244.0.0/30)"},
		{name: "asks for nonsense", tree: full, pod: podOf("p", AnnotationAddress+"=10.244.0"),
			want: "InvalidAddress: metadata.annotations[weft.dev/ip-address]: 10.244.0: is not an address (such as 10.244.0.2)"},
		{name: "asks too late", tree: []intent.Change{segment(0, "10.244.0.1/28"), port(0, "p", "04:50:56:00:00:07", "10.244.0.9")}, pod: podOf("p", AnnotationAddress+"=10.244.0.5"),
			want: "0, 10.244.0.9 04:50:56:00:00:07, AddressFixed: metadata.annotations[weft.dev/ip-address]: 10.244.0.5: is not the address that the pod has, 10.244.0.9, which does not change (make another pod)"},
		{name: "asks for what it has", tree: []intent.Change{segment(0, "10.244.0.1/28"), port(0, "p", "04:50:56:00:00:07", "10.244.0.9")}, pod: podOf("p", AnnotationAddress+"=10.244.0.9"),
			want: "0, 10.244.0.9 04:50:56:00:00:07"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := tree(t, tc.tree...)
			in := func(list string) func(netip.Addr) bool {
				return func(a netip.Addr) bool { return slices.Contains(strings.Fields(list), a.String()) }
			}
			r := Request{Pod: tc.pod, Place: place(), Held: in(tc.held), Claimed: in(tc.claimed)}
			if tc.status != "" {
				r.Pod.Status.PodIPs = []corev1.PodIP{{IP: tc.status}}
			}
			show := func() (*intent.SegmentPort, string) {
				p, f := Build(r, at)
				if f == nil {
					return p, shown(p, nil, "")
				}
				return p, shown(p, f, f.Reason)
			}
			p, got := show()
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if p == nil {
				return
			}
			apply(t, at, intent.Put(p.Path, intent.Clone(p)))
			if _, again := show(); again != got {
				t.Errorf("the second time: got  %s\nwant %s", again, got)
			}
		})
	}
}

// A port, whole.
func TestPortIsWhole(t *testing.T) {
	p := podOf("p")
	p.Labels = map[string]string{"app": "web", "empty": "", "ncp/project_uid": "u2"}
	p.Spec.Containers = []corev1.Container{{Name: "main", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {ContainerPort: 9}}}}
	at := tree(t, segment(0, "10.244.0.1/28"))
	got, f := Build(Request{Pod: p, Place: place()}, at)
	if f != nil {
		t.Fatal(f)
	}
	want := intent.Put("/infra/segments/seg_u1_0/ports/p", &intent.SegmentPort{
		Resource: intent.Resource{DisplayName: "red/web-p", Tags: []intent.Tag{
			{Scope: "ncp/cluster", Tag: "c8"}, {Scope: "ncp/project", Tag: "red"}, {Scope: "ncp/project_uid", Tag: "u1"}, {Scope: "ncp/pod", Tag: "web-p"},
			{Scope: "app", Tag: "web"}, {Scope: "empty", Tag: "(empty)"}, {Scope: "label:ncp/project_uid", Tag: "u2"},
			{Scope: "weft/port/TCP/http", Tag: "8080"},
		}},
		AddressBindings: []intent.AddressBinding{{IPAddress: "10.244.0.2", MACAddress: "04:50:56:f4:00:02"}},
		Attachment:      &intent.PortAttachment{ID: "p", Type: "INDEPENDENT"},
	}).Object
	if diff := cmp.Diff(want, intent.Object(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	apply(t, at, intent.Put(got.Path, got))
}

// Pods fill a /28 with 13 ports, each with an address and a MAC address of its
// own.
func TestPodsFillASegment(t *testing.T) {
	at := tree(t, segment(0, "10.244.0.1/28"))
	var got []string
	for i := range 14 {
		p, f := Build(Request{Pod: podOf(fmt.Sprintf("p%02d", i)), Place: place()}, at)
		if f != nil {
			got = append(got, f.Reason)
			continue
		}
		apply(t, at, intent.Put(p.Path, p))
		got = append(got, p.AddressBindings[0].IPAddress)
	}
	want := []string{}
	for i := 2; i < 15; i++ {
		want = append(want, fmt.Sprintf("10.244.0.%d", i))
	}
	if diff := cmp.Diff(append(want, Exhausted), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
