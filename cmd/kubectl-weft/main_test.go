package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	api "github.com/weft-net/weft/policyapi"
	weftd "github.com/weft-net/weft/policyapi/client"
	"github.com/weft-net/weft/store"
)

const uid = "6a54b5f4-71b0-4b5d-a8a0-06b1d2b14c4e"

func object(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}
}

func pod(namespace, name, app string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: object(namespace, name)}
	p.Labels = map[string]string{"app": app}
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return p
}

// shop is a cluster in which every Trace is answered by a status. Its namespace
// is shop where none is given.
func shop(t *testing.T, status v1alpha1.TraceStatus) *Env {
	t.Helper()
	s, err := scheme()
	if err != nil {
		t.Fatal(err)
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	c := fake.NewClientBuilder().WithScheme(s).WithStatusSubresource(&v1alpha1.Trace{}).WithObjects(
		&corev1.Namespace{ObjectMeta: object("", "shop")}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "edge"}},
		pod("shop", "web-1", "web"), pod("shop", "web-2", "web"), pod("edge", "envoy", "envoy"),
		&appsv1.Deployment{ObjectMeta: object("shop", "web"), Spec: appsv1.DeploymentSpec{Selector: selector}},
		&netv1.NetworkPolicy{ObjectMeta: object("shop", "db")},
		&corev1.Service{ObjectMeta: object("shop", "web"), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 80}}}},
	).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := c.Create(ctx, o, opts...); err != nil {
				return err
			}
			trace := o.DeepCopyObject().(*v1alpha1.Trace)
			trace.Status = status
			return c.Status().Update(ctx, trace)
		},
	}).Build()
	return &Env{Connect: func(f clusterFlags) (client.WithWatch, string, error) {
		switch {
		case f.context == "none":
			return nil, "", errors.New(`kubeconfig: context "none" does not exist`)
		case f.namespace != "":
			return c, f.namespace, nil
		}
		return c, "shop", nil
	}}
}

func runArgs(t *testing.T, env *Env, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	env.Stdout, env.Stderr = &out, &errOut
	code = run(t.Context(), env, args)
	return out.String(), errOut.String(), code
}

const droppedText = `port edge/envoy: 10.244.0.2:49152 → 10.244.0.18:80 tcp

STAGE   COMPONENT        PATH  WHAT
dfw_in  port shop/web-1  /infra/domains/domain-c8/security-policies/is_` + uid + `/rules/deny-all-ingress  dfw_rule: rule 1005 deny-all-ingress

hops: none
dropped at port shop/web-1, dfw_in: dfw_rule, rule 1005 deny-all-ingress
advice: …
`

func dropped() v1alpha1.TraceStatus {
	r := v1alpha1.TraceRule{
		Stage: "dfw_in", At: "port shop/web-1", ID: 1005, Name: "deny-all-ingress", Policy: ncp.IsolationPath("domain-c8", uid), Category: "Application", Action: "DROP",
	}
	return v1alpha1.TraceStatus{
		Phase: v1alpha1.TraceDone, Disposition: "dropped", Reason: "dfw_rule", Text: droppedText, At: r.At, Stage: r.Stage, Rule: &r, Rules: []v1alpha1.TraceRule{r},
	}
}

func delivered() v1alpha1.TraceStatus {
	return v1alpha1.TraceStatus{Phase: v1alpha1.TraceDone, Disposition: "delivered", Delivered: true, Text: "a → b\n\ndelivered to port shop/web-1\n"}
}

const verdict = `rule:     1005 deny-all-ingress, category Application, at port shop/web-1 (dfw_in)
policy:   /infra/domains/domain-c8/security-policies/is_` + uid + `
made by:  isolation of Namespace shop
to do:    a NetworkPolicy in namespace shop that allows it
`

func TestTraceAndWhy(t *testing.T) {
	for _, tc := range []struct {
		args           string
		status         v1alpha1.TraceStatus
		code           int
		stdout, stderr string // stdout ends in … if more follows
	}{
		{"trace -n edge pod/envoy shop/deployment/web tcp/80", dropped(), 3, droppedText + "\n" + verdict + "          ('kubectl weft why' with the same arguments prints one)\n", ""},
		{"trace edge/pod/envoy svc/web", delivered(), 0, "a → b\n\ndelivered to port shop/web-1\n", ""},
		{"why -n edge pod/envoy shop/deployment/web", dropped(), 3, "dropped: pod edge/envoy → pod shop/web-1, tcp/80\n" + verdict + "\nsuch as this, with 'kubectl apply -f -':\n\n#…", ""},
		{"why edge/pod/envoy svc/web", delivered(), 0, "allowed: pod edge/envoy → svc shop/web, tcp/80\nno firewall rule is on the way\n", ""},
		{"why -n edge pod/envoy shop/deployment/web -o yaml", dropped(), 0, "# pods that a NetworkPolicy selects take only what NetworkPolicies allow, also from their own namespace\napiVersion: networking.k8s.io/v1\n…", ""},
		{"why edge/pod/envoy svc/web -o yaml", delivered(), 1, "", "it is allowed: no NetworkPolicy is needed\n"},
		{"why edge/pod/envoy pod/web-1 -o yaml", v1alpha1.TraceStatus{Phase: v1alpha1.TraceDone, Disposition: "dropped", Reason: "no_route", Advice: "add a route"}, 1, "", "no NetworkPolicy would allow it: add a route\n"},
		{"trace pod/web-1 pod/web-2", v1alpha1.TraceStatus{Phase: v1alpha1.TraceFailed, Message: "spec.port: is missing"}, 1, "", "trace: spec.port: is missing\n"},
		{"trace pod/web-1 pod/gone", delivered(), 1, "", "pod shop/gone: does not exist\n"},
		{"trace pod/none pod/gone", delivered(), 1, "", "pod shop/none: does not exist\npod shop/gone: does not exist\n"},
		{"trace --context none pod/web-1 pod/web-2", delivered(), 1, "", "kubeconfig: context \"none\" does not exist\n"},
		{"trace pod/web-1 pod/web-2 --timeout 1ms", v1alpha1.TraceStatus{Phase: v1alpha1.TracePending, Message: "no node has tables yet"}, 1, "", "trace: after 1ms: no node has tables yet\n"},

		{"trace pod/web-1", delivered(), 2, "", "kubectl weft trace: accepts between 2 and 3 arg(s), received 1\nsee 'kubectl weft trace --help'\n"},
		{"trace svc/web pod/web-1 tcp", delivered(), 2, "", "SRC: \"svc/web\": svc is no kind that is meant here (pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, an address; of another namespace NAMESPACE/KIND/NAME)\nPROTOCOL: \"tcp\": is no protocol (tcp/PORT, udp/PORT, icmp)\nsee 'kubectl weft trace --help'\n"},
		{"trace pod/web-1 pod/web-2 -o yaml", delivered(), 2, "", "-o: \"yaml\": is not an output (text, json)\nsee 'kubectl weft trace --help'\n"},
		{"why pod/web-1 pod/web-2 -o xml", delivered(), 2, "", "-o: \"xml\": is not an output (text, json, yaml)\nsee 'kubectl weft why --help'\n"},
		{"trace pod/web-1 pod/web-2 --frob", delivered(), 2, "", "unknown flag: --frob\nsee 'kubectl weft trace --help'\n"},
		{"frob", delivered(), 2, "", "kubectl weft: \"frob\": is not a command\nsee 'kubectl weft --help'\n"},
		{"get deployment/web", delivered(), 2, "", "\"deployment/web\": deployment is no kind that is meant here (pod/NAME, svc/NAME, namespace/NAME, networkpolicy/NAME, supervisor/NAME, adminnetworkpolicy/NAME, baselineadminnetworkpolicy/NAME, clusternetworkpolicy/NAME; of another namespace NAMESPACE/KIND/NAME)\nsee 'kubectl weft get --help'\n"},
		{"get pod/web-1 --server weft.example", delivered(), 2, "", "--server: \"weft.example\": is not a server (unix:PATH, https://HOST:PORT)\nsee 'kubectl weft get --help'\n"},
		{"get pod/web-1 -o xml", delivered(), 2, "", "-o: \"xml\": is not an output (table, json, yaml)\nsee 'kubectl weft get --help'\n"},
	} {
		stdout, stderr, code := runArgs(t, shop(t, tc.status), strings.Fields(tc.args)...)
		want, more := strings.CutSuffix(tc.stdout, "…")
		if more {
			stdout = stdout[:min(len(stdout), len(want))]
		}
		if d := cmp.Diff(want, stdout); code != tc.code || d != "" {
			t.Errorf("%s: exit %d, want %d (-want +got):\n%s", tc.args, code, tc.code, d)
		}
		if d := cmp.Diff(tc.stderr, stderr); d != "" {
			t.Errorf("%s: stderr (-want +got):\n%s", tc.args, d)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, command := range []string{"trace", "why"} {
		stdout, _, code := runArgs(t, shop(t, dropped()), command, "edge/pod/envoy", "pod/web-1", "-o", "json")
		var got struct {
			Connection    string
			Delivered     bool
			Rules         []struct{ ID int64 }
			NetworkPolicy netv1.NetworkPolicy
			Status        v1alpha1.TraceStatus
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 3 {
			t.Fatalf("exit %d, %v: %s", code, err, stdout)
		}
		if got.Connection != "pod edge/envoy → pod shop/web-1, tcp/80" || got.Delivered || len(got.Rules) != 1 || got.Rules[0].ID != 1005 || got.NetworkPolicy.Namespace != "shop" {
			t.Errorf("%s: %s", command, stdout)
		}
		if (got.Status.Phase == v1alpha1.TraceDone) != (command == "trace") {
			t.Errorf("%s: status %q", command, got.Status.Phase)
		}
	}
}

// serve makes commands of this test speak to a weftd with a port of pod web-1.
func serve(t *testing.T) {
	t.Helper()
	s, err := store.New(t.Context(), store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	segment := intent.Put("/infra/segments/seg_u_0", &intent.Segment{Resource: intent.Resource{DisplayName: "shop-0"}, Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.244.0.17/28"}}}).Object
	port := intent.Put("/infra/segments/seg_u_0/ports/"+uid, &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{IPAddress: "10.244.0.18", MACAddress: "04:50:56:00:00:12"}}}).Object
	for _, owned := range []struct {
		owner store.Owner
		o     intent.Object
	}{{"Namespace/shop/" + uid, segment}, {"Pod/shop/web-1/" + uid, port}} {
		if _, problems, err := s.Replace(t.Context(), owned.owner, owned.o); err != nil || intent.HasErrors(problems) {
			t.Fatal(err, problems)
		}
	}
	dir, err := os.MkdirTemp("", "weftd") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "weftd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	served := &http.Server{Handler: api.New(s, nil)}
	go served.Serve(l)
	t.Cleanup(func() { served.Close() })
	t.Setenv(weftd.ServerEnv, "unix:"+l.Addr().String())
}

func TestGet(t *testing.T) {
	t.Setenv(weftd.ServerEnv, "unix:/no/such.sock")
	_, stderr, code := runArgs(t, shop(t, delivered()), "get", "pod/web-1")
	if code != 1 || !strings.Contains(stderr, "weftd at unix:/no/such.sock: dial unix /no/such.sock: connect: no such file or directory (--server or WEFT_SERVER says where it is)") {
		t.Errorf("no weftd: exit %d: %s", code, stderr)
	}
	serve(t)
	const want = `pod shop/web-1, owner Pod/shop/web-1/` + uid + `

port:          /infra/segments/seg_u_0/ports/` + uid + `
address:       10.244.0.18
MAC:           04:50:56:00:00:12
segment:       shop-0 (10.244.0.16/28, gateway 10.244.0.17), /infra/segments/seg_u_0
`
	stdout, stderr, code := runArgs(t, shop(t, delivered()), "get", "pod/web-1")
	if d := cmp.Diff(want, stdout); d != "" || code != 0 || stderr != "" {
		t.Errorf("exit %d, %q (-want +got):\n%s", code, stderr, d)
	}
	for _, form := range []string{"json", "yaml"} {
		stdout, stderr, code := runArgs(t, shop(t, delivered()), "get", "-n", "shop", "pod/web-1", "-o", form)
		changes, problems := intent.Parse("out", []byte(stdout))
		if code != 0 || intent.HasErrors(problems) || len(changes) != 1 || changes[0].Path != "/infra/segments/seg_u_0/ports/"+uid {
			t.Errorf("%s: exit %d: %s%s", form, code, stdout, stderr)
		}
	}
	stdout, _, _ = runArgs(t, shop(t, delivered()), "get", "pod/web-2") // its UID is the same, not its name
	if !strings.Contains(stdout, "\nnothing stands behind it: ") {
		t.Errorf("another pod: %s", stdout)
	}
	_, stderr, code = runArgs(t, shop(t, delivered()), "get", "pod/gone")
	if code != 1 || stderr != "pod shop/gone: does not exist\n" {
		t.Errorf("no pod: exit %d: %s", code, stderr)
	}
}

// Without weftd there is what the object says, and a hint.
func TestGetWithoutWeftd(t *testing.T) {
	t.Setenv(weftd.ServerEnv, "")
	if _, err := os.Stat(weftd.DefaultSocket); err == nil {
		t.Skip("a weftd runs on this machine")
	}
	stdout, stderr, code := runArgs(t, shop(t, delivered()), "get", "svc/web")
	if code != 0 || !strings.HasPrefix(stderr, "hint: --server: is missing, as is WEFT_SERVER") || stdout != "svc shop/web, UID "+uid+"\n\n" {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if _, stderr, code := runArgs(t, shop(t, delivered()), "get", "svc/web", "-o", "json"); code != 1 || !strings.HasPrefix(stderr, "--server: is missing") {
		t.Errorf("json: exit %d: %s", code, stderr)
	}
}

// kubectl runs the plugin with __complete, as the script says.
func TestCompletion(t *testing.T) {
	stdout, _, code := runArgs(t, shop(t, delivered()), "completion")
	if code != 0 || stdout != "#!/bin/sh\nexec kubectl-weft __complete \"$@\"\n" {
		t.Errorf("exit %d: %s", code, stdout)
	}
	for _, tc := range []struct {
		args []string
		want string // words, and the directive
	}{
		{[]string{"trace", "pod/"}, "pod/web-1 pod/web-2 :4"},
		{[]string{"trace", "po/web-1", "svc/w"}, "svc/web :4"},
		{[]string{"trace", "svc/w"}, ":6"}, // no source
		{[]string{"trace", "p"}, "pod/ :6"},
		{[]string{"trace", "e"}, "edge/ :6"},
		{[]string{"trace", "edge/"}, "edge/pod/ edge/deployment/ edge/statefulset/ edge/daemonset/ edge/replicaset/ :6"},
		{[]string{"trace", "edge/pod/"}, "edge/pod/envoy :4"},
		{[]string{"-n", "edge", "trace", "pod/"}, "pod/envoy :4"},
		{[]string{"why", "deploy/"}, "deploy/web :4"},
		{[]string{"why", "pod/web-1", "pod/web-2", "t"}, "tcp/ :6"},
		{[]string{"why", "pod/web-1", "pod/web-2", "icmp", ""}, ":4"},
		{[]string{"get", "n"}, "namespace/ networkpolicy/ :6"},
		{[]string{"get", "ns/s"}, "ns/shop :4"},
		{[]string{"get", "netpol/"}, "netpol/db :4"},
		{[]string{"trace", "--context", "none", "pod/"}, ":4"},
		{[]string{"trace", "-n", "s"}, "shop :4"},
	} {
		stdout, _, code := runArgs(t, shop(t, delivered()), append([]string{"__complete"}, tc.args...)...)
		if got := strings.Join(strings.Fields(stdout), " "); code != 0 || got != tc.want {
			t.Errorf("%q: exit %d: %s, want %s", tc.args, code, got, tc.want)
		}
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	root := newRootCommand(&Env{})
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "kubectl weft ") {
			t.Errorf("%s: has no short text or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// The kubeconfig says which cluster and namespace is meant.
func TestConnect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	const config = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: a, context: {cluster: c, namespace: red}}, {name: b, context: {cluster: c}}]
current-context: a
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		flags clusterFlags
		want  string // namespace
		err   string
	}{
		{clusterFlags{kubeconfig: file}, "red", ""},
		{clusterFlags{kubeconfig: file, namespace: "blue"}, "blue", ""},
		{clusterFlags{kubeconfig: file, context: "b"}, "default", ""},
		{clusterFlags{kubeconfig: file, context: "x"}, "", `kubeconfig: context "x" does not exist`},
		{clusterFlags{kubeconfig: empty}, "", "kubeconfig: there is none (--kubeconfig or KUBECONFIG says where it is)"},
		{clusterFlags{kubeconfig: "/no/such"}, "", "kubeconfig: stat /no/such: no such file or directory"},
	} {
		_, got, err := connect(tc.flags)
		if err == nil && tc.err != "" || err != nil && err.Error() != tc.err || got != tc.want {
			t.Errorf("%+v: %q, %v; want %q, %s", tc.flags, got, err, tc.want, tc.err)
		}
	}
}

// lines tells a test of each line that is printed.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestProgress(t *testing.T) {
	out := make(lines, 10)
	note, stop := newProgress(out, "waiting", time.Millisecond)
	if got := <-out; got != "waiting …\n" {
		t.Errorf("first: %q", got)
	}
	note("no tables")
	if got := <-out; got != "waiting: no tables …\n" {
		t.Errorf("then: %q", got)
	}
	stop()
	note("late")
	quick, end := newProgress(out, "waiting", time.Hour)
	quick("no tables")
	end()
	if len(out) > 0 {
		t.Errorf("too much: %q", <-out)
	}
}
