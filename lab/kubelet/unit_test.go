package kubelet

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestImagesStandForPrograms(t *testing.T) {
	for image, want := range map[string]string{
		"projects.registry.vmware.com/tanzu_ese_poc/hackazon:1.0": Web,
		"nginx":                                Web,
		"docker.io/library/nginx:1.27":         Web,
		"nginx@sha256:0123":                    Web,
		"busybox:1.36":                         Shell,
		"quay.io/x/alpine:3":                   Shell,
		"registry.example/weft-ingress:dev":    Ingress,
		"registry.k8s.io/pause:3.10":           Pause,
		"quay.io/odd/thing":                    "",
		"xnginx":                               "",
		"projects.registry.vmware.com/other:1": "",
	} {
		got, err := BuiltIn().Find(image)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", image, got, err, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"*b", "ab", true}, {"a*c*e", "abcde", true},
		{"a*c*e", "abde", false}, {"*", "", true}, {"a*a", "a", false}, {"**x", "yx", true}, {"*a*", "bab", true},
	} {
		if got := matches(tc.pattern, tc.name); got != tc.want {
			t.Errorf("matches(%q, %q) = %v", tc.pattern, tc.name, got)
		}
	}
}

func TestImageFilesThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"- {pattern: x*, program: web}":  "",
		"- {pattern: x*, program: perl}": `x*: program: "perl": is unknown (web, ingress, shell, pause)`,
		"- {program: web}":               "row 1: pattern: is empty (an image name, * for any text)",
		"- {patern: x}":                  `unknown field "patern"`,
	} {
		path := filepath.Join(t.TempDir(), "images.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadImages(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)"}
	for text, want := range map[string]string{
		"": "", "$(A)": "1", "x$(A)y": "x1y", "$(NONE)": "$(NONE)", "$$(A)": "$(A)", "$(B)": "$(A)", "$": "$", "$x": "$x", "$(A": "$(A", "$$$(A)": "$1",
	} {
		if got := expand(text, vars); got != want {
			t.Errorf("expand(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestServiceVariables(t *testing.T) {
	service := func(namespace, name, ip string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "web-ui", Port: 80, Protocol: corev1.ProtocolTCP}}},
		}
	}
	services := []*corev1.Service{
		service("default", "kubernetes", "10.96.0.1"), service("red", "my-db", "10.96.0.2"), service("blue", "other", "10.96.0.3"), service("red", "headless", "None"),
	}
	no := false
	for _, tc := range []struct {
		links *bool
		want  int
	}{{nil, 2 * 8}, {&no, 8}} {
		vars := map[string]string{}
		addServices(vars, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "red"}, Spec: corev1.PodSpec{EnableServiceLinks: tc.links}}, services)
		if len(vars) != tc.want || vars["KUBERNETES_SERVICE_HOST"] != "10.96.0.1" {
			t.Errorf("%d variables, want %d: %v", len(vars), tc.want, vars)
		}
		if tc.links == nil && (vars["MY_DB_SERVICE_PORT_WEB_UI"] != "80" || vars["MY_DB_PORT_80_TCP"] != "tcp://10.96.0.2:80") {
			t.Errorf("variables of my-db: %v", vars)
		}
	}
}

func TestFieldsOfAPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"y": "2", "x": "1"}}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}}}
	for path, want := range map[string]string{
		"metadata.name": "a", "metadata.labels['x']": "1", "metadata.labels": "x=\"1\"\ny=\"2\"\n", "status.podIPs": "10.0.0.1,fd00::1",
	} {
		if got, err := field(pod, path); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	if _, err := field(pod, "spec.x"); err == nil || !strings.Contains(err.Error(), `fieldPath: "spec.x": is unknown (metadata.labels,`) {
		t.Errorf("unknown field: %v", err)
	}
}

func TestVolumeFilesChangeAtOnce(t *testing.T) {
	dir := t.TempDir()
	steps := []map[string]file{
		{"a": {[]byte("1"), 0o644}, "sub/b": {[]byte("2"), 0o400}},
		{"a": {[]byte("1"), 0o644}, "sub/b": {[]byte("2"), 0o400}},
		{"c": {[]byte("3"), 0o644}},
		{},
	}
	before := ""
	for i, files := range steps {
		if err := writeVolume(dir, files); err != nil {
			t.Fatal(err)
		}
		now, err := os.Readlink(filepath.Join(dir, currentLink))
		if err != nil {
			t.Fatal(err)
		}
		if same := now == before; same != (i == 1) {
			t.Errorf("step %d: directory is %s, before %s", i, now, before)
		}
		before = now
		got := map[string]string{}
		for name := range files {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(data)
		}
		entries, _ := os.ReadDir(dir)
		tops := map[string]bool{}
		for name := range files {
			tops[strings.Split(name, "/")[0]] = true
		}
		if len(entries) != len(tops)+2 { // ..data and what it points to
			t.Errorf("step %d: %v for %v", i, entries, got)
		}
	}
	for _, bad := range []string{"../x", "/x", "..x"} {
		if err := writeVolume(dir, map[string]file{bad: {}}); err == nil || !strings.Contains(err.Error(), "is not inside the volume") {
			t.Errorf("path %q: %v", bad, err)
		}
	}
}

func TestLogs(t *testing.T) {
	const log = "2026-01-01T00:00:00.5Z stdout F one\n" +
		"2026-01-01T00:00:01Z stderr F two\n" +
		"2026-01-01T00:00:02Z stdout P thr\n" +
		"2026-01-01T00:00:02Z stdout F ee\n" +
		"broken\n" +
		"2026-01-01T00:00:03Z stdout F \n"
	path := filepath.Join(t.TempDir(), "1.log")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"":                               "one\ntwo\nthree\n\n",
		"tailLines=0":                    "",
		"tailLines=1":                    "\n",
		"tailLines=100":                  "one\ntwo\nthree\n\n",
		"limitBytes=5":                   "one\nt",
		"stream=Stderr":                  "two\n",
		"sinceTime=2026-01-01T00:00:02Z": "three\n\n",
		"tailLines=6&timestamps=true&limitBytes=30": "2026-01-01T00:00:00.5Z one\n202",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseLogQuery(values, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		if err := copyLog(t.Context(), &got, func() {}, path, q, nil); err != nil || got.String() != want {
			t.Errorf("%s: %q, %v, want %q", query, got.String(), err, want)
		}
	}
	for query, want := range map[string]string{
		"follow=maybe": `follow: "maybe": is no truth value (true, false)`, "tailLines=-1": `tailLines: "-1": is no number of lines`,
		"limitBytes=0": `limitBytes: "0": is no number of bytes`, "sinceTime=now": `sinceTime: "now": is no time (RFC 3339)`,
		"sinceSeconds=x": `sinceSeconds: "x": is no number of seconds`, "stream=X": `stream: "X": is unknown (All, Stdout, Stderr)`,
	} {
		values, _ := url.ParseQuery(query)
		if _, err := parseLogQuery(values, time.Now()); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}

func TestFollowedLogGoesOnInTheNextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	log.write([]byte("before"), "stdout", true)
	reader, writer := io.Pipe()
	ended := make(chan struct{})
	go func() {
		err := copyLog(context.Background(), writer, func() {}, path, logQuery{follow: true, tail: -1, limit: -1}, func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
		writer.CloseWithError(err)
	}()
	buffer := make([]byte, 7)
	if _, err := io.ReadFull(reader, buffer); err != nil || string(buffer) != "before\n" {
		t.Fatalf("%q, %v", buffer, err)
	}
	log.mu.Lock()
	log.rotate()
	log.mu.Unlock()
	log.write([]byte("after"), "stdout", true)
	close(ended)
	rest, err := io.ReadAll(reader)
	if err != nil || string(rest) != "after\n" {
		t.Errorf("after the log was put aside: %q, %v", rest, err)
	}
}

func TestSeekTailOverManyBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	line := strings.Repeat("x", 999) + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{0, 1, 32, 33, 100, 199, 200, 201} {
		if err := seekTail(f, n); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(f)
		if want := min(n, 200) * 1000; len(rest) != want {
			t.Errorf("tail of %d lines has %d bytes, want %d", n, len(rest), want)
		}
	}
}

func TestBackoffGrowsAndForgets(t *testing.T) {
	p := &pod{node: &Kubelet{config: Config{Backoff: Backoff{time.Second, 10 * time.Second}}}}
	c := new(containerRecord)
	var got []time.Duration
	now := time.Now()
	for range 7 {
		c.end(state{Started: now, Finished: now.Add(time.Second)})
		got = append(got, p.delay(c))
	}
	want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	c.end(state{Started: now, Finished: now.Add(longRun)})
	if d := p.delay(c); d != 0 {
		t.Errorf("after a long run: %s, want none", d)
	}
}

func TestPhases(t *testing.T) {
	ran := func(exit int) *state { return &state{Exit: exit} }
	running := &state{Running: true}
	for _, tc := range []struct {
		name   string
		policy corev1.RestartPolicy
		first  *state // init container
		a, b   *state
		want   corev1.PodPhase
	}{
		{"nothing began", corev1.RestartPolicyAlways, nil, nil, nil, corev1.PodPending},
		{"init failed for ever", corev1.RestartPolicyNever, ran(1), nil, nil, corev1.PodFailed},
		{"init failed", corev1.RestartPolicyAlways, ran(1), nil, nil, corev1.PodPending},
		{"one runs", corev1.RestartPolicyAlways, ran(0), running, nil, corev1.PodRunning},
		{"one crashed", corev1.RestartPolicyAlways, ran(0), running, ran(1), corev1.PodRunning},
		{"all crashed", corev1.RestartPolicyAlways, ran(0), ran(1), ran(1), corev1.PodRunning},
		{"done", corev1.RestartPolicyOnFailure, ran(0), ran(0), ran(0), corev1.PodSucceeded},
		{"one to do again", corev1.RestartPolicyOnFailure, ran(0), ran(0), ran(1), corev1.PodRunning},
		{"failed", corev1.RestartPolicyNever, ran(0), ran(0), ran(1), corev1.PodFailed},
		{"one goes on", corev1.RestartPolicyNever, ran(0), running, ran(1), corev1.PodRunning},
	} {
		p := &pod{record: &record{Containers: map[string]*containerRecord{"first": {Now: tc.first}, "a": {Now: tc.a}, "b": {Now: tc.b}}}}
		api := &corev1.Pod{Spec: corev1.PodSpec{
			RestartPolicy: tc.policy, InitContainers: []corev1.Container{{Name: "first"}}, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}},
		}}
		if got := p.phase(api); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestStatusPatchLeavesOthersConditions(t *testing.T) {
	have := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}, Status: corev1.PodStatus{
		PodIPs:     []corev1.PodIP{{IP: "10.0.0.1"}},
		Conditions: []corev1.PodCondition{{Type: "weft.dev/realized", Status: corev1.ConditionTrue}},
	}}
	want := have.DeepCopy()
	want.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.2"}}
	setCondition(&want.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	want.Status.Conditions[1].LastTransitionTime = metav1.Time{}
	patch, err := statusPatch(have, want)
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"metadata":{"uid":"u1"},"status":{"$setElementOrder/conditions":[{"type":"weft.dev/realized"},{"type":"Ready"}],"$setElementOrder/podIPs":[{"ip":"10.0.0.2"}],"conditions":[{"lastProbeTime":null,"lastTransitionTime":null,"status":"True","type":"Ready"}],"podIPs":[{"ip":"10.0.0.2"},{"$patch":"delete","ip":"10.0.0.1"}]}}`
	if diff := cmp.Diff(text, string(patch)); diff != "" {
		t.Errorf("patch (-want +got):\n%s", diff)
	}
	if patch, err := statusPatch(have, have.DeepCopy()); patch != nil || err != nil {
		t.Errorf("patch of what is the same: %s, %v", patch, err)
	}
}

func TestNamesOfNamespaces(t *testing.T) {
	s := &sandboxes{prefix: "weft-lab-pod-"}
	if got := s.netnsName("red", "web"); got != "weft-lab-pod-red.web" {
		t.Errorf("got %s", got)
	}
	long := strings.Repeat("x", 253)
	a, b := s.netnsName("red", long), s.netnsName("rot", long)
	if len(a) != 255 || a == b || !strings.HasPrefix(a, s.prefix+"red.") {
		t.Errorf("long names: %s (%d), %s", a, len(a), b)
	}
}

func TestResolver(t *testing.T) {
	dns := netip.MustParseAddr("10.96.0.10")
	b := builder{config: Config{DNS: []netip.Addr{dns}}}
	five := "5"
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "red"}, Spec: corev1.PodSpec{
		DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{Searches: []string{"example.org"}, Options: []corev1.PodDNSConfigOption{{Name: "timeout", Value: &five}}},
	}}
	want := "nameserver 10.96.0.10\nsearch red.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5 timeout:5\n"
	if diff := cmp.Diff(want, b.resolver(pod)); diff != "" {
		t.Errorf("resolv.conf (-want +got):\n%s", diff)
	}
}

func TestCommandLines(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", "--nodes: is missing (names, separated by commas)"},
		{"--nodes a", "--kubeconfig-dir: is missing (a directory)"},
		{"--nodes a,b --kubeconfig-dir /x", ""},
		{"purge --nodes a", ""},
		{"--nodes a --kubeconfig-dir /x --max-pods 0", "--max-pods: 0: is no number of pods (at least 1)"},
		{"--nodes a --kubeconfig-dir /x --cluster-dns x", `--cluster-dns: "x": is no address`},
		{"--nodes a --kubeconfig-dir /x more", `"more": is no flag`},
	} {
		_, err := parse(strings.Fields(tc.args), io.Discard)
		if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %v, want %q", tc.args, err, tc.want)
		}
	}
	var help strings.Builder
	if _, err := parse([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "--nodes") {
		t.Errorf("help: %v, %s", err, help.String())
	}
}

func TestConfigsThatAreWrong(t *testing.T) {
	for _, tc := range []struct {
		config Config
		want   string
	}{
		{Config{Name: "a b"}, `node "a b": name: is no node name (a DNS name)`},
		{Config{Name: "a", Dir: "x"}, `node a: dir: "x": is no absolute path`},
		{Config{Name: "a", Dir: "/x"}, `node a: netns prefix: "": is no prefix of a file name (1 to 100 bytes)`},
	} {
		if err := tc.config.complete(); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// Without a connection, an informer sees a pod change into another one of its
// name.
func TestPodReplacedBehindTheBack(t *testing.T) {
	k := &Kubelet{config: Config{Dir: t.TempDir()}, pods: map[types.UID]*pod{}}
	for _, uid := range []string{"old", "new"} {
		k.pods[types.UID(uid)] = newPod(k, &record{UID: uid})
	}
	of := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: uid}}
	}
	k.handler().OnUpdate(of("old"), of("new"))
	if _, gone := k.pods["old"].current(); !gone {
		t.Error("the old pod does not know that it is gone")
	}
	if api, gone := k.pods["new"].current(); gone || api == nil || api.UID != "new" {
		t.Errorf("the new pod: %v, gone %t", api, gone)
	}
}
