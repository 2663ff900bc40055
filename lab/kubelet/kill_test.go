package kubelet

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/lab/cluster"
)

func testGrace(r *rig) {
	r.run("polite", "busybox", `command: [sh, -c, "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"], lifecycle: {preStop: {exec: {command: [sh, -c, "echo hook > /proc/1/root/dev/null"]}}}`, "")
	follow := make(chan string, 1)
	go func() {
		out, _ := r.try("", "logs", "-f", "polite")
		follow <- out
	}()
	time.Sleep(500 * time.Millisecond) // for kubectl logs to begin; without, the test proves less
	r.kubectl("delete", "pod", "polite", "--timeout=15s")
	if got := <-follow; !strings.Contains(got, "bye") {
		r.t.Errorf("log of a pod that was asked to end: %q", got)
	}
	r.run("deaf", "busybox", `command: [sh, -c, "trap '' TERM; while :; do sleep 0.1; done"]`, "terminationGracePeriodSeconds: 2")
	began := time.Now()
	r.kubectl("delete", "pod", "deaf", "--timeout=15s")
	if took := time.Since(began); took < 1500*time.Millisecond || took > 10*time.Second {
		r.t.Errorf("a pod that does not listen went after %s, want 2 s", took)
	}
	r.run("force", "busybox", `command: [sleep, infinity]`, "")
	r.kubectl("delete", "pod", "force", "--force", "--grace-period=0")
	r.nothingLeft()
}

func testSlowNetwork(r *rig) {
	r.apply(podOf("slow", "nginx", "", ""))
	r.until(10*time.Second, func() error {
		if len(r.left()) == 0 {
			return fmt.Errorf("the slow pod is not being made")
		}
		return nil
	})
	began := time.Now()
	r.run("quick", "nginx", "", "")
	if took := time.Since(began); took > 15*time.Second {
		r.t.Errorf("a pod waited %s for another one's network", took)
	}
	began = time.Now()
	r.kubectl("delete", "pod", "slow", "--timeout=20s")
	if took := time.Since(began); took > 15*time.Second {
		r.t.Errorf("a pod that was being attached went after %s", took)
	}
}

// pidOf returns a pod's first process.
func (r *rig) pidOf(name string) int {
	r.t.Helper()
	all, err := records(filepath.Join(r.dir, "nodes", nodeName, "pods"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, have := range all {
		if have.Name == name && have.Sandbox != nil {
			return have.Sandbox.PID
		}
	}
	r.t.Fatalf("pod %s: has no record", name)
	return 0
}

func testKilled(r *rig) {
	r.run("stays", "busybox", `command: [sh, -c, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done"]`, "")
	r.run("forced", "nginx", "", "")
	r.run("deleted", "nginx", "", "")
	r.apply(podOf("slow-to-come", "nginx", "", ""))
	before := r.kubectl("get", "pod", "stays", "-o", "jsonpath={.status.podIP} {.status.containerStatuses[0].containerID}")
	pid := r.pidOf("stays")
	r.killNode()
	r.kubectl("delete", "pod", "forced", "--force", "--grace-period=0")
	r.kubectl("delete", "pod", "deleted", "slow-to-come", "--wait=false")
	r.startNode()
	r.kubectl("wait", "--for=delete", "--timeout=40s", "pod/deleted", "pod/slow-to-come")
	r.until(20*time.Second, func() error {
		if left := r.left(); len(left) != 4 { // netns, attachment, directory, CNI's cache of the one that stays; its first process is the fifth
			var names []string
			for _, l := range left {
				if !strings.HasPrefix(l, "process") {
					names = append(names, l)
				}
			}
			if len(names) != 4 {
				return fmt.Errorf("left: %v", left)
			}
		}
		return nil
	})
	after := r.kubectl("get", "pod", "stays", "-o", "jsonpath={.status.podIP} {.status.containerStatuses[0].containerID}")
	if before != after || r.pidOf("stays") != pid {
		r.t.Errorf("after weft-node was killed the pod is %s (%d), before %s (%d)", after, r.pidOf("stays"), before, pid)
	}
	r.shows("pod/stays", ".status.conditions[?(@.type==\"Ready\")].status", "True")
	lines := strings.Split(r.kubectl("logs", "stays"), "\n")
	for i, line := range lines {
		if line != strconv.Itoa(i+1) {
			r.t.Fatalf("line %d of the log is %q", i+1, line)
		}
	}
	r.kubectl("exec", "stays", "--", "true")
}

func testPodKilled(r *rig) {
	r.run("hit", "nginx", "", "")
	if err := unix.Kill(r.pidOf("hit"), unix.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.shows("pod/hit", ".status.containerStatuses[0].restartCount", "1")
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "pod/hit")
	if got := r.kubectl("get", "pod", "hit", "-o", "jsonpath={.status.podIPs[*].ip}"); got != r.ip("hit") {
		r.t.Errorf("addresses %q, want one", got)
	}
	r.killNode()
	if err := unix.Kill(r.pidOf("hit"), unix.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.startNode()
	r.shows("pod/hit", ".status.containerStatuses[0].restartCount", "2")
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "pod/hit")
}

func testNodeLost(r *rig) {
	other := r.start(otherNode)
	defer func() {
		other.Process.Kill()
		other.Wait()
	}()
	r.kubectl("wait", "--for=create", "--timeout=30s", "node/"+otherNode)
	r.kubectl("wait", "--for=condition=Ready", "--timeout=30s", "node/"+otherNode)
	r.run("there", "nginx", "", "nodeSelector: {kubernetes.io/hostname: "+otherNode+"}")
	other.Process.Kill()
	other.Wait()
	r.kubectl("wait", "--for=condition=Ready=Unknown", "--timeout=40s", "node/"+otherNode)
	r.until(60*time.Second, func() error {
		if got := r.kubectl("get", "pod", "there", "-o", "jsonpath={.metadata.deletionTimestamp}"); got == "" {
			return fmt.Errorf("the pod of a lost node is not evicted")
		}
		return nil
	})
	other = r.start(otherNode)
	r.kubectl("wait", "--for=condition=Ready", "--timeout=40s", "node/"+otherNode)
	r.kubectl("wait", "--for=delete", "--timeout=40s", "pod/there")
	r.nothingLeft()
	r.kubectl("delete", "node", otherNode)
}

// testAPILost: without an API server containers are looked after, and it learns
// all when it is back.
func testAPILost(r *rig) {
	r.run("alone", "busybox", `command: [sh, -c, "while ! test -f /tmp/end; do sleep 0.1; done; exit 4"], livenessProbe: {exec: {command: [sh, -c, "test -f /tmp/seen || touch /tmp/seen /tmp/end"]}, initialDelaySeconds: 3, periodSeconds: 1}`, "")
	running, err := cluster.Start(r.t.Context(), r.cluster, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range running.Processes() {
		if p.Name == "kube-apiserver" {
			unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	pid := r.pidOf("alone")
	r.until(20*time.Second, func() error {
		all, err := records(filepath.Join(r.dir, "nodes", nodeName, "pods"))
		if err != nil {
			return err
		}
		for _, have := range all {
			if have.Name == "alone" && have.container("main").restarts() >= 1 {
				return nil
			}
		}
		return fmt.Errorf("without an API server the container was not started again")
	})
	if _, err := cluster.Start(r.t.Context(), r.cluster, nil); err != nil {
		r.t.Fatal(err)
	}
	r.shows("pod/alone", ".status.containerStatuses[0].lastState.terminated.exitCode", "4")
	if r.pidOf("alone") != pid {
		r.t.Error("the pod is another one")
	}
	r.kubectl("delete", "pod", "alone", "--grace-period=1", "--timeout=40s")
	r.nothingLeft()
}
