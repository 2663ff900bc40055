package kubelet

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netns"
)

// TestPods runs pods on one node of a real Kubernetes, which all of its parts
// share.
func TestPods(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		name string
		run  func(*rig)
	}{
		{"web", testWeb},
		{"exec", testExec},
		{"terminal", testTerminal},
		{"port-forward", testPortForward},
		{"attach", testAttach},
		{"attach to a terminal", testAttachTerminal},
		{"closed to others", testClosedToOthers},
		{"what a container has", testWhatAContainerHas},
		{"image", testImage},
		{"crash", testCrash},
		{"probes", testProbes},
		{"init containers", testInit},
		{"done", testDone},
		{"configuration", testConfiguration},
		{"machine's network", testHostNetwork},
		{"grace", testGrace},
		{"slow network", testSlowNetwork},
		{"kubelet killed", testKilled},
		{"pod killed", testPodKilled},
		{"API lost", testAPILost},
		{"node lost", testNodeLost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r.t = t
			tc.run(r)
		})
		r.t = t
		r.kubectl("delete", "pod", "--all", "--grace-period=1", "--timeout=60s")
		r.nothingLeft()
	}
}

// manifest of a pod with one container; fields are the container's, in flow
// style.
func podOf(name, image, fields, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: %s}}\nspec: {containers: [{name: main, image: %q, %s}], %s}\n", name, name, image, fields, spec)
}

// run makes a pod and waits until it is Ready.
func (r *rig) run(name, image, fields, spec string) {
	r.t.Helper()
	r.apply(podOf(name, image, fields, spec))
	r.kubectl("wait", "--for=condition=Ready", "--timeout=45s", "pod/"+name)
}

func (r *rig) ip(pod string) string {
	r.t.Helper()
	return r.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")
}

func testWeb(r *rig) {
	r.run("web", "nginx:1.27", "ports: [{containerPort: 80}, {containerPort: 8080, name: alt}], readinessProbe: {httpGet: {port: alt}, periodSeconds: 1}", "")
	ip := r.ip("web")
	got := r.kubectl("exec", "web", "--", "curl", "-sS", "http://"+ip+":8080/x")
	want := fmt.Sprintf("Requester IP: %s\nPod: web\nHost: %s:8080\nPath: /x", ip, ip)
	if got != want {
		r.t.Errorf("web answers %q, want %q", got, want)
	}
	if got := r.kubectl("logs", "web", "--tail=1"); !strings.HasSuffix(got, `GET "/"`) && !strings.HasSuffix(got, `GET "/x"`) {
		r.t.Errorf("log ends in %q", got)
	}
	r.kubectl("delete", "pod", "web", "--timeout=10s") // far less than its grace period
	r.nothingLeft()
}

// rich has something of everything that a pod may ask for.
const rich = `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {color: blue, app.conf: "a=1"}}
- {apiVersion: v1, kind: Secret, metadata: {name: pass}, stringData: {word: hush}}
- {apiVersion: v1, kind: Service, metadata: {name: back-end}, spec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: rich, labels: {tier: gold}}
  spec:
    hostname: named
    hostAliases: [{ip: 1.2.3.4, hostnames: [far.example]}]
    dnsPolicy: None
    dnsConfig: {nameservers: [9.9.9.9], searches: [example.org]}
    volumes:
    - {name: conf, configMap: {name: conf, items: [{key: app.conf, path: sub/app.conf}]}}
    - {name: pass, secret: {secretName: pass, defaultMode: 0400}}
    - {name: shared, emptyDir: {}}
    - {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
    containers:
    - name: one
      image: busybox
      workingDir: /made/here
      command: [sh, -c]
      args: ["echo started in $(pwd) as $(POD_NAME); echo shared > /shared/file; exec sleep infinity"]
      env:
      - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
      - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}
      - {name: WORD, valueFrom: {secretKeyRef: {name: pass, key: word}}}
      - {name: NONE, valueFrom: {configMapKeyRef: {name: missing, key: x, optional: true}}}
      - {name: BOTH, value: "$(COLOR) and $(WORD), $$(COLOR)"}
      volumeMounts:
      - {name: conf, mountPath: /opt/new/conf}
      - {name: pass, mountPath: /pass}
      - {name: shared, mountPath: /shared}
      - {name: about, mountPath: /about}
      - {name: conf, mountPath: /etc/one.conf, subPath: sub/app.conf}
    - {name: two, image: busybox, command: [sleep, infinity], volumeMounts: [{name: shared, mountPath: /mine}]}
`

func testWhatAContainerHas(r *rig) {
	r.apply(rich)
	r.kubectl("wait", "--for=condition=Ready", "--timeout=45s", "pod/rich")
	ip := r.ip("rich")
	for command, want := range map[string]string{
		`echo $BOTH`:                 "blue and hush, $(COLOR)",
		`echo $POD_IP ${NONE-unset}`: ip + " unset",
		`echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT $BACK_END_SERVICE_HOST $BACK_END_SERVICE_PORT_HTTP`: "10.96.0.1:443 10.96.0.77 80",
		`hostname; cat /etc/hostname`:                                  "named\nnamed",
		`grep named /etc/hosts; grep far /etc/hosts`:                   ip + "\tnamed\n1.2.3.4\tfar.example",
		`cat /etc/resolv.conf`:                                         "nameserver 9.9.9.9\nsearch example.org",
		`cat /opt/new/conf/sub/app.conf /etc/one.conf`:                 "a=1a=1",
		`stat -L -c %a /pass/word; cat /pass/word`:                     "400\nhush",
		`touch /opt/new/conf/x 2>&1`:                                   "touch: cannot touch '/opt/new/conf/x': Read-only file system\ncommand terminated with exit code 1",
		`cat /about/labels`:                                            `tier="gold"`,
		`cat /var/run/secrets/kubernetes.io/serviceaccount/namespace`:  "default",
		`echo mine > /usr/bin/mark && cat /usr/bin/mark; ls /run /tmp`: "mine\n/run:\nsecrets\n\n/tmp:",
		`ls /sys/class/net`:                                            "eth0\nfar\nlo",
		`ls ` + r.dir + `/nodes ` + r.cluster.Dir + ` 2>/dev/null`:     "command terminated with exit code 2", // keys are not for pods
	} {
		if got, _ := r.try("", "exec", "rich", "-c", "one", "--", "sh", "-c", command); got != want {
			r.t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	if got := r.kubectl("exec", "rich", "-c", "two", "--", "cat", "/mine/file"); got != "shared" {
		r.t.Errorf("file of the other container: %q", got)
	}
	if got := r.kubectl("logs", "rich", "-c", "one"); got != "started in /made/here as rich" {
		r.t.Errorf("log: %q", got)
	}
	if _, err := os.Stat("/usr/bin/mark"); err == nil {
		r.t.Error("what a container wrote is on the machine")
	}
	token := r.kubectl("exec", "rich", "-c", "one", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
	if got, err := r.try("", "--token", token, "--client-certificate=", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); err != nil || !strings.Contains(got, "admin") && got != "system:serviceaccount:default:default" {
		r.t.Errorf("token is of %q, %v", got, err)
	}
	r.kubectl("patch", "configmap", "conf", "-p", `{"data":{"app.conf":"a=2"}}`)
	r.kubectl("delete", "service", "back-end")
	r.kubectl("delete", "configmap", "conf")
}

func testImage(r *rig) {
	r.apply(podOf("odd", "quay.io/odd/thing:2", "", ""))
	r.shows("pod/odd", ".status.containerStatuses[0].state.waiting.reason", "ImagePullBackOff")
	r.shows("pod/odd", ".status.containerStatuses[0].state.waiting.message", "image quay.io/odd/thing:2: is no built-in program of this node (projects.registry.vmware.com/tanzu_ese_poc/hackazon:*, nginx*")
	r.shows("pod/odd", ".status.phase", "Pending")
	r.until(10*time.Second, func() error {
		if got := r.kubectl("get", "events", "--field-selector=involvedObject.name=odd,reason=Failed", "-o", "name"); got == "" {
			return fmt.Errorf("no event tells of the image")
		}
		return nil
	})
}

func testCrash(r *rig) {
	r.apply(podOf("crash", "busybox", `command: [sh, -c, "date +run-%N; exit 3"]`, ""))
	r.shows("pod/crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")
	r.shows("pod/crash", ".status.containerStatuses[0].lastState.terminated.exitCode", "3")
	r.until(20*time.Second, func() error {
		n, _ := strconv.Atoi(r.kubectl("get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"))
		if n < 2 {
			return fmt.Errorf("restart count is %d, want 2 or more", n)
		}
		return nil
	})
	r.until(20*time.Second, func() error { // it may start anew between the two
		now, err := r.try("", "logs", "crash")
		before, err2 := r.try("", "logs", "crash", "--previous")
		if err != nil || err2 != nil || !strings.HasPrefix(now, "run-") || !strings.HasPrefix(before, "run-") || now == before {
			return fmt.Errorf("logs: %q (%v), of the run before: %q (%v)", now, err, before, err2)
		}
		return nil
	})
	r.apply(podOf("bad", "busybox", `command: [/no/such]`, "restartPolicy: Never"))
	r.shows("pod/bad", ".status.containerStatuses[0].state.terminated.reason", "StartError")
	r.shows("pod/bad", ".status.containerStatuses[0].state.terminated.message", "exec: stat /no/such: no such file or directory")
	r.shows("pod/bad", ".status.phase", "Failed")
}

func testProbes(r *rig) {
	r.apply(podOf("ill", "busybox", `command: [sh, -c, "touch /tmp/ready /tmp/live; exec sleep infinity"],
		startupProbe: {exec: {command: ["true"]}, periodSeconds: 1},
		readinessProbe: {exec: {command: [test, -f, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1},
		livenessProbe: {exec: {command: [test, -f, /tmp/live]}, periodSeconds: 1, failureThreshold: 2}`, "terminationGracePeriodSeconds: 1"))
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "pod/ill")
	r.kubectl("exec", "ill", "--", "rm", "/tmp/ready")
	r.kubectl("wait", "--for=condition=Ready=false", "--timeout=15s", "pod/ill")
	r.kubectl("exec", "ill", "--", "touch", "/tmp/ready")
	r.kubectl("wait", "--for=condition=Ready", "--timeout=15s", "pod/ill")
	r.kubectl("exec", "ill", "--", "rm", "/tmp/live")
	r.shows("pod/ill", ".status.containerStatuses[0].restartCount", "1")
	r.shows("pod/ill", ".status.containerStatuses[0].lastState.terminated.exitCode", "1") // 143 or 137
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "pod/ill")

	r.apply(podOf("never", "nginx", `readinessProbe: {httpGet: {port: 81}, periodSeconds: 1}, startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1}`, ""))
	r.shows("pod/never", ".status.containerStatuses[0].started", "true")
	r.until(20*time.Second, func() error {
		if got := r.kubectl("get", "events", "--field-selector=involvedObject.name=never,reason=Unhealthy", "-o", "jsonpath={.items[*].message}"); !strings.Contains(got, "Readiness probe failed: ") || !strings.Contains(got, "connection refused") {
			return fmt.Errorf("events: %q", got)
		}
		return nil
	})
	r.shows("pod/never", ".status.conditions[?(@.type==\"Ready\")].status", "False")
}

func testInit(r *rig) {
	r.apply(`
apiVersion: v1
kind: Pod
metadata: {name: steps}
spec:
  volumes: [{name: data, emptyDir: {}}]
  initContainers:
  - {name: first, image: busybox, command: [sh, -c, "echo 1 >> /data/order; test $(wc -l < /data/order) -ge 2"], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: beside, image: busybox, restartPolicy: Always, command: [sh, -c, "echo beside >> /data/order; exec sleep infinity"], startupProbe: {exec: {command: [grep, beside, /data/order]}, periodSeconds: 1}, volumeMounts: [{name: data, mountPath: /data}]}
  - {name: second, image: busybox, command: [sh, -c, "echo 2 >> /data/order"], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - {name: main, image: busybox, command: [sh, -c, "cat /data/order; exec sleep infinity"], volumeMounts: [{name: data, mountPath: /data}]}
`)
	r.kubectl("wait", "--for=condition=Ready", "--timeout=45s", "pod/steps")
	if got := r.kubectl("logs", "steps", "-c", "main"); got != "1\n1\nbeside\n2" {
		r.t.Errorf("order of init containers: %q", got)
	}
	r.shows("pod/steps", ".status.initContainerStatuses[*].state.terminated.reason", "Completed Completed")
	r.shows("pod/steps", ".status.initContainerStatuses[0].restartCount", "1")
	r.apply(`
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  restartPolicy: Never
  initContainers: [{name: first, image: busybox, command: ["false"]}]
  containers: [{name: main, image: busybox, command: [sleep, infinity]}]
`)
	r.shows("pod/stuck", ".status.phase", "Failed")
	r.shows("pod/stuck", ".status.containerStatuses[0].state.waiting.reason", "PodInitializing")
}

func testDone(r *rig) {
	r.apply(podOf("work", "busybox", `command: [sh, -c, "echo done; echo more >&2"]`, "restartPolicy: Never"))
	r.shows("pod/work", ".status.phase", "Succeeded")
	r.shows("pod/work", ".status.conditions[?(@.type==\"Ready\")].reason", "PodCompleted")
	r.until(10*time.Second, func() error { // its network is free
		if left := r.left(); slices.ContainsFunc(left, func(s string) bool { return !strings.Contains(s, "/pods/") }) {
			return fmt.Errorf("a pod that is done has %v", left)
		}
		return nil
	})
	for args, want := range map[string]string{"": "done\nmore", "--tail=1": "more", "--limit-bytes=3": "don", "--since=1h": "done\nmore"} {
		got := strings.Split(r.kubectl(append([]string{"logs", "work"}, strings.Fields(args)...)...), "\n")
		if len(got) > 1 && got[0] == "more" { // of two streams the order is not kept
			slices.Reverse(got)
		}
		if text := strings.Join(got, "\n"); text != want && text != "done" && text != "mor" {
			r.t.Errorf("logs %s: %q, want %q", args, text, want)
		}
	}
	if got := r.kubectl("logs", "work", "--timestamps", "--tail=1"); !regexp.MustCompile(`^20\d\d-\d\d-\d\dT\S+Z (more|done)$`).MatchString(got) {
		r.t.Errorf("logs --timestamps: %q", got)
	}
	r.apply(podOf("tick", "busybox", `command: [sh, -c, "for i in 1 2 3; do echo $i; sleep 1; done"]`, "restartPolicy: OnFailure"))
	r.shows("pod/tick", ".status.containerStatuses[0].containerID", "weft://")
	if got := r.kubectl("logs", "-f", "tick"); got != "1\n2\n3" {
		r.t.Errorf("logs -f: %q", got)
	}
}

func testHostNetwork(r *rig) {
	r.run("host", "busybox", "command: [sleep, infinity]", "hostNetwork: true")
	if got := r.ip("host"); got != "127.0.0.1" {
		r.t.Errorf("address %s, want the node's", got)
	}
	names, err := netns.List(prefix)
	if err != nil || len(names) > 0 {
		r.t.Errorf("network namespaces: %v, %v", names, err)
	}
	if got := r.kubectl("exec", "host", "--", "readlink", "/proc/self/ns/net"); got != readlink(r.t, "/proc/self/ns/net") {
		r.t.Errorf("network namespace %s", got)
	}
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	to, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func testConfiguration(r *rig) {
	r.apply(podOf("lacks", "busybox", `command: [sleep, infinity], env: [{name: X, valueFrom: {configMapKeyRef: {name: late, key: x}}}]`, ""))
	r.shows("pod/lacks", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
	r.shows("pod/lacks", ".status.containerStatuses[0].state.waiting.message", `env X: configmaps "late" not found`)
	r.kubectl("create", "configmap", "late", "--from-literal=x=1")
	r.kubectl("wait", "--for=condition=Ready", "--timeout=45s", "pod/lacks")
	r.kubectl("delete", "configmap", "late")
	r.apply(podOf("disk", "busybox", `command: [sleep, infinity]`, "volumes: [{name: d, secret: {secretName: nowhere}}]"))
	r.shows("pod/disk", ".status.containerStatuses[0].state.waiting.message", `volume d: secrets "nowhere" not found`)
}
